//! Why nothing fits, for a person.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plumb_debian::{Alternatives, Relation, parse_relations};
use resolvo::conflict::{ConflictCause, ConflictEdge, ConflictGraph, ConflictNode};

use crate::closure::Root;
use crate::context::Context;
use crate::provider::{Provider, record};

/// Most lines of an explanation; beyond that nobody reads on.
const MAX_LINES: usize = 40;

/// Most suggestions for a name that is not known.
const MAX_SUGGESTIONS: usize = 3;

/// Why no set of packages fits: sentences, each indented below the one it follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    lines: Vec<String>,
}

impl Explanation {
    /// The sentences, without line ends. Those that follow from another are indented by two spaces more.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    fn new(mut lines: Vec<String>) -> Self {
        if lines.len() > MAX_LINES {
            let more = lines.len() - MAX_LINES;
            lines.truncate(MAX_LINES);
            lines.push(format!("… and {more} more reasons"));
        }
        Self { lines }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

/// What is wrong with roots that nothing answers; `None` if all have answers.
pub(crate) fn explain_roots(context: &Context<'_>, roots: &[Root]) -> Option<Explanation> {
    let mut lines = Vec::new();
    for root in roots.iter().filter(|root| root.group.candidates.is_empty()) {
        let asks = format!("{} asks for `{}`", root.asked_by, root.group.alternatives);
        // A root is asked for by name: leaving it out at the same time is a contradiction, not a saving.
        lines.push(if root.group.left_out {
            format!("{asks}, which is left out by `without`")
        } else {
            format!("{asks}, but {}", absence(context, &root.group.alternatives, true))
        });
    }
    if lines.is_empty() { None } else { Some(Explanation::new(lines)) }
}

/// Why nothing in the universe answers `alternatives`.
fn absence(context: &Context<'_>, alternatives: &Alternatives, suggest: bool) -> String {
    let reasons: Vec<String> =
        alternatives.0.iter().map(|relation| absence_of_one(context, relation, suggest)).collect();
    reasons.join(", and ")
}

fn absence_of_one(context: &Context<'_>, relation: &Relation, suggest: bool) -> String {
    let universe = context.universe;
    let name = relation.name.as_str();
    let mut there: Vec<String> = Vec::new();
    if let Some(number) = universe.number_of(name) {
        let records = universe.records_of(number);
        there
            .extend(records.map(|r| format!("{} ({})", universe.record(r).version, universe.source_name(r))));
    }
    if !there.is_empty() {
        return match relation.qualifier.as_deref() {
            Some(qualifier) if relation.version.is_none() => {
                format!("`{name}` {} does not answer for `:{qualifier}`", there.join(", "))
            }
            _ => format!("only `{name}` {} is there", there.join(", ")),
        };
    }
    let providers = universe.answers(&Relation { version: None, qualifier: None, ..relation.clone() });
    if !providers.is_empty() {
        let names: BTreeSet<_> = providers.iter().map(|&r| universe.record(r).name.to_string()).collect();
        let names: Vec<String> = names.into_iter().take(MAX_SUGGESTIONS).map(|n| format!("`{n}`")).collect();
        return format!("what provides `{name}` does so in no version that fits: {}", names.join(", "));
    }
    let sources = universe.source_names().join(", ");
    let mut text = format!("there is no package `{name}` in {sources}");
    let suggestions = if suggest { suggestions(context, name) } else { Vec::new() };
    if !suggestions.is_empty() {
        text += &format!("; did you mean {}?", suggestions.join(" or "));
    }
    text
}

/// Names close to one that is not known, in backticks, closest first.
fn suggestions(context: &Context<'_>, name: &str) -> Vec<String> {
    // One slip per three letters is a typing error, more is another word.
    let limit = (name.len() / 3).clamp(1, 3);
    let near = |candidate: &&str| candidate.len().abs_diff(name.len()) <= limit;
    let mut found: Vec<(usize, &str)> = context
        .universe
        .package_names()
        .filter(near)
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .collect();
    found.sort_unstable();
    found.into_iter().take(MAX_SUGGESTIONS).map(|(_, name)| format!("`{name}`")).collect()
}

/// Follows the solver's conflict from the roots down.
pub(crate) fn explain_conflict(
    provider: &Provider<'_, '_>,
    roots: &[&Root],
    graph: &ConflictGraph,
) -> Explanation {
    let mut story =
        Story { provider, graph, told: BTreeSet::new(), lines: Vec::new(), clashes: BTreeSet::new() };
    let edges = story.requirements(graph.root_node.index());
    for root in roots {
        let text = root.group.alternatives.to_string();
        if let Some(targets) = edges.get(&text) {
            story.lines.push(format!("{} asks for `{text}`", root.asked_by));
            story.tell_targets(targets, 1);
        }
    }
    let Story { mut lines, clashes, .. } = story;
    lines.truncate(MAX_LINES);
    lines.extend(clashes);
    Explanation::new(lines)
}

/// A walk over the conflict graph that writes down what it sees.
struct Story<'s, 'c, 'a> {
    provider: &'s Provider<'c, 'a>,
    graph: &'s ConflictGraph,
    /// The nodes that were told: each once.
    told: BTreeSet<usize>,
    lines: Vec<String>,
    /// Which packages exclude each other.
    clashes: BTreeSet<String>,
}

impl Story<'_, '_, '_> {
    /// The requirements of a node by their text, each with the nodes that would answer it.
    fn requirements(&self, node: usize) -> BTreeMap<String, Vec<usize>> {
        let mut requirements: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for edge in self.graph.graph.raw_edges().iter().filter(|edge| edge.source().index() == node) {
            if let ConflictEdge::Requires(requirement) = edge.weight {
                let targets = requirements.entry(self.provider.requirement_text(requirement)).or_default();
                targets.push(edge.target().index());
            }
        }
        for targets in requirements.values_mut() {
            // The order of candidates, not that of the graph, which is the solver's own affair.
            targets.sort_by_key(|&target| self.record(target));
            targets.dedup();
        }
        requirements
    }

    fn node(&self, node: usize) -> Option<ConflictNode> {
        self.graph.graph.node_weights().nth(node).copied()
    }

    fn record(&self, node: usize) -> Option<usize> {
        match self.node(node) {
            Some(ConflictNode::Solvable(solvable)) => Some(record(solvable)),
            _ => None,
        }
    }

    fn title(&self, record: usize) -> String {
        let package = self.provider.context.universe.record(record);
        format!("`{}` {}", package.name, package.version)
    }

    fn tell_targets(&mut self, targets: &[usize], depth: usize) {
        for &target in targets {
            // Deep chains end where nobody reads any more; the bound also bounds the recursion.
            if self.lines.len() < MAX_LINES && self.told.insert(target) {
                self.tell(target, depth);
            }
        }
    }

    fn tell(&mut self, node: usize, depth: usize) {
        let Some(record) = self.record(node) else { return };
        let title = self.title(record);
        let indent = "  ".repeat(depth);
        for (text, targets) in self.requirements(node) {
            if targets.iter().all(|&target| self.record(target).is_none()) {
                let absence = self.absence(&text);
                self.lines.push(format!("{indent}{title} needs `{text}`, but {absence}"));
            } else {
                self.lines.push(format!("{indent}{title} needs `{text}`"));
                self.tell_targets(&targets, depth + 1);
            }
        }
        self.tell_conflicts(node, &title, &indent);
    }

    fn tell_conflicts(&mut self, node: usize, title: &str, indent: &str) {
        let edges = self.graph.graph.raw_edges();
        for edge in edges.iter().filter(|edge| edge.source().index() == node) {
            let ConflictEdge::Conflict(cause) = edge.weight else { continue };
            let other = self.record(edge.target().index());
            match (cause, other) {
                (ConflictCause::Constrains(set), Some(other)) => {
                    let text = self.provider.set_text(set);
                    self.clashes.insert(format!("{title} excludes {} (`{text}`)", self.title(other)));
                }
                (ConflictCause::ForbidMultipleInstances, Some(other)) => {
                    let version = &self.provider.context.universe.record(other).version;
                    self.clashes.insert(format!("only one of {title} and {version} can be there"));
                }
                (ConflictCause::Excluded, _) => {
                    if let Some(ConflictNode::Excluded(reason)) = self.node(edge.target().index()) {
                        let reason = self.provider.reason(reason);
                        self.lines.push(format!("{indent}{title} cannot be used: {reason}"));
                    }
                }
                _ => {}
            }
        }
    }

    fn absence(&self, text: &str) -> String {
        match parse_relations(text).as_deref() {
            Ok([alternatives]) => absence(self.provider.context, alternatives, false),
            // The text was printed from one group, so it is one; saying less is still true.
            _ => "nothing answers it".to_owned(),
        }
    }
}
