use plumb_model::Digest;

use super::answer::Change;
use super::*;
use crate::assemble::{AssembleInput, PackageInput, StagePackage, assemble, stage};
use crate::deb::PackageContent;
use crate::fixture::Folder;
use crate::tree::Entry;

fn content(objects: &Folder, name: &str, files: &[&str]) -> PackageContent {
    let mut content = PackageContent {
        control: format!("Package: {name}\nVersion: 1\nArchitecture: all\n"),
        ..PackageContent::default()
    };
    for path in files {
        for (cut, _) in path.match_indices('/').skip(1) {
            content.entries.insert(path[..cut].to_owned(), Entry::directory(0o755));
        }
        let (digest, size) = objects.put(&mut path.as_bytes()).unwrap();
        content.entries.insert((*path).to_owned(), Entry::file(digest, size, 0o644));
    }
    content
}

fn input<'a>(name: &'a str, content: &'a PackageContent) -> PackageInput<'a> {
    PackageInput { name, version: "1", architecture: "all", layer: Layer::Middleware, content }
}

fn entry(entry: Entry, uid: u32) -> Change {
    Change::Entry { entry: Entry { uid, ..entry }, opaque: false }
}

fn file(objects: &Folder, text: &str) -> Entry {
    let (digest, size) = objects.put(&mut text.as_bytes()).unwrap();
    Entry::file(digest, size, 0o644)
}

/// A machine's package `web`, and `tool`, which is only there to run scripts.
fn world(objects: &Folder, test: impl FnOnce(&Stage, &PackageContent)) {
    let web = content(objects, "web", &["/etc/web/conf", "/var/lib/web/old", "/var/lib/web/kept"]);
    let tool = content(objects, "tool", &["/usr/bin/tool", "/var/lib/tool/db"]);
    let members = BTreeMap::from([("postinst".to_owned(), b"#!/bin/sh\n".to_vec())]);
    let packages = [
        StagePackage { package: input("web", &web), members: &members, is_of_machine: true },
        StagePackage { package: input("tool", &tool), members: &members, is_of_machine: false },
    ];
    test(&stage(&packages, "bookworm", 7, objects).unwrap(), &web);
}

#[test]
fn the_stage_is_unpacked_and_ready() {
    let objects = Folder::new();
    world(&objects, |stage, _| {
        let text = |path: &str| match &stage.tree.get(path).unwrap_or_else(|| panic!("no {path}")).kind {
            Kind::File { digest, .. } => String::from_utf8(objects.read(digest, 1 << 20).unwrap()).unwrap(),
            other => panic!("{path} is {other:?}"),
        };
        let status = text("/var/lib/dpkg/status");
        assert!(status.contains("Package: web\nStatus: install ok unpacked\n"), "{status}");
        assert!(status.contains("Package: tool\nStatus: install ok installed\n"), "{status}");
        assert!(text("/var/lib/dpkg/info/web.list").starts_with("/.\n/etc\n/etc/web\n/etc/web/conf\n"));
        assert_eq!(stage.tree.get("/var/lib/dpkg/info/web.postinst").unwrap().mode, 0o755);
        let task = text(plumb_guest_proto::BUILD_TASK_PATH);
        assert!(task.contains("\"SOURCE_DATE_EPOCH\":\"7\"") && task.contains("--configure"), "{task}");
    });
}

#[test]
fn answers_become_effects_and_effects_become_an_image() {
    let objects = Folder::new();
    world(&objects, |stage, web| {
        let passwd =
            format!("{}svc:x:150:151:service:/var/lib/web:/bin/false\nbad line\n", stage.accounts.passwd());
        let group = format!("{}svc:x:151:www-data\n", stage.accounts.group());
        let changes = BTreeMap::from([
            // Touched, or above a change.
            ("/etc".to_owned(), entry(stage.tree.get("/etc").unwrap().clone(), 0)),
            ("/etc/web/conf".to_owned(), entry(file(&objects, "changed"), 0)),
            ("/etc/web/made".to_owned(), entry(file(&objects, "made"), 150)),
            ("/etc/web/link".to_owned(), entry(Entry::symlink("../ssl/private/x.key"), 0)),
            ("/etc/passwd".to_owned(), entry(file(&objects, &passwd), 0)),
            ("/etc/group".to_owned(), entry(file(&objects, &group), 0)),
            ("/etc/ssl/private/x.key".to_owned(), entry(file(&objects, "secret"), 0)),
            ("/etc/ssl/link.0".to_owned(), entry(Entry::symlink("private/x.key"), 0)),
            ("/var/lib/web/old".to_owned(), Change::Removed),
            ("/var/lib/tool/db".to_owned(), entry(file(&objects, "db"), 0)),
            ("/var/lib/tool/new".to_owned(), entry(file(&objects, "new"), 0)),
            ("/var/lib/web/pipe".to_owned(), Change::Special),
        ]);
        let effects = settle(stage, changes, &objects).unwrap();
        let made: Vec<(&str, &str)> =
            effects.made.iter().map(|(path, (_, origin))| (path.as_str(), origin.source.as_str())).collect();
        assert_eq!(made, [("/etc/web/conf", "scripts:web"), ("/etc/web/made", "scripts:web")]);
        assert_eq!(effects.removed, BTreeSet::from(["/var/lib/web/old".to_owned()]));
        let left: Vec<(&str, &str)> =
            effects.left_out.iter().map(|(path, rule)| (path.as_str(), rule.as_str())).collect();
        assert_eq!(
            left,
            [
                ("/etc/group", "accounts"),
                ("/etc/passwd", "accounts"),
                ("/etc/ssl/link.0", "dangling"),
                ("/etc/ssl/private/x.key", "key"),
                ("/etc/web/link", "dangling"),
                ("/var/lib/tool/db", "build-only"),
                ("/var/lib/tool/new", "build-only"),
                ("/var/lib/web/pipe", "special"),
            ]
        );
        let told: Vec<&str> = effects.told().iter().map(|(path, _)| *path).collect();
        assert_eq!(told, ["/etc/ssl/private/x.key"]);
        assert_eq!(effects.users.keys().collect::<Vec<_>>(), ["svc"]);
        assert_eq!((effects.users["svc"].uid, effects.users["svc"].group.as_str()), (150, "svc"));

        // The lock has another id for the account: the entry gets it.
        let input = AssembleInput {
            packages: vec![input("web", web)],
            suite: "bookworm".into(),
            previous: BTreeMap::from([("svc".to_owned(), (700, 701))]),
            effects: Some(&effects),
            ..AssembleInput::default()
        };
        let assembled = assemble(&input, &objects).unwrap();
        let tree = &assembled.tree;
        assert_eq!(tree.get("/etc/web/made").unwrap().uid, 700);
        assert_eq!(tree.get("/etc/web/conf").unwrap().kind, file(&objects, "changed").kind);
        assert!(tree.get("/var/lib/web/old").is_none() && tree.get("/var/lib/web/kept").is_some());
        assert_eq!(assembled.accounts.users["svc"].home, "/var/lib/web");
        assert!(assembled.accounts.groups["svc"].members.contains("www-data"));
    });
}

#[test]
fn differences_between_runs_are_named() {
    let made = |path: &str, text: &str| {
        let entry = Entry::file(Digest::of(text.as_bytes()), text.len() as u64, 0o644);
        let origin = Origin { layer: Layer::Os, source: SOURCE.into() };
        Effects { made: BTreeMap::from([(path.to_owned(), (entry, origin))]), ..Effects::default() }
    };
    assert_eq!(made("/a", "x").difference(&made("/a", "x")), Vec::<String>::new());
    assert_eq!(made("/a", "x").difference(&made("/a", "y")), ["/a: contents"]);
    assert_eq!(made("/a", "x").difference(&made("/b", "x")), ["/a: made only once", "/b: made only once"]);
}
