//! What one image holds, for the index: packages with the chain that leads to each, and files in pieces.
//!
//! A piece is what came together: the files of one package in one version, those of one folder of the user's, or one file
//! that a rule made. Images share most pieces, so that a million paths of a thousand images are some thousand pieces.

use std::collections::BTreeMap;

use plumb_debian::{PackageName, Paragraph, Paragraphs, parse_source};
use plumb_image::inventory::Inventory;
use plumb_image::tree::Kind;
use plumb_model::definition::{Definition, Machine, OciPlace};
use plumb_model::image::Image;
use plumb_model::lock::Lock;
use plumb_model::{Digest, MachineName};
use plumb_resolve::Dependencies;
use plumb_search::advisory::suite_of_number;
use plumb_search::{Component, Ecosystem};

use crate::build::MANIFEST_LIMIT;
use crate::error::OpsError;
use crate::subject::{STATUS, roots};
use crate::why::WhyLink;
use crate::{Plumb, sbom};

/// Where images without dpkg have dpkg's list of packages in parts (one file per package).
const STATUS_PARTS: &str = "/var/lib/dpkg/status.d/";

/// Whose packages they are (os-release(5)).
const OS_RELEASE: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// The suite of packages of which nobody knows whose they are. No feed speaks of it.
pub(super) const UNKNOWN_SUITE: &str = "unknown:";

/// Packages, and why these are not all, or not known whose they are.
pub(super) type Packages = (Vec<Component>, Option<String>);

/// What one image holds.
pub(super) struct Seen {
    /// Every package, with what leads to it.
    pub(super) components: Vec<(Component, Vec<WhyLink>)>,
    /// Every file and link.
    pub(super) pieces: Vec<Piece>,
    /// Why not all of its packages are known, or not whose they are.
    pub(super) blind: Option<String>,
    /// Why not all is known that they say; another time it may be.
    pub(super) missed: Option<String>,
}

/// The Debian packages of an image as its own lists have them, with these lists.
pub(crate) struct Listed {
    pub(crate) texts: Vec<String>,
    /// `bookworm`, `ubuntu:jammy`.
    pub(crate) suite: Option<String>,
    /// Names and versions.
    pub(crate) packages: Vec<(String, String)>,
    /// Why these are not all.
    pub(crate) blind: Option<String>,
}

/// A list of packages, or a part of it.
struct List {
    path: String,
    text: String,
}

/// Files that came together.
pub(super) struct Piece {
    /// Package and version, `rule:NAME`, or `app`.
    pub(super) origin: String,
    /// Of everything in it.
    pub(super) digest: Digest,
    pub(super) files: Vec<PieceFile>,
}

/// A path of a piece.
pub(super) struct PieceFile {
    pub(super) path: String,
    pub(super) content: Content,
}

/// What is at a path.
pub(super) enum Content {
    File(Digest),
    Link(String),
}

/// A machine of a release, with what the release was made from.
pub(crate) struct Subject<'s> {
    pub(crate) machine: &'s MachineName,
    pub(crate) image: &'s Image,
    pub(crate) definition: &'s Definition,
    pub(crate) lock: &'s Lock,
}

impl Plumb<'_> {
    /// Looks into an image.
    pub(super) fn look_into(&self, subject: &Subject<'_>) -> Result<Seen, OpsError> {
        let inventory = self.inventory(subject.machine, subject.image)?;
        let (lists, suite) = self.lists(subject, &inventory)?;
        let defined = subject.definition.machines.get(subject.machine);
        let (mut components, blind) = debian(subject, &lists, suite.as_deref());
        components.extend(kernel(subject));
        for (path, found) in self.of_languages(subject.machine, (subject.image, &inventory))? {
            components.push(of_language(path, found, defined));
        }
        Ok(Seen { components, pieces: pieces(&inventory, subject.image), blind, missed: None })
    }

    /// The packages of an image with its kernel, as far as they can be read, and why these are not all.
    pub(super) fn packages_of(&self, subject: &Subject<'_>) -> Result<Packages, OpsError> {
        let inventory = self.inventory(subject.machine, subject.image)?;
        let (lists, suite) = self.lists(subject, &inventory)?;
        let (mut components, blind) = listed(&lists, suite.as_deref());
        components.extend(kernel(subject).map(|(component, _)| component));
        Ok((components, blind))
    }

    /// The Debian packages of an image without its kernel.
    pub(crate) fn listed_packages(&self, subject: &Subject<'_>) -> Result<Listed, OpsError> {
        let inventory = self.inventory(subject.machine, subject.image)?;
        let (lists, suite) = self.lists(subject, &inventory)?;
        let (components, blind) = listed(&lists, suite.as_deref());
        Ok(Listed {
            packages: components.into_iter().map(|one| (one.name, one.version)).collect(),
            texts: lists.into_iter().map(|list| list.text).collect(),
            suite,
            blind,
        })
    }

    /// The lists of packages of an image, and the suite that advisories call them by, if that is known.
    fn lists(
        &self,
        subject: &Subject<'_>,
        inventory: &Inventory,
    ) -> Result<(Vec<List>, Option<String>), OpsError> {
        self.carve(subject.machine, (subject.image, inventory), &says_what_it_is)?;
        let defined = subject.definition.machines.get(subject.machine);
        let suite = match defined.and_then(|machine| machine.oci.as_ref()) {
            Some(_) => self.suite_of_container(inventory)?,
            None => Some(subject.definition.base.suite.clone()),
        };
        Ok((self.status(inventory)?, suite))
    }

    /// The control stanzas of all packages.
    fn status(&self, inventory: &Inventory) -> Result<Vec<List>, OpsError> {
        let mut all = Vec::new();
        let parts = inventory.entries.range(STATUS_PARTS.to_owned()..);
        let parts = parts.take_while(|(path, _)| path.starts_with(STATUS_PARTS));
        let parts = parts.filter(|(path, _)| !path.ends_with(".md5sums"));
        for (path, (entry, _)) in inventory.entries.get_key_value(STATUS).into_iter().chain(parts) {
            if let Kind::File { digest, .. } = &entry.kind {
                let bytes = self.store.read_bytes(digest, MANIFEST_LIMIT)?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                all.push(List { path: path.clone(), text });
            }
        }
        Ok(all)
    }

    /// The suite that advisories call a container's packages by. Other distributions have dpkg, too, and what Debian says
    /// of its packages is not said of theirs.
    fn suite_of_container(&self, inventory: &Inventory) -> Result<Option<String>, OpsError> {
        for path in OS_RELEASE {
            let Some((entry, _)) = inventory.entries.get(path) else { continue };
            let Kind::File { digest, .. } = &entry.kind else { continue };
            let bytes = self.store.read_bytes(digest, MANIFEST_LIMIT)?;
            return Ok(suite_of(&String::from_utf8_lossy(&bytes)));
        }
        Ok(None)
    }
}

/// Whether a path says what an image consists of.
fn says_what_it_is(path: &str) -> bool {
    path == STATUS || path.starts_with(STATUS_PARTS) || OS_RELEASE.contains(&path)
}

/// `bookworm` of Debian's os-release, `ubuntu:jammy` of another's. Images that are made of Debian's packages without Debian's
/// tools may have nothing but its number.
fn suite_of(os_release: &str) -> Option<String> {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
    };
    let codename = Some(value("VERSION_CODENAME")).filter(|name| !name.is_empty());
    match value("ID").as_str() {
        "" => None,
        "debian" => codename.or_else(|| suite_of_number(&value("VERSION_ID")).map(str::to_owned)),
        id => Some(format!("{id}:{}", codename.unwrap_or_else(|| value("VERSION_ID")))),
    }
}

/// The packages of the lists, and why these are not all.
fn debian(
    subject: &Subject<'_>,
    lists: &[List],
    suite: Option<&str>,
) -> (Vec<(Component, Vec<WhyLink>)>, Option<String>) {
    let defined = subject.definition.machines.get(subject.machine);
    let texts: Vec<&str> = lists.iter().map(|list| list.text.as_str()).collect();
    let chains = match (defined, Dependencies::parse(&texts.join("\n\n"))) {
        (Some(machine), Ok(dependencies)) => dependencies.chains(&roots(machine)),
        _ => BTreeMap::new(),
    };
    let container = defined.and_then(container_link);
    let (components, blind) = listed(lists, suite);
    let with_chain = |component: Component| {
        let chain = component.name.parse::<PackageName>().ok().and_then(|name| chains.get(&name));
        let links = match (chain, &container) {
            (Some(chain), _) => chain.iter().cloned().map(WhyLink::from).collect(),
            (None, Some(link)) => vec![WhyLink { answer: component.name.clone(), ..link.clone() }],
            (None, None) => Vec::new(),
        };
        (component, links)
    };
    (components.into_iter().map(with_chain).collect(), blind)
}

/// What cannot be read in one list hides nothing of the others, and nothing above it.
fn listed(lists: &[List], suite: Option<&str>) -> Packages {
    let unknown = "it does not say of which suite of which distribution its packages are";
    let (mut found, mut blind) = (Vec::new(), suite.is_none().then(|| unknown.to_owned()));
    let suite = suite.unwrap_or(UNKNOWN_SUITE);
    for List { path, text } in lists {
        for stanza in Paragraphs::new(text) {
            let component =
                stanza.map_err(|error| error.to_string()).and_then(|stanza| of_stanza(&stanza, suite));
            match component {
                Ok(component) => found.extend(component),
                Err(error) => drop(blind.get_or_insert_with(|| format!("`{path}`: {error}"))),
            }
        }
    }
    if lists.iter().all(|list| list.text.trim_ascii().is_empty()) {
        blind = Some("it has no list of packages that Plumb reads".to_owned());
    }
    (found, blind)
}

/// `Source: gcc-12 (12.2.0-14)`, each left out where it is the package's own (deb-control(5)).
fn of_stanza(stanza: &Paragraph<'_>, suite: &str) -> Result<Option<Component>, String> {
    // A package that was removed and left its configuration is not there.
    if stanza.get("Status").is_some_and(|status| !status.trim_end().ends_with(" installed")) {
        return Ok(None);
    }
    let (Some(name), Some(version)) = (stanza.get("Package"), stanza.get("Version")) else {
        return Ok(None);
    };
    let (name, version) = (name.trim(), version.trim());
    let said = stanza.get("Source").unwrap_or(name);
    let (source, source_version) =
        parse_source(said).ok_or_else(|| format!("package `{name}` is from no source: `{said}`"))?;
    Ok(Some(Component {
        ecosystem: Ecosystem::Debian,
        name: name.to_owned(),
        version: version.to_owned(),
        source: source.to_owned(),
        source_version: source_version.unwrap_or(version).to_owned(),
        suite: suite.to_owned(),
    }))
}

/// The kernel is a part of the image by itself, and its package is not in the list. Advisories call Debian's kernels
/// `linux`; signed ones are built from a source of another name, with the version of `linux`.
fn kernel(subject: &Subject<'_>) -> Option<(Component, Vec<WhyLink>)> {
    let locked = subject.lock.machines.get(subject.machine)?;
    let package = subject.lock.package(&locked.kernel)?;
    let component = Component {
        ecosystem: Ecosystem::Debian,
        name: package.name.to_string(),
        version: package.version.to_string(),
        source: "linux".to_owned(),
        source_version: package.version.to_string(),
        suite: subject.definition.base.suite.clone(),
    };
    let asked = subject.definition.base.kernel.to_string();
    let link = WhyLink {
        by: format!("base.kernel = \"{asked}\""),
        relation: asked,
        answer: package.name.to_string(),
    };
    Some((component, vec![link]))
}

fn of_language(path: String, found: sbom::Component, defined: Option<&Machine>) -> (Component, Vec<WhyLink>) {
    let ecosystem = if found.purl.starts_with("pkg:npm/") { Ecosystem::Npm } else { Ecosystem::Pypi };
    let targets = defined.into_iter().flat_map(|machine| &machine.app).map(|content| content.target.as_str());
    let by = targets.filter(|target| path.starts_with(*target)).max_by_key(|target| target.len());
    let link = by.map(|target| WhyLink {
        by: format!("app = {{ \"{target}\" }}"),
        relation: path.clone(),
        answer: found.name.clone(),
    });
    let container = defined.and_then(container_link);
    let link = link.or(container.map(|link| WhyLink { answer: found.name.clone(), ..link }));
    let component = Component {
        ecosystem,
        source: found.name.clone(),
        source_version: found.version.clone(),
        name: found.name,
        version: found.version,
        suite: String::new(),
    };
    (component, link.into_iter().collect())
}

/// What asks for everything of a container image.
fn container_link(machine: &Machine) -> Option<WhyLink> {
    let place = match &machine.oci.as_ref()?.place {
        OciPlace::Registry { host, repository } => format!("{host}/{repository}"),
        OciPlace::Layout { path } => path.clone(),
    };
    Some(WhyLink { by: format!("oci = \"{place}\""), relation: place, answer: String::new() })
}

/// Everything but folders.
fn pieces(inventory: &Inventory, image: &Image) -> Vec<Piece> {
    let mut groups: BTreeMap<(String, &str), Vec<PieceFile>> = BTreeMap::new();
    for (path, (entry, origin)) in &inventory.entries {
        let content = match &entry.kind {
            Kind::Directory => continue,
            Kind::File { digest, .. } => Content::File(*digest),
            Kind::Symlink { target } => Content::Link(target.clone()),
        };
        let package = origin.source.parse::<PackageName>().ok();
        let version = package.and_then(|name| Some(&image.packages.get(&name)?.version));
        let key = match version {
            Some(version) => (format!("{} {version}", origin.source), ""),
            None if origin.source == "app" => {
                (origin.source.clone(), path.rsplit_once('/').map_or("", |(folder, _)| folder))
            }
            None => (origin.source.clone(), path.as_str()),
        };
        groups.entry(key).or_default().push(PieceFile { path: path.clone(), content });
    }
    groups.into_iter().map(|((origin, _), files)| Piece::new(origin, files)).collect()
}

impl Piece {
    fn new(origin: String, files: Vec<PieceFile>) -> Self {
        let mut said = origin.clone().into_bytes();
        for file in &files {
            said.push(0);
            said.extend_from_slice(file.path.as_bytes());
            said.push(0);
            match &file.content {
                Content::File(digest) => said.extend_from_slice(digest.as_bytes()),
                Content::Link(target) => said.extend_from_slice(target.as_bytes()),
            }
        }
        Piece { digest: Digest::of(&said), origin, files }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(path: &str, text: &str) -> List {
        List { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn what_cannot_be_read_hides_nothing_else_and_is_told() {
        let lists = [
            list("/s", "Package: a\nVersion: 1\n\nno field\n\nPackage: lost\nVersion: 1\n"),
            list("/t", "Package: b\nVersion: 1\nSource: two words (1)\n\nPackage: c\nVersion: 1\n"),
        ];
        let (found, blind) = listed(&lists, Some("bookworm"));
        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(blind.as_ref().is_some_and(|why| why.starts_with("`/s`: ")), "{blind:?}");
        let (found, blind) = listed(&lists[1..], Some("bookworm"));
        assert_eq!((found.len(), blind.is_some_and(|why| why.contains("two words"))), (1, true));
        for none in [&[][..], &[list("/s", "\n")][..]] {
            let (found, blind) = listed(none, Some("bookworm"));
            assert!(found.is_empty() && blind.is_some_and(|why| why.contains("no list")));
        }
    }

    #[test]
    fn names_and_versions_of_sources() {
        let status = "Package: libssl3\nStatus: install ok installed\nSource: openssl\nVersion: 3.0.17-1~deb12u2\n\n\
            Package: libgcc-s1\nSource: gcc-12 (12.2.0-14)\nVersion: 12.2.0-14+b1\n\n\
            Package: zlib1g\nVersion: 1:1.2.13\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nVersion: 1\n";
        let (found, blind) = listed(&[list("/a", status)], Some("bookworm"));
        assert_eq!(blind, None);
        let shown = |one: &Component| {
            format!("{} {} of {} {}", one.name, one.version, one.source, one.source_version)
        };
        let found: Vec<String> = found.iter().map(shown).collect();
        assert_eq!(
            found,
            [
                "libssl3 3.0.17-1~deb12u2 of openssl 3.0.17-1~deb12u2",
                "libgcc-s1 12.2.0-14+b1 of gcc-12 12.2.0-14",
                "zlib1g 1:1.2.13 of zlib1g 1:1.2.13"
            ]
        );
    }

    #[test]
    fn suites_of_containers() {
        let check = |text: &str, suite: Option<&str>| assert_eq!(suite_of(text).as_deref(), suite, "{text}");
        check("PRETTY_NAME=\"x\"\nID=debian\nVERSION_CODENAME=bookworm\n", Some("bookworm"));
        check("ID=debian\nVERSION=\"Debian GNU/Linux 12\"\nVERSION_ID=\"12\"\n", Some("bookworm"));
        check("ID='debian'\nVERSION_ID=13\n", Some("trixie"));
        check("ID=debian\nVERSION_ID=99\n", None);
        check("ID=debian\n", None);
        check("ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=\"jammy\"\n", Some("ubuntu:jammy"));
        check("ID=other\nVERSION_ID=12\n", Some("other:12"));
        check("", None);
    }

    #[test]
    fn packages_of_nobody_knows_whom_are_there_and_blind() {
        let (found, blind) = listed(&[list("/s", "Package: a\nVersion: 1\n")], None);
        assert_eq!((found.len(), found[0].suite.as_str()), (1, UNKNOWN_SUITE));
        assert!(blind.is_some_and(|why| why.contains("distribution")));
    }
}
