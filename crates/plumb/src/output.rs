//! The door to standard output and standard error.
//!
//! A reader that has gone (`plumb footprint shop | head`) has read enough: what is left is said to nobody, and the command
//! goes on to its end, as what it does is not what it says. Any other failure, such as a full disk, is kept, and the
//! program ends with it.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write as _};
use std::sync::OnceLock;

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
    if let Err(error) = writeln!(io::stdout().lock(), "{text}")
        && error.kind() != ErrorKind::BrokenPipe
    {
        // Only the first one says why.
        let _ = FAILURE.set(error);
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
