//! Files by URL whose digest somebody states.

use expect_test::expect;
use plumb_fetch::{Check, Error, Feed, FileRef, Silent, Validators, fetch_changing, fetch_files};
use plumb_model::Digest;
use sha2::Digest as _;

use crate::server::Fault;
use crate::{Setup, verify_objects};

fn file(setup: &Setup, path: &str, check: Check) -> FileRef {
    FileRef { item: path.into(), url: format!("{}{path}", setup.server.base()), check, size: None }
}

fn sha512(bytes: &[u8]) -> Check {
    Check::Sha512(Box::new(sha2::Sha512::digest(bytes).into()))
}

fn fetch(setup: &Setup, files: &[FileRef]) -> Result<Vec<(Digest, u64)>, Error> {
    fetch_files(&setup.store, files, &setup.options, &Silent)
}

#[test]
fn both_digests_lead_to_objects() {
    let mut setup = Setup::new();
    let bytes = vec![7; 300_000];
    setup.server.put("/a", &bytes);
    setup.server.put("/b", b"b");
    let files = [
        file(&setup, "/a", sha512(&bytes)),
        file(&setup, "/a", Check::Sha256(Digest::of(&bytes))),
        file(&setup, "/b", Check::Sha256(Digest::of(b"b"))),
    ];
    // Cut in the middle: it goes on where it stopped, without knowing the size before.
    setup.server.fault("/a", Fault::Cut { after: 100_000, times: 1 });
    let found = fetch(&setup, &files).unwrap();
    assert_eq!(found, [(Digest::of(&bytes), 300_000), (Digest::of(&bytes), 300_000), (Digest::of(b"b"), 1)]);
    assert!(setup.server.seen().iter().any(|seen| seen.range.is_some()));
    verify_objects(&setup.store);
    setup.options.offline = true;
    assert_eq!(fetch(&setup, &files).unwrap(), found);
    assert!(setup.server.seen().is_empty());
}

#[test]
fn other_bytes_are_no_objects() {
    let mut setup = Setup::new();
    setup.server.put("/a", b"forged");
    let before = setup.files();
    let asked = file(&setup, "/a", Check::Sha256(Digest::of(b"a")));
    let outcome = fetch(&setup, &[asked]);
    setup.check_failure(
        outcome,
        &before,
        &expect!["`http://mirror/a` has the wrong digest: expected `sha256:ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb`, found `sha256:ccdd35168ab474fa5764a526cfb83621351e23682c5075b2e18d56bddf96aa30`"],
    );
    let outcome = fetch(&setup, &[file(&setup, "/a", sha512(b"a"))]);
    assert!(outcome.as_ref().is_err_and(Error::is_verification));
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("has the wrong content: expected `sha512:1f40fc92"), "{message}");
    assert_eq!(setup.files(), before);
    let told = FileRef { size: Some(5), ..file(&setup, "/a", Check::Sha256(Digest::of(b"forged"))) };
    let outcome = fetch(&setup, &[told]);
    setup.check_failure(
        outcome,
        &before,
        &expect!["`http://mirror/a` has the wrong size: expected 5 bytes, found 6"],
    );
    setup.options.offline = true;
    let names: Vec<FileRef> =
        (0..5).map(|n| file(&setup, &format!("/{n}"), Check::Sha256(Digest::of(&[n])))).collect();
    setup.check_failure(
        fetch(&setup, &names),
        &before,
        &expect!["offline, and `/0`, `/1`, `/2`, 2 more files is not in the store"],
    );
}

#[test]
fn what_changes_is_fetched_again_and_what_does_not_is_not() {
    let mut setup = Setup::new();
    let url = format!("{}/feed", setup.server.base());
    let mut into = tempfile::tempfile().unwrap();
    let mut fetch = |setup: &Setup, known: &Validators, limit_bytes| {
        let feed = Feed { item: "feed", url: &url, known, limit_bytes };
        let found = fetch_changing(&setup.store, &feed, &mut into, &setup.options, &Silent)?;
        let mut text = String::new();
        std::io::Seek::rewind(&mut into).unwrap();
        std::io::Read::read_to_string(&mut into, &mut text).unwrap();
        Ok::<_, Error>((found, text))
    };
    setup.server.use_etags();
    setup.server.put("/feed", b"as long as it is");
    setup.server.fault("/feed", Fault::Cut { after: 7, times: 1 });
    let (found, text) = fetch(&setup, &Validators::default(), 100).unwrap();
    assert_eq!(text, "as long as it is", "a cut one is begun again");
    let known = found.unwrap();
    assert_eq!(fetch(&setup, &known, 100).unwrap().0, None);
    setup.server.put("/feed", b"short");
    let (found, text) = fetch(&setup, &known, 100).unwrap();
    assert_eq!((found.is_some(), text.as_str()), (true, "short"));
    let too_large = fetch(&setup, &Validators::default(), 4).unwrap_err();
    assert!(matches!(too_large, Error::TooLarge { limit: 4, .. }), "{too_large}");
    setup.options.offline = true;
    assert!(matches!(fetch(&setup, &known, 100), Err(Error::Offline { .. })));
}
