//! The dynamic linker's cache, in the only form glibc 2.32 and later write (`sysdeps/generic/dl-cache.h`):
//!
//! ```text
//!  "glibc-ld.so.cache" "1.1"         20 bytes
//!  u32 number of entries, u32 bytes of strings, u8 flags (2: little endian), u8[3], u32 extension offset, u32[3]
//!  per entry: i32 flags, u32 name, u32 path (offsets from the start of the file), u32 0, u64 hwcap
//!  strings, each ended by 0
//! ```
//!
//! Entries are sorted downwards by `_dl_cache_libcmp`, because `ld.so` searches them so. The cache is written even
//! though Debian's `ld.so` knows the multiarch folders by itself: packages with own folders in `ld.so.conf.d` depend
//! on it, and it saves a search per library.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use plumb_model::Digest;

use super::shell::pattern;
use super::world::World;
use crate::binary::{Binary, Elf};
use crate::tree::{Entry, Kind, Tree};

const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
/// Most files an `ld.so.conf` may include, so that two that include each other end.
const MAX_FILES: usize = 256;

/// Folders `ld.so` searches without being told: glibc's own, Debian's multiarch ones first.
pub(crate) fn default_folders(triplet: &str) -> Vec<String> {
    ["/lib/", "/usr/lib/"]
        .iter()
        .map(|folder| format!("{folder}{triplet}"))
        .chain(["/lib", "/usr/lib"].map(str::to_owned))
        .collect()
}

/// Folders that `/etc/ld.so.conf` names, in order (ldconfig(8)).
pub(crate) fn configured_folders(world: &World<'_>) -> io::Result<Vec<String>> {
    let mut folders = Vec::new();
    let mut files = vec!["/etc/ld.so.conf".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(file) = files.pop() {
        if seen.len() > MAX_FILES || !seen.insert(file.clone()) {
            continue;
        }
        for line in world.text(&file)?.unwrap_or_default().lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some(wanted) = line.strip_prefix("include ").map(str::trim) {
                let wanted =
                    if wanted.starts_with('/') { wanted.to_owned() } else { format!("/etc/{wanted}") };
                let found = world.tree.entries.keys().filter(|path| pattern::matches(&wanted, path));
                files.extend(found.rev().cloned());
            } else if line.starts_with('/') {
                folders.push(line.trim_end_matches('/').to_owned());
            }
        }
    }
    Ok(folders)
}

/// Writes `/etc/ld.so.cache`, and the links by soname that ldconfig(8) would make.
pub(crate) fn apply(
    world: &mut World<'_>,
    folders: &[String],
    binaries: &BTreeMap<Digest, Binary>,
) -> io::Result<()> {
    let mut cache: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
    let mut links = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for folder in folders {
        let Some(real) = world.tree.resolve(folder).filter(|real| seen.insert(real.clone())) else {
            continue;
        };
        let prefix = format!("{}/", real.trim_end_matches('/'));
        let mut names = BTreeSet::new();
        for path in world.tree.entries.range(prefix.clone()..).map(|(path, _)| path) {
            let Some(name) = path.strip_prefix(&prefix) else { break };
            let is_library = (name.starts_with("lib") || name.starts_with("ld-")) && name.contains(".so");
            if name.contains('/') || !is_library {
                continue;
            }
            let Some(elf) = library(&world.tree, path, binaries) else { continue };
            let Some(flags) = flags(elf) else { continue };
            let soname = elf.soname.as_deref().unwrap_or(name).to_owned();
            let at = format!("{prefix}{soname}");
            if soname.contains('/') || !names.insert((soname.clone(), flags)) {
                continue;
            }
            if world.tree.resolve(&at).is_none() {
                links.insert(at, name.to_owned());
            }
            cache.entry(soname.clone()).or_default().push((flags, format!("{folder}/{soname}")));
        }
    }
    for (at, target) in links {
        world.add(&at, Entry::symlink(target), "rule:linker");
    }
    let bytes = encode(&cache);
    world.write("/etc/ld.so.cache", &bytes, 0o644, &World::origin("rule:linker"))
}

fn library<'b>(tree: &Tree, path: &str, binaries: &'b BTreeMap<Digest, Binary>) -> Option<&'b Elf> {
    let real = tree.resolve(path)?;
    let Kind::File { digest, .. } = &tree.get(&real)?.kind else { return None };
    match binaries.get(digest)? {
        Binary::Elf(elf) if elf.dynamic => Some(elf),
        _ => None,
    }
}

/// `FLAG_ELF_LIBC6` and the required-ABI bits of `sysdeps/generic/ldconfig.h`.
fn flags(elf: &Elf) -> Option<u32> {
    match elf.machine {
        (62, 64) => Some(0x0303),  // x86-64
        (183, 64) => Some(0x0a03), // AArch64
        (3, 32) => Some(0x0003),   // i386
        _ => None,
    }
}

fn encode(cache: &BTreeMap<String, Vec<(u32, String)>>) -> Vec<u8> {
    let mut entries: Vec<(&String, u32, &String)> = cache
        .iter()
        .flat_map(|(name, paths)| paths.iter().map(move |(flags, path)| (name, *flags, path)))
        .collect();
    // Stable: equal names keep the order of folders, which decides which one is found.
    entries.sort_by(|a, b| compare(b.0.as_bytes(), a.0.as_bytes()).then(b.1.cmp(&a.1)));
    let start = HEADER_BYTES + entries.len() * ENTRY_BYTES;
    let mut strings = Vec::new();
    let mut table = Vec::new();
    for (name, flags, path) in &entries {
        // ldconfig lets the name be the end of the path where it can; so do we.
        let path_at = start + strings.len();
        strings.extend_from_slice(path.as_bytes());
        strings.push(0);
        let name_at = if path.ends_with(name.as_str()) { path_at + path.len() - name.len() } else { path_at };
        table.extend_from_slice(&flags.to_le_bytes());
        for offset in [name_at, path_at, 0] {
            table.extend_from_slice(&u32_of(offset).to_le_bytes());
        }
        table.extend_from_slice(&0u64.to_le_bytes());
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&u32_of(entries.len()).to_le_bytes());
    bytes.extend_from_slice(&u32_of(strings.len()).to_le_bytes());
    bytes.extend_from_slice(&[2, 0, 0, 0]);
    bytes.resize(HEADER_BYTES, 0);
    bytes.extend(table);
    bytes.extend(strings);
    bytes
}

fn u32_of(number: usize) -> u32 {
    u32::try_from(number)
        .expect("a tree has at most some 100,000 paths of 4 KiB, and only libraries get here")
}

/// `_dl_cache_libcmp` of `elf/dl-cache.c`: digits compare as numbers.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (mut i, mut j) = (0, 0);
    let at = |text: &[u8], index: usize| text.get(index).copied().unwrap_or(0);
    while i < a.len() {
        let (x, y) = (at(a, i), at(b, j));
        match (x.is_ascii_digit(), y.is_ascii_digit()) {
            (true, true) => {
                let take = |text: &[u8], index: &mut usize| {
                    let mut value = 0u64;
                    while at(text, *index).is_ascii_digit() {
                        value = value.wrapping_mul(10).wrapping_add(u64::from(at(text, *index) - b'0'));
                        *index += 1;
                    }
                    value as i32
                };
                let (left, right) = (take(a, &mut i), take(b, &mut j));
                if left != right {
                    return left.cmp(&right);
                }
            }
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) if x != y => return x.cmp(&y),
            (false, false) => {
                i += 1;
                j += 1;
            }
        }
    }
    at(a, i).cmp(&at(b, j))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_as_numbers() {
        assert_eq!(compare(b"libx.so.10", b"libx.so.9"), Ordering::Greater);
        assert_eq!(compare(b"libx.so.1", b"libx.so"), Ordering::Greater);
        assert_eq!(compare(b"liba", b"libb"), Ordering::Less);
        assert_eq!(compare(b"lib1", b"liba"), Ordering::Greater);
        assert_eq!(compare(b"libx.so.6", b"libx.so.6"), Ordering::Equal);
    }

    #[test]
    fn ldconfig_reads_what_is_written() {
        let cache = BTreeMap::from([
            ("libc.so.6".to_owned(), vec![(0x0303, "/lib/x86_64-linux-gnu/libc.so.6".to_owned())]),
            (
                "libz.so.1".to_owned(),
                vec![(0x0303, "/opt/lib/libz.so.1".to_owned()), (0x0303, "/lib/libz.so.1".to_owned())],
            ),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache");
        std::fs::write(&path, encode(&cache)).unwrap();
        let output =
            std::process::Command::new("/sbin/ldconfig").arg("-p").arg("-C").arg(&path).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> =
            text.lines().skip(1).map(str::trim).filter(|line| line.contains("=>")).collect();
        assert_eq!(
            lines,
            [
                "libz.so.1 (libc6,x86-64) => /opt/lib/libz.so.1",
                "libz.so.1 (libc6,x86-64) => /lib/libz.so.1",
                "libc.so.6 (libc6,x86-64) => /lib/x86_64-linux-gnu/libc.so.6",
            ]
        );
    }
}
