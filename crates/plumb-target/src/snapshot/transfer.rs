//! A snapshot as one file, to be kept or carried elsewhere.
//!
//! ```text
//!  zstd, with checksum
//!   └── tar
//!        ├── manifest.json     Manifest
//!        ├── db-1--data.raw    the volumes in the order of the manifest, whole: what is not there is zeros, which cost
//!        └── …                 next to nothing here
//! ```
//!
//! Any `tar --zstd -x` unpacks it. Every volume is verified by its digest on both ways, and neither a half exported file
//! nor a half imported snapshot is ever seen.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::content::{Hasher, PART_BYTES};
use super::disk::{Disk, fill};
use super::{MANIFEST, Manifest, Place, SnapshotVolume, check_manifest, copy_in, open_copy, read, take};
use crate::error::{At, TargetError};

/// Longest manifest that is read from a file: 4000 volumes.
const MANIFEST_BYTES: u64 = 1 << 20;

/// A tar file ends in a few blocks of zeros; whatever is longer was not written by us.
const REST_BYTES: u64 = 1 << 20;

/// Zeros shrink to nothing at any level, and a database hardly shrinks more at a higher one.
const LEVEL: i32 = 3;

/// How far the writer's window may reach that a reader has to keep in memory: 128 MiB, the format's recommended limit.
const WINDOW_LOG: u32 = 27;

/// Writes the snapshot `name` to `to`, which must not be there. `news` hears the bytes that were read.
pub(crate) fn export(
    place: Place<'_>,
    name: &str,
    to: &Path,
    news: &mut dyn FnMut(u64),
) -> Result<Manifest, TargetError> {
    let no_snapshot = || TargetError::NoSnapshot { snapshot: name.to_owned() };
    let manifest = read(place, name)?.ok_or_else(no_snapshot)?;
    if to.exists() {
        return Err(TargetError::FileExists { path: to.to_owned() });
    }
    let folder = match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let draft =
        tempfile::Builder::new().prefix(".plumb-export-").tempfile_in(folder).at("make a file in", folder)?;
    let written = write_all(place, &manifest, draft.as_file(), news)?;
    written.at("write", to)?;
    draft.as_file().sync_all().at("sync", to)?;
    draft.persist_noclobber(to).map_err(|error| error.error).at("write", to)?;
    File::open(folder).and_then(|folder| folder.sync_all()).at("sync", folder)?;
    Ok(manifest)
}

/// The inner result is about the file that is written, the outer one about the snapshot.
fn write_all(
    place: Place<'_>,
    manifest: &Manifest,
    to: &File,
    news: &mut dyn FnMut(u64),
) -> Result<io::Result<()>, TargetError> {
    let bytes = serde_json::to_vec(manifest)
        .map_err(|source| TargetError::Record { what: MANIFEST.to_owned(), source })?;
    let begin = || -> io::Result<tar::Builder<zstd::Encoder<'_, BufWriter<&File>>>> {
        let mut encoder = zstd::Encoder::new(BufWriter::new(to), LEVEL)?;
        encoder.include_checksum(true)?;
        let mut builder = tar::Builder::new(encoder);
        builder.append(&header(MANIFEST, bytes.len() as u64, manifest)?, &bytes[..])?;
        Ok(builder)
    };
    let mut builder = match begin() {
        Ok(builder) => builder,
        Err(error) => return Ok(Err(error)),
    };
    let mut before = 0;
    for entry in &manifest.volumes {
        let mut reader = Verifying {
            file: open_copy(place, &manifest.name, &entry.name)?,
            at: 0,
            part: Vec::new(),
            read: 0,
            hasher: Hasher::default(),
            before,
            news: &mut *news,
        };
        let name = format!("{}.raw", entry.name);
        if let Err(error) =
            header(&name, entry.size_bytes, manifest).and_then(|header| builder.append(&header, &mut reader))
        {
            return Ok(Err(error));
        }
        before += entry.size_bytes;
        if reader.at != entry.size_bytes || reader.hasher.end(reader.at) != entry.digest {
            return Err(damaged(manifest, entry));
        }
    }
    Ok(builder.into_inner().and_then(zstd::Encoder::finish).and_then(|mut writer| writer.flush()))
}

fn header(name: &str, size: u64, manifest: &Manifest) -> io::Result<tar::Header> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o600);
    header.set_mtime(manifest.taken_unix_ms / 1000);
    header.set_cksum();
    Ok(header)
}

fn damaged(manifest: &Manifest, entry: &SnapshotVolume) -> TargetError {
    TargetError::SnapshotDamaged { snapshot: manifest.name.clone(), volume: entry.name.clone() }
}

/// Reads a copy, part by part, and hashes what it gives out.
struct Verifying<'n> {
    file: File,
    at: u64,
    part: Vec<u8>,
    read: usize,
    hasher: Hasher,
    before: u64,
    news: &'n mut dyn FnMut(u64),
}

impl Read for Verifying<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.part.len() {
            self.part.resize(PART_BYTES, 0);
            let count = fill(&mut self.file, &mut self.part)?;
            self.part.truncate(count);
            self.read = 0;
            self.hasher.part(self.at, &self.part);
            self.at += count as u64;
            (self.news)(self.before + self.at);
        }
        let count = buffer.len().min(self.part.len() - self.read);
        buffer[..count].copy_from_slice(&self.part[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}

/// What becomes of the snapshot in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Import<'a> {
    /// The file.
    pub from: &'a Path,
    /// What the snapshot is called here.
    pub name: &'a str,
    /// Whose it is here.
    pub deployment: &'a str,
    /// Why it is here: a word.
    pub why: &'a str,
}

/// Makes a snapshot of a file that [`export`] wrote. `news` hears the bytes that came out of it.
pub(crate) fn import(
    disk: &impl Disk,
    place: Place<'_>,
    import: Import<'_>,
    news: &mut dyn FnMut(u64),
) -> Result<Manifest, TargetError> {
    if read(place, import.name)?.is_some() {
        return Err(TargetError::SnapshotExists { snapshot: import.name.to_owned() });
    }
    let (root, folder) = (place.root(), place.draft(import.name));
    disk.make_dir(&root).at("make", &root)?;
    disk.remove(&folder).at("remove", &folder)?;
    let imported = unpack(disk, place, import, news);
    if imported.is_err() {
        // Best effort: a folder that stays is removed by the next command, and is no snapshot.
        let _ = disk.remove(&folder);
    }
    imported
}

fn unpack(
    disk: &impl Disk,
    place: Place<'_>,
    import: Import<'_>,
    news: &mut dyn FnMut(u64),
) -> Result<Manifest, TargetError> {
    let Import { from, name, deployment, why } = import;
    let refuse = |reason: String| TargetError::Snapshot { path: from.to_owned(), reason };
    let file = File::open(from).at("open", from)?;
    let mut decoder = zstd::Decoder::new(file).at("read", from)?;
    decoder.window_log_max(WINDOW_LOG).at("read", from)?;
    let mut archive = tar::Archive::new(decoder);
    // Raw: no entry may say anything about another one, and nothing of unknown length is kept in memory.
    let mut entries = archive.entries().at("read", from)?.raw(true);
    let mut next = |wanted: &str| -> Result<_, TargetError> {
        let entry = entries.next().ok_or_else(|| refuse(format!("it ends before `{wanted}`")))?;
        let entry = entry.at("read", from)?;
        let is_it = entry.path_bytes().as_ref() == wanted.as_bytes() && entry.header().entry_type().is_file();
        if is_it { Ok(entry) } else { Err(refuse(format!("`{wanted}` is not where it should be"))) }
    };
    let mut bytes = Vec::new();
    next(MANIFEST)?.take(MANIFEST_BYTES).read_to_end(&mut bytes).at("read", from)?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|source| TargetError::Malformed { path: PathBuf::from(from), source })?;
    check_manifest(&manifest, from)?;
    let wanted_bytes =
        manifest.volumes.iter().fold(0_u64, |all, one| all.saturating_add(one.allocated_bytes));
    take::need_space(disk, &place.root(), wanted_bytes)?;
    let folder = place.draft(name);
    disk.make_dir(&folder).at("make", &folder)?;
    let mut volumes = Vec::new();
    let mut before = 0;
    for volume in &manifest.volumes {
        let path = copy_in(&folder, &volume.name);
        let entry = next(&format!("{}.raw", volume.name))?;
        if entry.header().entry_size().at("read", from)? != volume.size_bytes {
            return Err(refuse(format!("volume `{}` has another size than it says", volume.name)));
        }
        let news = &mut |count| news(before + count);
        let digest = write_sparse((entry, from), (&path, volume.size_bytes), news)?;
        before += volume.size_bytes;
        if digest != volume.digest {
            return Err(damaged(&manifest, volume));
        }
        disk.sync(&path).at("sync", &path)?;
        let seen = take::describe(&path, volume.initialized).at("read", &path)?;
        volumes.push(SnapshotVolume { name: volume.name.clone(), held: volume.held, ..seen });
    }
    // To the end, where the checksum of everything stands.
    let rest = io::copy(&mut archive.into_inner().take(REST_BYTES), &mut io::sink()).at("read", from)?;
    if rest == REST_BYTES {
        return Err(refuse("it goes on after its last volume".to_owned()));
    }
    let manifest = Manifest {
        name: name.to_owned(),
        deployment: deployment.to_owned(),
        generation: 0,
        why: why.to_owned(),
        pinned: true,
        volumes,
        ..manifest
    };
    take::publish(disk, place, &manifest)?;
    disk.sync(&place.root()).at("sync", &place.root())?;
    Ok(manifest)
}

/// Writes what is not zeros; the digest of all of it. `from` is what is read and the file that it is part of.
fn write_sparse(
    (mut from, source): (impl Read, &Path),
    (path, size): (&Path, u64),
    news: &mut dyn FnMut(u64),
) -> Result<String, TargetError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).at("make", path)?;
    file.set_len(size).at("make longer", path)?;
    let mut hasher = Hasher::default();
    let mut part = vec![0; PART_BYTES];
    let mut at = 0;
    loop {
        let count = fill(&mut from, &mut part).at("read", source)?;
        if count == 0 {
            break;
        }
        if hasher.part(at, &part[..count]) {
            file.write_all_at(&part[..count], at).at("write", path)?;
        }
        at += count as u64;
        news(at);
    }
    if at != size {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).at("read", source);
    }
    Ok(hasher.end(size))
}
