//! What can go wrong between two stores.

use std::path::PathBuf;

use plumb_model::release::ReleaseName;
use plumb_model::{AppName, Digest, RemoteName};

/// Why a release did not travel. Every variant names the object.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The remote failed, or is not what it should be.
    #[error(transparent)]
    Remote(#[from] plumb_remote::Error),
    /// Neither a release nor an application.
    #[error("`{value}` is neither a release such as `shop@3` nor an application such as `shop`")]
    NotARelease {
        /// As given.
        value: String,
    },
    /// No remote of this name.
    #[error("there is no remote `{name}`")]
    NoRemote {
        /// As given.
        name: String,
        /// Those that exist.
        known: Vec<String>,
    },
    /// Nothing says which remote is meant.
    #[error("no remote was named for `{app}`")]
    WhichRemote {
        /// The application.
        app: AppName,
        /// Those that exist.
        known: Vec<String>,
    },
    /// The name leads elsewhere.
    #[error("remote `{name}` is `{address}` already")]
    RemoteTaken {
        /// The name.
        name: RemoteName,
        /// Where it leads.
        address: String,
    },
    /// Two releases of one number.
    #[error("there are two releases `{release}`: the one here, and another on `{remote}` ({there})")]
    Differs {
        /// The release.
        release: ReleaseName,
        /// The remote.
        remote: String,
        /// The digest of the other one.
        there: Digest,
    },
    /// Some of many files did not come.
    #[error("{count} files did not come")]
    Several {
        /// How many.
        count: usize,
        /// What the first one said.
        #[source]
        first: Box<crate::OpsError>,
    },
    /// The index was replaced again and again.
    #[error("`{remote}` changed each time before the release could be announced")]
    Contended {
        /// The remote.
        remote: String,
    },
    /// A document of a remote that is not understood.
    #[error("`{name}` is not what it should be")]
    Foreign {
        /// Which.
        name: String,
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The remote does not have it.
    #[error("`{remote}` has no {}", number.map_or_else(|| format!("release of `{app}`"), |number| format!("`{app}@{number}`")))]
    NotThere {
        /// The application.
        app: AppName,
        /// The number, if one was asked for.
        number: Option<u64>,
        /// The remote.
        remote: String,
        /// Numbers it has.
        known: Vec<u64>,
    },
    /// A release here that lost something.
    #[error("`{release}` is not whole in the store: {part} ({digest}) is missing or short")]
    NotWhole {
        /// The release.
        release: ReleaseName,
        /// What of it.
        part: String,
        /// The object.
        digest: Digest,
    },
    /// A bundle that is damaged or does not fit.
    #[error("blob `{blob}` of `{remote}` does not give what it should")]
    Bundle {
        /// The bundle.
        blob: Digest,
        /// The remote.
        remote: String,
        /// What is wrong.
        source: plumb_delta::Error,
    },
    /// The bundles of a release do not hold all of it.
    #[error("what `{remote}` has of `{release}` lacks {part} ({digest})")]
    Lacking {
        /// The release.
        release: ReleaseName,
        /// The remote.
        remote: String,
        /// What is missing.
        part: String,
        /// Its digest.
        digest: Digest,
    },
    /// No chain of bundles leads to the release.
    #[error("nothing that `{remote}` has leads to `{release}`")]
    NoWay {
        /// The release.
        release: ReleaseName,
        /// The remote.
        remote: String,
    },
    /// The disk is too small.
    #[error("`{}` has room for {free} bytes, and {needed} are needed", path.display())]
    NoSpace {
        /// The store.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The remote has no packages of a release.
    #[error("`{remote}` has `{release}` without its packages")]
    NoSupplies {
        /// The release.
        release: ReleaseName,
        /// The remote.
        remote: String,
    },
    /// A package is not here.
    #[error("`{file}`, which `{release}` was built from, is not in the store")]
    NoSupply {
        /// The release.
        release: ReleaseName,
        /// The file.
        file: String,
    },
    /// No bundle could be made.
    #[error("`{release}` cannot be packed")]
    Packing {
        /// The release.
        release: ReleaseName,
        /// Why.
        source: plumb_delta::CreateError,
    },
    /// No threads.
    #[error("cannot start threads for transfers")]
    Threads {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl TransferError {
    /// Bytes or documents that came, or were to be sent, are not what they should be.
    #[must_use]
    pub fn is_verification(&self) -> bool {
        match self {
            TransferError::Remote(error) => error.is_verification(),
            TransferError::Bundle { source, .. } => !matches!(
                source,
                plumb_delta::Error::ReadDelta { .. }
                    | plumb_delta::Error::ReadObject { .. }
                    | plumb_delta::Error::Write { .. }
            ),
            TransferError::Foreign { .. }
            | TransferError::Lacking { .. }
            | TransferError::NoWay { .. }
            | TransferError::NotWhole { .. } => true,
            _ => false,
        }
    }

    /// What helps, if there is something.
    pub(crate) fn hint(&self) -> Option<String> {
        let list =
            |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Some(match self {
            TransferError::Remote(error) => return error.hint(),
            TransferError::NoRemote { known, .. } if !known.is_empty() => format!("there is {}", list(known)),
            TransferError::WhichRemote { app, known } if !known.is_empty() => {
                format!("name one: `plumb push {app} {}`", known.first().map_or("", String::as_str))
            }
            TransferError::NoRemote { .. } | TransferError::WhichRemote { .. } => {
                "`plumb remote add origin ADDRESS` names one; ADDRESS is a folder, or begins with `https://`, `s3://` or \
                 `oci://`"
                    .to_owned()
            }
            TransferError::RemoteTaken { name, .. } => {
                format!("take another name, or forget this one first: `plumb remote remove {name}`")
            }
            TransferError::Differs { release, .. } => format!(
                "two people made `{release}`: pull what is there into a home of its own (`--home`), and release again on \
                 top of it"
            ),
            TransferError::NotThere { app, known, .. } if known.is_empty() => {
                format!("`plumb push {app}` sends one")
            }
            TransferError::NotThere { app, known, .. } => {
                let numbers = known.iter().rev().take(5).map(|number| format!("{app}@{number}"));
                format!("it has {}", list(&numbers.collect::<Vec<_>>()))
            }
            TransferError::NotWhole { release, .. } => {
                format!("`plumb pull {release}` brings back what is missing, from a remote that has it")
            }
            TransferError::Bundle { .. } | TransferError::Lacking { .. } | TransferError::NoWay { .. } => {
                "nothing of it was kept as a release; tell whoever runs this remote, or take another".to_owned()
            }
            TransferError::NoSupplies { release, .. } => {
                format!("`plumb push {release} --with-packages`, where it was built, sends them")
            }
            TransferError::NoSupply { release, .. } => {
                format!("`plumb verify --rebuild {release}` fetches what its archive still has; or push without `--with-packages`")
            }
            TransferError::NoSpace { .. } => "free space there, or set `PLUMB_HOME` to another disk".to_owned(),
            TransferError::Contended { .. } => "run the command again".to_owned(),
            _ => return None,
        })
    }
}
