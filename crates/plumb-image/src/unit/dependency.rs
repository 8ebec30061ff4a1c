//! What of a unit's dependencies concerns the other services of its machine.

use super::parse::Unit;
use super::source::{UnitSource, aliases, load};
use super::specifier::UnitName;
use super::{Notes, ServiceInput, Severity, Sibling};

/// Names of the services that must be ready before: those of the definition, those in `After=`, and those whose own
/// unit says `Before=` this one.
pub(super) fn after(
    name: &UnitName,
    unit: &Unit,
    input: &ServiceInput<'_>,
    units: &dyn UnitSource,
) -> Vec<String> {
    let mut after = input.after.clone();
    let mut add = |service: &str| {
        if service != input.name && !after.iter().any(|known| known == service) {
            after.push(service.to_owned());
        }
    };
    for wanted in names(unit, "After") {
        let sibling = input.siblings.iter().find(|sibling| provides(sibling, wanted, units));
        sibling.into_iter().for_each(|sibling| add(&sibling.name));
    }
    for sibling in input.siblings {
        let loaded =
            sibling.unit.as_deref().and_then(|other| load(&UnitName::parse(other).ok()?, units).ok());
        if loaded.is_some_and(|(_, other)| names(&other, "Before").any(|before| is_named(name, unit, before)))
        {
            add(&sibling.name);
        }
    }
    after
}

/// Reports units that this one needs and the machine does not have. Targets, mounts and slices are no programs, and
/// what they stand for (network, file systems) is there before any service starts.
pub(super) fn report_missing(
    unit: &Unit,
    input: &ServiceInput<'_>,
    units: &dyn UnitSource,
    notes: &mut Notes,
) {
    for (directive, severity) in [
        ("Requires", Severity::Unsupported),
        ("Requisite", Severity::Unsupported),
        ("BindsTo", Severity::Unsupported),
        ("Wants", Severity::Info),
    ] {
        for wanted in names(unit, directive) {
            let is_program =
                [".service", ".socket", ".timer", ".path"].iter().any(|suffix| wanted.ends_with(suffix));
            if is_program && !input.siblings.iter().any(|sibling| provides(sibling, wanted, units)) {
                notes.add(severity, directive, format!("the machine does not run `{wanted}`"));
            }
        }
    }
}

fn names<'a>(unit: &'a Unit, directive: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    unit.list("Unit", directive).iter().flat_map(|value| value.split_whitespace())
}

/// `wanted` means the unit `name`: by its name, an alias, or, for an instance, the name that stands for all instances
/// (Debian's `postgresql.service` for `postgresql@15-main.service`).
fn is_named(name: &UnitName, unit: &Unit, wanted: &str) -> bool {
    let is_family =
        || name.instance.is_some() && wanted.strip_suffix(".service") == Some(name.prefix.as_str());
    name.full == wanted || is_family() || aliases(unit).any(|alias| alias == wanted)
}

fn provides(sibling: &Sibling, wanted: &str, units: &dyn UnitSource) -> bool {
    let Some(unit) = &sibling.unit else {
        return wanted.strip_suffix(".service") == Some(sibling.name.as_str());
    };
    let Ok(name) = UnitName::parse(unit) else { return false };
    let Ok((name, unit)) = load(&name, units) else { return name.full == wanted };
    let is_link =
        || units.unit(wanted).is_some_and(|text| units.unit(&name.full).is_some_and(|own| own == text));
    is_named(&name, &unit, wanted) || is_link()
}
