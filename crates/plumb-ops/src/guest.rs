//! PID 1 of every machine, carried inside the program.

/// The static binary that `build.rs` made.
pub static GUEST: &[u8] = include_bytes!(env!("PLUMB_GUEST"));

/// Digest of the rules by which images are made: a changed rule makes new images.
pub static RULES: &str = env!("PLUMB_RULES");
