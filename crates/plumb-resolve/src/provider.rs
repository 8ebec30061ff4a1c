//! The request in the solver's words.
//!
//! One solver name per real package, one solvable per record. Every dependency becomes a union of explicit candidate
//! lists, one list per name, in the order in which they are to be tried; alternatives, `Provides` and qualifiers are
//! already expanded in them. Every name that a `Conflicts` or `Breaks` touches becomes a constraint to the records of
//! that name that remain allowed.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Display;

use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider,
    HintDependenciesAvailable, Interner, KnownDependencies, NameId, Requirement, SolvableId, SolverCache,
    StringId, VersionSetId, VersionSetUnionId,
};

use crate::context::{Context, Exclusion, Group};

/// Rounds of propagation after which a request counts as too hard. The largest desktop sets take some thousands; only
/// an index made for that purpose takes more than this.
const MAX_ROUNDS: u64 = 5_000_000;

/// The records of one name that a requirement accepts or a constraint leaves.
struct RecordSet {
    name: NameId,
    /// Best first.
    records: Vec<SolvableId>,
    /// What the set stands for: the relation, or `Breaks: …`.
    text: String,
}

struct Union {
    text: String,
    sets: Vec<VersionSetId>,
}

/// Implements the solver's questions about a [`Context`].
pub(crate) struct Provider<'c, 'a> {
    pub context: &'c Context<'a>,
    sets: RefCell<Vec<RecordSet>>,
    unions: RefCell<Vec<Union>>,
    union_by_text: RefCell<BTreeMap<String, VersionSetUnionId>>,
    reasons: RefCell<Vec<String>>,
    rounds: Cell<u64>,
}

pub(crate) fn solvable(record: usize) -> SolvableId {
    SolvableId::from_raw(id(record))
}

pub(crate) fn record(solvable: SolvableId) -> usize {
    solvable.into_raw() as usize
}

/// Numbers of records, sets and unions stay below 2^32: an index holds at most a million packages.
fn id(index: usize) -> u32 {
    u32::try_from(index)
        .expect("fewer than 2^32 records: the index parser refuses more than a million packages")
}

impl<'c, 'a> Provider<'c, 'a> {
    pub fn new(context: &'c Context<'a>) -> Self {
        Self {
            context,
            sets: RefCell::default(),
            unions: RefCell::default(),
            union_by_text: RefCell::default(),
            reasons: RefCell::default(),
            rounds: Cell::new(0),
        }
    }

    /// The requirement that `group` be answered. The same text always gives the same requirement.
    pub fn requirement(&self, group: &Group) -> ConditionalRequirement {
        let text = group.alternatives.to_string();
        if let Some(&union) = self.union_by_text.borrow().get(&text) {
            return Requirement::Union(union).into();
        }
        let universe = self.context.universe;
        let same_name = |a: &usize, b: &usize| universe.name_number(*a) == universe.name_number(*b);
        let sets = group
            .candidates
            .chunk_by(same_name)
            .map(|records| self.add_set(universe.name_number(records[0]), records.to_vec(), text.clone()))
            .collect();
        let union = VersionSetUnionId(id(self.unions.borrow().len()));
        self.unions.borrow_mut().push(Union { text: text.clone(), sets });
        self.union_by_text.borrow_mut().insert(text, union);
        Requirement::Union(union).into()
    }

    /// The text of a requirement made by [`Self::requirement`].
    pub fn requirement_text(&self, requirement: Requirement) -> String {
        match requirement {
            Requirement::Single(set) => self.set_text(set),
            Requirement::Union(union) => self.unions.borrow()[union.0 as usize].text.clone(),
        }
    }

    pub fn set_text(&self, set: VersionSetId) -> String {
        self.sets.borrow()[set.0 as usize].text.clone()
    }

    pub fn reason(&self, reason: StringId) -> String {
        self.reasons.borrow()[reason.0 as usize].clone()
    }

    fn add_set(&self, name: u32, records: Vec<usize>, text: String) -> VersionSetId {
        let mut sets = self.sets.borrow_mut();
        let records = records.into_iter().map(solvable).collect();
        sets.push(RecordSet { name: NameId::from_raw(name), records, text });
        VersionSetId(id(sets.len() - 1))
    }

    /// One constraint per name: the records of the name that are not excluded.
    fn constraints(&self, exclusion: &Exclusion) -> Vec<VersionSetId> {
        let universe = self.context.universe;
        let mut names: Vec<u32> =
            exclusion.records.iter().map(|&record| universe.name_number(record)).collect();
        names.sort_unstable();
        names.dedup();
        let allowed =
            |name| universe.records_of(name).filter(|record| !exclusion.records.contains(record)).collect();
        names.into_iter().map(|name| self.add_set(name, allowed(name), exclusion.text.clone())).collect()
    }
}

impl Interner for Provider<'_, '_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        let package = self.context.universe.record(record(solvable));
        format!("{} {}", package.name, package.version)
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        let first = self.context.universe.records_of(name.into_raw()).start;
        &self.context.universe.record(first).name
    }

    fn display_version_set(&self, set: VersionSetId) -> impl Display + '_ {
        self.set_text(set)
    }

    fn display_string(&self, string: StringId) -> impl Display + '_ {
        self.reason(string)
    }

    fn version_set_name(&self, set: VersionSetId) -> NameId {
        self.sets.borrow()[set.0 as usize].name
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        NameId::from_raw(self.context.universe.name_number(record(solvable)))
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.unions.borrow()[union.0 as usize].sets.clone().into_iter()
    }

    fn resolve_condition(&self, _condition: ConditionId) -> Condition {
        unreachable!("no requirement of `Provider` carries a condition")
    }
}

impl DependencyProvider for Provider<'_, '_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let sets = self.sets.borrow();
        let accepted = &sets[set.0 as usize].records;
        candidates.iter().copied().filter(|candidate| accepted.contains(candidate) != inverse).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let records = self.context.universe.records_of(name.into_raw());
        let allowed = records.filter(|&record| !self.context.is_left_out(record));
        Some(Candidates {
            candidates: allowed.map(solvable).collect(),
            favored: self.context.favored.get(&name.into_raw()).copied().map(solvable),
            hint_dependencies_available: HintDependenciesAvailable::None,
            ..Candidates::default()
        })
    }

    async fn sort_candidates(&self, _solver: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        // Records are numbered by name and newest version first.
        solvables.sort_by_key(|&solvable| record(solvable));
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        match self.context.relations(record(solvable)).as_ref() {
            Ok(relations) => {
                let needed = relations.groups.iter().filter(|group| !group.is_waived());
                Dependencies::Known(KnownDependencies {
                    requirements: needed.map(|group| self.requirement(group)).collect(),
                    constrains: relations.exclusions.iter().flat_map(|e| self.constraints(e)).collect(),
                })
            }
            Err(error) => {
                let mut reasons = self.reasons.borrow_mut();
                reasons.push(format!("its relations cannot be read: {error}"));
                Dependencies::Unknown(StringId(id(reasons.len() - 1)))
            }
        }
    }

    fn should_cancel_with_value(&self) -> Option<Box<dyn Any>> {
        self.rounds.set(self.rounds.get() + 1);
        if self.rounds.get() > MAX_ROUNDS { Some(Box::new(MAX_ROUNDS)) } else { None }
    }
}
