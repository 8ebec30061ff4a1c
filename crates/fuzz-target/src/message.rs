//! The control port, from both sides, and what QEMU says on its own socket.
//!
//! The first byte is the length of the pieces in which the rest arrives.

use plumb_guest_proto::{GuestMessage, HostMessage, LineReader, MAX_MESSAGE_BYTES, encode_line};
use plumb_target::{GuestRecord, fuzz};

/// What the host keeps of one guest, whatever the guest says: 128 events and the last state, each within one message.
const RECORD_BYTES: usize = 136 * (MAX_MESSAGE_BYTES + 1024);

pub(crate) fn run(data: &[u8]) {
    let Some((piece, data)) = data.split_first() else { return };
    let piece = usize::from(*piece).max(1) * 16;
    let mut record = GuestRecord::default();
    read::<GuestMessage>(data, piece, |message| record.take(message, u64::MAX));
    let written = serde_json::to_vec(&record).expect("a record is written");
    assert!(written.len() <= RECORD_BYTES, "{} bytes about one guest", written.len());
    assert_eq!(serde_json::from_slice::<GuestRecord>(&written).expect("and read again"), record);
    read::<HostMessage>(data, piece, drop);
    // Any answer will do.
    let _ = fuzz::qmp(data);
}

/// All messages; what is sent in pieces and what is sent again is the same.
fn read<T>(data: &[u8], piece: usize, mut take: impl FnMut(T))
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug + Clone,
{
    let (mut reader, mut again) = (LineReader::new(), LineReader::new());
    for piece in data.chunks(piece) {
        reader.push(piece);
        while let Some(message) = reader.next_message::<T>() {
            let Ok(message) = message else { continue };
            // A message may grow when it is written: numbers and escapes have more than one form.
            if let Ok(line) = encode_line(&message) {
                again.push(&line);
                assert_eq!(again.next_message::<T>().expect("a line").expect("a message"), message);
            }
            take(message);
        }
    }
}
