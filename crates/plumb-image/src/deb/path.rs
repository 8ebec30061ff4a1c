//! Paths of an archive: made absolute and normal, or refused.

use super::{DebError, Limits};

/// `./usr/bin/env` to `/usr/bin/env`; the root directory gives `None`.
pub(crate) fn normalize(raw: &[u8], member: &str, limits: &Limits) -> Result<Option<String>, DebError> {
    let shown = || String::from_utf8_lossy(raw).into_owned();
    let refuse = |reason| DebError::BadPath { member: member.to_owned(), path: shown(), reason };
    if raw.len() > limits.path_bytes {
        return Err(DebError::TooLarge {
            member: member.to_owned(),
            path: shown().chars().take(80).collect(),
            what: "path bytes",
            limit: limits.path_bytes as u64,
        });
    }
    let path = std::str::from_utf8(raw).map_err(|_| refuse("it is not UTF-8"))?;
    if path.is_empty() {
        return Err(refuse("it is empty"));
    }
    if path.starts_with('/') {
        return Err(refuse("it is absolute"));
    }
    // A line break would forge lines of the package list.
    if path.chars().any(char::is_control) {
        return Err(refuse("it has a control character"));
    }
    let mut normal = String::with_capacity(path.len() + 1);
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            return Err(refuse("it has a `..`"));
        }
        if part.len() > 255 {
            return Err(refuse("a part of it is longer than 255 bytes, which no file system takes"));
        }
        normal.push('/');
        normal.push_str(part);
    }
    Ok((!normal.is_empty()).then_some(normal))
}

/// The target of a symbolic link: kept as written, as long as a kernel would take it.
pub(crate) fn link_target(raw: &[u8], path: &str, member: &str, limits: &Limits) -> Result<String, DebError> {
    let refuse = |reason| DebError::BadPath { member: member.to_owned(), path: path.to_owned(), reason };
    if raw.is_empty() {
        return Err(refuse("it is a link to nothing"));
    }
    if raw.len() > limits.path_bytes {
        return Err(refuse("its target is longer than the limit"));
    }
    let target = std::str::from_utf8(raw).map_err(|_| refuse("its target is not UTF-8"))?;
    if target.chars().any(char::is_control) {
        return Err(refuse("its target has a control character"));
    }
    Ok(target.to_owned())
}
