//! What of a deployment serves: the release, with which configuration, on which side, and what is kept beside it.

use plumb_model::DeploymentName;
use plumb_plan::{Kept, OtherSet, Side};

use crate::{State, StateError};

/// What runs from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Number of the release.
    pub number: u64,
    /// Its configuration; none if nothing was ever set.
    pub config: Option<u64>,
    /// The set that serves.
    pub side: Side,
    /// What becomes of the other one.
    pub other: OtherSet,
}

/// Which set serves, and the other one if it is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Serving {
    /// The set that serves.
    pub side: Side,
    /// The other one.
    pub kept: Option<Kept>,
}

impl Running {
    /// A release that is there once, with no configuration.
    #[must_use]
    pub fn release(number: u64) -> Self {
        Running { number, config: None, side: Side::Blue, other: OtherSet::Gone }
    }
}

impl State {
    /// Records which release runs with which configuration, and as which of two sets. Another configuration than before is
    /// then the wanted one, too; with the same one, what was set meanwhile stays wanted.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_running(
        &mut self,
        name: &DeploymentName,
        running: Running,
        now_ms: u64,
    ) -> Result<(), StateError> {
        let Running { number, config, side, other } = running;
        let kept = match other {
            OtherSet::Gone => Some((None, None)),
            OtherSet::Kept { release, for_ms } => Some((Some(release), Some(now_ms.saturating_add(for_ms)))),
            OtherSet::Unchanged => None,
        };
        self.transaction(|database| {
            database.execute(
                "UPDATE deployment SET current = $2, side = $3 WHERE name = $1",
                &[name.as_str().into(), number.into(), side.as_str().into()],
            )?;
            if let Some((release, until_ms)) = kept {
                database.execute(
                    "UPDATE deployment SET kept = $2, kept_until_ms = $3 WHERE name = $1",
                    &[name.as_str().into(), release.into(), until_ms.into()],
                )?;
            }
            database.execute(
                "INSERT INTO configured (deployment, wanted, current) VALUES ($1, $2, $2)
                 ON CONFLICT (deployment) DO UPDATE SET current = $2, wanted =
                 CASE WHEN configured.current IS NOT DISTINCT FROM $2 THEN configured.wanted ELSE $2 END",
                &[name.as_str().into(), config.into()],
            )?;
            Ok(())
        })
    }

    /// Records that nothing runs any more.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_down(&mut self, name: &DeploymentName) -> Result<(), StateError> {
        self.execute(
            "UPDATE deployment SET current = NULL, side = NULL, kept = NULL, kept_until_ms = NULL WHERE name = $1",
            &[name.as_str().into()],
        )?;
        Ok(())
    }

    /// Which set of a deployment serves, and what is kept beside it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn serving(&self, name: &DeploymentName) -> Result<Serving, StateError> {
        let rows = self.rows(
            "SELECT side, kept, kept_until_ms FROM deployment WHERE name = $1",
            &[name.as_str().into()],
            |row| {
                Ok((row.text_or_none(0)?.map(str::to_owned), row.number_or_none(1)?, row.number_or_none(2)?))
            },
        )?;
        let Some((side, release, until_ms)) = rows.into_iter().next() else { return Ok(Serving::default()) };
        let side = match side.as_deref() {
            // Written before there were two.
            None | Some("blue") => Side::Blue,
            Some("green") => Side::Green,
            Some(_) => return Err(self.damaged("side", name)),
        };
        let kept = release.zip(until_ms).map(|(release, until_ms)| Kept { release, until_ms });
        Ok(Serving { side, kept })
    }
}
