//! A remote in an object store with Amazon's S3 protocol, below a prefix of a bucket.
//!
//! Requests are signed in their query (signature version 4), so a URL is a secret for an hour: messages name keys. Documents
//! are replaced by conditional requests (`If-Match`, `If-None-Match`). Large blobs are sent in parts side by side; the
//! upload's id is remembered, so that a push goes on with the parts that are missing.

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plumb_fetch::{Call, Client, Reply, Verb, parallel};
use plumb_model::Digest;
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload, ListParts};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

use crate::web::{ranged, refused};
use crate::{
    Blob, Environment, Error, Expected, Name, Options, Patience, Remote, Result, Upload, Version, Written,
    limit, retried,
};

/// How long a signed URL can be used: longer than one request takes on a slow line.
const VALID: Duration = Duration::from_secs(60 * 60);

/// Where Amazon's own store is, if nothing else is said.
const REGION: &str = "us-east-1";

/// Bytes of one part. Amazon's least is 5 MiB.
const PART_BYTES: u64 = 8 * 1024 * 1024;

/// Most parts: Amazon's limit is 10,000.
const PARTS: u64 = 9_000;

/// Largest answer that is XML: a page of a list of 1,000 parts has 0.3 MB.
const XML_BYTES: u64 = 4 * 1024 * 1024;

/// Pages of a list of parts: 1,000 parts each.
const PAGES: usize = 16;

pub(crate) struct S3 {
    bucket: Bucket,
    credentials: Option<Credentials>,
    prefix: String,
    shown: String,
    client: Client,
    patience: Patience,
}

/// Bucket, prefix without `/` at its ends, and the server if it is not Amazon's.
#[derive(Clone, Copy)]
pub(crate) struct Location<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) endpoint: Option<&'a str>,
}

impl S3 {
    pub(crate) fn new(shown: &str, location: Location<'_>, options: &Options) -> Result<S3> {
        let environment = &options.environment;
        let bad = |reason| Error::BadAddress { address: shown.to_owned(), reason };
        let profile = environment.profile.as_deref().unwrap_or("default");
        let config = profile_values(environment.config_file.as_deref(), &["profile ", ""], profile);
        let region = environment.region.clone().or_else(|| config.get("region").cloned());
        let region = region.unwrap_or_else(|| REGION.to_owned());
        let endpoint = location.endpoint.map(str::to_owned).or_else(|| environment.endpoint.clone());
        // Other servers are reached by address, where a bucket has no host name of its own.
        let (endpoint, style) = match endpoint {
            Some(endpoint) => (endpoint, UrlStyle::Path),
            None => (format!("https://s3.{region}.amazonaws.com"), UrlStyle::VirtualHost),
        };
        let url = endpoint.parse().map_err(|_| bad("its endpoint is not a URL"))?;
        let bucket = Bucket::new(url, style, location.bucket.to_owned(), region)
            .map_err(|_| bad("its endpoint is not a URL with a host"))?;
        Ok(S3 {
            bucket,
            credentials: credentials(environment, profile),
            prefix: location.prefix.to_owned(),
            shown: shown.to_owned(),
            client: Client::new(&options.proxies, limit::CONNECTIONS),
            patience: options.patience,
        })
    }

    fn key(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    fn blob_key(&self, digest: &Digest) -> String {
        self.key(&crate::name::blob_path(digest))
    }

    fn call(&self, verb: Verb, url: &str, headers: &[(&'static str, String)], body: &[u8]) -> Result<Reply> {
        Ok(self.client.call(&Call { verb, url, headers: headers.to_vec(), body })?)
    }

    fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    fn failed(&self, what: &str, reply: Reply) -> Error {
        match refused(&self.shown, what, reply) {
            Error::Status { remote, what, status, said } => {
                Error::Status { remote, what, status, said: complaint(said) }
            }
            Error::Denied { remote, what, said } => Error::Denied { remote, what, said: complaint(said) },
            other => other,
        }
    }

    fn not_understood(
        &self,
        what: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Answer { remote: self.shown.clone(), what: what.to_owned(), source: source.into() }
    }

    /// One try of writing a document; the status of the answer.
    fn put_document(&self, key: &str, bytes: &[u8], expected: &Expected) -> Result<u16> {
        let (name, value) = match expected {
            Expected::Absent => ("if-none-match", "*".to_owned()),
            Expected::Is(version) => ("if-match", version.0.clone()),
        };
        let mut action = self.bucket.put_object(self.credentials(), key);
        action.headers_mut().insert(name, value.clone());
        let url = action.sign(VALID);
        let reply = self.call(Verb::Put, url.as_str(), &[(name, value)], bytes)?;
        match (reply.status, expected) {
            (status @ (200 | 412), _) => Ok(status),
            // Somebody else is writing it, or has removed it.
            (409, _) | (404, Expected::Is(_)) => Ok(412),
            _ => Err(self.failed(&format!("PUT {key}"), reply)),
        }
    }

    fn put_blob(&self, upload: &Upload<'_>) -> Result<()> {
        let key = self.blob_key(&upload.blob.digest);
        let bytes = upload.part(&(0..upload.blob.size))?;
        retried(&self.patience, &mut || {
            let checksum = STANDARD.encode(upload.blob.digest.as_bytes());
            let mut action = self.bucket.put_object(self.credentials(), &key);
            action.headers_mut().insert("x-amz-checksum-sha256", checksum.clone());
            let url = action.sign(VALID);
            let headers = [("x-amz-checksum-sha256", checksum)];
            let reply = self.call(Verb::Put, url.as_str(), &headers, &bytes)?;
            if reply.status == 200 { Ok(()) } else { Err(self.failed(&format!("PUT {key}"), reply)) }
        })?;
        (upload.arrived)(upload.blob.size);
        Ok(())
    }

    /// Sends a blob in parts, going on with an upload that was begun before.
    fn put_parts(&self, upload: &Upload<'_>) -> Result<()> {
        let key = self.blob_key(&upload.blob.digest);
        let (id, known) = match upload.memory.recall(&upload.blob) {
            Some(id) => match self.known_parts(&key, &id)? {
                Some(known) => (id, known),
                None => (self.begin(&key, upload)?, BTreeMap::new()),
            },
            None => (self.begin(&key, upload)?, BTreeMap::new()),
        };
        let step = PART_BYTES.max(upload.blob.size.div_ceil(PARTS));
        let count = usize::try_from(upload.blob.size.div_ceil(step)).unwrap_or(usize::MAX);
        let job = |number: usize| {
            let start = number as u64 * step;
            let range = start..upload.blob.size.min(start + step);
            let length = range.end - range.start;
            let part = u16::try_from(number + 1).unwrap_or(u16::MAX);
            let tag = match known.get(&part) {
                Some((tag, size)) if *size == length => tag.clone(),
                _ => self.put_part(&key, (&id, part), &upload.part(&range)?)?,
            };
            (upload.arrived)(length);
            Ok(tag)
        };
        let done = parallel::each(count, limit::CONNECTIONS, &AtomicBool::new(false), &job);
        let tags: Vec<String> = done.into_iter().map(|(_, tag)| tag).collect::<Result<_>>()?;
        self.complete(&key, &id, &tags, upload)
    }

    fn begin(&self, key: &str, upload: &Upload<'_>) -> Result<String> {
        let what = format!("POST {key}?uploads");
        let text = retried(&self.patience, &mut || {
            let url = self.bucket.create_multipart_upload(self.credentials(), key).sign(VALID);
            let reply = self.call(Verb::Post, url.as_str(), &[], &[])?;
            if reply.status == 200 { Ok(reply.read(XML_BYTES)?) } else { Err(self.failed(&what, reply)) }
        })?;
        let text = String::from_utf8_lossy(&text);
        let answer = CreateMultipartUpload::parse_response(&text)
            .map_err(|error| self.not_understood(&what, error.to_string()))?;
        upload.memory.keep(&upload.blob, answer.upload_id());
        Ok(answer.upload_id().to_owned())
    }

    /// Tag and size of each part that is there; nothing if the upload is not.
    fn known_parts(&self, key: &str, id: &str) -> Result<Option<BTreeMap<u16, (String, u64)>>> {
        let what = format!("GET {key}?uploadId");
        let mut known = BTreeMap::new();
        let mut marker = None;
        for _ in 0..PAGES {
            let text = retried(&self.patience, &mut || {
                let mut action = self.bucket.list_parts(self.credentials(), key, id);
                if let Some(marker) = marker {
                    action.set_part_number_marker(marker);
                }
                let reply = self.call(Verb::Get, action.sign(VALID).as_str(), &[], &[])?;
                match reply.status {
                    200 => Ok(Some(reply.read(XML_BYTES)?)),
                    404 => Ok(None),
                    _ => Err(self.failed(&what, reply)),
                }
            })?;
            let Some(text) = text else { return Ok(None) };
            // Some servers name the answer after the action. What is not understood is no reason to stop: the upload is
            // begun anew.
            let text = String::from_utf8_lossy(&text).replace("ListPartsResponse", "ListPartsResult");
            let Ok(page) = ListParts::parse_response(&text) else { return Ok(None) };
            for part in &page.parts {
                known.insert(part.number, (part.etag.clone(), part.size));
            }
            marker = page.next_part_number_marker;
            if marker.is_none() {
                break;
            }
        }
        Ok(Some(known))
    }

    fn put_part(&self, key: &str, (id, number): (&str, u16), bytes: &[u8]) -> Result<String> {
        let what = format!("PUT {key}?partNumber={number}");
        retried(&self.patience, &mut || {
            let url = self.bucket.upload_part(self.credentials(), key, number, id).sign(VALID);
            let reply = self.call(Verb::Put, url.as_str(), &[], bytes)?;
            match (reply.status, reply.header("etag")) {
                (200, Some(tag)) => Ok(tag.to_owned()),
                (200, None) => Err(self.not_understood(&what, "it has no ETag")),
                _ => Err(self.failed(&what, reply)),
            }
        })
    }

    fn complete(&self, key: &str, id: &str, tags: &[String], upload: &Upload<'_>) -> Result<()> {
        let what = format!("POST {key}?uploadId");
        let done = retried(&self.patience, &mut || {
            let tags = tags.iter().map(String::as_str);
            let action = self.bucket.complete_multipart_upload(self.credentials(), key, id, tags);
            let url = action.sign(VALID);
            let reply = self.call(Verb::Post, url.as_str(), &[], action.body().as_bytes())?;
            match reply.status {
                200 => Ok(Some(reply.read(XML_BYTES)?)),
                404 => Ok(None),
                _ => Err(self.failed(&what, reply)),
            }
        })?;
        match done {
            // Amazon says 200 before it knows; what comes behind tells (API reference, CompleteMultipartUpload).
            Some(text) => {
                let text = String::from_utf8_lossy(&text);
                CompleteMultipartUploadResponse::parse(&text)
                    .map_err(|_| self.not_understood(&what, complaint(text.into_owned())))?;
            }
            // The answer to an earlier try was lost.
            None if self.blob_size(&upload.blob.digest)? == Some(upload.blob.size) => {}
            None => {
                upload.memory.forget(&upload.blob);
                return Err(Error::Missing { what: format!("the upload of `{key}`") });
            }
        }
        upload.memory.forget(&upload.blob);
        Ok(())
    }
}

impl Remote for S3 {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn read(&self, name: &Name, limit: u64) -> Result<Option<(Vec<u8>, Version)>> {
        let key = self.key(name.as_str());
        retried(&self.patience, &mut || {
            let url = self.bucket.get_object(self.credentials(), &key).sign(VALID);
            let reply = self.call(Verb::Get, url.as_str(), &[], &[])?;
            match reply.status {
                200 => {
                    let tag = reply.header("etag").map(str::to_owned);
                    let tag =
                        tag.ok_or_else(|| self.not_understood(&format!("GET {key}"), "it has no ETag"))?;
                    Ok(Some((reply.read(limit)?, Version(tag))))
                }
                404 => Ok(None),
                _ => Err(self.failed(&format!("GET {key}"), reply)),
            }
        })
    }

    fn write(&self, name: &Name, bytes: &[u8], expected: &Expected) -> Result<Written> {
        let key = self.key(name.as_str());
        let mut tries = 0;
        let status = retried(&self.patience, &mut || {
            tries += 1;
            self.put_document(&key, bytes, expected)
        })?;
        if status == 200 {
            return Ok(Written::Done);
        }
        // An earlier try may have come through, and only its answer was lost.
        if tries > 1 {
            let found = self.read(name, bytes.len() as u64).ok().flatten();
            if found.is_some_and(|(found, _)| found == bytes) {
                return Ok(Written::Done);
            }
        }
        Ok(Written::Changed)
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let key = self.blob_key(digest);
        retried(&self.patience, &mut || {
            let url = self.bucket.head_object(self.credentials(), &key).sign(VALID);
            let reply = self.call(Verb::Head, url.as_str(), &[], &[])?;
            match reply.status {
                200 => Ok(reply.length()),
                404 => Ok(None),
                _ => Err(self.failed(&format!("HEAD {key}"), reply)),
            }
        })
    }

    fn blob_read(&self, blob: &Blob, range: Range<u64>) -> Result<Box<dyn Read + Send>> {
        let key = self.blob_key(&blob.digest);
        let url = self.bucket.get_object(self.credentials(), &key).sign(VALID);
        let reply = self.client.call(&crate::web::range_call(url.as_str(), &range))?;
        ranged(&self.shown, blob, &range, reply)
    }

    fn blob_write(&self, upload: &Upload<'_>) -> Result<()> {
        if upload.blob.size <= PART_BYTES { self.put_blob(upload) } else { self.put_parts(upload) }
    }
}

/// `NoSuchBucket: The specified bucket does not exist` out of an answer in XML.
fn complaint(text: String) -> String {
    let between = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once('<')?.0.to_owned())
    };
    match (between("Code"), between("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code,
        _ => text,
    }
}

/// From the environment, or from the file that Amazon's tools write.
fn credentials(environment: &Environment, profile: &str) -> Option<Credentials> {
    let token = |token: Option<&str>, key: &str, secret: &str| match token {
        Some(token) => Credentials::new_with_token(key, secret, token),
        None => Credentials::new(key, secret),
    };
    if let (Some(key), Some(secret)) = (&environment.access_key, &environment.secret_key) {
        let session = environment.session_token.as_ref().map(|token| token.reveal());
        return Some(token(session, key, secret.reveal()));
    }
    let values = profile_values(environment.credentials_file.as_deref(), &[""], profile);
    let (key, secret) = (values.get("aws_access_key_id")?, values.get("aws_secret_access_key")?);
    Some(token(values.get("aws_session_token").map(String::as_str), key, secret))
}

/// The settings of a profile in a file of Amazon's tools: `[name]` or `[profile name]`, then `key = value`.
fn profile_values(path: Option<&Path>, before: &[&str], profile: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let text = path.and_then(crate::environment::read_settings).unwrap_or_default();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = before.iter().any(|before| section.trim() == format!("{before}{profile}"));
        } else if let Some((key, value)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) {
            values.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_from_the_environment_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n# x = y\n[other]\n\
                    aws_access_key_id = C\naws_secret_access_key = D\naws_session_token = E\n";
        std::fs::write(&path, text).unwrap();
        let from = |environment: &Environment, profile: &str| {
            let found = credentials(environment, profile)?;
            Some(format!("{} {} {:?}", found.key(), found.secret(), found.token()))
        };
        let mut environment = Environment { credentials_file: Some(path), ..Environment::default() };
        assert_eq!(from(&environment, "default").as_deref(), Some("A B None"));
        assert_eq!(from(&environment, "other").as_deref(), Some("C D Some(\"E\")"));
        assert_eq!(from(&environment, "none"), None);
        environment.access_key = Some("X".into());
        environment.secret_key = Some(crate::Secret::new("kept-to-itself"));
        assert_eq!(from(&environment, "other").as_deref(), Some("X kept-to-itself None"));
        assert!(!format!("{environment:?}").contains("kept-to-itself"), "secrets are not shown");
        assert_eq!(from(&Environment::default(), "default"), None);
    }

    #[test]
    fn complaints_are_short() {
        let text =
            "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>not there</Message></Error>";
        assert_eq!(complaint(text.into()), "NoSuchBucket: not there");
        assert_eq!(complaint("busy".into()), "busy");
    }
}
