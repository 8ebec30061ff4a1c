//! From a request to a resolution.

use std::collections::{BTreeMap, BTreeSet};

use plumb_debian::{Alternatives, RelationError};
use resolvo::{ConditionalRequirement, Problem, Solver, UnsolvableOrCancelled};
use thiserror::Error;

use crate::closure::{Closure, Root, close};
use crate::context::Context;
use crate::explain::{Explanation, explain_conflict, explain_roots};
use crate::provider::{Provider, record};
use crate::request::{Chosen, Note, Request, Resolution, Update};
use crate::universe::Universe;

/// Most roots for which the smallest contradictory part is looked for; each costs one more run of the solver.
const MAX_MINIMIZED_ROOTS: usize = 64;

/// Why a request has no resolution.
#[derive(Debug, Error)]
pub enum ResolveError {
    /// A root is not a relation.
    #[error("`{asked_by}` asks for `{relation}`, which is not a relation such as `name (>= 1.0)`")]
    Root {
        /// Who asks.
        asked_by: String,
        /// What for.
        relation: String,
        /// What is wrong with it.
        #[source]
        source: RelationError,
    },
    /// No set of packages fits.
    #[error("{0}")]
    Unsolvable(Explanation),
    /// The solver gave up.
    #[error(
        "no set of packages was found for what is asked, and none was ruled out, within the solver's limit"
    )]
    TooHard,
    /// The solver's answer does not hold together: a bug of ours.
    #[error("the solver's answer does not hold together: this is a bug in Plumb")]
    Inconsistent,
}

/// Finds the exact packages for `request`.
///
/// The result is deterministic. It prefers, in this order: what [`Request::keep`] has, what a package names first
/// among alternatives, the newest version; of the providers of a virtual package the one with the higher priority,
/// then the one first by name.
///
/// # Errors
/// [`ResolveError`]; if no set fits, with an explanation for a person.
pub fn resolve<'u>(universe: &'u Universe, request: &Request) -> Result<Resolution<'u>, ResolveError> {
    let context = Context::new(universe, request);
    let roots = read_roots(&context, request)?;
    if let Some(explanation) = explain_roots(&context, &roots) {
        return Err(ResolveError::Unsolvable(explanation));
    }
    let kept: BTreeSet<usize> =
        context.favored.values().copied().filter(|&r| !context.is_left_out(r)).collect();
    let closure = match close(&context, &roots, &kept) {
        Some(closure) => closure,
        None => {
            let all: Vec<&Root> = roots.iter().collect();
            let members = match run(&context, &all)? {
                Ok(members) => members,
                Err(_) => return Err(ResolveError::Unsolvable(explain(&context, &roots)?)),
            };
            close(&context, &roots, &members).ok_or(ResolveError::Inconsistent)?
        }
    };
    Ok(resolution(universe, request, closure))
}

fn read_roots(context: &Context<'_>, request: &Request) -> Result<Vec<Root>, ResolveError> {
    let sorted: BTreeSet<_> = request.roots.iter().collect();
    let mut roots = Vec::with_capacity(sorted.len());
    for root in sorted {
        let alternatives: Alternatives = root.relation.trim_ascii().parse().map_err(|source| {
            ResolveError::Root { asked_by: root.asked_by.clone(), relation: root.relation.clone(), source }
        })?;
        let group = context.group(&alternatives);
        roots.extend(group.map(|group| Root { group, asked_by: root.asked_by.clone() }));
    }
    Ok(roots)
}

/// One run of the solver: the records chosen, or an explanation why there are none.
fn run(context: &Context<'_>, roots: &[&Root]) -> Result<Result<BTreeSet<usize>, Explanation>, ResolveError> {
    let provider = Provider::new(context);
    let requirements: Vec<ConditionalRequirement> = roots
        .iter()
        .filter(|root| !root.group.is_waived())
        .map(|root| provider.requirement(&root.group))
        .collect();
    let mut solver = Solver::new(provider);
    match solver.solve(Problem::new().requirements(requirements)) {
        Ok(solvables) => Ok(Ok(solvables.into_iter().map(record).collect())),
        Err(UnsolvableOrCancelled::Cancelled(_)) => Err(ResolveError::TooHard),
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            let graph = conflict.graph(&solver);
            Ok(Err(explain_conflict(solver.provider(), roots, &graph)))
        }
    }
}

/// Explains with as few roots as still contradict each other.
fn explain(context: &Context<'_>, roots: &[Root]) -> Result<Explanation, ResolveError> {
    let mut needed: Vec<&Root> = roots.iter().collect();
    let mut at = 0;
    while needed.len() <= MAX_MINIMIZED_ROOTS && needed.len() > 1 && at < needed.len() {
        let mut fewer = needed.clone();
        fewer.remove(at);
        if run(context, &fewer)?.is_err() {
            needed = fewer;
        } else {
            at += 1;
        }
    }
    match run(context, &needed)? {
        Err(explanation) => Ok(explanation),
        Ok(_) => Err(ResolveError::Inconsistent),
    }
}

fn resolution<'u>(universe: &'u Universe, request: &Request, closure: Closure) -> Resolution<'u> {
    // Records are numbered by name, so the order of their numbers is the order of their names.
    let packages: Vec<Chosen<'u>> = closure
        .required_by
        .into_iter()
        .map(|(record, required_by)| Chosen {
            record: universe.record(record),
            source: universe.source_number(record),
            required_by: required_by.into_iter().collect(),
        })
        .collect();
    let notes = notes(universe, request, &packages);
    Resolution { packages, waived: closure.waived.into_iter().collect(), notes }
}

fn notes(universe: &Universe, request: &Request, packages: &[Chosen<'_>]) -> Vec<Note> {
    let chosen: BTreeMap<_, _> = packages.iter().map(|c| (&c.record.name, &c.record.version)).collect();
    let mut notes = Vec::new();
    for (name, locked) in &request.keep {
        let asked = match &request.update {
            Update::None => false,
            Update::All => true,
            Update::Packages(names) => names.contains(name),
        };
        let Some(&version) = chosen.get(name) else { continue };
        if asked || version == locked {
            continue;
        }
        let (name, locked, chosen) = (name.clone(), locked.clone(), version.clone());
        let available = universe.versions(name.as_str()).iter().any(|record| record.version == locked);
        notes.push(if available {
            Note::Moved { name, locked, chosen }
        } else {
            Note::Gone { name, locked, chosen }
        });
    }
    notes
}
