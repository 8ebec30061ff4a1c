//! Everything the fuzzers ever found, and what they start from, on stable and in every run of the tests; and a short
//! walk from there with fixed steps, so that a change that breaks easily is seen before the next long run.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzz_target::{TARGETS, Target};

/// Changed inputs per target: a few seconds for all of them together.
const MUTATIONS: usize = 400;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Name and content of the corpus of a target, by name.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = folder().join("corpus").join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable input"))
        })
        .collect();
    files.sort();
    files
}

fn run(target: &Target, name: &str, data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(data))).is_err() {
        let path = std::env::temp_dir().join(format!("fuzz-{}", target.name));
        fs::write(&path, data).expect("a place for the input");
        panic!("target `{}` fails for `{name}`; the input is in `{}`", target.name, path.display());
    }
}

/// xorshift64: the same steps everywhere.
struct Steps(u64);

impl Steps {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }

    /// One to four changes: a bit, a byte, a piece cut out, repeated, or taken from another input.
    fn mutate(&mut self, data: &mut Vec<u8>, other: &[u8]) {
        for _ in 0..=self.below(4) {
            let at = self.below(data.len());
            let length = self.below(32).min(data.len() - at);
            match self.below(6) {
                0 if !data.is_empty() => data[at] ^= 1 << self.below(8),
                1 if !data.is_empty() => data[at] = [0, 0xff, b'0', b' ', b'\n', b'/'][self.below(6)],
                2 => drop(data.drain(at..at + length)),
                3 => {
                    let piece = data[at..at + length].repeat(1 + self.below(8));
                    data.splice(at..at, piece);
                }
                _ => {
                    let from = self.below(other.len());
                    let piece = &other[from..(from + self.below(64)).min(other.len())];
                    data.splice(at..at + length, piece.iter().copied());
                }
            }
        }
    }
}

#[test]
fn the_corpus_breaks_nothing() {
    for target in TARGETS {
        let files = corpus(target);
        assert!(!files.is_empty(), "target `{}` has no corpus", target.name);
        for (name, data) in &files {
            run(target, name, data);
        }
    }
}

#[test]
fn small_changes_to_the_corpus_break_nothing() {
    for target in TARGETS {
        let files = corpus(target);
        let mut steps = Steps(0x9e37_79b9_7f4a_7c15);
        for number in 0..MUTATIONS {
            let (name, data) = &files[steps.below(files.len())];
            let mut data = data.clone();
            let other = steps.below(files.len());
            steps.mutate(&mut data, &files[other].1);
            run(target, &format!("change {number} of {name}"), &data);
        }
    }
}

/// The fuzzers are built apart, so nothing else would notice one that was forgotten.
#[test]
fn every_target_has_a_fuzzer_and_every_fuzzer_a_target() {
    let names = |under: &str, end: &str| -> Vec<String> {
        let entries = fs::read_dir(folder().join(under)).unwrap();
        let name = |entry: fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<String> =
            entries.filter_map(|entry| name(entry.unwrap()).strip_suffix(end).map(str::to_owned)).collect();
        names.sort();
        names
    };
    let wanted: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names("fuzz_targets", ".rs"), wanted);
    assert_eq!(names("corpus", ""), wanted);
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in wanted {
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "fuzz/Cargo.toml lacks {name}"
        );
    }
}
