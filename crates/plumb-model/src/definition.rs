//! The definition: what the user writes in `plumb.toml`, checked.
