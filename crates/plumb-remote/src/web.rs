//! A remote behind a web server: static files over HTTP, which are only read.

use std::io::{self, Read};
use std::ops::Range;

use plumb_fetch::{Call, Client, Reply, Verb};
use plumb_model::Digest;

use crate::{
    Blob, Error, Expected, Name, Options, Patience, Remote, Result, Upload, Version, Written, limit, retried,
};

pub(crate) struct Web {
    base: String,
    client: Client,
    patience: Patience,
}

impl Web {
    pub(crate) fn new(base: &str, options: &Options) -> Web {
        let client = Client::new(&options.proxies, limit::CONNECTIONS);
        Web { base: base.to_owned(), client, patience: options.patience }
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/{}", self.base, crate::name::blob_path(digest))
    }
}

impl Remote for Web {
    fn shown(&self) -> String {
        self.base.clone()
    }

    fn writable(&self) -> Result<()> {
        Err(Error::ReadOnly { remote: self.shown() })
    }

    fn read(&self, name: &Name, limit: u64) -> Result<Option<(Vec<u8>, Version)>> {
        let url = format!("{}/{name}", self.base);
        retried(&self.patience, &mut || {
            let mut call = Call::new(Verb::Get, &url);
            // A proxy on the way must not give an old version of what is replaced.
            call.headers.push(("cache-control", "no-cache".to_owned()));
            let reply = self.client.call(&call)?;
            match reply.status {
                200 => {
                    let bytes = reply.read(limit)?;
                    let version = Version(Digest::of(&bytes).hex());
                    Ok(Some((bytes, version)))
                }
                404 | 410 => Ok(None),
                _ => Err(refused(&self.base, &format!("GET {name}"), reply)),
            }
        })
    }

    fn write(&self, _: &Name, _: &[u8], _: &Expected) -> Result<Written> {
        Err(Error::ReadOnly { remote: self.shown() })
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let url = self.blob_url(digest);
        retried(&self.patience, &mut || {
            let reply = self.client.call(&Call::new(Verb::Head, &url))?;
            match reply.status {
                200 => Ok(reply.length()),
                404 | 410 => Ok(None),
                _ => Err(refused(&self.base, &format!("HEAD {digest}"), reply)),
            }
        })
    }

    fn blob_read(&self, blob: &Blob, range: Range<u64>) -> Result<Box<dyn Read + Send>> {
        let url = self.blob_url(&blob.digest);
        let reply = self.client.call(&range_call(&url, &range))?;
        ranged(&self.base, blob, &range, reply)
    }

    fn blob_write(&self, _: &Upload<'_>) -> Result<()> {
        Err(Error::ReadOnly { remote: self.shown() })
    }
}

/// Asks for a range of bytes (RFC 9110, section 14.2).
pub(crate) fn range_call<'a>(url: &'a str, range: &Range<u64>) -> Call<'a> {
    let mut call = Call::new(Verb::Get, url);
    if range.end > range.start {
        call.headers.push(("range", format!("bytes={}-{}", range.start, range.end - 1)));
    }
    call
}

/// The bytes of a range out of an answer: of one that has only them, or of one that has the whole blob, because the server
/// knows no ranges.
pub(crate) fn ranged(
    remote: &str,
    blob: &Blob,
    range: &Range<u64>,
    reply: Reply,
) -> Result<Box<dyn Read + Send>> {
    let what = || format!("blob `{}` of `{remote}`", blob.digest);
    let wrong_size = |found| Err(Error::WrongSize { what: what(), expected: blob.size, found });
    let length = range.end.saturating_sub(range.start);
    match reply.status {
        206 => {
            let (start, whole) = content_range(&reply).unwrap_or((u64::MAX, None));
            if let Some(found) = whole.filter(|whole| *whole != blob.size) {
                return wrong_size(found);
            }
            if start != range.start {
                let source = "it is not the part that was asked for".into();
                let asked = format!("a part of blob `{}`", blob.digest);
                return Err(Error::Answer { remote: remote.to_owned(), what: asked, source });
            }
            Ok(Box::new(reply.into_reader().take(length)))
        }
        200 => {
            if let Some(found) = reply.length().filter(|found| *found != blob.size) {
                return wrong_size(found);
            }
            let mut reader = reply.into_reader();
            let skipped = io::copy(&mut (&mut reader).take(range.start), &mut io::sink());
            skipped.map_err(|source| Error::Broken { what: what(), source })?;
            Ok(Box::new(reader.take(length)))
        }
        // The blob is shorter than it should be.
        416 => wrong_size(content_range(&reply).and_then(|(_, whole)| whole).unwrap_or(0)),
        404 | 410 => Err(Error::Missing { what: what() }),
        _ => Err(refused(remote, &format!("GET {}", blob.digest), reply)),
    }
}

/// First byte and whole size of `Content-Range: bytes 100-199/200` or `bytes */200`.
fn content_range(reply: &Reply) -> Option<(u64, Option<u64>)> {
    let (range, whole) = reply.header("content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    let start = range.split_once('-').and_then(|(start, _)| start.trim().parse().ok()).unwrap_or(u64::MAX);
    Some((start, whole.trim().parse().ok()))
}

/// The error for a status that does not fit, with what the server says about it.
pub(crate) fn refused(remote: &str, what: &str, reply: Reply) -> Error {
    let status = reply.status;
    let text = reply.read(limit::COMPLAINT_BYTES).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // Pages for browsers say nothing that a terminal should show.
    let plain = if text.trim_start().starts_with("<!") || text.contains("<html") { "" } else { &text };
    let said: String = plain.chars().filter(|c| !c.is_control()).take(limit::SHOWN_CHARS).collect();
    let (remote, what) = (remote.to_owned(), what.to_owned());
    if matches!(status, 401 | 403) {
        return Error::Denied { remote, what, said };
    }
    Error::Status { remote, what, status, said }
}
