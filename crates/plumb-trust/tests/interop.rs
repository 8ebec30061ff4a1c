//! The reference implementations read what is signed here, and what they sign is read here: python-tuf, and the libraries
//! of in-toto for envelopes and statements.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use plumb_model::{AppName, Digest};
use plumb_trust::statement::{Predicate, Resource, TestResult, Verdict, sign};
use plumb_trust::tuf::{Draft, Fresh, Target, Trusted, publish};
use plumb_trust::{Envelope, PublicKey, SecretKey, Subject, time};
use serde_json::json;

const REQUIREMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/requirements.txt");
const JUDGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/judge.py");
const DAY_S: i64 = 86_400;

fn printed(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn now_s() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the reference implementation looks at the clock")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_secs()).expect("a time")
}

/// Everything that is signed, for application `shop`.
fn write_ours(folder: &Path, key: &SecretKey, app: &AppName, now_s: i64) {
    let mut root = Draft::first(app, &"alice".parse().expect("a name"), &key.public(), now_s + DAY_S);
    root.sign(key).expect("signed");
    let root = root.to_bytes().expect("bytes");
    let trusted = Trusted::new(&root, app).expect("a root");
    let documents = BTreeMap::from([("releases/1".to_owned(), Target::of(b"the document"))]);
    let fresh = Fresh { long_s: now_s + DAY_S, short_s: now_s + DAY_S, skip: 0 };
    let published =
        publish((trusted.root(), &trusted), documents, std::slice::from_ref(key), fresh).expect("published");
    let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).expect("written");
    write("root.json", &root);
    write("targets.json", &published.files[0].1);
    write("snapshot.json", &published.files[1].1);
    write("timestamp.json", &published.timestamp);
    write("key.hex", key.public().hex().as_bytes());
    let about = || vec![Subject::new("shop@1", &Digest::of(b"the document"))];
    let provenance = json!({
        "buildDefinition": {
            "buildType": "urn:plumb:release:v1",
            "externalParameters": {"definition": {"sha256": Digest::of(b"x").hex()}},
            "internalParameters": {},
            "resolvedDependencies": [{"name": "a", "uri": "pkg:deb/debian/a@1", "digest": {"sha256": Digest::of(b"a").hex()}}],
        },
        "runDetails": {
            "builder": {"id": "urn:plumb:builder:local", "version": {"plumb": "1"}},
            "metadata": {"invocationId": "shop@1", "finishedOn": time::text(now_s)},
        },
    });
    let tests = TestResult {
        result: Verdict::Passed,
        configuration: vec![Resource::new("record", &Digest::of(b"record"))],
        passed_tests: vec!["page".to_owned()],
        failed_tests: Vec::new(),
        finished_on: time::text(now_s),
    };
    for (name, predicate) in
        [("1.dsse", Predicate::Provenance(provenance)), ("2.dsse", Predicate::Tests(tests))]
    {
        write(name, &sign(about(), &predicate, key).expect("signed").to_bytes());
    }
}

#[test]
fn the_reference_implementations_agree() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let app: AppName = "shop".parse().expect("a name");
    let now_s = now_s();
    write_ours(path, &SecretKey::from_seed(&[9; 32]), &app, now_s);
    let venv = path.join("venv");
    printed(Command::new("python3").args(["-m", "venv"]).arg(&venv));
    printed(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--requirement", REQUIREMENTS]));
    let said = printed(Command::new(venv.join("bin/python")).arg(JUDGE).arg(path));
    assert_eq!(said, "1 https://slsa.dev/provenance/v1 https://in-toto.io/attestation/test-result/v0.1");

    let theirs = |name: &str| fs::read(path.join("theirs").join(name)).expect("they wrote it");
    let mut trusted = Trusted::new(&theirs("root.json"), &app).expect("their root");
    trusted.timestamp(&theirs("timestamp.json"), now_s).expect("their timestamp");
    trusted.snapshot(&theirs("snapshot.json"), now_s).expect("their snapshot");
    trusted.targets(&theirs("targets.json"), now_s).expect("their targets");
    let documents = trusted.documents().expect("documents");
    assert_eq!(documents.targets["releases/1"].digest(), Some(Digest::of(b"the document")));
    let key = PublicKey::from_hex(&String::from_utf8_lossy(&theirs("key.hex"))).expect("their key");
    assert_eq!(key.id().to_string().as_bytes(), theirs("keyid"), "keys have the same names");
    let envelope = Envelope::from_bytes(&theirs("envelope.json")).expect("their envelope");
    let keys = BTreeMap::from([(key.id(), key)]);
    let (payload, by) = envelope.verify("text/plain", &keys).expect("their signature");
    assert_eq!((payload.as_slice(), by.len()), (&b"signed by them"[..], 1));
}
