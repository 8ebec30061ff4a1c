//! The lock: `plumb.lock`, the definition resolved to exact packages with digests.
//!
//! TOML in a fixed order, one line per fact, so that a change of one package is a change of a few lines:
//!
//! ```toml
//! # Written by `plumb lock`. Commit it; do not edit it.
//! format = 1
//! app = "shop"
//! inputs = "sha256:…"          # digest of what the definition asks for; tells without network whether the lock fits
//!
//! [[source]]
//! uri = "http://deb.debian.org/debian"
//! suite = "bookworm"
//! date = 1757842810            # Date of the InRelease, seconds since 1970
//! in-release = "sha256:…"
//!
//! [machine.web]
//! middleware = ["nginx-light"]
//! kernel = "linux-image-6.1.0-40-cloud-amd64"
//! packages = [ "libc6", … ]
//! without = [ "debconf" ]      # left out by the definition
//! left-out = [ "ucf" ]         # left out by a rule
//!
//! [machine.web.accounts]       # user or group ids given to packages; kept, so that volumes keep their owners
//! postgres = [101, 103]
//!
//! [[package]]
//! name = "libc6"
//! version = "2.36-9+deb12u13"
//! …
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use plumb_debian::{PackageName, Version};
use serde::{Deserialize, Serialize};

use crate::{AppName, Digest, MachineName};

/// Format number of the lock.
pub const FORMAT: u32 = 1;

/// The lock of one application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Always [`FORMAT`].
    pub format: u32,
    /// The application.
    pub app: AppName,
    /// Digest of the definition's [`LockInputs`].
    pub inputs: Digest,
    /// The signed indices the packages were found in.
    #[serde(default, rename = "source")]
    pub sources: Vec<LockedSource>,
    /// What each machine consists of.
    #[serde(default, rename = "machine")]
    pub machines: BTreeMap<MachineName, LockedMachine>,
    /// Every package of every machine, by name: an application has one version of each package.
    #[serde(default, rename = "package")]
    pub packages: Vec<LockedPackage>,
}

/// A signed index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedSource {
    /// Base of the archive.
    pub uri: String,
    /// Suite.
    pub suite: String,
    /// Date of the InRelease file, seconds since 1970.
    pub date: i64,
    /// Digest of the InRelease file.
    pub in_release: Digest,
}

/// One machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedMachine {
    /// Packages that the definition names as middleware; the rest is the os layer.
    pub middleware: BTreeSet<PackageName>,
    /// The package that holds the kernel.
    pub kernel: String,
    /// All packages of the root file system, by name.
    pub packages: BTreeSet<PackageName>,
    /// Packages left out by the definition's `without`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub without: BTreeSet<PackageName>,
    /// Packages that something asks for and that a rule leaves out, because only maintainer scripts use them.
    #[serde(default, rename = "left-out", skip_serializing_if = "BTreeSet::is_empty")]
    pub left_out: BTreeSet<PackageName>,
    /// Wheels of Python projects, in the order of the definition's targets and of their names.
    #[serde(default, rename = "wheel", skip_serializing_if = "Vec::is_empty")]
    pub wheels: Vec<LockedWheel>,
    /// Packages that are only there to run maintainer scripts; they decide bytes, but are not in the image.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub build: BTreeSet<PackageName>,
    /// User and group ids: account name to (uid, gid).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<String, (u32, u32)>,
}

/// One exact wheel of a Python project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedWheel {
    /// The entry of `app` that it belongs to.
    pub target: String,
    /// Project, in its normal form (PEP 503).
    pub name: String,
    /// Exact version.
    pub version: String,
    /// Where it is.
    pub url: String,
    /// Length of the file in bytes.
    pub size: u64,
    /// Digest of the file, one of the hashes of the requirements.
    pub digest: Digest,
}

/// One exact package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Package name.
    pub name: PackageName,
    /// Exact version.
    pub version: Version,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Suite it was found in.
    pub suite: String,
    /// Path below the archive's base.
    pub file: String,
    /// Length of the file in bytes.
    pub size: u64,
    /// Digest of the file, from the signed index.
    pub digest: Digest,
}

/// What of a definition the lock depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LockInputs {
    /// The application.
    pub app: AppName,
    /// Archive base, suite, components.
    pub archive: Vec<String>,
    /// Kernel package.
    pub kernel: PackageName,
    /// Per machine: middleware, os, without.
    pub machines: BTreeMap<MachineName, MachineInputs>,
}

/// What of a machine the lock depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MachineInputs {
    /// Middleware relations as written.
    pub middleware: Vec<String>,
    /// Extra packages of the os layer.
    pub os: Vec<String>,
    /// Packages to leave out.
    pub without: Vec<PackageName>,
    /// Python requirements: target, and digest of the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<(String, Digest)>,
    /// Maintainer scripts are run, which takes packages besides.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub runs_scripts: bool,
    /// systemd is PID 1: what only it needs of the packages is there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub runs_systemd: bool,
}

impl LockInputs {
    /// The digest that the lock records.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("strings, lists and maps"))
    }
}

/// Why a text is not a lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Not TOML of this shape.
    #[error("the lock is not understood: {message}")]
    Malformed {
        /// What the parser says, with line and column.
        message: String,
    },
    /// Another format.
    #[error("the lock has format {found}; this plumb reads format {FORMAT}")]
    Format {
        /// Number found.
        found: u32,
    },
    /// A machine names a package that the lock does not hold.
    #[error("machine `{machine}` has package `{package}`, which the lock does not describe")]
    Dangling {
        /// Machine.
        machine: MachineName,
        /// Package.
        package: String,
    },
}

impl Lock {
    /// Reads a lock.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn parse(text: &str) -> Result<Self, LockError> {
        let lock: Lock =
            toml::from_str(text).map_err(|error| LockError::Malformed { message: error.to_string() })?;
        if lock.format != FORMAT {
            return Err(LockError::Format { found: lock.format });
        }
        for (name, machine) in &lock.machines {
            let kernel = machine.kernel.as_str();
            let named = machine.packages.iter().chain(&machine.build).map(PackageName::as_str);
            for package in named.chain([kernel]) {
                if lock.package(package).is_none() {
                    return Err(LockError::Dangling { machine: name.clone(), package: package.to_owned() });
                }
            }
        }
        Ok(lock)
    }

    /// The package with this name.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&LockedPackage> {
        let found = self.packages.binary_search_by(|package| package.name.as_str().cmp(name)).ok()?;
        self.packages.get(found)
    }

    /// The canonical text. Packages must be sorted by name.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut out = String::from("# Written by `plumb lock`. Commit it; do not edit it.\n");
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        line(format!("format = {}", self.format));
        line(format!("app = {}", quoted(self.app.as_str())));
        line(format!("inputs = \"{}\"", self.inputs));
        for source in &self.sources {
            line(format!(
                "\n[[source]]\nuri = {}\nsuite = {}\ndate = {}\nin-release = \"{}\"",
                quoted(&source.uri),
                quoted(&source.suite),
                source.date,
                source.in_release
            ));
        }
        for (name, machine) in &self.machines {
            line(machine_text(name, machine));
        }
        for package in &self.packages {
            line(format!(
                "\n[[package]]\nname = {}\nversion = {}\narchitecture = {}\nsuite = {}\nfile = {}\nsize = {}\ndigest = \"{}\"",
                quoted(package.name.as_str()),
                quoted(package.version.as_str()),
                quoted(&package.architecture),
                quoted(&package.suite),
                quoted(&package.file),
                package.size,
                package.digest
            ));
        }
        out
    }
}

fn machine_text(name: &MachineName, machine: &LockedMachine) -> String {
    let mut out = format!("\n[machine.{name}]\n");
    let list = |out: &mut String, key: &str, names: &BTreeSet<PackageName>| {
        let _ = writeln!(out, "{key} = [");
        for name in names {
            let _ = writeln!(out, "  \"{name}\",");
        }
        out.push_str("]\n");
    };
    list(&mut out, "middleware", &machine.middleware);
    let _ = writeln!(out, "kernel = \"{}\"", machine.kernel);
    list(&mut out, "packages", &machine.packages);
    if !machine.without.is_empty() {
        list(&mut out, "without", &machine.without);
    }
    if !machine.left_out.is_empty() {
        list(&mut out, "left-out", &machine.left_out);
    }
    if !machine.build.is_empty() {
        list(&mut out, "build", &machine.build);
    }
    if !machine.accounts.is_empty() {
        let _ = writeln!(out, "\n[machine.{name}.accounts]");
        for (account, (uid, gid)) in &machine.accounts {
            let _ = writeln!(out, "{} = [{uid}, {gid}]", toml::Value::String(account.clone()));
        }
    }
    for wheel in &machine.wheels {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let _ = writeln!(
            out,
            "\n[[machine.{name}.wheel]]\ntarget = {}\nname = {}\nversion = {}\nurl = {}\nsize = {}\ndigest = \"{}\"",
            quoted(&wheel.target),
            quoted(&wheel.name),
            quoted(&wheel.version),
            quoted(&wheel.url),
            wheel.size,
            wheel.digest
        );
    }
    out.pop();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Lock {
        let name: PackageName = "nginx-light".parse().expect("name");
        let machine = LockedMachine {
            middleware: [name.clone()].into(),
            kernel: "nginx-light".into(),
            packages: [name.clone()].into(),
            without: BTreeSet::new(),
            left_out: ["debconf".parse().expect("name")].into(),
            build: [name.clone()].into(),
            accounts: [("www-data".to_owned(), (33, 33))].into(),
            wheels: vec![LockedWheel {
                target: "/srv/venv".into(),
                name: "flask".into(),
                version: "3.0.3".into(),
                url: "https://example.org/flask-3.0.3-py3-none-any.whl".into(),
                size: 5,
                digest: Digest::of(b"w"),
            }],
        };
        Lock {
            format: FORMAT,
            app: "shop".parse().expect("name"),
            inputs: Digest::of(b"x"),
            sources: vec![LockedSource {
                uri: "http://deb.debian.org/debian".into(),
                suite: "bookworm".into(),
                date: 1,
                in_release: Digest::of(b"y"),
            }],
            machines: [("web".parse().expect("name"), machine)].into(),
            packages: vec![LockedPackage {
                name,
                version: "1.22.1-9+deb12u1".parse().expect("version"),
                architecture: "amd64".into(),
                suite: "bookworm".into(),
                file: "pool/main/n/nginx/x.deb".into(),
                size: 3,
                digest: Digest::of(b"z"),
            }],
        }
    }

    #[test]
    fn text_round_trip() {
        let lock = sample();
        let text = lock.to_text();
        assert_eq!(Lock::parse(&text).expect("parses"), lock);
        assert_eq!(Lock::parse(&text).expect("parses").to_text(), text);
    }

    #[test]
    fn refuses() {
        let text = sample().to_text();
        assert!(matches!(
            Lock::parse(&text.replace("format = 1", "format = 9")),
            Err(LockError::Format { found: 9 })
        ));
        let dangling = text.replace("name = \"nginx-light\"", "name = \"nginx\"");
        assert!(matches!(Lock::parse(&dangling), Err(LockError::Dangling { .. })));
        assert!(matches!(Lock::parse("format ="), Err(LockError::Malformed { .. })));
    }
}
