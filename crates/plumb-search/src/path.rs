//! A path as images resolve it, over many images at once: links lead on in those images that have them.

use std::collections::BTreeSet;

/// Most links that one path may lead through, as in Linux (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Most places that are looked at for one path; a path of ordinary length through all merged folders takes some twenty.
const MAX_STEPS: usize = 20_000;

/// What lies at a path in some images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// In these images.
    pub images: BTreeSet<u32>,
    /// What it is.
    pub entry: Entry,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A file, by the number that the asker knows it by.
    File(u64),
    /// A symbolic link, with its target as written.
    Link(String),
}

/// A file that a path leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resolved {
    /// The real path.
    pub path: String,
    /// The file.
    pub file: u64,
    /// In these images.
    pub images: BTreeSet<u32>,
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Files, sorted.
    pub found: Vec<Resolved>,
    /// Whether every way was gone to its end; otherwise there may be more.
    pub complete: bool,
}

/// A part of the way that is still to go.
struct Way {
    /// Where we are: a real folder, without a slash at the end.
    at: String,
    /// What comes below it, last first.
    rest: Vec<String>,
    images: BTreeSet<u32>,
    links: usize,
}

/// Every file that `path` leads to in `images`. `look` tells what lies at a path, folders left out: what is not there is
/// taken for a folder, as only paths below it can tell.
///
/// # Errors
/// Those of `look`.
pub fn resolve<E>(
    path: &str,
    images: BTreeSet<u32>,
    look: &mut dyn FnMut(&str) -> Result<Vec<At>, E>,
) -> Result<Resolution, E> {
    let mut ways = vec![Way { at: String::new(), rest: parts(path), images, links: 0 }];
    let mut found: Vec<Resolved> = Vec::new();
    for _ in 0..MAX_STEPS {
        let Some(mut way) = ways.pop() else { break };
        let Some(part) = way.rest.pop() else { continue };
        if part == ".." {
            way.at.truncate(way.at.rfind('/').unwrap_or(0));
            ways.push(way);
            continue;
        }
        let next = format!("{}/{part}", way.at);
        let mut folders = way.images;
        for place in look(&next)? {
            let here: BTreeSet<u32> = folders.intersection(&place.images).copied().collect();
            if here.is_empty() {
                continue;
            }
            folders.retain(|image| !here.contains(image));
            match place.entry {
                Entry::File(file) if way.rest.is_empty() => {
                    found.push(Resolved { path: next.clone(), file, images: here });
                }
                Entry::File(_) => {}
                Entry::Link(_) if way.links == MAX_LINKS => {}
                Entry::Link(target) => {
                    let mut rest = way.rest.clone();
                    rest.extend(parts(&target));
                    let at = if target.starts_with('/') { String::new() } else { way.at.clone() };
                    ways.push(Way { at, rest, images: here, links: way.links + 1 });
                }
            }
        }
        if !folders.is_empty() && !way.rest.is_empty() {
            ways.push(Way { at: next, rest: way.rest, images: folders, links: way.links });
        }
    }
    found.sort();
    Ok(Resolution { found, complete: ways.is_empty() })
}

/// The parts of a path, last first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).rev().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    type Tree = BTreeMap<&'static str, Entry>;

    fn resolved(path: &str, images: &[Tree]) -> Vec<Resolved> {
        let all = (0..).take(images.len()).collect();
        let mut look = |path: &str| -> Result<Vec<At>, Infallible> {
            let mut places: Vec<At> = Vec::new();
            for (number, tree) in (0..).zip(images) {
                let Some(entry) = tree.get(path) else { continue };
                match places.iter_mut().find(|place| place.entry == *entry) {
                    Some(place) => drop(place.images.insert(number)),
                    None => places.push(At { images: [number].into(), entry: entry.clone() }),
                }
            }
            Ok(places)
        };
        let Ok(resolution) = resolve(path, all, &mut look);
        assert!(resolution.complete, "{path}");
        resolution.found
    }

    fn link(target: &str) -> Entry {
        Entry::Link(target.to_owned())
    }

    fn at(path: &str, file: u64, images: &[u32]) -> Resolved {
        Resolved { path: path.to_owned(), file, images: images.iter().copied().collect() }
    }

    #[test]
    fn links_lead_on_in_the_images_that_have_them() {
        let merged: Tree = [
            ("/lib", link("usr/lib")),
            ("/usr/lib/libz.so.1", link("libz.so.1.2")),
            ("/usr/lib/libz.so.1.2", Entry::File(12)),
        ]
        .into();
        let other: Tree = [
            ("/lib", link("/usr/lib")),
            ("/usr/lib/libz.so.1", link("../lib/libz.so.1.3")),
            ("/usr/lib/libz.so.1.3", Entry::File(13)),
        ]
        .into();
        let plain: Tree = [("/lib/libz.so.1", Entry::File(11))].into();
        let images = [merged, other, plain, Tree::new()];
        assert_eq!(
            resolved("/lib/libz.so.1", &images),
            [
                at("/lib/libz.so.1", 11, &[2]),
                at("/usr/lib/libz.so.1.2", 12, &[0]),
                at("/usr/lib/libz.so.1.3", 13, &[1])
            ]
        );
        assert_eq!(resolved("//lib/./x/../libz.so.1.2", &images), [at("/usr/lib/libz.so.1.2", 12, &[0])]);
        assert!(resolved("/lib", &images).is_empty(), "a folder is no file");
    }

    /// A link whose target goes down and up again for longer than anybody follows.
    #[test]
    fn ways_that_were_not_gone_to_their_end_are_told() {
        let (down, up) = ("x/".repeat(400), "../".repeat(400));
        let target = format!("{down}{up}a");
        assert!(target.len() < 4096, "a target as Linux allows it");
        let mut look = |path: &str| -> Result<Vec<At>, Infallible> {
            let entry = link(&target);
            Ok(if path == "/a" { vec![At { images: [0].into(), entry }] } else { Vec::new() })
        };
        let Ok(resolution) = resolve("/a", [0].into(), &mut look);
        assert_eq!(resolution, Resolution { found: Vec::new(), complete: false });
        let Ok(resolution) = resolve("/b", [0].into(), &mut look);
        assert_eq!(resolution, Resolution { found: Vec::new(), complete: true });
    }

    #[test]
    fn circles_and_ways_through_files_end() {
        let tree: Tree =
            [("/a", link("b")), ("/b", link("a")), ("/f", Entry::File(1)), ("/up", link("../../f"))].into();
        assert!(resolved("/a/x", std::slice::from_ref(&tree)).is_empty());
        assert!(resolved("/f/x", std::slice::from_ref(&tree)).is_empty());
        assert_eq!(resolved("/up", &[tree]), [at("/f", 1, &[0])], "above the root is the root");
    }
}
