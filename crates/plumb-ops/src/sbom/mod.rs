//! The software bill of materials of a release: what is in each machine, by exact version and digest, and what needs what.
//!
//! ```text
//!  release ─ lock, package list, inventory ─► Bill ─┬─ cyclonedx ─► CycloneDX 1.6, JSON
//!                                                   └─ spdx ──────► SPDX 2.3, JSON
//! ```
//! A bill is made from what is inside the images, so it says the same as a scanner that looks into one: Debian packages from
//! the package list, Python projects from `*.dist-info/METADATA`, packages of npm from `node_modules/*/package.json`. What a
//! Debian package brings is that package. The same release gives the same bytes.

mod container;
mod cyclonedx;
mod owned;
mod spdx;

use std::collections::{BTreeMap, BTreeSet};

use plumb_content::python::normalize;
use plumb_debian::{Paragraphs, parse_source};
use plumb_diff::{Side, SideMachine};
use plumb_image::inventory::Inventory;
use plumb_image::tree::Kind;
use plumb_model::image::Image;
use plumb_model::{Digest, MachineName};
use serde_json::Value;

use crate::Plumb;
use crate::diff::Compared;
use crate::error::OpsError;
use crate::purl::{self, Qualifiers, encoded};
use crate::subject::STATUS;

/// Largest file of metadata that is read: the longest README inside a METADATA is below 1 MB.
const METADATA_BYTES: u64 = 16 * 1024 * 1024;

/// A form of a bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillForm {
    /// CycloneDX 1.6 (ECMA-424), JSON.
    CycloneDx,
    /// SPDX 2.3 (ISO/IEC 5962 is 2.2.1), JSON.
    Spdx,
}

/// What a release consists of.
pub(crate) struct Bill {
    /// `shop@3`.
    pub(crate) name: String,
    /// Application.
    pub(crate) app: String,
    /// Seconds since 1970: when its newest archive index was made, so that a bill does not depend on when it is asked for.
    pub(crate) date_s: i64,
    /// Follows from what the machines consist of.
    pub(crate) id: Digest,
    pub(crate) machines: Vec<BillMachine>,
}

/// One machine.
pub(crate) struct BillMachine {
    pub(crate) name: MachineName,
    /// Digest of the verified root.
    pub(crate) root: Digest,
    /// Whose packages it is made of: `Debian bookworm`.
    pub(crate) system: String,
    /// Why the components are not all.
    pub(crate) blind: Option<String>,
    pub(crate) components: Vec<Component>,
}

impl BillMachine {
    /// What is to be said if its components are not all.
    fn told(&self) -> String {
        self.blind.as_ref().map(|why| format!("; its packages are not all: {why}")).unwrap_or_default()
    }
}

/// One package of a machine.
pub(crate) struct Component {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Package URL (purl-spec).
    pub(crate) purl: String,
    /// Digest of the file it was unpacked from.
    pub(crate) sha256: Option<String>,
    /// Where that file is.
    pub(crate) location: Option<String>,
    /// Names of the components of the same machine that it needs.
    pub(crate) needs: BTreeSet<String>,
}

/// Where files of the layers of a container are from.
const CONTAINER: &str = "oci";

/// The file of a Python project that says what it is (PEP 376).
const PYTHON: &str = ".dist-info/METADATA";

impl Plumb<'_> {
    /// The bill of a release, or of a folder as it would be released now.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn sbom(&self, of: &Compared, form: BillForm) -> Result<Value, OpsError> {
        let side = self.side(of)?;
        let mut machines = Vec::new();
        for (name, machine) in &side.machines {
            machines.push(self.bill_machine(&side, name, machine)?);
        }
        let parts: Vec<String> =
            machines.iter().map(|machine| format!("{} {}", machine.name, machine.root)).collect();
        let bill = Bill {
            name: side.name.clone(),
            app: side.definition.app.to_string(),
            date_s: side.lock.sources.iter().map(|source| source.date).max().unwrap_or_default(),
            id: Digest::of(format!("{}\n{}", side.name, parts.join("\n")).as_bytes()),
            machines,
        };
        Ok(match form {
            BillForm::CycloneDx => cyclonedx::document(&bill),
            BillForm::Spdx => spdx::document(&bill),
        })
    }

    fn bill_machine(
        &self,
        side: &Side,
        name: &MachineName,
        machine: &SideMachine,
    ) -> Result<BillMachine, OpsError> {
        let mut bill = BillMachine {
            name: name.clone(),
            root: machine.image.root.digest,
            system: format!("Debian {}", side.definition.base.suite),
            blind: None,
            components: self.components(side, name, machine)?,
        };
        if side.definition.machines.get(name).is_some_and(|defined| defined.oci.is_some()) {
            let contained = self.packages_contained(side, name)?;
            bill.system = contained.distribution.unwrap_or_else(|| "a container".to_owned());
            bill.blind = contained.blind;
            let known: BTreeSet<String> = bill.components.iter().map(|one| one.purl.clone()).collect();
            bill.components.extend(contained.components.into_iter().filter(|one| !known.contains(&one.purl)));
        }
        Ok(bill)
    }

    fn components(
        &self,
        side: &Side,
        name: &MachineName,
        machine: &SideMachine,
    ) -> Result<Vec<Component>, OpsError> {
        let status = self.text_of(name, &machine.inventory.tree(), STATUS)?;
        let sources = sources(&status);
        let kernel = side.lock.machines.get(name).map(|locked| locked.kernel.clone());
        let packages = machine.image.packages.keys().map(ToString::to_string).chain(kernel);
        let mut found = Vec::new();
        for package in packages.filter_map(|package| side.lock.package(&package)) {
            let archive = side.lock.sources.iter().find(|source| source.suite == package.suite);
            let qualifiers = Qualifiers {
                vendor: purl::DEBIAN,
                arch: &package.architecture,
                distro: &side.definition.base.suite,
                upstream: sources.get(package.name.as_str()).map(String::as_str),
            };
            let needs = machine.dependencies.needs(&package.name);
            found.push(Component {
                name: package.name.to_string(),
                version: package.version.to_string(),
                purl: purl::debian(package.name.as_str(), package.version.as_str(), &qualifiers),
                sha256: Some(package.digest.hex()),
                location: archive.map(|archive| format!("{}/{}", archive.uri, package.file)),
                needs: needs.into_iter().map(|name| name.to_string()).collect(),
            });
        }
        found.extend(
            self.of_languages(name, (&machine.image, &machine.inventory))?
                .into_iter()
                .map(|(_, component)| component),
        );
        Ok(found)
    }

    /// Python projects and packages of npm that lie in the image, each once, with the path that says so.
    pub(crate) fn of_languages(
        &self,
        name: &MachineName,
        (image, inventory): (&Image, &Inventory),
    ) -> Result<Vec<(String, Component)>, OpsError> {
        self.carve(name, (image, inventory), &names_a_project)?;
        let of_dpkg = self.owned_by_dpkg(name, (image, inventory))?;
        let mut found = BTreeMap::new();
        for (path, (entry, origin)) in &inventory.entries {
            let Kind::File { digest, .. } = &entry.kind else { continue };
            // What a Debian package brings is that package.
            if origin.source != "app" && origin.source != CONTAINER || of_dpkg.contains(path.as_str()) {
                continue;
            }
            let read = || self.store.read_bytes(digest, METADATA_BYTES);
            let (kind, named) = if path.ends_with(PYTHON) {
                ("pypi", python(&String::from_utf8_lossy(&read()?)))
            } else if names_a_project(path) {
                // Test data of packages that is no JSON names nothing, either.
                ("npm", serde_json::from_slice(&read()?).ok().as_ref().and_then(npm))
            } else {
                continue;
            };
            // Many a package.json in a package only says how its files are to be read, and names nothing.
            let Some((name, version)) = named else { continue };
            let purl = format!("pkg:{kind}/{}@{}", path_of(&name), encoded(&version));
            let component = Component {
                name,
                version,
                purl: purl.clone(),
                sha256: None,
                location: None,
                needs: BTreeSet::new(),
            };
            found.entry(purl).or_insert((path.clone(), component));
        }
        Ok(found.into_values().collect())
    }
}

/// Whether a file is one that says which project of another language lies beside it.
fn names_a_project(path: &str) -> bool {
    path.ends_with(PYTHON) || path.contains("/node_modules/") && path.ends_with("/package.json")
}

/// Name of the source package of each package that has another name for it: `Source:` of deb-control(5).
fn sources(status: &str) -> BTreeMap<String, String> {
    let stanzas = Paragraphs::new(status).filter_map(Result::ok);
    let pair = |stanza: plumb_debian::Paragraph<'_>| {
        let (source, _) = parse_source(stanza.get("Source")?)?;
        Some((stanza.get("Package")?.to_owned(), source.to_owned()))
    };
    stanzas.filter_map(pair).collect()
}

/// `@scope/name` of npm keeps its slash.
fn path_of(name: &str) -> String {
    name.split('/').map(encoded).collect::<Vec<_>>().join("/")
}

/// `Name:` and `Version:` of core metadata (PEP 566), the name in its normal form (PEP 503).
fn python(metadata: &str) -> Option<(String, String)> {
    let head = metadata.lines().take_while(|line| !line.is_empty());
    let field = |key: &str| head.clone().find_map(|line| line.strip_prefix(key)).map(str::trim);
    Some((normalize(field("Name:")?), field("Version:")?.to_owned()))
}

fn npm(package: &Value) -> Option<(String, String)> {
    let text = |key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
    Some((text("name")?, text("version")?))
}

/// A UUID that follows from the bill (RFC 9562, version 8).
fn uuid(id: &Digest) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&id.as_bytes()[..16]);
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// RFC 3339, in UTC.
fn timestamp(seconds: i64) -> String {
    crate::clock::utc(seconds, "%Y-%m-%dT%H:%M:%SZ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls() {
        let qualifiers =
            Qualifiers { vendor: purl::DEBIAN, arch: "amd64", distro: "bookworm", upstream: Some("gcc-12") };
        assert_eq!(
            purl::debian("libstdc++6", "1:12.2.0-14+deb12u1~x", &qualifiers),
            "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bdeb12u1~x?arch=amd64&distro=bookworm&upstream=gcc-12"
        );
        assert_eq!(path_of("@types/node"), "%40types/node");
    }

    #[test]
    fn names_in_metadata() {
        let metadata = "Metadata-Version: 2.1\nName: Flask_Thing.x\nVersion: 1.0\n\nName: other\n";
        assert_eq!(python(metadata), Some(("flask-thing-x".into(), "1.0".into())));
        let folded = "Name: Zope._-Interface\nVersion: 5\n";
        assert_eq!(python(folded), Some(("zope-interface".into(), "5".into())), "a run of signs is one");
        assert_eq!(python("Name: x\n\nVersion: 1\n"), None);
        assert_eq!(npm(&serde_json::json!({"type": "module"})), None);
        let status = "Package: a\nSource: src (1.0)\n\nPackage: b\nVersion: 1\n";
        assert_eq!(sources(status), BTreeMap::from([("a".to_owned(), "src".to_owned())]));
    }

    #[test]
    fn an_id_is_a_uuid() {
        let id = uuid(&Digest::of(b"x"));
        assert_eq!((id.len(), id.as_bytes()[14], id.matches('-').count()), (36, b'8', 4));
    }
}
