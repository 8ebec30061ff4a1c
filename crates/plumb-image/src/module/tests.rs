use super::*;
use crate::fixture::Folder;

const RELEASE: &str = "6.1.0-test";

/// The smallest ELF file with a section `.modinfo`: header, strings, then three section headers.
pub(super) fn elf(modinfo: &[&str]) -> Vec<u8> {
    let mut info = Vec::new();
    for text in modinfo {
        info.extend(text.as_bytes());
        info.push(0);
    }
    let names = b"\0.modinfo\0.shstrtab\0";
    let names_at = 64 + info.len() as u64;
    let headers_at = names_at + names.len() as u64;
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([1, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend([0; 16]);
    bytes.extend(headers_at.to_le_bytes());
    bytes.extend([0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    bytes.extend(&info);
    bytes.extend(names);
    let mut section = |name: u32, kind: u32, at: u64, size: u64| {
        bytes.extend(name.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 16]);
        bytes.extend(at.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes.extend([0; 8]);
        bytes.extend(1u64.to_le_bytes());
        bytes.extend([0; 8]);
    };
    section(0, 0, 0, 0);
    section(1, 1, 64, info.len() as u64);
    section(10, 3, names_at, names.len() as u64);
    bytes
}

fn kernel(objects: &Folder, builtin: &[u8]) -> Tree {
    let mut tree = Tree::default();
    let mut put = |path: &str, bytes: &[u8]| {
        objects.file(&mut tree, &format!("/lib/modules/{RELEASE}/{path}"), 0o644, bytes);
    };
    put("modules.builtin", b"kernel/fs/ext4/ext4.ko\n");
    put("modules.builtin.modinfo", builtin);
    put("kernel/drivers/md/dm-mod.ko", &elf(&["depends="]));
    put("kernel/drivers/md/dm-verity.ko", &elf(&["depends=dm-mod,dm-bufio", "name=dm_verity"]));
    put("kernel/drivers/md/dm-bufio.ko.xz", &{
        let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 6);
        std::io::Write::write_all(&mut writer, &elf(&["depends=dm-mod"])).unwrap();
        writer.finish().unwrap()
    });
    put("kernel/fs/erofs/erofs.ko.zst", &zstd::encode_all(&elf(&["depends=libcrc32c"])[..], 3).unwrap());
    put("kernel/lib/libcrc32c.ko", &elf(&["depends=", "softdep=pre: crc32c post: late none"]));
    put("kernel/arch/x86/crypto/crc32c-intel.ko", &elf(&["depends=", "alias=crc32c"]));
    put("kernel/crypto/crc32c_generic.ko", &elf(&["depends=", "alias=crc32c"]));
    put("kernel/drivers/late.ko", &elf(&["depends="]));
    put("kernel/drivers/broken.ko", &elf(&["depends=absent"]));
    put("kernel/drivers/text.ko", b"text");
    tree
}

fn order(tree: &Tree, objects: &Folder, required: &[&str]) -> Result<Vec<String>, String> {
    let modules =
        closure(tree, objects, RELEASE, required, &["virtio_rng"]).map_err(|error| error.to_string())?;
    Ok(modules.into_iter().map(|module| module.name).collect())
}

#[test]
fn order_follows_needs() {
    let objects = Folder::new();
    let tree = kernel(&objects, b"sha256_generic.alias=sha256\0");
    assert_eq!(
        order(&tree, &objects, &["dm-verity", "erofs", "ext4"]).unwrap(),
        ["dm_mod", "dm_bufio", "dm_verity", "crc32c_generic", "libcrc32c", "late", "erofs"]
    );
    let modules = closure(&tree, &objects, RELEASE, &["erofs"], &[]).unwrap();
    assert!(modules.iter().all(|module| module.bytes.starts_with(b"\x7fELF")), "decompressed");
}

#[test]
fn built_in_algorithms_need_no_module() {
    let objects = Folder::new();
    let tree = kernel(&objects, b"sha256_generic.alias=sha256\0crc32c_generic.alias=crc32c\0");
    assert_eq!(order(&tree, &objects, &["erofs"]).unwrap(), ["libcrc32c", "late", "erofs"]);
}

#[test]
fn a_chain_without_end_is_refused() {
    let objects = Folder::new();
    let mut tree = Tree::default();
    for number in 0..5000 {
        let path = format!("/lib/modules/{RELEASE}/kernel/m{number}.ko");
        objects.file(&mut tree, &path, 0o644, &elf(&[&format!("depends=m{}", (number + 1) % 5000)]));
    }
    let error = order(&tree, &objects, &["m0"]).unwrap_err();
    assert_eq!(error, "module `m64` of kernel `6.1.0-test` needs too much: modules in a chain over 64");
}

#[test]
fn what_is_missing_is_named() {
    let objects = Folder::new();
    let tree = kernel(&objects, b"");
    let refused = |name| order(&tree, &objects, &[name]).unwrap_err();
    assert_eq!(refused("nothing"), "kernel `6.1.0-test` has no module `nothing`");
    assert_eq!(refused("broken"), "kernel `6.1.0-test` has no module `absent`, which `broken` needs");
    assert_eq!(refused("dm_verity"), "kernel `6.1.0-test` has no module `sha256`, which `dm_verity` needs");
    assert!(
        refused("text")
            .starts_with("`/lib/modules/6.1.0-test/kernel/drivers/text.ko` is not a kernel module")
    );
    let error = closure(&tree, &objects, "5.0", &[], &[]).unwrap_err();
    assert_eq!(error.to_string(), "no modules of kernel `5.0` in the kernel package");
}

/// A signed file, as scripts/sign-file.c of the kernel writes it.
fn signed(file: &[u8]) -> Vec<u8> {
    let signature = [7; 300];
    let mut bytes = file.to_vec();
    bytes.extend(signature);
    bytes.extend([0, 0, 2, 0, 0, 0, 0, 0]);
    bytes.extend(300u32.to_be_bytes());
    bytes.extend(b"~Module signature appended~\n");
    bytes
}

#[test]
fn a_signature_stays_and_is_known() {
    let (objects, file) = (Folder::new(), elf(&["depends="]));
    let load = |bytes: &[u8]| {
        let mut tree = kernel(&objects, b"");
        objects.file(&mut tree, &format!("/lib/modules/{RELEASE}/kernel/signed.ko"), 0o644, bytes);
        closure(&tree, &objects, RELEASE, &["signed"], &[]).unwrap().remove(0)
    };
    let module = load(&signed(&file));
    assert!(module.is_signed() && module.bytes == signed(&file));
    assert!(!load(&file).is_signed());
}
