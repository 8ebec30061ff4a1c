//! What owners may have, and have.

use plumb_model::SignerName;
use plumb_plan::lease::Quota;
use serde::Serialize;

use crate::Plumb;
use crate::error::OpsError;

/// What an owner may have, and has.
#[derive(Debug, Clone, Serialize)]
pub struct QuotaView {
    /// Who.
    pub owner: String,
    /// Instances: has, may have.
    pub instances: (u64, Option<u64>),
    /// Memory, MiB.
    pub memory_mib: (u64, Option<u64>),
    /// Volumes, bytes.
    pub disk_bytes: (u64, Option<u64>),
}

impl Plumb<'_> {
    /// What owners may have, and have.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn quotas(&self) -> Result<Vec<QuotaView>, OpsError> {
        let state = self.state()?;
        let limited = state.quotas()?.into_iter().map(|(owner, _)| owner);
        let owners: std::collections::BTreeSet<String> = limited.chain(state.owners()?).collect();
        owners
            .into_iter()
            .map(|owner| {
                let (quota, usage) = (state.quota(&owner)?, state.usage(&owner)?);
                Ok(QuotaView {
                    owner,
                    instances: (usage.instances, quota.instances),
                    memory_mib: (usage.memory_mib, quota.memory_mib),
                    disk_bytes: (usage.disk_bytes, quota.disk_bytes),
                })
            })
            .collect()
    }

    /// Changes what an owner may have; what is not named stays as it was.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn set_quota(&self, owner: &SignerName, change: &Quota) -> Result<Vec<QuotaView>, OpsError> {
        let mut state = self.state()?;
        let before = state.quota(owner.as_str())?;
        let quota = Quota {
            instances: change.instances.or(before.instances),
            memory_mib: change.memory_mib.or(before.memory_mib),
            disk_bytes: change.disk_bytes.or(before.disk_bytes),
        };
        state.set_quota(owner.as_str(), &quota)?;
        Ok(self.quotas()?.into_iter().filter(|view| view.owner == owner.as_str()).collect())
    }

    /// Lets an owner have as much as there is.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn remove_quota(&self, owner: &SignerName) -> Result<(), OpsError> {
        Ok(self.state()?.set_quota(owner.as_str(), &Quota::default())?)
    }
}
