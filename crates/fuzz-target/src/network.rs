//! Frames of the private network, as a hostile guest sends them.

use plumb_target::fuzz;

pub(crate) fn run(data: &[u8]) {
    fuzz::frames(data);
}
