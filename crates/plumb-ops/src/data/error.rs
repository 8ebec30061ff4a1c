//! What can go wrong with data.

use plumb_model::release::ReleaseName;
use plumb_model::{DeploymentName, SnapshotName};

/// Why something about volumes and snapshots failed.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The data could not be copied.
    #[error("snapshot `{snapshot}` cannot be made")]
    NotCopied {
        /// The snapshot.
        snapshot: SnapshotName,
        /// Why.
        #[source]
        source: plumb_target::TargetError,
    },
    /// No snapshot has the data of the release.
    #[error("no snapshot of `{deployment}` has the data of `{release}`")]
    NoData {
        /// Deployment.
        deployment: DeploymentName,
        /// The release.
        release: ReleaseName,
    },
    /// There is nothing to copy.
    #[error("`{deployment}` has no volumes")]
    NoVolumes {
        /// Deployment.
        deployment: DeploymentName,
    },
    /// There is nothing to carry elsewhere.
    #[error("`{deployment}` has no snapshots")]
    NoSnapshots {
        /// Deployment.
        deployment: DeploymentName,
    },
    /// Data would be written over.
    #[error("`{deployment}` has data in {} already", volumes.join(", "))]
    DataThere {
        /// Deployment.
        deployment: DeploymentName,
        /// `db-1/data`.
        volumes: Vec<String>,
    },
    /// Data would be destroyed that was not named.
    #[error("{what} is destroyed for good, and nobody said `{wanted}`")]
    NotConfirmed {
        /// What.
        what: String,
        /// What has to be said.
        wanted: String,
    },
    /// A name that plans give.
    #[error("`{name}` is a name that plans give to snapshots by themselves")]
    PlanName {
        /// The name.
        name: SnapshotName,
    },
    /// Its data cannot be replaced now.
    #[error("instances of `{deployment}` run, but no release of it ever became healthy")]
    StillRuns {
        /// Deployment.
        deployment: DeploymentName,
    },
}
