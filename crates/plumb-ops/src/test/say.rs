//! What the instances of a test said, kept as objects.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use plumb_model::outcome::InstanceLogs;
use plumb_model::release::Release;
use plumb_model::{Digest, InstanceName};

use crate::Plumb;
use crate::deploy::Locked;
use crate::error::{OpsError, io as failed};

/// Longest log that is kept; the target itself keeps less.
const LOG_LIMIT: u64 = 64 * 1024 * 1024;

impl Plumb<'_> {
    /// Keeps the logs of every instance, also of those that were never started: theirs are empty.
    pub(super) fn logs_of(
        &self,
        locked: &Locked,
        release: &Release,
    ) -> Result<BTreeMap<InstanceName, InstanceLogs>, OpsError> {
        let mut logs = BTreeMap::new();
        for (_, instance) in plumb_plan::instances(release, plumb_plan::Side::Blue)? {
            let said = locked.target.said(instance.as_str())?;
            let kept =
                InstanceLogs { services: self.joined(&said.services)?, console: self.joined(&said.console)? };
            logs.insert(instance, kept);
        }
        Ok(logs)
    }

    /// The files that are there, one after the other, as an object.
    fn joined(&self, paths: &[PathBuf]) -> Result<Digest, OpsError> {
        let mut whole: Box<dyn Read> = Box::new(io::empty());
        for path in paths {
            match File::open(path) {
                Ok(file) => whole = Box::new(whole.chain(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("read", path)(error)),
            }
        }
        Ok(self.store.put_reader(&mut whole.take(LOG_LIMIT))?.0)
    }
}
