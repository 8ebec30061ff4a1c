//! Which kernel modules a machine loads, and in which order.
//!
//! The order comes from the modules themselves: `depends=` and `softdep=` in section `.modinfo` of each (modinfo(8),
//! modprobe.d(5)). `modules.dep` is not used: depmod(8) makes it when a package is installed, and nothing is
//! installed here. What is built into the kernel is named by `modules.builtin` and `modules.builtin.modinfo`, which
//! the kernel package ships.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

use elf::ElfBytes;
use elf::endian::LittleEndian;
use plumb_model::Digest;

use crate::compression::Compression;
use crate::tree::{Kind, Objects, Tree};

/// What every machine needs on virtio hardware: disk, network, console port, the verified root, volumes, `/etc` on
/// top of the read-only root.
pub const REQUIRED: [&str; 8] =
    ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "dm_verity", "erofs", "ext4", "overlay"];

/// What is taken if the kernel has it: entropy from the host, and memory given back to it.
pub const OPTIONAL: [&str; 1] = ["virtio_rng"];

/// Modules that ask for an algorithm by name at run time, which no `depends=` says: dm-verity hashes with SHA-256.
const ALGORITHMS: [(&str, &str); 1] = [("dm_verity", "sha256")];

/// Largest module file that is read; the largest of a distribution (xfs, amdgpu) have 2 to 30 MB.
const MAX_MODULE_BYTES: u64 = 64 * 1024 * 1024;

/// Largest `modules.builtin*` file; real ones are 20 to 200 kB.
const MAX_LIST_BYTES: u64 = 8 * 1024 * 1024;

/// Longest chain of modules that need each other; of Debian's kernel it has 8. Each link takes stack.
const MAX_CHAIN: usize = 64;

/// Largest set of modules: it is memory of every instance until its root is mounted.
const MAX_TOTAL_BYTES: usize = 256 * 1024 * 1024;

/// What ends a signed module (`include/linux/module_signature.h`).
const SIGNATURE_MARK: &[u8] = b"~Module signature appended~\n";

/// A module to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Name with underscores, as the kernel shows it: `dm_verity`.
    pub name: String,
    /// The uncompressed ELF file, with its signature if it has one.
    pub bytes: Vec<u8>,
    /// The module that needs it; `None` if it was asked for itself.
    pub needed_by: Option<String>,
}

impl Module {
    /// Its distribution has signed it: a kernel that is locked down loads no other (kernel_lockdown(7)).
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.bytes.ends_with(SIGNATURE_MARK)
    }
}

/// Why there is no load order.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// No such module.
    #[error("kernel `{release}` has no module `{name}`{}", needed(.by))]
    Missing {
        /// Release of the kernel.
        release: String,
        /// The module or algorithm.
        name: String,
        /// The module that needs it, if it was not asked for itself.
        by: Option<String>,
    },
    /// The tree has no modules of this kernel.
    #[error("no modules of kernel `{release}` in the kernel package")]
    None {
        /// Release of the kernel.
        release: String,
    },
    /// A file cannot be read or decompressed.
    #[error("`{path}` cannot be read")]
    Read {
        /// Path in the tree.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// More modules than an initramfs holds, or a longer chain of them than a kernel has.
    #[error("module `{name}` of kernel `{release}` needs too much: {what} over {limit}")]
    Large {
        /// Release of the kernel.
        release: String,
        /// The module.
        name: String,
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A file is not a kernel module.
    #[error("`{path}` is not a kernel module: {reason}")]
    Elf {
        /// Path in the tree.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

fn needed(by: &Option<String>) -> String {
    by.as_ref().map(|by| format!(", which `{by}` needs")).unwrap_or_default()
}

/// `required`, those of `optional` that exist, and everything they need, each behind what it needs. Names may be
/// written with `-` or `_`. What is built into the kernel is left out.
///
/// # Errors
/// [`ModuleError`].
pub fn closure(
    tree: &Tree,
    objects: &dyn Objects,
    release: &str,
    required: &[&str],
    optional: &[&str],
) -> Result<Vec<Module>, ModuleError> {
    let index = Index::read(tree, objects, release)?;
    let mut order = Order { index: &index, seen: BTreeSet::new(), chain: 0, bytes: 0, modules: Vec::new() };
    for name in required {
        order.require(name, None)?;
    }
    for name in optional {
        order.prefer(name, None)?;
    }
    Ok(order.modules)
}

/// The modules of one kernel by name.
struct Index<'a> {
    objects: &'a dyn Objects,
    release: &'a str,
    /// Path and content of every module file.
    files: BTreeMap<String, (&'a str, Digest)>,
    /// Names and aliases of what is built in.
    builtin: BTreeSet<String>,
    /// Aliases of the modules of algorithms, read when the first is asked for.
    algorithms: OnceCell<Vec<(String, BTreeSet<String>)>>,
}

impl<'a> Index<'a> {
    fn read(tree: &'a Tree, objects: &'a dyn Objects, release: &'a str) -> Result<Self, ModuleError> {
        let mut index = Index {
            objects,
            release,
            files: BTreeMap::new(),
            builtin: BTreeSet::new(),
            algorithms: OnceCell::new(),
        };
        for root in ["/lib/modules", "/usr/lib/modules"] {
            let root = format!("{root}/{release}/");
            for (path, (entry, _)) in tree.entries.range(root.clone()..) {
                let Some(inside) = path.strip_prefix(&root) else { break };
                let Kind::File { digest, .. } = entry.kind else { continue };
                match inside {
                    "modules.builtin" => index.read_builtin(path, digest)?,
                    "modules.builtin.modinfo" => index.read_builtin_aliases(path, digest)?,
                    _ => index.files.extend(module_name(inside).map(|name| (name, (path.as_str(), digest)))),
                }
            }
        }
        if index.files.is_empty() && index.builtin.is_empty() {
            return Err(ModuleError::None { release: release.to_owned() });
        }
        Ok(index)
    }

    /// One path per line, as in a build tree.
    fn read_builtin(&mut self, path: &str, digest: Digest) -> Result<(), ModuleError> {
        let bytes = self.read_object(path, digest, MAX_LIST_BYTES)?;
        self.builtin.extend(String::from_utf8_lossy(&bytes).lines().filter_map(module_name));
        Ok(())
    }

    /// `module.key=value` strings with an end mark each.
    fn read_builtin_aliases(&mut self, path: &str, digest: Digest) -> Result<(), ModuleError> {
        let bytes = self.read_object(path, digest, MAX_LIST_BYTES)?;
        for text in bytes.split(|byte| *byte == 0) {
            let text = String::from_utf8_lossy(text);
            self.builtin.extend(text.split_once(".alias=").map(|(_, alias)| normalize(alias)));
        }
        Ok(())
    }

    fn read_object(&self, path: &str, digest: Digest, limit_bytes: u64) -> Result<Vec<u8>, ModuleError> {
        let unreadable = |source| ModuleError::Read { path: path.to_owned(), source };
        self.objects.read(&digest, limit_bytes).map_err(unreadable)
    }

    fn load(&self, path: &str, digest: Digest) -> Result<(Vec<u8>, Info), ModuleError> {
        let mut bytes = self.read_object(path, digest, MAX_MODULE_BYTES)?;
        if !path.ends_with(".ko") {
            let refuse = || io::Error::new(io::ErrorKind::InvalidData, "its compression is unknown");
            bytes = Compression::detect(&bytes)
                .ok_or_else(refuse)
                .and_then(|form| form.decompress(&bytes, MAX_MODULE_BYTES))
                .map_err(|source| ModuleError::Read { path: path.to_owned(), source })?;
        }
        let info =
            Info::parse(&bytes).map_err(|reason| ModuleError::Elf { path: path.to_owned(), reason })?;
        Ok((bytes, info))
    }

    /// The module that implements an algorithm. The generic one is preferred: the others refuse to load on a
    /// processor that lacks their instructions.
    fn algorithm(&self, alias: &str) -> Result<Option<&str>, ModuleError> {
        let algorithms = match self.algorithms.get() {
            Some(known) => known,
            None => {
                let read = self.read_algorithms()?;
                self.algorithms.get_or_init(|| read)
            }
        };
        let found = || {
            algorithms.iter().filter(|(_, aliases)| aliases.contains(alias)).map(|(name, _)| name.as_str())
        };
        Ok(found().find(|name| name.ends_with("_generic")).or(found().next()))
    }

    fn read_algorithms(&self) -> Result<Vec<(String, BTreeSet<String>)>, ModuleError> {
        let crypto = self.files.iter().filter(|(_, (path, _))| path.contains("/crypto/"));
        crypto.map(|(name, (path, digest))| Ok((name.clone(), self.load(path, *digest)?.1.aliases))).collect()
    }
}

/// The part of `.modinfo` that orders modules.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Info {
    depends: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
    aliases: BTreeSet<String>,
}

impl Info {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file = ElfBytes::<LittleEndian>::minimal_parse(bytes).map_err(|error| error.to_string())?;
        let section = file
            .section_header_by_name(".modinfo")
            .map_err(|error| error.to_string())?
            .ok_or("it has no section `.modinfo`")?;
        let (data, compressed) = file.section_data(&section).map_err(|error| error.to_string())?;
        if compressed.is_some() {
            return Err("its section `.modinfo` is compressed".to_owned());
        }
        let mut info = Info::default();
        for text in data.split(|byte| *byte == 0) {
            match String::from_utf8_lossy(text).split_once('=') {
                Some(("depends", names)) => {
                    info.depends.extend(names.split(',').filter(|name| !name.is_empty()).map(normalize));
                }
                Some(("softdep", text)) => info.soft(text),
                Some(("alias", alias)) => info.aliases.extend([normalize(alias)]),
                _ => {}
            }
        }
        Ok(info)
    }

    /// `pre: a b post: c` (modprobe.d(5)).
    fn soft(&mut self, text: &str) {
        let mut list = None;
        for word in text.split_whitespace() {
            match (word, list) {
                ("pre:" | "post:", _) => list = Some(word == "pre:"),
                (name, Some(true)) => self.before.push(normalize(name)),
                (name, Some(false)) => self.after.push(normalize(name)),
                (_, None) => {}
            }
        }
    }
}

/// Depth-first walk; `seen` also ends cycles, which soft dependencies may have.
struct Order<'a> {
    index: &'a Index<'a>,
    seen: BTreeSet<String>,
    /// How many modules, each of which needs the next, are being visited.
    chain: usize,
    /// Bytes of all modules so far.
    bytes: usize,
    modules: Vec<Module>,
}

impl Order<'_> {
    /// `name` and what it needs must exist, as a module, an alias of an algorithm, or built in.
    fn require(&mut self, name: &str, by: Option<&str>) -> Result<(), ModuleError> {
        if self.prefer(name, by)? {
            return Ok(());
        }
        let (release, name, by) = (self.index.release.to_owned(), name.to_owned(), by.map(str::to_owned));
        Err(ModuleError::Missing { release, name, by })
    }

    /// As [`Order::require`], but says whether `name` itself exists.
    fn prefer(&mut self, name: &str, by: Option<&str>) -> Result<bool, ModuleError> {
        let name = normalize(name);
        if self.index.builtin.contains(&name) || self.seen.contains(&name) {
            return Ok(true);
        }
        let found = match self.index.files.get_key_value(&name) {
            Some((name, _)) => name.as_str(),
            None => match self.index.algorithm(&name)? {
                Some(found) => found,
                None => return Ok(false),
            },
        };
        self.visit(found, by)?;
        Ok(true)
    }

    /// `name` is a key of the index.
    fn visit(&mut self, name: &str, by: Option<&str>) -> Result<(), ModuleError> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let (path, digest) = self.index.files[name];
        let (bytes, info) = self.index.load(path, digest)?;
        self.chain += 1;
        self.bytes += bytes.len();
        self.check_size(name)?;
        for before in &info.before {
            self.prefer(before, Some(name))?;
        }
        for needed in &info.depends {
            self.require(needed, Some(name))?;
        }
        for (_, algorithm) in ALGORITHMS.iter().filter(|(module, _)| *module == name) {
            self.require(algorithm, Some(name))?;
        }
        let needed_by = by.map(str::to_owned);
        self.modules.push(Module { name: name.to_owned(), bytes, needed_by });
        for after in &info.after {
            self.prefer(after, Some(name))?;
        }
        self.chain -= 1;
        Ok(())
    }

    fn check_size(&self, name: &str) -> Result<(), ModuleError> {
        let (what, limit) = if self.chain > MAX_CHAIN {
            ("modules in a chain", MAX_CHAIN)
        } else if self.bytes > MAX_TOTAL_BYTES {
            ("bytes of modules", MAX_TOTAL_BYTES)
        } else {
            return Ok(());
        };
        let (release, name) = (self.index.release.to_owned(), name.to_owned());
        Err(ModuleError::Large { release, name, what, limit })
    }
}

/// Module name of a file path, if it is one of a module.
fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().find_map(|suffix| file.strip_suffix(suffix))?;
    Some(normalize(stem))
}

fn normalize(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests;
