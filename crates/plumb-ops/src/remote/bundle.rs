//! A delta that lies on a remote: its header is read at once, of the rest only what is needed, in a few large parts side by
//! side. Parts are unfinished downloads of the store, so that what came once does not come again after a break.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use plumb_delta::limit::HEADER_BYTES;
use plumb_delta::{Bytes, Delta};
use plumb_model::Digest;
use plumb_remote::{Blob, Error, Patience, Remote};
use plumb_store::Partial;
use rayon::prelude::*;

use super::object::{Here, Into, Wish};
use crate::Plumb;
use crate::error::OpsError;
use crate::progress::Progress;
use crate::remote::TransferError;

/// Bytes of a bundle that are asked for first: the headers of most releases fit.
const FIRST_BYTES: u64 = 16 * 1024;

/// Bytes of one part: large enough that a request more does not count, small enough that all connections are busy.
const PART_BYTES: u64 = 4 * 1024 * 1024;

/// Most parts of one bundle: each is an open file.
const PARTS: u64 = 256;

/// Each further try of a part needs this much that came since it began: a line that breaks all the time still gets there,
/// and a server that sends one byte each time does not keep us for ever.
const BYTES_PER_TRY: u64 = 16 * 1024;

/// Bytes moved per read.
const BLOCK_BYTES: usize = 64 * 1024;

/// One bundle of a remote.
pub(super) struct RemoteBundle<'a> {
    plumb: &'a Plumb<'a>,
    remote: &'a dyn Remote,
    patience: Patience,
    blob: Blob,
    head: Mutex<Vec<u8>>,
    parts: Vec<Part>,
}

/// Bytes of a bundle that are here.
struct Part {
    range: Range<u64>,
    file: File,
    partial: Mutex<Option<Partial>>,
    /// Some of it came in an earlier run.
    resumed: bool,
}

impl<'a> RemoteBundle<'a> {
    pub(super) fn new(plumb: &'a Plumb<'a>, remote: &'a dyn Remote, patience: Patience, blob: Blob) -> Self {
        RemoteBundle { plumb, remote, patience, blob, head: Mutex::default(), parts: Vec::new() }
    }

    /// Bytes of the objects that are to come, and of the bundle that make them.
    pub(super) fn missing(&self, wish: &Wish) -> Result<(u64, Vec<Range<u64>>), OpsError> {
        let delta = Delta::open(self).map_err(|source| self.failed(source))?;
        let mut bytes = 0u64;
        let ranges = delta.ranges(|entry| {
            // What cannot be looked at is brought, and told then.
            let lacks = wish.lacks(&self.plumb.store, entry).unwrap_or(true);
            bytes = bytes.saturating_add(if lacks { entry.size } else { 0 });
            lacks
        });
        Ok((bytes, ranges))
    }

    /// Bytes of the header, which are here after [`RemoteBundle::missing`].
    pub(super) fn head_bytes(&self) -> u64 {
        self.head.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// Brings the bytes of `ranges` here.
    pub(super) fn fetch(&mut self, ranges: &[Range<u64>]) -> Result<(), OpsError> {
        let step = PART_BYTES.max(self.blob.size / PARTS);
        let head = self.head_bytes();
        let mut wanted = Vec::new();
        // The whole of a small bundle came with its header.
        for range in ranges.iter().filter(|range| range.end > head) {
            let mut start = range.start;
            while start < range.end {
                let end = range.end.min(start + step);
                wanted.push(start..end);
                start = end;
            }
        }
        let parts: Result<Vec<Part>, OpsError> =
            super::connections()?.install(|| wanted.into_par_iter().map(|range| self.part(range)).collect());
        self.parts = parts?;
        Ok(())
    }

    /// Makes the objects. `true` if the bundle did not hold what it should, and that may be the fault of parts from an
    /// earlier run: they are forgotten, and it is worth another try.
    pub(super) fn apply(self, wish: &Wish) -> Result<bool, OpsError> {
        let delta = Delta::open(&self).map_err(|source| self.failed(source))?;
        let made = delta.apply(&Here(&self.plumb.store), &mut Into::new(self.plumb, wish));
        let keep = matches!(
            made,
            Err(plumb_delta::Error::Write { .. }
                | plumb_delta::Error::ReadObject { .. }
                | plumb_delta::Error::MissingBase { .. }
                | plumb_delta::Error::WrongBase { .. })
        );
        let resumed = self.parts.iter().any(|part| part.resumed);
        if !keep {
            for part in &self.parts {
                let partial = part.partial.lock().unwrap_or_else(PoisonError::into_inner).take();
                partial.map_or(Ok(()), Partial::discard)?;
            }
        }
        match made {
            Ok(_) => Ok(false),
            Err(plumb_delta::Error::BlockDigest { .. }) if resumed => Ok(true),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: plumb_delta::Error) -> OpsError {
        // What went wrong on the way keeps its own name.
        if let plumb_delta::Error::ReadDelta { source } = source {
            let kind = source.kind();
            return match source.downcast::<Error>() {
                Ok(error) => error.into(),
                Err(source) => self.failed_reading(io::Error::new(kind, source)),
            };
        }
        OpsError::Transfer(TransferError::Bundle {
            blob: self.blob.digest,
            remote: self.remote.shown(),
            source,
        })
    }

    fn failed_reading(&self, source: io::Error) -> OpsError {
        let source = plumb_delta::Error::ReadDelta { source };
        OpsError::Transfer(TransferError::Bundle {
            blob: self.blob.digest,
            remote: self.remote.shown(),
            source,
        })
    }

    fn what(&self) -> String {
        format!("blob `{}` of `{}`", self.blob.digest, self.remote.shown())
    }

    /// Brings one part here, going on from what an earlier run left.
    fn part(&self, range: Range<u64>) -> Result<Part, OpsError> {
        let length = range.end - range.start;
        let name = format!("{} {}-{}", self.blob.digest, range.start, range.end);
        let mut partial = self.plumb.store.partial(&Digest::of(name.as_bytes()))?;
        if partial.size() > length {
            partial.restart()?;
        }
        let resumed = partial.size() > 0;
        let filling = Filling {
            plumb: self.plumb,
            remote: self.remote,
            patience: self.patience,
            blob: self.blob,
            range: range.clone(),
            item: name,
        };
        filling.fill(&mut partial)?;
        let file = partial.view()?;
        Ok(Part { range, file, partial: Mutex::new(Some(partial)), resumed })
    }

    /// Makes sure that the first `end` bytes are in the head.
    fn read_head(&self, end: u64, head: &mut Vec<u8>) -> Result<(), Error> {
        plumb_remote::retried(&self.patience, &mut || {
            let start = head.len() as u64;
            let end = end.max(FIRST_BYTES).min(self.blob.size);
            if start >= end {
                return Ok(());
            }
            let reader = self.remote.blob_read(&self.blob, start..end)?;
            let read = reader.take(end - start).read_to_end(head);
            read.map_err(|source| Error::Broken { what: self.what(), source })?;
            match head.len() as u64 {
                found if found < end => Err(Error::Cut { what: self.what(), expected: end, found }),
                _ => Ok(()),
            }
        })
    }
}

/// A part of a blob on its way into an unfinished download.
pub(super) struct Filling<'a> {
    pub(super) plumb: &'a Plumb<'a>,
    pub(super) remote: &'a dyn Remote,
    pub(super) patience: Patience,
    pub(super) blob: Blob,
    pub(super) range: Range<u64>,
    /// Its name for progress.
    pub(super) item: String,
}

impl Filling<'_> {
    /// Brings what is missing of the range, going on after breaks as long as they leave something.
    pub(super) fn fill(&self, partial: &mut Partial) -> Result<(), OpsError> {
        let length = self.range.end - self.range.start;
        if partial.size() > length {
            partial.restart()?;
        }
        let (begun, item) = (partial.size(), &self.item);
        self.plumb.report(Progress::DownloadBegan { item: item.clone(), bytes: length });
        self.plumb.report(Progress::Downloaded { item: item.clone(), bytes: begun });
        let mut tried = 0u64;
        while partial.size() < length {
            tried += 1;
            match self.more(partial) {
                Ok(()) => {}
                Err(OpsError::Transfer(TransferError::Remote(error))) if error.is_transient() => {
                    let came = (partial.size() - begun) / BYTES_PER_TRY;
                    if tried >= u64::from(self.patience.tries) + came {
                        return Err(TransferError::Remote(error).into());
                    }
                    self.patience.pause(1);
                }
                Err(error) => return Err(error),
            }
        }
        self.plumb.report(Progress::DownloadEnded { item: item.clone() });
        Ok(())
    }

    fn more(&self, partial: &mut Partial) -> Result<(), OpsError> {
        let what = || format!("blob `{}` of `{}`", self.blob.digest, self.remote.shown());
        let failed = |error: Error| OpsError::from(TransferError::Remote(error));
        let from = self.range.start + partial.size();
        let mut reader = self.remote.blob_read(&self.blob, from..self.range.end).map_err(failed)?;
        let length = self.range.end - self.range.start;
        let mut block = vec![0; BLOCK_BYTES];
        loop {
            let most = usize::try_from(length - partial.size()).unwrap_or(usize::MAX).min(block.len());
            if most == 0 {
                return Ok(());
            }
            match reader.read(&mut block[..most]) {
                Ok(0) => {
                    return Err(failed(Error::Cut { what: what(), expected: length, found: partial.size() }));
                }
                Ok(count) => {
                    partial.append(&block[..count])?;
                    let (item, bytes) = (self.item.clone(), count as u64);
                    self.plumb.report(Progress::Downloaded { item, bytes });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(failed(Error::Broken { what: what(), source })),
            }
        }
    }
}

impl Bytes for RemoteBundle<'_> {
    fn length(&self) -> io::Result<u64> {
        Ok(self.blob.size)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        let mut out = out;
        while !out.is_empty() {
            let Some(part) = self.parts.iter().find(|part| part.range.contains(&at)) else { break };
            let most = usize::try_from(part.range.end - at).unwrap_or(usize::MAX).min(out.len());
            let (now, later) = out.split_at_mut(most);
            part.file.read_at(at - part.range.start, now)?;
            at += most as u64;
            out = later;
        }
        if out.is_empty() {
            return Ok(());
        }
        let end = at + out.len() as u64;
        if end > HEADER_BYTES as u64 + FIRST_BYTES || end > self.blob.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        self.read_head(end, &mut head).map_err(io::Error::other)?;
        head.as_slice().read_at(at, out)
    }
}
