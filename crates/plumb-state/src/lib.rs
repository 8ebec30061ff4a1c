//! What this host knows of its deployments: the wanted release, plans with their journal, and addresses.
//!
//! One SQLite database in WAL mode with `synchronous = FULL`: a transaction that returned is on disk. What really runs
//! is never read from here; the target observes it.
//!
//! ```text
//!  deployment(name, app, current)
//!  address(deployment, instance, address)          kept as long as the deployment's volumes may be
//!  plan(deployment, generation, document, status, reason, started_ms, ended_ms)
//!  step(deployment, generation, seq, status, at_ms)
//!  test(deployment, started_ms)                    a deployment that goes, volumes and all, when its test ends
//! ```
#![forbid(unsafe_code)]

mod plan;
mod schema;
mod test;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plumb_model::release::ReleaseName;
use plumb_model::{AppName, DeploymentName, InstanceName};
use plumb_plan::Addresses;
use rusqlite::{Connection, OptionalExtension, params};

pub use plan::{PlanRecord, PlanStatus, StepStatus};

/// How long a statement waits for another process's transaction. Transactions here take milliseconds; ten seconds only
/// pass on a disk that is as good as dead.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The database.
#[derive(Debug)]
pub struct State {
    connection: Connection,
    path: PathBuf,
}

/// A deployment as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentRecord {
    /// Name.
    pub name: DeploymentName,
    /// Application.
    pub app: AppName,
    /// Release that was committed last; `None` before the first and after `down`.
    pub current: Option<ReleaseName>,
}

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// SQLite refused.
    #[error("cannot {action} the state in `{path}`")]
    Database {
        /// What was being done.
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The database was made by a newer Plumb.
    #[error("the state in `{path}` has version {found}; this plumb knows versions up to {known}")]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Version found.
        found: u32,
        /// Newest known.
        known: u32,
    },
    /// A stored value does not read back.
    #[error("the state in `{path}` holds a damaged {what} of deployment `{deployment}`")]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What is damaged.
        what: &'static str,
        /// Whose.
        deployment: String,
    },
    /// The deployment belongs to another application.
    #[error("deployment `{deployment}` belongs to application `{app}`, not to `{wanted}`")]
    OtherApp {
        /// Deployment.
        deployment: DeploymentName,
        /// Its application.
        app: AppName,
        /// The one asked for.
        wanted: AppName,
    },
}

impl State {
    /// Opens the database at `path`, making or migrating it as needed.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Database { action: "open", path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        connection
            .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
            .map_err(failed)?;
        let mut state = State { connection, path: path.to_owned() };
        schema::migrate(&mut state)?;
        Ok(state)
    }

    pub(crate) fn failed(&self, action: &'static str) -> impl FnOnce(rusqlite::Error) -> StateError + use<> {
        let path = self.path.clone();
        move |source| StateError::Database { action, path, source }
    }

    pub(crate) fn damaged(&self, what: &'static str, deployment: &DeploymentName) -> StateError {
        StateError::Damaged { path: self.path.clone(), what, deployment: deployment.to_string() }
    }

    /// Records the deployment if it is new.
    ///
    /// # Errors
    /// [`StateError::OtherApp`] if the name is taken by another application.
    pub fn ensure_deployment(
        &mut self,
        name: &DeploymentName,
        app: &AppName,
    ) -> Result<DeploymentRecord, StateError> {
        self.connection
            .execute(
                "INSERT INTO deployment (name, app) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
                params![name.as_str(), app.as_str()],
            )
            .map_err(self.failed("write"))?;
        let record = self.deployment(name)?.ok_or_else(|| self.damaged("record", name))?;
        if record.app == *app {
            Ok(record)
        } else {
            Err(StateError::OtherApp { deployment: name.clone(), app: record.app, wanted: app.clone() })
        }
    }

    /// The deployment with this name.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn deployment(&self, name: &DeploymentName) -> Result<Option<DeploymentRecord>, StateError> {
        Ok(self.deployments()?.into_iter().find(|record| record.name == *name))
    }

    /// All deployments, by name.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn deployments(&self) -> Result<Vec<DeploymentRecord>, StateError> {
        let read = || -> rusqlite::Result<Vec<(String, String, Option<u64>)>> {
            let mut statement =
                self.connection.prepare("SELECT name, app, current FROM deployment ORDER BY name")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        };
        let rows = read().map_err(self.failed("read"))?;
        rows.into_iter()
            .map(|(name, app, current)| {
                let damaged = || StateError::Damaged {
                    path: self.path.clone(),
                    what: "record",
                    deployment: name.clone(),
                };
                let app: AppName = app.parse().map_err(|_| damaged())?;
                let name: DeploymentName = name.parse().map_err(|_| damaged())?;
                let current = current.map(|number| ReleaseName { app: app.clone(), number });
                Ok(DeploymentRecord { name, app, current })
            })
            .collect()
    }

    /// The deployments of an application that have a current release, with its number, by number and name.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn current_of(&self, app: &AppName) -> Result<Vec<(DeploymentName, u64)>, StateError> {
        let read = || -> rusqlite::Result<Vec<(String, u64)>> {
            let mut statement = self.connection.prepare_cached(
                "SELECT name, current FROM deployment WHERE app = ?1 AND current IS NOT NULL ORDER BY current, name",
            )?;
            let rows = statement.query_map([app.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        let rows = read().map_err(self.failed("read"))?;
        let damaged = |name: &str| StateError::Damaged {
            path: self.path.clone(),
            what: "name",
            deployment: name.to_owned(),
        };
        rows.into_iter()
            .map(|(name, number)| Ok((name.parse().map_err(|_| damaged(&name))?, number)))
            .collect()
    }

    /// The deployments of many applications with the number of their current release, read in one go: by application,
    /// number and name, as the index has them.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn current_of_all(
        &self,
        apps: &BTreeSet<&AppName>,
    ) -> Result<Vec<(AppName, DeploymentName, u64)>, StateError> {
        let failed = |source| StateError::Database { action: "read", path: self.path.clone(), source };
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT app, name, current FROM deployment WHERE current IS NOT NULL ORDER BY app, current, name",
            )
            .map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut all = Vec::new();
        let mut wanted = apps.iter().peekable();
        while let Some(row) = rows.next().map_err(failed)? {
            let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
            let app = text(0).map_err(failed)?;
            // Both are sorted, byte by byte.
            while wanted.next_if(|one| one.as_str() < app).is_some() {}
            let Some(app) = wanted.peek().filter(|one| one.as_str() == app) else { continue };
            let name = text(1).map_err(failed)?;
            let damaged = |_| StateError::Damaged {
                path: self.path.clone(),
                what: "name",
                deployment: name.to_owned(),
            };
            all.push(((**app).clone(), name.parse().map_err(damaged)?, row.get(2).map_err(failed)?));
        }
        Ok(all)
    }

    /// Records which release is current.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_current(&mut self, name: &DeploymentName, number: Option<u64>) -> Result<(), StateError> {
        self.connection
            .execute("UPDATE deployment SET current = ?2 WHERE name = ?1", params![name.as_str(), number])
            .map_err(self.failed("write"))?;
        Ok(())
    }

    /// Addresses given to instances of a deployment.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn addresses(&self, name: &DeploymentName) -> Result<Addresses, StateError> {
        let read = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut statement =
                self.connection.prepare("SELECT instance, address FROM address WHERE deployment = ?1")?;
            let rows = statement.query_map([name.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        let rows = read().map_err(self.failed("read"))?;
        rows.into_iter()
            .map(|(instance, address)| {
                let instance: InstanceName = instance.parse().map_err(|_| self.damaged("address", name))?;
                let address: Ipv4Addr = address.parse().map_err(|_| self.damaged("address", name))?;
                Ok((instance, address))
            })
            .collect()
    }

    /// Records addresses; those that are known stay.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn add_addresses(&mut self, name: &DeploymentName, addresses: &Addresses) -> Result<(), StateError> {
        let write = |connection: &mut Connection| -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            for (instance, address) in addresses {
                transaction.execute(
                    "INSERT INTO address (deployment, instance, address) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                    params![name.as_str(), instance.as_str(), address.to_string()],
                )?;
            }
            transaction.commit()
        };
        let failed = self.failed("write");
        write(&mut self.connection).map_err(failed)
    }

    /// Forgets a deployment that has neither instances nor volumes.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn forget_deployment(&mut self, name: &DeploymentName) -> Result<(), StateError> {
        self.connection
            .execute("DELETE FROM deployment WHERE name = ?1", [name.as_str()])
            .map_err(self.failed("write"))?;
        Ok(())
    }

    pub(crate) fn query_one<T>(
        &self,
        sql: &str,
        parameters: impl rusqlite::Params,
        map: impl FnOnce(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StateError> {
        self.connection.query_row(sql, parameters, map).optional().map_err(self.failed("read"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_plan::{Observed, Plan, plan_down};

    fn names() -> (DeploymentName, AppName) {
        ("shop-test".parse().expect("name"), "shop".parse().expect("name"))
    }

    #[test]
    fn deployments_and_addresses_survive_reopening() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state.db");
        let (name, app) = names();
        let web: InstanceName = "web-1".parse().expect("name");
        {
            let mut state = State::open(&path).expect("opens");
            state.ensure_deployment(&name, &app).expect("records");
            state.set_current(&name, Some(3)).expect("records");
            state.add_addresses(&name, &[(web.clone(), [10, 77, 0, 10].into())].into()).expect("records");
        }
        let mut state = State::open(&path).expect("opens again");
        let record = state.deployment(&name).expect("reads").expect("is there");
        assert_eq!(record.current.map(|release| release.to_string()).as_deref(), Some("shop@3"));
        assert_eq!(state.addresses(&name).expect("reads").len(), 1);
        assert_eq!(state.current_of(&app).expect("reads"), [(name.clone(), 3)]);
        let other = "another".parse().expect("a name");
        let all = [&app, &other].into();
        assert_eq!(state.current_of_all(&all).expect("reads"), [(app.clone(), name.clone(), 3)]);
        assert!(state.current_of_all(&[&other].into()).expect("reads").is_empty(), "of others");
        state.set_current(&name, None).expect("records");
        assert!(state.current_of(&app).expect("reads").is_empty(), "what is down runs nothing");
        assert!(state.current_of_all(&all).expect("reads").is_empty(), "what is down runs nothing");
        let other: AppName = "other".parse().expect("name");
        assert!(matches!(state.ensure_deployment(&name, &other), Err(StateError::OtherApp { .. })));
    }

    #[test]
    fn only_what_ran_healthily_is_a_way_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::open(&folder.path().join("state.db")).expect("opens");
        let (name, app) = names();
        state.ensure_deployment(&name, &app).expect("records");
        for (generation, number, status) in
            [(1, 1, PlanStatus::Done), (2, 2, PlanStatus::Failed), (3, 1, PlanStatus::Done)]
        {
            let to = ReleaseName { app: app.clone(), number };
            let plan = Plan { generation, to: Some(to), ..plan_down(&name, &Observed::default(), &[], None) };
            state.add_plan(&plan, generation).expect("records");
            state.end_plan(&plan, status, None, generation).expect("records");
        }
        let names: Vec<String> =
            state.healthy_releases(&name).expect("reads").iter().map(ToString::to_string).collect();
        assert_eq!(names, ["shop@1", "shop@1"]);
    }

    #[test]
    fn plans_are_numbered_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::open(&folder.path().join("state.db")).expect("opens");
        let (name, app) = names();
        state.ensure_deployment(&name, &app).expect("records");
        let plan = plan_down(&name, &Observed::default(), &[], None);
        state.add_plan(&plan, 10).expect("records");
        assert!(state.add_plan(&plan, 10).is_err(), "a generation is used once");
        state.record_step(&plan, 0, StepStatus::Done, 11).expect("records");
        state.end_plan(&plan, PlanStatus::Failed, Some("why"), 12).expect("records");
        let last = state.last_plan(&name).expect("reads").expect("is there");
        assert_eq!(last.plan, plan);
        assert_eq!(
            (last.status, last.reason.as_deref(), last.steps_done),
            (PlanStatus::Failed, Some("why"), 1)
        );
    }
}
