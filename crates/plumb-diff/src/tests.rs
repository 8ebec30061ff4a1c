//! Two small applications, made of their documents, and what is said about their differences.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use expect_test::{Expect, expect};
use plumb_image::inventory::{Inventory, ModuleEntry};
use plumb_image::tree::{Entry, Layer, Origin};
use plumb_model::Digest;
use plumb_model::definition::Definition;
use plumb_model::image::{Image, ImagePackage, LayerSize, Part};
use plumb_model::lock::Lock;
use plumb_model::release::{Content, ReleaseMachine};
use plumb_resolve::{Dependencies, RootRequest};

use super::*;

/// Everything a side is made from, as short as can be.
struct World {
    /// Lines of `[machine.web]`.
    machine: &'static str,
    /// Name, version, dependencies.
    packages: Vec<(&'static str, &'static str, &'static str)>,
    /// Path, content, source.
    files: Vec<(&'static str, &'static str, &'static str)>,
    date: i64,
    rules: &'static str,
    cmdline: &'static str,
    left_out: Vec<&'static str>,
}

impl World {
    fn new() -> World {
        World {
            machine: "middleware = [\"nginx\"]\napp = { \"/srv\" = \"www\" }\n",
            packages: vec![("nginx", "1.0", "libc6"), ("libc6", "2.36", "")],
            files: vec![
                ("/usr/sbin/nginx", "program", "nginx"),
                ("/usr/lib/libc.so.6", "library", "libc6"),
                ("/etc/ld.so.cache", "cache", "rule:linker"),
                ("/srv/index.html", "hello", "app"),
            ],
            date: 100,
            rules: "rules-1",
            cmdline: "quiet plumb.root=1",
            left_out: Vec::new(),
        }
    }

    fn definition(&self) -> Definition {
        let text = format!("app = \"shop\"\n[machine.web]\n{}", self.machine);
        Definition::parse(&text, "plumb.toml").expect("a definition")
    }

    fn lock(&self) -> Lock {
        let digest = Digest::of(b"");
        let mut packages: Vec<(&str, &str)> = self.packages.iter().map(|it| (it.0, it.1)).collect();
        packages.push(("linux-image-1", "6.1"));
        packages.sort_unstable();
        let names: Vec<String> = self.packages.iter().map(|it| format!("\"{}\"", it.0)).collect();
        let mut text = format!(
            "format = 1\napp = \"shop\"\ninputs = \"{digest}\"\n[[source]]\nuri = \"http://a\"\nsuite = \"bookworm\"\n\
             date = {}\nin-release = \"{digest}\"\n[machine.web]\nmiddleware = []\nkernel = \"linux-image-1\"\n\
             packages = [{}]\n",
            self.date,
            names.join(", ")
        );
        for (name, version) in packages {
            let _ = writeln!(
                text,
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\narchitecture = \"amd64\"\n\
                 suite = \"bookworm\"\nfile = \"x\"\nsize = 1\ndigest = \"{digest}\""
            );
        }
        toml::from_str(&text).expect("a lock")
    }

    fn machine(&self, definition: &Definition) -> SideMachine {
        let part = |text: &str| Part { digest: Digest::of(text.as_bytes()), size: text.len() as u64 };
        let status: String = self
            .packages
            .iter()
            .map(|(name, version, depends)| {
                let depends =
                    if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
                format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n{depends}\n")
            })
            .collect();
        let packages = self.packages.iter().map(|(name, version, _)| {
            let package = ImagePackage { version: version.parse().expect("a version"), layer: "os".into() };
            (name.parse().expect("a name"), package)
        });
        let image = Image {
            format: 1,
            app: "shop".parse().expect("a name"),
            machine: "web".parse().expect("a name"),
            recipe: Digest::of(b""),
            kernel: part("kernel"),
            kernel_release: "6.1".into(),
            initrd: part(self.rules),
            root: part(&format!("{:?}", self.files)),
            root_hash: String::new(),
            cmdline: self.cmdline.into(),
            packages: packages.collect(),
            layers: BTreeMap::from([(
                "os".to_owned(),
                LayerSize { files: self.files.len() as u64, bytes: 0 },
            )]),
            without: definition.machines.values().flat_map(|machine| machine.without.clone()).collect(),
            left_out: self.left_out.iter().map(|name| name.parse().expect("a name")).collect(),
            inventory: None,
            scripts: None,
        };
        let entries = self.files.iter().map(|(path, content, source)| {
            let entry = Entry::file(Digest::of(content.as_bytes()), content.len() as u64, 0o644);
            let layer = if *source == "app" { Layer::App } else { Layer::Os };
            ((*path).to_owned(), (entry, Origin { layer, source: (*source).to_owned() }))
        });
        let module = ModuleEntry { name: "virtio".into(), bytes: 1, needed_by: None };
        let inventory = Inventory {
            format: 1,
            kernel_packed_bytes: 0,
            init_bytes: 0,
            modules: vec![module],
            dropped: BTreeMap::new(),
            entries: entries.collect(),
        };
        let root = |relation: &String| RootRequest {
            relation: relation.clone(),
            asked_by: format!("middleware = [\"{relation}\"]"),
        };
        let asked = definition.machines.values().flat_map(|machine| &machine.middleware);
        SideMachine {
            image,
            inventory,
            dependencies: Dependencies::parse(&status).expect("a package list"),
            roots: asked.map(root).collect(),
            spec: serde_json::from_value(serde_json::json!({"format": 1, "app": "shop", "machine": "web",
                "directories": [], "volumes": [], "services": []}))
            .expect("a spec"),
            libraries: BTreeMap::new(),
            accounts: BTreeMap::new(),
            rules: self.rules.to_owned(),
            guest: Digest::of(self.rules.as_bytes()),
            measured: None,
        }
    }

    fn side(&self) -> Side {
        let definition = self.definition();
        let web: MachineName = "web".parse().expect("a name");
        let asked = &definition.machines[&web];
        let content = ReleaseMachine {
            image: Digest::of(b""),
            instances: asked.instances,
            memory_mib: asked.memory_mib,
            cpus: asked.cpus,
            needs: Vec::new(),
            publish: Vec::new(),
            volumes: BTreeMap::new(),
            ready_timeout_ms: 0,
            rolling: plumb_model::release::Rolling::default(),
            watch: plumb_model::release::Watch::default(),
            tasks: std::collections::BTreeMap::new(),
            config: std::collections::BTreeSet::new(),
        };
        Side {
            name: "shop".into(),
            lock: self.lock(),
            content: Content {
                fence: 0,
                config: std::collections::BTreeMap::new(),
                machines: BTreeMap::from([(web.clone(), content)]),
                snapshots: plumb_model::release::SnapshotPolicy::default(),
                upgrade: plumb_model::release::UpgradePolicy::default(),
            },
            machines: BTreeMap::from([(web, self.machine(&definition))]),
            definition,
        }
    }
}

/// Compares a world with a changed one.
fn check(change: impl FnOnce(&mut World), expected: &Expect) {
    let before = World::new();
    let mut after = World::new();
    change(&mut after);
    let found = diff(&before.side(), &after.side());
    let mut text = String::new();
    for machine in found.machines.values() {
        for package in &machine.packages {
            let versions = format!("{:?} {:?}", package.before, package.after).replace("Some", "");
            let _ = writeln!(text, "{} {versions}: {}", package.name, package.cause);
        }
        for file in &machine.files {
            let _ = writeln!(text, "{}: {}", file.path, file.cause);
        }
        let lists =
            [&machine.settings, &machine.services, &machine.accounts, &machine.kernel, &machine.libraries];
        for change in lists.into_iter().flatten() {
            let values = (change.before.as_deref(), change.after.as_deref());
            let _ = writeln!(text, "{} {values:?}: {}", change.what, change.cause);
        }
    }
    assert_eq!(found.unknown().len(), text.matches("unknown").count(), "{text}");
    expected.assert_eq(&text);
}

#[test]
fn nothing_differs_from_itself() {
    assert!(diff(&World::new().side(), &World::new().side()).is_empty());
}

/// Checks are a part of the set.
#[test]
fn checks() {
    let with = |lines: &str| {
        let world = World::new();
        let mut side = world.side();
        let text = format!("app = \"shop\"\n[machine.web]\nmiddleware = [\"nginx\"]\n{lines}");
        side.definition.checks =
            plumb_model::definition::Definition::parse(&text, "plumb.toml").expect("good").checks;
        side
    };
    let outside = with("[check.page]\nhttp = \"web:80/\"\n");
    let found = diff(&World::new().side(), &outside);
    let set = &found.set[0];
    assert_eq!((set.what.as_str(), set.before.as_deref()), ("check page", None));
    assert_eq!(set.after.as_deref(), Some("GET web:80/: 200"));
    assert_eq!(set.cause.to_string(), "the definition: check.page");
    let changed = diff(&outside, &with("[check.page]\nhttp = \"web:80/\"\ntimeout = \"5s\"\n"));
    assert_eq!(changed.set[0].after.as_deref(), Some("GET web:80/: 200, within 5000 ms"));
}

#[test]
fn files_of_the_users() {
    check(
        |world| world.files[3].1 = "hello again",
        &expect![[r#"
        /srv/index.html: your files for /srv
    "#]],
    );
    check(
        |world| {
            world.machine = "middleware = [\"nginx\"]\napp = { \"/srv\" = \"www2\" }\nmemory = \"512MiB\"\n";
            world.files[3].1 = "hello again";
        },
        &expect![[r#"
            /srv/index.html: the definition: machine.web.app."/srv"
            memory (Some("256 MiB"), Some("512 MiB")): the definition: machine.web.memory
        "#]],
    );
}

#[test]
fn the_archive_moves() {
    check(
        |world| {
            world.date = 200;
            world.packages[1].1 = "2.37";
            world.files[1].1 = "library 2";
            world.files[2].1 = "cache 2";
        },
        &expect![[r#"
            libc6 ("2.36") ("2.37"): the archive: bookworm has moved
            /etc/ld.so.cache: made by rule linker of libc6
            /usr/lib/libc.so.6: package libc6
        "#]],
    );
    // The same archive: the lock was told to.
    check(
        |world| world.packages[1].1 = "2.37",
        &expect![[r#"
        libc6 ("2.36") ("2.37"): the lock was told to update
    "#]],
    );
}

#[test]
fn a_new_version_needs_more() {
    check(
        |world| {
            world.date = 200;
            world.packages = vec![
                ("nginx", "1.1", "libc6, libpcre"),
                ("libc6", "2.36", ""),
                ("libpcre", "8", "libz"),
                ("libz", "1", ""),
            ];
            world.files.push(("/usr/lib/libz.so", "z", "libz"));
        },
        &expect![[r#"
            libpcre None ("8"): nginx needs libpcre; the archive: bookworm has moved
            libz None ("1"): libpcre needs libz; nginx needs libpcre; the archive: bookworm has moved
            nginx ("1.0") ("1.1"): the archive: bookworm has moved
            /usr/lib/libz.so: package libz
        "#]],
    );
}

#[test]
fn the_definition_asks_for_more_and_less() {
    check(
        |world| {
            world.machine = "middleware = [\"redis\"]\napp = { \"/srv\" = \"www\" }\n";
            world.packages = vec![
                ("redis", "7", "libjemalloc, libc6"),
                ("libjemalloc", "5", "libc6"),
                ("libc6", "2.36", ""),
            ];
            world.files.remove(0);
        },
        &expect![[r#"
            libjemalloc None ("5"): redis needs libjemalloc; the definition: machine.web.middleware = ["redis"]
            nginx ("1.0") None: the definition: machine.web.middleware = ["nginx"]
            redis None ("7"): the definition: machine.web.middleware = ["redis"]
            /usr/sbin/nginx: package nginx
        "#]],
    );
    check(
        |world| {
            world.machine = "middleware = [\"nginx\"]\nwithout = [\"libc6\"]\napp = { \"/srv\" = \"www\" }\n";
            world.packages.pop();
            world.files.remove(1);
        },
        &expect![[r#"
            libc6 ("2.36") None: the definition: machine.web.without
            /usr/lib/libc.so.6: package libc6
        "#]],
    );
}

#[test]
fn another_plumb() {
    check(
        |world| {
            world.rules = "rules-2";
            world.cmdline = "quiet lockdown=x plumb.root=2";
            world.files[2].1 = "cache 2";
            world.files.remove(0);
            world.left_out = vec!["libc6"];
            world.packages.pop();
        },
        &expect![[r#"
            libc6 ("2.36") None: another Plumb
            /etc/ld.so.cache: made by rule linker of libc6
            /usr/sbin/nginx: another Plumb
            kernel parameters (Some("none"), Some("lockdown=x")): another Plumb
            PID 1 (Some("sha256:c17c460c1d60"), Some("sha256:c434a17b58b2")): another Plumb
        "#]],
    );
}

#[test]
fn what_has_no_cause_is_said_to_have_none() {
    check(
        |world| world.files[0].1 = "another program",
        &expect![[r#"
        /usr/sbin/nginx: unknown; please report this
    "#]],
    );
    check(
        |world| world.cmdline = "loud plumb.root=1",
        &expect![[r#"
            kernel parameters (Some("quiet"), Some("loud")): unknown; please report this
        "#]],
    );
}
