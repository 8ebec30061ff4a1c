//! What is done with hostile bytes: one function per parser that eats foreign ones.
//!
//! The fuzzers in `fuzz/` and the replay of their corpora (`tests/replay.rs`, on stable, in every CI run) call the same
//! functions. Each panics when a property breaks: written and read again is equal, no path leads outside, nothing grows
//! beyond its limit. What must not panic, hang or eat memory is everything else.

mod account;
mod advisory;
mod answer;
mod archive;
mod binary;
mod content;
mod debian;
mod definition;
mod delta;
mod document;
mod kernel;
mod layer;
mod message;
mod network;
mod object;
mod package;
mod path;
mod script;
mod signature;
mod trust;
mod unit;

/// One parser under attack.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name of the fuzzer and of its corpus, `fuzz/corpus/<name>`.
    pub name: &'static str,
    /// Does with the bytes what the product does; panics if a property breaks.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "account", run: account::run },
    Target { name: "advisory", run: advisory::run },
    Target { name: "answer", run: answer::run },
    Target { name: "archive", run: archive::run },
    Target { name: "content", run: content::run },
    Target { name: "deb", run: package::run },
    Target { name: "definition", run: definition::run },
    Target { name: "delta", run: delta::run },
    Target { name: "document", run: document::run },
    Target { name: "elf", run: binary::run },
    Target { name: "frame", run: network::run },
    Target { name: "index", run: debian::run },
    Target { name: "kernel", run: kernel::run },
    Target { name: "layer", run: layer::run },
    Target { name: "message", run: message::run },
    Target { name: "script", run: script::run },
    Target { name: "signature", run: signature::run },
    Target { name: "trust", run: trust::run },
    Target { name: "unit", run: unit::run },
];

/// The target with this name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("no fuzz target `{name}`"))
}
