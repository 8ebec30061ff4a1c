//! From package contents to the bytes of one machine.
//!
//! Never sees a definition, a clock, a user id of the host or a directory order.

pub mod archive;
pub mod assemble;
mod binary;
pub mod closure;
pub mod compare;
pub mod cpio;
pub mod deb;
pub mod effect;
pub mod erofs;
pub mod footprint;
#[doc(hidden)]
pub mod fuzz;
pub mod image;
pub mod initramfs;
pub mod inventory;
pub mod kernel;
pub mod layer;
pub mod library;
pub mod module;
pub mod rule;
pub mod tree;
pub mod unit;
pub mod usage;
pub mod verity;

mod compression;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod golden;
