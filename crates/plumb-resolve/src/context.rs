//! A universe seen through a request: which records answer a dependency, in which order they are tried.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use plumb_debian::{ARCHITECTURE, Alternatives, RelationError, parse_relations};

use crate::request::{Request, Update};
use crate::universe::Universe;

/// A dependency with the records that answer it.
#[derive(Debug)]
pub(crate) struct Group {
    pub alternatives: Alternatives,
    /// Best first. All versions of one name that fit stand together, newest first.
    pub candidates: Vec<usize>,
    /// Whether a package that is left out would have answered it too.
    pub left_out: bool,
}

impl Group {
    /// Whether nothing need answer it: only packages that are left out could.
    pub fn is_waived(&self) -> bool {
        self.left_out && self.candidates.is_empty()
    }
}

/// The records that one `Conflicts` or `Breaks` excludes.
#[derive(Debug)]
pub(crate) struct Exclusion {
    /// As a person would write it: `Breaks: nginx (<< 1.5)`.
    pub text: String,
    pub records: Vec<usize>,
}

/// What the relations of one record mean.
#[derive(Debug)]
pub(crate) struct Relations {
    pub groups: Vec<Group>,
    pub exclusions: Vec<Exclusion>,
}

/// What a record's relations mean, or why they cannot be read.
type RelationsResult = Rc<Result<Relations, RelationError>>;

pub(crate) struct Context<'a> {
    pub universe: &'a Universe,
    pub request: &'a Request,
    /// The version of the previous lock by the number of its name, where it may stay.
    pub favored: BTreeMap<u32, usize>,
    /// The numbers of the names in the previous lock: choices among alternatives stay with them.
    familiar: BTreeSet<u32>,
    relations: RefCell<BTreeMap<usize, RelationsResult>>,
}

impl<'a> Context<'a> {
    pub fn new(universe: &'a Universe, request: &'a Request) -> Self {
        let mut favored = BTreeMap::new();
        let mut familiar = BTreeSet::new();
        for (name, version) in &request.keep {
            let Some(number) = universe.number_of(name.as_str()) else { continue };
            let version_stays = match &request.update {
                Update::All => continue,
                Update::None => true,
                Update::Packages(names) => !names.contains(name),
            };
            familiar.insert(number);
            let found =
                universe.records_of(number).find(|&record| universe.record(record).version == *version);
            if let (true, Some(record)) = (version_stays, found) {
                favored.insert(number, record);
            }
        }
        Self { universe, request, favored, familiar, relations: RefCell::default() }
    }

    /// Whether a record may be chosen at all.
    pub fn is_left_out(&self, record: usize) -> bool {
        self.request.without.contains(&self.universe.record(record).name)
    }

    /// The records that answer `alternatives`; `None` if no alternative is meant for this architecture.
    pub fn group(&self, alternatives: &Alternatives) -> Option<Group> {
        let mut group = Group { alternatives: alternatives.clone(), candidates: Vec::new(), left_out: false };
        let mut applies = false;
        for relation in alternatives.0.iter().filter(|relation| relation.applies_to(ARCHITECTURE)) {
            applies = true;
            if self.request.without.contains(&relation.name) {
                group.left_out = true;
                continue;
            }
            for record in self.universe.answers(relation) {
                if self.is_left_out(record) {
                    group.left_out = true;
                } else if !group.candidates.contains(&record) {
                    group.candidates.push(record);
                }
            }
        }
        self.order(&mut group.candidates);
        applies.then_some(group)
    }

    /// Names of the previous lock first, then as found; the versions of one name together, newest first.
    fn order(&self, candidates: &mut [usize]) {
        let mut place = BTreeMap::new();
        for &record in candidates.iter() {
            let next = place.len();
            place.entry(self.universe.name_number(record)).or_insert(next);
        }
        candidates.sort_by_key(|&record| {
            let number = self.universe.name_number(record);
            (!self.familiar.contains(&number), place[&number], record)
        });
    }

    /// What the relations of a record mean. Read once, when first asked for.
    pub fn relations(&self, record: usize) -> RelationsResult {
        if let Some(relations) = self.relations.borrow().get(&record) {
            return Rc::clone(relations);
        }
        let relations = Rc::new(self.read_relations(record));
        self.relations.borrow_mut().insert(record, Rc::clone(&relations));
        relations
    }

    fn read_relations(&self, record: usize) -> Result<Relations, RelationError> {
        let package = self.universe.record(record);
        let mut relations = Relations { groups: Vec::new(), exclusions: Vec::new() };
        for field in [&package.pre_depends, &package.depends] {
            for alternatives in parse_relations(field)? {
                let is_waived = alternatives.0.iter().any(|relation| {
                    self.request.waive.iter().any(|waiver| waiver.covers(&package.name, &relation.name))
                });
                if is_waived {
                    relations.groups.push(Group { alternatives, candidates: Vec::new(), left_out: true });
                } else {
                    relations.groups.extend(self.group(&alternatives));
                }
            }
        }
        for (field, text) in [("Conflicts", &package.conflicts), ("Breaks", &package.breaks)] {
            for relation in parse_relations(text)?.iter().flat_map(|alternatives| &alternatives.0) {
                if !relation.applies_to(ARCHITECTURE) {
                    continue;
                }
                // Policy 7.4: a package may conflict with a virtual package that it provides itself.
                let own_name = self.universe.name_number(record);
                let mut records = self.universe.excluded_by(relation);
                records.retain(|&other| self.universe.name_number(other) != own_name);
                if !records.is_empty() {
                    relations.exclusions.push(Exclusion { text: format!("{field}: {relation}"), records });
                }
            }
        }
        Ok(relations)
    }
}
