//! Wheels (PEP 427) to the files that pip would install into a virtual environment.
//!
//! ```text
//!  NAME-VERSION.dist-info/…      ─► lib/python3.N/site-packages, with INSTALLER and RECORD written anew
//!  NAME-VERSION.data/scripts/x   ─► bin/x, `#!python` replaced by the environment's own
//!  NAME-VERSION.data/data/share/ ─► share/
//!  everything else               ─► lib/python3.N/site-packages
//!  entry_points.txt              ─► bin/NAME for each console script
//! ```

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;

use super::marker::Environment;
use super::{PythonError, normalize};

/// One file of a wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WheelFile {
    /// Its contents.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// Permission bits as in the archive.
    pub mode: u32,
}

/// A script that a wheel declares (entry points specification).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPoint {
    /// Name of the program.
    pub name: String,
    /// Module to import.
    pub module: String,
    /// Object in it to call: `main`, `cli.main`.
    pub object: String,
}

impl EntryPoint {
    /// What pip writes for it.
    #[must_use]
    pub fn script(&self, interpreter: &str) -> String {
        let EntryPoint { module, object, .. } = self;
        let first = object.split('.').next().unwrap_or(object);
        format!(
            "#!{interpreter}\n# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom {module} import {first}\nif __name__ == '__main__':\n    \
             sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n    sys.exit({object}())\n"
        )
    }
}

/// Why a wheel cannot be installed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WheelError {
    /// Not the one `.dist-info` folder of the wheel.
    #[error("`{wheel}` has no `.dist-info` folder of its name")]
    NoInfo {
        /// The wheel.
        wheel: String,
    },
    /// A wheel of another format.
    #[error("`{wheel}` has wheel format {version}; 1.x is known")]
    Version {
        /// The wheel.
        wheel: String,
        /// As found.
        version: String,
    },
    /// A folder of `.data` that is no scheme.
    #[error("`{path}` of `{wheel}` belongs to no place of an environment")]
    Scheme {
        /// The wheel.
        wheel: String,
        /// The path.
        path: String,
    },
    /// Two wheels with one file.
    #[error("`{path}` is in two wheels")]
    Twice {
        /// Path in the environment.
        path: String,
    },
}

/// Where the files of a wheel go: path in the wheel to path in the environment, both without `/` at the start.
///
/// # Errors
/// [`WheelError`].
pub fn install(
    wheel: &str,
    python: &str,
    paths: &BTreeSet<String>,
) -> Result<(String, BTreeMap<String, String>), WheelError> {
    let (info, data) = folders(wheel, paths)?;
    let site = format!("lib/python{python}/site-packages");
    let mut placed = BTreeMap::new();
    for path in paths {
        let place = match path.strip_prefix(&data) {
            None => format!("{site}/{path}"),
            Some(rest) => {
                let refuse = || WheelError::Scheme { wheel: wheel.to_owned(), path: path.clone() };
                let (scheme, rest) = rest.split_once('/').ok_or_else(refuse)?;
                match scheme {
                    "purelib" | "platlib" => format!("{site}/{rest}"),
                    "scripts" => format!("bin/{rest}"),
                    "data" => rest.to_owned(),
                    "headers" => {
                        let project = wheel.split('-').next().unwrap_or(wheel);
                        format!("include/site/python{python}/{project}/{rest}")
                    }
                    _ => return Err(refuse()),
                }
            }
        };
        placed.insert(path.clone(), place);
    }
    Ok((info, placed))
}

/// The wheel's own `.dist-info` folder, and its `.data/`.
fn folders(wheel: &str, paths: &BTreeSet<String>) -> Result<(String, String), WheelError> {
    let mut parts = wheel.split('-');
    let wanted = normalize(parts.next().unwrap_or_default());
    let is_own = |folder: &str| {
        folder
            .strip_suffix(".dist-info")
            .and_then(|stem| stem.rsplit_once('-'))
            .is_some_and(|(name, _)| normalize(name) == wanted)
    };
    let folder = paths
        .iter()
        .filter_map(|path| path.split_once('/'))
        .map(|(folder, _)| folder)
        .find(|folder| is_own(folder));
    let info = folder.ok_or_else(|| WheelError::NoInfo { wheel: wheel.to_owned() })?;
    let stem = info.trim_end_matches(".dist-info");
    Ok((info.to_owned(), format!("{stem}.data/")))
}

/// Console and window scripts of `entry_points.txt`.
#[must_use]
pub fn entry_points(text: &str) -> Vec<EntryPoint> {
    let mut found = Vec::new();
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim();
            continue;
        }
        if !matches!(section, "console_scripts" | "gui_scripts") || line.starts_with(['#', ';']) {
            continue;
        }
        let Some((name, target)) = line.split_once('=') else { continue };
        let target = target.split('[').next().unwrap_or(target);
        let Some((module, object)) = target.split_once(':') else { continue };
        let (name, module, object) = (name.trim(), module.trim(), object.trim());
        // They become code and a file name.
        let is_path = |text: &str| {
            !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
        };
        let is_file = !name.is_empty()
            && name != "."
            && name != ".."
            && !name.contains('/')
            && !name.chars().any(char::is_control);
        if is_file && is_path(module) && is_path(object) {
            found.push(EntryPoint {
                name: name.to_owned(),
                module: module.to_owned(),
                object: object.to_owned(),
            });
        }
    }
    found
}

/// Projects that `METADATA` requires (`Requires-Dist`) and that are not among `there`, with these extras asked for.
///
/// # Errors
/// [`PythonError::Marker`].
pub fn missing_requirements(
    metadata: &str,
    extras: &[String],
    there: &BTreeSet<String>,
    environment: &Environment,
) -> Result<Vec<String>, PythonError> {
    let mut missing = Vec::new();
    for line in metadata.lines().take_while(|line| !line.is_empty()) {
        let Some(value) = line.strip_prefix("Requires-Dist:") else { continue };
        let (spec, marker) =
            value.split_once(';').map_or((value, ""), |(spec, marker)| (spec, marker.trim()));
        if !marker.is_empty() && !environment.holds(marker, extras)? {
            continue;
        }
        let name =
            spec.trim().split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).next();
        let name = normalize(name.unwrap_or_default());
        if !there.contains(&name) && !missing.contains(&name) {
            missing.push(name);
        }
    }
    Ok(missing)
}
