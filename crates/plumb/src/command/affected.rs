//! `plumb affected`.

use std::collections::BTreeSet;

use plumb_ops::{
    AffectedApp, AffectedDeployment, AffectedMachine, AffectedRelease, AffectedView, Because, Clear,
    Component, FeedView, Found, Mode, OpenView, OpenVulnerability, OpsError, Query, Unread, Urgency, WhyLink,
};

use super::Session;
use crate::args::{Affected as Arguments, Scan};
use crate::output::{err, out};
use crate::render::{self, table, tell};

/// Rows of each list; `--all` prints and `--json` has all.
const ROWS: usize = 20;

/// Longest way that is shown in a row.
const STEPS: usize = 3;

pub(super) fn run(session: &Session<'_>, arguments: &Arguments) -> Result<(), OpsError> {
    let rows = if arguments.all { usize::MAX } else { ROWS };
    let text = arguments.query.join(" ");
    let asked = |source| OpsError::Query { text: arguments.file.clone().unwrap_or(text.clone()), source };
    let view = match &arguments.file {
        Some(file) => session.plumb.affected_file(&file.parse().map_err(asked)?)?,
        None if text.trim().is_empty() => {
            let view = session.plumb.open_vulnerabilities()?;
            session.live.clear();
            open(session, &view, rows);
            return Ok(());
        }
        None => session.plumb.affected(&text.parse::<Query>().map_err(asked)?)?,
    };
    session.live.clear();
    if session.global.json {
        render::json(&view);
    } else {
        print(&view, rows);
    }
    // The program ends here; to take an answer of megabytes apart first would be waited for.
    std::mem::forget(view);
    Ok(())
}

fn print(view: &AffectedView, rows: usize) {
    let answer = &view.answer;
    let of = count(view.searched, "release");
    if view.affected {
        let runs = match answer.deployments.len() {
            0 => "nothing runs them".to_owned(),
            deployments => {
                let instances = usize::try_from(answer.instances).unwrap_or(usize::MAX);
                format!("{}, {}", count(deployments, "deployment"), count(instances, "instance"))
            }
        };
        tell(0, &format!("{}: {} of {of}; {runs}", view.query, answer.releases.len()));
        releases(view, rows);
        causes(view, rows);
        applications(&answer.applications, &answer.deployments, rows);
    } else {
        let known = if view.is_whole() { "" } else { "known to be " };
        tell(0, &format!("{}: nothing is {known}affected; {of} searched", view.query));
        why_not(view, rows);
    }
    undetermined(view, rows);
    unread(&view.unread, rows);
    view.notes.iter().for_each(|note| err!("note: {note}"));
    feeds(&view.feeds, view.unread_feeds.iter().map(ToString::to_string).collect());
    if !view.about.is_empty() && view.feeds.is_empty() {
        only_changelogs();
    }
}

fn only_changelogs() {
    err!("note: there is no feed; this is what the packages' own changelogs say");
    err!("hint: `plumb advisory add debian` takes what Debian's security team knows");
}

/// What there is instead, or who says that it is not affected.
fn why_not(view: &AffectedView, rows: usize) {
    if !view.other_versions.is_empty() {
        tell(2, &format!("versions that are there: {}", view.other_versions.join(", ")));
    }
    for Clear { component: Component { name, version, .. }, feeds } in view.clear.iter().take(rows) {
        let feeds: Vec<&str> = feeds.iter().map(String::as_str).collect();
        tell(2, &format!("{name} {version}: not affected, say {}", feeds.join(", ")));
    }
    more(view.clear.len(), rows);
    let is_there = !view.clear.is_empty() || !view.undetermined.is_empty();
    if !view.about.is_empty() && !is_there {
        let about: Vec<&str> = view.about.iter().map(String::as_str).collect();
        tell(2, &format!("it is about {}, which no release has", about.join(", ")));
    }
}

/// What runs comes first.
fn releases(view: &AffectedView, rows: usize) {
    let runs = |one: &&AffectedRelease| one.deployments.is_empty() && one.channels.is_empty();
    let mut sorted: Vec<&AffectedRelease> = view.answer.releases.iter().collect();
    sorted.sort_by_key(runs);
    let all: Vec<(&AffectedRelease, &AffectedMachine)> =
        sorted.into_iter().flat_map(|one| one.machines.iter().map(move |machine| (one, machine))).collect();
    let mut printed = table(&["RELEASE", "MACHINE", "HAS", "RUNS AS", "VIA"]);
    for (release, machine) in all.iter().take(rows) {
        let found = &view.found[machine.found];
        let chain = machine.via.map(|via| view.chains[via].as_slice());
        printed.add_row([
            release.release.to_string(),
            machine.machine.to_string(),
            found_text(found),
            places(release, &view.answer.deployments),
            via(chain, found),
        ]);
    }
    out!("\n{printed}");
    more(all.len(), rows);
}

fn found_text(found: &Found) -> String {
    match found {
        Found::Package { component: Component { name, version, source, .. }, .. } if name == source => {
            format!("{name} {version}")
        }
        Found::Package { component: Component { name, version, source, .. }, .. } => {
            format!("{name} {version} (source {source})")
        }
        Found::File { path, digest, .. } => format!("{path} ({})", digest.short()),
    }
}

fn places(release: &AffectedRelease, deployments: &[AffectedDeployment]) -> String {
    let mine = |one: &&AffectedDeployment| one.release == release.release;
    let of = |one: &AffectedDeployment| format!("{} ({})", one.deployment, one.instances);
    let mut all: Vec<String> = if release.deployments.is_empty() {
        Vec::new()
    } else {
        deployments.iter().filter(mine).map(of).collect()
    };
    let hidden = all.len().saturating_sub(STEPS);
    all.truncate(STEPS);
    if hidden > 0 {
        all.push(format!("and {hidden} more"));
    }
    all.extend(release.channels.iter().map(|channel| format!("channel {channel}")));
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

/// `nginx-light > libssl3`; of a long way the ends.
fn via(chain: Option<&[WhyLink]>, found: &Found) -> String {
    match (chain, found) {
        (Some(chain), _) => {
            let mut steps: Vec<&str> = chain.iter().map(|link| link.answer.as_str()).collect();
            if let Some(first) = chain.first().filter(|link| !link.by.contains("middleware = ")) {
                steps.insert(0, first.by.split(" = ").next().unwrap_or_default());
            }
            if steps.len() > STEPS + 1 {
                steps.splice(2..steps.len() - 1, ["…"]);
            }
            steps.dedup();
            steps.join(" > ")
        }
        (None, Found::File { origin, .. }) => match origin.strip_prefix("rule:") {
            Some(rule) => format!("made by rule {rule}"),
            None if origin == "app" => "your files".to_owned(),
            None => origin.clone(),
        },
        (None, Found::Package { .. }) => "-".to_owned(),
    }
}

/// Who says that it is affected, and what mends it.
fn causes(view: &AffectedView, rows: usize) {
    let mut said: BTreeSet<String> = BTreeSet::new();
    for found in &view.found {
        let Found::Package { component, because } = found else { continue };
        for Because { feed, vulnerability, fixed, urgency, note } in because {
            let mut text = format!("{feed}: {} {}", component.source, component.source_version);
            match fixed {
                Some(fixed) => text.push_str(&format!(", fixed in {fixed}")),
                None => text.push_str(", no fix yet"),
            }
            if *urgency != Urgency::Unknown {
                text.push_str(&format!(", urgency {}", urgency.as_str()));
            }
            if !note.is_empty() {
                text.push_str(&format!(" ({note})"));
            }
            if vulnerability.as_str() != view.query {
                text.push_str(&format!(" [{vulnerability}]"));
            }
            said.insert(text);
        }
    }
    if said.is_empty() {
        return;
    }
    out!("\nsaid by");
    said.iter().take(rows).for_each(|line| tell(2, line));
    more(said.len(), rows);
}

fn applications(applications: &[AffectedApp], deployments: &[AffectedDeployment], rows: usize) {
    out!();
    for app in applications.iter().take(rows) {
        match &app.free_since {
            Some(free) => tell(0, &format!("{}: no longer since {free}", app.application)),
            None => tell(0, &format!("{}: still in {}, the newest release", app.application, app.newest)),
        }
    }
    more(applications.len(), rows);
    let ways: Vec<String> = deployments
        .iter()
        .filter_map(|one| Some(format!("plumb upgrade {} {}", one.deployment, one.upgrade.as_ref()?)))
        .collect();
    for way in ways.iter().take(rows) {
        err!("hint: `{way}`");
    }
    if ways.len() > rows {
        err!("hint: and {} more upgrades", ways.len() - rows);
    }
}

fn undetermined(view: &AffectedView, rows: usize) {
    for one in view.undetermined.iter().take(rows) {
        let Component { name, version, .. } = &one.component;
        err!("note: not known for {name} {version}: {}", one.reason);
    }
    if view.undetermined.len() > rows {
        err!("note: and for {} more packages", view.undetermined.len() - rows);
    }
}

fn unread(unread: &[Unread], rows: usize) {
    for one in unread.iter().take(rows) {
        err!("note: not looked into: {}, {}", one.release, one.reason);
    }
    if unread.len() > rows {
        err!("note: and {} more", unread.len() - rows);
    }
}

/// How old the feeds are.
fn feeds(feeds: &[FeedView], unread: Vec<String>) {
    for feed in feeds {
        err!("note: {}", feed.in_words());
    }
    for name in unread {
        err!("note: feed `{name}` could not be read\nhint: `plumb advisory update {name}` takes it again");
    }
    if feeds.iter().any(FeedView::is_old) {
        err!("hint: `plumb advisory update` takes what the feeds have now");
    }
}

/// `plumb scan`.
pub(super) fn scan(session: &Session<'_>, arguments: &Scan) -> Result<(), OpsError> {
    let release = session.plumb.named(&arguments.release)?;
    let mode = if arguments.dry_run { Mode::DryRun } else { Mode::Do };
    let view = session.plumb.scan(&release, mode)?;
    session.live.clear();
    if session.global.json {
        render::json(&view);
        return Ok(());
    }
    let rows = if arguments.all { usize::MAX } else { ROWS };
    let known =
        |urgency: &Urgency| view.counts.get(urgency).map(|number| format!("{number} {}", urgency.as_str()));
    let counts: Vec<String> = Urgency::ALL.iter().filter_map(known).collect();
    if view.vulnerabilities.is_empty() {
        out!("{release}: no known vulnerability is open");
    } else {
        out!(
            "{release}: {} open ({}), {} mended by newer packages",
            view.vulnerabilities.len(),
            counts.join(", "),
            view.fixable
        );
        vulnerabilities(&view.vulnerabilities, rows);
    }
    if view.undetermined > 0 {
        err!("note: {} more are not determined: they may be open; `--json` names them", view.undetermined);
    }
    feeds(&view.feeds, Vec::new());
    if let Some(statement) = &view.statement {
        err!("evidence: statement {}", statement.short());
    }
    if view.fixable > 0 {
        err!("hint: `plumb lock --security` takes the newer packages into the next release");
    }
    Ok(())
}

/// Every known vulnerability of what runs.
fn open(session: &Session<'_>, view: &OpenView, rows: usize) {
    if session.global.json {
        render::json(view);
        return;
    }
    if view.deployments.is_empty() {
        err!("Nothing runs. `plumb affected PACKAGE` and `plumb affected CVE-…` search all releases.");
    } else {
        let mut header = vec!["DEPLOYMENT".to_owned(), "RELEASE".to_owned()];
        header.extend(Urgency::ALL.iter().map(|urgency| urgency.as_str().to_uppercase()));
        header.push("FIXABLE".to_owned());
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut printed = table(&header);
        for one in view.deployments.iter().take(rows) {
            let mut row = vec![one.deployment.to_string(), one.release.to_string()];
            row.extend(
                Urgency::ALL.iter().map(|urgency| {
                    one.counts.get(urgency).map_or_else(|| "-".to_owned(), ToString::to_string)
                }),
            );
            row.push(one.fixable.to_string());
            printed.add_row(row);
        }
        out!("{printed}");
        more(view.deployments.len(), rows);
        vulnerabilities(&view.vulnerabilities, rows);
    }
    unread(&view.unread, rows);
    view.notes.iter().for_each(|note| err!("note: {note}"));
    feeds(&view.feeds, view.unread_feeds.iter().map(ToString::to_string).collect());
    if view.feeds.is_empty() {
        only_changelogs();
    }
}

fn vulnerabilities(all: &[OpenVulnerability], rows: usize) {
    if all.is_empty() {
        out!("no vulnerability of what runs is known to be open");
        return;
    }
    let mut printed = table(&["VULNERABILITY", "URGENCY", "SOURCE", "VERSION", "FIXED IN"]);
    for one in all.iter().take(rows) {
        printed.add_row([
            one.name.to_string(),
            one.urgency.as_str().to_owned(),
            one.source.clone(),
            one.source_version.clone(),
            one.fixed.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    out!("\n{printed}");
    more(all.len(), rows);
}

fn more(all: usize, rows: usize) {
    if all > rows {
        out!("and {} more; `--all` prints them", all - rows);
    }
}

/// `1 release`, `2 releases`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
