//! The type descriptions of a kernel and its modules (BTF): which of their words name a string and which a type.
//!
//! ```text
//!  header  magic 0xeb9f 2 | version 1 | flags 1 | length 4 | types at 4 | length 4 | strings at 4 | length 4
//!  type    name 4 | info 4: members 16, .. 8, kind 5 | size or type 4 | what the kind has
//! ```
//!
//! A type that is added gives all later ones another number, and a string all later ones another offset: most of the
//! words change, and each by the same as its neighbours. Source: kernel `Documentation/bpf/btf.rst`.

use crate::limit::TYPES_BYTES;

const MAGIC: [u8; 2] = [0x9f, 0xeb];
/// Bytes of the header that are read.
const HEADER: usize = 24;
/// Bytes of a type without what its kind has.
const TYPE: usize = 12;

/// What a word holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub(crate) enum Word {
    /// Something else: sizes, numbers of members, text.
    #[default]
    Other = 0,
    /// Where a name begins.
    Name = 1,
    /// The number of a type.
    Type = 2,
}

/// A section that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Section {
    /// What each word holds, up to the last type that could be read.
    pub(crate) words: Vec<Word>,
    /// Where each type begins; the first has number 1.
    pub(crate) types: Vec<u32>,
    /// Where the strings begin.
    pub(crate) strings: u32,
}

/// Reads a section; what is none is empty.
pub(crate) fn read(section: &[u8]) -> Section {
    let Some((start, end, strings)) = places(section) else { return Section::default() };
    let mut read = Section { words: vec![Word::Other; start / 4], types: Vec::new(), strings };
    let mut at = start;
    while at + TYPE <= end {
        let Some(info) = number(section, at + 4) else { break };
        let (third, (pattern, count)) = members(info >> 24 & 0x1f, info as usize & 0xffff);
        let next = at + TYPE + pattern.len() * 4 * count;
        // What claims to be larger than the section is not believed.
        if next > end {
            break;
        }
        read.types.push(at as u32);
        read.words.extend([Word::Name, Word::Other, third]);
        (0..count).for_each(|_| read.words.extend_from_slice(pattern));
        at = next;
    }
    read
}

/// Puts something in place of every name and number of a type that is equal for equal names and types, wherever they
/// lie: what the section says becomes comparable.
pub(crate) fn spell_out(bytes: &mut [u8]) {
    let section = read(bytes);
    let text = |at: u32| {
        let start = section.strings as usize + at as usize;
        bytes.get(start..).map_or(&[][..], |rest| rest.split(|&byte| byte == 0).next().unwrap_or_default())
    };
    let word = |at: usize| number(bytes, at).unwrap_or_default();
    let hash = |text: &[u8]| text.iter().fold(0x811c_9dc5, |hash, &byte| mix(hash, u32::from(byte)));
    // A type is known by its kind and name, and what it refers to by the same.
    let own: Vec<u32> =
        section.types.iter().map(|&at| mix(hash(text(word(at as usize))), word(at as usize + 4))).collect();
    let named =
        |number: u32| number.checked_sub(1).and_then(|place| own.get(place as usize)).copied().unwrap_or(0);
    let known: Vec<u32> = section
        .types
        .iter()
        .zip(&own)
        .map(|(&at, &own)| match section.words.get(at as usize / 4 + 2) {
            Some(Word::Type) => mix(own, named(word(at as usize + 8))),
            _ => own,
        })
        .collect();
    let spelled: Vec<(usize, u32)> = section
        .words
        .iter()
        .enumerate()
        .filter_map(|(place, kind)| {
            let value = word(place * 4);
            let known = || known.get((value as usize).wrapping_sub(1)).copied().unwrap_or(0);
            match kind {
                Word::Other => None,
                Word::Name => Some((place * 4, hash(text(value)))),
                Word::Type => Some((place * 4, known())),
            }
        })
        .collect();
    for (at, value) in spelled {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// One step of FNV-1a, over 32 bits at once.
fn mix(hash: u32, value: u32) -> u32 {
    (hash ^ value).wrapping_mul(0x0100_0193).rotate_left(5)
}

/// Where the types begin and end, and where the strings begin.
fn places(section: &[u8]) -> Option<(usize, usize, u32)> {
    if section.len() < HEADER || section[..2] != MAGIC || section.len() as u64 > TYPES_BYTES {
        return None;
    }
    let start = (number(section, 4)? as usize).checked_add(number(section, 8)? as usize)?;
    let end = start.checked_add(number(section, 12)? as usize)?;
    let strings = number(section, 4)?.checked_add(number(section, 16)?)?;
    (start.is_multiple_of(4) && end <= section.len()).then_some((start, end, strings))
}

/// What the third word of a type of this kind is, and the words of each of its members, with their number.
fn members(kind: u32, count: usize) -> (Word, (&'static [Word], usize)) {
    use Word::{Name, Other, Type};
    match kind {
        1 => (Other, (&[Other], 1)),
        3 => (Other, (&[Type, Type, Other], 1)),
        4 | 5 => (Other, (&[Name, Type, Other], count)),
        6 => (Other, (&[Name, Other], count)),
        13 => (Type, (&[Name, Type], count)),
        14 | 17 => (Type, (&[Other], 1)),
        15 => (Other, (&[Type, Other, Other], count)),
        19 => (Other, (&[Name, Other, Other], count)),
        2 | 8..=12 | 18 => (Type, (&[], 0)),
        _ => (Other, (&[], 0)),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_small_section() {
        let words_of = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        // A structure of two members, a pointer to it, and a string.
        let types = [1, 4 << 24 | 2, 8, 3, 2, 0, 5, 2, 32, 0, 2 << 24, 1];
        let length = types.len() as u32 * 4;
        let mut section = words_of(&[0x1_eb9f, 24, 0, length, length, 8]);
        section.extend(words_of(&types));
        section.extend_from_slice(b"\0ab\0cde\0");
        use Word::{Name as N, Other as O, Type as T};
        let read_section = read(&section);
        assert_eq!(read_section.words[6..], [N, O, O, N, T, O, N, T, O, N, O, T]);
        assert_eq!((read_section.types, read_section.strings), (vec![24, 60], 72));
        // What lies about its length is not believed.
        section[12] = 0xff;
        assert_eq!(read(&section), Section::default());
        assert_eq!(read(b"\x9f\xeb"), Section::default());
    }
}
