//! What no compiler checks: layers, file sizes, the crate map, dependency notes, links in the docs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Crates by layer; a crate may depend on lower layers, and within its layer on those named before it.
const LAYERS: &[(u8, &[&str])] = &[
    (0, &["plumb-debian", "plumb-guest-proto", "plumb-model"]),
    (
        1,
        &[
            "plumb-content",
            "plumb-delta",
            "plumb-resolve",
            "plumb-image",
            "plumb-plan",
            "plumb-diff",
            "plumb-trust",
            "plumb-search",
        ],
    ),
    (2, &["plumb-store", "plumb-fetch", "plumb-remote", "plumb-target", "plumb-state"]),
    (3, &["plumb-ops"]),
    (4, &["plumb", "plumb-guest"]),
];

/// Crates of the tests; they may use everything, and no product crate depends on them.
const OUTSIDE: &[&str] = &["testkit", "fuzz-target"];

/// Dependencies that would break what a crate promises in ARCHITECTURE.md.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("plumb-model", &["rustix", "ureq", "tempfile", "rusqlite"]),
    ("plumb-debian", &["rustix", "ureq", "tempfile"]),
    ("plumb-content", &["rustix", "ureq", "tempfile", "plumb-store"]),
    ("plumb-delta", &["rustix", "ureq", "tempfile", "plumb-store", "plumb-image"]),
    ("plumb-resolve", &["rustix", "ureq", "tempfile", "plumb-store"]),
    ("plumb-plan", &["rustix", "ureq", "tempfile", "plumb-store", "plumb-target"]),
    ("plumb-trust", &["rustix", "ureq", "tempfile", "plumb-store"]),
    ("plumb-diff", &["rustix", "ureq", "tempfile", "plumb-store"]),
    ("plumb-search", &["rustix", "ureq", "tempfile", "rusqlite", "plumb-store", "plumb-image"]),
    ("plumb-remote", &["plumb-store", "plumb-image", "plumb-delta", "tempfile", "ureq"]),
    ("plumb-guest", &["plumb-model", "plumb-debian", "ureq", "regex"]),
];

/// Words that would break what a crate promises in ARCHITECTURE.md, with the promise.
const FORBIDDEN_WORDS: &[(&str, &str, &str)] =
    &[("plumb-image", "std::process", "no maintainer script is ever run, so it starts no process")];

/// Product lines (before the tests of the file) above which a file must become a folder.
const FILE_LIMIT: usize = 800;

/// Runs all checks and reports everything that is wrong at once.
pub fn run(root: &Path) -> Result<()> {
    let mut wrong = Vec::new();
    let manifests = manifests(root)?;
    layers(&manifests, &mut wrong);
    crate_map(root, &manifests, &mut wrong)?;
    dependency_notes(root, &manifests, &mut wrong)?;
    for path in files(root, &["rs", "md"])? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => {
                file_size(&shown, &text, &mut wrong);
                forbidden_words(&shown, &text, &mut wrong);
            }
            _ => links(root, &path, &shown, &text, &mut wrong),
        }
    }
    if wrong.is_empty() {
        println!("tidy: {} crates, layers, sizes, notes and links are as they should be", manifests.len());
        return Ok(());
    }
    for line in &wrong {
        eprintln!("tidy: {line}");
    }
    bail!("{} things are untidy", wrong.len())
}

type Manifests = BTreeMap<String, toml::Table>;

fn manifests(root: &Path) -> Result<Manifests> {
    let mut manifests = Manifests::new();
    for entry in fs::read_dir(root.join("crates"))? {
        let path = entry?.path().join("Cargo.toml");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let table: toml::Table = toml::from_str(&text).with_context(|| path.display().to_string())?;
        let name = table["package"]["name"].as_str().unwrap_or_default().to_owned();
        manifests.insert(name, table);
    }
    Ok(manifests)
}

fn dependencies<'a>(manifest: &'a toml::Table, section: &str) -> Vec<&'a str> {
    let table = manifest.get(section).and_then(toml::Value::as_table);
    table.into_iter().flat_map(|table| table.keys().map(String::as_str)).collect()
}

fn layers(manifests: &Manifests, wrong: &mut Vec<String>) {
    let rank = |name: &str| {
        LAYERS.iter().find_map(|(layer, names)| {
            names.iter().position(|other| *other == name).map(|position| (*layer, position))
        })
    };
    for (name, manifest) in manifests {
        if OUTSIDE.contains(&name.as_str()) {
            continue;
        }
        let Some(own) = rank(name) else {
            wrong.push(format!("crate `{name}` has no layer; add it to LAYERS in xtask/src/tidy.rs"));
            continue;
        };
        let forbidden =
            FORBIDDEN.iter().find(|(crate_name, _)| crate_name == name).map_or(&[][..], |(_, list)| list);
        for dependency in dependencies(manifest, "dependencies") {
            if forbidden.contains(&dependency) {
                wrong.push(format!("crate `{name}` must not depend on `{dependency}`"));
            }
            if rank(dependency).is_some_and(|other| other >= own) {
                wrong.push(format!("crate `{name}` depends upwards on `{dependency}`"));
            }
        }
    }
}

fn crate_map(root: &Path, manifests: &Manifests, wrong: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    for name in manifests.keys().filter(|name| !text.contains(&format!("`{name}`"))) {
        wrong.push(format!("ARCHITECTURE.md does not speak of crate `{name}`"));
    }
    Ok(())
}

fn dependency_notes(root: &Path, manifests: &Manifests, wrong: &mut Vec<String>) -> Result<()> {
    let path = "docs/internals/dependencies.md";
    let text = fs::read_to_string(root.join(path)).context(path)?;
    let mut direct: Vec<&str> = manifests
        .values()
        .flat_map(|manifest| {
            let mut all = dependencies(manifest, "dependencies");
            all.extend(dependencies(manifest, "dev-dependencies"));
            all.extend(dependencies(manifest, "build-dependencies"));
            all
        })
        .filter(|name| !manifests.contains_key(*name))
        .collect();
    direct.sort_unstable();
    direct.dedup();
    for name in &direct {
        if !text.contains(&format!("| {name} |")) {
            wrong.push(format!("{path} has no line for `{name}`"));
        }
    }
    let workspace: toml::Table = toml::from_str(&fs::read_to_string(root.join("Cargo.toml"))?)?;
    let listed = workspace["workspace"]["dependencies"].as_table();
    for name in listed.into_iter().flat_map(toml::Table::keys) {
        if !manifests.contains_key(name) && !direct.contains(&name.as_str()) {
            wrong.push(format!("Cargo.toml lists `{name}`, which no crate uses"));
        }
    }
    Ok(())
}

fn file_size(shown: &str, text: &str, wrong: &mut Vec<String>) {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    let is_test = shown.contains("/tests/") || shown.ends_with("tests.rs") || shown.ends_with("/test.rs");
    if lines > FILE_LIMIT && !is_test {
        wrong.push(format!("{shown} has {lines} product lines; the limit is {FILE_LIMIT}"));
    }
}

fn forbidden_words(shown: &str, text: &str, wrong: &mut Vec<String>) {
    let product = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let product = if shown.ends_with("tests.rs") { Vec::new() } else { product.collect() };
    for (name, word, promise) in FORBIDDEN_WORDS {
        let here = shown.starts_with(&format!("crates/{name}/src/"));
        if here && product.iter().any(|line| line.contains(word)) {
            wrong.push(format!("{shown} names `{word}`: {promise}"));
        }
    }
}

/// Every relative link of a Markdown file must lead to something.
fn links(root: &Path, path: &Path, shown: &str, text: &str, wrong: &mut Vec<String>) {
    let folder = path.parent().unwrap_or(root);
    for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        let target = target.split('#').next().unwrap_or_default();
        let external = target.contains("://") || target.starts_with("mailto:");
        if !target.is_empty() && !external && !folder.join(target).exists() {
            wrong.push(format!("{shown} links to `{target}`, which is not there"));
        }
    }
    for (name, target) in named_functions(text) {
        // A file that is not there is told above.
        let source = fs::read_to_string(folder.join(target)).unwrap_or_default();
        if !source.is_empty() && !source.contains(&format!("fn {name}(")) {
            wrong.push(format!("{shown} says that `{target}` has a function `{name}`, which it has not"));
        }
    }
}

/// Name and file of every function that is linked as ``[`name`](path.rs)``.
fn named_functions(text: &str) -> Vec<(&str, &str)> {
    text.split("[`")
        .skip(1)
        .filter_map(|rest| {
            let (name, rest) = rest.split_once("`](")?;
            let (target, _) = rest.split_once(')')?;
            let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
            (target.ends_with(".rs") && name.bytes().all(is_name)).then_some((name, target))
        })
        .collect()
}

fn files(root: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && !path.is_symlink() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if path
                .extension()
                .and_then(|end| end.to_str())
                .is_some_and(|end| extensions.contains(&end))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
