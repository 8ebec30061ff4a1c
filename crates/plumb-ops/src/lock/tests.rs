use expect_test::{Expect, expect};
use plumb_model::Digest;
use plumb_resolve::Source;

use super::*;

/// Name, version, what it needs.
type Package = (&'static str, &'static str, &'static str);

/// The stanzas of an index.
fn index(packages: &[Package]) -> String {
    let stanza = |(name, version, depends): &Package| {
        let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\n{depends}Filename: pool/{name}_{version}.deb\nSize: 1\nSHA256: {}\n",
            "0".repeat(64)
        )
    };
    packages.iter().map(stanza).collect::<Vec<_>>().join("\n")
}

const MAIN: &[Package] = &[
    ("libx", "1.0", ""),
    ("linux-image-6.1.0-1-cloud-amd64", "6.1.1", ""),
    ("linux-image-cloud-amd64", "6.1.1", "linux-image-6.1.0-1-cloud-amd64"),
    ("tool", "1.0", ""),
    ("web", "1.0", "libx, tool"),
];
const UPDATES: &[Package] = &[("tool", "1.1", "")];
const FIXES: &[Package] = &[
    ("libx", "1.0+deb1", ""),
    ("linux-image-6.1.0-2-cloud-amd64", "6.1.2", ""),
    ("linux-image-cloud-amd64", "6.1.2", "linux-image-6.1.0-2-cloud-amd64"),
];

struct Archive(Vec<(&'static str, &'static [Package])>);

impl Archive {
    fn lock(&self, middleware: &[&str], previous: Option<&Lock>, update: &Update) -> Lock {
        let sources =
            self.0.iter().map(|(suite, packages)| Source::from_text(*suite, index(packages)).unwrap());
        let origin = |(suite, _): &(&str, _)| SourceSnapshot {
            uri: "http://archive".to_owned(),
            suite: (*suite).to_owned(),
            date_unix_s: 0,
            in_release: Digest::of(b""),
            indices: Vec::new(),
        };
        let origins: Vec<SourceSnapshot> = self.0.iter().map(origin).collect();
        let machine = MachineInputs {
            middleware: middleware.iter().map(|name| (*name).to_owned()).collect(),
            os: Vec::new(),
            without: Vec::new(),
            requirements: Vec::new(),
            runs_scripts: false,
            runs_systemd: false,
        };
        let inputs = LockInputs {
            app: "shop".parse().unwrap(),
            archive: Vec::new(),
            kernel: "linux-image-cloud-amd64".parse().unwrap(),
            machines: BTreeMap::from([("web".parse().unwrap(), machine)]),
        };
        let snapshot = Snapshot { sources: origins.clone() };
        let archives = (Universe::new(sources.collect()), origins);
        resolve_in(&archives, &inputs, previous, update, &snapshot).unwrap().0
    }
}

fn check(before: &Lock, after: &Lock, expect: &Expect) {
    let line = |change: LockChange| {
        let text = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        format!("{} {} -> {} ({})\n", change.package, text(change.from), text(change.to), text(change.suite))
    };
    expect.assert_eq(&changes(Some(before), after).into_iter().map(line).collect::<String>());
}

#[test]
fn each_update_takes_what_it_says() {
    let old = Archive(vec![("bookworm", MAIN)]).lock(&["web"], None, &Update::Keep);
    let now = Archive(vec![("bookworm", MAIN), ("bookworm-updates", UPDATES), ("bookworm-security", FIXES)]);
    let after = |update: &Update| now.lock(&["web"], Some(&old), update);
    check(&old, &after(&Update::Keep), &expect![[""]]);
    check(
        &old,
        &after(&Update::Security),
        &expect![[r#"
        libx 1.0 -> 1.0+deb1 (bookworm-security)
        linux-image-6.1.0-1-cloud-amd64 6.1.1 -> - (-)
        linux-image-6.1.0-2-cloud-amd64 - -> 6.1.2 (bookworm-security)
    "#]],
    );
    check(
        &old,
        &after(&Update::Packages(vec!["tool".to_owned()])),
        &expect![[r#"
        tool 1.0 -> 1.1 (bookworm-updates)
    "#]],
    );
    check(
        &old,
        &after(&Update::Packages(vec!["linux-image-cloud-amd64".to_owned()])),
        &expect![[r#"
        linux-image-6.1.0-1-cloud-amd64 6.1.1 -> - (-)
        linux-image-6.1.0-2-cloud-amd64 - -> 6.1.2 (bookworm-security)
    "#]],
    );
    check(
        &old,
        &after(&Update::All),
        &expect![[r#"
        libx 1.0 -> 1.0+deb1 (bookworm-security)
        linux-image-6.1.0-1-cloud-amd64 6.1.1 -> - (-)
        linux-image-6.1.0-2-cloud-amd64 - -> 6.1.2 (bookworm-security)
        tool 1.0 -> 1.1 (bookworm-updates)
    "#]],
    );
}

#[test]
fn a_package_more_changes_no_other() {
    let old = Archive(vec![("bookworm", MAIN)]).lock(&["libx"], None, &Update::Keep);
    let now = Archive(vec![("bookworm", MAIN), ("bookworm-updates", UPDATES), ("bookworm-security", FIXES)]);
    // The kernel, too: nobody asked for another one.
    check(
        &old,
        &now.lock(&["libx", "tool"], Some(&old), &Update::Keep),
        &expect![[r#"
        tool - -> 1.1 (bookworm-updates)
    "#]],
    );
}

#[test]
fn a_fix_that_came_with_a_point_release_is_one() {
    // The suite has it as well, and wins where both have it: it is a fix all the same, and there is a newer version.
    const POINT: &[Package] = &[
        ("libx", "1.0", ""),
        ("libx", "1.0+deb1", ""),
        ("libx", "1.1", ""),
        ("linux-image-6.1.0-1-cloud-amd64", "6.1.1", ""),
        ("linux-image-cloud-amd64", "6.1.1", "linux-image-6.1.0-1-cloud-amd64"),
    ];
    const FIX: &[Package] = &[("libx", "1.0+deb1", "")];
    let old = Archive(vec![("bookworm", MAIN)]).lock(&["libx"], None, &Update::Keep);
    let now = Archive(vec![("bookworm", POINT), ("bookworm-security", FIX)]);
    check(
        &old,
        &now.lock(&["libx"], Some(&old), &Update::Security),
        &expect![[r#"
        libx 1.0 -> 1.0+deb1 (bookworm)
    "#]],
    );
}
