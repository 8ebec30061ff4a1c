//! Where the programs (ELF files for x86-64) lie in an object, and at which address each of their bytes runs.
//!
//! They are found by their magic, wherever they begin: an EROFS image, a cpio archive and a plain file look alike from
//! here. Only `create` looks; what it found travels in the delta, so `apply` parses no program.

use elf::ElfBytes;
use elf::abi::{EI_NIDENT, EM_X86_64, ET_REL, PF_X, PT_LOAD, SHF_EXECINSTR, SHT_NOBITS};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::SegmentTable;

use crate::limit::{PIECES, TYPES_BYTES};
use crate::model::Piece;

/// Files in images begin at multiples of this (newc pads to 4, EROFS to more).
const ALIGNMENT: usize = 4;
/// Magic, 64 bits, little endian, version 1.
const MAGIC: &[u8] = b"\x7fELF\x02\x01\x01";
/// An image may keep the last bytes of a file elsewhere, if they are less than this; the next file then follows early.
const TAIL: usize = 4096;
/// Bytes of the file header.
const HEADER: usize = 64;

/// One program in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// First byte.
    pub(crate) start: usize,
    /// One behind the last.
    pub(crate) end: usize,
    /// What is loaded where, by offset within the program.
    pub(crate) pieces: Vec<Piece>,
    /// Ranges of instructions, within the object.
    pub(crate) code: Vec<(usize, usize)>,
    /// Range of the type descriptions, within the program; empty if there are none.
    pub(crate) types: (usize, usize),
}

impl Program {
    /// As it is in an object that has `by` more bytes before it.
    pub(crate) fn shift(&mut self, by: usize) {
        self.start += by;
        self.end += by;
        self.code.iter_mut().for_each(|(start, end)| (*start, *end) = (*start + by, *end + by));
    }

    /// Ends the program at `end` at the latest, and everything that lies in it.
    fn cut(&mut self, end: usize) {
        self.end = self.end.min(end);
        self.code.retain_mut(|(from, to)| {
            *to = (*to).min(end);
            from < to
        });
        if self.types.1 > self.end - self.start {
            self.types = (0, 0);
        }
    }
}

/// All programs in `bytes`, by position; they do not overlap.
pub(crate) fn find(bytes: &[u8]) -> Vec<Program> {
    let mut found: Vec<Program> = Vec::new();
    let mut at = 0;
    while at + HEADER <= bytes.len() {
        // A kernel holds small programs (the vDSO): they are part of it.
        let within = found.last().is_some_and(|last| at < last.start + (last.end - last.start) / TAIL * TAIL);
        if bytes[at] == MAGIC[0]
            && !within
            && bytes[at..].starts_with(MAGIC)
            && let Some(program) = parse(bytes, at)
        {
            if let Some(last) = found.last_mut() {
                last.cut(at);
            }
            found.push(program);
        }
        at += ALIGNMENT;
    }
    found
}

/// The program that begins at `start`. An image may keep the end of a file elsewhere, so that only what is loaded is
/// sure to follow; section headers are not.
fn parse(bytes: &[u8], start: usize) -> Option<Program> {
    let rest = &bytes[start..];
    let header = parse_ident::<LittleEndian>(&rest[..EI_NIDENT]).ok()?;
    let header = FileHeader::parse_tail(header, &rest[EI_NIDENT..HEADER]).ok()?;
    if header.e_machine != EM_X86_64 {
        return None;
    }
    if header.e_type == ET_REL {
        return object_file(rest, start);
    }
    let table = rest.get(usize::try_from(header.e_phoff).ok()?..)?;
    let table = table.get(..usize::from(header.e_phnum) * usize::from(header.e_phentsize))?;
    let room = rest.len() as u64;
    let (mut pieces, mut code, mut end) = (Vec::new(), Vec::new(), HEADER as u64);
    for segment in SegmentTable::new(LittleEndian, Class::ELF64, table) {
        let length = segment.p_filesz.min(segment.p_memsz);
        if segment.p_type != PT_LOAD || length == 0 {
            continue;
        }
        let offset = segment.p_offset;
        let segment_end = offset.checked_add(length).filter(|end| *end <= room)?;
        segment.p_vaddr.checked_add(length)?;
        end = end.max(segment_end);
        pieces.push(Piece { offset, address: segment.p_vaddr, length });
        if segment.p_flags & PF_X != 0 {
            code.push((start + offset as usize, start + segment_end as usize));
        }
    }
    let mut types = (0, 0);
    if let Some(sections) = sections(rest) {
        code = sections.code.into_iter().map(|(from, to)| (start + from, start + to)).collect();
        types = sections.types;
    }
    code.sort_unstable();
    let sane = !pieces.is_empty() && pieces.len() as u64 <= PIECES;
    let mut program = Program { start, end: start + end as usize, pieces, code, types };
    program.cut(program.end);
    sane.then_some(program)
}

/// What section headers say.
#[derive(Default)]
struct Sections {
    /// Ranges of instructions: closer than the segments, which hold tables too.
    code: Vec<(usize, usize)>,
    types: (usize, usize),
    end: usize,
}

/// `None` where the section headers are not at their place.
fn sections(rest: &[u8]) -> Option<Sections> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(rest).ok()?;
    let (headers, names) = file.section_headers_with_strtab().ok()?;
    let (headers, names) = (headers?, names?);
    if names.get(headers.get(file.ehdr.e_shstrndx.into()).ok()?.sh_name as usize).ok()? != ".shstrtab" {
        return None;
    }
    let mut found = Sections::default();
    for section in headers.iter().filter(|section| section.sh_type != SHT_NOBITS) {
        let end = section.sh_offset.checked_add(section.sh_size).filter(|end| *end <= rest.len() as u64)?;
        let range = (section.sh_offset as usize, end as usize);
        found.end = found.end.max(range.1);
        if section.sh_flags & u64::from(SHF_EXECINSTR) != 0 {
            found.code.push(range);
        }
        if names.get(section.sh_name as usize).is_ok_and(|name| name == ".BTF")
            && section.sh_size <= TYPES_BYTES
        {
            found.types = range;
        }
    }
    Some(found)
}

/// A file for the linker, such as a kernel module: nothing has an address yet, so its own order stands for it.
fn object_file(rest: &[u8], start: usize) -> Option<Program> {
    let sections = sections(rest)?;
    let end = start + sections.end.max(HEADER);
    // Its types still refer to its strings.
    let pieces = vec![Piece { offset: 0, address: 0, length: (end - start) as u64 }];
    Some(Program { start, end, pieces, code: Vec::new(), types: sections.types })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of one loaded segment of `length` bytes of instructions.
    fn program(length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        out[..7].copy_from_slice(MAGIC);
        out[16..21].copy_from_slice(&[3, 0, 62, 0, 1]); // ET_DYN, EM_X86_64, version
        (out[32], out[54], out[56]) = (64, 56, 1); // e_phoff, e_phentsize, e_phnum
        for (field, value) in
            [5 << 32 | 1, 0, 0x1000, 0, length as u64, length as u64, 1].into_iter().enumerate()
        {
            out[64 + field * 8..][..8].copy_from_slice(&u64::to_le_bytes(value));
        }
        out
    }

    #[test]
    fn programs_are_found_wherever_they_begin_and_do_not_overlap() {
        // An image that keeps the last bytes of the first file elsewhere, so that the second begins early.
        let mut image = vec![1; 8192];
        image.extend_from_slice(&program(10_000)[..8192]);
        image.extend_from_slice(&program(6000));
        image.extend_from_slice(b"\x7fELF\x02\x01\x01 but nothing more");
        let found = find(&image);
        let ranges: Vec<(usize, usize)> = found.iter().map(|program| (program.start, program.end)).collect();
        assert_eq!(ranges, [(8192, 16384), (16384, 22384)]);
        assert_eq!(found[0].code, [(8192, 16384)]);
        assert_eq!(found[1].pieces, [Piece { offset: 0, address: 0x1000, length: 6000 }]);
    }

    #[test]
    fn a_program_within_a_program_is_part_of_it() {
        let mut kernel = program(50_000);
        kernel[20_000..26_000].copy_from_slice(&program(6000));
        assert_eq!(find(&kernel).len(), 1);
    }
}
