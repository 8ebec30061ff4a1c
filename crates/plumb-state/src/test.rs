//! Deployments that live as long as a test. The mark is there before anything else of them is, so that whoever finds one
//! whose test has died knows that all of it may go.

use plumb_model::{AppName, DeploymentName};

use crate::{State, StateError};

impl State {
    /// Records a new deployment for a test. `false` if there is one of this name: nothing was changed then.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn add_test(
        &mut self,
        name: &DeploymentName,
        app: &AppName,
        now_ms: u64,
    ) -> Result<bool, StateError> {
        self.transaction(|database| {
            let added = self.insert_deployment(database, name, app)?;
            if added {
                database.execute(
                    "INSERT INTO test (deployment, started_ms) VALUES ($1, $2)",
                    &[name.as_str().into(), now_ms.into()],
                )?;
            }
            Ok(added)
        })
    }

    /// Deployments of this host that live as long as a test, by name.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn tests(&self) -> Result<Vec<DeploymentName>, StateError> {
        // Those of other hosts are theirs to take away.
        let names = self.rows(
            "SELECT test.deployment FROM test JOIN deployment ON deployment.name = test.deployment
             WHERE deployment.host IS NULL OR deployment.host = $1 ORDER BY test.deployment",
            &[self.host_id().into()],
            |row| Ok(row.text(0)?.to_owned()),
        )?;
        names.into_iter().map(|name| name.parse().map_err(|_| self.damaged("name", name))).collect()
    }

    /// From now on the deployment of a test is one like any other.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep_test(&mut self, name: &DeploymentName) -> Result<(), StateError> {
        self.execute("DELETE FROM test WHERE deployment = $1", &[name.as_str().into()])?;
        Ok(())
    }
}
