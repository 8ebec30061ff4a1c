//! Doors for the fuzz targets: parsers that the product reaches only behind sockets. Nothing else uses them.

use std::io;

use crate::frame::{FrameReader, HEADER_BYTES};
use crate::qmp;
use crate::switch::{MAX_QUEUE_BYTES, Mac, Switch};

/// Addresses of the ports 1 to 3; port 1 is the hostile one.
const MACS: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3]];

/// Sends what port 1 wrote to its link through the switch, read in pieces whose length the first byte says.
///
/// # Panics
/// If a frame with a foreign source gets through, comes back, or a queue grows beyond its limit.
pub fn frames(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let mut switch = Switch::default();
    for (id, mac) in (1..).zip(MACS) {
        switch.add(id, Mac(mac));
        switch.set_link(id, true);
    }
    let mut reader = FrameReader::new();
    for mut piece in data.chunks(usize::from(*piece).max(1) * 16) {
        while !piece.is_empty() {
            if reader.fill(&mut piece).is_err() {
                return;
            }
            loop {
                match reader.next() {
                    Ok(Some(frame)) => switch.forward(1, frame),
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    }
    for id in 1..=3 {
        let Some(port) = switch.port(id) else { continue };
        let mut waiting = port.pending();
        assert!(waiting.len() <= MAX_QUEUE_BYTES && (id != 1 || waiting.is_empty()));
        while let Some((header, rest)) = waiting.split_first_chunk::<HEADER_BYTES>() {
            let (frame, rest) = rest.split_at(u32::from_be_bytes(*header) as usize);
            assert_eq!(frame[6..12], MACS[0], "a frame with a foreign source got through");
            waiting = rest;
        }
    }
}

/// Reads QEMU's answers to one question.
///
/// # Errors
/// What is wrong with them.
pub fn qmp(answers: &[u8]) -> io::Result<serde_json::Value> {
    qmp::ask(answers, &mut io::sink(), "query-status")
}
