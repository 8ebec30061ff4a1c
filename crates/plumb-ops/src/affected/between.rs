//! What is known to be open in images, package by package, so that two of them can be compared.

use std::collections::{BTreeMap, BTreeSet};

use plumb_search::Component;
use plumb_search::advisory::{Urgency, Verdict};

use super::index::Index;
use super::lookup;
use super::seen::{Packages, Subject};
use crate::Plumb;
use crate::error::OpsError;

/// Package, the kernel's among them, to the names of what is open in it.
pub(crate) type OpenByPackage = BTreeMap<String, BTreeSet<String>>;

impl Plumb<'_> {
    /// What feeds and changelogs know to be open in each of some images, and why these are not all packages of it; what is
    /// of no relevance is left out.
    pub(crate) fn open_by_package(
        &self,
        subjects: &[Subject<'_>],
    ) -> Result<Vec<(OpenByPackage, Option<String>)>, OpsError> {
        let read: Result<Vec<Packages>, OpsError> =
            subjects.iter().map(|subject| self.packages_of(subject)).collect();
        let read = read?;
        self.with_index(&|index| {
            let open = read
                .iter()
                .map(|(components, blind)| open_in(index, components).map(|open| (open, blind.clone())));
            open.collect::<rusqlite::Result<_>>().map_err(index.failed("read"))
        })
    }
}

fn open_in(index: &Index, components: &[Component]) -> rusqlite::Result<OpenByPackage> {
    let mut open = OpenByPackage::new();
    for component in components {
        let all = lookup::statements_of(&index.connection, component.ecosystem, &component.source)?;
        let about =
            all.iter().filter(|said| said.is_about(component) && said.urgency != Urgency::Unimportant);
        for said in about {
            if let Verdict::Affected { .. } = said.claim.judge(component.ecosystem, &component.source_version)
            {
                open.entry(component.name.clone()).or_default().insert(said.common_name().to_string());
            }
        }
    }
    Ok(open)
}
