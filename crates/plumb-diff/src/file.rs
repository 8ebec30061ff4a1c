//! Paths: what of them differs, and why.

use plumb_guest_proto::TEMPLATE_PATH;
use plumb_image::compare::{What, compare};
use plumb_image::tree::{Entry, Layer, Origin};
use plumb_model::definition::AppContent;

use crate::cause::Cause;
use crate::side::{Pair, SideMachine};
use crate::{Change, FileChange};

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// Capabilities of a file: capabilities(7).
const CAPABILITY: &str = "security.capability";

pub(crate) fn changes(pair: &Pair<'_>) -> Vec<FileChange> {
    let (before, after) = (&pair.before.inventory.entries, &pair.after.inventory.entries);
    let found = compare(before, after);
    found
        .into_iter()
        .map(|difference| {
            let path = difference.path;
            let (one, other) = (before.get(&path), after.get(&path));
            let layer = other.or(one).map_or(Layer::Os, |(_, origin)| origin.layer);
            FileChange {
                layer: layer_name(layer).to_owned(),
                privilege: rights(one.map(|(entry, _)| entry)) != rights(other.map(|(entry, _)| entry)),
                cause: cause(pair, &path, (one.map(|it| &it.1), other.map(|it| &it.1)), &difference.what),
                what: difference.what,
                path,
            }
        })
        .collect()
}

fn layer_name(layer: Layer) -> &'static str {
    match layer {
        Layer::Os => "os",
        Layer::Middleware => "middleware",
        Layer::App => "app",
    }
}

/// What a file may do beyond whoever runs it: whose it is counts only where it is set-id.
fn rights(entry: Option<&Entry>) -> Option<(u32, u32, u32, Option<&Vec<u8>>)> {
    let entry = entry?;
    let (set_id, capability) = (entry.mode & SET_ID, entry.xattrs.get(CAPABILITY));
    (set_id != 0 || capability.is_some()).then_some((set_id, entry.uid, entry.gid, capability))
}

fn cause(
    pair: &Pair<'_>,
    path: &str,
    (before, after): (Option<&Origin>, Option<&Origin>),
    what: &What,
) -> Cause {
    // Ids are given for the whole application when an account first appears.
    if matches!(what, What::Owner { .. }) && pair.upstream().iter().any(|name| name == "accounts") {
        return Cause::Made { rule: "accounts".to_owned(), of: vec!["accounts".to_owned()] };
    }
    let sources = [after, before].into_iter().flatten().map(|origin| origin.source.as_str());
    for source in sources {
        let found = of_source(pair, path, source);
        if found != Cause::Unknown {
            return found;
        }
    }
    Cause::Unknown
}

/// Why what this source brings may differ.
fn of_source(pair: &Pair<'_>, path: &str, source: &str) -> Cause {
    if source == "app" {
        return app(pair, path);
    }
    let is_changed = |name: &str| pair.changed_packages().contains(name);
    let package = |name: &str| is_changed(name).then(|| Cause::Package { name: name.to_owned() });
    if let Some(rule) = source.strip_prefix("rule:") {
        let by_script = rule.strip_prefix("script:").and_then(package);
        let by_definition = match rule {
            "machine" => pair
                .definition("service", |machine| machine.services.clone())
                .or_else(|| pair.definition("config", |machine| machine.config.clone()))
                .or_else(|| pair.checks()),
            "volumes" => pair.definition("volume", |machine| machine.volumes.clone()),
            _ => None,
        };
        return by_script.or(by_definition).unwrap_or_else(|| pair.made(rule));
    }
    if source == "scripts" || source.starts_with("scripts:") {
        let own = source.strip_prefix("scripts:").and_then(package);
        return own.unwrap_or_else(|| pair.made("scripts"));
    }
    package(source)
        .or_else(|| pair.definition("keep", |machine| machine.keep.clone()))
        .or_else(|| pair.definition("init", |machine| machine.init))
        .or_else(|| pair.definition("script", |machine| (machine.script.clone(), machine.scripts)))
        .or_else(|| pair.plumb())
        // Another package diverts it, replaces it, or edits it by a script.
        .unwrap_or_else(|| pair.made("merge"))
}

/// The user's own content: what the definition says of it, or what lies in the folder.
fn app(pair: &Pair<'_>, path: &str) -> Cause {
    let (before, after) = pair.machines();
    // A template lies elsewhere, and a link in its place.
    let place = path.strip_prefix(TEMPLATE_PATH).unwrap_or(path);
    let template = |machine: Option<&plumb_model::definition::Machine>| {
        machine?.config.iter().find(|template| template.target == place).cloned()
    };
    let (one, other) = (template(before), template(after));
    if one != other {
        return Cause::Definition { key: pair.key(&format!("config.\"{place}\"")) };
    }
    if one.is_some() {
        return Cause::Files { target: place.to_owned() };
    }
    let of = |machine: Option<&plumb_model::definition::Machine>| -> Option<AppContent> {
        let below = |target: &str| {
            path == target || path.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'))
        };
        let found = machine?.app.iter().filter(|content| below(&content.target));
        found.max_by_key(|content| content.target.len()).cloned()
    };
    let (one, other) = (of(before), of(after));
    if one != other {
        let target = other.or(one).map(|content| content.target).unwrap_or_default();
        return Cause::Definition { key: pair.key(&format!("app.\"{target}\"")) };
    }
    match one {
        Some(content) => Cause::Files { target: content.target },
        // A folder above a target.
        None => pair.made("app"),
    }
}

/// Names of shared libraries that came or went.
pub(crate) fn libraries(pair: &Pair<'_>) -> Vec<Change> {
    let (before, after) = (&pair.before.libraries, &pair.after.libraries);
    let mut found = Vec::new();
    for (name, path) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        let cause = of_path(pair, pair.before, path);
        found.push(Change { what: name.clone(), before: Some(path.clone()), after: None, cause });
    }
    for (name, path) in after.iter().filter(|(name, _)| !before.contains_key(*name)) {
        let cause = of_path(pair, pair.after, path);
        found.push(Change { what: name.clone(), before: None, after: Some(path.clone()), cause });
    }
    found.sort_by(|one, other| one.what.cmp(&other.what));
    found
}

fn of_path(pair: &Pair<'_>, side: &SideMachine, path: &str) -> Cause {
    match side.inventory.entries.get(path) {
        Some((_, origin)) => of_source(pair, path, &origin.source),
        None => Cause::Unknown,
    }
}
