//! Services: what PID 1 is told to run.

use std::collections::{BTreeMap, BTreeSet};

use plumb_guest_proto::{Init, MachineSpec};
use serde_json::Value;

use crate::Change;
use crate::cause::Cause;
use crate::side::{Pair, SideMachine};

/// One change per service that came or went, and one per field of the others.
pub(crate) fn changes(pair: &Pair<'_>) -> Vec<Change> {
    let (before, after) = (services(&pair.before.spec), services(&pair.after.spec));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let cause = cause(pair, name);
        match (before.get(name), after.get(name)) {
            (Some(one), Some(other)) => found.extend(fields(name, one, other, &cause)),
            (one, other) => found.push(Change {
                what: format!("service {name}"),
                before: one.map(command),
                after: other.map(command),
                cause,
            }),
        }
    }
    let directories = |spec: &MachineSpec| serde_json::to_value(&spec.directories).unwrap_or_default();
    let (one, other) = (directories(&pair.before.spec), directories(&pair.after.spec));
    if one != other {
        let count = |value: &Value| value.as_array().map(|list| format!("{} of them", list.len()));
        let cause = pair.made("tmpfiles");
        let what = "directories made at boot".to_owned();
        found.push(Change { what, before: count(&one), after: count(&other), cause });
    }
    found
}

/// As JSON, for the fields are compared by name.
fn services(spec: &MachineSpec) -> BTreeMap<String, Value> {
    let own = spec.services.iter().map(|service| (&service.name, serde_json::to_value(service)));
    let own = own.filter_map(|(name, value)| Some((name.clone(), value.ok()?)));
    let units = match &spec.init {
        Init::Plumb => &[][..],
        Init::Systemd(units) => units,
    };
    let units = units.iter().map(|unit| (&unit.name, serde_json::to_value(unit)));
    own.chain(units.filter_map(|(name, value)| Some((name.clone(), value.ok()?)))).collect()
}

/// What it runs, in short.
fn command(service: &Value) -> String {
    let argv = &service["start"][0]["argv"];
    match argv.as_array() {
        Some(words) => words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        None => service["unit"].as_str().unwrap_or_default().to_owned(),
    }
}

fn fields(name: &str, one: &Value, other: &Value, cause: &Cause) -> Vec<Change> {
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default()
    };
    let all: BTreeSet<String> = keys(one).union(&keys(other)).cloned().collect();
    let differing = all.into_iter().filter(|key| one[key] != other[key]);
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    };
    let change = |key: String| Change {
        what: format!("service {name}: {key}"),
        before: text(&one[&key]),
        after: text(&other[&key]),
        cause: cause.clone(),
    };
    differing.map(change).collect()
}

/// The definition, or the package whose program it runs, or whatever units are made of.
fn cause(pair: &Pair<'_>, name: &str) -> Cause {
    let own = pair.definition(&format!("service.{name}"), |machine| {
        machine.services.iter().find(|(known, _)| known.as_str() == name).map(|(_, service)| service.clone())
    });
    let by_package = || {
        let program = program(pair.after, name).or_else(|| program(pair.before, name))?;
        let (_, origin) = pair.after.inventory.entries.get(&program)?;
        let is_changed = pair.changed_packages().contains(&origin.source);
        is_changed.then(|| Cause::Package { name: origin.source.clone() })
    };
    own.or_else(|| pair.definition("init", |machine| machine.init))
        .or_else(by_package)
        .unwrap_or_else(|| pair.made("machine"))
}

/// The real path of what a service starts.
fn program(machine: &SideMachine, name: &str) -> Option<String> {
    let service = machine.spec.services.iter().find(|service| service.name == name)?;
    let program = service.start.first()?.argv.first()?;
    machine.inventory.tree().resolve(program)
}
