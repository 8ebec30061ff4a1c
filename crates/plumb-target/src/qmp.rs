//! The little of QMP that is needed (docs/interop/qmp-spec.txt of QEMU): greeting, capabilities, one command.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::TargetError;
use crate::socket;

/// How long QEMU may take for one answer. Its main loop is held up by a loaded host, never for this long by itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Longest answer to the commands used here, events included.
const MAX_ANSWER_BYTES: u64 = 256 * 1024;

/// Runs one command without arguments and returns its result.
pub(crate) fn execute(path: &Path, command: &str) -> Result<Value, TargetError> {
    converse(path, command).map_err(|source| TargetError::Qmp { path: path.to_owned(), source })
}

fn converse(path: &Path, command: &str) -> io::Result<Value> {
    let stream = socket::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let mut writer = stream.try_clone()?;
    ask(stream, &mut writer, command)
}

/// Greeting, capabilities, the command: what is read from `reader`, whatever it says, is bounded.
pub(crate) fn ask(reader: impl Read, writer: &mut dyn Write, command: &str) -> io::Result<Value> {
    let mut reader = BufReader::new(reader.take(MAX_ANSWER_BYTES));
    let greeting = read(&mut reader)?;
    if greeting.get("QMP").is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no QMP greeting"));
    }
    for command in ["qmp_capabilities", command] {
        writeln!(writer, "{}", json!({ "execute": command }))?;
        let answer = loop {
            let message = read(&mut reader)?;
            if let Some(error) = message.get("error") {
                return Err(io::Error::other(format!("`{command}`: {error}")));
            }
            // Events come in between.
            if let Some(answer) = message.get("return") {
                break answer.clone();
            }
        };
        if command != "qmp_capabilities" {
            return Ok(answer);
        }
    }
    Ok(Value::Null)
}

fn read(reader: &mut impl BufRead) -> io::Result<Value> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}
