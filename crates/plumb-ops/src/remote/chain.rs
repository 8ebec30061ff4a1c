//! Which bundles: a decision over an index and what is here already.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Bundle, Index};

/// Longest chain of bundles from nothing to a release. Each link is a request and an application more for whoever has
/// nothing yet, and one more that has to be good; a new full bundle every eight releases costs the remote little.
const LINKS: usize = 8;

/// How many times the bytes of a full bundle a chain may have before a new full one is sent.
const BYTES_FACTOR: u64 = 2;

/// One step of a chain: the bundle, and the release whose objects it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link<'a> {
    pub(crate) to: u64,
    pub(crate) bundle: &'a Bundle,
}

/// The chain of the fewest bytes from nothing, or from one of the releases that are `here`, to `target`. `None` if the
/// remote has none.
pub(crate) fn cheapest<'a>(index: &'a Index, here: &BTreeSet<u64>, target: u64) -> Option<Vec<Link<'a>>> {
    // Cost and last link of each release that can be reached. Every round finds chains of one more link.
    let mut reached: BTreeMap<u64, (u64, Option<Link<'a>>)> =
        here.iter().map(|number| (*number, (0, None))).collect();
    for _ in 0..=index.releases.len() {
        let mut changed = false;
        for (to, entry) in &index.releases {
            for bundle in &entry.bundles {
                let before = match bundle.base {
                    None => Some(0),
                    Some(base) => reached.get(&base).map(|(cost, _)| *cost),
                };
                let Some(cost) = before.map(|before| before.saturating_add(bundle.delta.size)) else {
                    continue;
                };
                if reached.get(to).is_none_or(|(known, _)| cost < *known) {
                    reached.insert(*to, (cost, Some(Link { to: *to, bundle })));
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    let mut chain = Vec::new();
    let mut at = Some(target);
    while let Some(number) = at {
        let (_, link) = reached.get(&number)?;
        let Some(link) = link else { break };
        // A hostile index cannot lead in a circle: every link costs something more, or it was not taken.
        if chain.len() > index.releases.len() {
            return None;
        }
        chain.push(*link);
        at = link.bundle.base;
    }
    chain.reverse();
    Some(chain)
}

/// Whether a full bundle has to be sent beside a delta of `bytes` against `base`, so that nobody's way gets too long.
pub(crate) fn needs_full(index: &Index, base: u64, bytes: u64) -> bool {
    let Some(chain) = cheapest(index, &BTreeSet::new(), base) else { return true };
    let full = chain.first().map_or(0, |link| link.bundle.delta.size);
    let whole: u64 = chain.iter().map(|link| link.bundle.delta.size).fold(bytes, u64::saturating_add);
    chain.len() + 1 > LINKS || whole > full.saturating_mul(BYTES_FACTOR)
}

#[cfg(test)]
mod tests {
    use plumb_model::Digest;
    use plumb_model::image::Part;

    use super::super::index::Entry;
    use super::*;

    /// Bundles as (base, bytes).
    type Ways<'a> = &'a [(Option<u64>, u64)];

    /// An index of releases.
    fn index(releases: &[(u64, Ways<'_>)]) -> Index {
        let part = |size| Part { digest: Digest::of(b""), size };
        let mut index = Index::new(&"shop".parse().unwrap());
        for (number, bundles) in releases {
            let bundle = |(base, size): &(Option<u64>, u64)| Bundle { base: *base, delta: part(*size) };
            let bundles = bundles.iter().map(bundle).collect();
            let entry = Entry { document: part(1), bytes: 1, bundles, supplies: None };
            index.releases.insert(*number, entry);
        }
        index
    }

    fn check(index: &Index, here: &[u64], target: u64, expected: Option<&[(Option<u64>, u64)]>) {
        let found = cheapest(index, &here.iter().copied().collect(), target);
        let found =
            found.map(|chain| chain.iter().map(|link| (link.bundle.base, link.to)).collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn the_fewest_bytes_count_and_not_the_fewest_links() {
        let index = index(&[
            (1, &[(None, 100)]),
            (2, &[(Some(1), 10)]),
            (3, &[(Some(2), 10), (None, 90)]),
            (4, &[(Some(3), 10)]),
        ]);
        check(&index, &[], 1, Some(&[(None, 1)]));
        check(&index, &[], 2, Some(&[(None, 1), (Some(1), 2)]));
        check(&index, &[], 4, Some(&[(None, 3), (Some(3), 4)]));
        check(&index, &[1], 4, Some(&[(Some(1), 2), (Some(2), 3), (Some(3), 4)]));
        check(&index, &[3], 4, Some(&[(Some(3), 4)]));
        check(&index, &[4], 4, Some(&[]));
        // An older release can be had from a newer one only by its own bundles.
        check(&index, &[4], 2, Some(&[(None, 1), (Some(1), 2)]));
        check(&index, &[], 9, None);
    }

    #[test]
    fn a_hostile_index_leads_nowhere() {
        let circle = index(&[(1, &[(Some(2), 0)]), (2, &[(Some(1), 0)]), (3, &[(Some(9), 1)])]);
        check(&circle, &[], 1, None);
        check(&circle, &[], 3, None);
        check(&circle, &[2], 1, Some(&[(Some(2), 1)]));
        let huge = index(&[(1, &[(None, u64::MAX)]), (2, &[(Some(1), u64::MAX)])]);
        check(&huge, &[], 2, Some(&[(None, 1), (Some(1), 2)]));
    }

    #[test]
    fn chains_stay_short() {
        let deltas: Vec<[(Option<u64>, u64); 1]> =
            (1..LINKS as u64).map(|before| [(Some(before), 1)]).collect();
        let mut releases: Vec<(u64, Ways<'_>)> = vec![(1, &[(None, 1000)])];
        releases.extend((2..).zip(deltas.iter().map(|delta| delta.as_slice())));
        let index = index(&releases);
        assert!(!needs_full(&index, LINKS as u64 - 1, 1));
        assert!(needs_full(&index, LINKS as u64, 1), "nine links");
        assert!(needs_full(&index, 1, 1001), "more than two full bundles");
        assert!(needs_full(&index, 99, 1), "nobody can start from what is not there");
    }
}
