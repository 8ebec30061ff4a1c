//! npm's lock: which packages `npm ci --omit=dev` installs, and where (package-lock.json, `lockfileVersion` 2 and 3).
//!
//! ```text
//!  packages: { "node_modules/a": { version, resolved, integrity, dev, optional, os, cpu, libc, bin, inBundle, link, … } }
//!               └ where it goes
//! ```
//!
//! Install scripts are never run: they are programs of strangers that fetch and compile what they like, and then the
//! lock says nothing about the result any more.

mod optional;
mod platform;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Where packages come from whose entry does not say it.
const REGISTRY: &str = "https://registry.npmjs.org";

/// Most packages of one lock. Large front ends have some thousand.
const MAX_PACKAGES: usize = 50_000;

/// One package to install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Package {
    /// Where it goes, below the folder of the lock: `node_modules/a`.
    pub path: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its tarball: a URL, or `file:` and a path below the folder of the lock.
    #[serde(skip)]
    pub url: String,
    /// SHA-512 of its tarball in hex.
    pub integrity: String,
    /// Its programs, below `path`.
    pub programs: BTreeSet<String>,
}

/// What is installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Packages by path.
    pub packages: Vec<Package>,
    /// Symbolic links: programs in `.bin`, and workspaces. Path below the folder of the lock to target.
    pub links: BTreeMap<String, String>,
    /// Programs of packages that have no tarball of their own (workspaces, bundled packages), below the folder of the
    /// lock: they are executable, too.
    pub programs: BTreeSet<String>,
}

/// Why a lock cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NpmError {
    /// Not JSON of this shape.
    #[error("`{file}` is not understood: {message}")]
    Malformed {
        /// Which.
        file: &'static str,
        /// What the parser says.
        message: String,
    },
    /// A lock of npm 6 or older, or of the future.
    #[error("`package-lock.json` has lockfileVersion {version}; 2 and 3 are known")]
    Version {
        /// As found.
        version: u64,
    },
    /// The two files differ.
    #[error("`package.json` and `package-lock.json` do not agree about {}", .names.join(", "))]
    Stale {
        /// Packages.
        names: Vec<String>,
    },
    /// A path that leads out.
    #[error("`package-lock.json` has a package at `{path}`, which is no path below `node_modules`")]
    Path {
        /// The path.
        path: String,
    },
    /// A package that no registry serves.
    #[error("package `{path}` comes from `{resolved}`; only tarballs of registries and files are taken")]
    Source {
        /// Where it goes.
        path: String,
        /// Where it is from.
        resolved: String,
    },
    /// No digest that is worth something.
    #[error("package `{path}` has no SHA-512 integrity in `package-lock.json`")]
    Integrity {
        /// Where it goes.
        path: String,
    },
    /// A package that must be there and does not run here.
    #[error("package `{path}` is not for linux on x64 with glibc, and it is not optional")]
    Platform {
        /// Where it goes.
        path: String,
    },
    /// Packages that depend on each other more than any real ones do.
    #[error("around `{path}` the packages of `package-lock.json` depend on each other without end")]
    Tangled {
        /// One of them.
        path: String,
    },
    /// Packages that want to run a script.
    #[error("{} wants to run a script when it is installed, which is never done: {}", if .names.len() == 1 { "a package" } else { "each of some packages" }, .names.join(", "))]
    Scripts {
        /// Names.
        names: Vec<String>,
    },
    /// A name of `skip_scripts` that no such package has.
    #[error("`skip_scripts` names `{name}`, which is no package with an install script")]
    NoScript {
        /// The name.
        name: String,
    },
    /// Too many packages.
    #[error("`package-lock.json` has {count} packages, more than {MAX_PACKAGES}")]
    TooMany {
        /// How many.
        count: usize,
    },
}

impl NpmError {
    /// What helps.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            NpmError::Version { version: 0 | 1 } => {
                "`npm install --package-lock-only` of npm 7 or newer rewrites the lock".into()
            }
            NpmError::Stale { .. } => "`npm install --package-lock-only` brings the lock up to date".into(),
            NpmError::Integrity { .. } => {
                "remove the entry and run `npm install --package-lock-only`: npm writes it anew".into()
            }
            NpmError::Scripts { names } => {
                let list = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
                format!(
                    "name it in `skip_scripts` (here: {list}) if the package works without, as those do that only print \
                     a message or fetch what an optional package holds; or use another package"
                )
            }
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawLock {
    #[serde(default)]
    lockfile_version: u64,
    #[serde(default)]
    packages: BTreeMap<String, Raw>,
}

/// One entry of `packages`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    name: Option<String>,
    version: Option<String>,
    resolved: Option<String>,
    integrity: Option<String>,
    dev: bool,
    optional: bool,
    extraneous: bool,
    in_bundle: bool,
    link: bool,
    has_install_script: bool,
    os: Option<OneOrMany>,
    cpu: Option<OneOrMany>,
    libc: Option<OneOrMany>,
    bin: Option<Bin>,
    dependencies: BTreeMap<String, serde_json::Value>,
    dev_dependencies: BTreeMap<String, serde_json::Value>,
    optional_dependencies: BTreeMap<String, serde_json::Value>,
    peer_dependencies: BTreeMap<String, serde_json::Value>,
    peer_dependencies_meta: BTreeMap<String, PeerMeta>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PeerMeta {
    optional: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Bin {
    One(String),
    Named(BTreeMap<String, String>),
}

/// Plans what `npm ci --omit=dev --ignore-scripts` would install. `manifest` and `lock` are the texts of
/// `package.json` and `package-lock.json`; `skip_scripts` names packages whose install scripts are known not to matter.
///
/// # Errors
/// [`NpmError`].
pub fn plan(manifest: &str, lock: &str, skip_scripts: &[String]) -> Result<Plan, NpmError> {
    let lock: RawLock = parse("package-lock.json", lock)?;
    if !(2..=3).contains(&lock.lockfile_version) {
        return Err(NpmError::Version { version: lock.lockfile_version });
    }
    if lock.packages.len() > MAX_PACKAGES {
        return Err(NpmError::TooMany { count: lock.packages.len() });
    }
    check_fresh(&parse("package.json", manifest)?, lock.packages.get("").unwrap_or(&Raw::default()))?;
    for path in lock.packages.keys().filter(|path| !path.is_empty()) {
        check_path(path)?;
    }
    let left_out = optional::left_out(&lock.packages)?;
    let mut plan = Plan::default();
    let mut scripts = BTreeSet::new();
    for (path, entry) in &lock.packages {
        let Some(name) = package_name(path) else { continue };
        if entry.dev || entry.extraneous || left_out.contains(path.as_str()) {
            continue;
        }
        if entry.has_install_script {
            scripts.insert(entry.name.as_deref().unwrap_or(name).to_owned());
        }
        add(&mut plan, path, name, entry, &lock.packages)?;
    }
    if let Some(name) = skip_scripts.iter().find(|name| !scripts.contains(*name)) {
        return Err(NpmError::NoScript { name: name.clone() });
    }
    let names: Vec<String> = scripts.into_iter().filter(|name| !skip_scripts.contains(name)).collect();
    if names.is_empty() { Ok(plan) } else { Err(NpmError::Scripts { names }) }
}

fn parse<T: for<'de> Deserialize<'de>>(file: &'static str, text: &str) -> Result<T, NpmError> {
    serde_json::from_str(text).map_err(|error| NpmError::Malformed { file, message: error.to_string() })
}

/// `npm ci` refuses a lock that does not belong to the manifest.
fn check_fresh(manifest: &Raw, root: &Raw) -> Result<(), NpmError> {
    let mut names = BTreeSet::new();
    for (wanted, locked) in [
        (&manifest.dependencies, &root.dependencies),
        (&manifest.dev_dependencies, &root.dev_dependencies),
        (&manifest.optional_dependencies, &root.optional_dependencies),
        (&manifest.peer_dependencies, &root.peer_dependencies),
    ] {
        let all: BTreeSet<&String> = wanted.keys().chain(locked.keys()).collect();
        // A name that is optional, too, stands only there in the lock.
        let elsewhere = |name: &String| manifest.optional_dependencies.contains_key(name);
        let differs = |name: &&String| wanted.get(*name) != locked.get(*name);
        names.extend(
            all.into_iter()
                .filter(differs)
                .filter(|name| wanted.contains_key(*name) == locked.contains_key(*name) || !elsewhere(name))
                .map(|name| format!("`{name}`")),
        );
    }
    if names.is_empty() { Ok(()) } else { Err(NpmError::Stale { names: names.into_iter().collect() }) }
}

fn check_path(path: &str) -> Result<(), NpmError> {
    let bad = |part: &str| matches!(part, "" | "." | "..") || part.len() > 255;
    if path.split('/').any(bad)
        || path.contains('\\')
        || path.chars().any(char::is_control)
        || path.len() > 4096
    {
        return Err(NpmError::Path { path: path.escape_debug().to_string() });
    }
    Ok(())
}

/// `@scope/a` of `node_modules/b/node_modules/@scope/a`; `None` for what is not installed (the root, workspaces).
fn package_name(path: &str) -> Option<&str> {
    let name = match path.rsplit_once("/node_modules/") {
        Some((_, name)) => name,
        None => path.strip_prefix("node_modules/")?,
    };
    Some(name)
}

fn add(
    plan: &mut Plan,
    path: &str,
    name: &str,
    entry: &Raw,
    all: &BTreeMap<String, Raw>,
) -> Result<(), NpmError> {
    let depth = name.split('/').count();
    if depth > 2 || (depth == 2) != name.starts_with('@') {
        return Err(NpmError::Path { path: path.to_owned() });
    }
    let folder = path[..path.len() - name.len()].trim_end_matches('/');
    let mut described = entry;
    if entry.link {
        let target = entry.resolved.as_deref().unwrap_or_default();
        let refuse = || NpmError::Source { path: path.to_owned(), resolved: target.to_owned() };
        check_path(target).map_err(|_| refuse())?;
        described = all.get(target).ok_or_else(refuse)?;
        let up = "../".repeat(path.split('/').count() - 1);
        plan.links.insert(path.to_owned(), format!("{up}{target}"));
    }
    let programs = programs(name, described);
    for (program, file) in &programs {
        let link = format!("{folder}/.bin/{program}");
        // Of two packages with one program, the first has it.
        plan.links.entry(link).or_insert_with(|| format!("../{name}/{file}"));
    }
    if entry.link || entry.in_bundle {
        let place = if entry.link { entry.resolved.as_deref().unwrap_or_default() } else { path };
        plan.programs.extend(programs.into_values().map(|file| format!("{place}/{file}")));
        return Ok(());
    }
    let version = entry.version.clone().unwrap_or_default();
    plan.packages.push(Package {
        path: path.to_owned(),
        name: entry.name.clone().unwrap_or_else(|| name.to_owned()),
        url: url(path, entry, entry.name.as_deref().unwrap_or(name))?,
        version,
        integrity: integrity(entry.integrity.as_deref().unwrap_or_default())
            .ok_or_else(|| NpmError::Integrity { path: path.to_owned() })?,
        programs: programs.into_values().collect(),
    });
    Ok(())
}

/// `bin` in its one form (npm-normalize-package-bin): plain names to paths inside the package.
fn programs(name: &str, entry: &Raw) -> BTreeMap<String, String> {
    let raw = match &entry.bin {
        None => return BTreeMap::new(),
        Some(Bin::One(file)) => [(name.to_owned(), file.clone())].into(),
        Some(Bin::Named(named)) => named.clone(),
    };
    let mut clean = BTreeMap::new();
    for (program, file) in raw {
        let program = program.replace(['\\', ':'], "/");
        let program = program.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        let mut parts = Vec::new();
        for part in file.replace('\\', "/").split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part.to_owned()),
            }
        }
        if !matches!(program.as_str(), "" | "." | "..") && !parts.is_empty() && check_path(&program).is_ok() {
            clean.insert(program, parts.join("/"));
        }
    }
    clean
}

fn url(path: &str, entry: &Raw, name: &str) -> Result<String, NpmError> {
    let Some(resolved) = &entry.resolved else {
        let version = entry.version.as_deref().unwrap_or_default();
        let file = name.rsplit('/').next().unwrap_or(name);
        return Ok(format!("{REGISTRY}/{name}/-/{file}-{version}.tgz"));
    };
    let is_plain = resolved.bytes().all(|b| b.is_ascii_graphic());
    let is_file = resolved.strip_prefix("file:").is_some_and(|file| check_path(file).is_ok());
    if is_plain && (is_file || resolved.starts_with("https://") || resolved.starts_with("http://")) {
        return Ok(resolved.clone());
    }
    Err(NpmError::Source { path: path.to_owned(), resolved: resolved.escape_debug().to_string() })
}

/// The SHA-512 of `sha1-… sha512-…` (Subresource Integrity) in hex.
fn integrity(text: &str) -> Option<String> {
    let digest = text.split_whitespace().find_map(|part| part.strip_prefix("sha512-"))?;
    let bytes = base64(digest.split('?').next().unwrap_or_default())?;
    (bytes.len() == 64).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// RFC 4648, section 4.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
