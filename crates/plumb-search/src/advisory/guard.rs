//! A reader that ends before a feed, or one record of it, takes more memory than it may.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

use super::{MAX_FEED_BYTES, MAX_RECORD_BYTES};

/// Says when a record begins.
#[derive(Clone)]
pub(super) struct Guard(Rc<Cell<u64>>);

impl Guard {
    /// The next record may be as long as any.
    pub(super) fn next_record(&self) {
        self.0.set(MAX_RECORD_BYTES);
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.0.get() == 0
    }
}

pub(super) struct Guarded<'r> {
    inner: BufReader<&'r mut dyn Read>,
    record: Rc<Cell<u64>>,
    feed: u64,
}

pub(super) fn guarded(source: &mut dyn Read) -> (Guarded<'_>, Guard) {
    let record = Rc::new(Cell::new(MAX_RECORD_BYTES));
    (Guarded { inner: BufReader::new(source), record: record.clone(), feed: MAX_FEED_BYTES }, Guard(record))
}

impl Read for Guarded<'_> {
    /// serde asks for single bytes, so that what it has taken is what was counted.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let bytes = count as u64;
        let (Some(record), Some(feed)) = (self.record.get().checked_sub(bytes), self.feed.checked_sub(bytes))
        else {
            self.record.set(0);
            return Err(io::Error::other("larger than the limit"));
        };
        self.record.set(record);
        self.feed = feed;
        Ok(count)
    }
}
