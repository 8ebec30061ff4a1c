//! Who uses which file of an image, as far as the files say it: libraries by `DT_NEEDED`, interpreters, what a service
//! executes, and what a program or configuration file names. It is what `footprint` and `why` tell; the closure check
//! decides by its own, stricter questions.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use plumb_guest_proto::MACHINE_SPEC_PATH;
use plumb_model::Digest;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::binary::{self, Binary};
use crate::rule::linker;
use crate::rule::world::World;
use crate::tree::{Kind, Layer, Objects, Tree};

/// Largest file whose text is looked at: the largest program of Debian 12 that names files has 130 MB.
const TEXT_BYTES: u64 = 256 << 20;

/// How one file uses another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It cannot start without it: program loader, library of a program, program of a service.
    Needs,
    /// A plugin, or a script of a package, that cannot be used without it; what loads the plugin goes on.
    Plugin,
    /// It has the name in it, and may open, load or run it.
    Names,
}

/// One use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Use {
    /// The file that is used.
    pub path: String,
    /// How.
    pub how: How,
    /// The file that uses it.
    pub by: String,
}

/// All uses of files by files of another package, by the file that is used.
///
/// # Errors
/// What reading an object says.
pub fn uses(tree: &Tree, objects: &dyn Objects) -> io::Result<Vec<Use>> {
    let binaries = binary::scan(tree, objects)?;
    let mut world = World::new(objects);
    world.tree.clone_from(tree);
    let mut folders = linker::configured_folders(&world)?;
    folders.extend(["x86_64-linux-gnu", "aarch64-linux-gnu"].iter().flat_map(|t| linker::default_folders(t)));
    let folders = folders.iter().filter_map(|folder| tree.resolve(folder)).collect();
    let finder = Finder::new(tree, &binaries, folders);
    let mut uses = BTreeSet::new();
    for (path, (entry, origin)) in &tree.entries {
        let Kind::File { digest, .. } = &entry.kind else { continue };
        let Some(binary) = binaries.get(digest) else { continue };
        let mut found = |path_used: &str, how| finder.add(&mut uses, path_used, how, path);
        match binary {
            Binary::Elf(elf) => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                let is_plugin = elf.interpreter.is_none() && !finder.folders.contains(folder);
                let how = if is_plugin && origin.layer != Layer::App { How::Plugin } else { How::Needs };
                if let Some(interpreter) = &elf.interpreter {
                    found(interpreter, How::Needs);
                }
                for needed in &elf.needed {
                    for library in finder.libraries.get(&(needed.as_str(), elf.machine)).into_iter().flatten()
                    {
                        found(library, how);
                    }
                }
            }
            Binary::Script { interpreter, argument } => {
                let how = if origin.layer == Layer::App { How::Needs } else { How::Plugin };
                found(interpreter, how);
                let words = argument.as_deref().unwrap_or_default().split_whitespace();
                for word in words.filter(|_| interpreter.ends_with("/env")) {
                    found(&format!("/usr/bin/{word}"), how);
                }
            }
        }
    }
    uses.extend(finder.names(objects)?);
    // Sorted by path and then by strength: of two uses by one file the stronger one says it all.
    let mut uses: Vec<Use> = uses.into_iter().collect();
    uses.sort_by(|a, b| (&a.path, &a.by, a.how).cmp(&(&b.path, &b.by, b.how)));
    uses.dedup_by(|b, a| a.path == b.path && a.by == b.by);
    Ok(uses)
}

/// Is this an ELF file? A look at four bytes.
///
/// # Errors
/// What opening or reading the object says.
pub fn is_elf(objects: &dyn Objects, digest: &Digest) -> io::Result<bool> {
    use std::io::Read as _;
    let mut head = Vec::new();
    objects.open(digest)?.take(4).read_to_end(&mut head)?;
    Ok(head == b"\x7fELF")
}

struct Finder<'a> {
    tree: &'a Tree,
    folders: BTreeSet<String>,
    /// Library name and machine to the real files of that name.
    libraries: BTreeMap<(&'a str, (u16, u8)), BTreeSet<String>>,
}

impl<'a> Finder<'a> {
    fn new(tree: &'a Tree, binaries: &BTreeMap<Digest, Binary>, folders: BTreeSet<String>) -> Self {
        let mut libraries: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for path in tree.entries.keys() {
            let Some((_, name)) = path.rsplit_once('/').filter(|(_, name)| name.contains(".so")) else {
                continue;
            };
            let Some(real) = tree.resolve(path) else { continue };
            if let Some(Kind::File { digest, .. }) = tree.get(&real).map(|entry| &entry.kind)
                && let Some(Binary::Elf(elf)) = binaries.get(digest)
            {
                libraries.entry((name, elf.machine)).or_default().insert(real);
            }
        }
        Finder { tree, folders, libraries }
    }

    fn source(&self, path: &str) -> Option<&'a str> {
        self.tree.entries.get(path).map(|(_, origin)| origin.source.as_str())
    }

    fn add(&self, uses: &mut BTreeSet<Use>, path: &str, how: How, by: &str) {
        if let Some(real) = self.tree.resolve(path)
            && self.source(&real) != self.source(by)
        {
            uses.insert(Use { path: real, how, by: by.to_owned() });
        }
    }

    /// Names of files in the contents of other files. What rules made (package list, linker cache) names everything
    /// and says nothing, but for the services.
    fn names(&self, objects: &dyn Objects) -> io::Result<BTreeSet<Use>> {
        let mut known: BTreeMap<&[u8], &str> = BTreeMap::new();
        for (path, (entry, _)) in &self.tree.entries {
            if entry.kind == Kind::Directory {
                continue;
            }
            known.insert(path.as_bytes(), path);
            if let Some(short) = path
                .strip_prefix("/usr")
                .filter(|short| ["/bin/", "/sbin/", "/lib"].iter().any(|folder| short.starts_with(folder)))
            {
                known.insert(short.as_bytes(), path);
            }
            if let Some((_, name)) = path.rsplit_once('/').filter(|(_, name)| name.contains(".so")) {
                known.insert(name.as_bytes(), path);
            }
        }
        let files: Vec<(&String, &Digest)> = self
            .tree
            .entries
            .iter()
            .filter(|(path, (_, origin))| !origin.source.starts_with("rule:") || *path == MACHINE_SPEC_PATH)
            .filter_map(|(path, (entry, _))| match &entry.kind {
                Kind::File { digest, size } if *size <= TEXT_BYTES => Some((path, digest)),
                _ => None,
            })
            .collect();
        let found: io::Result<Vec<BTreeSet<Use>>> = files
            .into_par_iter()
            .map(|(by, digest)| {
                let how = if by == MACHINE_SPEC_PATH { How::Needs } else { How::Names };
                let mut uses = BTreeSet::new();
                for path in named(&objects.read(digest, TEXT_BYTES)?, &known) {
                    self.add(&mut uses, path, how, by);
                }
                Ok(uses)
            })
            .collect();
        Ok(found?.into_iter().flatten().collect())
    }
}

/// The known paths and library names among the words of `bytes`.
fn named<'k>(bytes: &[u8], known: &BTreeMap<&[u8], &'k str>) -> BTreeSet<&'k str> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+-@".contains(byte);
    let mut found = BTreeSet::new();
    for word in bytes.split(|byte| !is_word(byte)).filter(|word| word.len() > 3) {
        if word[0] == b'/' {
            found.extend(known.get(word));
        }
        let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if name.windows(3).any(|part| part == b".so") {
            found.extend(known.get(name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Folder;
    use crate::tree::{Entry, Origin};

    #[test]
    fn scripts_services_and_names() {
        let objects = Folder::new();
        let mut tree = Tree::default();
        let mut file = |path: &str, source: &str, text: &str| {
            let (digest, size) = objects.put(&mut text.as_bytes()).unwrap();
            let origin = Origin { layer: Layer::Os, source: source.into() };
            tree.insert(path, Entry::file(digest, size, 0o755), origin);
        };
        file("/usr/bin/dash", "dash", "x");
        file("/usr/bin/tool", "tool", "#!/bin/sh\nexec /sbin/ip link\n");
        file("/usr/sbin/ip", "iproute2", "y");
        file("/usr/lib/mod/echo.so", "echo", "z");
        file("/etc/web.conf", "web", "load_module modules/echo.so;");
        file(MACHINE_SPEC_PATH, "rule:machine", r#"{"argv":["/usr/sbin/ip"]}"#);
        file("/var/lib/dpkg/info/x.list", "rule:package-list", "/usr/bin/dash\n");
        tree.insert(
            "/usr/bin/sh",
            Entry::symlink("dash"),
            Origin { layer: Layer::Os, source: "dash".into() },
        );
        tree.insert("/bin", Entry::symlink("usr/bin"), Origin { layer: Layer::Os, source: "rule:x".into() });
        tree.close();
        let found = uses(&tree, &objects).unwrap();
        let found: Vec<String> =
            found.iter().map(|one| format!("{:?} {} {}", one.how, one.by, one.path)).collect();
        assert_eq!(
            found,
            [
                "Plugin /usr/bin/tool /usr/bin/dash",
                "Names /etc/web.conf /usr/lib/mod/echo.so",
                "Names /usr/bin/tool /usr/sbin/ip",
                "Needs /usr/lib/plumb/machine.json /usr/sbin/ip",
            ]
        );
    }
}
