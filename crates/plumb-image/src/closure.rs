//! Does everything that is executed or loaded find what it needs inside the tree?
//!
//! Dependencies of packages do not say it all: Essential packages are never named, and an image leaves them out. So
//! the files themselves are asked: interpreter and needed libraries of every ELF file, interpreter of every
//! executable script.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use plumb_model::Digest;
use serde::{Deserialize, Serialize};

use crate::binary::{self, Binary, Elf};
use crate::rule::linker;
use crate::rule::world::World;
use crate::tree::{Kind, Layer, Objects, Origin, Tree};

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The program loader an ELF program names (`PT_INTERP`).
    Interpreter,
    /// A library an ELF file names (`DT_NEEDED`).
    Library,
    /// The program after `#!`.
    ScriptInterpreter,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The build must not go on.
    Error,
    /// Said, not refused: a script of a package that a service need not run.
    Notice,
}

/// One file that does not find what it needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Missing {
    /// How bad.
    pub severity: Severity,
    /// Kind of need.
    pub kind: What,
    /// Path or library name that does not resolve inside the tree.
    pub needed: String,
    /// File that needs it.
    pub needed_by: String,
    /// Package (or `app`, or rule) that owns that file.
    pub source: String,
    /// Package that usually has it, see [`suggest`].
    pub hint: Option<String>,
}

/// Folders where services and shells find programs.
const PROGRAM_FOLDERS: [&str; 4] = ["/usr/bin/", "/usr/sbin/", "/usr/local/bin/", "/usr/local/sbin/"];

/// Paths that scripts and programs need though no dependency says so, with the Debian package that has them.
const PROVIDERS: [(&str, &str); 34] = [
    ("/usr/bin/sh", "dash"),
    ("/usr/bin/dash", "dash"),
    ("/usr/bin/bash", "bash"),
    ("/usr/bin/rbash", "bash"),
    ("/usr/bin/perl", "perl-base"),
    ("/usr/bin/python3", "python3-minimal"),
    ("/usr/bin/python", "python-is-python3"),
    ("/usr/bin/env", "coreutils"),
    ("/usr/bin/cat", "coreutils"),
    ("/usr/bin/chown", "coreutils"),
    ("/usr/bin/install", "coreutils"),
    ("/usr/bin/mkdir", "coreutils"),
    ("/usr/bin/rm", "coreutils"),
    ("/usr/bin/sleep", "coreutils"),
    ("/usr/bin/test", "coreutils"),
    ("/usr/bin/true", "coreutils"),
    ("/usr/bin/kill", "procps"),
    ("/usr/bin/sed", "sed"),
    ("/usr/bin/grep", "grep"),
    ("/usr/bin/awk", "mawk"),
    ("/usr/bin/find", "findutils"),
    ("/usr/bin/tar", "tar"),
    ("/usr/bin/gzip", "gzip"),
    ("/usr/bin/hostname", "hostname"),
    ("/usr/bin/ruby", "ruby"),
    ("/usr/bin/tclsh", "tcl"),
    ("/usr/bin/lua", "lua5.4"),
    ("/usr/bin/node", "nodejs"),
    ("/usr/bin/php", "php-cli"),
    ("/usr/bin/gawk", "gawk"),
    ("/usr/bin/make", "make"),
    ("/usr/sbin/start-stop-daemon", "dpkg"),
    ("/usr/sbin/ldconfig", "libc-bin"),
    ("/usr/bin/getent", "libc-bin"),
];

/// The Debian package that has a well-known path, whatever spelling of a merged `/usr` is used.
#[must_use]
pub fn suggest(path: &str) -> Option<&'static str> {
    let merged = if path.starts_with("/usr/") { path.to_owned() } else { format!("/usr{path}") };
    PROVIDERS.iter().find(|(known, _)| *known == merged).map(|(_, package)| *package)
}

/// Checks the whole tree.
///
/// Programs and libraries that the linker finds by name must resolve. A plugin in a folder of its own is a notice:
/// Debian makes what only a plugin needs a mere recommendation (iproute2's ATM plugin and libatm1). Scripts must resolve (an error) if the user brought them; scripts of
/// packages are a notice: a package brings many that no service runs (a Perl helper in a C program's package), and to
/// refuse them would drag a general-purpose system into every image. `executed` are the programs that services run:
/// a script among them must resolve, whoever brought it.
///
/// # Errors
/// What reading an object says. What is missing is the value, sorted, errors first.
pub fn check(tree: &Tree, objects: &dyn Objects, executed: &BTreeSet<String>) -> io::Result<Vec<Missing>> {
    let binaries = binary::scan(tree, objects)?;
    let mut world = World::new(objects);
    world.tree.clone_from(tree);
    let mut folders = linker::configured_folders(&world)?;
    folders.extend(["x86_64-linux-gnu", "aarch64-linux-gnu"].iter().flat_map(|t| linker::default_folders(t)));
    let mut checker = Checker::new(tree, &binaries, &folders);
    checker.executed = executed.iter().filter_map(|program| tree.resolve(program)).collect();
    let mut missing = BTreeSet::new();
    for (path, (entry, origin)) in &tree.entries {
        let Kind::File { digest, .. } = &entry.kind else { continue };
        match binaries.get(digest) {
            Some(Binary::Elf(elf)) => checker.elf(path, origin, elf, &mut missing),
            Some(Binary::Script { interpreter, argument }) if entry.mode & 0o111 != 0 => {
                missing.extend(checker.script(path, origin, interpreter, argument.as_deref()));
            }
            _ => {}
        }
    }
    Ok(missing.into_iter().collect())
}

struct Checker<'a> {
    tree: &'a Tree,
    binaries: &'a BTreeMap<Digest, Binary>,
    /// Folders the linker searches, links followed.
    real_folders: BTreeSet<String>,
    /// By name and machine, everything the linker finds in its own folders.
    found: BTreeSet<(String, (u16, u8))>,
    /// The same for everything in the tree.
    anywhere: BTreeSet<(&'a str, (u16, u8))>,
    /// Programs that services run, links followed.
    executed: BTreeSet<String>,
}

impl<'a> Checker<'a> {
    fn new(tree: &'a Tree, binaries: &'a BTreeMap<Digest, Binary>, folders: &[String]) -> Self {
        let mut checker = Checker {
            tree,
            binaries,
            real_folders: BTreeSet::new(),
            found: BTreeSet::new(),
            anywhere: BTreeSet::new(),
            executed: BTreeSet::new(),
        };
        for (path, (entry, _)) in &tree.entries {
            if let (Kind::File { digest, .. }, Some((_, name))) = (&entry.kind, path.rsplit_once('/'))
                && let Some(Binary::Elf(elf)) = binaries.get(digest)
            {
                checker.anywhere.insert((name, elf.machine));
            }
        }
        for folder in folders {
            let Some(real) = tree.resolve(folder) else { continue };
            let prefix = format!("{}/", real.trim_end_matches('/'));
            for path in tree.entries.range(prefix.clone()..).map(|(path, _)| path) {
                let Some(name) = path.strip_prefix(&prefix) else { break };
                if let Some(machine) = checker.machine(path).filter(|_| !name.contains('/')) {
                    checker.found.insert((name.to_owned(), machine));
                }
            }
            checker.real_folders.insert(real);
        }
        checker
    }

    /// The machine of the ELF file that `path` leads to.
    fn machine(&self, path: &str) -> Option<(u16, u8)> {
        let real = self.tree.resolve(path)?;
        let Kind::File { digest, .. } = &self.tree.get(&real)?.kind else { return None };
        match self.binaries.get(digest)? {
            Binary::Elf(elf) => Some(elf.machine),
            Binary::Script { .. } => None,
        }
    }

    fn elf(&self, path: &str, origin: &Origin, elf: &Elf, missing: &mut BTreeSet<Missing>) {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let is_plugin = elf.interpreter.is_none() && !self.real_folders.contains(folder);
        let is_notice = is_plugin && (origin.layer != Layer::App || is_library(path));
        let severity = if is_notice { Severity::Notice } else { Severity::Error };
        let mut report = |kind, needed: &str| {
            missing.insert(Missing {
                severity,
                kind,
                needed: needed.to_owned(),
                needed_by: path.to_owned(),
                source: origin.source.clone(),
                hint: suggest(needed).map(str::to_owned),
            });
        };
        if let Some(interpreter) = elf.interpreter.as_deref()
            && self.tree.resolve(interpreter).is_none()
        {
            report(What::Interpreter, interpreter);
        }
        for needed in &elf.needed {
            // A plugin is loaded by a program that has loaded what they share (libjvm.so) from wherever it lies.
            let is_beside = is_plugin && self.anywhere.contains(&(needed.as_str(), elf.machine));
            if !is_beside && !self.library(path, elf, needed) {
                report(What::Library, needed);
            }
        }
    }

    /// ld.so(8), "the linker searches": a path as it is, RPATH or RUNPATH, then the folders. A library that another
    /// one of the same folder loads by its own RPATH is found there too.
    fn library(&self, path: &str, elf: &Elf, needed: &str) -> bool {
        if needed.contains('/') {
            return self.tree.resolve(needed).is_some();
        }
        if self.found.contains(&(needed.to_owned(), elf.machine)) {
            return true;
        }
        let origin = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
        elf.rpath.iter().chain(&elf.runpath).any(|folder| {
            let folder = folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin);
            let folder = folder.replace("${LIB}", "lib").replace("$LIB", "lib");
            self.machine(&format!("{folder}/{needed}")) == Some(elf.machine)
        })
    }

    fn script(
        &self,
        path: &str,
        origin: &Origin,
        interpreter: &str,
        argument: Option<&str>,
    ) -> Option<Missing> {
        let needed = if self.tree.resolve(interpreter).is_none() {
            interpreter.to_owned()
        } else if interpreter.ends_with("/env") {
            // env(1): the first word that is neither an option nor an assignment is the program.
            let mut words = argument.unwrap_or_default().split_whitespace();
            let program = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
            let exists = |folder: &str| self.tree.resolve(&format!("{folder}{program}")).is_some();
            if program.starts_with('/') || PROGRAM_FOLDERS.iter().any(|folder| exists(folder)) {
                return None;
            }
            format!("/usr/bin/{program}")
        } else {
            return None;
        };
        let is_own = origin.layer == Layer::App && !is_library(path);
        let must_run = is_own || self.executed.contains(path);
        let severity = if must_run { Severity::Error } else { Severity::Notice };
        let hint = suggest(&needed).map(str::to_owned);
        let (needed_by, source) = (path.to_owned(), origin.source.clone());
        Some(Missing { severity, kind: What::ScriptInterpreter, needed, needed_by, source, hint })
    }
}

/// What a package manager of a language put there: packages come with programs that only their authors run, and with
/// plugins for other C libraries beside the one that is loaded.
fn is_library(path: &str) -> bool {
    path.contains("/node_modules/") || path.contains("/site-packages/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_know_merged_usr() {
        assert_eq!(suggest("/bin/sh"), Some("dash"));
        assert_eq!(suggest("/usr/bin/perl"), Some("perl-base"));
        assert_eq!(suggest("/opt/x"), None);
    }
}
