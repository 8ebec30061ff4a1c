//! What is kept of an output that may be endless: its beginning and its end.

/// Keeps the beginning and the end of what was pushed; never holds more than its limit.
#[derive(Debug)]
pub struct Excerpt {
    head: Vec<u8>,
    tail: Vec<u8>,
    head_limit: usize,
    tail_limit: usize,
    left_out: u64,
}

impl Excerpt {
    /// Keeps at most `limit` bytes: a quarter of them from the beginning, as the end mostly tells more.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let head_limit = limit / 4;
        Excerpt {
            head: Vec::new(),
            tail: Vec::new(),
            head_limit,
            tail_limit: limit - head_limit,
            left_out: 0,
        }
    }

    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.head_limit - self.head.len()));
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        let over = self.tail.len().saturating_sub(self.tail_limit);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }

    /// The text, invalid UTF-8 replaced, and how many bytes were left out between beginning and end.
    #[must_use]
    pub fn text(&self) -> (String, u64) {
        if self.left_out == 0 {
            let whole = [&self.head[..], &self.tail[..]].concat();
            return (String::from_utf8_lossy(&whole).into_owned(), 0);
        }
        let (head, tail) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(&self.tail));
        (format!("{head}\n…\n{tail}"), self.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(limit: usize, pieces: &[&str], expected: &str, left_out: u64) {
        let mut excerpt = Excerpt::new(limit);
        pieces.iter().for_each(|piece| excerpt.push(piece.as_bytes()));
        assert_eq!(excerpt.text(), (expected.to_owned(), left_out));
    }

    #[test]
    fn beginning_and_end_are_kept() {
        check(8, &[], "", 0);
        check(8, &["äb", "cdef"], "äbcdef", 0);
        check(8, &["abcdefgh"], "abcdefgh", 0);
        check(8, &["abcd", "efghi"], "ab\n…\ndefghi", 1);
        check(8, &["abcdefghijklmnopqrstuvwxyz"], "ab\n…\nuvwxyz", 18);
    }

    #[test]
    fn the_worst_output_fits_into_a_message() {
        let mut excerpt = Excerpt::new(crate::MAX_CHECK_OUTPUT_BYTES);
        excerpt.push(&[1; 100_000]);
        let (output, left_out_bytes) = excerpt.text();
        let answer = crate::CheckAnswer {
            run: u64::MAX,
            name: "x".repeat(40),
            failure: Some("x".repeat(240)),
            duration_ms: u64::MAX,
            output,
            left_out_bytes,
        };
        let line = crate::encode_line(&crate::GuestMessage::Checked(answer)).expect("it fits");
        assert!(line.len() > 6 * crate::MAX_CHECK_OUTPUT_BYTES);
    }
}
