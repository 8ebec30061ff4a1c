//! What is known of deployments: who runs them, the wanted release, plans with their journal, and addresses.
//!
//! One SQLite database in WAL mode with `synchronous = FULL`: a transaction that returned is on disk. Or, for several
//! hosts, one PostgreSQL database. What really runs is never read from here; the target observes it.
//!
//! ```text
//!  host(id, name)                                  hosts that share the database; none in a file
//!  deployment(name, app, current, host)
//!  holder(deployment, who, pid, what, since_ms, session)
//!  address(deployment, instance, address)          kept as long as the deployment's volumes may be
//!  plan(deployment, generation, document, status, reason, started_ms, ended_ms)
//!  step(deployment, generation, seq, status, at_ms)
//!  event(deployment, seq, at_ms, kind, instance, generation, text, by_whom)    stays when the deployment goes
//!  lease(deployment, owner, purpose, run_for_ms, renewed_ms, keep_for_ms, stopped_ms, noticed_ms, …)
//!  quota(owner, instances, memory_mib, disk_bytes)
//!  clock(host, seen_ms)
//!  configuration(deployment, number, document)     what was set, each version
//!  configured(deployment, wanted, current)         which of them is wanted, and which one runs
//!  secret(deployment, version, sealed)             age files
//!  recipient(recipient, name)                      for whom secrets are sealed
//!  test(deployment, started_ms)                    a deployment that goes, volumes and all, when its test ends
//! ```
#![forbid(unsafe_code)]

mod address;
mod configuration;
mod copy;
mod database;
mod error;
mod event;
mod hold;
mod lease;
mod password;
mod plan;
mod postgres;
mod schema;
mod serving;
mod sqlite;
mod test;
mod tls;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use plumb_model::release::ReleaseName;
use plumb_model::{AppName, DeploymentName, InstanceName};
use plumb_plan::Addresses;

pub use address::{AddressError, PostgresAddress};
pub use configuration::{Configured, RecipientRecord, SealedSecret};
pub use copy::Copied;
pub use database::DatabaseError;
pub use error::StateError;
pub use event::{EventFilter, EventKind, EventRecord};
pub use hold::{Claim, Holder};
pub use lease::Reservation;
pub use password::{Credentials, Password};
pub use plan::{PlanRecord, PlanStatus, StepStatus};
pub use serving::{Running, Serving};

use database::{Database, Row, Value};

/// Longest waits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For another's transaction. Transactions here take milliseconds; ten seconds only pass on a disk, or with a server,
    /// that is as good as dead.
    pub wait: Duration,
    /// For a connection to one server: a few lost packets on the slowest way around the world.
    pub connect: Duration,
    /// For one statement, by the server. Above `wait`, so that a lock is named as the reason.
    pub statement: Duration,
    /// For one answer, by us. Above `statement`, so that usually it is the server that says why.
    pub answer: Duration,
    /// For a deployment that another session holds: as long as a server needs to notice that a process was killed.
    pub held: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            wait: Duration::from_secs(10),
            connect: Duration::from_secs(10),
            statement: Duration::from_secs(15),
            answer: Duration::from_secs(20),
            held: Duration::from_secs(1),
        }
    }
}

/// The database.
#[derive(Debug)]
pub struct State {
    database: Box<dyn Database>,
    /// For messages.
    place: String,
    /// This host; nobody where there is only one.
    host: Option<Host>,
}

/// One of the hosts that share a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// What no other home has.
    pub id: String,
    /// What people call it.
    pub name: String,
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
    /// The host that runs it, by name, if that is another than this one.
    pub elsewhere: Option<String>,
}

impl State {
    /// Opens the database in the file `path`, making or migrating it as needed.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        State::open_within(path, Limits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open_within(path: &Path, limits: Limits) -> Result<Self, StateError> {
        let place = path.display().to_string();
        match sqlite::Sqlite::open(path, limits.wait) {
            Ok(database) => State { database: Box::new(database), place, host: None }.migrated(),
            Err(source) => Err(StateError::Database { action: "open", place, source }),
        }
    }

    /// Connects to the database at `address` as `host`, making or migrating its tables as needed.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn connect(
        address: &PostgresAddress,
        credentials: &Credentials,
        host: Host,
        limits: Limits,
    ) -> Result<Self, StateError> {
        let place = address.to_string();
        let database = credentials.password(address).and_then(|password| {
            postgres::Postgres::open(address, password.as_ref().map(Password::reveal), limits)
        });
        match database {
            Ok(database) => State { database: Box::new(database), place, host: Some(host) }.migrated(),
            // There was no connection that could be lost.
            Err(DatabaseError::Lost(error)) => {
                Err(StateError::Unreachable { place, source: DatabaseError::Postgres(error) })
            }
            Err(source) => Err(StateError::Unreachable { place, source }),
        }
    }

    fn migrated(mut self) -> Result<Self, StateError> {
        schema::migrate(&mut self)?;
        Ok(self)
    }

    /// Where it is, for people. It holds no password.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn failed(&self, action: &'static str) -> impl FnOnce(DatabaseError) -> StateError + use<> {
        let place = self.place.clone();
        move |source| StateError::Database { action, place, source }
    }

    pub(crate) fn damaged(&self, what: &'static str, deployment: impl ToString) -> StateError {
        StateError::Damaged { place: self.place.clone(), what, deployment: deployment.to_string() }
    }

    /// One statement that writes, as a transaction of its own.
    pub(crate) fn execute(&self, sql: &str, values: &[Value<'_>]) -> Result<u64, StateError> {
        self.database.execute(sql, values).map_err(self.failed("write"))
    }

    /// Several statements that are all carried out or none.
    pub(crate) fn transaction<T>(
        &self,
        write: impl FnOnce(&dyn Database) -> Result<T, DatabaseError>,
    ) -> Result<T, StateError> {
        let database = &*self.database;
        let run = || {
            database.begin()?;
            match write(database) {
                Ok(value) => database.commit().map(|()| value),
                Err(error) => {
                    // The first error is the one to tell; a session that is over has rolled back.
                    if !error.is_lost() {
                        let _ = database.roll_back();
                    }
                    Err(error)
                }
            }
        };
        run().map_err(self.failed("write"))
    }

    /// The rows of an answer.
    pub(crate) fn rows<T>(
        &self,
        sql: &str,
        values: &[Value<'_>],
        read: impl Fn(&Row<'_>) -> Result<T, DatabaseError>,
    ) -> Result<Vec<T>, StateError> {
        let mut rows = Vec::new();
        let mut each = |row: &Row<'_>| {
            rows.push(read(row)?);
            Ok(())
        };
        self.database.query(sql, values, &mut each).map_err(self.failed("read"))?;
        Ok(rows)
    }

    /// The id of this host, where there are several.
    pub(crate) fn host_id(&self) -> Option<&str> {
        self.host.as_ref().map(|host| host.id.as_str())
    }

    /// Adds this host in a transaction, where there are several.
    pub(crate) fn insert_host(&self, database: &dyn Database) -> Result<(), DatabaseError> {
        if let Some(host) = &self.host {
            database.execute(
                "INSERT INTO host (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = $2",
                &[host.id.as_str().into(), host.name.as_str().into()],
            )?;
        }
        Ok(())
    }

    /// Adds a deployment of this host in a transaction, if there is none of its name.
    pub(crate) fn insert_deployment(
        &self,
        database: &dyn Database,
        name: &DeploymentName,
        app: &AppName,
    ) -> Result<bool, DatabaseError> {
        self.insert_host(database)?;
        let added = database.execute(
            "INSERT INTO deployment (name, app, host) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
            &[name.as_str().into(), app.as_str().into(), self.host_id().into()],
        )?;
        Ok(added == 1)
    }

    /// Records the deployment if it is new.
    ///
    /// # Errors
    /// [`StateError::OtherApp`] or [`StateError::OtherHost`] if the name is taken by another application or host.
    pub fn ensure_deployment(
        &mut self,
        name: &DeploymentName,
        app: &AppName,
    ) -> Result<DeploymentRecord, StateError> {
        self.transaction(|database| self.insert_deployment(database, name, app))?;
        let record = self.deployment(name)?.ok_or_else(|| self.damaged("record", name))?;
        match record.elsewhere {
            Some(host) => Err(StateError::OtherHost { deployment: name.clone(), host }),
            None if record.app == *app => Ok(record),
            None => {
                Err(StateError::OtherApp { deployment: name.clone(), app: record.app, wanted: app.clone() })
            }
        }
    }

    /// The deployment with this name.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn deployment(&self, name: &DeploymentName) -> Result<Option<DeploymentRecord>, StateError> {
        Ok(self.records("WHERE deployment.name = $1", &[name.as_str().into()])?.pop())
    }

    /// All deployments, those of other hosts included, by name.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn deployments(&self) -> Result<Vec<DeploymentRecord>, StateError> {
        self.records("ORDER BY deployment.name", &[])
    }

    fn records(&self, which: &str, values: &[Value<'_>]) -> Result<Vec<DeploymentRecord>, StateError> {
        let sql = format!(
            "SELECT deployment.name, app, current, deployment.host, host.name FROM deployment
             LEFT JOIN host ON host.id = deployment.host {which}"
        );
        let rows = self.rows(&sql, values, |row| {
            let host = row.text_or_none(3)?.map(str::to_owned);
            let called = row.text_or_none(4)?.map(str::to_owned);
            Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.number_or_none(2)?, host, called))
        })?;
        rows.into_iter()
            .map(|(name, app, current, host, called)| {
                let damaged = || self.damaged("record", &name);
                let app: AppName = app.parse().map_err(|_| damaged())?;
                let current = current.map(|number| ReleaseName { app: app.clone(), number });
                let elsewhere =
                    host.filter(|host| self.host_id() != Some(host)).map(|id| called.unwrap_or(id));
                Ok(DeploymentRecord { name: name.parse().map_err(|_| damaged())?, app, current, elsewhere })
            })
            .collect()
    }

    /// The deployments of an application that have a current release, with its number, by number and name.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn current_of(&self, app: &AppName) -> Result<Vec<(DeploymentName, u64)>, StateError> {
        let rows = self.rows(
            "SELECT name, current FROM deployment WHERE app = $1 AND current IS NOT NULL ORDER BY current, name",
            &[app.as_str().into()],
            |row| Ok((row.text(0)?.parse().map_err(|_| row.text(0).map(str::to_owned)), row.number(1)?)),
        )?;
        rows.into_iter()
            .map(|(name, number)| {
                Ok((name.map_err(|text| self.damaged("name", text.unwrap_or_default()))?, number))
            })
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
        let mut all = Vec::new();
        let mut damaged = None;
        let mut wanted = apps.iter().peekable();
        let mut each = |row: &Row<'_>| {
            let app = row.text(0)?;
            // Both are sorted, byte by byte.
            while wanted.next_if(|one| one.as_str() < app).is_some() {}
            let Some(app) = wanted.peek().filter(|one| one.as_str() == app) else { return Ok(()) };
            match row.text(1)?.parse() {
                Ok(name) => all.push(((**app).clone(), name, row.number(2)?)),
                Err(_) => damaged = Some(row.text(1)?.to_owned()),
            }
            Ok(())
        };
        let sql =
            "SELECT app, name, current FROM deployment WHERE current IS NOT NULL ORDER BY app, current, name";
        self.database.query(sql, &[], &mut each).map_err(self.failed("read"))?;
        damaged.map_or(Ok(all), |name| Err(self.damaged("name", name)))
    }

    /// Addresses given to instances of a deployment.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn addresses(&self, name: &DeploymentName) -> Result<Addresses, StateError> {
        let rows = self.rows(
            "SELECT instance, address FROM address WHERE deployment = $1",
            &[name.as_str().into()],
            |row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned())),
        )?;
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
        self.transaction(|database| {
            for (instance, address) in addresses {
                let address = address.to_string();
                database.execute(
                    "INSERT INTO address (deployment, instance, address) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
                    &[name.as_str().into(), instance.as_str().into(), address.as_str().into()],
                )?;
            }
            Ok(())
        })
    }

    /// Forgets a deployment that has neither instances nor volumes.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn forget_deployment(&mut self, name: &DeploymentName) -> Result<(), StateError> {
        self.execute("DELETE FROM deployment WHERE name = $1", &[name.as_str().into()])?;
        Ok(())
    }
}
