//! `requirements.txt` as `pip-compile --generate-hashes` writes it.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::Digest;

use super::marker::Environment;
use super::version::PyVersion;
use super::{PythonError, normalize};

/// Most requirements of one file; the largest applications have some hundred.
const MAX_REQUIREMENTS: usize = 5_000;

/// One pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Normal name.
    pub project: String,
    /// Extras asked for, by normal names.
    pub extras: Vec<String>,
    /// Exact version.
    pub version: PyVersion,
    /// What a file of it may be.
    pub hashes: BTreeSet<Digest>,
}

/// The pins whose markers hold, by project.
///
/// # Errors
/// [`PythonError::Line`], [`PythonError::Marker`].
pub fn parse_requirements(text: &str, environment: &Environment) -> Result<Vec<Requirement>, PythonError> {
    let mut found: BTreeMap<String, Requirement> = BTreeMap::new();
    for (line, logical) in logical_lines(text) {
        let refuse = |reason: String| PythonError::Line { line, reason };
        let Some(requirement) = requirement(&logical, environment).map_err(|error| match error {
            Refused::Reason(reason) => refuse(reason),
            Refused::Other(error) => error,
        })?
        else {
            continue;
        };
        if found.len() >= MAX_REQUIREMENTS {
            return Err(refuse(format!("more than {MAX_REQUIREMENTS} requirements")));
        }
        if let Some(other) = found.get_mut(&requirement.project) {
            if other.version != requirement.version {
                return Err(refuse(format!("`{}` is pinned to two versions", requirement.project)));
            }
            other.extras.extend(requirement.extras);
            other.hashes.extend(requirement.hashes);
        } else {
            found.insert(requirement.project.clone(), requirement);
        }
    }
    Ok(found.into_values().collect())
}

/// Lines joined at `\`, without comments, with the number of their first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        // A comment starts at the line's start or after a space; it ends a continued line, as pip reads it.
        let bare = match line.trim_start().starts_with('#') {
            true => "",
            false => line.split(" #").next().unwrap_or(line),
        };
        let (part, goes_on) = match bare.trim_end().strip_suffix('\\') {
            Some(part) => (part, true),
            None => (bare, false),
        };
        match lines.last_mut().filter(|_| open) {
            Some((_, last)) => {
                last.push(' ');
                last.push_str(part.trim());
            }
            None => lines.push((index + 1, part.trim().to_owned())),
        }
        open = goes_on;
    }
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

enum Refused {
    Reason(String),
    Other(PythonError),
}

/// One logical line; `None` for options without effect here and for markers that do not hold.
fn requirement(line: &str, environment: &Environment) -> Result<Option<Requirement>, Refused> {
    let refuse = |reason: &str| Refused::Reason(reason.to_owned());
    if line.starts_with('-') {
        let option = line.split([' ', '=']).next().unwrap_or(line);
        return match option {
            // What they say is how it is done here in any case.
            "--require-hashes" | "--only-binary" | "--prefer-binary" => Ok(None),
            "-i" | "--index-url" | "--extra-index-url" | "-f" | "--find-links" => {
                Err(Refused::Reason(format!(
                    "`{option}` has no place here: the index is `pypi` in `[base]`; `pip-compile --no-emit-index-url --no-emit-find-links` leaves it out"
                )))
            }
            _ => {
                Err(Refused::Reason(format!("`{option}` is not taken; every requirement stands in one file")))
            }
        };
    }
    let (spec, hashes) = line.split_once(" --hash").unwrap_or((line, ""));
    let (spec, marker) = spec.split_once(';').map_or((spec, None), |(spec, marker)| (spec, Some(marker)));
    if let Some(marker) = marker
        && !environment.holds(marker.trim(), &[]).map_err(Refused::Other)?
    {
        return Ok(None);
    }
    if spec.contains('@') {
        return Err(refuse("a requirement by URL is not taken; take the wheel as `url` of its own"));
    }
    let (name, version) = spec.split_once("==").ok_or_else(|| refuse("it is not pinned with `==`"))?;
    let version = version.trim_start_matches('=').trim();
    let version =
        version.parse().map_err(|()| Refused::Reason(format!("`{version}` is not one exact version")))?;
    let (name, extras) = name.trim().split_once('[').unwrap_or((name.trim(), ""));
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    if !is_name(name.trim()) {
        return Err(refuse("it does not start with the name of a project"));
    }
    let extras = extras.trim_end_matches(']').split(',').map(str::trim).filter(|extra| !extra.is_empty());
    let extras = extras.map(normalize).collect();
    let hashes = read_hashes(hashes)?;
    Ok(Some(Requirement { project: normalize(name.trim()), extras, version, hashes }))
}

/// `=sha256:… --hash=sha256:…`.
fn read_hashes(text: &str) -> Result<BTreeSet<Digest>, Refused> {
    let mut hashes = BTreeSet::new();
    for word in text.split_whitespace() {
        let word = word.strip_prefix("--hash").unwrap_or(word).trim_start_matches('=');
        match word.parse::<Digest>() {
            Ok(digest) => drop(hashes.insert(digest)),
            // Hashes of other kinds only say the same again.
            Err(_) if ["sha384:", "sha512:"].iter().any(|kind| word.starts_with(kind)) || word.is_empty() => {
            }
            Err(_) => return Err(Refused::Reason(format!("`{word}` is not a hash"))),
        }
    }
    if hashes.is_empty() {
        return Err(Refused::Reason("it has no `--hash=sha256:…`".to_owned()));
    }
    Ok(hashes)
}
