//! What an executable file needs: the few fields of ELF (elf(5)) and of `#!` lines that decide it.
//!
//! Read by position from the object, with every length bounded: the file is as hostile as the package it comes from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use plumb_model::Digest;
use rayon::prelude::*;

use crate::tree::{Kind, Objects, Tree};

/// Longest `#!` line: BINPRM_BUF_SIZE of Linux.
const LINE_BYTES: usize = 256;
/// Most program headers; linkers write about a dozen.
const PROGRAM_HEADERS: u64 = 512;
/// Longest name or path that a binary may ask for: PATH_MAX of Linux.
const NAME_BYTES: usize = 4096;
/// Most libraries one binary may need; LibreOffice's largest needs about 100. Each could name the same long string.
const NEEDED: usize = 1024;
/// Largest dynamic section and string table read; libraries with 100,000 symbols stay below.
const TABLE_BYTES: u64 = 64 << 20;

/// What a file asks for when it is executed or loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Binary {
    Elf(Elf),
    /// `#!` with the interpreter's path and its first argument.
    Script {
        interpreter: String,
        argument: Option<String>,
    },
}

/// The fields of an ELF file that linking depends on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Elf {
    /// `e_machine`, and 32 or 64: libraries match only among equals.
    pub(crate) machine: (u16, u8),
    /// `PT_INTERP`.
    pub(crate) interpreter: Option<String>,
    /// `DT_SONAME`.
    pub(crate) soname: Option<String>,
    /// `DT_NEEDED`, in order.
    pub(crate) needed: Vec<String>,
    /// `DT_RPATH`, `DT_RUNPATH`, split at colons.
    pub(crate) rpath: Vec<String>,
    pub(crate) runpath: Vec<String>,
    /// Has a dynamic section, so it can be loaded or needs a loader.
    pub(crate) dynamic: bool,
}

/// All binaries of a tree by content.
///
/// # Errors
/// What opening or reading an object says.
pub(crate) fn scan(tree: &Tree, objects: &dyn Objects) -> io::Result<BTreeMap<Digest, Binary>> {
    let mut digests: Vec<Digest> = tree
        .entries
        .values()
        .filter_map(|(entry, _)| match entry.kind {
            Kind::File { digest, size } if size > 4 => Some(digest),
            _ => None,
        })
        .collect();
    digests.sort_unstable();
    digests.dedup();
    let found: io::Result<Vec<Option<(Digest, Binary)>>> = digests
        .into_par_iter()
        .map(|digest| Ok(read(&objects.open(&digest)?)?.map(|binary| (digest, binary))))
        .collect();
    Ok(found?.into_iter().flatten().collect())
}

/// Reads one file; a broken ELF file counts as data, as the kernel would refuse it.
pub(crate) fn read(file: &File) -> io::Result<Option<Binary>> {
    let mut head = [0; LINE_BYTES];
    let mut length = 0;
    while length < head.len() {
        match file.read_at(&mut head[length..], length as u64)? {
            0 => break,
            got => length += got,
        }
    }
    let head = &head[..length];
    if head.starts_with(b"#!") {
        let line = head[2..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.trim().splitn(2, [' ', '\t']);
        let interpreter = words.next().unwrap_or_default().to_owned();
        let argument = words.next().map(|rest| rest.trim().to_owned());
        return Ok((!interpreter.is_empty()).then_some(Binary::Script { interpreter, argument }));
    }
    if head.starts_with(b"\x7fELF") { Ok(elf(file, head).map(Binary::Elf)) } else { Ok(None) }
}

/// A little-endian number of 2, 4 or 8 bytes.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let part = bytes.get(at..at.checked_add(width)?)?;
    Some(part.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn bytes_at(file: &File, offset: u64, size: u64) -> Option<Vec<u8>> {
    if size > TABLE_BYTES || offset.checked_add(size)? > file.metadata().ok()?.len() {
        return None;
    }
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// Program header: type, offset, address, file size.
type Segment = (u64, u64, u64, u64);

fn segments(file: &File, head: &[u8], wide: bool) -> Option<Vec<Segment>> {
    let (offset, width, count) = if wide {
        (number(head, 32, 8)?, number(head, 54, 2)?, number(head, 56, 2)?)
    } else {
        (number(head, 28, 4)?, number(head, 42, 2)?, number(head, 44, 2)?)
    };
    if count > PROGRAM_HEADERS || width < if wide { 56 } else { 32 } {
        return None;
    }
    let table = bytes_at(file, offset, width * count)?;
    let segment = |header: &[u8]| {
        Some(if wide {
            (number(header, 0, 4)?, number(header, 8, 8)?, number(header, 16, 8)?, number(header, 32, 8)?)
        } else {
            (number(header, 0, 4)?, number(header, 4, 4)?, number(header, 8, 4)?, number(header, 16, 4)?)
        })
    };
    table.chunks_exact(usize::try_from(width).ok()?).map(segment).collect()
}

fn elf(file: &File, head: &[u8]) -> Option<Elf> {
    const PT_LOAD: u64 = 1;
    const PT_DYNAMIC: u64 = 2;
    const PT_INTERP: u64 = 3;
    let wide = match head.get(4)? {
        1 => false,
        2 => true,
        _ => return None,
    };
    if *head.get(5)? != 1 {
        return None; // big endian: no machine Plumb boots
    }
    let bits = if wide { 64 } else { 32 };
    let mut elf = Elf { machine: (u16::try_from(number(head, 18, 2)?).ok()?, bits), ..Elf::default() };
    let segments = segments(file, head, wide)?;
    if let Some((_, offset, _, size)) = segments.iter().find(|segment| segment.0 == PT_INTERP) {
        let path = bytes_at(file, *offset, (*size).min(4096))?;
        elf.interpreter = text(&path, 0);
    }
    let Some((_, offset, _, size)) = segments.iter().find(|segment| segment.0 == PT_DYNAMIC) else {
        return Some(elf);
    };
    elf.dynamic = true;
    let width = if wide { 8 } else { 4 };
    let table = bytes_at(file, *offset, *size)?;
    let tags: Vec<(u64, u64)> = table
        .chunks_exact(2 * width)
        .map_while(|pair| Some((number(pair, 0, width)?, number(pair, width, width)?)))
        .take_while(|(tag, _)| *tag != 0)
        .collect();
    let value = |wanted: u64| tags.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
    let (Some(address), Some(length)) = (value(5), value(10)) else { return Some(elf) }; // DT_STRTAB, DT_STRSZ
    let load = segments
        .iter()
        .find(|(kind, _, start, size)| *kind == PT_LOAD && address >= *start && address - start < *size)?;
    let strings = bytes_at(file, load.1.checked_add(address - load.2)?, length)?;
    let split = |list: String| list.split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for (tag, value) in &tags {
        let string = || text(&strings, usize::try_from(*value).ok()?);
        match tag {
            1 if elf.needed.len() == NEEDED => return None,
            1 => elf.needed.extend(string()),
            14 => elf.soname = string(),
            15 => elf.rpath = string().map(split).unwrap_or_default(),
            29 => elf.runpath = string().map(split).unwrap_or_default(),
            _ => {}
        }
    }
    Some(elf)
}

fn text(bytes: &[u8], at: usize) -> Option<String> {
    let rest = bytes.get(at..)?;
    let end = rest.iter().take(NAME_BYTES).position(|byte| *byte == 0)?;
    String::from_utf8(rest[..end].to_vec()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_readable() {
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        let Some(Binary::Elf(elf)) = read(&file).unwrap() else { panic!("no ELF") };
        assert!(elf.interpreter.unwrap().contains("ld-linux"));
        assert!(elf.needed.iter().any(|name| name == "libc.so.6"));
    }

    /// A program that needs `count` libraries, all with the same name of `length` bytes.
    fn needing(count: usize, length: usize) -> Option<Elf> {
        let (dynamic, strings) = (64 + 2 * 56, 64 + 2 * 56 + 16 * (count + 3));
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        (bytes[54], bytes[56]) = (56, 2);
        let whole = (strings + length + 2) as u64;
        for (kind, offset, size) in [(1, 0, whole), (2, dynamic as u64, 16 * (count as u64 + 3))] {
            let header = [kind, offset, offset, 0, size, size, 0].map(u64::to_le_bytes).concat();
            bytes.extend(header);
        }
        let tags = std::iter::repeat_n([1, 1], count);
        for pair in tags.chain([[5, strings as u64], [10, length as u64 + 2], [0, 0]]) {
            bytes.extend(pair.map(u64::to_le_bytes).concat());
        }
        bytes.push(0);
        bytes.extend(vec![b'x'; length]);
        bytes.push(0);
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        match read(&file).unwrap() {
            Some(Binary::Elf(elf)) => Some(elf),
            _ => None,
        }
    }

    #[test]
    fn names_are_limited_in_length_and_number() {
        assert_eq!(needing(3, 10).unwrap().needed, vec!["x".repeat(10); 3]);
        assert_eq!(needing(NEEDED, 10).unwrap().needed.len(), NEEDED);
        assert_eq!(needing(NEEDED + 1, 10), None);
        assert_eq!(needing(3, NAME_BYTES).unwrap().needed, Vec::<String>::new());
    }

    #[test]
    fn broken_files_are_data() {
        let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (at, cut) in [(0, 5), (1, 63), (2, 64), (3, 200), (4, 4096)] {
            let path = folder.path().join(at.to_string());
            let mut bytes = whole[..cut].to_vec();
            if cut > 60 {
                bytes[54..58].fill(0xff);
            }
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(read(&File::open(&path).unwrap()).unwrap(), None);
        }
    }
}
