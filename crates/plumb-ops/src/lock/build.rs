//! Packages that are only there to run maintainer scripts.

use std::collections::{BTreeMap, BTreeSet};

use plumb_debian::PackageName;
use plumb_fetch::SourceSnapshot;
use plumb_model::MachineName;
use plumb_model::lock::{LockInputs, LockedPackage};
use plumb_resolve::{Request, RootRequest, Universe};

use super::take;
use crate::error::OpsError;

/// Named first, so that the archive's question "`usrmerge`, or is it merged?" needs no program and no perl for it: `/usr`
/// of a stage is merged. Suites that do not ask have no such package.
const MERGED: &str = "usr-is-merged";

/// What scripts may count on without a word (Debian policy 3.8): every `Essential` package, with what these need. A
/// dependency that the machine leaves out is answered here, as dpkg configures no package without it.
pub(super) fn packages(
    inputs: &LockInputs,
    machine: &MachineName,
    (universe, origins): (&Universe, &[SourceSnapshot]),
    (request, of_machine): (&Request, &BTreeSet<PackageName>),
    chosen: &mut BTreeMap<PackageName, LockedPackage>,
) -> Result<BTreeSet<PackageName>, OpsError> {
    let essential = universe
        .essential()
        .map(str::to_owned)
        .chain(universe.knows(MERGED).then(|| MERGED.to_owned()))
        .map(|relation| RootRequest { relation, asked_by: format!("scripts of {machine}") });
    // The versions chosen for the machines hold, also those of this one.
    let fixed = chosen.values().map(|package| (package.name.clone(), package.version.clone()));
    let request = Request {
        roots: request.roots.iter().cloned().chain(essential).collect(),
        without: BTreeSet::new(),
        waive: Vec::new(),
        keep: request.keep.clone().into_iter().chain(fixed).collect(),
        update: request.update.clone(),
    };
    let resolution = plumb_resolve::resolve(universe, &request)
        .map_err(|error| OpsError::Unsolvable { machine: machine.clone(), explanation: error.to_string() })?;
    take(inputs, machine, &resolution, origins, chosen)?;
    let names = resolution.packages.iter().map(|package| package.record.name.clone());
    Ok(names.filter(|name| !of_machine.contains(name)).collect())
}
