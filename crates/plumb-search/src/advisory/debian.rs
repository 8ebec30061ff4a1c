//! The JSON of Debian's security tracker (`https://security-tracker.debian.org/tracker/data/json`).
//!
//! ```text
//! {"openssl": {"CVE-2025-9230": {"description": "…", "scope": "remote", "debianbug": 1,
//!    "releases": {"bookworm": {"status": "resolved", "fixed_version": "3.0.17-1~deb12u3", "urgency": "medium",
//!                              "repositories": {"bookworm": "3.0.17-1~deb12u2"}, "nodsa": "Minor issue"}}}}}
//! ```
//! `status` is `resolved`, `open` or `undetermined`; `fixed_version` `0` says that the suite never was affected.

use std::collections::BTreeMap;
use std::fmt;

use plumb_debian::Version;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::guard::{Guard, Guarded};
use super::{Advisory, Claim, Keeper, Urgency, is_word, note};
use crate::{Ecosystem, VulnerabilityName};

#[derive(Deserialize)]
struct Issue {
    #[serde(default)]
    releases: BTreeMap<String, Suite>,
}

/// What is said of one suite.
#[derive(Deserialize)]
struct Suite {
    status: String,
    fixed_version: Option<String>,
    urgency: Option<String>,
    nodsa: Option<String>,
}

impl Suite {
    fn claim(&self) -> Claim {
        match (self.status.as_str(), self.fixed_version.as_deref()) {
            ("resolved", Some("0")) => Claim::none(),
            ("resolved", Some(version)) if version.parse::<Version>().is_ok() => Claim::fixed_in(version),
            ("open", _) => Claim::open(),
            _ => Claim::Undetermined,
        }
    }

    fn note(&self) -> String {
        let no_fix = self.nodsa.as_deref().filter(|_| self.status == "open");
        match (self.urgency.as_deref(), no_fix) {
            (Some("end-of-life"), _) => "no longer supported".to_owned(),
            (_, Some("")) => "no security update is planned".to_owned(),
            (_, Some(reason)) => note(&format!("no security update is planned: {reason}")),
            _ => String::new(),
        }
    }
}

pub(super) fn read(
    reader: Guarded<'_>,
    guard: &Guard,
    keeper: &mut Keeper<'_, '_>,
) -> serde_json::Result<()> {
    let mut json = serde_json::Deserializer::from_reader(reader);
    Packages { guard, keeper }.deserialize(&mut json)?;
    json.end()
}

/// `{package: …}`
struct Packages<'a, 'k, 's> {
    guard: &'a Guard,
    keeper: &'a mut Keeper<'k, 's>,
}

/// `{CVE: …}` of one package.
struct Issues<'a, 'k, 's> {
    package: String,
    guard: &'a Guard,
    keeper: &'a mut Keeper<'k, 's>,
}

macro_rules! map_seed {
    ($type:ident) => {
        impl<'de> DeserializeSeed<'de> for $type<'_, '_, '_> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
                deserializer.deserialize_map(self)
            }
        }
    };
}

map_seed!(Packages);
map_seed!(Issues);

impl<'de> Visitor<'de> for Packages<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("source packages with what is known of each")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(package) = map.next_key::<String>()? {
            self.guard.next_record();
            map.next_value_seed(Issues { package, guard: self.guard, keeper: &mut *self.keeper })?;
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Issues<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("vulnerabilities with what is known of each suite")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let issue: Issue = map.next_value()?;
            self.guard.next_record();
            let name = name.parse::<VulnerabilityName>().ok().filter(|_| is_word(&self.package));
            for (suite, said) in issue.releases {
                let Some(name) = name.clone().filter(|_| is_word(&suite)) else {
                    self.keeper.skip();
                    continue;
                };
                self.keeper.keep(&Advisory {
                    name,
                    aliases: Vec::new(),
                    ecosystem: Ecosystem::Debian,
                    suite: Some(suite),
                    package: self.package.clone(),
                    claim: said.claim(),
                    urgency: Urgency::of(said.urgency.as_deref().unwrap_or_default()),
                    note: said.note(),
                })?;
            }
        }
        Ok(())
    }
}
