//! The user's choices where no rule covers a maintainer script, and the error that asks for them.

use std::collections::BTreeMap;

use plumb_image::assemble::{Assembled, Choice};
use plumb_image::rule::Report;
use plumb_model::MachineName;
use plumb_model::definition::{Machine, ScriptChoice};
use plumb_model::lock::LockedMachine;

use super::recipe::Job;
use crate::error::OpsError;
use crate::project::Project;

/// Most lines of one script that an error shows; `plumb build --json` has all of them.
const SHOWN_LINES: usize = 8;

/// The choices of a machine, files read. A package that is not there is an error: the choice would be forgotten.
pub(super) fn choices(
    project: &Project,
    name: &MachineName,
    machine: &Machine,
    locked: &LockedMachine,
) -> Result<BTreeMap<String, Choice>, OpsError> {
    let mut choices = BTreeMap::new();
    for (package, choice) in &machine.script {
        if !locked.packages.contains(package) {
            return Err(OpsError::NoScript { machine: name.clone(), package: package.clone() });
        }
        let choice = match choice {
            ScriptChoice::Skip => Choice::Skip,
            ScriptChoice::Rule(text) => Choice::Rule(text.clone()),
            ScriptChoice::RuleFile(path) => Choice::Rule(project.text_file(path)?),
        };
        choices.insert(package.to_string(), choice);
    }
    Ok(choices)
}

/// Refuses an image whose packages' scripts have effects that nothing covers.
pub(super) fn check(job: &Job<'_>, assembled: &Assembled) -> Result<(), OpsError> {
    if assembled.reports.is_empty() {
        return Ok(());
    }
    let mut effects = Vec::new();
    let mut packages: Vec<String> = Vec::new();
    for report in &assembled.reports {
        effects.push(text(report));
        if !packages.contains(&report.package) {
            packages.push(report.package.clone());
        }
    }
    Err(OpsError::Uncovered { machine: job.name.clone(), effects, packages })
}

fn text(report: &Report) -> String {
    let mut lines = vec![match report.script.as_str() {
        "rule" => format!("the rule `script.{}`:", report.package),
        script => format!("`{script}` of package `{}`:", report.package),
    }];
    lines.extend(report.unhandled.iter().take(SHOWN_LINES).map(|line| format!("    {line}")));
    if report.unhandled.len() > SHOWN_LINES {
        lines.push(format!("    … and {} more lines", report.unhandled.len() - SHOWN_LINES));
    }
    lines.join("\n")
}
