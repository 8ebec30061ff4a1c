//! `plumb config`.

use std::path::Path;
use std::process::Command;

use plumb_model::DeploymentName;
use plumb_ops::{
    Apply, ConfigChange, ConfigDifference, ConfigOutcome, ConfigView, OpsError, SettingOrigin, utc,
};

use super::{Session, plan};
use crate::args::{Assignment, Config, ConfigCommand, When};
use crate::output::{err, out};
use crate::render::{self, table};

pub(super) fn run(session: &Session<'_>, arguments: &Config) -> Result<(), OpsError> {
    let plumb = &session.plumb;
    match &arguments.command {
        ConfigCommand::Show { deployment, number } => {
            let view = plumb.config(deployment, *number)?;
            if session.global.json { render::json(&view) } else { show(&view) }
        }
        ConfigCommand::Set { deployment, settings, when } => {
            let set = settings.iter().map(|Assignment(name, value)| (name.clone(), value.clone())).collect();
            let change = ConfigChange { set, ..ConfigChange::default() };
            tell(session, &plumb.configure(deployment, &change, apply(*when))?, apply(*when));
        }
        ConfigCommand::Unset { deployment, names, when } => {
            let change = ConfigChange { unset: names.clone(), ..ConfigChange::default() };
            tell(session, &plumb.configure(deployment, &change, apply(*when))?, apply(*when));
        }
        ConfigCommand::Edit { deployment, when } => match edited(session, deployment, apply(*when))? {
            Some(outcome) => tell(session, &outcome, apply(*when)),
            None => err!("nothing was changed"),
        },
        ConfigCommand::Apply { deployment, dry_run } => {
            let apply = if *dry_run { Apply::DryRun } else { Apply::Now };
            tell(session, &plumb.configure(deployment, &ConfigChange::default(), apply)?, apply);
        }
        ConfigCommand::Log { deployment } => {
            let entries = plumb.config_log(deployment)?;
            if session.global.json {
                render::json(&entries);
                return Ok(());
            }
            if entries.is_empty() {
                err!("Nothing was ever set. `plumb config set {deployment} NAME=VALUE` sets a value.");
                return Ok(());
            }
            let mut rows = table(&["NUMBER", "MADE", "BY", "CHANGES", ""]);
            for entry in &entries {
                let changes: Vec<String> = entry.changes.iter().map(difference).collect();
                let mark = match (entry.running, entry.wanted) {
                    (true, _) => "runs",
                    (false, true) => "wanted",
                    (false, false) => "",
                };
                rows.add_row([
                    entry.number.to_string(),
                    utc(entry.created_s, "%Y-%m-%d %H:%M"),
                    entry.author.clone(),
                    changes.join("\n"),
                    mark.to_owned(),
                ]);
            }
            out!("{rows}");
        }
        ConfigCommand::Diff { deployment, one, other } => {
            let found = plumb.config_diff(deployment, *one, *other)?;
            if session.global.json {
                render::json(&found);
                return Ok(());
            }
            if found.is_empty() {
                err!("nothing differs");
            }
            for one in &found {
                out!("{}", difference(one));
            }
        }
    }
    Ok(())
}

/// Has somebody edit what is set, and sets it.
fn edited(
    session: &Session<'_>,
    deployment: &DeploymentName,
    apply: Apply,
) -> Result<Option<ConfigOutcome>, OpsError> {
    let sheet = session.plumb.config_sheet(deployment)?;
    if sheet.continued {
        err!("note: goes on with what an edit before this one left in `{}`", sheet.path.display());
    }
    for path in &sheet.older {
        err!("note: what was written for an older configuration stays in `{}`", path.display());
    }
    edit(&sheet.path)?;
    session.plumb.set_sheet(sheet, apply)
}

/// Has somebody edit a file in the program of their choice, which may have arguments.
fn edit(path: &Path) -> Result<(), OpsError> {
    let chosen = super::variable("VISUAL").or_else(|| super::variable("EDITOR"));
    let chosen = chosen.unwrap_or_else(|| "vi".to_owned());
    let failed = |source| OpsError::Io { action: "edit", path: path.to_owned(), source };
    let mut shell = Command::new("/bin/sh");
    let status = shell.args(["-c", &format!("{chosen} \"$1\""), "sh"]).arg(path).status().map_err(failed)?;
    if status.success() {
        return Ok(());
    }
    let reason = format!("`{chosen}` ended with {status}; nothing was set");
    Err(failed(std::io::Error::other(reason)))
}

/// When a change is brought to the instances.
pub(super) fn apply(when: When) -> Apply {
    match (when.dry_run, when.no_apply) {
        (true, _) => Apply::DryRun,
        (false, true) => Apply::Later,
        (false, false) => Apply::Now,
    }
}

/// What came of a change.
pub(super) fn tell(session: &Session<'_>, outcome: &ConfigOutcome, apply: Apply) {
    session.live.clear();
    if session.global.json {
        render::json(outcome);
        return;
    }
    if apply == Apply::DryRun {
        match &outcome.plan {
            Some(explanation) => plan::print_plan(explanation, (&outcome.steps, &[]), true),
            None => err!("{} does not run: nothing would stop, and nothing was changed", outcome.deployment),
        }
        return;
    }
    let name = &outcome.deployment;
    match (outcome.configuration, outcome.applied, outcome.changed) {
        (None, _, _) => out!("{name} has nothing set"),
        (Some(number), true, _) => out!("{name} runs with configuration {number}"),
        (Some(number), false, true) => {
            out!("{name} has configuration {number}; its instances are as they were");
            err!(
                "`plumb config apply {name}` brings it to them, and so does the next `plumb up` or `plumb upgrade`"
            );
        }
        (Some(number), false, false) => out!("{name} has configuration {number}, as before"),
    }
}

fn show(view: &ConfigView) {
    let number = match (view.configuration, view.running) {
        (None, _) => "nothing set".to_owned(),
        (Some(number), running) if running == Some(number) => format!("configuration {number}"),
        (Some(number), Some(running)) => format!("configuration {number}; {running} runs"),
        (Some(number), None) => format!("configuration {number}"),
    };
    out!("{}  {}  {number}", view.deployment, view.release);
    if view.settings.is_empty() {
        err!("The definition of {} has no `[config]`.", view.release);
        return;
    }
    let mut rows = table(&["NAME", "VALUE", "FROM", "USED BY", "WHAT IT IS"]);
    for setting in &view.settings {
        let used: Vec<&str> = setting.used_by.iter().map(|machine| machine.as_str()).collect();
        let about = [setting.about.as_str(), setting.allowed.as_str()];
        let about: Vec<&str> = about.into_iter().filter(|text| !text.is_empty()).collect();
        rows.add_row([
            setting.name.to_string(),
            setting.value.clone().unwrap_or_else(|| "-".to_owned()),
            origin(setting.origin).to_owned(),
            used.join(" "),
            about.join("; "),
        ]);
    }
    out!("{rows}");
}

/// Where a value comes from.
pub(super) fn origin(origin: SettingOrigin) -> &'static str {
    match origin {
        SettingOrigin::Set => "set",
        SettingOrigin::Default => "default",
        SettingOrigin::Missing => "MISSING",
        SettingOrigin::Unset => "not set",
        SettingOrigin::Unused => "set, not used",
    }
}

/// `workers: 2 -> 4`.
pub(super) fn difference(one: &ConfigDifference) -> String {
    match (one.secret, &one.before, &one.after) {
        (true, None, _) => format!("secret {}: set", one.name),
        (true, _, None) => format!("secret {}: taken out", one.name),
        (true, _, _) => format!("secret {}: changed", one.name),
        (false, before, after) => {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
            format!("{}: {} -> {}", one.name, shown(before), shown(after))
        }
    }
}
