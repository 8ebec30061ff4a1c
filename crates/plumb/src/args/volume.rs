//! Data: volumes and snapshots.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use plumb_model::{DeploymentName, SnapshotName};
use plumb_ops::InstanceVolume;

/// `plumb volume`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb volume ls shop\n  plumb volume snapshot shop before-the-fair\n  plumb volume snapshots shop\n  plumb volume restore shop before-the-fair --dry-run\n  plumb volume export shop shop.snapshot\n  plumb volume import shop-test shop.snapshot"
)]
pub struct Volume {
    /// What to do
    #[command(subcommand)]
    pub action: VolumeAction,
}

/// `db-1/data`: a volume of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePath(pub InstanceVolume);

impl FromStr for VolumePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a volume; write INSTANCE/VOLUME, for example db-1/data");
        let (instance, volume) = text.split_once('/').ok_or_else(wrong)?;
        let (instance, volume) =
            (instance.parse().map_err(|_| wrong())?, volume.parse().map_err(|_| wrong())?);
        Ok(VolumePath(InstanceVolume { instance, volume }))
    }
}

/// What `plumb volume` does.
#[derive(Debug, Subcommand)]
pub enum VolumeAction {
    /// List volumes: size, space, who has them
    Ls {
        /// Only of this deployment
        deployment: Option<DeploymentName>,
    },
    /// Copy all volumes of a deployment as of one moment
    Snapshot {
        /// The deployment
        deployment: DeploymentName,
        /// Name of the snapshot, which stays until this name is said [default: the plan's number, kept by policy]
        name: Option<SnapshotName>,
        /// Stop the instances for the copy instead of freezing their file systems
        #[arg(long)]
        stop: bool,
        /// Print the plan, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List the snapshots of a deployment
    Snapshots {
        /// The deployment
        deployment: DeploymentName,
    },
    /// Put the data of a snapshot in the place of what a deployment has; what is there is copied first
    Restore {
        /// The deployment
        deployment: DeploymentName,
        /// The snapshot
        snapshot: SnapshotName,
        /// Only this volume [default: all that the snapshot has]
        #[arg(long = "volume", value_name = "INSTANCE/VOLUME")]
        volumes: Vec<VolumePath>,
        /// Print the plan, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Write a snapshot to a file; `tar --zstd -x` unpacks it anywhere
    Export {
        /// The deployment
        deployment: DeploymentName,
        /// The file, which must not be there
        file: PathBuf,
        /// The snapshot [default: the newest]
        #[arg(long, value_name = "NAME")]
        snapshot: Option<SnapshotName>,
    },
    /// Take data from a file that `export` wrote, here or elsewhere
    Import {
        /// The deployment; it need not be there yet
        deployment: DeploymentName,
        /// The file
        file: PathBuf,
        /// What the snapshot is called here
        #[arg(long, value_name = "NAME", default_value = "imported")]
        name: SnapshotName,
        /// This volume's data may be replaced; it is copied first
        #[arg(long = "replace", value_name = "INSTANCE/VOLUME")]
        replace: Vec<VolumePath>,
    },
    /// Destroy a volume, or a snapshot, for good
    Rm {
        /// The deployment
        deployment: DeploymentName,
        /// The volume
        #[arg(
            value_name = "INSTANCE/VOLUME",
            required_unless_present = "snapshot",
            conflicts_with = "snapshot"
        )]
        volume: Option<VolumePath>,
        /// A snapshot instead
        #[arg(long, value_name = "NAME")]
        snapshot: Option<SnapshotName>,
        /// The same name again, where no terminal asks for it
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
}
