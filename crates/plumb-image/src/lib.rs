//! From package contents to the bytes of one machine.
//!
//! Never sees a definition, a clock, a user id of the host or a directory order.

pub mod tree;
