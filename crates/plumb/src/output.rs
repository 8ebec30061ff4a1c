//! The door to standard output and standard error.
//!
//! A reader that has gone (`plumb footprint shop | head`) has read enough: what is left is said to nobody, and the command
//! goes on to its end, as what it does is not what it says. Any other failure, such as a full disk, is kept, and the
//! program ends with it.

use std::fmt::Arguments;
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::sync::OnceLock;

use serde::Serialize;

/// The first failure of standard output.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Prints a line of the result.
macro_rules! out {
    () => { $crate::output::line(format_args!("")) };
    ($($argument:tt)*) => { $crate::output::line(format_args!($($argument)*)) };
}

/// Prints a line that is not the result: progress, notes, errors.
macro_rules! err {
    ($($argument:tt)*) => { $crate::output::note(format_args!($($argument)*)) };
}

pub(crate) use {err, out};

/// Writes to standard output.
pub(crate) fn line(text: Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{text}") {
        keep(error);
    }
}

fn keep(error: io::Error) {
    if error.kind() != ErrorKind::BrokenPipe {
        // Only the first one says why.
        let _ = FAILURE.set(error);
    }
}

/// Bytes that are written at once: as much as a pipe takes.
const BLOCK_BYTES: usize = 64 * 1024;

/// Writes a value as JSON to standard output: as it is made, never holding all of it. Values of Plumb have keys that are
/// text, so that nothing can fail but the writing.
pub(crate) fn json<T: Serialize>(value: &T) {
    let mut to = BufWriter::with_capacity(BLOCK_BYTES, io::stdout().lock());
    let outcome = serde_json::to_writer_pretty(&mut to, value).map_err(io::Error::from);
    let outcome = outcome.and_then(|()| to.write_all(b"\n")).and_then(|()| to.flush());
    // What was not written is no longer wanted.
    drop(to.into_parts());
    if let Err(error) = outcome {
        keep(error);
    }
}

/// Writes to standard error.
pub(crate) fn note(text: Arguments<'_>) {
    // If this fails there is nobody left to be told.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Why not everything could be printed, if so.
pub(crate) fn failure() -> Option<&'static io::Error> {
    FAILURE.get()
}
