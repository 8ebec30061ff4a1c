//! Files that only grow, with a bound.
//!
//! ```text
//!  log.jsonl    one object per line: {"t_ms": unix ms, "uptime_ms": …, "service": "web", "line": "…"}
//!  log.jsonl.1  the previous MAX_LOG_BYTES
//!  console.log  written by QEMU (appending); emptied by us when it is too long
//!  console.log.1  the end of what was emptied
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::TargetError;
use crate::file;

/// Size at which a log is set aside: with its predecessor 16 MiB per instance, some hundred thousand lines.
const MAX_LOG_BYTES: u64 = 8 * 1024 * 1024;

/// Size at which a console is emptied. A boot writes 30 KiB; more is a loop of a service or a hostile guest.
const MAX_CONSOLE_BYTES: u64 = 4 * 1024 * 1024;

/// End of the console that is kept when it is emptied.
const KEPT_CONSOLE_BYTES: u64 = 1024 * 1024;

/// One line of `log.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When the host received it: milliseconds since 1970.
    pub t_ms: u64,
    /// Milliseconds since the guest's kernel started.
    pub uptime_ms: u64,
    /// Service; `plumb` for PID 1 itself.
    pub service: String,
    /// The line, without newline.
    pub line: String,
}

/// The open log of one instance.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Journal {
    pub fn open(path: &Path) -> Result<Journal, TargetError> {
        let file = file::append(path)?;
        let length = file.metadata().map(|data| data.len()).unwrap_or(0);
        Ok(Journal { path: path.to_owned(), file, length })
    }

    /// Appends one line in one write, so a kill leaves no half line except on a full disk.
    pub fn write(&mut self, line: &LogLine) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line).map_err(io::Error::other)?;
        bytes.push(b'\n');
        if self.length + bytes.len() as u64 > MAX_LOG_BYTES {
            fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
            self.file = file::append(&self.path).map_err(io::Error::other)?;
            self.length = 0;
        }
        self.file.write_all(&bytes)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Empties a file that another process appends to, once it is too long; its end goes to `<path>.1`.
pub(crate) fn bound_console(path: &Path) -> io::Result<()> {
    bound(path, MAX_CONSOLE_BYTES, KEPT_CONSOLE_BYTES)
}

fn bound(path: &Path, limit: u64, kept: u64) -> io::Result<()> {
    let length = match fs::metadata(path) {
        Ok(data) => data.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if length <= limit {
        return Ok(());
    }
    let mut source = OpenOptions::new().read(true).write(true).open(path)?;
    source.seek(SeekFrom::Start(length.saturating_sub(kept)))?;
    let mut end = Vec::new();
    (&mut source).take(kept).read_to_end(&mut end)?;
    fs::write(path.with_extension("log.1"), end)?;
    source.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> LogLine {
        LogLine { t_ms: 1, uptime_ms: 2, service: "web".into(), line: text.into() }
    }

    #[test]
    fn lines_are_json_and_the_log_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.write(&line("hello\n\"x\"")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"t_ms\":1,\"uptime_ms\":2,\"service\":\"web\",\"line\":\"hello\\n\\\"x\\\"\"}\n");
        let long = line(&"x".repeat(8000));
        for _ in 0..2500 {
            journal.write(&long).unwrap();
        }
        let sizes =
            [path.clone(), dir.path().join("log.jsonl.1")].map(|path| fs::metadata(path).unwrap().len());
        assert!(sizes.iter().all(|size| *size > 0 && *size <= MAX_LOG_BYTES), "{sizes:?}");
        let reopened = Journal::open(&path).unwrap();
        assert_eq!(reopened.length, sizes[0]);
    }

    #[test]
    fn a_console_is_emptied_and_its_end_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console.log");
        bound(&path, 100, 10).unwrap();
        let mut console = file::append(&path).unwrap();
        console.write_all(&[b'a'; 100]).unwrap();
        bound(&path, 100, 10).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 100);
        console.write_all(b"0123456789").unwrap();
        bound(&path, 100, 10).unwrap();
        console.write_all(b"next").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"next");
        assert_eq!(fs::read(dir.path().join("console.log.1")).unwrap(), b"0123456789");
    }
}
