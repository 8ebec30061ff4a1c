//! What can go wrong between here and a remote.

use std::io;
use std::path::PathBuf;

use plumb_model::Digest;

/// Why a remote did not do what was asked. Every variant names the thing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that is no address of a remote.
    #[error("`{address}` is not the address of a remote: {reason}")]
    BadAddress {
        /// As given, without a password.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name that could leave its place.
    #[error("`{name}` cannot be the name of a document")]
    BadName {
        /// As given.
        name: String,
    },
    /// It can only be read.
    #[error("`{remote}` is a web server and can only be read")]
    ReadOnly {
        /// The remote.
        remote: String,
    },
    /// Nothing says that it is a remote.
    #[error("`{remote}` is not a remote: it has no `plumb.json`")]
    NotARemote {
        /// The remote.
        remote: String,
    },
    /// A remote of another version of Plumb.
    #[error("`{remote}` says `{found}`; this version of Plumb knows remotes of format 1")]
    Format {
        /// The remote.
        remote: String,
        /// What it says.
        found: String,
    },
    /// What is written once is there with other bytes.
    #[error("`{name}` of `{remote}` is there already with other bytes")]
    Taken {
        /// The document.
        name: String,
        /// The remote.
        remote: String,
    },
    /// A file or folder of a remote that is a directory.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What should be sent cannot be read.
    #[error("cannot read blob `{blob}`, which should be sent")]
    Source {
        /// The blob.
        blob: Digest,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke while something came.
    #[error("{what} broke off")]
    Broken {
        /// What came.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Fewer bytes came than there are.
    #[error("{what} was cut off: expected {expected} bytes, found {found}")]
    Cut {
        /// What came.
        what: String,
        /// Bytes expected.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The connection, the server or a proxy.
    #[error(transparent)]
    Http(#[from] plumb_fetch::Error),
    /// The server answered with a status that does not fit.
    #[error("`{remote}` answered with status {status} to {what}{}", told(.said))]
    Status {
        /// The remote.
        remote: String,
        /// What was asked.
        what: String,
        /// HTTP status code (RFC 9110, section 15).
        status: u16,
        /// What it said about it.
        said: String,
    },
    /// The server wants to know who asks, or does not allow it.
    #[error("`{remote}` does not allow {what}{}", told(.said))]
    Denied {
        /// The remote.
        remote: String,
        /// What was asked.
        what: String,
        /// What it said about it.
        said: String,
    },
    /// Something that was promised is not there.
    #[error("{what} is not there")]
    Missing {
        /// What.
        what: String,
    },
    /// Larger than such a thing may be.
    #[error("{what} has more than the {limit} bytes allowed here")]
    TooLarge {
        /// What.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// Another size than promised.
    #[error("{what} has the wrong size: expected {expected} bytes, found {found}")]
    WrongSize {
        /// What.
        what: String,
        /// Bytes expected.
        expected: u64,
        /// Bytes found.
        found: u64,
    },
    /// Other bytes than promised.
    #[error("{what} has the wrong digest: expected `{expected}`, found `{found}`")]
    WrongDigest {
        /// What.
        what: String,
        /// The digest that was promised.
        expected: Digest,
        /// That of the bytes that came.
        found: Digest,
    },
    /// An answer that makes no sense.
    #[error("what `{remote}` answered to {what} is not understood")]
    Answer {
        /// The remote.
        remote: String,
        /// What was asked.
        what: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

fn told(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

impl Error {
    /// Whether another try may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Broken { .. } | Error::Cut { .. } => true,
            Error::Http(error) => error.is_transient(),
            // 408 request timeout, 429 too many requests.
            Error::Status { status, .. } => *status >= 500 || [408, 429].contains(status),
            _ => false,
        }
    }

    /// Bytes, sizes or documents of the remote are not what they should be.
    #[must_use]
    pub fn is_verification(&self) -> bool {
        match self {
            Error::TooLarge { .. }
            | Error::WrongSize { .. }
            | Error::WrongDigest { .. }
            | Error::Missing { .. }
            | Error::BadName { .. }
            | Error::Taken { .. } => true,
            Error::Http(plumb_fetch::Error::TooLarge { .. }) => true,
            Error::Http(error) => error.is_verification(),
            _ => false,
        }
    }

    /// What helps, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::BadAddress { .. } => {
                "write a folder (`/srv/releases`), `https://host/path`, `s3://bucket/prefix` or `oci://host/repository`"
                    .to_owned()
            }
            Error::ReadOnly { .. } => "push to the folder that the web server serves".to_owned(),
            Error::NotARemote { .. } => "`plumb push` makes an empty place a remote".to_owned(),
            Error::Format { .. } => "use the version of Plumb that wrote it, or another place".to_owned(),
            Error::Broken { .. } | Error::Cut { .. } | Error::Status { status: 500.., .. } => {
                "run the command again: it goes on where it stopped".to_owned()
            }
            Error::Denied { .. } => {
                "for s3: check `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_PROFILE`; for oci: `skopeo login` \
                 or `docker login`"
                    .to_owned()
            }
            Error::Http(error) => return error.hint(),
            _ => return None,
        })
    }
}
