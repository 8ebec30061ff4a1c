//! Archives of the user's choice: tarballs, zip files, wheels, by their first bytes.

use std::io::{Seek, SeekFrom, Write};

use plumb_image::archive::{strip, unpack};

use crate::object::Memory;
use crate::package::{LIMITS, check_entries};

pub(crate) fn run(data: &[u8]) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(data).and_then(|()| file.seek(SeekFrom::Start(0))).expect("a temporary file");
    let Ok(Some(entries)) = unpack(&mut file, "x", &LIMITS, &Memory::default()) else { return };
    check_entries(&entries);
    for entry in entries.values() {
        assert!(entry.mode <= 0o777 && entry.uid == 0 && entry.gid == 0 && entry.xattrs.is_empty());
    }
    if let Ok(kept) = strip(entries, 1, "x") {
        check_entries(&kept);
    }
}
