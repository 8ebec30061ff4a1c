//! Tests over small registries.

mod brute_force;
mod case;

use std::collections::BTreeSet;

use plumb_debian::{PackageRecord, parse_packages};

use crate::{Request, ResolveError, RootRequest, Source, Universe, check, resolve};

fn packages(text: &str) -> Vec<PackageRecord> {
    parse_packages(&index(text)).expect("a valid index")
}

/// An index from lines such as `web 1.0; Depends: lib (>= 1); Provides: httpd`.
fn index(text: &str) -> String {
    let mut index = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().and_then(|head| head.split_once(' ')).expect("name and version");
        index += &format!("Package: {name}\nVersion: {version}\n");
        for field in parts {
            index += &format!("{field}\n");
        }
        if !line.contains("Architecture:") {
            index += "Architecture: amd64\n";
        }
        index += &format!("Filename: pool/{name}.deb\nSize: 1\nSHA256: {}\n\n", "0".repeat(64));
    }
    index
}

fn universe(text: &str) -> Universe {
    Universe::new(vec![Source::from_text("bookworm", index(text)).expect("a valid index")])
}

fn roots(text: &str) -> Vec<RootRequest> {
    text.split(',')
        .map(|root| RootRequest { relation: root.trim().into(), asked_by: "shop/web".into() })
        .collect()
}

fn request(text: &str) -> Request {
    Request { roots: roots(text), ..Request::default() }
}

/// The result as text; every result also passes the independent check.
fn shown(universe: &Universe, request: &Request) -> String {
    let resolution = match resolve(universe, request) {
        Ok(resolution) => resolution,
        Err(ResolveError::Unsolvable(explanation)) => return format!("{explanation}\n"),
        Err(error) => return format!("error: {error}\n"),
    };
    let records: Vec<_> = resolution.packages.iter().map(|chosen| chosen.record).collect();
    assert_eq!(check(&records, &request.roots, &request.without, &resolution.waived), []);
    let mut text = String::new();
    for chosen in &resolution.packages {
        let reasons: Vec<_> = chosen.required_by.iter().map(|(who, what)| format!("{who}: {what}")).collect();
        text += &format!("{} {} <- {}\n", chosen.record.name, chosen.record.version, reasons.join("; "));
    }
    for waived in &resolution.waived {
        text += &format!("waived {}: {}\n", waived.requirer, waived.relation);
    }
    for note in &resolution.notes {
        text += &format!("note {note}\n");
    }
    text
}

fn names(list: &str) -> BTreeSet<plumb_debian::PackageName> {
    list.split_ascii_whitespace().map(|name| name.parse().expect("a name")).collect()
}
