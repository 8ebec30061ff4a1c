//! The answer disk of a build VM (drawn in `plumb_guest_proto`, module `task`), read with distrust: whatever ran there
//! was somebody's script.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use plumb_guest_proto::{
    ANSWER_FRAMES, ANSWER_MAGIC, BuildFailure, BuildOutcome, ChangeKind, Checksum, MAX_CHANGE_BYTES,
};

use crate::tree::{Entry, Objects};

/// What an answer may cost. One beyond a limit is refused.
#[derive(Debug, Clone)]
pub struct AnswerLimits {
    /// Changed paths: as many as the largest packages of Debian have files.
    pub changes: u64,
    /// Bytes of all contents together.
    pub bytes: u64,
    /// Bytes of a path or a link target: PATH_MAX of Linux.
    pub path_bytes: usize,
}

impl Default for AnswerLimits {
    fn default() -> Self {
        AnswerLimits { changes: 200_000, bytes: 8 << 30, path_bytes: 4096 }
    }
}

/// One path that the scripts changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is this now.
    Entry {
        /// What it is.
        entry: Entry,
        /// A directory in the place of another one, whose files are gone.
        opaque: bool,
    },
    /// It is gone.
    Removed,
    /// It is something that no image holds.
    Special,
}

/// What a build VM answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A step failed.
    Failed(BuildFailure),
    /// All steps ran; by path, what differs now.
    Changed(BTreeMap<String, Change>),
}

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The machine ended before it had written its answer.
    #[error("the build machine ended without an answer")]
    None,
    /// Something in it makes no sense.
    #[error("the build machine's answer is broken: {reason}")]
    Broken {
        /// What.
        reason: String,
    },
    /// More than a limit allows.
    #[error("the build machine's answer is beyond the limit: {what} over {limit}")]
    TooLarge {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A path that an image cannot have.
    #[error("a script made `{path}`, which is refused: {reason}")]
    BadPath {
        /// The path, made printable.
        path: String,
        /// Why.
        reason: &'static str,
    },
    /// Reading it or keeping contents failed.
    #[error("the build machine's answer cannot be read")]
    Read(#[source] io::Error),
}

/// Reads an answer; contents go to `objects`.
///
/// # Errors
/// [`AnswerError`].
pub fn read(
    disk: &mut (impl Read + Seek),
    limits: &AnswerLimits,
    objects: &dyn Objects,
) -> Result<Answer, AnswerError> {
    let outcome = outcome(disk)?;
    if let Some(failure) = outcome.failed {
        return Ok(Answer::Failed(printable_failure(failure)));
    }
    if outcome.changes > limits.changes {
        return Err(AnswerError::TooLarge { what: "changed paths", limit: limits.changes });
    }
    if outcome.bytes > limits.bytes {
        return Err(AnswerError::TooLarge { what: "bytes", limit: limits.bytes });
    }
    disk.seek(SeekFrom::Start(ANSWER_FRAMES)).map_err(AnswerError::Read)?;
    let mut frames = Frames { source: disk.take(outcome.bytes), checksum: Checksum::default() };
    let mut changes = BTreeMap::new();
    for _ in 0..outcome.changes {
        let (path, change) = frame(&mut frames, limits, objects)?;
        if changes.insert(path.clone(), change).is_some() {
            return Err(broken(format!("`{path}` is there twice")));
        }
    }
    if frames.source.limit() > 0 {
        return Err(broken("it goes on behind its last change"));
    }
    if frames.checksum.value() != outcome.checksum {
        return Err(broken("its checksum is wrong"));
    }
    Ok(Answer::Changed(changes))
}

/// A reason may quote the answer, and goes to a terminal.
fn broken(reason: impl Into<String>) -> AnswerError {
    AnswerError::Broken { reason: printable(reason.into()) }
}

fn short(error: io::Error) -> AnswerError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => broken("it ends early"),
        _ => AnswerError::Read(error),
    }
}

fn outcome(disk: &mut (impl Read + Seek)) -> Result<BuildOutcome, AnswerError> {
    disk.seek(SeekFrom::Start(0)).map_err(AnswerError::Read)?;
    let mut head = [0; 12];
    disk.read_exact(&mut head).map_err(short)?;
    if head[..8] != *ANSWER_MAGIC {
        return Err(AnswerError::None);
    }
    let length = u64::from(u32::from_le_bytes([head[8], head[9], head[10], head[11]]));
    if length > ANSWER_FRAMES - head.len() as u64 {
        return Err(broken("its outcome is too long"));
    }
    let mut json = Vec::new();
    disk.take(length).read_to_end(&mut json).map_err(AnswerError::Read)?;
    serde_json::from_slice(&json).map_err(|error| broken(format!("its outcome is not understood: {error}")))
}

/// Reads and sums up.
struct Frames<R> {
    source: R,
    checksum: Checksum,
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.checksum.add(&buffer[..count]);
        Ok(count)
    }
}

fn frame(
    frames: &mut impl Read,
    limits: &AnswerLimits,
    objects: &dyn Objects,
) -> Result<(String, Change), AnswerError> {
    let mut length = [0; 4];
    frames.read_exact(&mut length).map_err(short)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_CHANGE_BYTES {
        return Err(broken("a change is too long"));
    }
    let mut json = vec![0; length as usize];
    frames.read_exact(&mut json).map_err(short)?;
    let head: plumb_guest_proto::Change = serde_json::from_slice(&json)
        .map_err(|error| broken(format!("a change is not understood: {error}")))?;
    check_path(&head.path, limits)?;
    let mut opaque = false;
    let mut entry = match head.kind {
        ChangeKind::File { size } => {
            let (digest, read) = objects.put(&mut frames.take(size)).map_err(AnswerError::Read)?;
            if read != size {
                return Err(broken("it ends early"));
            }
            Entry::file(digest, size, 0)
        }
        ChangeKind::Directory { opaque: told } => {
            opaque = told;
            Entry::directory(0)
        }
        ChangeKind::Symlink { target } => {
            if target.is_empty() || target.len() > limits.path_bytes || target.chars().any(char::is_control) {
                return Err(bad_path(&head.path, "it is a link to what no path can be"));
            }
            Entry::symlink(target)
        }
        ChangeKind::Removed => return Ok((head.path, Change::Removed)),
        ChangeKind::Special => return Ok((head.path, Change::Special)),
    };
    entry.mode = head.mode & 0o7777;
    entry.uid = head.uid;
    entry.gid = head.gid;
    if let Some(value) = head.capability {
        let value = hex::decode(&value).map_err(|_| broken("a capability set is not hex"))?;
        entry.xattrs.insert("security.capability".to_owned(), value);
    }
    Ok((head.path, Change::Entry { entry, opaque }))
}

fn bad_path(path: &str, reason: &'static str) -> AnswerError {
    AnswerError::BadPath { path: path.escape_debug().take(200).collect(), reason }
}

fn check_path(path: &str, limits: &AnswerLimits) -> Result<(), AnswerError> {
    let Some(relative) = path.strip_prefix('/') else { return Err(bad_path(path, "it is not absolute")) };
    if path.len() > limits.path_bytes {
        return Err(bad_path(path, "it is longer than a path can be"));
    }
    // A line break would forge lines of the package list.
    if path.chars().any(char::is_control) {
        return Err(bad_path(path, "it has a control character"));
    }
    if relative.split('/').any(|part| matches!(part, "" | "." | "..") || part.len() > 255) {
        return Err(bad_path(path, "it is not a plain path"));
    }
    Ok(())
}

/// The text goes to a terminal.
fn printable_failure(failure: BuildFailure) -> BuildFailure {
    BuildFailure {
        step: printable(failure.step),
        status: printable(failure.status),
        output: failure.output.into_iter().map(printable).collect(),
    }
}

fn printable(text: String) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::fixture::Folder;

    /// A disk with these frames (JSON and contents), as a guest would write it.
    fn disk(frames: &[(&str, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (json, contents) in frames {
            body.extend(u32::try_from(json.len()).unwrap().to_le_bytes());
            body.extend(json.as_bytes());
            body.extend(*contents);
        }
        let mut checksum = Checksum::default();
        checksum.add(&body);
        let outcome = BuildOutcome {
            failed: None,
            changes: frames.len() as u64,
            bytes: body.len() as u64,
            checksum: checksum.value(),
        };
        let mut disk = head(&outcome);
        disk.resize(usize::try_from(ANSWER_FRAMES).unwrap(), 0);
        disk.extend(body);
        disk
    }

    fn head(outcome: &BuildOutcome) -> Vec<u8> {
        let json = serde_json::to_vec(outcome).unwrap();
        let mut head = ANSWER_MAGIC.to_vec();
        head.extend(u32::try_from(json.len()).unwrap().to_le_bytes());
        head.extend(json);
        head
    }

    fn parse(disk: Vec<u8>) -> Result<Answer, String> {
        let limits = AnswerLimits { changes: 3, bytes: 4096, ..AnswerLimits::default() };
        read(&mut Cursor::new(disk), &limits, &Folder::new()).map_err(|error| error.to_string())
    }

    const FILE: &str =
        r#"{"path":"/etc/x","kind":{"file":{"size":3}},"mode":416,"uid":5,"gid":6,"capability":"01"}"#;
    const GONE: &str = r#"{"path":"/etc/y","kind":"removed","mode":0,"uid":0,"gid":0}"#;

    #[test]
    fn what_was_written_is_read() {
        let Answer::Changed(changes) = parse(disk(&[(FILE, b"abc"), (GONE, b"")])).unwrap() else {
            panic!("no changes")
        };
        let mut entry = Entry::file(plumb_model::Digest::of(b"abc"), 3, 0o640);
        (entry.uid, entry.gid) = (5, 6);
        entry.xattrs.insert("security.capability".into(), vec![1]);
        assert_eq!(changes["/etc/x"], Change::Entry { entry, opaque: false });
        assert_eq!(changes["/etc/y"], Change::Removed);
        let failed = BuildFailure { step: "x".into(), status: "s".into(), output: vec!["\u{1b}[31m".into()] };
        let outcome = BuildOutcome { failed: Some(failed), changes: 0, bytes: 0, checksum: 0 };
        let Answer::Failed(failure) = parse(head(&outcome)).unwrap() else { panic!("no failure") };
        assert_eq!(failure.output, ["\u{fffd}[31m"]);
    }

    #[test]
    fn lies_are_refused() {
        let refused = |disk: Vec<u8>| parse(disk).expect_err("refused");
        assert_eq!(refused(vec![0; 4096]), "the build machine ended without an answer");
        assert!(refused(disk(&[(FILE, b"ab")])).ends_with("it ends early"));
        assert!(refused(disk(&[(FILE, b"abcd")])).ends_with("it goes on behind its last change"));
        assert!(refused(disk(&[(FILE, b"abc"), (FILE, b"abc")])).ends_with("is there twice"));
        assert!(refused(disk(&[(GONE, &b""[..]); 4])).contains("beyond the limit: changed paths over 3"));
        for path in ["etc/x", "/../x", "/a//b", "/a/./b", "/", "/a\\nb", &format!("/{}", "a".repeat(256))] {
            let json = GONE.replace("/etc/y", path);
            assert!(refused(disk(&[(&json, b"")])).contains("which is refused"), "{path}");
        }
        let mut spoiled = disk(&[(FILE, b"abc")]);
        *spoiled.last_mut().unwrap() = b'd';
        assert!(refused(spoiled).ends_with("its checksum is wrong"));
        let mut cut = disk(&[(FILE, b"abc")]);
        cut.truncate(cut.len() - 1);
        assert!(refused(cut).ends_with("it ends early"));
    }
}
