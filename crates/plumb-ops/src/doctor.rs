//! `doctor`: what this host offers.

use plumb_target::{AcceleratorKind, Qemu, accelerator};
use serde::Serialize;

use crate::Plumb;
use crate::error::OpsError;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Doctor {
    /// One entry per thing looked at.
    pub findings: Vec<Finding>,
    #[serde(skip)]
    error: Option<OpsError>,
}

/// One thing.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// It is as it should be, or Plumb can do without.
    pub good: bool,
    /// What was seen.
    pub detail: String,
    /// What would help.
    pub hint: Option<String>,
}

impl Doctor {
    /// The first thing that Plumb cannot do without, as an error.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn into_result(self) -> Result<(), OpsError> {
        self.error.map_or(Ok(()), Err)
    }
}

impl Plumb<'_> {
    /// Looks at QEMU, the accelerator and the home.
    #[must_use]
    pub fn doctor(&self) -> Doctor {
        let mut error = None;
        let mut findings = vec![Finding {
            what: "home",
            good: true,
            detail: self.home.root().display().to_string(),
            hint: None,
        }];
        match Qemu::find() {
            Ok(qemu) => findings.push(Finding {
                what: "qemu",
                good: true,
                detail: format!("{} {}.{}", qemu.path.display(), qemu.version.0, qemu.version.1),
                hint: None,
            }),
            Err(problem) => {
                let (detail, hint) = (problem.to_string(), problem.hint());
                findings.push(Finding { what: "qemu", good: false, detail, hint });
                error = Some(OpsError::Target(problem));
            }
        }
        match accelerator::detect(&self.home.accelerator()) {
            Ok(found) => findings.push(Finding {
                what: "accelerator",
                good: true,
                detail: format!("{} ({})", found.kind, found.reason),
                hint: found.hint.filter(|_| found.kind != AcceleratorKind::Kvm),
            }),
            Err(problem) => {
                let (detail, hint) = (problem.to_string(), problem.hint());
                findings.push(Finding { what: "accelerator", good: false, detail, hint });
                error = error.or(Some(OpsError::Target(problem)));
            }
        }
        Doctor { findings, error }
    }
}
