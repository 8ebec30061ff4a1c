//! Archive metadata: release file, package index, control data, relations, versions.

use plumb_debian::{Catalog, Paragraphs, ReleaseFile, Version, parse_packages, parse_relations};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    control(text);
    versions(text);
    relations(text);
    if let Ok(release) = text.parse::<ReleaseFile>() {
        for (path, file) in &release.sha256 {
            check_archive_path(path);
            check_sha256(&file.sha256);
        }
    }
    if let Ok(catalog) = Catalog::build(text) {
        check_catalog(text, &catalog);
    }
    // A catalog that was kept on disk may have become anything.
    if let Some(catalog) = Catalog::load(text.as_bytes().to_vec()) {
        read_all(&catalog);
    }
    if let Ok(records) = parse_packages(text) {
        for record in &records {
            check_archive_path(&record.filename);
            check_sha256(&record.sha256);
            for field in [&record.depends, &record.pre_depends, &record.provides, &record.conflicts] {
                relations(field);
            }
        }
    }
}

/// Fields written out again are read as the same fields.
fn control(text: &str) {
    for paragraph in Paragraphs::new(text).flatten() {
        let mut written = String::new();
        for field in &paragraph.fields {
            written.push_str(&format!("{}: {}\n", field.name, field.value));
        }
        let again = Paragraphs::new(&written).next().expect("one paragraph").expect("as it was read");
        let pairs = |paragraph: &plumb_debian::Paragraph<'_>| -> Vec<(String, String)> {
            paragraph.fields.iter().map(|field| (field.name.to_owned(), field.value.to_owned())).collect()
        };
        assert_eq!(pairs(&paragraph), pairs(&again));
    }
}

/// A row says of its stanza what the stanza says.
fn check_catalog(text: &str, catalog: &Catalog) {
    for row in 0..catalog.len() {
        let stanza = catalog.stanza(row);
        let stanza = &text[stanza.start as usize..stanza.end as usize];
        let records = parse_packages(stanza).expect("a stanza that was read before");
        let record = &records[0];
        assert_eq!(
            (record.name.as_str(), record.version.as_str()),
            (catalog.name(row), catalog.version(row))
        );
        for relation in parse_relations(&record.provides).into_iter().flatten().flat_map(|group| group.0) {
            let version = relation.version.as_ref().map_or("", |(_, version)| version.as_str());
            let mut providers = catalog.providers(relation.name.as_str());
            assert!(providers.any(|found| found.row == row && found.version == version), "{relation}");
        }
    }
    assert_eq!(Catalog::load(catalog.bytes().to_vec()).as_ref(), Some(catalog));
}

fn read_all(catalog: &Catalog) {
    for row in 0..catalog.len().min(100) {
        let _ = (catalog.version(row), catalog.stanza(row), catalog.rank(row));
        let _ = catalog.providers(catalog.name(row)).take(100).count();
    }
}

/// The order is total and a version is written as it was read.
fn versions(text: &str) {
    let versions: Vec<Version> =
        text.split_ascii_whitespace().take(8).filter_map(|word| word.parse().ok()).collect();
    for left in &versions {
        assert_eq!(left.as_str().parse::<Version>().expect("a version"), *left);
        for right in &versions {
            assert_eq!(left.cmp(right), right.cmp(left).reverse(), "{left} {right}");
            for third in &versions {
                assert!(!(left <= right && right <= third) || left <= third, "{left} {right} {third}");
            }
        }
    }
}

fn relations(text: &str) {
    let Ok(groups) = parse_relations(text) else { return };
    let written: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let again = parse_relations(&written.join(", ")).expect("what was written is read");
    assert_eq!(groups, again);
    for relation in groups.iter().flat_map(|group| &group.0) {
        let _ = relation.applies_to("amd64");
    }
}

fn check_archive_path(path: &str) {
    crate::path::check(&format!("/{path}"));
}

fn check_sha256(text: &str) {
    assert!(text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{text}");
}
