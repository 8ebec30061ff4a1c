//! Which kernel: a metapackage names the newest, and a lock keeps the one it has.

use plumb_debian::{PackageName, PackageRecord, parse_relations};
use plumb_model::lock::Lock;
use plumb_resolve::Universe;

use super::Update;
use crate::error::OpsError;

/// A kernel metapackage leads to the kernel in one step; more than this is a circle.
const STEPS: usize = 4;

/// How packages that hold a kernel begin.
const PREFIX: &str = "linux-image-";

/// The package that holds the kernel, and the number of its source. Kept is the one of the previous lock where it is of
/// the flavour that is wanted and the archive still has it; `update` says what may be newer.
pub(super) fn choose<'u>(
    universe: &'u Universe,
    wanted: &PackageName,
    previous: Option<&Lock>,
    (update, is_security): (&Update, &dyn Fn(usize) -> bool),
) -> Result<(&'u PackageRecord, usize), OpsError> {
    let newest = newest(universe, wanted)?;
    let kept = previous.and_then(|lock| kept(universe, wanted, lock));
    let Some(kept) = kept else { return Ok(newest) };
    let is_newer = match update {
        Update::Keep => false,
        Update::All => true,
        Update::Packages(names) => {
            names.iter().any(|name| name == wanted.as_str() || *name == newest.0.name.as_str())
        }
        Update::Security => universe
            .newest_in(&newest.0.name, is_security)
            .is_some_and(|record| record.version == newest.0.version),
    };
    Ok(if is_newer { newest } else { kept })
}

/// The kernel of the previous lock.
fn kept<'u>(universe: &'u Universe, wanted: &PackageName, lock: &Lock) -> Option<(&'u PackageRecord, usize)> {
    let name = &lock.machines.values().next()?.kernel;
    let locked = lock.packages.iter().find(|package| package.name.as_str() == name)?;
    // `linux-image-cloud-amd64` leads to `linux-image-6.1.0-40-cloud-amd64`.
    let flavour = wanted.as_str().strip_prefix(PREFIX)?;
    let abi = name.strip_prefix(PREFIX)?.strip_suffix(flavour)?;
    let is_abi = abi.is_empty() || abi.ends_with('-') && abi.starts_with(|c: char| c.is_ascii_digit());
    let words = abi.trim_end_matches('-').split('-');
    // `6.1.0-40-`: more words are a part of another flavour, `cloud-` or `rt-`.
    let is_plain =
        words.clone().all(|word| word.starts_with(|c: char| c.is_ascii_digit()) || word.is_empty());
    if !is_abi || !is_plain {
        return None;
    }
    universe.candidates(&locked.name).into_iter().find(|(record, _)| record.version == locked.version)
}

/// Follows a kernel metapackage to the package that holds the kernel.
fn newest<'u>(universe: &'u Universe, wanted: &PackageName) -> Result<(&'u PackageRecord, usize), OpsError> {
    let missing = |name: &PackageName| OpsError::NoKernel { package: name.to_string() };
    let mut name = wanted.clone();
    for _ in 0..STEPS {
        let (record, source) = universe.newest(&name).ok_or_else(|| missing(&name))?;
        let depends = parse_relations(&record.depends).unwrap_or_default();
        let next = depends
            .iter()
            .flat_map(|alternatives| &alternatives.0)
            .map(|relation| &relation.name)
            .find(|name| name.as_str().starts_with(PREFIX));
        match next {
            Some(next) => name = next.clone(),
            None => return Ok((record, source)),
        }
    }
    Err(missing(wanted))
}
