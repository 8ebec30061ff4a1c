//! The Debian packages of a container image, as its own list has them; no lock of ours knows them.

use std::collections::BTreeSet;

use plumb_debian::{PackageName, Paragraph, Paragraphs, parse_source};
use plumb_diff::Side;
use plumb_model::MachineName;
use plumb_resolve::Dependencies;

use super::Component;
use crate::Plumb;
use crate::affected::Subject;
use crate::error::OpsError;
use crate::purl::{self, Qualifiers};

/// Packages, of which distribution they are, and why these are not all.
pub(super) struct Contained {
    pub(super) components: Vec<Component>,
    /// `Debian bookworm`, `ubuntu jammy`.
    pub(super) distribution: Option<String>,
    pub(super) blind: Option<String>,
}

impl Plumb<'_> {
    pub(super) fn packages_contained(&self, side: &Side, name: &MachineName) -> Result<Contained, OpsError> {
        let image = &side.machines[name].image;
        let subject = Subject { machine: name, image, definition: &side.definition, lock: &side.lock };
        let listed = self.listed_packages(&subject)?;
        let needs = Dependencies::parse(&listed.texts.join("\n\n")).ok();
        let (vendor, distro) = match listed.suite.as_deref().map(|suite| (suite, suite.split_once(':'))) {
            Some((_, Some((vendor, distro)))) => (vendor.to_owned(), Some(distro.to_owned())),
            Some((suite, None)) => (purl::DEBIAN.to_owned(), Some(suite.to_owned())),
            None => (purl::DEBIAN.to_owned(), None),
        };
        let of_stanza = |stanza: &Paragraph<'_>| {
            let (package, version) = (stanza.get("Package")?.trim(), stanza.get("Version")?.trim());
            let source = stanza.get("Source").and_then(parse_source).map(|(source, _)| source);
            let qualifiers = Qualifiers {
                vendor: &vendor,
                arch: stanza.get("Architecture").map_or("", str::trim),
                distro: distro.as_deref().unwrap_or_default(),
                upstream: source.filter(|source| *source != package),
            };
            let own = package.parse::<PackageName>().ok();
            let needs = own.zip(needs.as_ref()).map(|(own, needs)| needs.needs(&own)).unwrap_or_default();
            Some(Component {
                name: package.to_owned(),
                version: version.to_owned(),
                purl: purl::debian(package, version, &qualifiers),
                sha256: None,
                location: None,
                needs: needs.into_iter().map(|name| name.to_string()).collect(),
            })
        };
        // What cannot be read is told, once, by `blind`.
        let here: BTreeSet<(String, String)> = listed.packages.into_iter().collect();
        let stanzas = listed.texts.iter().flat_map(|text| Paragraphs::new(text).filter_map(Result::ok));
        let components = stanzas.filter_map(|stanza| of_stanza(&stanza));
        let is_here = |one: &Component| here.contains(&(one.name.clone(), one.version.clone()));
        Ok(Contained {
            components: components.filter(is_here).collect(),
            distribution: distro.map(|distro| match vendor.as_str() {
                purl::DEBIAN => format!("Debian {distro}"),
                other => format!("{other} {distro}"),
            }),
            blind: listed.blind,
        })
    }
}
