//! Where everything went: from the copies of an object to how far each old address, or number of a type, moved.

use std::collections::BinaryHeap;

use crate::btf::Section;
use crate::model::{Copy, Pair, Place, address};

/// Places between two entries of the index into a [`Map`].
const PAGE: u64 = 256;

/// One entry for each piece of the old program that the copy touches.
pub(crate) fn add_moves(pair: &Pair, place: Place, length: u64, moves: &mut Vec<Move>) {
    for piece in &pair.old_pieces {
        let start = place.old.max(piece.offset);
        if start >= (place.old + length).min(piece.offset.saturating_add(piece.length)) {
            continue;
        }
        let old = (start - piece.offset).wrapping_add(piece.address);
        if let Some(new) = address(&pair.new_pieces, place.new + (start - place.old)) {
            let end = (place.old + length).min(piece.offset.saturating_add(piece.length));
            moves.push(Move { start, end, change: new.wrapping_sub(old) as u32 });
        }
    }
}

/// An old stretch, and how far its addresses moved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Move {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) change: u32,
}

/// Old bytes that more than one copy took are where the longest of these put them: short copies are often chance. What
/// no copy took moved with what lies before it.
pub(crate) fn longest(mut moves: Vec<Move>) -> Vec<(u64, u32)> {
    moves.sort_by_key(|one| (one.start, one.end));
    let mut found: Vec<(u64, u32)> = Vec::with_capacity(moves.len());
    let mut say = |start: u64, change: u32| match found.last_mut() {
        Some(last) if last.1 == change => {}
        Some(last) if last.0 == start => last.1 = change,
        _ => found.push((start, change)),
    };
    // Stretches that reach to where we are, the longest on top.
    let mut open: BinaryHeap<(u64, u64, u32)> = BinaryHeap::new();
    for one in moves {
        while let Some(&(_, end, _)) = open.peek()
            && end <= one.start
        {
            open.pop();
            // The next longest that reaches further takes over from here.
            while open.peek().is_some_and(|&(_, other, _)| other <= end) {
                open.pop();
            }
            if let Some(&(_, _, change)) = open.peek() {
                say(end, change);
            }
        }
        open.push((one.end - one.start, one.end, one.change));
        if let Some(&(_, _, change)) = open.peek() {
            say(one.start, change);
        }
    }
    found
}

/// The stretches of old types, by number, that the copies of the types hold, in order; `change` is not set.
pub(crate) fn renumbered<'a>(
    pair: &'a Pair,
    section: &'a Section,
    copies: &'a [Copy],
) -> impl Iterator<Item = (Move, &'a Copy)> + 'a {
    let start = pair.old.0 + pair.types.0;
    let first = copies.partition_point(|copy| copy.new + copy.length <= pair.new.0);
    copies[first..].iter().take_while(|copy| copy.new < pair.new.1).filter_map(move |copy| {
        let from = copy.old.saturating_sub(start);
        let to = (copy.old + copy.length).checked_sub(start)?;
        let number = |place: u64| section.types.partition_point(|&at| u64::from(at) < place) as u64 + 1;
        let (from, to) = (number(from), number(to));
        (from < to).then_some((Move { start: from, end: to, change: 0 }, copy))
    })
}

/// Where something went, for every place.
#[derive(Default)]
pub(crate) struct Map {
    /// (first place, change from there on), by place.
    entries: Vec<(u64, u32)>,
    /// For each page the entry that holds at its begin.
    pages: Vec<u32>,
}

impl Map {
    pub(crate) fn new(entries: Vec<(u64, u32)>, length: u64) -> Self {
        if entries.is_empty() {
            return Map::default();
        }
        let mut at = 0;
        let page = |page: u64| {
            while entries.get(at + 1).is_some_and(|&(start, _)| start <= page * PAGE) {
                at += 1;
            }
            at as u32
        };
        let pages = (0..=length / PAGE).map(page).collect();
        Map { entries, pages }
    }

    /// `None` behind the end, or if nothing is known.
    #[inline]
    pub(crate) fn at(&self, place: u64) -> Option<u32> {
        let mut at = *self.pages.get((place / PAGE) as usize)? as usize;
        while self.entries.get(at + 1).is_some_and(|&(start, _)| start <= place) {
            at += 1;
        }
        Some(self.entries.get(at)?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_copy_says_where_something_went() {
        let one = |start, end, change| Move { start, end, change };
        // Two short ones within a long one, and one that goes on behind it.
        let moves = vec![one(10, 100, 1), one(20, 30, 2), one(90, 150, 3), one(95, 99, 4), one(200, 210, 5)];
        assert_eq!(longest(moves), [(10, 1), (100, 3), (200, 5)]);
        let map = Map::new(vec![(10, 1), (100, 3), (2000, 5)], 4000);
        assert_eq!([10, 99, 100, 1999, 2000, 3999].map(|place| map.at(place)), [1, 1, 3, 3, 5, 5].map(Some));
        assert_eq!(map.at(10_000), None);
        assert_eq!(Map::default().at(0), None);
    }
}
