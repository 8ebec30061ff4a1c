//! Leases, quotas, and what the clock was.

use plumb_model::DeploymentName;
use plumb_plan::lease::{Excess, Lease, Quota, Usage};

use crate::database::{Database, Row};
use crate::{DatabaseError, State, StateError};

/// Whether a deployment may take what it wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// It may; its lease and what it takes are recorded.
    Made,
    /// It would be more than its owner may have. Nothing was recorded.
    Refused(Vec<Excess>),
}

impl State {
    /// The lease of a deployment. One that was made before there were leases has none.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn lease(&self, name: &DeploymentName) -> Result<Option<Lease>, StateError> {
        let sql = "SELECT owner, purpose, run_for_ms, renewed_ms, keep_for_ms, stopped_ms, noticed_ms
                   FROM lease WHERE deployment = $1";
        Ok(self.rows(sql, &[name.as_str().into()], read)?.pop())
    }

    /// Records a lease; what its deployment takes stays as it was.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_lease(&mut self, name: &DeploymentName, lease: &Lease) -> Result<(), StateError> {
        self.transaction(|database| {
            let before = taken(database, "deployment = $1", name.as_str())?;
            write(database, name, lease, before)
        })
    }

    /// Records what a deployment takes, whatever its owner may have: it is there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_usage(
        &mut self,
        name: &DeploymentName,
        lease: &Lease,
        usage: Usage,
    ) -> Result<(), StateError> {
        self.transaction(|database| write(database, name, lease, usage))
    }

    /// What an owner may have. Without a record that is as much as there is.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn quota(&self, owner: &str) -> Result<Quota, StateError> {
        quota(&*self.database, owner).map_err(self.failed("read"))
    }

    /// All quotas, by owner.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn quotas(&self) -> Result<Vec<(String, Quota)>, StateError> {
        self.rows("SELECT instances, memory_mib, disk_bytes, owner FROM quota ORDER BY owner", &[], |row| {
            Ok((row.text(3)?.to_owned(), read_quota(row)?))
        })
    }

    /// Records what an owner may have.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_quota(&mut self, owner: &str, quota: &Quota) -> Result<(), StateError> {
        self.execute(
            "INSERT INTO quota (owner, instances, memory_mib, disk_bytes) VALUES ($1, $2, $3, $4)
             ON CONFLICT (owner) DO UPDATE SET instances = $2, memory_mib = $3, disk_bytes = $4",
            &[owner.into(), quota.instances.into(), quota.memory_mib.into(), quota.disk_bytes.into()],
        )?;
        Ok(())
    }

    /// What the deployments of an owner take: the volumes of all, instances and memory of those that run.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn usage(&self, owner: &str) -> Result<Usage, StateError> {
        taken(&*self.database, "owner = $1", owner).map_err(self.failed("read"))
    }

    /// Owners of deployments, by name.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn owners(&self) -> Result<Vec<String>, StateError> {
        self.rows("SELECT DISTINCT owner FROM lease ORDER BY owner", &[], |row| Ok(row.text(0)?.to_owned()))
    }

    /// What would be too much if a deployment of `owner` took `wanted`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn excess(
        &self,
        name: &DeploymentName,
        owner: &str,
        wanted: Usage,
    ) -> Result<Vec<Excess>, StateError> {
        excess(&*self.database, (name, owner), wanted).map_err(self.failed("read"))
    }

    /// Records the lease of a deployment and what it takes, if its owner may have that. Of two that ask at once for what is
    /// left one gets it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn reserve(
        &mut self,
        name: &DeploymentName,
        lease: &Lease,
        wanted: Usage,
    ) -> Result<Reservation, StateError> {
        self.transaction(|database| reserve(database, (name, lease), wanted))
    }

    /// Records a changed lease, if its owner may have what the deployment takes: it may be another owner than before.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn change_lease(&mut self, name: &DeploymentName, lease: &Lease) -> Result<Reservation, StateError> {
        self.transaction(|database| {
            let takes = taken(database, "deployment = $1", name.as_str())?;
            reserve(database, (name, lease), takes)
        })
    }

    /// What the clock of this host was when leases were last looked at.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn clock_seen(&self) -> Result<Option<u64>, StateError> {
        let host = self.host_id().unwrap_or_default();
        Ok(self.rows("SELECT seen_ms FROM clock WHERE host = $1", &[host.into()], |row| row.number(0))?.pop())
    }

    /// Records what the clock of this host is.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn see_clock(&mut self, now_ms: u64) -> Result<(), StateError> {
        let host = self.host_id().unwrap_or_default();
        see_clock(&*self.database, host, now_ms).map_err(self.failed("write"))
    }
}

pub(crate) fn see_clock(database: &dyn Database, host: &str, now_ms: u64) -> Result<(), DatabaseError> {
    let sql =
        "INSERT INTO clock (host, seen_ms) VALUES ($1, $2) ON CONFLICT (host) DO UPDATE SET seen_ms = $2";
    database.execute(sql, &[host.into(), now_ms.into()]).map(drop)
}

fn reserve(
    database: &dyn Database,
    (name, lease): (&DeploymentName, &Lease),
    wanted: Usage,
) -> Result<Reservation, DatabaseError> {
    // Whoever asks for the same owner waits here until this is written.
    database.execute("UPDATE quota SET owner = owner WHERE owner = $1", &[lease.owner.as_str().into()])?;
    let excess = excess(database, (name, &lease.owner), wanted)?;
    if !excess.is_empty() {
        return Ok(Reservation::Refused(excess));
    }
    write(database, name, lease, wanted)?;
    Ok(Reservation::Made)
}

fn read(row: &Row<'_>) -> Result<Lease, DatabaseError> {
    Ok(Lease {
        owner: row.text(0)?.to_owned(),
        purpose: row.text(1)?.to_owned(),
        run_for_ms: row.number_or_none(2)?,
        renewed_ms: row.number(3)?,
        keep_for_ms: row.number_or_none(4)?,
        stopped_ms: row.number_or_none(5)?,
        noticed_ms: row.number_or_none(6)?,
    })
}

fn read_quota(row: &Row<'_>) -> Result<Quota, DatabaseError> {
    Ok(Quota {
        instances: row.number_or_none(0)?,
        memory_mib: row.number_or_none(1)?,
        disk_bytes: row.number_or_none(2)?,
    })
}

fn quota(database: &dyn Database, owner: &str) -> Result<Quota, DatabaseError> {
    let mut quota = Quota::default();
    let sql = "SELECT instances, memory_mib, disk_bytes FROM quota WHERE owner = $1";
    database.query(sql, &[owner.into()], &mut |row| {
        quota = read_quota(row)?;
        Ok(())
    })?;
    Ok(quota)
}

/// What the deployments take for which `which` holds.
fn taken(database: &dyn Database, which: &str, value: &str) -> Result<Usage, DatabaseError> {
    let mut usage = Usage::default();
    let sql = format!(
        "SELECT lease.instances, lease.memory_mib, lease.disk_bytes, lease.stopped_ms FROM lease WHERE {which}"
    );
    database.query(&sql, &[value.into()], &mut |row| {
        let of_running = |number: u64, stopped: Option<u64>| if stopped.is_none() { number } else { 0 };
        let stopped = row.number_or_none(3)?;
        usage = usage
            + Usage {
                instances: of_running(row.number(0)?, stopped),
                memory_mib: of_running(row.number(1)?, stopped),
                disk_bytes: row.number(2)?,
            };
        Ok(())
    })?;
    Ok(usage)
}

fn excess(
    database: &dyn Database,
    (name, owner): (&DeploymentName, &str),
    wanted: Usage,
) -> Result<Vec<Excess>, DatabaseError> {
    let quota = quota(database, owner)?;
    let own = taken(database, "deployment = $1", name.as_str())?;
    let all = taken(database, "owner = $1", owner)?;
    let mut is_owners = false;
    let sql = "SELECT owner FROM lease WHERE deployment = $1";
    database.query(sql, &[name.as_str().into()], &mut |row| {
        is_owners = row.text(0)? == owner;
        Ok(())
    })?;
    let before = if is_owners { own } else { Usage::default() };
    let others = Usage {
        instances: all.instances.saturating_sub(before.instances),
        memory_mib: all.memory_mib.saturating_sub(before.memory_mib),
        disk_bytes: all.disk_bytes.saturating_sub(before.disk_bytes),
    };
    Ok(quota.excess(others, before, wanted))
}

fn write(
    database: &dyn Database,
    name: &DeploymentName,
    lease: &Lease,
    usage: Usage,
) -> Result<(), DatabaseError> {
    database.execute(
        "INSERT INTO lease (deployment, owner, purpose, run_for_ms, renewed_ms, keep_for_ms, stopped_ms, noticed_ms,
                            instances, memory_mib, disk_bytes)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (deployment) DO UPDATE SET owner = $2, purpose = $3, run_for_ms = $4, renewed_ms = $5,
             keep_for_ms = $6, stopped_ms = $7, noticed_ms = $8, instances = $9, memory_mib = $10, disk_bytes = $11",
        &[
            name.as_str().into(),
            lease.owner.as_str().into(),
            lease.purpose.as_str().into(),
            lease.run_for_ms.into(),
            lease.renewed_ms.into(),
            lease.keep_for_ms.into(),
            lease.stopped_ms.into(),
            lease.noticed_ms.into(),
            usage.instances.into(),
            usage.memory_mib.into(),
            usage.disk_bytes.into(),
        ],
    )?;
    Ok(())
}
