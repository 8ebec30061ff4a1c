//! Writes a layout to a file: metadata in one stream, then the objects, in parallel, each to its place.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use plumb_model::Digest;
use rayon::prelude::*;
use rustix::io::Errno;

use super::layout::{Body, Extent, Inode, Layout};
use super::{BLOCK, BLOCK_BYTES, ErofsError};
use crate::tree::Objects;

/// Buffer of the fallback copy and of the metadata stream: large enough that the calls cost nothing.
const BUFFER_BYTES: usize = 256 * 1024;

/// Writes the image of `layout` to `out`, whose length becomes exactly `layout.blocks()` blocks. Contents go from
/// object file to image by copy_file_range(2), so memory holds metadata only.
///
/// # Errors
/// [`ErofsError::Object`] or [`ErofsError::ObjectSize`] if a content is not there or not as the tree says,
/// [`ErofsError::Output`] if `out` cannot be written.
pub fn write(layout: &Layout, objects: &dyn Objects, out: &File) -> Result<(), ErofsError> {
    write_metadata(layout, out).map_err(|source| ErofsError::Output { source })?;
    let mut jobs: BTreeMap<Digest, Job<'_>> = BTreeMap::new();
    for inode in &layout.inodes {
        if let Body::File(digest) = inode.body {
            let job = jobs.entry(digest).or_insert_with(|| Job { inode, extents: Vec::new() });
            if job.inode.size != inode.size {
                let (path, expected, actual) = (inode.path.clone(), inode.size, job.inode.size);
                return Err(ErofsError::ObjectSize { path, digest, expected, actual });
            }
        }
    }
    for extent in layout.extents() {
        if let Some(job) = jobs.get_mut(&extent.digest) {
            job.extents.push(extent);
        }
    }
    // An empty file has no extent, but its object must still be what the tree says.
    let mut jobs: Vec<(Digest, Job<'_>)> = jobs.into_iter().collect();
    jobs.sort_unstable_by_key(|(_, job)| job.extents.first().map(|extent| extent.image_offset));
    jobs.par_iter().try_for_each(|(digest, job)| copy_object(*digest, job, objects, out))
}

/// All places of one object.
struct Job<'a> {
    /// The first file that has it.
    inode: &'a Inode,
    extents: Vec<Extent>,
}

fn write_metadata(layout: &Layout, out: &File) -> io::Result<()> {
    // Shrinking first makes everything zero that is not written below: padding costs no writes.
    out.set_len(0)?;
    out.set_len(layout.blocks * BLOCK_BYTES)?;
    let mut stream = Stream { out: BufWriter::with_capacity(BUFFER_BYTES, out), at: 0 };
    stream.write_at(0, &layout.superblock().encode())?;
    let nid = |index: usize| layout.inodes[index].nid();

    let mut by_place: Vec<&Inode> = layout.inodes.iter().collect();
    by_place.sort_unstable_by_key(|inode| inode.at);
    for inode in by_place {
        stream.write_at(inode.at, &inode.disk(layout.epoch_s).encode())?;
        stream.write_all(&inode.xattr)?;
        match &inode.body {
            Body::Directory(directory) if inode.inline => {
                stream.write_all(&directory.blocks(nid).last().unwrap_or_default())?;
            }
            Body::Symlink(target) if inode.inline => stream.write_all(target.as_bytes())?,
            _ => {}
        }
    }
    stream.write_at(layout.xattr_block * BLOCK_BYTES, layout.shared.bytes())?;
    for inode in &layout.inodes {
        let outside = inode.outside_bytes().div_ceil(BLOCK_BYTES);
        let at = inode.start_block * BLOCK_BYTES;
        match &inode.body {
            Body::Directory(directory) => {
                for (block, offset) in directory.blocks(nid).take(outside as usize).zip((at..).step_by(BLOCK))
                {
                    stream.write_at(offset, &block)?;
                }
            }
            Body::Symlink(target) if outside > 0 => stream.write_at(at, target.as_bytes())?,
            _ => {}
        }
    }
    stream.out.flush()
}

/// A buffered writer that knows its position, so that only true gaps seek.
struct Stream<'a> {
    out: BufWriter<&'a File>,
    at: u64,
}

impl Stream<'_> {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        // Gaps inside the inode area are small; writing zeros keeps the buffer together.
        if at > self.at && at - self.at <= BLOCK_BYTES {
            let gap = (at - self.at) as usize;
            self.write_all(&[0; BLOCK][..gap])?;
        }
        if at != self.at {
            self.out.seek(SeekFrom::Start(at))?;
            self.at = at;
        }
        self.write_all(bytes)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }
}

fn copy_object(digest: Digest, job: &Job<'_>, objects: &dyn Objects, out: &File) -> Result<(), ErofsError> {
    let path = &job.inode.path;
    let unreadable = |source| ErofsError::Object { path: path.clone(), digest, source };
    let object = objects.open(&digest).map_err(unreadable)?;
    let actual = object.metadata().map_err(unreadable)?.len();
    if actual != job.inode.size {
        let (path, expected) = (path.clone(), job.inode.size);
        return Err(ErofsError::ObjectSize { path, digest, expected, actual });
    }
    job.extents.iter().try_for_each(|extent| copy(&object, out, extent)).map_err(unreadable)
}

fn copy(object: &File, out: &File, extent: &Extent) -> io::Result<()> {
    let mut from = extent.object_offset;
    let mut to = extent.image_offset;
    let mut left = extent.length;
    while left > 0 {
        // A tail inside a metadata block cannot be shared by the file system, and the call costs more than it saves.
        if left < BLOCK_BYTES {
            return copy_buffered(
                object,
                out,
                Extent { object_offset: from, image_offset: to, length: left, ..*extent },
            );
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(object, Some(&mut from), out, Some(&mut to), length) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => left -= copied as u64,
            Err(Errno::INTR) => {}
            // Another file system, or one that cannot (copy_file_range(2), ERRORS).
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {
                return copy_buffered(
                    object,
                    out,
                    Extent { object_offset: from, image_offset: to, length: left, ..*extent },
                );
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_buffered(object: &File, out: &File, extent: Extent) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES.min(extent.length as usize)];
    let mut done = 0;
    while done < extent.length {
        let length = buffer.len().min((extent.length - done) as usize);
        object.read_exact_at(&mut buffer[..length], extent.object_offset + done)?;
        out.write_all_at(&buffer[..length], extent.image_offset + done)?;
        done += length as u64;
    }
    Ok(())
}
