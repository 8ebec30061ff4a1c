//! Packages: which, and why.

use std::collections::BTreeSet;

use plumb_debian::{PackageName, parse_relations};
use plumb_model::image::ImagePackage;
use plumb_resolve::{Link, Requirer, RootRequest};

use crate::PackageChange;
use crate::cause::Cause;
use crate::side::Pair;

/// Longest chain of reasons that is followed; dependencies may go in circles.
const MAX_CHAIN: usize = 64;

pub(crate) fn changes(pair: &Pair<'_>) -> Vec<PackageChange> {
    let (before, after) = (&pair.before.image.packages, &pair.after.image.packages);
    let names: BTreeSet<&PackageName> = before.keys().chain(after.keys()).collect();
    let mut found = Vec::new();
    for name in names {
        let (one, other) = (before.get(name), after.get(name));
        if one.map(|package| &package.version) == other.map(|package| &package.version) {
            continue;
        }
        let version = |package: Option<&ImagePackage>| package.map(|package| package.version.to_string());
        found.push(PackageChange {
            name: name.clone(),
            layer: other.or(one).map(|package| package.layer.clone()).unwrap_or_default(),
            before: version(one),
            after: version(other),
            cause: cause(pair, name, 0),
            fixes: Vec::new(),
            brings: Vec::new(),
        });
    }
    found
}

/// Why a package came, went or changed its version. `depth` is how many packages led here.
fn cause(pair: &Pair<'_>, name: &PackageName, depth: usize) -> Cause {
    if depth >= MAX_CHAIN {
        return Cause::Unknown;
    }
    match (pair.before.image.packages.contains_key(name), pair.after.image.packages.contains_key(name)) {
        (true, false) => gone(pair, name, depth),
        (false, true) => come(pair, name, depth),
        _ => moved(pair, name),
    }
}

/// Another version of a package that is in both.
fn moved(pair: &Pair<'_>, name: &PackageName) -> Cause {
    let asked = |roots: &[RootRequest]| -> Vec<String> {
        roots.iter().filter(|root| names(root, name)).map(|root| root.asked_by.clone()).collect()
    };
    let (before, after) = (asked(&pair.before.roots), asked(&pair.after.roots));
    let has_version = |lines: &[String]| lines.iter().any(|line| line.contains('('));
    if before != after && (has_version(&before) || has_version(&after)) {
        let line = after.first().or(before.first()).cloned().unwrap_or_default();
        return Cause::Definition { key: pair.key(&line) };
    }
    let package = pair.sides.1.lock.package(name.as_str());
    pair.base(package).unwrap_or(Cause::Update)
}

fn names(root: &RootRequest, name: &PackageName) -> bool {
    parse_relations(&root.relation)
        .is_ok_and(|groups| groups.iter().flat_map(|group| &group.0).any(|relation| relation.name == *name))
}

/// It was not there: the first of the packages that lead to it that is new, or needs more than before, says why.
fn come(pair: &Pair<'_>, name: &PackageName, depth: usize) -> Cause {
    let chain = pair.after.dependencies.chain(&pair.after.roots, name);
    let Some(Link { requirer, relation, .. }) = chain.last() else { return waived(pair, name) };
    let by = match requirer {
        Requirer::Root(line) => {
            // Asked for by both: then what answers it is another one.
            let is_new = !pair.before.roots.iter().any(|root| root.asked_by == *line);
            return if is_new {
                Cause::Definition { key: pair.key(line) }
            } else {
                first([waived(pair, name), pair.base(None).unwrap_or(Cause::Unknown)])
            };
        }
        Requirer::Package(by) => by,
    };
    let is_changed = versions_differ(pair, by);
    let because = if is_changed { cause(pair, by, depth + 1) } else { waived(pair, name) };
    let because = if because == Cause::Unknown { pair.base(None).unwrap_or(Cause::Unknown) } else { because };
    match because {
        Cause::Unknown => Cause::Unknown,
        because => {
            Cause::Dependency { by: by.to_string(), relation: relation.clone(), because: Box::new(because) }
        }
    }
}

/// It is not there any more: the first step of the way to it that does not hold any more says why, and who needed it last
/// says what that has to do with it.
fn gone(pair: &Pair<'_>, name: &PackageName, depth: usize) -> Cause {
    let direct = waived(pair, name);
    if direct != Cause::Unknown {
        return direct;
    }
    let chain = pair.before.dependencies.chain(&pair.before.roots, name);
    let broken = chain.iter().find_map(|link| broken(pair, link, depth));
    let because = broken.or_else(|| pair.base(None)).unwrap_or(Cause::Unknown);
    match chain.last().map(|link| &link.requirer) {
        Some(Requirer::Package(by)) if because != Cause::Unknown => {
            Cause::NotNeeded { by: by.to_string(), because: Box::new(because) }
        }
        _ => because,
    }
}

/// Why a dependency of before is none any more; `None` if it still is one.
fn broken(pair: &Pair<'_>, link: &Link, depth: usize) -> Option<Cause> {
    let by = match &link.requirer {
        Requirer::Root(line) => {
            let is_there = pair.after.roots.iter().any(|root| root.asked_by == *line);
            return (!is_there).then(|| Cause::Definition { key: pair.key(line) });
        }
        Requirer::Package(by) => by,
    };
    if !pair.after.image.packages.contains_key(by) {
        return Some(cause(pair, by, depth + 1));
    }
    let requirers = pair.after.dependencies.requirers(&pair.after.roots, &link.package);
    if requirers.iter().any(|other| other.requirer == link.requirer) {
        return None;
    }
    let moved = if versions_differ(pair, by) { moved(pair, by) } else { Cause::Unknown };
    Some(first([moved, waived(pair, &link.package), pair.base(None).unwrap_or(Cause::Unknown)]))
}

fn first<const N: usize>(causes: [Cause; N]) -> Cause {
    causes.into_iter().find(|cause| *cause != Cause::Unknown).unwrap_or(Cause::Unknown)
}

fn versions_differ(pair: &Pair<'_>, name: &PackageName) -> bool {
    let version = |packages: &std::collections::BTreeMap<PackageName, ImagePackage>| {
        packages.get(name).map(|package| package.version.clone())
    };
    version(&pair.before.image.packages) != version(&pair.after.image.packages)
}

/// What leaves packages out, or does no longer: the definition, who is PID 1, a rule of Plumb's.
fn waived(pair: &Pair<'_>, name: &PackageName) -> Cause {
    let (one, other) = (&pair.before.image, &pair.after.image);
    if one.without.contains(name) != other.without.contains(name) {
        return Cause::Definition { key: pair.key("without") };
    }
    if one.left_out.contains(name) != other.left_out.contains(name) {
        return first([
            pair.definition("init", |machine| machine.init).unwrap_or(Cause::Unknown),
            pair.plumb().unwrap_or(Cause::Unknown),
        ]);
    }
    Cause::Unknown
}
