//! Container registries (OCI distribution-spec 1.1): manifests and blobs by digest, with anonymous tokens.
//!
//! ```text
//!  GET /v2/NAME/manifests/DIGEST ──401, WWW-Authenticate: Bearer realm=…──► GET realm?service=…&scope=… ─► token
//!  GET /v2/NAME/manifests/DIGEST, Authorization: Bearer … ─► bytes ─ SHA-256 ─► object
//! ```

use std::sync::{Mutex, PoisonError};

use plumb_model::Digest;
use plumb_store::Store;

use crate::transfer::{Session, Size, Wanted};
use crate::{Error, FetchOptions, Progress, Result, limit};

/// One repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// As in a reference: `docker.io`, `127.0.0.1:5000`.
    pub host: String,
    /// `library/nginx`.
    pub name: String,
}

/// What an image consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A manifest or a list of manifests.
    Manifest,
    /// Configuration or layer.
    Blob,
}

/// One thing to bring into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub part: Part,
    /// Its name for messages and progress.
    pub item: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, if it is known.
    pub size: Option<u64>,
}

/// Media types of manifests and lists; without them a registry may convert, and then the digest is another one.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// Brings all `pieces` of a repository into the store that are not there yet.
///
/// # Errors
/// The first piece that fails; [`Error::Offline`] if one is missing and the network is not to be used.
pub fn fetch_pieces(
    store: &Store,
    repository: &Repository,
    pieces: &[Piece],
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<()> {
    let mut missing: Vec<&Piece> = Vec::new();
    for piece in pieces {
        match store.size(&piece.digest)? {
            Some(size) if piece.size.is_none_or(|wanted| wanted == size) => continue,
            Some(_) if !options.offline => drop(store.set_aside(&piece.digest)?),
            _ => {}
        }
        if !missing.iter().any(|other| other.digest == piece.digest) {
            missing.push(piece);
        }
    }
    let Some(first) = missing.first() else { return Ok(()) };
    if options.offline {
        return Err(Error::Offline { what: format!("`{}`", first.item) });
    }
    let session = Session::new(store, options, progress);
    let access = Access { base: registry_base(repository), name: &repository.name, token: Mutex::new(None) };
    let workers = options.connections.clamp(1, limit::CONNECTIONS_MAX);
    session.each(missing.len(), workers, &|number| access.fetch(&session, missing[number]))?;
    Ok(store.sync()?)
}

/// `https://host`. Docker's registry is at another host than its name says. Without encryption only this very host is
/// spoken to: digests keep the bytes right, but not the token secret.
#[must_use]
pub fn registry_base(repository: &Repository) -> String {
    let host = match repository.host.as_str() {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    };
    let name =
        host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let is_here = name == "localhost"
        || name == "[::1]"
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    format!("{}://{host}", if is_here { "http" } else { "https" })
}

struct Access<'a> {
    base: String,
    name: &'a str,
    /// `Bearer …`, once the registry has asked for it.
    token: Mutex<Option<String>>,
}

impl Access<'_> {
    fn fetch(&self, session: &Session<'_>, piece: &Piece) -> Result<()> {
        let (folder, limit_bytes) = match piece.part {
            Part::Manifest => ("manifests", limit::MANIFEST_BYTES),
            Part::Blob => ("blobs", limit::CONTENT_BYTES),
        };
        let url = format!("{}/v2/{}/{folder}/{}", self.base, self.name, piece.digest);
        let size = piece.size.map_or(Size::UpTo(limit_bytes), Size::Exactly);
        let fetch = || {
            let mut headers = Vec::new();
            if piece.part == Part::Manifest {
                headers.push(("accept", MANIFESTS.to_owned()));
            }
            headers.extend(self.token().map(|token| ("authorization", token)));
            session.fetch_object(&Wanted {
                url: &url,
                item: &piece.item,
                digest: piece.digest,
                size,
                headers: &headers,
            })
        };
        match fetch() {
            // A token that has run out is asked for again, too.
            Err(Error::Unauthorized { challenge, .. }) => {
                let token = self.ask(session, &url, &challenge)?;
                *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
                fetch()?;
            }
            other => other?,
        }
        session.progress.finish(&piece.item);
        Ok(())
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for an anonymous token (distribution's token specification).
    fn ask(&self, session: &Session<'_>, url: &str, challenge: &str) -> Result<String> {
        let refused = || Error::Unauthorized { url: url.to_owned(), challenge: challenge.to_owned() };
        let fields = self::challenge(challenge).ok_or_else(refused)?;
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let realm = field("realm").ok_or_else(refused)?;
        // A token is a secret: it comes over the same kind of connection as the registry itself.
        let is_as_open = self.base.starts_with("http://") && realm.starts_with("http://");
        if !(realm.starts_with("https://") || is_as_open) {
            return Err(refused());
        }
        let mut query = format!("scope={}", percent_encoded(&format!("repository:{}:pull", self.name)));
        if let Some(service) = field("service") {
            query.push_str(&format!("&service={}", percent_encoded(service)));
        }
        let address = format!("{realm}{}{query}", if realm.contains('?') { '&' } else { '?' });
        let answer = session.read_small(&address, "token", &[])?;
        let answer: serde_json::Value = serde_json::from_slice(&answer).map_err(|_| refused())?;
        let token = answer["token"].as_str().or_else(|| answer["access_token"].as_str());
        let token = token.filter(|token| token.bytes().all(|b| b.is_ascii_graphic())).ok_or_else(refused)?;
        Ok(format!("Bearer {token}"))
    }
}

/// The parameters of `Bearer realm="…",service="…"` (RFC 9110, section 11.6.1), by lower-case name; `None` for another
/// scheme.
#[must_use]
pub fn challenge(text: &str) -> Option<Vec<(String, String)>> {
    let (scheme, mut rest) = text.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut found = Vec::new();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        found.push((name.trim_matches([' ', ',']).to_ascii_lowercase(), value.to_owned()));
        rest = after;
    }
    Some(found)
}

/// Text for a query (RFC 3986, section 2.1); `/` and `:` stay.
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for (host, expected) in [
            ("docker.io", "https://registry-1.docker.io"),
            ("quay.io", "https://quay.io"),
            ("registry.corp:5000", "https://registry.corp:5000"),
            ("localhost:5000", "http://localhost:5000"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000"),
            ("[::1]:5000", "http://[::1]:5000"),
            ("127.0.0.1.example.org", "https://127.0.0.1.example.org"),
        ] {
            assert_eq!(registry_base(&Repository { host: host.into(), name: "x".into() }), expected);
        }
    }

    #[test]
    fn challenges() {
        let text = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\", scope=\"a:b,c\",error=x";
        let found = challenge(text).unwrap_or_default();
        let shown: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            shown,
            ["realm=https://auth.docker.io/token", "service=registry.docker.io", "scope=a:b,c", "error=x"]
        );
        assert_eq!(challenge("Basic realm=\"x\""), None);
        assert_eq!(percent_encoded("repository:a/b c:pull"), "repository:a/b%20c:pull");
    }
}
