//! Versions of Python projects (PEP 440).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A version, compared as PEP 440 orders them.
#[derive(Debug, Clone)]
pub struct PyVersion {
    text: String,
    epoch: u64,
    release: Vec<u64>,
    /// Phase (`a`, `b`, `rc`) and number.
    pre: Option<(u8, u64)>,
    post: Option<u64>,
    dev: Option<u64>,
    local: Vec<Segment>,
}

/// Part of a local version: numbers are newer than words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Word(String),
    Number(u64),
}

/// Takes a word from the start, ignoring one separator before it.
fn word<'t>(text: &mut &'t str, words: &[&'t str]) -> bool {
    let bare = text.trim_start_matches(['-', '_', '.']);
    let separators = text.len() - bare.len();
    let Some(rest) = words.iter().find_map(|word| bare.strip_prefix(word)).filter(|_| separators <= 1) else {
        return false;
    };
    *text = rest;
    true
}

/// Takes a number from the start, ignoring one separator before it; 0 if there is none.
fn implicit_number(text: &mut &str) -> u64 {
    let bare = text.strip_prefix(['-', '_', '.']).unwrap_or(text);
    let length = bare.bytes().take_while(u8::is_ascii_digit).count();
    match bare[..length].parse() {
        Ok(number) => {
            *text = &bare[length..];
            number
        }
        Err(_) => 0,
    }
}

impl FromStr for PyVersion {
    type Err = ();

    fn from_str(written: &str) -> Result<Self, ()> {
        let lower = written.trim().to_ascii_lowercase();
        let (public, local) = lower.split_once('+').unwrap_or((&lower, ""));
        let mut rest = public.strip_prefix('v').unwrap_or(public);
        let mut epoch = 0;
        if let Some((number, after)) = rest.split_once('!') {
            epoch = number.parse().map_err(|_| ())?;
            rest = after;
        }
        let mut release = Vec::new();
        loop {
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            release.push(rest[..length].parse().map_err(|_| ())?);
            rest = &rest[length..];
            match rest.strip_prefix('.').filter(|after| after.starts_with(|c: char| c.is_ascii_digit())) {
                Some(after) => rest = after,
                None => break,
            }
        }
        let mut version = PyVersion {
            text: written.trim().to_owned(),
            epoch,
            release,
            pre: None,
            post: None,
            dev: None,
            local: Vec::new(),
        };
        for (phase, words) in
            [(b'a', &["alpha", "a"][..]), (b'b', &["beta", "b"]), (b'c', &["rc", "c", "preview", "pre"])]
        {
            if version.pre.is_none() && word(&mut rest, words) {
                version.pre = Some((phase, implicit_number(&mut rest)));
            }
        }
        if word(&mut rest, &["post", "rev", "r"]) {
            version.post = Some(implicit_number(&mut rest));
        } else if let Some(number) =
            rest.strip_prefix('-').filter(|n| n.starts_with(|c: char| c.is_ascii_digit()))
        {
            rest = number;
            version.post = Some(implicit_number(&mut rest));
        }
        if word(&mut rest, &["dev"]) {
            version.dev = Some(implicit_number(&mut rest));
        }
        if !rest.is_empty() {
            return Err(());
        }
        for part in local.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
            version.local.push(part.parse().map_or_else(|_| Segment::Word(part.to_owned()), Segment::Number));
        }
        Ok(version)
    }
}

impl fmt::Display for PyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Release without zeros at its end: `1.0` is `1`.
fn trimmed(release: &[u64]) -> &[u64] {
    let length = release.iter().rposition(|number| *number != 0).map_or(0, |at| at + 1);
    &release[..length]
}

impl Ord for PyVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        // A development release of nothing else comes before all pre-releases; no pre-release comes after them.
        let pre = |v: &PyVersion| match (v.pre, v.post, v.dev) {
            (Some((phase, number)), ..) => (1, phase, number),
            (None, None, Some(_)) => (0, 0, 0),
            (None, ..) => (2, 0, 0),
        };
        let dev = |v: &PyVersion| v.dev.unwrap_or(u64::MAX);
        self.epoch
            .cmp(&other.epoch)
            .then_with(|| trimmed(&self.release).cmp(trimmed(&other.release)))
            .then_with(|| pre(self).cmp(&pre(other)))
            .then_with(|| self.post.cmp(&other.post))
            .then_with(|| dev(self).cmp(&dev(other)))
            .then_with(|| self.local.cmp(&other.local))
    }
}

impl PartialOrd for PyVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PyVersion {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PyVersion {}

impl PyVersion {
    /// Whether `operator` and `wanted` admit this version, for the operators of PEP 440.
    pub(super) fn satisfies(&self, operator: &str, wanted: &str) -> Option<bool> {
        if let Some(prefix) = wanted.strip_suffix(".*") {
            let prefix: PyVersion = prefix.parse().ok()?;
            let fits = self.epoch == prefix.epoch
                && (0..prefix.release.len())
                    .all(|at| self.release.get(at).copied().unwrap_or(0) == prefix.release[at]);
            return match operator {
                "==" => Some(fits),
                "!=" => Some(!fits),
                _ => None,
            };
        }
        let other: PyVersion = wanted.parse().ok()?;
        Some(match operator {
            "==" | "===" => *self == other,
            "!=" => *self != other,
            "<" => *self < other,
            "<=" => *self <= other,
            ">" => *self > other,
            ">=" => *self >= other,
            "~=" => {
                let series = other.release.len().checked_sub(1).filter(|length| *length > 0)?;
                *self >= other
                    && (0..series).all(|at| self.release.get(at).copied().unwrap_or(0) == other.release[at])
            }
            _ => return None,
        })
    }
}
