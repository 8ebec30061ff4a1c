//! The two inner archives: tar with GNU and PAX extensions, read entry by entry.
//!
//! Extension records are read here and not by the `tar` crate: it reads them whole into memory whatever length they
//! claim, and its PAX parser splits at line breaks, which binary attribute values may hold.

use std::collections::BTreeMap;
use std::io::Read;

use tar::EntryType;

use super::{DebError, Limits, PackageContent, path};
use crate::tree::{Entry, Kind, Objects};

/// Longest extension record: a PAX header with some attributes, or a path. 1 MiB is far above what tar writes.
const EXTENSION_BYTES: u64 = 1 << 20;

/// Most extended attributes of one entry; Debian packages have none, capabilities need one.
const XATTRS: usize = 32;

const PAX_XATTR: &str = "SCHILY.xattr.";

/// Control members that are kept as scripts. `shlibs` and `symbols` concern package managers only; `templates` has the
/// answers that debconf gives when nobody is asked.
const SCRIPTS: [&str; 7] = ["config", "postinst", "postrm", "preinst", "prerm", "templates", "triggers"];

/// What extension records said about the entry that follows them.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

/// A way through one tar archive.
pub(crate) struct Walk<'a> {
    pub(crate) member: &'a str,
    pub(crate) limits: &'a Limits,
    pub(crate) seen: usize,
    pub(crate) absolute: Absolute,
}

/// What a path that starts with `/` is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absolute {
    /// An error: neither packages nor ordinary archives have such paths.
    Refused,
    /// Below the root like all others, as container runtimes take it.
    Taken,
}

impl Walk<'_> {
    fn bad_header(&self, path: &str, reason: &'static str) -> DebError {
        DebError::BadHeader { member: self.member.to_owned(), path: path.to_owned(), reason }
    }

    pub(crate) fn read(&self, source: std::io::Error) -> DebError {
        DebError::Read { member: self.member.to_owned(), source }
    }

    pub(crate) fn too_large(&self, path: &str, what: &'static str, limit: u64) -> DebError {
        DebError::TooLarge { member: self.member.to_owned(), path: path.to_owned(), what, limit }
    }

    /// Calls `take` for every entry that is not an extension record.
    pub(crate) fn each(
        &mut self,
        source: &mut dyn Read,
        mut take: impl FnMut(&Self, Item<'_>) -> Result<(), DebError>,
    ) -> Result<(), DebError> {
        let mut archive = tar::Archive::new(source);
        let mut extension = Extension::default();
        for entry in archive.entries().map_err(|e| self.read(e))?.raw(true) {
            let mut entry = entry.map_err(|e| self.read(e))?;
            self.seen += 1;
            if self.seen > self.limits.entries {
                return Err(self.too_large(self.member, "number of entries", self.limits.entries as u64));
            }
            match entry.header().entry_type() {
                EntryType::GNULongName => extension.path = Some(self.long(&mut entry)?),
                EntryType::GNULongLink => extension.link = Some(self.long(&mut entry)?),
                EntryType::XHeader => self.pax(&mut entry, &mut extension)?,
                EntryType::XGlobalHeader => drop(self.extension_bytes(&mut entry)?),
                _ => {
                    let item = self.item(&mut entry, std::mem::take(&mut extension))?;
                    take(self, item)?;
                }
            }
        }
        Ok(())
    }

    fn extension_bytes(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, DebError> {
        let size = entry.size();
        if size > EXTENSION_BYTES {
            return Err(self.too_large(self.member, "bytes of an extension record", EXTENSION_BYTES));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|e| self.read(e))?;
        if bytes.len() as u64 != size {
            return Err(self.read(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    fn long(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, DebError> {
        let mut bytes = self.extension_bytes(entry)?;
        if bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    /// PAX records (pax(1), "pax Extended Header"): `<length> <key>=<value>\n`, length counting itself.
    fn pax(&self, entry: &mut tar::Entry<'_, impl Read>, into: &mut Extension) -> Result<(), DebError> {
        let bytes = self.extension_bytes(entry)?;
        let broken = || self.bad_header(self.member, "a PAX record is broken");
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let space = rest.iter().take(12).position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length = number(&rest[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(broken)?;
            if length <= space + 1 || length > rest.len() || rest[length - 1] != b'\n' {
                return Err(broken());
            }
            let record = &rest[space + 1..length - 1];
            rest = &rest[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            let key = std::str::from_utf8(&record[..equals]).map_err(|_| broken())?;
            let value = &record[equals + 1..];
            match key {
                "path" => into.path = Some(value.to_vec()),
                "linkpath" => into.link = Some(value.to_vec()),
                "size" => into.size = Some(number(value).ok_or_else(broken)?),
                "uid" => into.uid = Some(number(value).ok_or_else(broken)?),
                "gid" => into.gid = Some(number(value).ok_or_else(broken)?),
                _ if key.starts_with("GNU.sparse.") => {
                    return Err(self.bad_header(self.member, "sparse files are not read"));
                }
                _ => {
                    if let Some(name) = key.strip_prefix(PAX_XATTR) {
                        into.xattrs.insert(name.to_owned(), value.to_vec());
                    }
                }
            }
        }
        if into.xattrs.len() > XATTRS {
            return Err(self.too_large(self.member, "extended attributes of one entry", XATTRS as u64));
        }
        Ok(())
    }

    /// The path without what [`Absolute`] allows before it.
    pub(crate) fn relative<'p>(&self, mut raw: &'p [u8]) -> &'p [u8] {
        while let (Absolute::Taken, [b'/', rest @ ..]) = (self.absolute, raw) {
            raw = if rest.is_empty() { b"." } else { rest };
        }
        raw
    }

    fn item<'e>(
        &self,
        entry: &'e mut tar::Entry<'_, impl Read>,
        extension: Extension,
    ) -> Result<Item<'e>, DebError> {
        let header = entry.header();
        let raw = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = path::normalize(self.relative(&raw), self.member, self.limits)?;
        let shown = path.as_deref().unwrap_or("/").to_owned();
        let field = |value: std::io::Result<u64>, reason| value.map_err(|_| self.bad_header(&shown, reason));
        let size = field(header.entry_size(), "its size is no number")?;
        if extension.size.is_some_and(|told| told != size) {
            // Files beyond 8 GiB only; [`Limits::file_bytes`] is below.
            return Err(self.bad_header(&shown, "two different sizes"));
        }
        let mode = field(header.mode().map(u64::from), "its mode is no number")? & 0o7777;
        let uid = extension
            .uid
            .map_or_else(|| field(owner(header.uid(), &header.as_old().uid), "its uid is no number"), Ok)?;
        let gid = extension
            .gid
            .map_or_else(|| field(owner(header.gid(), &header.as_old().gid), "its gid is no number"), Ok)?;
        let id =
            |id: u64| u32::try_from(id).map_err(|_| self.bad_header(&shown, "its owner is out of range"));
        let link = extension.link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        Ok(Item {
            kind: header.entry_type(),
            size,
            mode: u32::try_from(mode).unwrap_or(0),
            uid: id(uid)?,
            gid: id(gid)?,
            link: link.unwrap_or_default(),
            xattrs: extension.xattrs,
            path,
            data: entry,
        })
    }
}

/// An owner that is left blank is root, as GNU tar takes it; npm packs like that.
fn owner(read: std::io::Result<u64>, field: &[u8]) -> std::io::Result<u64> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) { Ok(0) } else { read }
}

/// One entry with everything its extension records said about it.
pub(crate) struct Item<'e> {
    pub(crate) path: Option<String>,
    pub(crate) kind: EntryType,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) link: Vec<u8>,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
    pub(crate) data: &'e mut dyn Read,
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

/// Reads `control.tar` into everything but the entries of `content`.
pub(super) fn read_control(
    source: &mut dyn Read,
    member: &str,
    limits: &Limits,
    content: &mut PackageContent,
) -> Result<(), DebError> {
    let members = read_members(source, member, limits)?.into_iter();
    let mut files: BTreeMap<String, String> =
        members.map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned())).collect();
    let control = files.remove("control").ok_or(DebError::NoMember { member: "control" })?;
    content.control = format!("{}\n", control.trim_end());
    let conffiles = files.remove("conffiles").unwrap_or_default();
    // A line may start with a flag (`remove-on-upgrade /path`): such a file is not part of the package.
    content.conffiles =
        conffiles.lines().map(str::trim).filter(|line| line.starts_with('/')).map(str::to_owned).collect();
    content.md5sums = files.remove("md5sums").unwrap_or_default();
    if let Some(templates) = files.get_mut("templates") {
        *templates = untranslated(templates);
    }
    content.scripts = files.into_iter().filter(|(name, _)| SCRIPTS.contains(&name.as_str())).collect();
    Ok(())
}

/// debconf's templates without their translations (`Choices-de.UTF-8`), which are nine tenths of them.
fn untranslated(templates: &str) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in templates.lines() {
        if !line.starts_with([' ', '\t']) {
            let field = line.split(':').next().unwrap_or_default();
            skipping = field.split_once('-').is_some_and(|(_, language)| !language.eq_ignore_ascii_case("C"));
        }
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The files of `control.tar` by name, as they are.
pub(super) fn read_members(
    source: &mut dyn Read,
    member: &str,
    limits: &Limits,
) -> Result<BTreeMap<String, Vec<u8>>, DebError> {
    let mut files = BTreeMap::new();
    Walk { member, limits, seen: 0, absolute: Absolute::Refused }.each(source, |walk, item| {
        let Some(path) = item.path.filter(|_| item.kind.is_file()) else { return Ok(()) };
        let mut bytes = Vec::new();
        item.data.read_to_end(&mut bytes).map_err(|e| walk.read(e))?;
        if bytes.len() as u64 != item.size {
            return Err(walk.read(std::io::ErrorKind::UnexpectedEof.into()));
        }
        if files.insert(path.trim_start_matches('/').to_owned(), bytes).is_some() {
            return Err(DebError::Duplicate { member: member.to_owned(), path });
        }
        Ok(())
    })?;
    Ok(files)
}

/// Reads `data.tar`: contents to `objects`, entries back.
pub(crate) fn read_data(
    source: &mut dyn Read,
    member: &str,
    limits: &Limits,
    objects: &dyn Objects,
) -> Result<BTreeMap<String, Entry>, DebError> {
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    let mut groups = 0;
    let mut metadata = Metadata::new(limits);
    Walk { member, limits, seen: 0, absolute: Absolute::Refused }.each(source, |walk, mut item| {
        let Some(path) = item.path.clone() else { return Ok(()) };
        if entries.contains_key(&path) {
            return Err(DebError::Duplicate { member: member.to_owned(), path });
        }
        let entry = if item.kind == EntryType::Link {
            hard_link(walk, &item, &path, &mut entries, &mut groups)?
        } else {
            let kind = kind_of(walk, &mut item, &path, objects)?;
            Entry {
                kind,
                mode: item.mode,
                uid: item.uid,
                gid: item.gid,
                xattrs: item.xattrs,
                link_group: None,
            }
        };
        metadata.take(&path, &entry, &entries, member)?;
        entries.insert(path, entry);
        Ok(())
    })?;
    check_parents(&entries, member)?;
    Ok(entries)
}

pub(crate) fn kind_of(
    walk: &Walk<'_>,
    item: &mut Item<'_>,
    path: &str,
    objects: &dyn Objects,
) -> Result<Kind, DebError> {
    let refuse =
        |kind| Err(DebError::BadKind { member: walk.member.to_owned(), path: path.to_owned(), kind });
    match item.kind {
        EntryType::Directory => Ok(Kind::Directory),
        EntryType::Symlink => {
            Ok(Kind::Symlink { target: path::link_target(&item.link, path, walk.member, walk.limits)? })
        }
        EntryType::Regular | EntryType::Continuous => {
            if item.size > walk.limits.file_bytes {
                return Err(walk.too_large(path, "file bytes", walk.limits.file_bytes));
            }
            let (digest, size) = objects
                .put(&mut item.data)
                .map_err(|source| DebError::Keep { path: path.to_owned(), source })?;
            if size != item.size {
                return Err(walk.read(std::io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(Kind::File { digest, size })
        }
        EntryType::Char => refuse("a character device"),
        EntryType::Block => refuse("a block device"),
        EntryType::Fifo => refuse("a named pipe"),
        EntryType::GNUSparse => refuse("a sparse file"),
        _ => refuse("of an unknown kind"),
    }
}

fn hard_link(
    walk: &Walk<'_>,
    item: &Item<'_>,
    path: &str,
    entries: &mut BTreeMap<String, Entry>,
    groups: &mut u32,
) -> Result<Entry, DebError> {
    let refuse = |target: &str| DebError::BadHardLink {
        member: walk.member.to_owned(),
        path: path.to_owned(),
        target: target.to_owned(),
    };
    let target = path::normalize(&item.link, walk.member, walk.limits)?.ok_or_else(|| refuse("/"))?;
    let first = entries.get_mut(&target).filter(|entry| matches!(entry.kind, Kind::File { .. }));
    let first = first.ok_or_else(|| refuse(&target))?;
    if first.link_group.is_none() {
        first.link_group = Some(*groups);
        *groups += 1;
    }
    Ok(first.clone())
}

/// Counts [`Limits::metadata_bytes`].
pub(crate) struct Metadata {
    bytes: u64,
    limit: u64,
}

impl Metadata {
    pub(crate) fn new(limits: &Limits) -> Self {
        Metadata { bytes: 0, limit: limits.metadata_bytes }
    }

    /// Adds what an entry takes that is about to join `entries`.
    pub(crate) fn take(
        &mut self,
        path: &str,
        entry: &Entry,
        entries: &BTreeMap<String, Entry>,
        member: &str,
    ) -> Result<(), DebError> {
        self.bytes += cost(path, entry, entries);
        if self.bytes <= self.limit {
            return Ok(());
        }
        Err(DebError::TooLarge {
            member: member.to_owned(),
            path: path.chars().take(80).collect(),
            what: "bytes of paths and attributes",
            limit: self.limit,
        })
    }
}

/// What an entry takes in memory beyond its fixed part, together with the parents that only its path implies: a tree
/// has an entry for each of them.
fn cost(path: &str, entry: &Entry, entries: &BTreeMap<String, Entry>) -> u64 {
    let mut bytes = path.len();
    let mut parent = path;
    while let Some(cut) = parent.rfind('/').filter(|cut| *cut > 0) {
        parent = &parent[..cut];
        if entries.contains_key(parent) {
            break;
        }
        bytes += parent.len();
    }
    if let Kind::Symlink { target } = &entry.kind {
        bytes += target.len();
    }
    bytes += entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    bytes as u64
}

/// No entry may lie below anything but a directory: whoever follows the link would land elsewhere. What lies below an
/// entry follows it in the order of paths, so one look behind each is enough.
pub(crate) fn check_parents(entries: &BTreeMap<String, Entry>, member: &str) -> Result<(), DebError> {
    for (path, _) in entries.iter().filter(|(_, entry)| entry.kind != Kind::Directory) {
        let below = format!("{path}/");
        if let Some((child, _)) = entries.range(below.clone()..).next()
            && child.starts_with(&below)
        {
            return Err(DebError::BadPath {
                member: member.to_owned(),
                path: child.clone(),
                reason: "it lies below a link or a file of the same archive",
            });
        }
    }
    Ok(())
}
