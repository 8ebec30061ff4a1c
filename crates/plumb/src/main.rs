//! Plumb: one application as one coordinated set of version-managed, minimal virtual machines.
fn main() {}
