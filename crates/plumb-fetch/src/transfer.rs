//! One file from a server into the store: resumed, retried, bounded.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use plumb_model::Digest;
use plumb_store::{Partial, Store};

use crate::http::{Answer, Body, Client, Request, Validators};
use crate::parallel::{self, Brake};
use crate::{Error, FetchOptions, Progress, Result, limit};

/// What transfers share.
pub(crate) struct Session<'a> {
    pub(crate) store: &'a Store,
    pub(crate) options: &'a FetchOptions,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) client: Client,
    stop: Stop,
}

/// Set by the first transfer that fails; the others see it between two blocks and while they pause.
#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

/// A file whose digest is known.
pub(crate) struct Wanted<'a> {
    pub(crate) url: &'a str,
    /// Its name for [`Progress`].
    pub(crate) item: &'a str,
    pub(crate) digest: Digest,
    pub(crate) size: Size,
    /// Headers besides our own, by lower-case name.
    pub(crate) headers: &'a [(&'static str, String)],
}

/// A file that is another one tomorrow.
pub(crate) struct Changing<'a> {
    pub(crate) url: &'a str,
    pub(crate) item: &'a str,
    /// What is known of the one that was fetched before.
    pub(crate) known: &'a Validators,
    pub(crate) limit_bytes: u64,
}

/// How many bytes a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// As many as was signed.
    Exactly(u64),
    /// Whatever the server says, up to so many.
    UpTo(u64),
}

impl Size {
    /// Never more bytes than this.
    fn limit(self) -> u64 {
        match self {
            Size::Exactly(bytes) | Size::UpTo(bytes) => bytes,
        }
    }

    fn known(self) -> Option<u64> {
        match self {
            Size::Exactly(bytes) => Some(bytes),
            Size::UpTo(_) => None,
        }
    }
}

impl Brake for Session<'_> {
    fn stopped(&self) -> bool {
        *self.stop.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        *self.stop.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.changed.notify_all();
    }
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        store: &'a Store,
        options: &'a FetchOptions,
        progress: &'a dyn Progress,
    ) -> Session<'a> {
        let connections = options.connections.clamp(1, limit::CONNECTIONS_MAX);
        let client = Client::new(&options.proxies, connections);
        Session { store, options, progress, client, stop: Stop::default() }
    }

    /// Runs `job` for each of `0..count` on at most `workers` threads. The first failure stops the rest; of several
    /// failures, the one with the lowest number is reported, so that the same cause gives the same message.
    pub(crate) fn each<T: Send>(
        &self,
        count: usize,
        workers: usize,
        job: &(dyn Fn(usize) -> Result<T> + Sync),
    ) -> Result<Vec<T>> {
        let mut outcomes = parallel::each(count, workers, self, job);
        outcomes.sort_by_key(|(number, outcome)| (matches!(outcome, Err(Error::GivenUp { .. })), *number));
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// Transfers the file into `partial`, going on from what is there. Its size is right afterwards; its digest is
    /// checked when `partial` is committed.
    fn transfer(&self, wanted: &Wanted<'_>, partial: &mut Partial) -> Result<()> {
        if partial.size() > wanted.size.limit() {
            partial.restart()?;
        }
        self.progress.begin(wanted.item, wanted.size.known());
        self.progress.advance(wanted.item, partial.size());
        self.retried(wanted.url, &mut || self.attempt(wanted, partial))
    }

    /// Brings a file into the store as an object.
    pub(crate) fn fetch_object(&self, wanted: &Wanted<'_>) -> Result<()> {
        self.fetch(wanted, &wanted.digest, &mut |partial| {
            partial.commit().map_err(|error| name_file(wanted.url, error))
        })
    }

    /// Brings a file here and gives its bytes to `take`, which checks them by something else than `wanted.digest`:
    /// that one only names the unfinished file.
    pub(crate) fn fetch_unchecked(
        &self,
        wanted: &Wanted<'_>,
        take: &mut dyn FnMut(File) -> Result<()>,
    ) -> Result<()> {
        self.fetch(wanted, &wanted.digest, &mut |partial| take(partial.into_file()?))
    }

    /// Brings a file here, checks it and gives it to `make`, which makes the object `result` from it.
    pub(crate) fn fetch_verified(
        &self,
        wanted: &Wanted<'_>,
        result: &Digest,
        make: &mut dyn FnMut(File) -> Result<()>,
    ) -> Result<()> {
        self.fetch(wanted, result, &mut |partial| {
            make(partial.into_verified_file().map_err(|error| name_file(wanted.url, error))?)
        })
    }

    /// Transfers a file and lets `finish` check it. Bytes from an earlier run that turn out wrong get a second chance
    /// from zero: the fault may be in them and not on the server.
    fn fetch(
        &self,
        wanted: &Wanted<'_>,
        result: &Digest,
        finish: &mut dyn FnMut(Partial) -> Result<()>,
    ) -> Result<()> {
        let mut resumed = true;
        loop {
            let mut partial = self.store.partial(&wanted.digest)?;
            // Another process may have finished the same file while we waited for it.
            if self.store.contains(result) {
                return Ok(partial.discard()?);
            }
            resumed = resumed && partial.size() > 0;
            match self.transfer(wanted, &mut partial) {
                Ok(()) => {}
                Err(error @ (Error::WrongSize { .. } | Error::TooLarge { .. })) => {
                    partial.discard()?;
                    return Err(error);
                }
                Err(error) if partial.size() == 0 => {
                    partial.discard()?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
            match finish(partial) {
                Err(Error::WrongDigest { .. } | Error::WrongIntegrity { .. }) if resumed => resumed = false,
                other => return other,
            }
        }
    }

    /// The whole small file at `url`, or None if it still is the known one.
    pub(crate) fn read(
        &self,
        url: &str,
        item: &str,
        known: &Validators,
    ) -> Result<Option<(Vec<u8>, Validators)>> {
        let request = Request { known: known.clone(), ..Request::default() };
        self.retried(url, &mut || match self.client.get(url, &request)? {
            Answer::Body(body) => self.read_body(url, item, body).map(Some),
            Answer::NotModified | Answer::RangeRefused => Ok(None),
        })
    }

    /// Writes the file at `url` to `into`, from its start, or says that it still is the known one. Its digest is nobody's
    /// before it is here, so that nothing of an earlier run is of use.
    pub(crate) fn copy(&self, wanted: &Changing<'_>, into: &mut File) -> Result<Option<(u64, Validators)>> {
        let request = Request { known: wanted.known.clone(), ..Request::default() };
        self.retried(wanted.url, &mut || match self.client.get(wanted.url, &request)? {
            Answer::Body(body) => self.copy_body(wanted, body, into).map(Some),
            Answer::NotModified | Answer::RangeRefused => Ok(None),
        })
    }

    fn copy_body(&self, wanted: &Changing<'_>, body: Body, into: &mut File) -> Result<(u64, Validators)> {
        let url = wanted.url;
        let unwritten =
            |source: std::io::Error| Error::Connection { url: url.to_owned(), source: source.into() };
        self.progress.begin(wanted.item, body.length);
        into.set_len(0).and_then(|()| into.rewind()).map_err(unwritten)?;
        let mut reader = body.reader.take(wanted.limit_bytes.saturating_add(1));
        let mut block = vec![0; limit::BLOCK_BYTES];
        let mut size = 0;
        loop {
            let count = self.next_block(url, &mut reader, &mut block)?;
            if count == 0 {
                break;
            }
            size += count as u64;
            if size > wanted.limit_bytes {
                return Err(Error::TooLarge { url: url.to_owned(), limit: wanted.limit_bytes });
            }
            into.write_all(&block[..count]).map_err(unwritten)?;
            self.progress.advance(wanted.item, count as u64);
        }
        match body.length {
            Some(expected) if expected != size => {
                Err(Error::Cut { url: url.to_owned(), expected, found: size })
            }
            _ => Ok((size, body.validators)),
        }
    }

    /// The whole small file at `url`: a token, an index of a project.
    pub(crate) fn read_small(
        &self,
        url: &str,
        item: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Vec<u8>> {
        let request = Request { headers: headers.to_vec(), ..Request::default() };
        self.retried(url, &mut || match self.client.get(url, &request)? {
            Answer::Body(body) => Ok(self.read_body(url, item, body)?.0),
            Answer::NotModified | Answer::RangeRefused => Err(Error::Missing { url: url.to_owned() }),
        })
    }

    fn read_body(&self, url: &str, item: &str, body: Body) -> Result<(Vec<u8>, Validators)> {
        self.progress.begin(item, body.length);
        let mut bytes = Vec::new();
        let mut block = vec![0; limit::BLOCK_BYTES];
        let mut reader = body.reader.take(limit::IN_RELEASE_BYTES + 1);
        loop {
            let count = self.next_block(url, &mut reader, &mut block)?;
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&block[..count]);
            self.progress.advance(item, count as u64);
        }
        if bytes.len() as u64 > limit::IN_RELEASE_BYTES {
            return Err(Error::TooLarge { url: url.to_owned(), limit: limit::IN_RELEASE_BYTES });
        }
        match body.length {
            Some(expected) if expected != bytes.len() as u64 => {
                Err(Error::Cut { url: url.to_owned(), expected, found: bytes.len() as u64 })
            }
            _ => Ok((bytes, body.validators)),
        }
    }

    /// Calls `attempt` until it succeeds, fails for good, or has failed often enough.
    fn retried<T>(&self, url: &str, attempt: &mut dyn FnMut() -> Result<T>) -> Result<T> {
        let mut pause = Duration::from_millis(self.options.retry_pause_ms);
        for _ in 1..limit::TRIES {
            match attempt() {
                Err(error) if error.is_transient() => {
                    self.pause(url, pause)?;
                    pause *= 2;
                }
                other => return other,
            }
        }
        attempt()
    }

    fn attempt(&self, wanted: &Wanted<'_>, partial: &mut Partial) -> Result<()> {
        let request =
            Request { offset: partial.size(), headers: wanted.headers.to_vec(), ..Request::default() };
        if request.offset > 0 && wanted.size.known() == Some(request.offset) {
            return Ok(());
        }
        let body = match self.client.get(wanted.url, &request)? {
            Answer::Body(body) => body,
            Answer::NotModified | Answer::RangeRefused => {
                self.restart(wanted, partial)?;
                let source = "the server refused to go on where the transfer stopped".into();
                return Err(Error::Connection { url: wanted.url.to_owned(), source });
            }
        };
        if body.start != partial.size() {
            self.restart(wanted, partial)?;
            if body.start != 0 {
                let source = "the server sent another part of the file than the one asked for".into();
                return Err(Error::Connection { url: wanted.url.to_owned(), source });
            }
        }
        let whole = body.length.map(|length| body.start.saturating_add(length));
        if let (Some(expected), Some(found)) =
            (wanted.size.known(), whole.filter(|whole| Some(*whole) != wanted.size.known()))
        {
            return Err(Error::WrongSize { url: wanted.url.to_owned(), expected, found });
        }
        self.append(wanted, body.reader, partial)?;
        match wanted.size.known().or(whole) {
            Some(expected) if partial.size() < expected => {
                Err(Error::Cut { url: wanted.url.to_owned(), expected, found: partial.size() })
            }
            _ => Ok(()),
        }
    }

    fn append(
        &self,
        wanted: &Wanted<'_>,
        reader: Box<dyn std::io::Read>,
        partial: &mut Partial,
    ) -> Result<()> {
        let limit = wanted.size.limit();
        // One byte more than wanted: it tells a file that is too long, and lets the connection be used again.
        let mut reader = reader.take(limit.saturating_sub(partial.size()) + 1);
        let mut block = vec![0; limit::BLOCK_BYTES];
        loop {
            let count = self.next_block(wanted.url, &mut reader, &mut block)?;
            let found = partial.size() + count as u64;
            if found > limit {
                let url = wanted.url.to_owned();
                return Err(match wanted.size {
                    Size::Exactly(expected) => Error::WrongSize { url, expected, found },
                    Size::UpTo(limit) => Error::TooLarge { url, limit },
                });
            }
            if count == 0 {
                return Ok(());
            }
            partial.append(&block[..count])?;
            self.progress.advance(wanted.item, count as u64);
        }
    }

    fn restart(&self, wanted: &Wanted<'_>, partial: &mut Partial) -> Result<()> {
        partial.restart()?;
        self.progress.begin(wanted.item, wanted.size.known());
        Ok(())
    }

    fn next_block(&self, url: &str, reader: &mut dyn std::io::Read, block: &mut [u8]) -> Result<usize> {
        loop {
            if self.stopped() {
                return Err(Error::GivenUp { url: url.to_owned() });
            }
            match reader.read(block) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Connection { url: url.to_owned(), source: error.into() }),
            }
        }
    }

    /// Waits, unless another transfer fails meanwhile.
    fn pause(&self, url: &str, pause: Duration) -> Result<()> {
        let stopped = self.stop.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stop.changed.wait_timeout_while(stopped, pause, |stopped| !*stopped);
        let (stopped, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *stopped { Err(Error::GivenUp { url: url.to_owned() }) } else { Ok(()) }
    }
}

/// Turns the store's complaint about bytes into one that names the file.
pub(crate) fn name_file(url: &str, error: plumb_store::Error) -> Error {
    match error {
        plumb_store::Error::WrongDigest { expected, found } => {
            Error::WrongDigest { url: url.to_owned(), expected, found }
        }
        other => Error::Store(other),
    }
}
