//! Addresses of remotes. They are kept and printed, so they never hold a password.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Where a remote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `/path`, `./path`, `file:///path`.
    Directory(PathBuf),
    /// `http://…`, `https://…`: static files, without a `/` at the end.
    Web(String),
    /// `s3://bucket/prefix?endpoint=https://…`.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without `/` at its ends; may be empty.
        prefix: String,
        /// The server, if it is not Amazon's.
        endpoint: Option<String>,
    },
    /// `oci://host[:port]/repository`.
    Oci {
        /// With its port.
        host: String,
        /// In lower case.
        repository: String,
    },
}

impl Address {
    /// Reads an address; paths are taken from `here`.
    ///
    /// # Errors
    /// [`Error::BadAddress`].
    pub fn parse(text: &str, here: &Path) -> Result<Address> {
        let bad = |reason| Error::BadAddress { address: without_login(text), reason };
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.is_empty() || text.contains('\0') {
                return Err(bad("it is empty"));
            }
            return Ok(Address::Directory(here.join(text)));
        };
        if scheme == "file" {
            return match rest.starts_with('/') {
                true => Ok(Address::Directory(PathBuf::from(rest))),
                false => Err(bad("a `file` URL has three slashes and an absolute path")),
            };
        }
        let (authority, _) = rest.split_once(['/', '?']).unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(bad("it holds a user or a password, which do not belong into an address"));
        }
        if authority.is_empty() {
            return Err(bad("it names no host"));
        }
        if text.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
            // Nobody means one, and it would end a request line.
            return Err(bad("it has spaces"));
        }
        match scheme {
            "s3" => s3(rest).map_err(bad),
            "oci" => oci(rest).map_err(bad),
            "http" | "https" if rest.contains(['?', '#']) => Err(bad("static files have no query")),
            "http" | "https" => Ok(Address::Web(text.trim_end_matches('/').to_owned())),
            _ => Err(bad("this scheme is not known")),
        }
    }

    /// Whether the network is needed to reach it.
    #[must_use]
    pub fn is_far(&self) -> bool {
        !matches!(self, Address::Directory(_))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Directory(path) => write!(f, "{}", path.display()),
            Address::Web(url) => f.write_str(url),
            Address::S3 { bucket, prefix, endpoint } => {
                write!(f, "s3://{bucket}")?;
                if !prefix.is_empty() {
                    write!(f, "/{prefix}")?;
                }
                match endpoint {
                    Some(endpoint) => write!(f, "?endpoint={endpoint}"),
                    None => Ok(()),
                }
            }
            Address::Oci { host, repository } => write!(f, "oci://{host}/{repository}"),
        }
    }
}

fn s3(rest: &str) -> std::result::Result<Address, &'static str> {
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    let prefix = prefix.trim_matches('/');
    // An empty or a dotted word would be another key for some servers.
    let is_word = |word: &str| !word.is_empty() && word != "." && word != "..";
    if !place.bytes().all(plain) || !(prefix.is_empty() || prefix.split('/').all(is_word)) {
        return Err("bucket and prefix are of letters, digits, `-`, `.`, `_` and `/`");
    }
    let endpoint = match query.split_once('=') {
        None if query.is_empty() => None,
        Some(("endpoint", url)) if is_server(url) => Some(url.trim_end_matches('/').to_owned()),
        _ => return Err("its query may only be `endpoint=https://host`, without a user and a password"),
    };
    Ok(Address::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned(), endpoint })
}

fn is_server(url: &str) -> bool {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '?', '#', '&']))
}

/// A repository as registries name them (distribution-spec 1.1, "Pulling manifests").
fn oci(rest: &str) -> std::result::Result<Address, &'static str> {
    let (host, repository) = rest.split_once('/').ok_or("it names no repository")?;
    let repository = repository.trim_end_matches('/');
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    let is_word = |word: &str| {
        let ends = [word.bytes().next(), word.bytes().last()];
        ends.iter().all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
            && word.bytes().all(allowed)
    };
    if !repository.split('/').all(is_word) {
        return Err("a repository is of lower-case letters, digits, `-`, `.`, `_` and `/`");
    }
    Ok(Address::Oci { host: host.to_owned(), repository: repository.to_owned() })
}

/// A text for messages: of every host in it, also of one in its query, what stands before an `@` is left out.
fn without_login(text: &str) -> String {
    let mut parts = text.split("://");
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (authority, rest) = part.split_at(part.find('/').unwrap_or(part.len()));
        shown.push_str("://");
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.push_str(&format!("…@{host}{rest}")),
            None => shown.push_str(part),
        }
    }
    shown
}
