//! What other tools write about content: manifests of container images, locks of npm, requirements, indices and wheels.
//!
//! The first byte says which; documents that belong together are parted by a NUL byte.

use std::collections::BTreeSet;

use plumb_content::npm;
use plumb_content::oci::{Config, Manifest, User, resolve_user};
use plumb_content::python::{self, Environment, Tags};
use plumb_model::Digest;

/// As many as an image may name.
const LAYERS: usize = 1000;

pub(crate) fn run(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind {
        b'm' => manifest(data),
        b'c' => config(data),
        _ => {
            let text = String::from_utf8_lossy(data);
            let (first, second) = text.split_once('\0').unwrap_or((&text, ""));
            match kind {
                b'n' => lock(first, second),
                b'r' => requirements(first, second),
                b'w' => wheel(first, second),
                _ => {}
            }
        }
    }
}

fn manifest(data: &[u8]) {
    if let Ok(Manifest::Image { layers, .. }) = Manifest::parse(data) {
        assert!(layers.len() <= LAYERS, "{} layers", layers.len());
    }
}

fn config(data: &[u8]) {
    let Ok(config) = Config::parse(data) else { return };
    assert!(config.directory.starts_with('/'), "works in `{}`", config.directory);
    let mut words = config.command.iter().chain(config.environment.values()).chain([&config.directory]);
    assert!(!words.any(|word| word.contains('\0')), "{config:?}");
    assert!(config.environment.keys().all(|name| !name.is_empty() && !name.contains('=')), "{config:?}");
    let known = User { name: "web".into(), uid: 33, gid: 33, home: "/var/www".into() };
    let groups = [("ssl".to_owned(), (101, vec!["web".to_owned()]))].into();
    if let Ok(identity) = resolve_user(&config.user, &[known], &groups) {
        assert!(!identity.home.is_empty() && !identity.groups.contains(&identity.gid));
    }
}

/// `package.json` and `package-lock.json`.
fn lock(manifest: &str, lock: &str) {
    let Ok(plan) = npm::plan(manifest, lock, &[]) else { return };
    for package in &plan.packages {
        inside(&package.path);
        package.programs.iter().for_each(|program| inside(program));
        assert_eq!(hex_bytes(&package.integrity), Some(64), "{package:?}");
    }
    plan.programs.iter().for_each(|program| inside(program));
    for (path, target) in &plan.links {
        inside(path);
        stays_inside(path, target);
    }
}

/// Requirements, and the answer of an index to each of their projects.
fn requirements(text: &str, listing: &str) {
    let environment = Environment::cpython("3.11.2");
    let Ok(requirements) = python::parse_requirements(text, &environment) else { return };
    for wanted in &requirements {
        assert!(!wanted.hashes.is_empty(), "{wanted:?} goes without a digest");
        let url = format!("https://index.example/simple/{}/", wanted.project);
        let Ok(listing) = python::parse_listing(&wanted.project, &url, listing) else { continue };
        let tags = Tags::cpython(11, 36);
        let Ok(file) = python::choose(wanted, &listing, &tags, &environment, 36) else { continue };
        assert!(file.file.ends_with(".whl"), "{file:?}");
        assert!(file.sha256.is_none_or(|digest: Digest| wanted.hashes.contains(&digest)), "{file:?}");
    }
}

/// Paths of a wheel, one a line, and one of its text files.
fn wheel(paths: &str, text: &str) {
    let is_normal = |path: &&str| !path.split('/').any(|part| matches!(part, "" | "." | ".."));
    let paths: BTreeSet<String> = paths.lines().filter(is_normal).map(str::to_owned).collect();
    if let Ok((_, placed)) = python::install("x-1-py3-none-any.whl", "3.11", &paths) {
        assert_eq!(placed.len(), paths.len());
        placed.values().for_each(|place| inside(place));
    }
    for point in python::entry_points(text) {
        inside(&format!("bin/{}", point.name));
        let script = point.script("/srv/app/bin/python3");
        assert_eq!(script.lines().count(), 8, "code in `{script}`");
    }
    let environment = Environment::cpython("3.11.2");
    if let Ok(missing) = python::missing_requirements(text, &["a".to_owned()], &BTreeSet::new(), &environment)
    {
        assert_eq!(missing.iter().collect::<BTreeSet<_>>().len(), missing.len());
    }
}

fn inside(path: &str) {
    crate::path::check(&format!("/{path}"));
}

/// Follows a relative link from the folder that it lies in.
fn stays_inside(path: &str, target: &str) {
    let mut depth = path.split('/').count() - 1;
    assert!(!target.starts_with('/') && !target.contains('\0'), "`{path}` -> `{target}`");
    for part in target.split('/') {
        match part {
            ".." => {
                depth = depth.checked_sub(1).unwrap_or_else(|| panic!("`{path}` -> `{target}` leads outside"))
            }
            "" | "." => {}
            _ => depth += 1,
        }
    }
}

/// Number of bytes that hex digits stand for.
fn hex_bytes(text: &str) -> Option<usize> {
    (text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then_some(text.len() / 2)
}
