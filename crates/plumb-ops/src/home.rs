//! Where Plumb keeps things on this host.
//!
//! ```text
//!  $PLUMB_HOME (default $XDG_DATA_HOME/plumb, ~/.local/share/plumb)
//!  ├── store/               objects, images, releases (plumb-store)
//!  ├── keys/                signing keys (0700)
//!  ├── state.db             deployments, plans, journal (plumb-state)
//!  ├── state.json, host-id  where a state shared with others is, and who this is among them
//!  ├── run/<deployment>/    what a running deployment needs; gone after `down`
//!  └── volumes/<deployment>/  data, and its snapshots; only `volume rm` and `down --volumes` remove it
//! ```

use std::path::{Path, PathBuf};

use plumb_model::DeploymentName;

/// The folder that holds everything.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// A home at `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Home { root: root.into() }
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The signing keys of this host.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The index of what releases hold: beside them, so that it goes where they go.
    #[must_use]
    pub fn search(&self) -> PathBuf {
        self.store().join("search.db")
    }

    /// The state database.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// Where the state is, if it is not that file.
    #[must_use]
    pub fn state_setting(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// What tells this home from all others that share a state.
    #[must_use]
    pub fn host_id(&self) -> PathBuf {
        self.root.join("host-id")
    }

    /// What was found out about this host's accelerator.
    #[must_use]
    pub fn accelerator(&self) -> PathBuf {
        self.root.join("accelerator.json")
    }

    /// A folder for each deployment that runs, or ran, on this host.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Files of a running deployment.
    #[must_use]
    pub fn run(&self, deployment: &DeploymentName) -> PathBuf {
        self.runs().join(deployment.as_str())
    }

    /// A folder for each deployment that has data on this host.
    #[must_use]
    pub fn all_volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// Volumes of a deployment, and their snapshots.
    #[must_use]
    pub fn volumes(&self, deployment: &DeploymentName) -> PathBuf {
        self.all_volumes().join(deployment.as_str())
    }
}
