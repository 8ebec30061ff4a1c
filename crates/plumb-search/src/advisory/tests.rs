use proptest::prelude::*;

use super::*;

/// Written by hand, true to the form of Debian's tracker.
const TRACKER: &str = include_str!("../../tests/data/tracker.json");

/// Written by hand, true to OSV schema 1.7 and to what osv.dev has of Debian, PyPI and npm.
const OSV: &str = include_str!("../../tests/data/osv.json");

fn statements(text: &str) -> (Vec<Advisory>, Tally) {
    let mut all = Vec::new();
    let form = form_of(text.as_bytes()).expect("a form");
    let tally = read(form, &mut text.as_bytes(), Tally::default(), &mut |one| {
        all.push(one.clone());
        Ok(())
    });
    (all, tally.expect("a feed"))
}

fn one<'s>(all: &'s [Advisory], name: &str, suite: &str) -> &'s Advisory {
    all.iter()
        .find(|one| one.name.as_str() == name && one.suite.as_deref().unwrap_or_default() == suite)
        .unwrap_or_else(|| panic!("{name} in `{suite}`"))
}

fn affected(fixed: Option<&str>) -> Verdict {
    Verdict::Affected { fixed: fixed.map(str::to_owned) }
}

#[test]
fn the_tracker_of_debian() {
    assert_eq!(form_of(TRACKER.as_bytes()), Some(Form::DebianTracker));
    let (all, tally) = statements(TRACKER);
    assert_eq!((tally.advisories as usize, tally.skipped), (all.len(), 1));
    let judged = |name, suite, version| one(&all, name, suite).claim.judge(Ecosystem::Debian, version);
    assert_eq!(judged("CVE-2025-9230", "bookworm", "3.0.17-1~deb12u2"), affected(Some("3.0.17-1~deb12u3")));
    assert_eq!(judged("CVE-2025-9230", "bookworm", "3.0.17-1~deb12u3"), Verdict::Clear);
    assert_eq!(judged("CVE-2025-27587", "bookworm", "3.0.17-1~deb12u3"), affected(None));
    assert_eq!(judged("CVE-2025-27587", "trixie", "3.5.0-1"), Verdict::Clear, "never was affected");
    assert_eq!(judged("CVE-2025-4575", "sid", "3.5.0-1"), Verdict::Undetermined);
    let minor = one(&all, "CVE-2025-27587", "bookworm");
    assert_eq!(minor.note, "no security update is planned: Minor issue; can be fixed in a future update");
    assert_eq!(minor.urgency, Urgency::Unimportant);
    assert_eq!(one(&all, "CVE-2025-9230", "bookworm").urgency, Urgency::Medium, "`medium**` is medium");
    assert_eq!(one(&all, "CVE-2023-45853", "bullseye").note, "no longer supported");
    assert_eq!(one(&all, "TEMP-0000000-2FC21E", "bookworm").package, "zlib");
}

#[test]
fn records_of_osv() {
    assert_eq!(form_of(OSV.as_bytes()), Some(Form::Osv));
    let (all, tally) = statements(OSV);
    assert_eq!((tally.advisories as usize, tally.skipped), (all.len(), 1), "{all:?}");
    let cve = one(&all, "DEBIAN-CVE-2025-9230", "bookworm");
    assert_eq!(cve.aliases, ["CVE-2025-9230".parse().expect("a name")]);
    assert_eq!((cve.package.as_str(), cve.urgency), ("openssl", Urgency::Medium));
    assert_eq!(cve.claim.judge(Ecosystem::Debian, "3.0.11-1~deb12u2"), affected(Some("3.0.17-1~deb12u3")));
    assert_eq!(cve.claim.judge(Ecosystem::Debian, "3.0.17-1~deb12u3"), Verdict::Clear);
    let dsa = one(&all, "DSA-6015-1", "bookworm");
    assert_eq!(dsa.aliases.len(), 2, "an announcement stands for all that it bundles");
    let flask = one(&all, "GHSA-m2qf-hxjv-5gpq", "");
    assert_eq!((flask.ecosystem, flask.package.as_str()), (Ecosystem::Pypi, "flask"));
    for (version, verdict) in [
        ("2.2.4", affected(Some("2.2.5"))),
        ("2.2.5", Verdict::Clear),
        ("2.3.1", affected(Some("2.3.2"))),
        ("2.3.2", Verdict::Clear),
    ] {
        assert_eq!(flask.claim.judge(Ecosystem::Pypi, version), verdict, "{version}");
    }
    let npm = one(&all, "GHSA-pxg6-pf52-xh8x", "");
    assert_eq!(npm.claim.judge(Ecosystem::Npm, "0.6.0"), affected(Some("0.7.0")));
    assert_eq!(npm.claim.judge(Ecosystem::Npm, "file:x"), Verdict::Undetermined);
    assert!(!all.iter().any(|one| one.name.as_str() == "GHSA-withdrawn"), "what was withdrawn says nothing");
}

/// The same records one a line, and one alone.
#[test]
fn lists_and_lines_are_the_same() {
    let records: Vec<serde_json::Value> = serde_json::from_str(OSV).expect("a list");
    let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    assert_eq!(statements(&lines.join("\n")), statements(OSV));
    assert_eq!(statements(&lines[0]).0, statements(OSV).0[..statements(&lines[0]).0.len()]);
}

#[test]
fn what_is_cut_or_something_else_is_refused() {
    let refused =
        |text: &str, form| read(form, &mut text.as_bytes(), Tally::default(), &mut |_| Ok(())).unwrap_err();
    for cut in [1, TRACKER.len() / 2, TRACKER.trim_end().len() - 1] {
        assert!(
            matches!(refused(&TRACKER[..cut], Form::DebianTracker), AdvisoryError::Malformed(_)),
            "{cut}"
        );
    }
    for cut in [1, OSV.len() / 2, OSV.trim_end().len() - 1] {
        assert!(matches!(refused(&OSV[..cut], Form::Osv), AdvisoryError::Malformed(_)), "{cut}");
    }
    for text in ["", "x", "\"", "<html>", "PK\x05\x06"] {
        assert_eq!(form_of(text.as_bytes()), None, "{text}");
    }
    let mut full = |_: &Advisory| Err(io::Error::other("full"));
    let full = read(Form::Osv, &mut OSV.as_bytes(), Tally::default(), &mut full).unwrap_err();
    assert!(matches!(full, AdvisoryError::Keep(_)));
}

/// Text without an end.
struct Endless(&'static [u8], usize);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in buffer.iter_mut() {
            *byte = self.0.get(self.1).copied().unwrap_or(b'x');
            self.1 += 1;
        }
        Ok(buffer.len())
    }
}

#[test]
fn no_record_takes_more_memory_than_it_may() {
    let heads: [(&[u8], Form); 3] = [
        (b"{\"openssl\": {\"CVE-2025-1\": {\"description\": \"", Form::DebianTracker),
        (b"{\"", Form::DebianTracker),
        (b"[{\"id\": \"", Form::Osv),
    ];
    for (head, form) in heads {
        let error = read(form, &mut Endless(head, 0), Tally::default(), &mut |_| Ok(())).unwrap_err();
        assert!(matches!(error, AdvisoryError::TooLarge), "{error:?}");
    }
    // Aliases are kept for each package, so that a short record could ask for many rows; and so could many members of a
    // zip file.
    let aliases: Vec<String> =
        (0..2 * MAX_ALIASES).map(|number| format!("\"CVE-2099-{number:05}\"")).collect();
    let record = |packages: usize| {
        let package = "{\"package\": {\"ecosystem\": \"PyPI\", \"name\": \"x\"}}";
        let all = vec![package; packages].join(",");
        format!("{{\"id\": \"X-1\", \"aliases\": [{}], \"affected\": [{all}]}}", aliases.join(","))
    };
    let mut most = 0;
    let mut sink = |one: &Advisory| {
        most = most.max(one.aliases.len());
        Ok(())
    };
    let mut go = |text: &str, before| read(Form::OsvZip, &mut text.as_bytes(), before, &mut sink);
    let (member, mut all) = (record(1000), Tally::default());
    for members in 1..8 {
        all = go(&member, all).expect("below the limit");
        assert_eq!(
            (all.advisories, all.skipped),
            (members * 1000, members),
            "aliases beyond the limit are told"
        );
    }
    assert!(matches!(go(&member, all), Err(AdvisoryError::TooLarge)), "members are one feed");
    assert!(matches!(go(&record(9000), Tally::default()), Err(AdvisoryError::TooLarge)));
    assert_eq!(most, MAX_ALIASES);
}

/// What is said of a suite that nobody knows yet is told to be left out.
#[test]
fn unknown_suites_are_counted() {
    let record = |ecosystem: &str| {
        format!(
            "{{\"id\": \"CVE-2025-1234\", \"affected\": [{{\"package\": {{\"ecosystem\": \"{ecosystem}\", \
             \"name\": \"x\"}}, \"versions\": [\"1\"]}}]}}"
        )
    };
    for (ecosystem, counted) in
        [("Debian:12", (1, 0)), ("Debian:99", (0, 1)), ("Debian", (1, 0)), ("Go", (0, 0))]
    {
        let (_, tally) = statements(&record(ecosystem));
        assert_eq!((tally.advisories, tally.skipped), counted, "{ecosystem}");
    }
}

/// The evaluation of the schema, word for word: events sorted by version, each of them turns the answer.
fn by_the_schema(events: &[(u8, u8)], version: u8) -> bool {
    let mut sorted = events.to_vec();
    sorted.sort_by_key(|(_, at)| *at);
    let mut vulnerable = false;
    for (kind, at) in sorted {
        match kind {
            0 if version >= at => vulnerable = true,
            1 if version >= at => vulnerable = false,
            2 if version > at => vulnerable = false,
            _ => {}
        }
    }
    vulnerable
}

proptest! {
    /// Ranges as spans say the same as the schema's evaluation. Events of one range have different versions.
    #[test]
    fn ranges_are_evaluated_as_the_schema_says(
        events in proptest::collection::btree_map(0_u8..20, 0_u8..3, 0..8),
        version in 0_u8..22,
    ) {
        let events: Vec<(u8, u8)> = events.into_iter().map(|(at, kind)| (kind, at)).collect();
        let key = |kind: u8| ["introduced", "fixed", "last_affected"][usize::from(kind)];
        let written: Vec<String> =
            events.iter().rev().map(|(kind, at)| format!("{{\"{}\": \"{at}\"}}", key(*kind))).collect();
        let record = format!(
            "{{\"id\": \"CVE-2025-1234\", \"affected\": [{{\"package\": {{\"ecosystem\": \"Debian:12\", \"name\": \"x\"}}, \
             \"ranges\": [{{\"type\": \"ECOSYSTEM\", \"events\": [{}]}}]}}]}}",
            written.join(",")
        );
        let (all, _) = statements(&record);
        // `0` is before every version and none of them is below it, so both readings of it agree.
        let verdict = all[0].claim.judge(Ecosystem::Debian, &version.to_string());
        prop_assert_eq!(matches!(verdict, Verdict::Affected { .. }), by_the_schema(&events, version), "{}", record);
    }
}
