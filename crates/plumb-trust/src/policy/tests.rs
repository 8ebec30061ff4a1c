use plumb_model::ChannelName;

use super::*;
use crate::key::SecretKey;
use crate::statement::{
    Annotation, Approval, Promotion, Scan, ScanData, ScanTimes, Scanner, Soak, Subject, TestResult,
    Vulnerability,
};

const NOW_S: i64 = 1_796_040_000;
const DAY_S: i64 = 86_400;

fn id(seed: u8) -> KeyId {
    SecretKey::from_seed(&[seed; 32]).public().id()
}

fn said(by: u8, predicate: Predicate) -> Statement {
    let digest = Digest::of(format!("{by}{predicate:?}").as_bytes());
    Statement { digest, subject: vec![Subject::new("shop@7", &Digest::of(b""))], predicate, by: vec![id(by)] }
}

fn made(by: u8) -> Statement {
    said(by, Predicate::Provenance(serde_json::Value::Null))
}

fn tests(by: u8, ago_s: i64, result: Verdict) -> Statement {
    let failed_tests = if result == Verdict::Failed { vec!["page".to_owned()] } else { Vec::new() };
    let finished_on = crate::time::text(NOW_S - ago_s);
    said(
        by,
        Predicate::Tests(TestResult {
            result,
            configuration: vec![],
            passed_tests: vec![],
            failed_tests,
            finished_on,
        }),
    )
}

fn approval(by: u8, ago_s: i64, result: Verdict) -> Statement {
    let approved_on = crate::time::text(NOW_S - ago_s);
    said(by, Predicate::Approval(Approval { result, comment: String::new(), approved_on }))
}

fn soak(seconds: u64) -> Statement {
    let deployment = "shop-test".parse().expect("a name");
    said(1, Predicate::Soak(Soak { deployment, seconds, observed_on: crate::time::text(NOW_S) }))
}

fn scan(data_ago_s: i64) -> Statement {
    let now = crate::time::text(NOW_S);
    let db = ScanData { uri: "debian".to_owned(), last_update: crate::time::text(NOW_S - data_ago_s) };
    let scanner = Scanner { uri: "plumb".to_owned(), version: "1".to_owned(), db, result: vec![] };
    said(
        1,
        Predicate::Scan(Scan {
            scanner,
            metadata: ScanTimes { scan_started_on: now.clone(), scan_finished_on: now },
        }),
    )
}

fn promoted(channel: &str) -> Statement {
    let channel: ChannelName = channel.parse().expect("a name");
    let promoted_on = crate::time::text(NOW_S - DAY_S);
    said(
        1,
        Predicate::Promotion(Promotion {
            channel,
            sequence: 1,
            previous: None,
            replaces: None,
            reason: String::new(),
            evidence: vec![],
            promoted_on,
        }),
    )
}

/// What is missing, one line each; keys 1 to 4 are alice, bob, carol and ci.
fn missing(requires: &[&str], signers: &[&str], statements: &[Statement]) -> Vec<String> {
    let names = ["alice", "bob", "carol", "ci"];
    let names = (1..).zip(names).map(|(seed, name)| (id(seed), name.parse().expect("a name"))).collect();
    let policy = ChannelPolicy {
        requires: requires.iter().map(|text| text.parse().expect("a requirement")).collect(),
        signers: signers.iter().map(|text| text.parse().expect("a name")).collect(),
    };
    let facts = Facts { statements, names: &names, now_s: NOW_S };
    let standings = check(&policy, &facts).into_iter();
    standings.filter_map(|s| s.missing.map(|why| format!("{}: {why}", s.requirement))).collect()
}

const NOTHING: [String; 0] = [];

#[test]
fn the_newest_tests_decide() {
    assert_eq!(missing(&["tests"], &[], &[made(1)]), ["tests: no tests ran"]);
    assert_eq!(missing(&["tests"], &[], &[tests(1, 10, Verdict::Passed)]), NOTHING);
    let both = [tests(1, 10, Verdict::Failed), tests(1, 20, Verdict::Passed)];
    assert_eq!(missing(&["tests"], &[], &both), ["tests: the newest tests failed: page"]);
    let mended = [tests(1, 30, Verdict::Failed), tests(1, 20, Verdict::Passed)];
    assert_eq!(missing(&["tests"], &[], &mended), NOTHING);
}

#[test]
fn statements_from_the_future_do_not_count() {
    assert_eq!(missing(&["tests"], &[], &[tests(1, -DAY_S, Verdict::Passed)]), ["tests: no tests ran"]);
}

#[test]
fn approvals_are_of_different_people_and_not_of_the_maker() {
    let all = [made(1), approval(1, 9, Verdict::Passed), approval(2, 9, Verdict::Passed)];
    assert_eq!(missing(&["approval"], &[], &all), NOTHING);
    assert_eq!(
        missing(&["approval:2"], &[], &all),
        ["approval:2: 1 of 2 approved; the approval of who made the release does not count"]
    );
    let twice = [made(1), approval(2, 9, Verdict::Passed), approval(2, 8, Verdict::Passed)];
    assert_eq!(missing(&["approval:2"], &[], &twice), ["approval:2: 1 of 2 approved"]);
    let taken_back = [made(1), approval(2, 9, Verdict::Passed), approval(2, 8, Verdict::Failed)];
    assert_eq!(missing(&["approval"], &[], &taken_back), ["approval: 0 of 1 approved"]);
}

#[test]
fn only_allowed_signers_count() {
    let all = [made(1), tests(2, 9, Verdict::Passed)];
    assert_eq!(missing(&["tests"], &["alice", "bob"], &all), NOTHING);
    assert_eq!(missing(&["tests"], &["alice"], &all), ["tests: no tests ran"]);
    assert_eq!(missing(&[], &["ci", "bob"], &all), ["signers: the release is signed by none of bob, ci"]);
}

#[test]
fn time_and_age() {
    assert_eq!(missing(&["soak:24h"], &[], &[]), ["soak:1d: it was not seen running"]);
    assert_eq!(missing(&["soak:24h"], &[], &[soak(3600)]), ["soak:1d: it ran for 60 min"]);
    assert_eq!(missing(&["soak:24h"], &[], &[soak(86_400), soak(10)]), NOTHING);
    assert_eq!(
        missing(&["scan:7d"], &[], &[scan(8 * DAY_S)]),
        ["scan:7d: the newest scan used data that is 8 d old"]
    );
    assert_eq!(missing(&["scan:7d", "scan"], &[], &[scan(6 * DAY_S)]), NOTHING);
    assert_eq!(
        missing(&["scan:7d"], &[], &[scan(-2 * DAY_S)]),
        ["scan:7d: the newest scan used data from the future, 2 d ahead"]
    );
    assert_eq!(missing(&["scan:7d"], &[], &[scan(-CLOCK_SKEW_S)]), NOTHING, "clocks differ a little");
}

#[test]
fn what_is_mended_elsewhere_is_not_patched() {
    let with = |fixed: Option<&str>| {
        let mut statement = scan(0);
        let Predicate::Scan(found) = &mut statement.predicate else { panic!("a scan") };
        let annotation = Annotation {
            source: "openssl".to_owned(),
            version: "3.0.16-1".to_owned(),
            fixed: fixed.map(str::to_owned),
        };
        let one = Vulnerability {
            id: "CVE-2025-9230".to_owned(),
            severity: Vec::new(),
            annotations: vec![annotation],
        };
        found.scanner.result.push(one);
        statement
    };
    assert_eq!(missing(&["scan:patched"], &[], &[]), ["scan:patched: it was not scanned"]);
    assert_eq!(
        missing(&["scan:patched"], &[], &[with(None), with(Some("3.0.17-1"))]),
        ["scan:patched: the newest scan found 1 that newer packages mend: CVE-2025-9230"]
    );
    let mut later = with(None);
    let Predicate::Scan(found) = &mut later.predicate else { panic!("a scan") };
    found.metadata.scan_finished_on = crate::time::text(NOW_S + 1);
    assert_eq!(missing(&["scan:patched"], &[], &[with(Some("3.0.17-1")), later]), NOTHING);
}

#[test]
fn a_path_through_channels() {
    assert_eq!(
        missing(&["channel:test"], &[], &[promoted("dev")]),
        ["channel:test: it never was in channel `test`"]
    );
    assert_eq!(missing(&["channel:test"], &[], &[promoted("test")]), NOTHING);
    assert_eq!(missing(&["pentest"], &[], &[promoted("test")]), ["pentest: there is no such evidence"]);
}
