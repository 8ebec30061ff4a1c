//! A remote that is a directory: of this host, or of a server that is mounted here.
//!
//! ```text
//!  <root>/lock          flock(2)ed while a document is replaced
//!  <root>/tmp/<64 hex>  a blob being written, flocked by its writer; what nobody holds is removed by the next writer
//!  <root>/tmp/document-<pid>-<n>
//! ```
//!
//! Files appear by `rename(2)` of what was written and synced, so that neither a reader nor a web server that serves the
//! directory ever sees half of one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use plumb_model::Digest;
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::{Blob, Error, Expected, Name, Remote, Result, Upload, Version, Written, limit};

/// Tells drafts of one process apart.
static DRAFT: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Directory {
    root: PathBuf,
}

impl Directory {
    pub(crate) fn new(root: &Path) -> Directory {
        Directory { root: root.to_owned() }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join(crate::name::blob_path(digest))
    }

    /// `tmp/`, after what dead writers left in it was removed.
    fn drafts(&self) -> Result<PathBuf> {
        let drafts = self.root.join("tmp");
        fs::create_dir_all(&drafts).map_err(io("make", &drafts))?;
        for entry in fs::read_dir(&drafts).map_err(io("read", &drafts))? {
            let path = entry.map_err(io("read", &drafts))?.path();
            let Ok(file) = OpenOptions::new().write(true).open(&path) else { continue };
            let is_free = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
            // A writer that came meanwhile has another file of this name.
            if is_free && is_still(&path, &file).map_err(io("read", &path))? {
                remove(&path)?;
            }
        }
        Ok(drafts)
    }

    /// Puts a finished draft where it belongs.
    fn place(&self, draft: &Path, file: &File, target: &Path) -> Result<()> {
        file.sync_all().map_err(io("write", draft))?;
        let parent = target.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(io("make", parent))?;
        fs::rename(draft, target).map_err(io("write", target))?;
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(io("write", parent))
    }

    fn lock(&self) -> Result<File> {
        fs::create_dir_all(&self.root).map_err(io("make", &self.root))?;
        let path = self.root.join("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(io("write", &path))?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io("lock", &path)(errno.into())),
            }
        }
    }

    fn copy(&self, upload: &Upload<'_>, draft: &Path, file: &mut File) -> Result<()> {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; limit::BLOCK_BYTES];
        let mut at = 0;
        while at < upload.blob.size {
            let step = usize::try_from(upload.blob.size - at).unwrap_or(usize::MAX).min(buffer.len());
            let read = upload.source.read_at(at, &mut buffer[..step]);
            read.map_err(|source| Error::Source { blob: upload.blob.digest, source })?;
            hash.update(&buffer[..step]);
            file.write_all(&buffer[..step]).map_err(io("write", draft))?;
            at += step as u64;
            (upload.arrived)(step as u64);
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if found != upload.blob.digest {
            remove(draft)?;
            let what = format!("blob `{}`, as read here,", upload.blob.digest);
            return Err(Error::WrongDigest { what, expected: upload.blob.digest, found });
        }
        Ok(())
    }
}

impl Remote for Directory {
    fn shown(&self) -> String {
        self.root.display().to_string()
    }

    fn read(&self, name: &Name, limit: u64) -> Result<Option<(Vec<u8>, Version)>> {
        let path = self.root.join(name.as_str());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => return Ok(None),
            Err(source) => return Err(io("read", &path)(source)),
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io("read", &path))?;
        if bytes.len() as u64 > limit {
            return Err(Error::TooLarge { what: format!("`{}`", path.display()), limit });
        }
        let version = Version(Digest::of(&bytes).hex());
        Ok(Some((bytes, version)))
    }

    fn write(&self, name: &Name, bytes: &[u8], expected: &Expected) -> Result<Written> {
        let _held = self.lock()?;
        let path = self.root.join(name.as_str());
        let as_expected = match expected {
            Expected::Absent => match fs::symlink_metadata(&path) {
                Ok(_) => false,
                Err(error) if is_absent(&error) => true,
                Err(source) => return Err(io("read", &path)(source)),
            },
            Expected::Is(version) => match self.read(name, limit::DOCUMENT_BYTES) {
                Ok(found) => found.is_some_and(|(_, found)| found == *version),
                Err(Error::TooLarge { .. }) => false,
                Err(error) => return Err(error),
            },
        };
        if !as_expected {
            return Ok(Written::Changed);
        }
        let number = DRAFT.fetch_add(1, Ordering::Relaxed);
        let draft = self.drafts()?.join(format!("document-{}-{number}", std::process::id()));
        let mut file = open_locked(&draft).map_err(io("write", &draft))?;
        file.write_all(bytes).map_err(io("write", &draft))?;
        self.place(&draft, &file, &path)?;
        Ok(Written::Done)
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.blob_path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Err(io("read", &path)(io::ErrorKind::InvalidData.into())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(source) => Err(io("read", &path)(source)),
        }
    }

    fn blob_read(&self, blob: &Blob, range: Range<u64>) -> Result<Box<dyn Read + Send>> {
        let path = self.blob_path(&blob.digest);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if is_absent(&error) => {
                let what = format!("blob `{}` of `{}`", blob.digest, self.shown());
                return Err(Error::Missing { what });
            }
            Err(source) => return Err(io("read", &path)(source)),
        };
        let found = file.metadata().map_err(io("read", &path))?.len();
        if found != blob.size {
            let what = format!("blob `{}` of `{}`", blob.digest, self.shown());
            return Err(Error::WrongSize { what, expected: blob.size, found });
        }
        file.seek(SeekFrom::Start(range.start)).map_err(io("read", &path))?;
        Ok(Box::new(file.take(range.end.saturating_sub(range.start))))
    }

    fn blob_write(&self, upload: &Upload<'_>) -> Result<()> {
        let draft = self.drafts()?.join(upload.blob.digest.hex());
        let mut file = open_locked(&draft).map_err(io("write", &draft))?;
        // Another process may have written it while we waited.
        if self.blob_size(&upload.blob.digest)? == Some(upload.blob.size) {
            (upload.arrived)(upload.blob.size);
            return remove(&draft);
        }
        file.set_len(0).map_err(io("write", &draft))?;
        self.copy(upload, &draft, &mut file)?;
        self.place(&draft, &file, &self.blob_path(&upload.blob.digest))
    }
}

/// Opens and locks the file at `path`, making sure that it still is the file at `path` once it is locked.
fn open_locked(path: &Path) -> io::Result<File> {
    for _ in 0..limit::OPEN_TRIES {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        if is_still(path, &file)? {
            return Ok(file);
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "other processes keep replacing it"))
}

/// Is this open file still the one at `path`?
fn is_still(path: &Path, file: &File) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.ino() == file.metadata()?.ino()),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if !is_absent(&error) => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}
