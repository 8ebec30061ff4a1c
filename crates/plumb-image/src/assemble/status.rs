//! The package list of the image, as a dpkg database (dpkg-query(1), deb-control(5)): what scanners read.
//!
//! ```text
//!  /var/lib/dpkg/status                    the control stanza of every package, with a Status field
//!  /var/lib/dpkg/info/format               "1"
//!  /var/lib/dpkg/info/NAME[:ARCH].list     its paths in this image, one a line
//!  /var/lib/dpkg/{available,arch}          empty, so that dpkg-query says nothing
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::{AssembleError, PackageInput};
use crate::rule::world::World;

const RULE: &str = "rule:package-list";

/// The value of a field of a control stanza; continuation lines are joined by line breaks.
pub(super) fn field(control: &str, name: &str) -> Option<String> {
    let mut lines = control.lines();
    let is = |line: &&str| line.split_once(':').is_some_and(|(field, _)| field.eq_ignore_ascii_case(name));
    let first = lines.by_ref().find(is)?;
    let mut value = first.split_once(':').map_or("", |(_, value)| value).trim().to_owned();
    for line in lines.take_while(|line| line.starts_with([' ', '\t'])) {
        value.push('\n');
        value.push_str(line.trim());
    }
    Some(value)
}

/// Package names of a dependency field, alternatives included, without versions.
pub(super) fn names(control: &str, name: &str) -> Vec<String> {
    let value = field(control, name).unwrap_or_default();
    let parts =
        value.split([',', '|']).map(|part| part.trim().split([' ', '(', ':', '\n']).next().unwrap_or(""));
    parts.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Dependencies before those that need them; circles are cut at the smaller name, so that the order depends on
/// nothing but the packages.
pub(super) fn in_dependency_order<'a>(packages: &[PackageInput<'a>]) -> Vec<PackageInput<'a>> {
    let by_name: BTreeMap<&str, PackageInput<'a>> = packages.iter().map(|p| (p.name, *p)).collect();
    let mut ordered = Vec::new();
    let mut seen = BTreeSet::new();
    for start in by_name.keys().copied() {
        // An own stack: a chain of packages may be as long as a hostile archive likes.
        let mut stack = vec![(start, false)];
        while let Some((name, is_done)) = stack.pop() {
            let Some((name, package)) = by_name.get_key_value(name) else { continue };
            if is_done {
                ordered.push(*package);
                continue;
            }
            if !seen.insert(*name) {
                continue;
            }
            stack.push((name, true));
            let control = &package.content.control;
            let mut needs = names(control, "Pre-Depends");
            needs.extend(names(control, "Depends"));
            let needs: BTreeSet<&str> = needs
                .iter()
                .filter_map(|need| by_name.get_key_value(need.as_str()).map(|(name, _)| *name))
                .collect();
            stack.extend(needs.into_iter().rev().map(|need| (need, false)));
        }
    }
    ordered
}

/// Writes the database.
pub(super) fn write(world: &mut World<'_>, packages: &[PackageInput<'_>]) -> Result<(), AssembleError> {
    let origin = World::origin(RULE);
    let mut sorted: Vec<&PackageInput<'_>> = packages.iter().collect();
    sorted.sort_by_key(|package| package.name);
    let mut paths: BTreeMap<String, String> = BTreeMap::new();
    for (path, (_, origin)) in &world.tree.entries {
        let list = paths.entry(origin.source.clone()).or_default();
        list.push_str(path);
        list.push('\n');
    }
    let mut status = String::new();
    for package in sorted {
        status.push_str(&stanza(package, "installed"));
        status.push('\n');
        let is_same = field(&package.content.control, "Multi-Arch").as_deref() == Some("same");
        let suffix = if is_same { format!(":{}", package.architecture) } else { String::new() };
        let list = format!("/.\n{}", paths.remove(package.name).unwrap_or_default());
        let path = format!("/var/lib/dpkg/info/{}{suffix}.list", package.name);
        world.write(&path, list.as_bytes(), 0o644, &origin)?;
    }
    world.write("/var/lib/dpkg/status", status.as_bytes(), 0o644, &origin)?;
    world.write("/var/lib/dpkg/info/format", b"1\n", 0o644, &origin)?;
    world.write("/var/lib/dpkg/available", b"", 0o644, &origin)?;
    Ok(())
}

/// The control stanza with `Status` behind the first field, as dpkg writes it. It ends at the first blank line: a
/// package must not forge the stanza of another one.
pub(super) fn stanza(package: &PackageInput<'_>, state: &str) -> String {
    let mut out = format!("Package: {}\nStatus: install ok {state}\n", package.name);
    let mut skipping = false;
    let lines = package.content.control.trim_start().lines().take_while(|line| !line.trim().is_empty());
    for line in lines {
        if !line.starts_with([' ', '\t']) {
            let name = line.split(':').next().unwrap_or_default();
            skipping = ["Package", "Status"].iter().any(|field| name.eq_ignore_ascii_case(field));
        }
        if !skipping {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let control = "Package: a\nDepends: libc6 (>= 2.3), b:any | c,\n d\nDescription: x\n y\n";
        assert_eq!(names(control, "Depends"), ["libc6", "b", "c", "d"]);
        assert_eq!(field(control, "description").as_deref(), Some("x\ny"));
        assert_eq!(field(control, "Nothing"), None);
    }
}
