//! What lies in a store, by file; and taking away.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use plumb_model::{AppName, Digest};

use crate::entry::{check_name, place_names};
use crate::{Alone, Error, PLACES, Result, Store, place};

/// One file of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written, seconds since 1970.
    pub modified_s: i64,
    /// Its permission bits.
    pub mode: u32,
}

/// An object with the files that it lies in: one of them, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The object.
    pub digest: Digest,
    /// Its bytes as they are.
    pub plain: Option<Form>,
    /// In few bytes.
    pub folded: Option<Form>,
}

impl Stored {
    /// Bytes of its files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        [self.plain, self.folded].iter().flatten().map(|form| form.bytes).sum()
    }
}

/// A file of the store that is no object, entry or release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leftover {
    /// A download that was not finished.
    Partial(PathBuf),
    /// An object whose bytes did not have its digest.
    Damaged(PathBuf),
    /// What a process that ended was writing.
    Unfinished(PathBuf),
    /// Nothing of the store's: its layout has no place for it.
    Foreign(PathBuf),
}

impl Leftover {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Leftover::Partial(path)
            | Leftover::Damaged(path)
            | Leftover::Unfinished(path)
            | Leftover::Foreign(path) => path,
        }
    }
}

/// When a file was written, seconds since 1970; `None` if it is not there.
#[must_use]
pub fn modified_s(path: &Path) -> Option<i64> {
    fs::symlink_metadata(path).ok().map(|metadata| metadata.mtime())
}

impl Store {
    /// Every object, by digest.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn stored(&self) -> Result<Vec<Stored>> {
        self.enter()?;
        let mut found: BTreeMap<Digest, Stored> = BTreeMap::new();
        for (place, is_plain) in [("objects", true), ("folded", false)] {
            self.walk(place, &mut |digest, path| {
                let Ok(metadata) = fs::symlink_metadata(path) else { return };
                let form = Form {
                    bytes: metadata.len(),
                    modified_s: metadata.mtime(),
                    mode: metadata.permissions().mode() & 0o7777,
                };
                let Some(digest) = digest.filter(|_| metadata.is_file()) else { return };
                let stored = found.entry(digest).or_insert(Stored { digest, plain: None, folded: None });
                *(if is_plain { &mut stored.plain } else { &mut stored.folded }) = Some(form);
            })?;
        }
        Ok(found.into_values().collect())
    }

    /// Every file of the store that is nobody's: what ended processes left, and what was never the store's.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn leftovers(&self) -> Result<Vec<Leftover>> {
        let mut found = Vec::new();
        for place in ["objects", "folded"] {
            self.walk(place, &mut |digest, path| {
                if digest.is_none() || !path.is_file() || path.is_symlink() {
                    found.push(Leftover::Foreign(path.to_owned()));
                }
            })?;
        }
        for path in self.files_of(self.root())? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            // The index of what releases hold, with its log (`search.db-wal`).
            let is_index = name.starts_with("search.db");
            if name != "format" && !is_index && !PLACES.contains(&name) {
                // A process that ended between making the file `format` and naming it leaves `format.<pid>`.
                let ours = name.strip_prefix("format.").is_some_and(|pid| pid.parse::<u32>().is_ok());
                found.push(if ours { Leftover::Unfinished(path) } else { Leftover::Foreign(path) });
            }
        }
        for path in self.files_of(&self.root().join("partial"))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_digest = format!("sha256:{name}").parse::<Digest>().is_ok();
            found.push(if is_digest { Leftover::Partial(path) } else { Leftover::Foreign(path) });
        }
        found.extend(self.files_of(&self.root().join("damaged"))?.into_iter().map(Leftover::Damaged));
        for path in self.files_of(&self.root().join("tmp"))? {
            match place::is_abandoned(&path) {
                Ok(true) => found.push(Leftover::Unfinished(path)),
                Ok(false) => {}
                Err(source) => return Err(Error::read("unfinished files", &path, source)),
            }
        }
        for kind in self.files_of(&self.root().join("entries"))? {
            let strays = self.files_of(&kind).unwrap_or_default();
            let named = |path: &PathBuf| {
                path.file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|name| check_name("entry key", name).is_ok())
            };
            found.extend(strays.into_iter().filter(|path| !named(path)).map(Leftover::Foreign));
            if !kind.is_dir() {
                found.push(Leftover::Foreign(kind));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Bytes of all files below the store. What other processes write or remove meanwhile counts or not.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn bytes(&self) -> Result<u64> {
        let (mut sum, mut open) = (0, vec![self.root().to_owned()]);
        while let Some(dir) = open.pop() {
            // A directory of another process in `tmp` may go while we look.
            for path in self.files_of(&dir).unwrap_or_default() {
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                if metadata.is_dir() {
                    open.push(path);
                } else {
                    sum += metadata.len();
                }
            }
        }
        Ok(sum)
    }

    /// The kinds of entries, sorted.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn entry_kinds(&self) -> Result<Vec<String>> {
        let dir = self.root().join("entries");
        let mut kinds = place_names(&dir).map_err(|source| Error::read("entries", &dir, source))?;
        kinds.retain(|kind| check_name("entry kind", kind).is_ok());
        Ok(kinds)
    }

    /// Calls `each` with every file two levels below `place`: with its digest, if its name is one.
    fn walk(&self, place: &str, each: &mut dyn FnMut(Option<Digest>, &Path)) -> Result<()> {
        for fan in self.files_of(&self.root().join(place))? {
            let prefix = fan.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if !fan.is_dir() || prefix.len() != 2 {
                each(None, &fan);
                continue;
            }
            for path in self.files_of(&fan)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                each(format!("sha256:{prefix}{name}").parse().ok(), &path);
            }
        }
        Ok(())
    }

    fn files_of(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let read = |source| Error::read("the store's directories", dir, source);
        let mut paths = Vec::new();
        for entry in fs::read_dir(dir).map_err(read)? {
            paths.push(entry.map_err(read)?.path());
        }
        paths.sort();
        Ok(paths)
    }

    /// Takes the object's own file away; its folded form stays. For who holds the store alone.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn remove_plain(&self, _alone: &Alone, digest: &Digest) -> Result<()> {
        self.take_away(format!("object `{digest}`"), &self.path(digest))
    }

    /// Takes the folded form away. For who holds the store alone.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn remove_folded(&self, _alone: &Alone, digest: &Digest) -> Result<()> {
        self.take_away(format!("folded object `{digest}`"), &self.folded_path(digest))
    }

    /// Takes a release away. For who holds the store alone; whoever looks for it finds that it is not there.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn remove_release(&self, _alone: &Alone, app: &AppName, number: u64) -> Result<()> {
        let path = self.root().join("releases").join(app.as_str()).join(number.to_string());
        self.take_away(format!("release `{app}@{number}`"), &path)
    }

    /// Takes a leftover away.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn remove_leftover(&self, leftover: &Leftover) -> Result<()> {
        let path = leftover.path();
        if let Leftover::Unfinished(path) = leftover
            && path.is_dir()
        {
            let removed = place::remove_abandoned_at(self.gate(), path);
            return removed.map_err(|source| Error::write("unfinished files", path, source));
        }
        self.take_away("a leftover".to_owned(), path)
    }

    fn take_away(&self, what: String, path: &Path) -> Result<()> {
        place::remove_file(self.gate(), path).map(drop).map_err(|source| Error::write(what, path, source))
    }

    /// Gives the file of an object the permissions that it should have.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn correct_mode(&self, digest: &Digest) -> Result<()> {
        for path in [self.path(digest), self.folded_path(digest)] {
            match fs::set_permissions(&path, fs::Permissions::from_mode(0o444)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::write(format!("object `{digest}`"), &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
