//! The rules of a closed set of packages, written a second time: slow, simple, and without the solver, the universe
//! or anything else of the resolver. It judges the resolver in tests and a lock at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plumb_debian::index::MultiArch;
use plumb_debian::{
    ARCHITECTURE, Alternatives, PackageName, PackageRecord, Relation, RelationError, parse_relations,
};

use crate::request::{Requirer, RootRequest, Waived};

/// One way in which a set of packages does not hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Nothing in the set answers a dependency.
    Unanswered {
        /// Who has it.
        requirer: Requirer,
        /// The dependency.
        relation: String,
    },
    /// One package excludes another.
    Conflict {
        /// The package that says so.
        package: PackageName,
        /// The one it excludes.
        other: PackageName,
        /// How it says so: `Breaks: other (<< 2)`.
        relation: String,
    },
    /// The set holds a package twice.
    Duplicate(PackageName),
    /// Nothing that is asked for needs the package.
    Unreachable(PackageName),
    /// The package is in the set and is to be left out.
    LeftOut(PackageName),
    /// The relations of a package or a root cannot be read.
    Unreadable {
        /// Whose they are.
        requirer: Requirer,
        /// What is wrong with them.
        error: RelationError,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered { requirer, relation } => {
                write!(f, "`{requirer}` needs `{relation}`, which nothing answers")
            }
            Self::Conflict { package, other, relation } => {
                write!(f, "`{package}` excludes `{other}` (`{relation}`)")
            }
            Self::Duplicate(name) => write!(f, "`{name}` is there twice"),
            Self::Unreachable(name) => write!(f, "nothing that is asked for needs `{name}`"),
            Self::LeftOut(name) => write!(f, "`{name}` is there and is to be left out"),
            Self::Unreadable { requirer, error } => {
                write!(f, "relations of `{requirer}` cannot be read: {error}")
            }
        }
    }
}

/// A record with its relations read.
struct Package<'a> {
    record: &'a PackageRecord,
    depends: Vec<Alternatives>,
    provides: Vec<Relation>,
    /// Each with the name of its field.
    excludes: Vec<(&'static str, Relation)>,
}

impl<'a> Package<'a> {
    fn read(record: &'a PackageRecord) -> Result<Self, RelationError> {
        let flat = |text: &str| -> Result<Vec<Relation>, RelationError> {
            Ok(parse_relations(text)?.into_iter().flat_map(|group| group.0).collect())
        };
        let mut depends = parse_relations(&record.pre_depends)?;
        depends.extend(parse_relations(&record.depends)?);
        let mut excludes: Vec<_> = flat(&record.conflicts)?.into_iter().map(|r| ("Conflicts", r)).collect();
        excludes.extend(flat(&record.breaks)?.into_iter().map(|r| ("Breaks", r)));
        Ok(Self { record, depends, provides: flat(&record.provides)?, excludes })
    }

    /// Whether the package is one that `relation` speaks of, by its own name or by a `Provides`.
    fn is_meant_by(&self, relation: &Relation) -> bool {
        if self.record.name == relation.name && relation.accepts(&self.record.version) {
            return true;
        }
        self.provides.iter().filter(|provided| provided.name == relation.name).any(|provided| {
            match (&relation.version, &provided.version) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(_), Some((_, version))) => relation.accepts(version),
            }
        })
    }

    fn answers(&self, relation: &Relation) -> bool {
        let provided_any = || {
            let any = |p: &Relation| p.name == relation.name && p.qualifier.as_deref() == Some("any");
            self.provides.iter().any(any)
        };
        let qualifier_fits = match relation.qualifier.as_deref() {
            None | Some("native") => true,
            Some("any") => self.record.multi_arch == MultiArch::Allowed || provided_any(),
            Some(architecture) => architecture == ARCHITECTURE,
        };
        qualifier_fits && self.is_meant_by(relation)
    }

    fn answers_one_of(&self, alternatives: &Alternatives) -> bool {
        alternatives.0.iter().any(|relation| relation.applies_to(ARCHITECTURE) && self.answers(relation))
    }
}

/// Looks for everything wrong with a set of packages: dependencies that nothing answers and that are not `waived`,
/// packages that exclude each other, duplicates, packages that `roots` do not need, packages that are in `without`.
///
/// # Returns
/// The violations in the order found; empty if the set holds together.
#[must_use]
pub fn check(
    records: &[&PackageRecord],
    roots: &[RootRequest],
    without: &BTreeSet<PackageName>,
    waived: &[Waived],
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut packages = Vec::with_capacity(records.len());
    let mut seen = BTreeSet::new();
    for record in records {
        if !seen.insert(&record.name) {
            violations.push(Violation::Duplicate(record.name.clone()));
        }
        if without.contains(&record.name) {
            violations.push(Violation::LeftOut(record.name.clone()));
        }
        match Package::read(record) {
            Ok(package) => packages.push(package),
            Err(error) => {
                let requirer = Requirer::Package(record.name.clone());
                violations.push(Violation::Unreadable { requirer, error });
            }
        }
    }
    let set = Set::new(&packages);
    set.check_conflicts(&mut violations);
    set.check_dependencies(roots, waived, &mut violations);
    violations
}

/// The packages by every name they have or provide.
struct Set<'p, 'a> {
    packages: &'p [Package<'a>],
    by_name: BTreeMap<&'p PackageName, Vec<usize>>,
}

impl<'p, 'a> Set<'p, 'a> {
    fn new(packages: &'p [Package<'a>]) -> Self {
        let mut by_name: BTreeMap<&PackageName, Vec<usize>> = BTreeMap::new();
        for (i, package) in packages.iter().enumerate() {
            let names: BTreeSet<_> =
                package.provides.iter().map(|p| &p.name).chain([&package.record.name]).collect();
            for name in names {
                by_name.entry(name).or_default().push(i);
            }
        }
        Self { packages, by_name }
    }

    fn named(&self, name: &PackageName) -> impl Iterator<Item = usize> + use<'_> {
        self.by_name.get(name).into_iter().flatten().copied()
    }

    fn check_conflicts(&self, violations: &mut Vec<Violation>) {
        for package in self.packages {
            for (field, relation) in package.excludes.iter().filter(|(_, r)| r.applies_to(ARCHITECTURE)) {
                let foreign = relation
                    .qualifier
                    .as_deref()
                    .is_some_and(|q| !matches!(q, "any" | "native" | ARCHITECTURE));
                if foreign {
                    continue;
                }
                for other in self.named(&relation.name).map(|i| &self.packages[i]) {
                    if other.record.name != package.record.name && other.is_meant_by(relation) {
                        violations.push(Violation::Conflict {
                            package: package.record.name.clone(),
                            other: other.record.name.clone(),
                            relation: format!("{field}: {relation}"),
                        });
                    }
                }
            }
        }
    }

    /// Walks from the roots along every answer.
    fn check_dependencies(&self, roots: &[RootRequest], waived: &[Waived], violations: &mut Vec<Violation>) {
        let mut reached = BTreeSet::new();
        let mut todo = Vec::new();
        let mut needs: Vec<(Requirer, Alternatives)> = Vec::new();
        for root in roots {
            let requirer = Requirer::Root(root.asked_by.clone());
            match root.relation.trim_ascii().parse() {
                Ok(alternatives) => needs.push((requirer, alternatives)),
                Err(error) => violations.push(Violation::Unreadable { requirer, error }),
            }
        }
        loop {
            for (requirer, alternatives) in needs.drain(..) {
                if !alternatives.0.iter().any(|relation| relation.applies_to(ARCHITECTURE)) {
                    continue;
                }
                let meant = alternatives.0.iter().flat_map(|relation| self.named(&relation.name));
                let mut answers: BTreeSet<usize> =
                    meant.filter(|&i| self.packages[i].answers_one_of(&alternatives)).collect();
                let relation = alternatives.to_string();
                if waived.iter().any(|w| w.requirer == requirer && w.relation == relation) {
                    // Leads nowhere, also where something that another package needs would answer it.
                    answers.clear();
                } else if answers.is_empty() {
                    violations.push(Violation::Unanswered { requirer, relation });
                }
                todo.extend(answers.into_iter().filter(|&i| reached.insert(i)));
            }
            let Some(next) = todo.pop() else { break };
            let package = &self.packages[next];
            let requirer = Requirer::Package(package.record.name.clone());
            needs.extend(package.depends.iter().map(|group| (requirer.clone(), group.clone())));
        }
        for (i, package) in self.packages.iter().enumerate() {
            if !reached.contains(&i) {
                violations.push(Violation::Unreachable(package.record.name.clone()));
            }
        }
    }
}
