//! update-mime-database(1): what packages say of types of files (`/usr/share/mime/packages`), compiled to the files that
//! programs read (the shared-mime-info specification of freedesktop.org), to the byte.

mod cache;
mod magic;
mod table;
mod text;
mod xml;

use std::collections::BTreeMap;
use std::io;

use self::magic::{Magic, TreeMagic};
use self::table::Table;
use self::xml::Element;
use super::world::World;

const NAMESPACE: &str = "http://www.freedesktop.org/standards/shared-mime-info";

/// The key of `<glob-deleteall/>` among patterns.
const NO_GLOBS: &str = "__NOGLOBS__";

struct Glob {
    weight: i32,
    pattern: String,
    kind: String,
    is_none: bool,
    case_sensitive: bool,
}

/// All that the descriptions say; tables are in the order of the program that would have written the files.
#[derive(Default)]
struct Database {
    /// Types with the elements that stay in the description of each.
    types: Table<Vec<Element>>,
    namespaces: Table<String>,
    globs: Table<Vec<Glob>>,
    parents: Table<Vec<String>>,
    aliases: Table<String>,
    icons: Table<String>,
    generic_icons: Table<String>,
    magic: Vec<Magic>,
    tree_magic: Vec<TreeMagic>,
}

/// Compiles a folder; `None` where a description has what is not understood, or an error that the program would have told.
pub(super) fn update(world: &mut World<'_>, source: &str, folder: &str) -> Option<()> {
    let Some(place) = world.resolve(folder) else { return Some(()) };
    let top = format!("{place}/packages/");
    let mut paths: Vec<String> = world
        .tree
        .entries
        .range(top.clone()..)
        .map(|(path, _)| path)
        .take_while(|path| path.starts_with(&top))
        .filter(|path| path.ends_with(".xml") && !path[top.len()..].contains('/'))
        .cloned()
        .collect();
    // What people override comes last.
    paths.sort_by_key(|path| path.ends_with("/Override.xml"));
    let mut database = Database::default();
    for path in paths {
        let text = world.text(&path).ok()??;
        world.spend(text.len());
        database.load(&xml::parse(&text)?)?;
    }
    // `2.2-1`: what Debian adds is none of the program's own version.
    let version = world.packages.get("shared-mime-info")?.split(['-', '+', '~']).next()?.to_owned();
    let files = database.files(&version)?;
    match write(world, source, &place, &files) {
        Ok(()) => Some(()),
        Err(error) => {
            world.failure.get_or_insert(error);
            None
        }
    }
}

fn write(
    world: &mut World<'_>,
    source: &str,
    folder: &str,
    files: &BTreeMap<String, Vec<u8>>,
) -> io::Result<()> {
    let origin = World::origin(source);
    for (name, bytes) in files {
        world.write(&format!("{folder}/{name}"), bytes, 0o644, &origin)?;
    }
    Ok(())
}

/// A number of an attribute: 50 if it is not there.
fn number(element: &Element, name: &str) -> Option<i32> {
    let number = element.get(name).map_or(Some(50), |text| text.parse().ok())?;
    (0..=100).contains(&number).then_some(number)
}

/// `media/subtype`; it becomes the name of a file.
fn is_type(name: &str) -> bool {
    let is_name =
        |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['/', '\n', '\0']);
    name.split_once('/').is_some_and(|(media, subtype)| is_name(media) && is_name(subtype))
}

impl Database {
    fn load(&mut self, root: &Element) -> Option<()> {
        if root.name != "mime-info" || root.get("xmlns") != Some(NAMESPACE) {
            return None;
        }
        for element in root.elements() {
            let name = element.get("type").filter(|name| element.name == "mime-type" && is_type(name))?;
            self.types.entry(name, Vec::new)?;
            for field in element.elements() {
                self.field(name, field)?;
            }
        }
        Some(())
    }

    fn field(&mut self, kind: &str, field: &Element) -> Option<()> {
        match field.name.as_str() {
            "glob" => {
                let case_sensitive = field.get("case-sensitive") == Some("true");
                let pattern = field.get("pattern").filter(|pattern| !pattern.is_empty())?;
                let pattern = if case_sensitive { pattern.to_owned() } else { pattern.to_ascii_lowercase() };
                let weight = number(field, "weight")?;
                self.glob(Glob { weight, pattern, kind: kind.to_owned(), is_none: false, case_sensitive })?;
            }
            "glob-deleteall" => {
                let (pattern, kind) = (NO_GLOBS.to_owned(), kind.to_owned());
                self.glob(Glob { weight: 0, pattern, kind, is_none: true, case_sensitive: false })?;
            }
            "magic" => {
                self.magic.push(Magic::read(kind, field)?);
                return Some(());
            }
            "magic-deleteall" => {
                self.magic.push(Magic::none(kind));
                return Some(());
            }
            "treemagic" => {
                self.tree_magic.push(TreeMagic::read(kind, field)?);
                return Some(());
            }
            "root-XML" => {
                let (space, name) = (field.get("namespaceURI")?, field.get("localName")?);
                if space.contains([' ', '\n'])
                    || name.contains([' ', '\n'])
                    || space.is_empty() && name.is_empty()
                {
                    return None;
                }
                self.namespaces.insert(&format!("{space} {name}"), kind.to_owned());
                return Some(());
            }
            "alias" => {
                self.aliases.insert(field.get("type").filter(|name| name.contains('/'))?, kind.to_owned())
            }
            "sub-class-of" => {
                let parent = field.get("type").filter(|name| name.contains('/'))?.to_owned();
                self.parents.entry(kind, Vec::new)?.push(parent);
            }
            "icon" => self.icons.insert(kind, field.get("name")?.to_owned()),
            "generic-icon" => self.generic_icons.insert(kind, field.get("name")?.to_owned()),
            "comment" | "acronym" | "expanded-acronym" => {}
            _ => return None,
        }
        let kept = self.types.entry(kind, Vec::new)?;
        if field.name == "comment" {
            // A later one replaces the first of its language.
            let is_same =
                |old: &Element| old.name == "comment" && old.get("xml:lang") == field.get("xml:lang");
            if let Some(old) = kept.iter().position(is_same) {
                kept.remove(old);
            }
        }
        kept.push(field.clone());
        Some(())
    }

    fn glob(&mut self, glob: Glob) -> Option<()> {
        if glob.pattern.contains('\n') {
            return None;
        }
        let key = glob.pattern.clone();
        self.globs.entry(&key, Vec::new)?.push(glob);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_model::Digest;

    /// What update-mime-database 2.2 wrote of `example.xml`, which has a type of every kind.
    const WRITTEN: [(&str, &str); 5] = [
        ("application/x-one.xml", "ec6f55399e5efbf9c21287b029f08ff48d51f146c101e5d9e81554cf8c4863e7"),
        ("globs2", "23ab97dcaaf830312bfe9c6476208a8e5dbf1d29b32dbb8287ecb685072ae140"),
        ("magic", "f3a0e0a76d6f30c61b3ee693544c3437425231b9500cefbc87099687e637787b"),
        ("mime.cache", "b5969afa13051f02916ed1957936736003e3586b1235a2e17fe28dc5fb453c63"),
        ("treemagic", "37afde4c34ce7fbb7de2b90b89856277404d05ebacf3bd2ceaa091fd269865dd"),
    ];

    #[test]
    fn files_are_those_of_update_mime_database() {
        let mut database = Database::default();
        database.load(&xml::parse(include_str!("example.xml")).unwrap()).unwrap();
        let files = database.files("2.2").unwrap();
        assert_eq!(files.len(), 14);
        for (name, digest) in WRITTEN {
            assert_eq!(Digest::of(&files[name]).hex(), digest, "{name}");
        }
        let bad =
            xml::parse(&format!("<mime-info xmlns=\"{NAMESPACE}\"><mime-type type=\"../x\"/></mime-info>"));
        assert!(Database::default().load(&bad.unwrap()).is_none());
    }
}
