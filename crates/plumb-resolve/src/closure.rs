//! What a set of records needs of itself: the part of it that the roots reach, as small as simple rules make it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::context::{Context, Group, Relations};
use crate::request::{Requirer, Waived};

/// A root request with the records that answer it.
pub(crate) struct Root {
    pub group: Group,
    pub asked_by: String,
}

/// The needed part of a set.
#[derive(Debug, Default)]
pub(crate) struct Closure {
    /// Who needs each record, and by which relation.
    pub required_by: BTreeMap<usize, BTreeSet<(Requirer, String)>>,
    pub waived: BTreeSet<Waived>,
}

/// A dependency of the closure: who has it, its text and the members of the set that answer it, best first.
struct Need {
    requirer: Requirer,
    relation: String,
    answers: Vec<usize>,
}

/// The part of `members` that `roots` need; `None` if `members` does not answer everything or excludes itself.
///
/// What only one member answers is taken first; of several answers one that is needed anyway is enough, otherwise the
/// best is taken. Done again until nothing falls away, so that the closure of a closure is that closure: a lock
/// that still holds does not change.
pub(crate) fn close(context: &Context<'_>, roots: &[Root], members: &BTreeSet<usize>) -> Option<Closure> {
    let mut members = members.clone();
    loop {
        let closure = close_once(context, roots, &members)?;
        if closure.required_by.len() == members.len() {
            return Some(closure);
        }
        members = closure.required_by.keys().copied().collect();
    }
}

fn close_once(context: &Context<'_>, roots: &[Root], members: &BTreeSet<usize>) -> Option<Closure> {
    let mut closure = Closure::default();
    let mut taken = BTreeSet::new();
    let mut fresh = Vec::new();
    let mut needs: Vec<Need> = Vec::new();
    for root in roots {
        let requirer = Requirer::Root(root.asked_by.clone());
        needs.extend(need(requirer, &root.group, members, &mut closure)?);
    }
    // Needs before `open` are settled as far as they can be without choosing.
    let mut open = 0;
    loop {
        for need in &needs[open..] {
            if let [only] = need.answers[..]
                && taken.insert(only)
            {
                fresh.push(only);
            }
        }
        open = needs.len();
        if let Some(record) = fresh.pop() {
            let relations = context.relations(record);
            let relations = readable(&relations)?;
            if relations.exclusions.iter().any(|e| e.records.iter().any(|other| members.contains(other))) {
                return None;
            }
            let requirer = Requirer::Package(context.universe.record(record).name.clone());
            for group in &relations.groups {
                needs.extend(need(requirer.clone(), group, members, &mut closure)?);
            }
            continue;
        }
        let choice = needs.iter().find(|need| !need.answers.iter().any(|answer| taken.contains(answer)));
        let Some(choice) = choice.and_then(|need| need.answers.first().copied()) else { break };
        taken.insert(choice);
        fresh.push(choice);
    }
    for need in needs {
        if let Some(&answer) = need.answers.iter().find(|answer| taken.contains(answer)) {
            closure.required_by.entry(answer).or_default().insert((need.requirer, need.relation));
        }
    }
    Some(closure)
}

fn readable(relations: &Rc<Result<Relations, plumb_debian::RelationError>>) -> Option<&Relations> {
    relations.as_ref().as_ref().ok()
}

/// The need that `group` is in `members`: `Some(None)` if it is waived, `None` if nothing answers it. The outer option
/// is failure, for `?`; the inner one extends a list.
fn need(
    requirer: Requirer,
    group: &Group,
    members: &BTreeSet<usize>,
    closure: &mut Closure,
) -> Option<Option<Need>> {
    let relation = group.alternatives.to_string();
    if group.is_waived() {
        closure.waived.insert(Waived { requirer, relation });
        return Some(None);
    }
    let answers: Vec<usize> = group.candidates.iter().copied().filter(|c| members.contains(c)).collect();
    if answers.is_empty() { None } else { Some(Some(Need { requirer, relation, answers })) }
}
