//! One case per rule.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use super::{index, names, packages, request, shown, universe};
use crate::{Request, Source, Universe, Update, Violation, Waiver, check};

fn case(index: &str, roots: &str, expected: &Expect) {
    expected.assert_eq(&shown(&universe(index), &request(roots)));
}

#[test]
fn closure_is_depends_and_pre_depends_only() {
    case(
        "web 1.0; Depends: lib (>= 1), conf; Recommends: docs; Pre-Depends: pre
         web 0.9
         lib 1.0
         lib 0.5
         conf 1; Architecture: all
         docs 1
         pre 1
         base 1; Essential: yes
         lib 2.0; Architecture: arm64",
        "web",
        &expect![[r#"
            conf 1 <- web: conf
            lib 1.0 <- web: lib (>= 1)
            pre 1 <- web: pre
            web 1.0 <- shop/web: web
        "#]],
    );
}

#[test]
fn alternatives_prefer_the_first_unless_another_is_there_anyway() {
    let index = "aa 1; Depends: bb | cc
         bb 1
         cc 1
         dd 1; Depends: cc
         ee 1; Depends: none | cc";
    case(
        index,
        "aa",
        &expect![[r#"
        aa 1 <- shop/web: aa
        bb 1 <- aa: bb | cc
    "#]],
    );
    case(
        index,
        "aa, dd",
        &expect![[r#"
        aa 1 <- shop/web: aa
        cc 1 <- aa: bb | cc; dd: cc
        dd 1 <- shop/web: dd
    "#]],
    );
    case(
        index,
        "ee",
        &expect![[r#"
        cc 1 <- ee: none | cc
        ee 1 <- shop/web: ee
    "#]],
    );
    case(
        index,
        "none | bb",
        &expect![[r#"
        bb 1 <- shop/web: none | bb
    "#]],
    );
}

#[test]
fn provides() {
    let index = "mail-a 1; Provides: mta; Priority: optional
         mail-b 1; Provides: mta; Priority: standard
         mail-c 1; Provides: mta; Priority: standard
         perl 5.36; Provides: perlapi (= 5.36), perlmod
         user 1; Depends: mta
         app 1; Depends: perlapi (>= 5)
         old 1; Depends: perlapi (<< 5)
         mod 1; Depends: perlmod (>= 1)";
    case(
        index,
        "user",
        &expect![[r#"
        mail-b 1 <- user: mta
        user 1 <- shop/web: user
    "#]],
    );
    case(
        index,
        "user, mail-a",
        &expect![[r#"
        mail-a 1 <- shop/web: mail-a; user: mta
        user 1 <- shop/web: user
    "#]],
    );
    case(
        index,
        "app",
        &expect![[r#"
        app 1 <- shop/web: app
        perl 5.36 <- app: perlapi (>= 5)
    "#]],
    );
    case(
        index,
        "old",
        &expect![[r#"
        shop/web asks for `old`
          `old` 1 needs `perlapi (<< 5)`, but what provides `perlapi` does so in no version that fits: `perl`
    "#]],
    );
    case(
        index,
        "mod",
        &expect![[r#"
        shop/web asks for `mod`
          `mod` 1 needs `perlmod (>= 1)`, but what provides `perlmod` does so in no version that fits: `perl`
    "#]],
    );
}

#[test]
fn any_is_answered_by_packages_that_allow_it() {
    let index = "python3 3.11; Multi-Arch: allowed
         perl 5.36
         aa 1; Depends: python3:any (>= 3)
         bb 1; Depends: perl:any
         cc 1; Depends: perl:amd64
         dd 1; Depends: perl:i386";
    case(
        index,
        "aa",
        &expect![[r#"
        aa 1 <- shop/web: aa
        python3 3.11 <- aa: python3:any (>= 3)
    "#]],
    );
    case(
        index,
        "bb",
        &expect![[r#"
        shop/web asks for `bb`
          `bb` 1 needs `perl:any`, but `perl` 5.36 (bookworm) does not answer for `:any`
    "#]],
    );
    case(
        index,
        "cc",
        &expect![[r#"
        cc 1 <- shop/web: cc
        perl 5.36 <- cc: perl:amd64
    "#]],
    );
    case(
        index,
        "dd",
        &expect![[r#"
        shop/web asks for `dd`
          `dd` 1 needs `perl:i386`, but `perl` 5.36 (bookworm) does not answer for `:i386`
    "#]],
    );
}

#[test]
fn conflicts_and_breaks() {
    let index = "exim 1; Provides: mta; Conflicts: mta
         postfix 1; Provides: mta; Conflicts: mta
         lib 2; Breaks: tool (<< 2)
         tool 1
         tool 2
         mid 1; Depends: lib";
    case(
        index,
        "exim",
        &expect![[r#"
        exim 1 <- shop/web: exim
    "#]],
    );
    case(
        index,
        "exim, postfix",
        &expect![[r#"
        shop/web asks for `exim`
        shop/web asks for `postfix`
        `exim` 1 excludes `postfix` 1 (`Conflicts: mta`)
    "#]],
    );
    case(
        index,
        "mid, tool",
        &expect![[r#"
        lib 2 <- mid: lib
        mid 1 <- shop/web: mid
        tool 2 <- shop/web: tool
    "#]],
    );
    case(
        index,
        "mid, tool (<< 2)",
        &expect![[r#"
        shop/web asks for `mid`
          `mid` 1 needs `lib`
        shop/web asks for `tool (<< 2)`
        `lib` 2 excludes `tool` 1 (`Breaks: tool (<< 2)`)
    "#]],
    );
}

#[test]
fn an_older_version_is_taken_when_the_newest_does_not_fit() {
    let index = "app 2; Depends: lib (>= 2), gone
         app 1; Depends: lib
         lib 3
         lib 2";
    case(
        index,
        "app",
        &expect![[r#"
        app 1 <- shop/web: app
        lib 3 <- app: lib
    "#]],
    );
    case(
        index,
        "app, lib (<< 3)",
        &expect![[r#"
        app 1 <- shop/web: app
        lib 2 <- shop/web: lib (<< 3); app: lib
    "#]],
    );
}

#[test]
fn without() {
    let index = "web 1; Depends: debconf | debconf-2.0, adduser, init | cron
         debconf 1; Provides: debconf-2.0
         adduser 1; Depends: passwd
         passwd 1
         cron 1";
    let universe = universe(index);
    let with = |without| Request { without: names(without), ..request("web") };
    expect![[r#"
        cron 1 <- web: init | cron
        web 1 <- shop/web: web
        waived web: adduser
        waived web: debconf | debconf-2.0
    "#]]
    .assert_eq(&shown(&universe, &with("debconf adduser")));
    expect![[r#"
        adduser 1 <- web: adduser
        cron 1 <- web: init | cron
        debconf 1 <- web: debconf | debconf-2.0
        passwd 1 <- adduser: passwd
        web 1 <- shop/web: web
    "#]]
    .assert_eq(&shown(&universe, &with("init")));
    expect![[r#"
        shop/web asks for `web`, which is left out by `without`
    "#]]
    .assert_eq(&shown(&universe, &with("web")));
}

#[test]
fn waivers() {
    let universe = universe(
        "web 1; Depends: debconf | debconf-2.0, ip, lib
         tool 1; Depends: ip
         lib 1; Depends: gcc-12-base (= 12)
         ip 1; Depends: elf
         elf 1
         debconf 1; Provides: debconf-2.0
         gcc-12-base 12",
    );
    let waiver = |requirer: Option<&str>, dependency: &str| Waiver {
        requirer: requirer.map(|name| name.parse().expect("a name")),
        dependency: dependency.into(),
    };
    let waive = vec![waiver(None, "debconf-2.0"), waiver(None, "gcc-*-base"), waiver(Some("web"), "ip")];
    let with = |roots| Request { waive: waive.clone(), ..request(roots) };
    expect![[r#"
        lib 1 <- web: lib
        web 1 <- shop/web: web
        waived lib: gcc-12-base (= 12)
        waived web: debconf | debconf-2.0
        waived web: ip
    "#]]
    .assert_eq(&shown(&universe, &with("web")));
    // What another package needs, and what is asked for, is there.
    expect![[r#"
        debconf 1 <- shop/web: debconf
        elf 1 <- ip: elf
        ip 1 <- tool: ip
        lib 1 <- web: lib
        tool 1 <- shop/web: tool
        web 1 <- shop/web: web
        waived lib: gcc-12-base (= 12)
        waived web: debconf | debconf-2.0
        waived web: ip
    "#]]
    .assert_eq(&shown(&universe, &with("web, tool, debconf")));
}

#[test]
fn the_previous_lock_stays() {
    let universe = universe(
        "web 2; Depends: lib, aa | bb
         web 1; Depends: lib, aa | bb
         lib 2
         lib 1
         aa 1
         bb 2
         bb 1
         new 1; Depends: lib (>= 2)",
    );
    let keep: BTreeMap<_, _> = [("web", "1"), ("lib", "1"), ("bb", "1"), ("left", "3")]
        .into_iter()
        .map(|(name, version)| (name.parse().unwrap(), version.parse().unwrap()))
        .collect();
    let asked = |roots, update| Request { keep: keep.clone(), update, ..request(roots) };
    expect![[r#"
        bb 1 <- web: aa | bb
        lib 1 <- web: lib
        web 1 <- shop/web: web
    "#]]
    .assert_eq(&shown(&universe, &asked("web", Update::None)));
    expect![[r#"
        bb 1 <- web: aa | bb
        lib 2 <- new: lib (>= 2); web: lib
        new 1 <- shop/web: new
        web 1 <- shop/web: web
        note `lib` 1 no longer fits what is asked for; 2 takes its place
    "#]]
    .assert_eq(&shown(&universe, &asked("web, new", Update::None)));
    expect![[r#"
        bb 2 <- web: aa | bb
        lib 1 <- web: lib
        web 1 <- shop/web: web
    "#]]
    .assert_eq(&shown(&universe, &asked("web", Update::Packages(names("bb")))));
    expect![[r#"
        aa 1 <- web: aa | bb
        lib 2 <- web: lib
        web 2 <- shop/web: web
    "#]]
    .assert_eq(&shown(&universe, &asked("web", Update::All)));
    let mut gone = asked("web", Update::None);
    gone.keep.insert("lib".parse().unwrap(), "1.5".parse().unwrap());
    expect![[r#"
        bb 1 <- web: aa | bb
        lib 2 <- web: lib
        web 1 <- shop/web: web
        note `lib` 1.5 is no longer in the archives; 2 takes its place
    "#]]
    .assert_eq(&shown(&universe, &gone));
}

#[test]
fn names_that_are_not_known() {
    let index = "nginx 1
         nginx-light 1
         postgresql-15 15.4";
    case(
        index,
        "ngnix",
        &expect![[r#"
        shop/web asks for `ngnix`, but there is no package `ngnix` in bookworm; did you mean `nginx`?
    "#]],
    );
    case(
        index,
        "postgresql-16, zzzz",
        &expect![[r#"
        shop/web asks for `postgresql-16`, but there is no package `postgresql-16` in bookworm; did you mean `postgresql-15`?
        shop/web asks for `zzzz`, but there is no package `zzzz` in bookworm
    "#]],
    );
    case(
        index,
        "postgresql-15 (>= 16)",
        &expect![[r#"
        shop/web asks for `postgresql-15 (>= 16)`, but only `postgresql-15` 15.4 (bookworm) is there
    "#]],
    );
    case(
        index,
        "Nginx",
        &expect![[r#"
        error: `shop/web` asks for `Nginx`, which is not a relation such as `name (>= 1.0)`
    "#]],
    );
}

#[test]
fn a_chain_that_ends_nowhere() {
    case(
        "web 1; Depends: mid
         web 2; Depends: mid (>= 2)
         mid 1; Depends: low (>= 2)
         mid 2; Depends: low (>= 3)
         low 1
         other 1",
        "web, other",
        &expect![[r#"
            shop/web asks for `web`
              `web` 2 needs `mid (>= 2)`
                `mid` 2 needs `low (>= 3)`, but only `low` 1 (bookworm) is there
              `web` 1 needs `mid`
                `mid` 1 needs `low (>= 2)`, but only `low` 1 (bookworm) is there
        "#]],
    );
}

#[test]
fn relations_that_cannot_be_read() {
    case(
        "web 1; Depends: lib\nlib 1; Depends: ((",
        "web",
        &expect![[r#"
        shop/web asks for `web`
          `web` 1 needs `lib`
            `lib` 1 cannot be used: its relations cannot be read: `((` does not start with a package name
    "#]],
    );
    case(
        "web 2; Depends: ((\nweb 1",
        "web",
        &expect![[r#"
        web 1 <- shop/web: web
    "#]],
    );
}

#[test]
fn the_earlier_source_counts_for_the_same_version() {
    let source = |name: &str, text| Source::from_text(name, index(text)).unwrap();
    let universe =
        Universe::new(vec![source("one", "aa 1; Section: one"), source("two", "aa 1; Section: two\naa 0.5")]);
    let resolution = crate::resolve(&universe, &request("aa")).unwrap();
    assert_eq!((&*resolution.packages[0].record.section, resolution.packages[0].source), ("one", 0));
    assert_eq!(universe.len(), 2);
}

/// A catalog that belongs to another text is noticed; it never names a package that is not there.
#[test]
fn a_catalog_of_another_text_is_noticed() {
    let right = index("web 1; Depends: lib\nlib 1");
    for wrong in [
        index("web 2; Depends: lib\nlib 1"),
        index("lib 1\nweb 1; Depends: lib"),
        String::new(),
        "x".repeat(1000),
    ] {
        let catalog = plumb_debian::Catalog::build(&right).unwrap();
        let universe =
            Universe::new(vec![Source { name: "bookworm".into(), catalog, stanzas: Box::new(wrong) }]);
        assert!(!universe.is_damaged());
        drop(crate::resolve(&universe, &request("web")));
        assert!(universe.is_damaged());
    }
    let universe = universe("web 1; Depends: lib\nlib 1");
    crate::resolve(&universe, &request("web")).unwrap();
    assert!(!universe.is_damaged());
}

#[test]
fn check_sees_every_violation() {
    let records = packages(
        "aa 1; Depends: bb, cc | dd, virt (>= 1)
         bb 1; Conflicts: ee
         ee 1; Provides: virt
         ff 1
         ff 2
         gg 1; Breaks: ((",
    );
    let records: Vec<_> = records.iter().collect();
    let violations = check(&records, &super::roots("aa, zz"), &names("ff"), &[]);
    let text: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
    expect![[r#"
        `ff` is there and is to be left out
        `ff` is there twice
        `ff` is there and is to be left out
        relations of `gg` cannot be read: `((` does not start with a package name
        `bb` excludes `ee` (`Conflicts: ee`)
        `shop/web` needs `zz`, which nothing answers
        `aa` needs `cc | dd`, which nothing answers
        `aa` needs `virt (>= 1)`, which nothing answers
        nothing that is asked for needs `ee`
        nothing that is asked for needs `ff`
        nothing that is asked for needs `ff`
    "#]]
    .assert_eq(&text);
    assert!(matches!(violations[0], Violation::LeftOut(_)));
}
