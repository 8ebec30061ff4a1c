//! Deployments that live as long as a test. The mark is there before anything else of them is, so that whoever finds one
//! whose test has died knows that all of it may go.

use plumb_model::{AppName, DeploymentName};
use rusqlite::params;

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
        let failed = self.failed("write");
        let mut write = || -> rusqlite::Result<bool> {
            let transaction = self.connection.transaction()?;
            let added = transaction.execute(
                "INSERT INTO deployment (name, app) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
                params![name.as_str(), app.as_str()],
            )?;
            if added == 1 {
                transaction.execute(
                    "INSERT INTO test (deployment, started_ms) VALUES (?1, ?2)",
                    params![name.as_str(), now_ms],
                )?;
            }
            transaction.commit()?;
            Ok(added == 1)
        };
        write().map_err(failed)
    }

    /// Deployments that live as long as a test, by name.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn tests(&self) -> Result<Vec<DeploymentName>, StateError> {
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare("SELECT deployment FROM test ORDER BY deployment")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect()
        };
        let names = read().map_err(self.failed("read"))?;
        names
            .into_iter()
            .map(|name| {
                name.parse().map_err(|_| StateError::Damaged {
                    path: self.path.clone(),
                    what: "name",
                    deployment: name.clone(),
                })
            })
            .collect()
    }

    /// From now on the deployment of a test is one like any other.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep_test(&mut self, name: &DeploymentName) -> Result<(), StateError> {
        self.connection
            .execute("DELETE FROM test WHERE deployment = ?1", [name.as_str()])
            .map_err(self.failed("write"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_marked_until_it_is_kept_or_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut state = State::open(&folder.path().join("state.db")).expect("opens");
        let app: AppName = "shop".parse().expect("name");
        let names = ["shop", "shop-test-1", "shop-test-2"];
        let [own, one, two] = names.map(|name| name.parse::<DeploymentName>().expect("name"));
        state.ensure_deployment(&own, &app).expect("records");
        assert!(!state.add_test(&own, &app, 1).expect("writes"), "a deployment does not become a test");
        assert!(state.add_test(&one, &app, 1).expect("writes"));
        assert!(state.add_test(&two, &app, 2).expect("writes"));
        assert_eq!(state.tests().expect("reads"), [one.clone(), two.clone()]);
        state.forget_deployment(&one).expect("writes");
        state.keep_test(&two).expect("writes");
        assert!(state.tests().expect("reads").is_empty());
        assert!(state.deployment(&two).expect("reads").is_some());
        assert!(state.deployment(&one).expect("reads").is_none());
    }
}
