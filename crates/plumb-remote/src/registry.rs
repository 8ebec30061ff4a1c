//! A remote in a container registry (OCI distribution-spec 1.1, image-spec 1.1), as artifacts that other tools list and copy.
//!
//! ```text
//!  blob                 a blob of the repository
//!  document             a manifest of one layer, artifactType application/vnd.plumb.document.v1+json;
//!                       its tag is the document's name with `_` for `/`: apps_shop_metadata_timestamp.json
//!  what `bind` names    a manifest whose layers are the blobs, artifactType application/vnd.plumb.release.v1+json;
//!                       tag shop.4. It keeps the registry's garbage collection away from them
//! ```
//!
//! A registry has no conditional requests. A document is read again before and after it is written, so that the later of two
//! who write at the same time wins and the earlier notices, unless it looked in the moment between. Whoever cannot live with
//! that lets one host push.

use std::io::Read;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use plumb_fetch::{Call, Client, Reply, Repository, Verb, registry_base};
use plumb_model::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::environment::read_settings;
use crate::web::{ranged, refused};
use crate::{
    Blob, Bound, Environment, Error, Expected, Name, Options, Patience, Remote, Result, Secret, Tag, Upload,
    Version, Written, limit, retried,
};

/// Media type of a manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Media type of a configuration that says nothing, and its only content (image-spec, "Guidance for an Empty Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const EMPTY_BYTES: &[u8] = b"{}";

const DOCUMENT_ARTIFACT: &str = "application/vnd.plumb.document.v1+json";
const RELEASE_ARTIFACT: &str = "application/vnd.plumb.release.v1+json";

/// Name of a layer for tools that write it to a file.
const TITLE: &str = "org.opencontainers.image.title";

/// Largest manifest: registries accept 4 MiB (distribution-spec, "Pushing Manifests").
const MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes sent at once: what is lost at most when the line breaks. Some registries refuse chunks below 5 MiB.
const CHUNK_BYTES: u64 = 8 * 1024 * 1024;

/// Largest answer with a token.
const TOKEN_BYTES: u64 = 1024 * 1024;

pub(crate) struct Registry {
    base: String,
    repository: String,
    shown: String,
    client: Client,
    patience: Patience,
    /// `Basic …` without the word, if somebody logged in.
    login: Option<Secret>,
    /// The `authorization` that the registry wants, once it asked.
    authorization: Mutex<Option<Secret>>,
}

/// What is read of a manifest.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    digest: Digest,
    size: u64,
}

impl Registry {
    pub(crate) fn new(shown: &str, host: &str, repository: &str, options: &Options) -> Registry {
        let place = Repository { host: host.to_owned(), name: repository.to_owned() };
        Registry {
            base: registry_base(&place),
            repository: repository.to_owned(),
            shown: shown.to_owned(),
            client: Client::new(&options.proxies, limit::CONNECTIONS),
            patience: options.patience,
            login: login(&options.environment, host, repository),
            authorization: Mutex::default(),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2/{}/{path}", self.base, self.repository)
    }

    /// Sends a request, and again with a token if the registry asks for one.
    fn call(&self, verb: Verb, url: &str, headers: &[(&'static str, String)], body: &[u8]) -> Result<Reply> {
        let once = || {
            let mut headers = headers.to_vec();
            let known = self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // An upload may lead to another host, which has its own secret in its URL.
            if let Some(known) = known.filter(|_| url.starts_with(&format!("{}/", self.base))) {
                headers.push(("authorization", known.reveal().to_owned()));
            }
            self.client.call(&Call { verb, url, headers, body })
        };
        let reply = once()?;
        let challenge = reply.header("www-authenticate").map(str::to_owned);
        // Only the registry itself is answered: it may have led to another host, whose question is not for this login.
        let is_own = reply.url.starts_with(&format!("{}/", self.base));
        match challenge.filter(|_| reply.status == 401 && is_own) {
            Some(challenge) => {
                let authorization = self.authorize(&challenge)?;
                *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
                Ok(once()?)
            }
            None => Ok(reply),
        }
    }

    /// What to send to a registry that wants to know who asks (distribution's token specification, RFC 7617).
    fn authorize(&self, challenge: &str) -> Result<Secret> {
        let denied = |said: &str| Error::Denied {
            remote: self.shown.clone(),
            what: "access".to_owned(),
            said: said.to_owned(),
        };
        let basic = self.login.as_ref().map(|login| Secret::new(format!("Basic {}", login.reveal())));
        let Some(fields) = plumb_fetch::challenge(challenge) else {
            return basic.ok_or_else(|| denied("it is only for those who log in"));
        };
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let realm = field("realm").ok_or_else(|| denied("it does not say where tokens are"))?;
        // A token is a secret: it comes over the same kind of connection as the registry itself.
        if !(realm.starts_with("https://")
            || self.base.starts_with("http://") && realm.starts_with("http://"))
        {
            return Err(denied("its tokens come over an open line"));
        }
        let scope = plumb_fetch::percent_encoded(&format!("repository:{}:pull,push", self.repository));
        let mut url = format!("{realm}{}scope={scope}", if realm.contains('?') { '&' } else { '?' });
        if let Some(service) = field("service") {
            url.push_str(&format!("&service={}", plumb_fetch::percent_encoded(service)));
        }
        let mut call = Call::new(Verb::Get, &url);
        call.headers.extend(basic.map(|basic| ("authorization", basic.reveal().to_owned())));
        let reply = self.client.call(&call)?;
        if reply.status != 200 {
            return Err(refused(&self.shown, "the request for a token", reply));
        }
        let answer: Value = serde_json::from_slice(&reply.read(TOKEN_BYTES)?)
            .map_err(|error| self.not_understood("the request for a token", error))?;
        let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str());
        let token = token.filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
        Ok(Secret::new(format!("Bearer {}", token.ok_or_else(|| denied("it gave no token"))?)))
    }

    fn not_understood(
        &self,
        what: &str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        Error::Answer { remote: self.shown.clone(), what: what.to_owned(), source: source.into() }
    }

    /// The layers of the manifest with a tag; nothing if there is none.
    fn layers(&self, tag: &Tag) -> Result<Option<Vec<Layer>>> {
        let what = format!("GET manifests/{}", tag.as_str());
        let url = self.url(&format!("manifests/{}", tag.as_str()));
        let bytes = retried(&self.patience, &mut || {
            let reply = self.call(Verb::Get, &url, &[("accept", MANIFEST.to_owned())], &[])?;
            match reply.status {
                200 => Ok(Some(reply.read(MANIFEST_BYTES)?)),
                404 => Ok(None),
                _ => Err(refused(&self.shown, &what, reply)),
            }
        })?;
        let Some(bytes) = bytes else { return Ok(None) };
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|error| self.not_understood(&what, error))?;
        Ok(Some(manifest.layers))
    }

    fn put_manifest(&self, tag: &Tag, artifact: &str, layers: &[Bound]) -> Result<()> {
        self.put_small(EMPTY_BYTES)?;
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| {
                json!({
                    "mediaType": layer.media_type, "digest": layer.blob.digest, "size": layer.blob.size,
                    "annotations": { TITLE: layer.title },
                })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": artifact,
            "config": { "mediaType": EMPTY, "digest": Digest::of(EMPTY_BYTES), "size": EMPTY_BYTES.len() },
            "layers": layers,
        });
        let bytes = manifest.to_string().into_bytes();
        let url = self.url(&format!("manifests/{}", tag.as_str()));
        retried(&self.patience, &mut || {
            let reply = self.call(Verb::Put, &url, &[("content-type", MANIFEST.to_owned())], &bytes)?;
            match reply.status {
                200..=202 => Ok(()),
                _ => Err(refused(&self.shown, &format!("PUT manifests/{}", tag.as_str()), reply)),
            }
        })
    }

    /// Sends a small blob in one request more than its bytes.
    fn put_small(&self, bytes: &[u8]) -> Result<Blob> {
        let blob = Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
        if self.blob_size(&blob.digest)? != Some(blob.size) {
            retried(&self.patience, &mut || self.finish(&self.begin()?, &blob.digest, bytes))?;
        }
        Ok(blob)
    }

    /// Begins an upload and returns where it goes.
    fn begin(&self) -> Result<String> {
        let reply = self.call(Verb::Post, &self.url("blobs/uploads/"), &[], &[])?;
        if reply.status != 202 {
            return Err(refused(&self.shown, "POST blobs/uploads", reply));
        }
        self.location(&reply)
    }

    fn location(&self, reply: &Reply) -> Result<String> {
        let missing = || self.not_understood("an upload", "it does not say where the upload goes on");
        let location = reply.header("location").ok_or_else(missing)?;
        let is_url = location.starts_with("https://")
            || location.starts_with("http://") && self.base.starts_with("http://");
        match location.starts_with('/') {
            true => Ok(format!("{}{location}", self.base)),
            false if is_url => Ok(location.to_owned()),
            false => Err(missing()),
        }
    }

    fn finish(&self, location: &str, digest: &Digest, bytes: &[u8]) -> Result<()> {
        let join = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{join}digest={digest}");
        let headers = [("content-type", "application/octet-stream".to_owned())];
        let reply = self.call(Verb::Put, &url, &headers, bytes)?;
        match reply.status {
            201 | 204 => Ok(()),
            _ => Err(refused(&self.shown, &format!("PUT blobs/uploads ({digest})"), reply)),
        }
    }

    /// Where an upload that was begun earlier goes on, and from which byte; nothing if the registry has forgotten it.
    fn resumed(&self, upload: &Upload<'_>) -> Option<(String, u64)> {
        let location = upload.memory.recall(&upload.blob)?;
        let reply = self.call(Verb::Get, &location, &[], &[]).ok().filter(|reply| reply.status == 204)?;
        let end: u64 = reply.header("range")?.split_once('-')?.1.trim().parse().ok()?;
        // `0-0` is said of nothing, too.
        let offset = if end == 0 { 0 } else { end.checked_add(1)? };
        let location = self.location(&reply).unwrap_or(location);
        (offset <= upload.blob.size).then_some((location, offset))
    }

    fn send(&self, upload: &Upload<'_>, (location, offset): (String, u64)) -> Result<()> {
        let (mut location, mut at) = (location, offset);
        (upload.arrived)(at);
        while at < upload.blob.size {
            let range = at..upload.blob.size.min(at + CHUNK_BYTES);
            let bytes = upload.part(&range)?;
            let headers = [
                ("content-type", "application/octet-stream".to_owned()),
                ("content-range", format!("{}-{}", range.start, range.end - 1)),
            ];
            let reply = self.call(Verb::Patch, &location, &headers, &bytes)?;
            if reply.status != 202 {
                return Err(refused(&self.shown, "PATCH blobs/uploads", reply));
            }
            location = self.location(&reply)?;
            upload.memory.keep(&upload.blob, &location);
            (upload.arrived)(range.end - range.start);
            at = range.end;
        }
        self.finish(&location, &upload.blob.digest, &[])
    }

    /// The document of a tag.
    fn document(&self, name: &Name, limit: u64) -> Result<Option<(Vec<u8>, Version)>> {
        let Some(layers) = self.layers(&name.tag())? else { return Ok(None) };
        let [layer] = layers.as_slice() else {
            return Err(self.not_understood(name.as_str(), "a document has one layer"));
        };
        let blob = Blob { digest: layer.digest, size: layer.size };
        let bytes = crate::read_blob(self, &blob, limit, &self.patience)?;
        Ok(Some((bytes, Version(layer.digest.hex()))))
    }
}

impl Remote for Registry {
    fn shown(&self) -> String {
        self.shown.clone()
    }

    fn read(&self, name: &Name, limit: u64) -> Result<Option<(Vec<u8>, Version)>> {
        self.document(name, limit)
    }

    fn write(&self, name: &Name, bytes: &[u8], expected: &Expected) -> Result<Written> {
        let version = |found: Option<Vec<Layer>>| {
            found.and_then(|layers| layers.first().map(|layer| Version(layer.digest.hex())))
        };
        let found = version(self.layers(&name.tag())?);
        let as_expected = match expected {
            Expected::Absent => found.is_none(),
            Expected::Is(version) => found.as_ref() == Some(version),
        };
        if !as_expected {
            return Ok(Written::Changed);
        }
        let blob = self.put_small(bytes)?;
        let title = name.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        let layer = Bound { blob, media_type: DOCUMENT_ARTIFACT, title };
        self.put_manifest(&name.tag(), DOCUMENT_ARTIFACT, &[layer])?;
        let found = version(self.layers(&name.tag())?);
        Ok(if found == Some(Version(blob.digest.hex())) { Written::Done } else { Written::Changed })
    }

    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>> {
        let url = self.url(&format!("blobs/{digest}"));
        retried(&self.patience, &mut || {
            let reply = self.call(Verb::Head, &url, &[], &[])?;
            match reply.status {
                200 => Ok(reply.length()),
                404 => Ok(None),
                _ => Err(refused(&self.shown, &format!("HEAD blobs/{digest}"), reply)),
            }
        })
    }

    fn blob_read(&self, blob: &Blob, range: Range<u64>) -> Result<Box<dyn Read + Send>> {
        let url = self.url(&format!("blobs/{}", blob.digest));
        let headers = crate::web::range_call(&url, &range).headers;
        ranged(&self.shown, blob, &range, self.call(Verb::Get, &url, &headers, &[])?)
    }

    fn blob_write(&self, upload: &Upload<'_>) -> Result<()> {
        if self.blob_size(&upload.blob.digest)? == Some(upload.blob.size) {
            (upload.arrived)(upload.blob.size);
            return Ok(());
        }
        let outcome = retried(&self.patience, &mut || {
            let place = match self.resumed(upload) {
                Some(place) => place,
                None => {
                    let location = self.begin()?;
                    upload.memory.keep(&upload.blob, &location);
                    (location, 0)
                }
            };
            self.send(upload, place)
        });
        // What was refused for good is begun anew next time; after a break it goes on.
        if outcome.as_ref().err().is_none_or(|error| !error.is_transient()) {
            upload.memory.forget(&upload.blob);
        }
        outcome
    }

    fn bind(&self, tag: &Tag, blobs: &[Bound]) -> Result<()> {
        self.put_manifest(tag, RELEASE_ARTIFACT, blobs)
    }
}

/// The login that skopeo, podman or docker keep for a registry, as `user:password` in Base64. Helpers that keep it elsewhere
/// are not asked.
fn login(environment: &Environment, host: &str, repository: &str) -> Option<Secret> {
    for path in &environment.registry_logins {
        let file: Option<Value> = read_settings(path).and_then(|text| serde_json::from_str(&text).ok());
        let Some(auths) = file.as_ref().and_then(|file| file["auths"].as_object()) else { continue };
        let mut place = format!("{host}/{repository}");
        loop {
            for key in [place.clone(), format!("https://{place}"), format!("https://{place}/v1/")] {
                if let Some(auth) = auths.get(&key).and_then(|entry| entry["auth"].as_str()) {
                    return Some(Secret::new(auth));
                }
            }
            match place.rfind('/') {
                Some(end) => place.truncate(end),
                None => break,
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_those_of_other_tools() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("auth.json");
        let text =
            r#"{"auths":{"h:5000":{"auth":"AAA"},"h:5000/team":{"auth":"BBB"},"https://x":{"auth":"CCC"}}}"#;
        std::fs::write(&path, text).unwrap();
        let environment =
            Environment { registry_logins: vec![folder.path().join("none"), path], ..Environment::default() };
        let found = |host: &str, repository: &str| {
            login(&environment, host, repository).map(|secret| secret.reveal().to_owned())
        };
        assert_eq!(found("h:5000", "other/x").as_deref(), Some("AAA"));
        assert_eq!(found("h:5000", "team/x").as_deref(), Some("BBB"));
        assert_eq!(found("x", "y").as_deref(), Some("CCC"));
        assert_eq!(found("h", "y"), None);
    }
}
