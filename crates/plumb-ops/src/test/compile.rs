//! From the definition's checks to the list that a release names, files included.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use plumb_model::check::{CheckFile, CheckPath, Checks, Probe, RunProbe};
use plumb_model::{CheckName, Digest, Document as _};

use crate::Plumb;
use crate::error::{OpsError, io};
use crate::project::Project;

/// Most files of all checks together: beyond that somebody named the wrong folder.
const MAX_FILES: usize = 10_000;

/// Most bytes of them: they are laid out anew for every check.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Never a part of a release.
const LEFT_OUT: [&str; 2] = [".git", "__pycache__"];

impl Plumb<'_> {
    /// Keeps the checks of a project with their files; `None` if it has none.
    pub(crate) fn keep_checks(&self, project: &Project) -> Result<Option<Digest>, OpsError> {
        let checks = &project.definition.checks;
        if checks.is_empty() {
            return Ok(None);
        }
        let mut files = Files { plumb: self, folder: &project.folder, found: BTreeMap::new(), bytes: 0 };
        for (name, check) in checks {
            if let Probe::Run(run) = &check.probe {
                files.of_program(name, run)?;
            }
        }
        let checks = Checks { format: Checks::FORMAT, checks: checks.clone(), files: files.found };
        Ok(Some(self.store.put_bytes(&checks.to_bytes())?))
    }
}

struct Files<'f, 'p> {
    plumb: &'f Plumb<'p>,
    folder: &'f Path,
    found: BTreeMap<CheckPath, CheckFile>,
    bytes: u64,
}

impl Files<'_, '_> {
    /// Words of the command that name something beside the definition, and what `files` names.
    fn of_program(&mut self, check: &CheckName, run: &RunProbe) -> Result<(), OpsError> {
        let words = run.argv().unwrap_or_default();
        for (number, word) in words.iter().enumerate() {
            // A word without a slash is a program of the host, an option, a value.
            let Some(path) = beside(word) else { continue };
            if self.folder.join(path.as_str()).exists() {
                self.add(check, path)?;
            } else if number == 0 {
                return Err(missing(check, self.folder.join(path.as_str())));
            }
        }
        for name in &run.files {
            let path = name.parse::<CheckPath>().map_err(|_| missing(check, self.folder.join(name)))?;
            self.add(check, path)?;
        }
        Ok(())
    }

    fn add(&mut self, check: &CheckName, path: CheckPath) -> Result<(), OpsError> {
        let mut left = vec![path];
        while let Some(path) = left.pop() {
            let place = self.folder.join(path.as_str());
            let metadata = match fs::symlink_metadata(&place) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(missing(check, place));
                }
                other => other.map_err(io("read", &place))?,
            };
            if metadata.is_dir() {
                for entry in fs::read_dir(&place).map_err(io("read", &place))? {
                    let entry = entry.map_err(io("read", &place))?;
                    let name = entry.file_name();
                    let name = name.to_str().ok_or_else(|| OpsError::NotUtf8 { path: entry.path() })?;
                    if !LEFT_OUT.contains(&name) {
                        let below = format!("{path}/{name}").parse();
                        left.push(below.map_err(|_| OpsError::NotUtf8 { path: entry.path() })?);
                    }
                }
            } else if metadata.is_file() {
                self.keep(path, &place, &metadata)?;
            } else {
                return Err(OpsError::NotAFile { path: place });
            }
        }
        Ok(())
    }

    fn keep(&mut self, path: CheckPath, place: &Path, metadata: &fs::Metadata) -> Result<(), OpsError> {
        if self.found.contains_key(&path) {
            return Ok(());
        }
        self.bytes += metadata.len();
        if self.found.len() >= MAX_FILES || self.bytes > MAX_BYTES {
            let what = format!("{MAX_FILES} files or {} MiB", MAX_BYTES >> 20);
            return Err(OpsError::TooMuchForChecks { what });
        }
        let mut file = fs::File::open(place).map_err(io("read", place))?;
        let (digest, size) = self.plumb.store.put_reader(&mut file)?;
        let executable = metadata.permissions().mode() & 0o100 != 0;
        self.found.insert(path, CheckFile { digest, size, executable });
        Ok(())
    }
}

/// `checks/order.py` and `./order.py`, in the form of a path of a release.
fn beside(word: &str) -> Option<CheckPath> {
    if !word.contains('/') || word.starts_with('/') {
        return None;
    }
    let parts: Vec<&str> = word.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    parts.join("/").parse().ok()
}

fn missing(check: &CheckName, path: PathBuf) -> OpsError {
    OpsError::NoCheckFile { check: check.clone(), path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_are_files_of_the_user() {
        for (word, expected) in [
            ("checks/order.py", Some("checks/order.py")),
            ("./order.py", Some("order.py")),
            ("checks//a/", Some("checks/a")),
            ("python3", None),
            ("--file=a", None),
            ("/bin/sh", None),
            ("../other/x", None),
            ("./", None),
        ] {
            assert_eq!(beside(word).as_ref().map(CheckPath::as_str), expected, "{word}");
        }
    }
}
