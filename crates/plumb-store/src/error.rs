//! What can go wrong in a store.

use std::io;
use std::path::{Path, PathBuf};

use plumb_model::{AppName, ChannelName, Digest};

use crate::Holder;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused a write.
    #[error("cannot write {what} to `{}`", path.display())]
    Write {
        /// What was being written.
        what: String,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file system refused a read.
    #[error("cannot read {what} from `{}`", path.display())]
    Read {
        /// What was being read.
        what: String,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The reader that should become an object failed.
    #[error("cannot read the bytes that should become an object")]
    Source {
        /// What the reader said.
        source: io::Error,
    },
    /// The store was written by another version of Plumb.
    #[error("`{}` says store format `{found}`, this version of Plumb knows formats `1` and `2`", path.display())]
    UnknownFormat {
        /// The `format` file.
        path: PathBuf,
        /// What it holds.
        found: String,
    },
    /// The object is not in the store.
    #[error("object `{digest}` is not in the store")]
    Missing {
        /// The object.
        digest: Digest,
    },
    /// An object's bytes do not have its digest any more.
    #[error("object `{digest}` is damaged: its bytes are `{found}`; its file is `{}` now", moved_to.display())]
    Damaged {
        /// The object.
        digest: Digest,
        /// The digest of the bytes that were found.
        found: Digest,
        /// Where the bytes are now.
        moved_to: PathBuf,
    },
    /// The folded form of an object does not make it.
    #[error("the folded object `{digest}` is damaged: {reason}; its file is `{}` now", moved_to.display())]
    DamagedFold {
        /// The object.
        digest: Digest,
        /// What is wrong.
        reason: String,
        /// Where the folded file is now.
        moved_to: PathBuf,
    },
    /// An object does not come back from the form it would be folded to: the pieces named for it are not in it.
    #[error("object `{digest}` cannot be folded: it is not made of the pieces that were named")]
    Unfoldable {
        /// The object.
        digest: Digest,
    },
    /// An object is larger than the reader allows.
    #[error("object `{digest}` has {size} bytes, more than the {limit} allowed here")]
    TooLarge {
        /// The object.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// New bytes do not have the digest that they should have. They were not kept.
    #[error("expected bytes with digest `{expected}`, found `{found}`")]
    WrongDigest {
        /// What was expected.
        expected: Digest,
        /// What was found.
        found: Digest,
    },
    /// A kind, key or lock name with characters that are not allowed.
    #[error("`{value}` is not a valid {what}: 1 to 128 of a-z, 0-9, `-`, `.` and `_`, not starting with `.`")]
    BadName {
        /// What kind of name.
        what: &'static str,
        /// What was given.
        value: String,
    },
    /// The number is taken; releases are immutable.
    #[error("release `{app}@{number}` exists already")]
    ReleaseExists {
        /// The application.
        app: AppName,
        /// The number.
        number: u64,
    },
    /// There is no such release.
    #[error("there is no release `{app}@{number}`")]
    ReleaseMissing {
        /// The application.
        app: AppName,
        /// The number.
        number: u64,
    },
    /// Somebody else promoted at the same time.
    #[error("channel `{channel}` of `{app}` was moved by somebody else meanwhile")]
    ChannelMoved {
        /// The application.
        app: AppName,
        /// The channel.
        channel: ChannelName,
    },
    /// There is another root of trust of this version.
    #[error("the trust of `{app}` has another version {version} already")]
    TrustMoved {
        /// The application.
        app: AppName,
        /// The version.
        version: u64,
    },
    /// Somebody else holds the lock.
    #[error("{name} is in use by {holder}")]
    Busy {
        /// The lock.
        name: String,
        /// Who has it.
        holder: Holder,
    },
}

impl Error {
    pub(crate) fn write(what: impl Into<String>, path: &Path, source: io::Error) -> Error {
        Error::Write { what: what.into(), path: path.to_owned(), source }
    }

    pub(crate) fn read(what: impl Into<String>, path: &Path, source: io::Error) -> Error {
        Error::Read { what: what.into(), path: path.to_owned(), source }
    }

    /// Did bytes not have their digest?
    #[must_use]
    pub fn is_verification(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::DamagedFold { .. } | Error::WrongDigest { .. })
    }

    /// What the user can do about it, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Write { path, source, .. } | Error::Read { path, source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some(format!("Free space on the file system of `{}`.", path.display()))
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Some(format!(
                    "Make `{}` writable for your user, or set `PLUMB_HOME` to a directory of yours.",
                    path.display()
                )),
                _ => None,
            },
            Error::UnknownFormat { .. } => Some(
                "Use the version of Plumb that wrote this store, or set `PLUMB_HOME` to another directory."
                    .into(),
            ),
            Error::ChannelMoved { app, .. } => {
                Some(format!("`plumb channel {app}` shows where it points to now"))
            }
            Error::TrustMoved { app, .. } => Some(format!("`plumb trust {app}` shows who is trusted now")),
            Error::Busy { .. } => Some("Wait until it has ended, then run the command again.".into()),
            _ => None,
        }
    }
}
