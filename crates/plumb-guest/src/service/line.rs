//! Output of services, cut into lines of a bounded length.

use plumb_guest_proto::MAX_LOG_LINE_BYTES;

use crate::report::shorten;

/// Collects bytes and gives out lines. Never holds more than one line of [`MAX_LOG_LINE_BYTES`].
#[derive(Debug, Default)]
pub struct Splitter {
    line: Vec<u8>,
    too_long: bool,
}

impl Splitter {
    /// Adds output and returns the lines that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
            let room = MAX_LOG_LINE_BYTES.saturating_sub(self.line.len());
            self.too_long |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if complete {
                lines.push(self.take());
            }
        }
        lines
    }

    /// The unfinished line, if there is one: the process has ended.
    pub fn finish(&mut self) -> Option<String> {
        if self.line.is_empty() { None } else { Some(self.take()) }
    }

    fn take(&mut self) -> String {
        let bytes = std::mem::take(&mut self.line);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        let mut text = String::from_utf8_lossy(bytes).into_owned();
        if std::mem::take(&mut self.too_long) {
            text.push('…');
        }
        // A replaced byte takes three bytes, so the text may have outgrown the limit.
        shorten(text, MAX_LOG_LINE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_pieces() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.push(b"one\ntw"), ["one"]);
        assert_eq!(splitter.push(b"o\r\n\nrest"), ["two", ""]);
        assert_eq!(splitter.finish(), Some("rest".to_owned()));
        assert_eq!(splitter.finish(), None);
    }

    #[test]
    fn long_and_broken_lines_are_bounded() {
        let mut splitter = Splitter::default();
        for _ in 0..100 {
            assert!(splitter.push(&[b'x'; 4096]).is_empty());
        }
        assert!(splitter.line.len() <= MAX_LOG_LINE_BYTES);
        let lines = splitter.push(b"\nnext\n");
        assert_eq!(
            (lines[0].len(), lines[0].ends_with('…'), lines[1].as_str()),
            (MAX_LOG_LINE_BYTES, true, "next")
        );
        let lines = splitter.push(&[vec![0xff; MAX_LOG_LINE_BYTES], vec![b'\n']].concat());
        assert!(lines[0].len() <= MAX_LOG_LINE_BYTES);
    }
}
