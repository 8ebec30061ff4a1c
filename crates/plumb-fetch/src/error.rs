//! What can go wrong between an archive and the store.

use plumb_model::Digest;

/// The reason that another library gives.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why something could not be fetched or believed. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("cannot fetch `{url}`")]
    Connection {
        /// The file.
        url: String,
        /// What broke.
        source: Cause,
    },
    /// The server answered with a status that is no success.
    #[error("cannot fetch `{url}`: the server answered with status {status}")]
    Status {
        /// The file.
        url: String,
        /// HTTP status code (RFC 9110, section 15).
        status: u16,
    },
    /// The server wants to know who asks.
    #[error("`{url}` is only for those who log in")]
    Unauthorized {
        /// The file.
        url: String,
        /// What it asks for (`WWW-Authenticate`).
        challenge: String,
    },
    /// The answer ended too early.
    #[error("`{url}` was cut off: expected {expected} bytes, found {found}")]
    Cut {
        /// The file.
        url: String,
        /// The size in bytes that was signed.
        expected: u64,
        /// The bytes that came.
        found: u64,
    },
    /// The file is not there.
    #[error("`{url}` is not there")]
    Missing {
        /// The file.
        url: String,
    },
    /// Too many redirects.
    #[error("`{url}` was redirected more than {limit} times")]
    RedirectLoop {
        /// The file that was asked for.
        url: String,
        /// The limit.
        limit: usize,
    },
    /// A URL that cannot be used.
    #[error("`{url}` cannot be fetched: {reason}")]
    BadUrl {
        /// The URL.
        url: String,
        /// Why not.
        reason: String,
    },
    /// A proxy that cannot be used.
    #[error("proxy `{proxy}` cannot be used: {reason}")]
    BadProxy {
        /// The proxy, without its password.
        proxy: String,
        /// Why not.
        reason: String,
    },
    /// The server offers a file of another size than the signed one.
    #[error("`{url}` has the wrong size: expected {expected} bytes, found {found}")]
    WrongSize {
        /// The file.
        url: String,
        /// The size in bytes that was signed.
        expected: u64,
        /// The size in bytes that the server has (or at least has).
        found: u64,
    },
    /// The file's bytes are not the signed ones. They were deleted.
    #[error("`{url}` has the wrong digest: expected `{expected}`, found `{found}`")]
    WrongDigest {
        /// The file.
        url: String,
        /// The digest that was signed.
        expected: Digest,
        /// The digest of the bytes that came.
        found: Digest,
    },
    /// The file's bytes are not those that its integrity tells. They were deleted.
    #[error("`{url}` has the wrong content: expected `{expected}`, found `{found}`")]
    WrongIntegrity {
        /// The file.
        url: String,
        /// `sha512-…`, as it is asked for.
        expected: String,
        /// The same of the bytes that came.
        found: String,
    },
    /// The file is larger than any such file may be.
    #[error("`{url}` has more than the {limit} bytes allowed here")]
    TooLarge {
        /// The file.
        url: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A keyring that cannot be read.
    #[error("cannot read the keyring `{name}`")]
    Keyring {
        /// Where it came from.
        name: String,
        /// What is wrong with it.
        source: Cause,
    },
    /// The file is not a clear-signed OpenPGP message.
    #[error("`{url}` is not signed text (OpenPGP, RFC 9580 section 7)")]
    NotSigned {
        /// The file.
        url: String,
        /// What is wrong with it.
        source: Cause,
    },
    /// No signature of the file counts. Nothing in it was believed.
    #[error("`{url}` has no valid signature by a trusted key: {}", reasons.join("; "))]
    BadSignature {
        /// The file.
        url: String,
        /// One reason per signature.
        reasons: Vec<String>,
    },
    /// The signed text is not a release file.
    #[error("`{url}` is signed but cannot be understood")]
    Release {
        /// The file.
        url: String,
        /// What is wrong with it.
        source: plumb_debian::ReleaseError,
    },
    /// The archive says that the file must not be believed any more.
    #[error("`{url}` expired: it was valid until {valid_until}, now it is {now}")]
    Expired {
        /// The file.
        url: String,
        /// The signed end of its validity.
        valid_until: String,
        /// Our clock.
        now: String,
    },
    /// The file comes from the future.
    #[error("`{url}` is not valid yet: it was made at {date}, now it is {now}")]
    NotYetValid {
        /// The file.
        url: String,
        /// The signed date.
        date: String,
        /// Our clock.
        now: String,
    },
    /// The file is older than one that was accepted before.
    #[error("`{url}` was replayed: it was made at {date}, but one made at {accepted} was accepted before")]
    Replayed {
        /// The file.
        url: String,
        /// Its signed date.
        date: String,
        /// The date of the newer one.
        accepted: String,
    },
    /// The file is correctly signed, but it is another one than was asked for.
    #[error("`{url}` is for another archive: expected {field} `{expected}`, found `{found}`")]
    WrongSuite {
        /// The file.
        url: String,
        /// Which field is different: `suite` or `origin`.
        field: &'static str,
        /// What was asked for.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// The archive does not have what is wanted.
    #[error("`{url}` lists no {what} `{wanted}`; it has {offered}")]
    NotOffered {
        /// The file.
        url: String,
        /// `component`, `architecture` or `index`.
        what: &'static str,
        /// What is wanted.
        wanted: String,
        /// What there is.
        offered: String,
    },
    /// An index that cannot be unpacked although its digest is right.
    #[error("cannot unpack `{url}`")]
    Unpack {
        /// The file.
        url: String,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// `--offline`, and something is not in the store.
    #[error("offline, and {what} is not in the store")]
    Offline {
        /// What is missing.
        what: String,
    },
    /// What the store remembers about a source cannot be read.
    #[error("what the store remembers about `{uri}` `{suite}` cannot be understood")]
    Record {
        /// The source.
        uri: String,
        /// Its suite.
        suite: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another transfer failed, and this one was given up because of it.
    #[error("`{url}` was given up because another transfer failed")]
    GivenUp {
        /// The file.
        url: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] plumb_store::Error),
}

impl Error {
    /// Whether another try may help: faults of the connection and of the server, never of the content.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Connection { .. } | Error::Cut { .. } => true,
            // 408 request timeout, 429 too many requests.
            Error::Status { status, .. } => *status >= 500 || [408, 429].contains(status),
            _ => false,
        }
    }

    /// Whether the mirror may have been changing while we read: then its `InRelease` is worth another look.
    pub(crate) fn is_stale_index(&self) -> bool {
        matches!(self, Error::Missing { .. } | Error::WrongDigest { .. } | Error::WrongSize { .. })
    }

    /// A signature, digest, size or date did not hold, as opposed to a network or a disk that failed.
    #[must_use]
    pub fn is_verification(&self) -> bool {
        matches!(
            self,
            Error::WrongSize { .. }
                | Error::WrongDigest { .. }
                | Error::WrongIntegrity { .. }
                | Error::NotSigned { .. }
                | Error::BadSignature { .. }
                | Error::Expired { .. }
                | Error::NotYetValid { .. }
                | Error::Replayed { .. }
                | Error::WrongSuite { .. }
        )
    }

    /// What the user can do about it, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Error::Connection { .. } | Error::Status { status: 500.., .. } => {
                "Check the network, `http_proxy` and `https_proxy`; run the command again to go on where it stopped, \
                 or use `--offline` if everything was fetched before."
            }
            Error::Cut { .. } => "Run the command again: it goes on where it stopped.",
            Error::Expired { .. } => {
                "Check this machine's clock; if it is right, the mirror is out of date: use another."
            }
            Error::NotYetValid { .. } => "Check this machine's clock.",
            Error::Replayed { .. } => {
                "The mirror is behind or somebody replays old files: use another mirror."
            }
            Error::WrongDigest { .. } | Error::WrongIntegrity { .. } | Error::WrongSize { .. } => {
                "The mirror or a proxy on the way has a wrong file: try again later or use another mirror."
            }
            Error::BadSignature { .. } => {
                "If this is a mirror of your own, add its public key; otherwise do not use this mirror."
            }
            Error::Unauthorized { .. } => {
                "Plumb asks registries anonymously. Copy the image to a folder with a tool that is logged in \
                 (`skopeo copy docker://… oci:images/x`) and name it by `layout`."
            }
            Error::Offline { .. } => "Run the command once without `--offline`.",
            Error::Store(error) => return error.hint(),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// A time for people: `2026-11-28 00:53:02 UTC`.
pub(crate) fn date_text(unix_s: i64) -> String {
    match jiff::Timestamp::from_second(unix_s) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{unix_s} seconds after 1970"),
    }
}
