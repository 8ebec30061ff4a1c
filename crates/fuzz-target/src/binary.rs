//! Executables and kernel modules: ELF, `#!` lines, `.modinfo`.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt;

use plumb_image::fuzz;

thread_local! {
    /// One file for all runs of a thread.
    static FILE: RefCell<File> = RefCell::new(tempfile::tempfile().expect("a temporary file"));
}

/// Far above what one binary may name: see the limits of the reader.
const NAMED_BYTES: usize = 8 << 20;

pub(crate) fn run(data: &[u8]) {
    FILE.with_borrow_mut(|file| {
        file.set_len(0).and_then(|()| file.write_all_at(data, 0)).expect("a temporary file");
        let needs = fuzz::needs(file).expect("a temporary file");
        assert!(needs.iter().map(String::len).sum::<usize>() <= NAMED_BYTES);
    });
    // The reason is for a person; that there is one is enough.
    let _ = fuzz::modinfo(data);
    let _ = fuzz::vmlinux(data);
}
