//! The base space of an object: what it starts from, one behind the other, read in pieces that are kept for a while.

use plumb_model::Digest;

use crate::{Bytes, Error};

/// Bytes that are read at once, and how many of such pieces are kept: copies jump, but mostly not far.
const PIECE: u64 = 64 << 10;
const KEPT: usize = 64;

/// One base and where it begins.
pub(crate) struct Base {
    pub(crate) digest: Digest,
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) bytes: Box<dyn Bytes>,
}

/// All of them.
pub(crate) struct Space {
    bases: Vec<Base>,
    /// Piece number and bytes; by number modulo [`KEPT`].
    kept: Vec<(u64, Vec<u8>)>,
}

impl Space {
    pub(crate) fn new(bases: Vec<Base>) -> Self {
        Space { bases, kept: vec![(u64::MAX, Vec::new()); KEPT] }
    }

    pub(crate) fn bases(&self) -> &[Base] {
        &self.bases
    }

    /// Bytes of all bases.
    pub(crate) fn length(&self) -> u64 {
        self.bases.last().map_or(0, |base| base.start + base.size)
    }

    /// Fills `out` from `place`; the caller has checked that the space is so long.
    pub(crate) fn read(&mut self, mut place: u64, mut out: &mut [u8]) -> Result<(), Error> {
        while !out.is_empty() {
            let number = place / PIECE;
            let slot = (number % KEPT as u64) as usize;
            if self.kept[slot].0 != number {
                let mut piece = std::mem::take(&mut self.kept[slot].1);
                let start = number * PIECE;
                piece.resize(PIECE.min(self.length() - start) as usize, 0);
                self.kept[slot].0 = u64::MAX;
                self.fill(start, &mut piece)?;
                self.kept[slot] = (number, piece);
            }
            let bytes = &self.kept[slot].1[(place % PIECE) as usize..];
            let length = bytes.len().min(out.len());
            let (head, rest) = out.split_at_mut(length);
            head.copy_from_slice(&bytes[..length]);
            place += length as u64;
            out = rest;
        }
        Ok(())
    }

    fn fill(&self, mut place: u64, mut out: &mut [u8]) -> Result<(), Error> {
        while !out.is_empty() {
            let at = self.bases.partition_point(|base| base.start + base.size <= place);
            let base = &self.bases[at];
            let length = (base.start + base.size - place).min(out.len() as u64) as usize;
            let (head, rest) = out.split_at_mut(length);
            let object = base.digest;
            let read = base.bytes.read_at(place - base.start, head);
            read.map_err(|source| Error::ReadObject { object, source })?;
            place += length as u64;
            out = rest;
        }
        Ok(())
    }
}
