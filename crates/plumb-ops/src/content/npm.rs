//! Packages of a `package-lock.json`, laid out as `npm ci --omit=dev` does it.

use std::collections::BTreeMap;
use std::path::Path;

use plumb_content::npm::{self, Package, Plan};
use plumb_fetch::{Check, FileRef, known_file};
use plumb_image::tree::{Entry, Kind};
use plumb_model::MachineName;
use plumb_model::definition::NpmSource;

use super::archive::file_name;
use crate::Plumb;
use crate::content::error::ContentError;
use crate::error::OpsError;
use crate::project::{Project, read_text};

/// Largest program that is looked at for a line end of Windows.
const PROGRAM_BYTES: u64 = 64 * 1024 * 1024;

/// What the lock in a folder installs.
pub(super) fn plan(project: &Project, source: &NpmSource, target: &str) -> Result<Plan, OpsError> {
    let folder = project.folder.join(&source.folder);
    let manifest = read_text(&folder.join("package.json"))?;
    let lock = read_text(&folder.join("package-lock.json"))?;
    npm::plan(&manifest, &lock, &source.skip_scripts).map_err(|source| {
        OpsError::Content(ContentError::Npm { target: target.to_owned(), source: Box::new(source) })
    })
}

/// The tarball of a package.
pub(super) fn wanted(folder: &Path, package: &Package) -> FileRef {
    let url = match package.url.strip_prefix("file:") {
        Some(path) => {
            let path = folder.join(path);
            format!("file://{}", std::path::absolute(&path).unwrap_or(path).display())
        }
        None => package.url.clone(),
    };
    let item = format!("{} {}", package.name, package.version);
    FileRef { item, url, check: check(package), size: None }
}

fn check(package: &Package) -> Check {
    let mut digest = Box::new([0; 64]);
    // The plan has 128 hex digits or it is no plan.
    let digits =
        package.integrity.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
    for (byte, pair) in digest.iter_mut().zip(digits) {
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    Check::Sha512(digest)
}

impl Plumb<'_> {
    /// Everything that the plan puts below the target.
    pub(super) fn npm_entries(
        &self,
        machine: &MachineName,
        plan: &Plan,
        target: &str,
    ) -> Result<BTreeMap<String, Entry>, OpsError> {
        let mut all = BTreeMap::new();
        for package in &plan.packages {
            let entries = self.npm_package(machine, package, target)?;
            all.extend(entries.into_iter().map(|(path, entry)| (format!("/{}{path}", package.path), entry)));
        }
        for (path, to) in &plan.links {
            all.insert(format!("/{path}"), Entry::symlink(to.clone()));
        }
        for path in &plan.programs {
            if let Some(entry) = all.get_mut(&format!("/{path}")) {
                self.make_program(entry)?;
            }
        }
        Ok(all)
    }

    fn npm_package(
        &self,
        machine: &MachineName,
        package: &Package,
        target: &str,
    ) -> Result<BTreeMap<String, Entry>, OpsError> {
        let label = format!("{target}/{}", package.path);
        let (digest, _) = known_file(&self.store, &check(package))?.ok_or_else(|| {
            OpsError::Content(ContentError::NotAnArchive {
                machine: machine.clone(),
                target: label.clone(),
                file: package.url.clone(),
            })
        })?;
        let name = file_name(&package.url);
        let unpacked = self.unpacked(&digest, name, &label)?.ok_or_else(|| {
            OpsError::Content(ContentError::NotAnArchive {
                machine: machine.clone(),
                target: label.clone(),
                file: name.to_owned(),
            })
        })?;
        let mut entries = plumb_image::archive::strip(unpacked, 1, name)
            .map_err(|error| self.content_failed(&label, error))?;
        // As pacote unpacks: no links, everything readable, `.gitignore` as `.npmignore`.
        entries.retain(|_, entry| !matches!(entry.kind, Kind::Symlink { .. }));
        for entry in entries.values_mut() {
            entry.mode = (entry.mode | 0o644) & 0o755;
        }
        let ignored: Vec<String> =
            entries.keys().filter(|path| path.ends_with("/.gitignore")).cloned().collect();
        for path in ignored {
            if let Some(entry) = entries.remove(&path) {
                entries.entry(path.replace("/.gitignore", "/.npmignore")).or_insert(entry);
            }
        }
        for program in &package.programs {
            if let Some(entry) = entries.get_mut(&format!("/{program}")) {
                self.make_program(entry)?;
            }
        }
        Ok(entries)
    }

    /// As bin-links does: executable, and without a carriage return in the first line, which the kernel would take for
    /// part of the interpreter's name.
    fn make_program(&self, entry: &mut Entry) -> Result<(), OpsError> {
        entry.mode = 0o755;
        let Kind::File { digest, size } = &mut entry.kind else { return Ok(()) };
        if *size > PROGRAM_BYTES {
            return Ok(());
        }
        let bytes = self.store.read_bytes(digest, PROGRAM_BYTES)?;
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or_default();
        if bytes.starts_with(b"#!") && end > 2 && bytes[end - 1] == b'\r' {
            let fixed = [&bytes[..end - 1], &bytes[end..]].concat();
            (*digest, *size) = (self.store.put_bytes(&fixed)?, fixed.len() as u64);
        }
        Ok(())
    }
}
