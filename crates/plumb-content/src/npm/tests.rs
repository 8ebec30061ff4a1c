use expect_test::{Expect, expect};

use super::*;

/// A lock with these entries of `packages`, `integrity` filled in where it says `I`.
fn lock(packages: &str) -> String {
    let integrity = format!("\"integrity\":\"sha1-x sha512-{}==\"", "A".repeat(86));
    format!("{{\"lockfileVersion\":3,\"packages\":{{{}}}}}", packages.replace("\"I\":1", &integrity))
}

fn check(manifest: &str, packages: &str, skip: &[&str], expected: &Expect) {
    let skip: Vec<String> = skip.iter().map(|name| (*name).to_owned()).collect();
    expected.assert_eq(&match plan(manifest, &lock(packages), &skip) {
        Err(error) => format!("{error}\n{}", error.hint().unwrap_or_default()),
        Ok(plan) => {
            let package = |package: &Package| {
                let Package { path, name, version, url, programs, .. } = package;
                format!("{path} {name} {version} {url} {programs:?}\n")
            };
            let packages: String = plan.packages.iter().map(package).collect();
            let links: String =
                plan.links.iter().map(|(path, target)| format!("{path} -> {target}\n")).collect();
            format!("{packages}{links}")
        }
    });
}

#[test]
fn what_is_installed_and_where() {
    check(
        r#"{"dependencies":{"a":"^1","@s/b":"1"},"devDependencies":{"d":"1"}}"#,
        r#""":{"dependencies":{"a":"^1","@s/b":"1"},"devDependencies":{"d":"1"}},
           "node_modules/a":{"version":"1.0.0","resolved":"https://r/a.tgz","I":1,"bin":{"a":"./bin/a.js","x/../evil":"../../../etc/x"}},
           "node_modules/@s/b":{"version":"2.0.0","I":1,"bin":"cli.js"},
           "node_modules/@s/b/node_modules/a":{"version":"0.9.0","resolved":"https://r/a0.tgz","I":1,"bin":{"a":"a.js"}},
           "node_modules/d":{"version":"1.0.0","dev":true,"I":1},
           "node_modules/c":{"inBundle":true},
           "node_modules/w":{"link":true,"resolved":"packages/w"},
           "packages/w":{"version":"1.0.0","bin":{"w":"w.js"}}"#,
        &[],
        &expect![[r#"
            node_modules/@s/b @s/b 2.0.0 https://registry.npmjs.org/@s/b/-/b-2.0.0.tgz {"cli.js"}
            node_modules/@s/b/node_modules/a a 0.9.0 https://r/a0.tgz {"a.js"}
            node_modules/a a 1.0.0 https://r/a.tgz {"bin/a.js", "etc/x"}
            node_modules/.bin/a -> ../a/bin/a.js
            node_modules/.bin/b -> ../@s/b/cli.js
            node_modules/.bin/evil -> ../a/etc/x
            node_modules/.bin/w -> ../w/w.js
            node_modules/@s/b/node_modules/.bin/a -> ../a/a.js
            node_modules/w -> ../packages/w
        "#]],
    );
}

#[test]
fn packages_for_other_platforms_go_with_what_only_they_need() {
    check(
        r#"{"dependencies":{"a":"1"},"optionalDependencies":{"fsevents":"1"}}"#,
        r#""":{"dependencies":{"a":"1"},"optionalDependencies":{"fsevents":"1"}},
           "node_modules/a":{"version":"1.0.0","I":1,"dependencies":{"shared":"1"},"optionalDependencies":{"@a/linux":"1","@a/musl":"1","@a/arm":"1"}},
           "node_modules/@a/linux":{"version":"1.0.0","I":1,"optional":true,"os":["linux"],"cpu":["x64"],"libc":["glibc"]},
           "node_modules/@a/musl":{"version":"1.0.0","I":1,"optional":true,"os":["linux"],"cpu":["x64"],"libc":["musl"]},
           "node_modules/@a/arm":{"version":"1.0.0","I":1,"optional":true,"os":["!win32"],"cpu":["arm64"]},
           "node_modules/fsevents":{"version":"1.0.0","I":1,"optional":true,"os":["darwin"],"hasInstallScript":true,"dependencies":{"nan":"1","shared":"1"}},
           "node_modules/fsevents/node_modules/inner":{"version":"1.0.0","I":1,"optional":true},
           "node_modules/nan":{"version":"1.0.0","I":1,"optional":true},
           "node_modules/shared":{"version":"1.0.0","I":1}"#,
        &[],
        &expect![[r#"
            node_modules/@a/linux @a/linux 1.0.0 https://registry.npmjs.org/@a/linux/-/linux-1.0.0.tgz {}
            node_modules/a a 1.0.0 https://registry.npmjs.org/a/-/a-1.0.0.tgz {}
            node_modules/shared shared 1.0.0 https://registry.npmjs.org/shared/-/shared-1.0.0.tgz {}
        "#]],
    );
    check(
        "{}",
        r#""node_modules/a":{"version":"1.0.0","I":1,"os":["win32"]}"#,
        &[],
        &expect![[r#"
        package `node_modules/a` is not for linux on x64 with glibc, and it is not optional
    "#]],
    );
}

#[test]
fn what_stops_it() {
    let script = r#""node_modules/e":{"version":"1.0.0","I":1,"hasInstallScript":true},"node_modules/f":{"version":"1.0.0","I":1,"hasInstallScript":true}"#;
    check(
        "{}",
        script,
        &["e"],
        &expect![[r#"
            a package wants to run a script when it is installed, which is never done: f
            name it in `skip_scripts` (here: "f") if the package works without, as those do that only print a message or fetch what an optional package holds; or use another package"#]],
    );
    check(
        "{}",
        script,
        &["e", "f", "g"],
        &expect![[r#"
        `skip_scripts` names `g`, which is no package with an install script
    "#]],
    );
    check(
        r#"{"dependencies":{"a":"2"}}"#,
        r#""":{"dependencies":{"a":"1"}}"#,
        &[],
        &expect![[r#"
        `package.json` and `package-lock.json` do not agree about `a`
        `npm install --package-lock-only` brings the lock up to date"#]],
    );
}

#[test]
fn what_is_refused() {
    check(
        "{}",
        r#""node_modules/../../a":{"I":1}"#,
        &[],
        &expect![[r#"
        `package-lock.json` has a package at `node_modules/../../a`, which is no path below `node_modules`
    "#]],
    );
    check(
        "{}",
        r#""node_modules/a/b":{"I":1}"#,
        &[],
        &expect![[r#"
        `package-lock.json` has a package at `node_modules/a/b`, which is no path below `node_modules`
    "#]],
    );
    check(
        "{}",
        r#""node_modules/a":{"resolved":"git+ssh://git@example.org/a.git","I":1}"#,
        &[],
        &expect![[r#"
        package `node_modules/a` comes from `git+ssh://git@example.org/a.git`; only tarballs of registries and files are taken
    "#]],
    );
    check(
        "{}",
        r#""node_modules/a":{"link":true,"resolved":"../outside"}"#,
        &[],
        &expect![[r#"
        package `node_modules/a` comes from `../outside`; only tarballs of registries and files are taken
    "#]],
    );
    check(
        "{}",
        r#""node_modules/a":{"integrity":"sha1-aaaa"}"#,
        &[],
        &expect![[r#"
        package `node_modules/a` has no SHA-512 integrity in `package-lock.json`
        remove the entry and run `npm install --package-lock-only`: npm writes it anew"#]],
    );
    let old = plan("{}", "{\"lockfileVersion\":1,\"dependencies\":{}}", &[]).unwrap_err();
    expect![[r#"
        `package-lock.json` has lockfileVersion 1; 2 and 3 are known
        `npm install --package-lock-only` of npm 7 or newer rewrites the lock"#]]
    .assert_eq(&format!("{old}\n{}", old.hint().unwrap_or_default()));
    assert!(matches!(plan("{", &lock(""), &[]), Err(NpmError::Malformed { file: "package.json", .. })));
}

#[test]
fn digests() {
    assert_eq!(base64("Zm9vYmE=").as_deref(), Some(&b"fooba"[..]));
    assert_eq!(base64("a-b"), None);
    assert_eq!(integrity(&format!("sha512-{}==", "A".repeat(86))), Some("00".repeat(64)));
    assert_eq!(integrity("sha512-AAAA"), None);
}

#[test]
fn a_lock_made_to_keep_us_busy_is_refused() {
    // Each needs the next one, so everything goes with each of them.
    let entry = |n: usize| {
        format!(
            "\"node_modules/p{n}\":{{\"version\":\"1.0.0\",\"I\":1,\"optional\":true,\"os\":[\"aix\"],\
             \"dependencies\":{{\"p{}\":\"1\"}}}}",
            n + 1
        )
    };
    let packages: Vec<String> = (0..5000).map(entry).collect();
    check(
        "{}",
        &format!("\"\":{{}},{}", packages.join(",")),
        &[],
        &expect![[r#"
            around `node_modules/p1448` the packages of `package-lock.json` depend on each other without end
        "#]],
    );
}
