//! Lines with a limit: the only framing on the control port.

use std::io::{self, Read};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::MAX_MESSAGE_BYTES;

/// Why a line from the other side is refused.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Reading failed.
    #[error("cannot read from the control port")]
    Read(#[source] io::Error),
    /// No newline within [`MAX_MESSAGE_BYTES`].
    #[error("a message is longer than {MAX_MESSAGE_BYTES} bytes")]
    TooLong,
    /// Not one of the known messages.
    #[error("a message is not understood")]
    Malformed(#[source] serde_json::Error),
}

/// One message as a line, newline included.
///
/// # Errors
/// [`LineError::TooLong`] if the message does not fit, [`LineError::Malformed`] if it cannot be serialized.
pub fn encode_line<T: Serialize>(message: &T) -> Result<Vec<u8>, LineError> {
    let mut bytes = serde_json::to_vec(message).map_err(LineError::Malformed)?;
    bytes.push(b'\n');
    if bytes.len() > MAX_MESSAGE_BYTES { Err(LineError::TooLong) } else { Ok(bytes) }
}

/// Collects bytes and gives out whole messages. Never holds more than [`MAX_MESSAGE_BYTES`] of an unfinished line.
#[derive(Debug, Default)]
pub struct LineReader {
    buffer: Vec<u8>,
    /// Where the next message begins; what is before it was given out and goes away with the next bytes.
    start: usize,
    /// So far there is no newline in the buffer: a message that comes byte by byte is not searched again and again.
    searched: usize,
    skipping: bool,
}

impl LineReader {
    /// An empty reader.
    #[must_use]
    pub fn new() -> Self {
        LineReader::default()
    }

    /// Reads once from `source`. Returns the number of bytes read; 0 is end of stream. `WouldBlock` is passed on.
    ///
    /// # Errors
    /// Whatever `source` says.
    pub fn fill(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        let mut chunk = [0; 4096];
        let count = source.read(&mut chunk)?;
        self.push(&chunk[..count]);
        Ok(count)
    }

    /// Adds bytes that were read elsewhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one. After an error the reader goes on with the following line.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Option<Result<T, LineError>> {
        loop {
            let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') else {
                self.searched = self.buffer.len();
                if self.buffer.len() - self.start <= MAX_MESSAGE_BYTES {
                    return None;
                }
                self.buffer.clear();
                (self.start, self.searched) = (0, 0);
                let first = !std::mem::replace(&mut self.skipping, true);
                return first.then_some(Err(LineError::TooLong));
            };
            let end = self.searched + end + 1;
            let line = &self.buffer[self.start..end];
            (self.start, self.searched) = (end, end);
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if line.len() > MAX_MESSAGE_BYTES {
                return Some(Err(LineError::TooLong));
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            return Some(serde_json::from_slice(text).map_err(LineError::Malformed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostMessage;

    fn collect(chunks: &[&[u8]]) -> Vec<String> {
        let mut reader = LineReader::new();
        let mut seen = Vec::new();
        for chunk in chunks {
            reader.push(chunk);
            while let Some(message) = reader.next_message::<HostMessage>() {
                seen.push(match message {
                    Ok(message) => format!("{message:?}"),
                    Err(error) => error.to_string(),
                });
            }
        }
        seen
    }

    #[test]
    fn messages_in_pieces() {
        assert_eq!(
            collect(&[b"{\"type\":\"sta", b"tus\"}\n\n{\"type\":\"shutdown\"}\n{\"type\":\"no\"}\n"]),
            ["Status", "Shutdown", "a message is not understood"]
        );
    }

    #[test]
    fn a_flood_without_newline_is_refused_once_and_skipped() {
        let flood = vec![b'x'; MAX_MESSAGE_BYTES + 1];
        assert_eq!(
            collect(&[&flood, &flood, b"xx\n{\"type\":\"status\"}\n"]),
            [format!("a message is longer than {MAX_MESSAGE_BYTES} bytes"), "Status".to_owned()]
        );
    }

    #[test]
    fn line_round_trip() {
        let bytes = encode_line(&HostMessage::Shutdown).expect("fits");
        assert_eq!(bytes, b"{\"type\":\"shutdown\"}\n");
    }
}
