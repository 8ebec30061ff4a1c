//! The journal, as journalctl(1) follows it: what units say, and what systemd says about them.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command};

use plumb_guest_proto::LineReader;
use serde_json::Value;

use super::look;
use crate::error::Error;
use crate::{file, limit};

const PROGRAM: &str = "/usr/bin/journalctl";

/// What an entry is read for: systemd.journal-fields(7).
const FIELDS: &str = "MESSAGE,UNIT,_PID,_SYSTEMD_UNIT,SYSLOG_IDENTIFIER";

/// Where an agent that is started again goes on.
const CURSOR: &str = "/run/plumb/agent/cursor";

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Unit that said it, or the program's name for itself.
    pub source: String,
    /// The unit that systemd speaks about.
    pub about: Option<String>,
    /// Its lines.
    pub lines: Vec<String>,
}

/// The end of the journal as it grows.
#[derive(Debug, Default)]
pub struct Journal {
    running: Option<(Child, File)>,
    reader: LineReader,
    /// Of the last entry that was read.
    cursor: Option<String>,
}

impl Journal {
    /// Whether it is followed.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Follows it: all of this boot, or what came after the last entry that was read, also by an agent before this one.
    ///
    /// # Errors
    /// A sentence naming the program.
    pub fn start(&mut self) -> Result<(), String> {
        let mut command = Command::new(PROGRAM);
        command.args(["--follow", "--no-tail", "--boot", "--quiet", "--all", "--output=json"]);
        command.arg(format!("--output-fields={FIELDS}"));
        if let Ok(cursor) = file::read_text(CURSOR) {
            command.arg(format!("--after-cursor={cursor}"));
        }
        // The kernel speaks on the console.
        command.args(["_TRANSPORT=journal", "_TRANSPORT=stdout", "_TRANSPORT=syslog"]);
        self.reader = LineReader::new();
        self.running =
            Some(look::start(&mut command).map_err(|error| format!("cannot run `{PROGRAM}`: {error}"))?);
        Ok(())
    }

    /// What to poll for reading.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.running.as_ref().map(|(_, output)| output.as_fd())
    }

    /// What has come.
    pub fn read(&mut self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for _ in 0..limit::JOURNAL_READS_PER_TURN {
            let Some((_, output)) = &mut self.running else { break };
            match self.reader.fill(output) {
                Ok(0) => self.stop(),
                Ok(_) => self.take(&mut entries),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => self.stop(),
            }
        }
        entries
    }

    /// Keeps how far it was read, for an agent after this one.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn remember(&mut self) -> Result<(), Error> {
        self.cursor.take().map_or(Ok(()), |cursor| file::write(CURSOR, &cursor))
    }

    fn take(&mut self, entries: &mut Vec<Entry>) {
        while let Some(message) = self.reader.next_message::<Value>() {
            // One that is longer than a message or no JSON at all is passed over; it stays in the journal.
            let Ok(value) = message else { continue };
            if let Some(newest) = value.get("__CURSOR").and_then(Value::as_str) {
                self.cursor = Some(newest.to_owned());
            }
            entries.push(entry(&value));
        }
    }

    fn stop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // Its output has ended; the next one is started after a pause.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The JSON form of an entry: journalctl(1), `--output=json`.
fn entry(value: &Value) -> Entry {
    let field = |name: &str| value.get(name).map(text).filter(|text| !text.is_empty());
    let is_systemd = field("_PID").as_deref() == Some("1");
    let own = || field("_SYSTEMD_UNIT").or_else(|| field("SYSLOG_IDENTIFIER"));
    let source =
        if is_systemd { "systemd".to_owned() } else { own().unwrap_or_else(|| "journal".to_owned()) };
    let lines = field("MESSAGE").unwrap_or_default().lines().map(str::to_owned).collect();
    Entry { source, about: field("UNIT").filter(|_| is_systemd), lines }
}

/// A field is a text, an array of bytes if it is none, or an array of several; the last of them counts.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_u64) => {
            let bytes = items.iter().filter_map(|item| u8::try_from(item.as_u64()?).ok());
            String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
        }
        Value::Array(items) => items.last().map(text).unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(value: &Value, source: &str, about: Option<&str>, lines: &[&str]) {
        let expected = Entry {
            source: source.to_owned(),
            about: about.map(str::to_owned),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        assert_eq!(entry(value), expected);
    }

    #[test]
    fn entries_by_who_says_them() {
        let service = json!({"_PID": "70", "_SYSTEMD_UNIT": "nginx.service", "MESSAGE": "a\nb"});
        check(&service, "nginx.service", None, &["a", "b"]);
        let systemd = json!({"_PID": "1", "_SYSTEMD_UNIT": "init.scope", "UNIT": "nginx.service",
            "MESSAGE": "Started nginx."});
        check(&systemd, "systemd", Some("nginx.service"), &["Started nginx."]);
        // Whoever says to be systemd and is not cannot speak about other units.
        let liar =
            json!({"_PID": "9", "_SYSTEMD_UNIT": "a.service", "UNIT": "nginx.service", "MESSAGE": "x"});
        check(&liar, "a.service", None, &["x"]);
        check(
            &json!({"SYSLOG_IDENTIFIER": "cron", "MESSAGE": [104, 195, 40]}),
            "cron",
            None,
            &["h\u{fffd}("],
        );
        check(&json!({"MESSAGE": null}), "journal", None, &[]);
        check(&json!({"MESSAGE": ["one", "two"], "_PID": "3"}), "journal", None, &["two"]);
    }
}
