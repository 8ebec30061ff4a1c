//! Objects in few bytes: compressed, or as ranges of other objects with what lies between them.
//!
//! ```text
//!  folded/<2 hex>/<62 hex>     named like the object it makes
//!    magic 7 "plumbfo" | format 1 | tree 1 | size of the object 8, little endian | zstd frame with checksum
//!
//!  frame   bases   n | digest 32 * n
//!          pieces  n | (gap since the last piece's end | base number | offset in it | length) * n
//!          literals, one behind the other: what is not in a piece
//!
//!  numbers LEB128        tree  1: the end of the object is the dm-verity tree over its begin, and only the begin is here
//! ```
//!
//! It is how an object lies that is kept but not used: a document, a kernel or the file of a package compressed; an image
//! as where its files lie, with the file system's own blocks as literals. It says everything itself: whatever becomes of
//! the program that laid out the image, its bytes come back. Nothing folded is believed: what is made of it has the
//! object's digest or is an error. Pieces come from plain objects or from folded ones without pieces, so that one step
//! always suffices.

mod form;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use plumb_delta::verity;
use plumb_model::Digest;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use self::form::{
    BUFFER_BYTES, Folded, HEAD_BYTES, Out, Range, Trouble, broken, copy, encode, literals, number,
    open_folded, parse_head, read_bases, read_pieces, unread, usable,
};
use crate::gate::Change;
use crate::object::object_name;
use crate::{Error, FORMAT_FOLDED, Result, Store, write_format};

/// A file takes whole blocks of its file system: what does not save one is not folded.
const LEAST_SAVED_BYTES: u64 = 4096;
/// Largest base that is unfolded in memory; files of packages are far smaller.
const BASE_LIMIT_BYTES: u64 = 1 << 30;

/// A range of an object that is also a range of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// Where in the object.
    pub at: u64,
    /// The other object.
    pub base: Digest,
    /// Where in that one.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// What the end of an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// Like everything before it.
    None,
    /// The dm-verity tree over everything before it, in the form of Plumb's images.
    Behind,
}

impl Store {
    /// Makes the folded form of a plain object, whose bytes are checked on the way. Returns how many bytes it has; `None`
    /// if it would not save any, and then there is none. The plain one stays; [`Store::sync`] must come before it is
    /// removed.
    ///
    /// `pieces` are ranges that other objects have, in any order; wrong ones are found and are an error. A base must not
    /// be folded in pieces itself.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] if the object is not what its name says, [`Error::Read`], [`Error::Write`].
    pub fn fold(&self, digest: &Digest, pieces: &[Piece], tree: Tree) -> Result<Option<u64>> {
        self.enter()?;
        let plain = self.open_plain(digest)?.ok_or(Error::Missing { digest: *digest })?;
        let read = |source| Error::read(format!("object `{digest}`"), &self.path(digest), source);
        let metadata = plain.metadata().map_err(read)?;
        let size = metadata.len();
        let data = match (tree, verity::split(size)) {
            (Tree::Behind, Some((data, _))) => data,
            _ => size,
        };
        let tree = if data < size { Tree::Behind } else { Tree::None };
        let mut draft = self.draft(digest)?;
        let pieces = usable(pieces, data);
        let mut out = Out { draft: &mut draft, failed: None };
        let encoded = encode(&plain, (size, data, tree), &pieces, &mut out);
        if let Err(source) = encoded {
            let failed = out.failed.take();
            return Err(failed.unwrap_or_else(|| read(source)));
        }
        let folded = draft.file.metadata().map_err(read)?.len();
        if folded + LEAST_SAVED_BYTES > size {
            return Ok(None);
        }
        self.announce()?;
        let reader = draft.file.try_clone().map_err(read)?;
        self.check_fold(digest, reader)?;
        // It is as old as the plain one: folding makes nothing young.
        let modified = metadata.modified().map_err(read)?;
        let folded_path = self.folded_path(digest);
        draft
            .file
            .set_modified(modified)
            .map_err(|source| Error::write(format!("folded object `{digest}`"), &folded_path, source))?;
        draft.publish_at(digest, &folded_path)?;
        Ok(Some(folded))
    }

    /// Unfolds what was just folded, before it is relied on.
    fn check_fold(&self, digest: &Digest, mut reader: File) -> Result<()> {
        use std::io::Seek as _;
        let path = self.folded_path(digest);
        let read = |source| Error::read(format!("folded object `{digest}`"), &path, source);
        reader.rewind().map_err(read)?;
        let target = self.unnamed(digest)?;
        let made = self.make(
            digest,
            open_folded(reader, path.clone()).map_err(|trouble| self.told(digest, trouble)),
            &target,
        );
        match made {
            Err(Trouble::Store(error)) => Err(error),
            Err(Trouble::Unread(source)) => Err(read(source)),
            // The folded form is of what lies there, so what lies there is wrong, or a piece of another is.
            Err(Trouble::Broken(_)) => {
                self.verify(digest)?;
                Err(Error::Unfoldable { digest: *digest })
            }
            Ok(()) => Ok(()),
        }
    }

    /// From now on older versions of Plumb must not open this store.
    fn announce(&self) -> Result<()> {
        let path = self.root().join("format");
        match crate::place::read_limited(&path, crate::FORMAT_LIMIT_BYTES) {
            Ok(found) if found == FORMAT_FOLDED => Ok(()),
            _ => write_format(self.gate(), self.root(), FORMAT_FOLDED),
        }
    }

    pub(crate) fn folded_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("folded").join(object_name(digest))
    }

    /// The size of the object that the folded one makes; `None` if there is none. A head that is cut short or no head
    /// makes no object.
    pub(crate) fn folded_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let Some(file) = self.open_folded_file(digest)? else { return Ok(None) };
        let mut head = [0; HEAD_BYTES];
        match file.read_exact_at(&mut head, 0) {
            Ok(()) => Ok(parse_head(&head).map(|(size, _)| size)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(self.unread_fold(digest, source)),
        }
    }

    /// What the folded form of an object starts from: digests of its bases. Empty if it is not folded, only compressed, or
    /// damaged: then it starts from nothing.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn bases(&self, digest: &Digest) -> Result<Vec<Digest>> {
        let Some(file) = self.open_folded_file(digest)? else { return Ok(Vec::new()) };
        let path = self.folded_path(digest);
        match open_folded(file, path).and_then(|mut folded| read_bases(&mut folded.body)) {
            Ok(bases) => Ok(bases),
            Err(Trouble::Broken(_)) => Ok(Vec::new()),
            Err(Trouble::Store(error)) => Err(error),
            Err(Trouble::Unread(source)) => Err(self.unread_fold(digest, source)),
        }
    }

    fn unread_fold(&self, digest: &Digest, source: io::Error) -> Error {
        Error::read(format!("folded object `{digest}`"), &self.folded_path(digest), source)
    }

    fn open_folded_file(&self, digest: &Digest) -> Result<Option<File>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match rustix::fs::openat(&self.inner.folded_fd, object_name(digest), flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.unread_fold(digest, errno.into())),
        }
    }

    /// Whether there is a folded form. What it makes is not looked at.
    #[must_use]
    pub fn is_folded(&self, digest: &Digest) -> bool {
        rustix::fs::statat(&self.inner.folded_fd, object_name(digest), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Makes the plain object of the folded one; durable before it has its name.
    pub(crate) fn unfold(&self, digest: &Digest) -> Result<()> {
        let folded = self.folded(digest)?;
        let draft = self.draft(digest)?;
        self.make(digest, Ok(folded), &draft.file).map_err(|trouble| self.told(digest, trouble))?;
        draft.sync()?.publish_at(digest, &self.path(digest))
    }

    /// The object as a file without a name, at its start.
    pub(crate) fn unfolded(&self, digest: &Digest) -> Result<File> {
        let folded = self.folded(digest)?;
        let target = self.unnamed(digest)?;
        self.make(digest, Ok(folded), &target).map_err(|trouble| self.told(digest, trouble))?;
        Ok(target)
    }

    /// Unfolds the folded form, to see whether it makes the object, without looking at the plain one.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Damaged`] of a base, [`Error::DamagedFold`], [`Error::Read`].
    pub fn prove(&self, digest: &Digest) -> Result<()> {
        self.enter()?;
        self.verify_folded(digest)
    }

    pub(crate) fn verify_folded(&self, digest: &Digest) -> Result<()> {
        self.unfolded(digest).map(drop)
    }

    fn unnamed(&self, digest: &Digest) -> Result<File> {
        let scratch = &self.inner.scratch;
        scratch
            .create_unnamed()
            .map_err(|source| Error::write(format!("object `{digest}`"), &scratch.path_of(""), source))
    }

    fn folded(&self, digest: &Digest) -> Result<Folded> {
        let file = self.open_folded_file(digest)?.ok_or(Error::Missing { digest: *digest })?;
        open_folded(file, self.folded_path(digest)).map_err(|trouble| self.told(digest, trouble))
    }

    /// Trouble as an error. What is broken is moved out of the way.
    fn told(&self, digest: &Digest, trouble: Trouble) -> Error {
        let reason = match trouble {
            Trouble::Store(error) => return error,
            Trouble::Unread(source) => return self.unread_fold(digest, source),
            Trouble::Broken(reason) => reason,
        };
        match self.set_file_aside(digest, &self.folded_path(digest)) {
            Ok(moved_to) => Error::DamagedFold { digest: *digest, reason, moved_to },
            Err(error) => error,
        }
    }

    /// Writes the object that `folded` makes to `target`, which is empty, and checks it.
    fn make(
        &self,
        digest: &Digest,
        folded: Result<Folded>,
        target: &File,
    ) -> std::result::Result<(), Trouble> {
        let mut folded = folded?;
        let data = match (folded.tree, verity::split(folded.size)) {
            (Tree::None, _) => folded.size,
            (Tree::Behind, Some((data, _))) => data,
            (Tree::Behind, None) => return Err(broken("it has no hash tree at this length")),
        };
        let written = |source| Error::write(format!("object `{digest}`"), self.root(), source);
        let change = Change::Write(&folded.path, usize::try_from(folded.size).unwrap_or(usize::MAX));
        self.gate().before(&change).map_err(written)?;
        let bases = read_bases(&mut folded.body)?;
        let pieces = read_pieces(&mut folded.body, bases.len(), data)?;
        let mut end = 0;
        for piece in &pieces {
            literals(&mut folded.body, target, (end, piece.at)).map_err(|error| error.at(written))?;
            end = piece.at + piece.length;
        }
        literals(&mut folded.body, target, (end, data)).map_err(|error| error.at(written))?;
        match folded.body.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return Err(broken("something follows the last byte")),
            Err(error) => return Err(unread(error)),
        }
        self.copy_pieces(&bases, &pieces, target)?;
        self.close(digest, (data, folded.tree), &bases, target)
    }

    /// Copies all pieces to their places, base by base, so that each is opened once.
    fn copy_pieces(
        &self,
        bases: &[Digest],
        pieces: &[Range],
        target: &File,
    ) -> std::result::Result<(), Trouble> {
        let mut by_base: BTreeMap<usize, Vec<&Range>> = BTreeMap::new();
        for piece in pieces {
            by_base.entry(piece.base).or_default().push(piece);
        }
        for (number, pieces) in by_base {
            let digest = &bases[number];
            let read = |source| Error::read(format!("object `{digest}`"), &self.path(digest), source);
            let written = |source| Error::write(format!("object `{digest}`"), self.root(), source);
            match self.open_plain(digest)? {
                Some(base) => {
                    let copied = pieces.iter().try_for_each(|piece| copy(&base, target, piece));
                    copied.or_else(|source| match source.kind() {
                        // Cut short, or the piece was never in it.
                        io::ErrorKind::UnexpectedEof => {
                            self.verify(digest)?;
                            Err(broken(format!("{digest} is shorter than a piece")))
                        }
                        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                            Err(written(source).into())
                        }
                        _ => Err(read(source).into()),
                    })?;
                }
                None => {
                    let base = self.base_bytes(digest)?;
                    for piece in pieces {
                        let start = usize::try_from(piece.offset).unwrap_or(usize::MAX);
                        let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
                        let bytes = base.get(start..).and_then(|rest| rest.get(..length));
                        let bytes =
                            bytes.ok_or_else(|| broken(format!("{digest} is shorter than a piece")))?;
                        target.write_all_at(bytes, piece.at).map_err(written)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// A folded base, which must have no pieces.
    fn base_bytes(&self, digest: &Digest) -> std::result::Result<Vec<u8>, Trouble> {
        let mut folded = self.folded(digest)?;
        if folded.size > BASE_LIMIT_BYTES {
            return Err(broken(format!("its base {digest} is larger than {BASE_LIMIT_BYTES} bytes")));
        }
        // A base that does not unpack is the one to name.
        let bytes = literals_alone(&mut folded).map_err(|trouble| self.told(digest, trouble))?;
        bytes.ok_or_else(|| broken(format!("its base {digest} is folded in pieces itself")))
    }

    /// The bytes that the folded form makes: in memory if it has no pieces, through a file otherwise.
    pub(crate) fn folded_bytes(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let mut folded = self.folded(digest)?;
        let size = folded.size;
        if size > limit {
            return Err(Error::TooLarge { digest: *digest, size, limit });
        }
        match literals_alone(&mut folded) {
            Ok(Some(bytes)) if Digest::of(&bytes) == *digest => Ok(bytes),
            Ok(Some(_)) => Err(self.told(digest, broken("it makes other bytes"))),
            Ok(None) => {
                let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
                let read = self.unfolded(digest)?.read_to_end(&mut bytes);
                read.map(|_| bytes).map_err(|source| self.unread_fold(digest, source))
            }
            Err(trouble) => Err(self.told(digest, trouble)),
        }
    }

    /// The first byte that the folded form makes.
    pub(crate) fn folded_first_byte(&self, digest: &Digest) -> Result<Option<u8>> {
        let mut folded = self.folded(digest)?;
        let mut first = [0];
        let count = match is_literal(&mut folded) {
            Ok(true) => folded.body.read(&mut first),
            Ok(false) => self.unfolded(digest)?.read(&mut first),
            Err(trouble) => return Err(self.told(digest, trouble)),
        };
        let count = count.map_err(|error| self.told(digest, unread(error)))?;
        Ok((count == 1).then_some(first[0]))
    }

    /// Computes the tree, writes it and checks the digest of everything.
    fn close(
        &self,
        digest: &Digest,
        (data, end): (u64, Tree),
        bases: &[Digest],
        target: &File,
    ) -> std::result::Result<(), Trouble> {
        let failed = |source| Error::write(format!("object `{digest}`"), self.root(), source);
        let (mut hash, mut tree) = (Sha256::new(), verity::Tree::default());
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut at = 0;
        while at < data {
            let part = &mut buffer[..BUFFER_BYTES.min(usize::try_from(data - at).unwrap_or(BUFFER_BYTES))];
            target.read_exact_at(part, at).map_err(failed)?;
            hash.update(&*part);
            if end == Tree::Behind {
                tree.push(part);
            }
            at += part.len() as u64;
        }
        if end == Tree::Behind {
            let tree = tree.finish();
            hash.update(&tree);
            target.write_all_at(&tree, data).map_err(failed)?;
        }
        if Digest::from_bytes(hash.finalize().into()) == *digest {
            return Ok(());
        }
        // A damaged base is named, and moved away, before the folded object is blamed.
        for base in bases {
            self.verify(base)?;
        }
        Err(broken("it makes other bytes"))
    }
}

/// Whether literals are all that there is to a folded object. They follow then.
fn is_literal(folded: &mut Folded) -> std::result::Result<bool, Trouble> {
    Ok(folded.tree == Tree::None
        && read_bases(&mut folded.body)?.is_empty()
        && number(&mut folded.body)? == 0)
}

/// The literals of a folded object that has nothing else, as many as its head says; `None` if it has more to it.
fn literals_alone(folded: &mut Folded) -> std::result::Result<Option<Vec<u8>>, Trouble> {
    if !is_literal(folded)? {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let read = (&mut folded.body).take(folded.size.saturating_add(1)).read_to_end(&mut bytes);
    match read {
        Ok(count) if count as u64 == folded.size => Ok(Some(bytes)),
        Ok(_) => Err(broken("it has another length")),
        Err(error) => Err(unread(error)),
    }
}
