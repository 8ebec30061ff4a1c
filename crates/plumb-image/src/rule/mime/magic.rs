//! `<magic>` and `<treemagic>`: what contents of files and folders look like.

use std::cmp::Ordering;

use super::number;
use super::xml::Element;

const NO_MAGIC: &[u8] = b"__NOMAGIC__";

pub(super) struct Magic {
    pub(super) priority: i32,
    pub(super) kind: String,
    pub(super) matches: Vec<Match>,
    is_none: bool,
}

pub(super) struct Match {
    pub(super) start: u32,
    pub(super) length: u32,
    pub(super) word_size: u8,
    pub(super) data: Vec<u8>,
    pub(super) mask: Option<Vec<u8>>,
    pub(super) matches: Vec<Match>,
}

pub(super) struct TreeMagic {
    pub(super) priority: i32,
    pub(super) kind: String,
    pub(super) matches: Vec<TreeMatch>,
}

pub(super) struct TreeMatch {
    pub(super) path: String,
    pub(super) kind: &'static str,
    pub(super) match_case: bool,
    pub(super) executable: bool,
    pub(super) non_empty: bool,
    pub(super) mime_type: Option<String>,
    pub(super) matches: Vec<TreeMatch>,
}

/// By media and subtype, as two texts.
fn by_type(left: &str, right: &str) -> Ordering {
    left.split_once('/').cmp(&right.split_once('/'))
}

impl Magic {
    pub(super) fn read(kind: &str, element: &Element) -> Option<Magic> {
        let matches = matches(element)?;
        let priority = number(element, "priority")?;
        (!matches.is_empty()).then(|| Magic { priority, kind: kind.to_owned(), matches, is_none: false })
    }

    /// `<magic-deleteall/>`.
    pub(super) fn none(kind: &str) -> Magic {
        let data = NO_MAGIC.to_vec();
        let only = Match { start: 0, length: 1, word_size: 1, data, mask: None, matches: Vec::new() };
        Magic { priority: 0, kind: kind.to_owned(), matches: vec![only], is_none: true }
    }

    /// The highest priority first.
    pub(super) fn order(left: &Magic, right: &Magic) -> Ordering {
        if left.is_none || right.is_none {
            return right.is_none.cmp(&left.is_none);
        }
        right.priority.cmp(&left.priority).then_with(|| by_type(&left.kind, &right.kind))
    }
}

fn matches(parent: &Element) -> Option<Vec<Match>> {
    parent.elements().map(read_match).collect()
}

fn read_match(element: &Element) -> Option<Match> {
    if element.name != "match" {
        return None;
    }
    let offset = element.get("offset")?;
    let (start, length) = match offset.split_once(':') {
        None => (offset.parse().ok()?, 1),
        Some((first, last)) => {
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            (first, last.checked_sub(first)?.checked_add(1)?)
        }
    };
    let (value, mask) = (element.get("value").filter(|value| !value.is_empty())?, element.get("mask"));
    let (bytes, is_little) = match element.get("type")? {
        "string" => {
            let data = unescaped(value);
            let mask = match mask {
                Some(mask) => Some(nibbles(mask, data.len())?),
                None => None,
            };
            return Some(Match { start, length, word_size: 1, data, mask, matches: matches(element)? });
        }
        "byte" => (1, false),
        "big16" | "host16" => (2, false),
        "little16" => (2, true),
        "big32" | "host32" => (4, false),
        "little32" => (4, true),
        _ => return None,
    };
    let word_size = if element.get("type")?.starts_with("host") { bytes } else { 1 };
    let data = integer(value, bytes, is_little)?;
    let mask = match mask {
        Some(mask) => Some(integer(mask, bytes, is_little)?),
        None => None,
    };
    Some(Match { start, length, word_size, data, mask, matches: matches(element)? })
}

/// A number of C in so many bytes.
fn integer(text: &str, bytes: u8, is_little: bool) -> Option<Vec<u8>> {
    let value = if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        u32::from_str_radix(hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        u32::from_str_radix(text, 8)
    } else {
        text.parse()
    };
    let value = value.ok()?;
    let all = value.to_be_bytes();
    let (rest, own) = all.split_at(4 - usize::from(bytes));
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    let mut own = own.to_vec();
    if is_little {
        own.reverse();
    }
    Some(own)
}

/// `0x` and a digit for each half of a byte.
fn nibbles(text: &str, length: usize) -> Option<Vec<u8>> {
    let mut mask = vec![0; length];
    for (at, c) in text.strip_prefix("0x")?.chars().enumerate() {
        let digit = u8::try_from(c.to_digit(16)?).ok()?;
        *mask.get_mut(at / 2)? |= if at % 2 == 0 { digit << 4 } else { digit };
    }
    Some(mask)
}

/// A text of C.
fn unescaped(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize, radix: u32| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(radix));
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let mut byte = bytes[at];
        at += 1;
        if byte == b'\\' {
            let Some(escape) = bytes.get(at) else { break };
            at += 1;
            byte = match *escape {
                b'n' => b'\n',
                b'r' => b'\r',
                b'b' => 8,
                b't' => b'\t',
                b'f' => 12,
                b'v' => 11,
                b'x' | b'0'..=b'7' => {
                    let (radix, most) = if *escape == b'x' { (16, 2) } else { (8, 3) };
                    let first = if radix == 16 { at } else { at - 1 };
                    let mut value = 0;
                    let mut end = first;
                    while let Some(digit) = digit(end, radix).filter(|_| end < first + most) {
                        value = value * radix + digit;
                        end += 1;
                    }
                    at = end;
                    if end == first { b'x' } else { value.to_le_bytes()[0] }
                }
                other => other,
            };
        }
        out.push(byte);
    }
    out
}

impl TreeMagic {
    pub(super) fn read(kind: &str, element: &Element) -> Option<TreeMagic> {
        let matches = tree_matches(element)?;
        let priority = number(element, "priority")?;
        (!matches.is_empty()).then(|| TreeMagic { priority, kind: kind.to_owned(), matches })
    }

    pub(super) fn order(left: &TreeMagic, right: &TreeMagic) -> Ordering {
        right.priority.cmp(&left.priority).then_with(|| by_type(&left.kind, &right.kind))
    }
}

fn tree_matches(parent: &Element) -> Option<Vec<TreeMatch>> {
    let read = |element: &Element| {
        let is = |name: &str| element.get(name) == Some("true");
        let kind = match element.get("type") {
            None => "any",
            Some("file") => "file",
            Some("directory") => "directory",
            Some("link") => "link",
            Some(_) => return None,
        };
        Some(TreeMatch {
            path: element
                .get("path")
                .filter(|path| !path.is_empty() && element.name == "treematch")?
                .to_owned(),
            kind,
            match_case: is("match-case"),
            executable: is("executable"),
            non_empty: is("non-empty"),
            mime_type: element.get("mimetype").map(str::to_owned),
            matches: tree_matches(element)?,
        })
    };
    parent.elements().map(read).collect()
}
