//! The little of QMP that is needed (docs/interop/qmp-spec.txt of QEMU): greeting, capabilities, one command.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::error::TargetError;
use crate::socket;

/// How long QEMU may take for one answer. Its main loop is held up by a loaded host, never for this long by itself.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Reads that one conversation may take: each may wait [`ANSWER_LIMIT`], and a QEMU that a guest has taken over could
/// send byte after byte. A real answer comes in one or two.
const MAX_READS: usize = 64;

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
    let mut reader = BufReader::new(Patience { inner: reader.take(MAX_ANSWER_BYTES), left: MAX_READS });
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

/// Reads so often and no more.
struct Patience<R> {
    inner: R,
    left: usize,
}

impl<R: Read> Read for Patience<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(1).ok_or(io::ErrorKind::TimedOut)?;
        self.inner.read(buffer)
    }
}

fn read(reader: &mut impl BufRead) -> io::Result<Value> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One byte per read.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = buffer.len().min(1);
            self.0.read(&mut buffer[..length])
        }
    }

    #[test]
    fn answers_are_found_between_events_and_bounded() {
        let good = "{\"QMP\":{}}\n{\"return\":{}}\n{\"event\":\"STOP\"}\n{\"return\":{\"a\":1}}\n";
        let mut asked = Vec::new();
        assert_eq!(ask(good.as_bytes(), &mut asked, "query-x").unwrap(), json!({ "a": 1 }));
        assert_eq!(asked, b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-x\"}\n");
        let refused = |answers: &[u8]| ask(answers, &mut io::sink(), "x").unwrap_err().kind();
        assert_eq!(refused(b"{}\n"), io::ErrorKind::InvalidData);
        assert_eq!(refused(b"{\"QMP\":{}}\n{\"error\":{}}\n"), io::ErrorKind::Other);
        let endless = [b"{\"QMP\":{}}\n".as_slice(), &b"{\"event\":1}\n".repeat(100_000)].concat();
        assert_eq!(refused(&endless), io::ErrorKind::UnexpectedEof);
        let slow = ask(Drip(&endless), &mut io::sink(), "x").unwrap_err();
        assert_eq!(slow.kind(), io::ErrorKind::TimedOut);
    }
}
