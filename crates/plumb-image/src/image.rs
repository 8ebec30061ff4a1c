//! Puts the parts of one image into files: verified root, kernel, initramfs, and the command line that ties them.
//!
//! ```text
//!  root     EROFS, then its dm-verity hash tree        kernel   vmlinux or bzImage        initrd   newc archive
//!  cmdline  <fixed> plumb.root=<RootDisk> <extra>      the root hash makes root and kernel one
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use plumb_guest_proto::RootDisk;
use plumb_model::Digest;
use sha2::{Digest as _, Sha256};

use crate::cpio::CpioError;
use crate::erofs::{self, ErofsError};
use crate::initramfs;
use crate::kernel::Kernel;
use crate::module::Module;
use crate::tree::{Objects, Tree};
use crate::verity::{self, VerityError};

/// virtio-blk serial of the root disk.
pub const ROOT_SERIAL: &str = "plumb-root";

/// What every image boots with. `cryptomgr.notests`: the self-tests of the kernel's ciphers cost 0.3 s per boot on an
/// emulated processor. `panic=-1`: a kernel that cannot go on ends at once, and the host sees it.
pub const CMDLINE: &str =
    "console=ttyS0 quiet loglevel=4 panic=-1 cryptomgr.notests random.trust_cpu=on rdinit=/init";

/// Root of a machine cannot read or change its kernel either (kernel_lockdown(7)). It also saves 2 MB of memory and 0.06 s
/// of the boot: the kernel then makes no file for each of its trace points. Modules must be signed.
pub const LOCKDOWN: &str = "lockdown=confidentiality";

/// `COMMAND_LINE_SIZE` of x86, end mark included; the host adds its own parameters at start.
const MAX_CMDLINE_BYTES: usize = 2048 - 512;

/// Buffer for hashing a file.
const BUFFER_BYTES: usize = 1024 * 1024;

/// What an image is made of, besides tree and objects.
#[derive(Debug, Clone, Copy)]
pub struct ImageInput<'a> {
    /// The static PID 1.
    pub init: &'a [u8],
    /// The kernel, from [`crate::kernel::load`].
    pub kernel: &'a Kernel,
    /// Modules in load order, from [`crate::module::closure`].
    pub modules: &'a [Module],
    /// mtime of every file of the root, seconds since 1970.
    pub epoch_s: u64,
    /// More kernel parameters; empty for none.
    pub extra_cmdline: &'a str,
}

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it was written.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
}

/// The files of one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageParts {
    /// `root.img`: EROFS and hash tree.
    pub root: Part,
    /// How the guest finds and verifies the root; also in `cmdline`.
    pub root_disk: RootDisk,
    /// `kernel.img`.
    pub kernel: Part,
    /// `initrd.img`.
    pub initrd: Part,
    /// The kernel command line.
    pub cmdline: String,
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file system cannot be written.
    #[error("the root file system cannot be made")]
    Erofs(#[from] ErofsError),
    /// The hash tree cannot be computed.
    #[error("the root file system cannot be hashed")]
    Verity(#[from] VerityError),
    /// The initramfs cannot be made.
    #[error("the initramfs cannot be made")]
    Initramfs(#[from] CpioError),
    /// The command line is unusable.
    #[error("the kernel command line {reason}: `{cmdline}`")]
    Cmdline {
        /// The whole line.
        cmdline: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file of the image cannot be written or read back.
    #[error("`{path}` cannot be written", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes `root.img`, `kernel.img` and `initrd.img` into `out_dir`, which exists; files of these names are replaced.
/// The same arguments give the same bytes, on any number of threads.
///
/// # Errors
/// [`ImageError`].
pub fn build_image(
    tree: &Tree,
    objects: &dyn Objects,
    input: &ImageInput<'_>,
    out_dir: &Path,
) -> Result<ImageParts, ImageError> {
    let (root, (kernel, initrd)) = rayon::join(
        || build_root(tree, objects, input.epoch_s, &out_dir.join("root.img")),
        || {
            rayon::join(
                || write_part(&out_dir.join("kernel.img"), &input.kernel.bytes),
                || write_part(&out_dir.join("initrd.img"), &initramfs::build(input.init, input.modules)?),
            )
        },
    );
    let (root, root_disk) = root?;
    let cmdline = cmdline(&root_disk, input.extra_cmdline)?;
    Ok(ImageParts { root, root_disk, kernel: kernel?, initrd: initrd?, cmdline })
}

/// Writes only the verified root of `tree` to `path`.
///
/// # Errors
/// [`ImageError`].
pub fn build_root(
    tree: &Tree,
    objects: &dyn Objects,
    epoch_s: u64,
    path: &Path,
) -> Result<(Part, RootDisk), ImageError> {
    let failed = |source| ImageError::File { path: path.to_owned(), source };
    let layout = erofs::layout(tree, epoch_s)?;
    let file =
        File::options().read(true).write(true).create(true).truncate(true).open(path).map_err(failed)?;
    erofs::write(&layout, objects, &file)?;

    // SHA-256 of the file is one sequential stream, the hash tree is not: side by side they use two processors.
    let data_bytes = layout.blocks() * erofs::BLOCK_BYTES;
    let mut hasher = Sha256::new();
    let (verity, hashed) = rayon::join(
        || verity::append(&file, layout.blocks(), b""),
        || hash_range(&file, 0, data_bytes, &mut hasher),
    );
    hashed.map_err(failed)?;
    let verity = verity?;
    let hash_bytes = verity.hash_blocks * verity::BLOCK_BYTES;
    hash_range(&file, data_bytes, hash_bytes, &mut hasher).map_err(failed)?;

    let digest = Digest::from_bytes(hasher.finalize().into());
    let root_disk = RootDisk {
        serial: ROOT_SERIAL.to_owned(),
        data_blocks: verity.data_blocks,
        hash_start_block: verity.data_blocks,
        salt: String::new(),
        root_hash: Digest::from_bytes(verity.root_hash).hex(),
    };
    Ok((Part { path: path.to_owned(), digest, size_bytes: data_bytes + hash_bytes }, root_disk))
}

/// The kernel command line of an image.
///
/// # Errors
/// [`ImageError::Cmdline`] if it is too long or has characters a kernel command line cannot hold.
pub fn cmdline(root_disk: &RootDisk, extra: &str) -> Result<String, ImageError> {
    let mut cmdline = format!("{CMDLINE} plumb.root={root_disk}");
    if !extra.is_empty() {
        cmdline = format!("{cmdline} {extra}");
    }
    let reason = if cmdline.len() > MAX_CMDLINE_BYTES {
        "is longer than 1536 bytes"
    } else if cmdline.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
        "has characters other than printable ASCII"
    } else {
        return Ok(cmdline);
    };
    Err(ImageError::Cmdline { cmdline, reason })
}

fn write_part(path: &Path, bytes: &[u8]) -> Result<Part, ImageError> {
    let (written, digest) = rayon::join(|| std::fs::write(path, bytes), || Digest::of(bytes));
    written.map_err(|source| ImageError::File { path: path.to_owned(), source })?;
    Ok(Part { path: path.to_owned(), digest, size_bytes: bytes.len() as u64 })
}

fn hash_range(file: &File, start: u64, length: u64, hasher: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut done = 0;
    while done < length {
        let part = buffer.len().min(usize::try_from(length - done).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..part], start + done)?;
        hasher.update(&buffer[..part]);
        done += part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Folder, origin};
    use crate::kernel::Form;
    use crate::tree::Entry;

    fn build(threads: usize) -> (tempfile::TempDir, ImageParts) {
        let (mut tree, objects) = (Tree::default(), Folder::new());
        for i in 0..200u8 {
            objects.file(&mut tree, &format!("/usr/bin/{i}"), 0o755, &vec![i; usize::from(i) * 100]);
        }
        tree.insert("/bin", Entry::symlink("usr/bin"), origin());
        tree.close();
        let kernel = Kernel { release: "6.1".into(), form: Form::Vmlinux, bytes: b"kernel".to_vec() };
        let modules = [Module { name: "erofs".into(), bytes: b"module".to_vec(), needed_by: None }];
        let input = ImageInput {
            init: b"init",
            kernel: &kernel,
            modules: &modules,
            epoch_s: 1,
            extra_cmdline: "a=b",
        };
        let folder = tempfile::TempDir::new().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let parts = pool.install(|| build_image(&tree, &objects, &input, folder.path())).unwrap();
        (folder, parts)
    }

    #[test]
    fn parts_are_what_they_say() {
        let (_folder, parts) = build(2);
        for part in [&parts.root, &parts.kernel, &parts.initrd] {
            let bytes = std::fs::read(&part.path).unwrap();
            assert_eq!((Digest::of(&bytes), bytes.len() as u64), (part.digest, part.size_bytes));
        }
        assert_eq!(parts.cmdline, format!("{CMDLINE} plumb.root={} a=b", parts.root_disk));
        let root = std::fs::File::open(&parts.root.path).unwrap();
        let copy = tempfile::NamedTempFile::new().unwrap();
        io::copy(&mut &root, &mut copy.as_file()).unwrap();
        let verity = verity::append(copy.as_file(), parts.root_disk.data_blocks, b"").unwrap();
        assert_eq!(hex::encode(verity.root_hash), parts.root_disk.root_hash);
    }

    #[test]
    fn threads_do_not_matter() {
        let strip =
            |parts: ImageParts| (parts.root.digest, parts.kernel.digest, parts.initrd.digest, parts.cmdline);
        assert_eq!(strip(build(1).1), strip(build(4).1));
    }

    #[test]
    fn command_line_limits() {
        let disk = RootDisk {
            serial: ROOT_SERIAL.into(),
            data_blocks: 1,
            hash_start_block: 1,
            salt: String::new(),
            root_hash: "00".repeat(32),
        };
        assert!(cmdline(&disk, &"x".repeat(1536)).unwrap_err().to_string().contains("longer than 1536"));
        assert!(cmdline(&disk, "a\nb").unwrap_err().to_string().contains("printable ASCII"));
    }
}
