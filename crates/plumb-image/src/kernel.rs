//! From a distribution's kernel file to what QEMU boots without a boot loader.
//!
//! ```text
//!  bzImage   0x1f1 setup sectors   0x202 "HdrS"   0x206 protocol   0x20e version string - 0x200
//!            0x248 payload offset from the protected-mode code   0x24c payload length
//!            protected-mode code at (setup sectors + 1) * 512
//!  payload   compressed vmlinux ELF, then relocations; behind it, unless gzip, the uncompressed size (4 bytes)
//! ```
//!
//! Source: kernel `Documentation/arch/x86/boot.rst`, protocol 2.08 and newer. Booting the ELF through its PVH entry
//! saves the decompression at every start of an instance.

use elf::ElfBytes;
use elf::abi::{EM_X86_64, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;
use plumb_model::Digest;

use crate::compression::Compression;
use crate::tree::{Kind, Objects, Tree};

/// Largest kernel file that is read; distribution kernels are 7 to 15 MB.
pub const MAX_BZIMAGE_BYTES: u64 = 128 * 1024 * 1024;

/// Largest uncompressed kernel; distribution kernels are 40 to 90 MB.
const MAX_VMLINUX_BYTES: u64 = 512 * 1024 * 1024;

/// Longest version string (`Documentation/arch/x86/boot.rst` names no limit; real ones are about 100 bytes).
const MAX_VERSION_BYTES: usize = 512;

/// First boot protocol with payload offset and length.
const PROTOCOL_WITH_PAYLOAD: u16 = 0x0208;

/// `XEN_ELFNOTE_PHYS32_ENTRY` (`include/xen/interface/elfnote.h`): the PVH entry point.
const PVH_NOTE: u64 = 18;

/// A kernel ready to be given to QEMU's `-kernel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// Release as uname(2) says it, for example `6.1.0-49-cloud-amd64`; names the directory of its modules.
    pub release: String,
    /// Which form `bytes` have.
    pub form: Form,
    /// The file to boot.
    pub bytes: Vec<u8>,
}

/// Forms of a bootable kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Uncompressed ELF with a PVH entry.
    Vmlinux,
    /// The file of the distribution, unchanged: it has no PVH entry or an unknown compression.
    BzImage,
}

/// Why there is no kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The tree has no `/boot/vmlinuz-*`.
    #[error("no `/boot/vmlinuz-*` in the kernel package")]
    Missing,
    /// The tree has several.
    #[error("more than one kernel in the kernel package: `{first}` and `{second}`")]
    Several {
        /// One path.
        first: String,
        /// Another path.
        second: String,
    },
    /// The object is not readable.
    #[error("kernel `{path}` cannot be read")]
    Read {
        /// Path in the tree.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The setup header is not one of an x86 Linux kernel.
    #[error("the kernel is not an x86 bzImage: {reason}")]
    Header {
        /// What is wrong.
        reason: &'static str,
    },
    /// The payload does not decompress.
    #[error("the payload of kernel `{release}` cannot be decompressed")]
    Payload {
        /// Its release.
        release: String,
        /// Why.
        source: std::io::Error,
    },
    /// The payload is not the ELF file it should be.
    #[error("the payload of kernel `{release}` is not an x86-64 ELF file: {reason}")]
    Elf {
        /// Its release.
        release: String,
        /// What is wrong.
        reason: String,
    },
}

/// Finds the one `/boot/vmlinuz-*` of a kernel package's tree: path and content.
///
/// # Errors
/// [`KernelError::Missing`] or [`KernelError::Several`].
pub fn find(tree: &Tree) -> Result<(&str, Digest), KernelError> {
    let mut found = tree.entries.iter().filter_map(|(path, (entry, _))| match entry.kind {
        Kind::File { digest, .. } if path.starts_with("/boot/vmlinuz-") => Some((path.as_str(), digest)),
        _ => None,
    });
    let first = found.next().ok_or(KernelError::Missing)?;
    match found.next() {
        None => Ok(first),
        Some((second, _)) => {
            Err(KernelError::Several { first: first.0.to_owned(), second: second.to_owned() })
        }
    }
}

/// Reads and extracts the kernel of a kernel package's tree.
///
/// # Errors
/// [`KernelError`].
pub fn load(tree: &Tree, objects: &dyn Objects) -> Result<Kernel, KernelError> {
    let (path, digest) = find(tree)?;
    let bytes = objects
        .read(&digest, MAX_BZIMAGE_BYTES)
        .map_err(|source| KernelError::Read { path: path.to_owned(), source })?;
    extract(&bytes)
}

/// The uncompressed kernel in `bzimage` if QEMU can boot it by PVH, else `bzimage` itself.
///
/// # Errors
/// [`KernelError`] if it is no x86 kernel or is damaged.
pub fn extract(bzimage: &[u8]) -> Result<Kernel, KernelError> {
    extract_within(bzimage, MAX_VMLINUX_BYTES)
}

/// [`extract`] with a limit on the uncompressed kernel.
pub(crate) fn extract_within(bzimage: &[u8], limit_bytes: u64) -> Result<Kernel, KernelError> {
    let header = Header::parse(bzimage)?;
    let release = header.release.to_owned();
    let unchanged = |release| Kernel { release, form: Form::BzImage, bytes: bzimage.to_vec() };
    let Some(compression) = Compression::detect(header.payload) else {
        return Ok(unchanged(release));
    };
    let mut bytes = decompress(compression, header.payload, limit_bytes)
        .map_err(|source| KernelError::Payload { release: release.clone(), source })?;
    let (pvh, length) =
        inspect(&bytes).map_err(|reason| KernelError::Elf { release: release.clone(), reason })?;
    if !pvh {
        return Ok(unchanged(release));
    }
    bytes.truncate(length);
    Ok(Kernel { release, form: Form::Vmlinux, bytes })
}

struct Header<'a> {
    release: &'a str,
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(image: &'a [u8]) -> Result<Self, KernelError> {
        let refuse = |reason| KernelError::Header { reason };
        let short = || refuse("it is cut short");
        if image.get(0x202..0x206) != Some(b"HdrS") {
            return Err(refuse("the setup header is missing"));
        }
        let word =
            |at: usize| image.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]])).ok_or_else(short);
        let long = |at: usize| Ok(usize::from(word(at)?) | usize::from(word(at + 2)?) << 16);
        if word(0x206)? < PROTOCOL_WITH_PAYLOAD {
            return Err(refuse("its boot protocol is older than 2.08"));
        }
        let version = image.get(0x200 + usize::from(word(0x20e)?)..).ok_or_else(short)?;
        let version = &version[..version.len().min(MAX_VERSION_BYTES)];
        let end = version.iter().position(|byte| matches!(byte, 0 | b' ')).ok_or_else(short)?;
        let release = std::str::from_utf8(&version[..end]).ok().filter(|release| is_release(release));
        // 0 means 4 (boot.rst, setup_sects).
        let sectors = match image[0x1f1] {
            0 => 4,
            count => usize::from(count),
        };
        let start = (sectors + 1) * 512 + long(0x248)?;
        let payload = image.get(start..).and_then(|rest| rest.get(..long(0x24c).ok()?)).ok_or_else(short)?;
        Ok(Header { release: release.ok_or_else(|| refuse("its version string names no release"))?, payload })
    }
}

/// A release becomes part of a path.
fn is_release(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+' | b'_' | b'~'))
}

fn decompress(compression: Compression, payload: &[u8], limit_bytes: u64) -> std::io::Result<Vec<u8>> {
    if compression == Compression::Gzip {
        return compression.decompress(payload, limit_bytes);
    }
    // `size_append` in scripts/Makefile.lib; gzip has a size of its own.
    let (stream, size) =
        payload.split_last_chunk::<4>().ok_or(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
    let bytes = compression.decompress(stream, limit_bytes)?;
    let expected = u32::from_le_bytes(*size) as usize;
    if bytes.len() != expected {
        let message = format!("{} bytes instead of {expected}", bytes.len());
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
    }
    Ok(bytes)
}

/// Whether the ELF file has a PVH entry, and where it ends: relocations for address randomisation follow, which only
/// the decompressor of the bzImage reads.
pub(crate) fn inspect(bytes: &[u8]) -> Result<(bool, usize), String> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|error| error.to_string())?;
    if file.ehdr.e_machine != EM_X86_64 {
        return Err(format!("machine {}", file.ehdr.e_machine));
    }
    let segments = file.segments().ok_or("no segments")?;
    let header = &file.ehdr;
    let mut end = (header.e_shoff + u64::from(header.e_shnum) * u64::from(header.e_shentsize))
        .max(header.e_phoff + u64::from(header.e_phnum) * u64::from(header.e_phentsize));
    let mut pvh = false;
    for segment in segments.iter() {
        file.segment_data(&segment).map_err(|error| error.to_string())?;
        end = end.max(segment.p_offset + segment.p_filesz);
        if segment.p_type != PT_NOTE {
            continue;
        }
        let notes = file.segment_data_as_notes(&segment).map_err(|error| error.to_string())?;
        pvh |= notes.into_iter().any(|note| is_pvh(&note));
    }
    for section in file.section_headers().into_iter().flat_map(|table| table.iter()) {
        if section.sh_type != elf::abi::SHT_NOBITS {
            file.section_data(&section).map_err(|error| error.to_string())?;
            end = end.max(section.sh_offset + section.sh_size);
        }
    }
    let end =
        usize::try_from(end).ok().filter(|end| *end <= bytes.len()).ok_or("a part lies behind its end")?;
    Ok((pvh, end))
}

fn is_pvh(note: &Note<'_>) -> bool {
    matches!(note, Note::Unknown(note) if note.n_type == PVH_NOTE && note.name.starts_with(b"Xen"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Folder;

    /// An x86-64 ELF file with one PT_NOTE segment that holds one note, and four bytes behind its end.
    fn vmlinux(name: &[u8; 4], kind: u32) -> Vec<u8> {
        let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        bytes.extend([0; 8]);
        bytes.extend(64u64.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
        bytes.extend(PT_NOTE.to_le_bytes());
        bytes.extend([4, 0, 0, 0]);
        for field in [120u64, 0, 0, 20, 20, 4] {
            bytes.extend(field.to_le_bytes());
        }
        for field in [4, 4, kind] {
            bytes.extend(u32::to_le_bytes(field));
        }
        bytes.extend(name);
        bytes.extend([1, 2, 3, 4]);
        bytes.extend(b"relo");
        bytes
    }

    fn bzimage(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 1024 + 16];
        bytes[0x1f1] = 1;
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x206..0x208].copy_from_slice(&0x020fu16.to_le_bytes());
        bytes[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        bytes[0x248..0x24c].copy_from_slice(&16u32.to_le_bytes());
        bytes[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes[0x300..0x316].copy_from_slice(b"6.1.0-1-cloud-amd64 (x");
        bytes.extend(payload);
        bytes.extend(b"signature");
        bytes
    }

    fn lz4(vmlinux: &[u8]) -> Vec<u8> {
        let block = lz4_flex::block::compress(vmlinux);
        let mut payload = vec![0x02, 0x21, 0x4c, 0x18];
        payload.extend((block.len() as u32).to_le_bytes());
        payload.extend(block);
        payload.extend((vmlinux.len() as u32).to_le_bytes());
        payload
    }

    #[test]
    fn pvh_kernel_is_uncompressed_and_trimmed() {
        let elf = vmlinux(b"Xen\0", 18);
        let kernel = extract(&bzimage(&lz4(&elf))).unwrap();
        assert_eq!((kernel.release.as_str(), kernel.form), ("6.1.0-1-cloud-amd64", Form::Vmlinux));
        assert_eq!(kernel.bytes, elf[..elf.len() - 4]);

        let mut zstd = zstd::encode_all(&elf[..], 3).unwrap();
        zstd.extend((elf.len() as u32).to_le_bytes());
        assert_eq!(extract(&bzimage(&zstd)).unwrap().bytes, kernel.bytes);
        let mut gzip = flate2::read::GzEncoder::new(&elf[..], flate2::Compression::fast());
        let mut payload = Vec::new();
        std::io::Read::read_to_end(&mut gzip, &mut payload).unwrap();
        assert_eq!(extract(&bzimage(&payload)).unwrap().bytes, kernel.bytes);
    }

    #[test]
    fn other_kernels_stay_as_they_are() {
        for payload in [lz4(&vmlinux(b"Xen\0", 17)), lz4(&vmlinux(b"GNU\0", 18)), b"BZh9 unknown".to_vec()] {
            let image = bzimage(&payload);
            let kernel = extract(&image).unwrap();
            assert_eq!((kernel.form, kernel.bytes == image), (Form::BzImage, true));
        }
    }

    #[test]
    fn damage_is_an_error() {
        let good = bzimage(&lz4(&vmlinux(b"Xen\0", 18)));
        let check = |image: &[u8], wanted: &str| {
            let message = extract(image).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        };
        check(b"", "setup header is missing");
        check(&good[..0x240], "cut short");
        check(&good[..1100], "cut short");
        let change = |at: usize, byte: u8| {
            let mut image = good.clone();
            image[at] = byte;
            image
        };
        check(&change(0x207, 1), "older than 2.08");
        check(&change(0x300, b'/'), "names no release");
        check(&change(good.len() - 10, 9), "cannot be decompressed");
        check(&bzimage(&lz4(b"no ELF file at all, just text")), "not an x86-64 ELF file");
    }

    #[test]
    fn exactly_one_kernel_is_found() {
        let (mut tree, objects) = (Tree::default(), Folder::new());
        assert!(matches!(load(&tree, &objects), Err(KernelError::Missing)));
        objects.file(&mut tree, "/boot/vmlinuz-6.1.0-1", 0o644, &bzimage(&lz4(&vmlinux(b"Xen\0", 18))));
        assert_eq!(load(&tree, &objects).unwrap().form, Form::Vmlinux);
        objects.file(&mut tree, "/boot/vmlinuz-6.1.0-2", 0o644, b"");
        assert!(matches!(load(&tree, &objects), Err(KernelError::Several { .. })));
    }
}
