//! Every bound on what a delta may ask for, in one place. A delta is as hostile as the network it came over: its digest
//! is checked by whoever knows it, but nothing here depends on that.

/// Bytes of the header: a release has tens of objects, an entry is below 100 bytes; this is room for 100,000.
pub const HEADER_BYTES: usize = 16 << 20;
/// Bytes of one object: what a root file system of a machine stays far below. Keeps every sum of sizes within 64 bits.
pub const OBJECT_BYTES: u64 = 1 << 40;
/// Objects that one block may hold: their plans are in memory one after the other, but all are named in the header.
pub const BLOCK_OBJECTS: u64 = 1 << 20;
/// Bytes of the list of copies, and of modes, of one block; both are in memory. A kernel of 50 MB needs 0.4 MB.
pub const PLAN_BYTES: u64 = 32 << 20;
/// Copies of one object: 24 bytes of memory each, and as much for where addresses moved. A kernel needs 60,000.
pub const COPIES: u64 = 4 << 20;
/// Programs of one object that are foretold; images have some hundred. Each takes up to a megabyte while it lasts.
pub const PAIRS: u64 = 1 << 14;
/// Loaded ranges of one program; linkers write about five. Each is tried against each.
pub const PIECES: u64 = 16;
/// Bytes of all old programs of one object: the index of where addresses moved takes a 64th of them.
pub const PROGRAM_BYTES: u64 = 4 << 30;
/// Bytes of type descriptions (BTF) of one program, which are in memory while it is copied: a kernel has 4 MB.
pub const TYPES_BYTES: u64 = 32 << 20;
/// Bases of one object: in practice the object it replaces, and some that share files with it.
pub const OBJECT_BASES: u64 = 1 << 12;
/// Window of zstd, as a power of two: 128 MiB for new content, the only stream that can be so large.
pub const WINDOW_LOG: u32 = 27;
/// Memory of the xz decoder: its dictionary is at most [`XZ_BYTES`].
pub const XZ_MEMORY: u64 = 80 << 20;
/// Bytes that a stream has at most unpacked, if it is packed with xz, which unpacks slowly.
pub const XZ_BYTES: u64 = 16 << 20;
/// Bytes that `create` looks through for something old: places in them are 32-bit numbers.
pub const SPACE_BYTES: u64 = u32::MAX as u64;
