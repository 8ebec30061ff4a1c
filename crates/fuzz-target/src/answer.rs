//! The answer disk of a build VM, where somebody's maintainer scripts ran.
//!
//! Disks that start with their magic are taken as they are. Of others the first byte is the number of frames and the
//! rest are the frames; the outcome before them is written here, because no mutation finds its checksum.

use std::io::Cursor;

use plumb_guest_proto::{ANSWER_FRAMES, ANSWER_MAGIC, BuildOutcome, Checksum};
use plumb_image::effect::answer::{Answer, AnswerLimits, Change, read};
use plumb_image::tree::Kind;

use crate::object::Memory;

const LIMITS: AnswerLimits = AnswerLimits { changes: 200, bytes: 1 << 20, path_bytes: 256 };

pub(crate) fn run(data: &[u8]) {
    let disk = match data.split_first() {
        _ if data.starts_with(ANSWER_MAGIC) => data.to_vec(),
        Some((changes, frames)) => framed(u64::from(*changes), frames),
        None => return,
    };
    match read(&mut Cursor::new(disk), &LIMITS, &Memory::default()) {
        Ok(Answer::Changed(changes)) => {
            assert!(changes.len() as u64 <= LIMITS.changes);
            let mut bytes = 0;
            for (path, change) in &changes {
                bytes += check(path, change);
            }
            assert!(bytes <= LIMITS.bytes, "{bytes} bytes of contents");
        }
        Ok(Answer::Failed(failure)) => {
            let mut text = failure.output.iter().chain([&failure.step, &failure.status]);
            assert!(text.all(|line| is_harmless(line)), "{failure:?}");
        }
        // It goes to a terminal as it is.
        Err(error) => assert!(is_harmless(&error.to_string()), "{error:?}"),
    }
}

/// Bytes of contents.
fn check(path: &str, change: &Change) -> u64 {
    crate::path::check(path);
    assert!(path.len() <= LIMITS.path_bytes && !path.chars().any(char::is_control), "{path:?}");
    let Change::Entry { entry, .. } = change else { return 0 };
    assert!(entry.mode <= 0o7777 && entry.xattrs.keys().all(|name| name == "security.capability"));
    match &entry.kind {
        Kind::File { size, .. } => *size,
        Kind::Symlink { target } => {
            assert!(!target.is_empty() && target.len() <= LIMITS.path_bytes);
            0
        }
        Kind::Directory => 0,
    }
}

fn framed(changes: u64, frames: &[u8]) -> Vec<u8> {
    let mut checksum = Checksum::default();
    checksum.add(frames);
    let outcome =
        BuildOutcome { failed: None, changes, bytes: frames.len() as u64, checksum: checksum.value() };
    let json = serde_json::to_vec(&outcome).expect("an outcome is written");
    let mut disk = ANSWER_MAGIC.to_vec();
    disk.extend(u32::try_from(json.len()).expect("a short outcome").to_le_bytes());
    disk.extend(json);
    disk.resize(ANSWER_FRAMES as usize, 0);
    disk.extend(frames);
    disk
}

/// Nothing that a terminal obeys; a tab only moves.
fn is_harmless(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && c != '\t')
}
