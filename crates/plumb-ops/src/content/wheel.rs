//! Pinned Python requirements: wheels chosen when the application is locked, a virtual environment when it is built.

use std::collections::{BTreeMap, BTreeSet};

use plumb_content::python::{
    self, Candidate, Environment, PythonError, Requirement, Tags, choose, entry_points, parse_listing,
    parse_requirements,
};
use plumb_fetch::{Check, FileRef};
use plumb_image::tree::{Entry, Kind};
use plumb_model::MachineName;
use plumb_model::definition::Source;
use plumb_model::lock::{Lock, LockedMachine, LockedWheel};
use serde::Serialize;

use super::archive::file_name;
use crate::Plumb;
use crate::content::error::ContentError;
use crate::error::OpsError;
use crate::lock::Transfer;
use crate::project::{Project, read_text};

/// Where wheels come from unless the definition says otherwise.
const PYPI: &str = "https://pypi.org/simple";

/// JSON first; an index that only has HTML gives that.
const ACCEPT: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

/// Largest text of a wheel (`METADATA`, a script) that is read.
const TEXT_BYTES: u64 = 16 * 1024 * 1024;

/// Python of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Python {
    /// `3.11`.
    short: String,
    /// `3.11.2`.
    full: String,
    minor: u32,
    /// Minor version of glibc 2.
    glibc: u32,
}

/// The Python that a locked machine has: Debian's package `python3.N`, without what Debian adds to its version.
pub(crate) fn python(lock: &Lock, machine: &LockedMachine) -> Option<Python> {
    let upstream = |name: &str| {
        let version = lock.package(name)?.version.as_str();
        let version = version.split_once(':').map_or(version, |(_, version)| version);
        Some(version.split(['-', '+', '~']).next().unwrap_or(version).to_owned())
    };
    let minor = |name: &str| name.strip_prefix("python3.")?.trim_end_matches("-minimal").parse::<u32>().ok();
    let (name, minor) =
        machine.packages.iter().find_map(|name| Some((name.as_str(), minor(name.as_str())?)))?;
    let glibc = upstream("libc6")?.strip_prefix("2.")?.split('.').next()?.parse().ok()?;
    Some(Python { short: format!("3.{minor}"), full: upstream(name)?, minor, glibc })
}

/// What a file of requirements is locked to.
struct Chosen {
    requirement: Requirement,
    candidate: Candidate,
}

/// The file of a wheel.
pub(super) fn wanted(wheel: &LockedWheel) -> FileRef {
    FileRef {
        item: format!("{} {}", wheel.name, wheel.version),
        url: wheel.url.clone(),
        check: Check::Sha256(wheel.digest),
        size: Some(wheel.size),
    }
}

impl Plumb<'_> {
    /// Adds the wheels of all machines to the lock. They are fetched, too: only their own bytes say what they need.
    pub(crate) fn lock_wheels(&self, project: &Project, lock: &mut Lock) -> Result<(), OpsError> {
        for (name, machine) in &project.definition.machines {
            let mut wheels = Vec::new();
            for content in &machine.app {
                let Source::Pip(source) = &content.source else { continue };
                let locked = lock.machines.get(name);
                let python = locked.and_then(|locked| python(lock, locked)).ok_or_else(|| {
                    OpsError::Content(ContentError::NoPython {
                        machine: name.clone(),
                        target: content.target.clone(),
                    })
                })?;
                let path = project.folder.join(&source.requirements);
                let text = read_text(&path)?;
                let failed = |source| {
                    OpsError::Content(ContentError::Requirements {
                        path: path.clone(),
                        source: Box::new(source),
                    })
                };
                let environment = Environment::cpython(&python.full);
                let pins = parse_requirements(&text, &environment).map_err(failed)?;
                let chosen = self.choose_wheels(project, pins, &python).map_err(|error| match error {
                    Failure::Python(error) => failed(error),
                    Failure::Ops(error) => *error,
                })?;
                let found = self.fetch_wheels(&chosen, &content.target)?;
                self.check_wheels(&path, &chosen, &found, &environment)?;
                wheels.extend(found);
            }
            if let Some(locked) = lock.machines.get_mut(name) {
                locked.wheels = wheels;
            }
        }
        Ok(())
    }

    fn choose_wheels(
        &self,
        project: &Project,
        pins: Vec<Requirement>,
        python: &Python,
    ) -> Result<Vec<Chosen>, Failure> {
        let index = project.definition.base.pypi.as_deref().unwrap_or(PYPI);
        let url = |pin: &Requirement| format!("{}/{}/", index.trim_end_matches('/'), pin.project);
        let pages: Vec<(String, String)> = pins.iter().map(|pin| (pin.project.clone(), url(pin))).collect();
        let options = self.fetch_options().map_err(|error| Failure::Ops(Box::new(error)))?;
        let bodies =
            plumb_fetch::fetch_pages(&self.store, &pages, ACCEPT, &options, &Transfer(self.reporter))
                .map_err(|error| Failure::Ops(Box::new(error.into())))?;
        let (tags, environment) =
            (Tags::cpython(python.minor, python.glibc), Environment::cpython(&python.full));
        let choice = |(requirement, body): (Requirement, Vec<u8>)| {
            let body = String::from_utf8_lossy(&body);
            let listing = parse_listing(&requirement.project, &url(&requirement), &body)?;
            let candidate = choose(&requirement, &listing, &tags, &environment, python.glibc)?.clone();
            Ok(Chosen { requirement, candidate })
        };
        pins.into_iter().zip(bodies).map(choice).collect::<Result<_, PythonError>>().map_err(Failure::Python)
    }

    fn fetch_wheels(&self, chosen: &[Chosen], target: &str) -> Result<Vec<LockedWheel>, OpsError> {
        let file = |chosen: &Chosen| {
            let Candidate { file, url, sha256, size, .. } = &chosen.candidate;
            sha256.map(|digest| FileRef {
                item: file.clone(),
                url: url.clone(),
                check: Check::Sha256(digest),
                size: *size,
            })
        };
        let files: Vec<FileRef> = chosen.iter().filter_map(file).collect();
        let options = self.fetch_options()?;
        let found = plumb_fetch::fetch_files(&self.store, &files, &options, &Transfer(self.reporter))?;
        let wheel = |(chosen, (digest, size)): (&Chosen, (_, u64))| LockedWheel {
            target: target.to_owned(),
            name: chosen.requirement.project.clone(),
            version: chosen.requirement.version.to_string(),
            url: chosen.candidate.url.clone(),
            size,
            digest,
        };
        Ok(chosen.iter().zip(found).map(wheel).collect())
    }

    /// As pip does with `--require-hashes`: what a wheel needs must be pinned, too.
    fn check_wheels(
        &self,
        path: &std::path::Path,
        chosen: &[Chosen],
        wheels: &[LockedWheel],
        environment: &Environment,
    ) -> Result<(), OpsError> {
        let there: BTreeSet<String> =
            chosen.iter().map(|chosen| chosen.requirement.project.clone()).collect();
        let mut missing = Vec::new();
        for (chosen, wheel) in chosen.iter().zip(wheels) {
            let (entries, info, _) = self.opened(wheel, environment.python_version())?;
            let metadata = self.wheel_text(&entries, &format!("{info}/METADATA"))?.unwrap_or_default();
            let extras = &chosen.requirement.extras;
            let found =
                python::missing_requirements(&metadata, extras, &there, environment).map_err(|source| {
                    OpsError::Content(ContentError::Requirements {
                        path: path.to_owned(),
                        source: Box::new(source),
                    })
                })?;
            missing.extend(found.into_iter().map(|name| format!("`{}` needs `{name}`", wheel.name)));
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(OpsError::Content(ContentError::Unpinned { path: path.to_owned(), missing }))
    }

    /// A wheel's entries by path without `/`, its `.dist-info` folder, and where its files go.
    #[expect(
        clippy::type_complexity,
        reason = "three views of one wheel, taken apart at once by both callers"
    )]
    fn opened(
        &self,
        wheel: &LockedWheel,
        short: &str,
    ) -> Result<(BTreeMap<String, Entry>, String, BTreeMap<String, String>), OpsError> {
        let name = file_name(&wheel.url);
        let entries = self.unpacked(&wheel.digest, name, &wheel.target)?.unwrap_or_default();
        let files = entries.into_iter().filter(|(_, entry)| matches!(entry.kind, Kind::File { .. }));
        let entries: BTreeMap<String, Entry> =
            files.map(|(path, entry)| (path.trim_start_matches('/').to_owned(), entry)).collect();
        let (info, places) = python::install(name, short, &entries.keys().cloned().collect())
            .map_err(|error| self.content_failed(&wheel.target, error))?;
        Ok((entries, info, places))
    }

    fn wheel_text(&self, entries: &BTreeMap<String, Entry>, path: &str) -> Result<Option<String>, OpsError> {
        let Some(Kind::File { digest, .. }) = entries.get(path).map(|entry| &entry.kind) else {
            return Ok(None);
        };
        Ok(Some(String::from_utf8_lossy(&self.store.read_bytes(digest, TEXT_BYTES)?).into_owned()))
    }

    /// The virtual environment that the wheels make below the target.
    pub(super) fn environment(
        &self,
        machine: &MachineName,
        python: &Python,
        wheels: &[&LockedWheel],
        target: &str,
    ) -> Result<BTreeMap<String, Entry>, OpsError> {
        let mut all = BTreeMap::new();
        let interpreter = format!("{target}/bin/python3");
        for wheel in wheels {
            for (path, entry) in self.installed(wheel, python, &interpreter)? {
                if all.insert(path.clone(), entry).is_some() {
                    return Err(OpsError::Content(ContentError::TwoWheels {
                        machine: machine.clone(),
                        path: format!("{target}{path}"),
                    }));
                }
            }
        }
        // Packages of Debian are seen, too, after the environment's own.
        let config = format!(
            "home = /usr/bin\ninclude-system-site-packages = true\nversion = {}\nexecutable = /usr/bin/python{}\n",
            python.full, python.short
        );
        all.insert("/pyvenv.cfg".to_owned(), self.written(config.as_bytes(), 0o644)?);
        all.insert("/bin/python3".to_owned(), Entry::symlink(format!("/usr/bin/python{}", python.short)));
        for name in ["python".to_owned(), format!("python{}", python.short)] {
            all.insert(format!("/bin/{name}"), Entry::symlink("python3"));
        }
        all.insert("/lib64".to_owned(), Entry::symlink("lib"));
        Ok(all)
    }

    /// The files of one wheel by their path in the environment, with `RECORD`, `INSTALLER` and scripts.
    fn installed(
        &self,
        wheel: &LockedWheel,
        python: &Python,
        interpreter: &str,
    ) -> Result<BTreeMap<String, Entry>, OpsError> {
        let (entries, info, places) = self.opened(wheel, &python.short)?;
        let site = format!("/lib/python{}/site-packages", python.short);
        let mut files = BTreeMap::new();
        for (path, mut entry) in entries.clone() {
            entry.mode = if entry.mode & 0o111 == 0 { 0o644 } else { 0o755 };
            let place = places.get(&path).map_or(path.as_str(), String::as_str);
            if path.starts_with(&format!("{}.data/scripts/", info.trim_end_matches(".dist-info"))) {
                entry = self.script(entry, interpreter)?;
            }
            files.insert(format!("/{place}"), entry);
        }
        let points = self.wheel_text(&entries, &format!("{info}/entry_points.txt"))?.unwrap_or_default();
        for point in entry_points(&points) {
            let script = self.written(point.script(interpreter).as_bytes(), 0o755)?;
            files.insert(format!("/bin/{}", point.name), script);
        }
        files.insert(format!("{site}/{info}/INSTALLER"), self.written(b"plumb\n", 0o644)?);
        files.insert(format!("{site}/{info}/REQUESTED"), self.written(b"", 0o644)?);
        for signature in ["RECORD.jws", "RECORD.p7s"] {
            files.remove(&format!("{site}/{info}/{signature}"));
        }
        let record = record(&files, &site, &info);
        files.insert(format!("{site}/{info}/RECORD"), self.written(record.as_bytes(), 0o644)?);
        Ok(files)
    }

    /// A script of a wheel: `#!python` stands for the environment's own.
    fn script(&self, entry: Entry, interpreter: &str) -> Result<Entry, OpsError> {
        let Kind::File { digest, size } = &entry.kind else { return Ok(entry) };
        if *size > TEXT_BYTES {
            return Ok(Entry { mode: 0o755, ..entry });
        }
        let bytes = self.store.read_bytes(digest, TEXT_BYTES)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        if !bytes.starts_with(b"#!python") {
            return Ok(Entry { mode: 0o755, ..entry });
        }
        let text = [b"#!", interpreter.as_bytes(), &bytes[end..]].concat();
        self.written(&text, 0o755)
    }

    fn written(&self, bytes: &[u8], mode: u32) -> Result<Entry, OpsError> {
        Ok(Entry::file(self.store.put_bytes(bytes)?, bytes.len() as u64, mode))
    }
}

enum Failure {
    Python(PythonError),
    Ops(Box<OpsError>),
}

/// `RECORD` (PEP 376, PEP 427): every installed file with digest and size, by its path from `site-packages`.
fn record(files: &BTreeMap<String, Entry>, site: &str, info: &str) -> String {
    let own = format!("{info}/RECORD");
    let mut rows = BTreeSet::from([format!("{own},,\n")]);
    for (path, entry) in files {
        let Kind::File { digest, size } = &entry.kind else { continue };
        let shown = match path.strip_prefix(&format!("{site}/")) {
            Some(inside) => inside.to_owned(),
            None => format!("../../..{path}"),
        };
        if shown != own {
            let shown = if shown.contains([',', '"']) {
                format!("\"{}\"", shown.replace('"', "\"\""))
            } else {
                shown
            };
            rows.insert(format!("{shown},sha256={},{size}\n", base64(digest.as_bytes())));
        }
    }
    rows.into_iter().collect()
}

/// RFC 4648, section 5, without padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..=group.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize]));
        }
    }
    text
}
