//! Random small registries: every combination of versions is tried and judged by the independent checker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use plumb_debian::{PackageName, PackageRecord};
use proptest::prelude::*;

use super::{packages, request, universe};
use crate::{Request, ResolveError, RootRequest, Universe, Update, Violation, Waived, check, resolve};

const NAMES: [&str; 6] = ["aa", "bb", "cc", "dd", "ee", "ff"];

/// A relation to a real or a virtual name.
fn relation() -> impl Strategy<Value = String> {
    let name = prop_oneof![8 => prop::sample::select(&NAMES[..]), 2 => Just("virt"), 1 => Just("gone")];
    let constraint = prop::sample::select(&["", "", "", " (>= 2)", " (<< 2)", " (= 1)"][..]);
    (name, constraint).prop_map(|(name, constraint)| format!("{name}{constraint}"))
}

fn group() -> impl Strategy<Value = String> {
    prop::collection::vec(relation(), 1..3).prop_map(|relations| relations.join(" | "))
}

fn package() -> impl Strategy<Value = String> {
    let field = |name: &'static str, value: BoxedStrategy<String>, max| {
        prop::collection::vec(value, 0..max).prop_map(move |list| {
            if list.is_empty() { String::new() } else { format!("; {name}: {}", list.join(", ")) }
        })
    };
    let provided = prop::sample::select(&["virt", "virt (= 2)", "virt (= 1)", "aa", "bb (= 2)"][..]);
    (
        field("Depends", group().boxed(), 4),
        field("Pre-Depends", group().boxed(), 2),
        field("Conflicts", relation().boxed(), 2),
        field("Breaks", relation().boxed(), 2),
        field("Provides", provided.prop_map(str::to_owned).boxed(), 2),
    )
        .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].concat())
}

/// Registries of up to six names in up to two versions, as text.
fn registry() -> impl Strategy<Value = String> {
    let versions = prop::collection::vec(package(), 0..3);
    prop::collection::vec(versions, NAMES.len()).prop_map(|names| {
        let mut text = String::new();
        for (name, versions) in NAMES.iter().zip(names) {
            for (i, fields) in versions.iter().enumerate() {
                writeln!(text, "{name} {}{fields}", i + 1).expect("write to a string");
            }
        }
        text
    })
}

/// Every set of at most one version per name that holds together, reachability aside.
fn solutions<'a>(records: &'a [PackageRecord], roots: &[RootRequest]) -> Vec<Vec<&'a PackageRecord>> {
    let mut by_name: BTreeMap<&PackageName, Vec<&PackageRecord>> = BTreeMap::new();
    for record in records {
        by_name.entry(&record.name).or_default().push(record);
    }
    let mut sets: Vec<Vec<&PackageRecord>> = vec![Vec::new()];
    for versions in by_name.values() {
        let with = sets.iter().flat_map(|set| versions.iter().map(|v| [&set[..], &[*v]].concat()));
        let more: Vec<_> = with.collect();
        sets.extend(more);
    }
    let holds = |set: &Vec<&PackageRecord>| {
        let violations = check(set, roots, &BTreeSet::new(), &[]);
        violations.iter().all(|violation| matches!(violation, Violation::Unreachable(_)))
    };
    sets.into_iter().filter(holds).collect()
}

fn solve(universe: &Universe, request: &Request) -> Option<BTreeMap<PackageName, plumb_debian::Version>> {
    match resolve(universe, request) {
        Ok(resolution) => {
            let records: Vec<_> = resolution.packages.iter().map(|chosen| chosen.record).collect();
            let violations = check(&records, &request.roots, &request.without, &resolution.waived);
            assert_eq!(violations, [], "{records:#?}");
            assert!(resolution.packages.iter().all(|chosen| !chosen.required_by.is_empty()));
            Some(records.into_iter().map(|record| (record.name.clone(), record.version.clone())).collect())
        }
        Err(ResolveError::Unsolvable(explanation)) => {
            assert!(!explanation.lines().is_empty());
            assert!(
                explanation.lines().iter().any(|line| line.starts_with("shop/web asks for")),
                "{explanation}"
            );
            None
        }
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn solvable_exactly_when_some_combination_is(text in registry(), one in group(), two in group()) {
        let records = packages(&text);
        let universe = universe(&text);
        let request = request(&format!("{one}, {two}"));
        let solutions = solutions(&records, &request.roots);
        let ours = solve(&universe, &request);
        prop_assert_eq!(ours.is_some(), !solutions.is_empty());
        prop_assert_eq!(&solve(&universe, &request), &ours);
    }

    #[test]
    fn a_single_root_gets_its_newest_version_that_can_be(text in registry()) {
        let records = packages(&text);
        let universe = universe(&text);
        let request = request("cc");
        // Who provides `cc` does not matter here: nobody does.
        let newest = solutions(&records, &request.roots)
            .iter()
            .filter_map(|set| set.iter().find(|record| record.name.as_str() == "cc"))
            .map(|record| record.version.clone())
            .max();
        let ours = solve(&universe, &request).and_then(|set| set.get("cc").cloned());
        prop_assert_eq!(ours, newest);
    }

    #[test]
    fn a_lock_that_holds_does_not_change(text in registry(), one in group(), two in group()) {
        let universe = universe(&text);
        let mut request = request(&format!("{one}, {two}"));
        if let Some(first) = solve(&universe, &request) {
            request.keep = first.clone();
            prop_assert_eq!(solve(&universe, &request), Some(first.clone()));
            request.update = Update::All;
            prop_assert_eq!(solve(&universe, &request), Some(first));
        }
    }

    #[test]
    fn any_previous_lock_leaves_it_solvable(
        text in registry(), one in group(), two in group(), keep in prop::collection::vec(0u8..4, NAMES.len()),
    ) {
        let universe = universe(&text);
        let fresh = request(&format!("{one}, {two}"));
        let keep = NAMES.iter().zip(keep).filter(|&(_, version)| version > 0).map(|(name, version)| {
            (name.parse().expect("a name"), version.to_string().parse().expect("a version"))
        });
        let kept = Request { keep: keep.collect(), ..fresh.clone() };
        prop_assert_eq!(solve(&universe, &kept).is_some(), solve(&universe, &fresh).is_some());
    }

    #[test]
    fn what_is_left_out_is_never_chosen(text in registry(), one in group(), left_out in 0usize..6) {
        let universe = universe(&text);
        let mut request = request(&one);
        request.without.insert(NAMES[left_out].parse().expect("a name"));
        if let Ok(resolution) = resolve(&universe, &request) {
            let chosen: BTreeSet<_> = resolution.packages.iter().map(|c| c.record.name.clone()).collect();
            prop_assert!(chosen.is_disjoint(&request.without));
            for Waived { relation, .. } in &resolution.waived {
                // Every package that could answer it is left out.
                let group: plumb_debian::Alternatives = relation.parse().expect("a relation");
                for relation in &group.0 {
                    let answers = universe.answers(relation);
                    let only_left_out = answers.iter().all(|&r| request.without.contains(&universe.record(r).name));
                    prop_assert!(only_left_out || request.without.contains(&relation.name));
                }
            }
        }
    }
}
