//! `mime.cache`, which programs map into memory. All numbers are big-endian, all offsets from the file's beginning:
//!
//! ```text
//!  0  version 1.2 (2 × 16 bit), then 10 offsets of 32 bit, in the order of the parts
//!  44 texts, each ended by a zero and padded to 4 bytes
//!     aliases, parents, literal patterns, suffixes (a tree, from the last character), other patterns,
//!     magic, namespaces, icons, generic icons, types
//! ```

use std::collections::BTreeMap;

use super::magic::Match;
use super::table::Table;
use super::{Database, Glob};

const HEAD_BYTES: usize = 44;
const PARTS: usize = 10;
const CASE_SENSITIVE: u32 = 0x100;
const MATCH_BYTES: usize = 32;

struct Cache {
    bytes: Vec<u8>,
    texts: Table<u32>,
}

/// How a pattern is looked up.
#[derive(PartialEq, Eq)]
enum Form {
    Literal,
    Suffix,
    Full,
}

fn form(pattern: &str) -> Form {
    let rest = pattern.strip_prefix('*');
    match (rest.unwrap_or(pattern).contains(['\\', '[', '?', '*']), rest) {
        (true, _) => Form::Full,
        (false, Some(_)) => Form::Suffix,
        (false, None) => Form::Literal,
    }
}

/// The whole file; `None` if it is too large for its numbers.
pub(super) fn write(database: &Database) -> Option<Vec<u8>> {
    let mut cache = Cache { bytes: vec![0; HEAD_BYTES], texts: texts(database) };
    cache.put_texts()?;
    let mut offsets = [0; PARTS];
    let pairs = |table: &Table<String>| -> Vec<Vec<String>> {
        table.sorted().iter().map(|(key, value)| vec![(*key).to_owned(), (*value).clone()]).collect()
    };
    for (part, offset) in offsets.iter_mut().enumerate() {
        *offset = cache.end()?;
        match part {
            0 => cache.map(&pairs(&database.aliases))?,
            1 => cache.parents(&database.parents)?,
            2 => cache.globs(&database.globs, &Form::Literal)?,
            3 => cache.suffixes(&database.globs)?,
            4 => cache.globs(&database.globs, &Form::Full)?,
            5 => cache.magic(database)?,
            6 => {
                let split = |(key, kind): &(&str, &String)| {
                    let (space, name) = key.split_once(' ')?;
                    Some(vec![space.to_owned(), name.to_owned(), (*kind).clone()])
                };
                let all: Option<Vec<_>> = database.namespaces.sorted().iter().map(split).collect();
                cache.rows(&all?, database.namespaces.sorted().len())?;
            }
            7 => cache.map(&pairs(&database.icons))?,
            8 => cache.map(&pairs(&database.generic_icons))?,
            // The program looks its types up with the line break behind each, and so finds none of them.
            _ => {
                let count = database.types.iter().count();
                cache.number(count)?;
                cache.bytes.extend(std::iter::repeat_n(0, 4 * count));
            }
        }
    }
    let mut head = vec![0, 1, 0, 2];
    offsets.iter().for_each(|offset| head.extend(offset.to_be_bytes()));
    cache.bytes[..HEAD_BYTES].copy_from_slice(&head);
    Some(cache.bytes)
}

/// Every text that something points to, in the order of a table that gets them one by one.
fn texts(database: &Database) -> Table<u32> {
    let mut all = Table::default();
    let mut put = |text: &str| all.insert(text, 0);
    for (alias, kind) in database.aliases.iter() {
        put(alias);
        put(kind);
    }
    for (kind, parents) in database.parents.iter() {
        put(kind);
        parents.iter().for_each(|parent| put(parent));
    }
    for (pattern, globs) in database.globs.iter() {
        if form(pattern) != Form::Suffix {
            put(pattern);
        }
        globs.iter().for_each(|glob| put(&glob.kind));
    }
    database.magic.iter().for_each(|magic| put(&magic.kind));
    for (key, kind) in database.namespaces.iter() {
        put(kind);
        if let Some((space, name)) = key.split_once(' ') {
            put(space);
            put(name);
        }
    }
    for (kind, icon) in database.generic_icons.iter().chain(database.icons.iter()) {
        put(kind);
        put(icon);
    }
    all
}

impl Cache {
    fn end(&self) -> Option<u32> {
        u32::try_from(self.bytes.len()).ok()
    }

    fn number(&mut self, number: usize) -> Option<()> {
        self.bytes.extend(u32::try_from(number).ok()?.to_be_bytes());
        Some(())
    }

    fn text(&mut self, text: &str) -> Option<()> {
        let offset = *self.texts.get(text)?;
        self.bytes.extend(offset.to_be_bytes());
        Some(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn put_texts(&mut self) -> Option<()> {
        let all: Vec<String> = self.texts.iter().map(|(text, _)| text.to_owned()).collect();
        for text in all {
            let at = self.end()?;
            self.texts.insert(&text, at);
            self.bytes.extend(text.bytes().chain([0]));
            self.pad();
        }
        Some(())
    }

    fn rows(&mut self, rows: &[Vec<String>], count: usize) -> Option<()> {
        self.number(count)?;
        rows.iter().flatten().try_for_each(|text| self.text(text))
    }

    fn map(&mut self, pairs: &[Vec<String>]) -> Option<()> {
        self.rows(pairs, pairs.len())
    }

    fn parents(&mut self, parents: &Table<Vec<String>>) -> Option<()> {
        let all = parents.sorted();
        self.number(all.len())?;
        let mut list = self.bytes.len() + 8 * all.len();
        for (kind, parents) in &all {
            self.text(kind)?;
            self.number(list)?;
            list += 4 + 4 * parents.len();
        }
        for (_, parents) in &all {
            self.number(parents.len())?;
            parents.iter().try_for_each(|parent| self.text(parent))?;
        }
        Some(())
    }

    fn globs(&mut self, globs: &Table<Vec<Glob>>, wanted: &Form) -> Option<()> {
        let all: Vec<&Glob> = globs
            .sorted()
            .into_iter()
            .filter(|(pattern, _)| form(pattern) == *wanted)
            .flat_map(|(_, globs)| globs)
            .collect();
        self.number(all.len())?;
        for glob in all {
            self.text(&glob.pattern)?;
            self.text(&glob.kind)?;
            self.bytes.extend((weight(glob)? | flags(glob)).to_be_bytes());
        }
        Some(())
    }

    fn suffixes(&mut self, globs: &Table<Vec<Glob>>) -> Option<()> {
        let mut root = Suffix::default();
        for (pattern, globs) in globs.iter().filter(|(pattern, _)| form(pattern) == Form::Suffix) {
            for glob in globs {
                let mut at = &mut root;
                // A pattern of a star alone has no character to begin with.
                pattern[1..].chars().next()?;
                for c in pattern[1..].chars().rev() {
                    at = at.children.entry(c).or_default();
                }
                let weight = weight(glob)?;
                match at.ends.iter_mut().find(|end| end.0 == glob.kind) {
                    Some(end) => end.1 = end.1.max(weight),
                    None => at.ends.push((glob.kind.clone(), weight, flags(glob))),
                }
            }
        }
        self.number(root.children.len())?;
        let first = self.bytes.len() + 4;
        self.number(first)?;
        let mut next = first + 12 * root.children.len();
        // Level by level: what belongs to a node lies together.
        let mut level: Vec<&Suffix> = vec![&root];
        while !level.is_empty() {
            let mut below = Vec::new();
            for node in level {
                for (kind, weight, flags) in &node.ends {
                    self.number(0)?;
                    self.text(kind)?;
                    self.bytes.extend((weight | flags).to_be_bytes());
                }
                for (c, child) in &node.children {
                    let count = child.ends.len() + child.children.len();
                    self.bytes.extend(u32::from(*c).to_be_bytes());
                    self.number(count)?;
                    self.number(next)?;
                    next += 12 * count;
                    below.push(child);
                }
            }
            level = below;
        }
        Some(())
    }

    fn magic(&mut self, database: &Database) -> Option<()> {
        let mut all: Vec<&Match> = Vec::new();
        database.magic.iter().for_each(|magic| collect(&magic.matches, &mut all));
        let extent = |one: &&Match| one.data.len() + one.start as usize + one.length as usize;
        let place = |one: &Match| all.iter().position(|other| std::ptr::eq(*other, one));
        self.number(database.magic.len())?;
        self.number(all.iter().map(extent).max().unwrap_or(0))?;
        let entries = self.bytes.len() + 4;
        self.number(entries)?;
        let first = entries + 16 * database.magic.len();
        for magic in &database.magic {
            self.number(usize::try_from(magic.priority).ok()?)?;
            self.text(&magic.kind)?;
            self.number(magic.matches.len())?;
            self.number(first + MATCH_BYTES * place(magic.matches.first()?)?)?;
        }
        let mut data = first + MATCH_BYTES * all.len();
        for one in &all {
            let length = one.data.len().next_multiple_of(4);
            self.bytes.extend(one.start.to_be_bytes());
            self.bytes.extend(one.length.to_be_bytes());
            self.number(usize::from(one.word_size))?;
            self.number(one.data.len())?;
            self.number(data)?;
            data += length;
            self.number(if one.mask.is_some() { data } else { 0 })?;
            data += if one.mask.is_some() { length } else { 0 };
            self.number(one.matches.len())?;
            let child = one.matches.first().and_then(&place);
            self.number(child.map_or(0, |child| first + MATCH_BYTES * child))?;
        }
        for one in &all {
            for bytes in [Some(&one.data), one.mask.as_ref()].into_iter().flatten() {
                self.bytes.extend(bytes);
                self.pad();
            }
        }
        Some(())
    }
}

/// Those that belong together lie together, before what is below each of them.
fn collect<'m>(matches: &'m [Match], all: &mut Vec<&'m Match>) {
    all.extend(matches);
    matches.iter().for_each(|one| collect(&one.matches, all));
}

fn weight(glob: &Glob) -> Option<u32> {
    u32::try_from(glob.weight).ok()
}

fn flags(glob: &Glob) -> u32 {
    if glob.case_sensitive { CASE_SENSITIVE } else { 0 }
}

#[derive(Default)]
struct Suffix {
    ends: Vec<(String, u32, u32)>,
    children: BTreeMap<char, Suffix>,
}
