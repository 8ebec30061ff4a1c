//! From `InRelease` to the index.

use expect_test::expect;
use plumb_fetch::{Error, Keyring, Proxies, debian_sources};

use crate::key::TestKey;
use crate::mirror::{IN_RELEASE, MirrorSpec, NOW, source};
use crate::server::{Fault, Server};
use crate::{Setup, verify_objects, write_mirror};

#[test]
fn the_index_comes_into_the_store() {
    for by_hash in [true, false] {
        let setup = Setup::with(&MirrorSpec { by_hash, ..MirrorSpec::default() });
        let snapshot = setup.refresh().unwrap();
        let index = &snapshot.sources[0].indices[0];
        assert_eq!(setup.store.read_bytes(&index.packages, 1 << 20).unwrap(), setup.mirror.packages);
        assert_eq!(index.size, setup.mirror.packages.len() as u64);
        assert_eq!(snapshot.sources[0].date_unix_s, NOW - 86_400);
        let in_release = setup.store.read_bytes(&snapshot.sources[0].in_release, 1 << 20).unwrap();
        assert_eq!(in_release, setup.mirror.files[IN_RELEASE]);
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<plumb_fetch::Snapshot>(&text).unwrap(), snapshot);
        let seen = setup.server.seen();
        assert_eq!(seen.len(), 2);
        assert!(seen[0].agent.as_ref().unwrap().starts_with("plumb/"));
        verify_objects(&setup.store);
        assert_eq!(setup.files().iter().filter(|name| !name.starts_with("objects")).count(), 1, "one entry");

        // The second time the index is there.
        assert_eq!(setup.refresh().unwrap(), snapshot);
        assert_eq!(setup.server.targets(), [IN_RELEASE]);
    }
}

#[test]
fn an_unchanged_release_is_not_sent_again() {
    let mut setup = Setup::new();
    setup.server.use_etags();
    let snapshot = setup.refresh().unwrap();
    setup.server.seen();
    assert_eq!(setup.refresh().unwrap(), snapshot);
    let seen = setup.server.seen();
    assert!(seen.len() == 1 && seen[0].condition.is_some(), "{seen:?}");
    // "Not modified" does not mean "still valid".
    setup.options.now_unix_s = NOW + 200_000;
    assert!(matches!(setup.refresh(), Err(Error::Expired { .. })));
    setup.options.now_unix_s = NOW;
    // The object that the server refers to is gone: asked without a condition.
    std::fs::remove_file(setup.store.path(&snapshot.sources[0].in_release)).unwrap();
    assert_eq!(setup.refresh().unwrap(), snapshot);
    setup.change(&MirrorSpec { state: 2, date: NOW - 10, ..MirrorSpec::default() });
    assert_ne!(setup.refresh().unwrap(), snapshot);
}

#[test]
fn tampered_files_are_refused() {
    let setup = Setup::new();
    let empty = setup.files();
    let good = String::from_utf8(setup.mirror.files[IN_RELEASE].clone()).unwrap();
    setup.server.put(IN_RELEASE, good.replace("Origin: Debian", "Origin: Evil").as_bytes());
    let error = setup.refresh().unwrap_err().to_string();
    assert!(error.ends_with("does not fit the text") && error.contains("InRelease"), "{error}");
    assert_eq!(setup.files(), empty);

    setup.server.put(IN_RELEASE, good.as_bytes());
    let path = setup.mirror.index_path();
    let mut index = setup.mirror.files[&path].clone();
    index[100] ^= 1;
    setup.server.put(&path, &index);
    let error = setup.refresh().unwrap_err();
    let text = error.to_string();
    let (expected, found) =
        (plumb_model::Digest::of(&setup.mirror.files[&path]), plumb_model::Digest::of(&index));
    let url = format!("{}{path}", setup.server.base());
    assert_eq!(text, format!("`{url}` has the wrong digest: expected `{expected}`, found `{found}`"));
    assert!(error.hint().unwrap().contains("mirror"));
    assert_eq!(setup.files(), empty);

    index.push(0);
    setup.server.put(&path, &index);
    assert!(matches!(setup.refresh(), Err(Error::WrongSize { .. })));
    assert_eq!(setup.files(), empty);

    setup.server.set_files(&setup.mirror.files);
    setup.refresh().unwrap();
}

#[test]
fn an_index_that_unpacks_to_something_else_is_refused() {
    let setup = Setup::new();
    let packages = vec![b'x'; 3_000_000];
    let packed = crate::mirror::xz(&packages);
    for size in [2_999_999, 3_000_000, 3_000_001] {
        let text = String::from_utf8(setup.mirror.files[IN_RELEASE].clone()).unwrap();
        let head = text[text.find("Origin").unwrap()..text.find("SHA256:\n").unwrap()].replace("- - ", "- ");
        let hex = plumb_model::Digest::of(&packed).hex();
        let wrong = plumb_model::Digest::of(b"something else").hex();
        let release = format!(
            "{head}SHA256:\n {wrong} {size} main/binary-amd64/Packages\n {hex} {} main/binary-amd64/Packages.xz\n",
            packed.len()
        );
        setup.server.put(IN_RELEASE, setup.key.sign(&release, NOW - 10).as_bytes());
        setup.server.put("/debian/dists/bookworm/main/binary-amd64/Packages.xz", &packed);
        let error = setup.refresh().unwrap_err();
        match size {
            3_000_000 => assert!(matches!(error, Error::WrongDigest { .. }), "{error}"),
            _ => assert!(matches!(error, Error::WrongSize { .. }), "{error}"),
        }
        assert!(setup.files().is_empty());
    }
}

#[test]
fn an_expired_or_future_or_older_release_is_refused() {
    let mut setup = Setup::with(&MirrorSpec { valid_until: Some(NOW - 60), ..MirrorSpec::default() });
    let empty = setup.files();
    setup.check_failure(setup.refresh(), &empty, &expect!["`http://mirror/debian/dists/bookworm/InRelease` expired: it was valid until 2026-09-21 14:12:20 UTC, now it is 2026-09-21 14:13:20 UTC"]);

    setup.change(&MirrorSpec { date: NOW + 51_000, valid_until: None, ..MirrorSpec::default() });
    setup.check_failure(setup.refresh(), &empty, &expect!["`http://mirror/debian/dists/bookworm/InRelease` is not valid yet: it was made at 2026-09-22 04:23:20 UTC, now it is 2026-09-21 14:13:20 UTC"]);

    setup.change(&MirrorSpec { date: NOW - 1000, ..MirrorSpec::default() });
    let newest = setup.refresh().unwrap();
    let before = setup.files();
    setup.change(&MirrorSpec { date: NOW - 2000, state: 2, ..MirrorSpec::default() });
    setup.check_failure(setup.refresh(), &before, &expect!["`http://mirror/debian/dists/bookworm/InRelease` was replayed: it was made at 2026-09-21 13:40:00 UTC, but one made at 2026-09-21 13:56:40 UTC was accepted before"]);
    setup.options.offline = true;
    assert_eq!(setup.refresh().unwrap(), newest);
}

#[test]
fn another_archive_is_refused() {
    let mut setup = Setup::with(&MirrorSpec { codename: "trixie".into(), ..MirrorSpec::default() });
    let empty = setup.files();
    setup.check_failure(setup.refresh(), &empty, &expect!["`http://mirror/debian/dists/bookworm/InRelease` is for another archive: expected suite `bookworm`, found `trixie (stable)`"]);
    setup.change(&MirrorSpec { origin: "Raspbian".into(), ..MirrorSpec::default() });
    setup.check_failure(setup.refresh(), &empty, &expect!["`http://mirror/debian/dists/bookworm/InRelease` is for another archive: expected origin `Debian`, found `Raspbian`"]);
    setup.change(&MirrorSpec { components: "contrib mainly".into(), ..MirrorSpec::default() });
    setup.check_failure(setup.refresh(), &empty, &expect!["`http://mirror/debian/dists/bookworm/InRelease` lists no component `main`; it has `contrib`, `mainly`"]);
    // Debian's security archive names its components so.
    setup.change(&MirrorSpec { components: "updates/main".into(), ..MirrorSpec::default() });
    setup.options.architecture = "vax".into();
    setup.check_failure(setup.refresh(), &empty, &expect!["`http://mirror/debian/dists/bookworm/InRelease` lists no architecture `vax`; it has `all`, `amd64`, `arm64`"]);
    setup.options.architecture = "arm64".into();
    setup.check_failure(setup.refresh(), &empty, &expect!["`http://mirror/debian/dists/bookworm/InRelease` lists no index `main/binary-arm64/Packages`; it has 2 other files"]);
    setup.options.architecture = "amd64".into();
    setup.refresh().unwrap();
}

#[test]
fn a_missing_file_is_named() {
    let setup = Setup::new();
    let empty = setup.files();
    let index = setup.mirror.index_path();
    setup.server.remove(&index);
    setup.check_failure(
        setup.refresh(),
        &empty,
        &expect!["`http://mirror/debian/dists/bookworm/main/binary-amd64/Packages.xz` is not there"],
    );
    // By-hash, plain, and both again after a second look at InRelease.
    assert_eq!(setup.server.targets().len(), 6);
    setup.server.remove(IN_RELEASE);
    setup.check_failure(
        setup.refresh(),
        &empty,
        &expect!["`http://mirror/debian/dists/bookworm/InRelease` is not there"],
    );
}

#[test]
fn an_archive_that_changes_meanwhile_is_read_again() {
    let mut setup = Setup::new();
    let old = setup.mirror.files[IN_RELEASE].clone();
    setup.change(&MirrorSpec { state: 2, date: NOW - 10, ..MirrorSpec::default() });
    // The first answer is the old InRelease by way of a redirect that is gone at the second look.
    setup.server.put("/old", &old);
    setup.server.fault(IN_RELEASE, Fault::RedirectOnce { to: "/old".into() });
    let snapshot = setup.refresh().unwrap();
    assert_eq!(snapshot.sources[0].date_unix_s, NOW - 10);
    assert_eq!(
        setup.store.read_bytes(&snapshot.sources[0].indices[0].packages, 1 << 20).unwrap(),
        setup.mirror.packages
    );
}

#[test]
fn faults_of_the_server_are_survived_or_named() {
    let setup = Setup::new();
    let empty = setup.files();
    setup.server.fault(IN_RELEASE, Fault::Redirect { to: IN_RELEASE.into() });
    setup.check_failure(
        setup.refresh(),
        &empty,
        &expect!["`http://mirror/debian/dists/bookworm/InRelease` was redirected more than 5 times"],
    );
    setup.server.fault(IN_RELEASE, Fault::Status { status: 503, times: 99 });
    setup.check_failure(setup.refresh(), &empty, &expect!["cannot fetch `http://mirror/debian/dists/bookworm/InRelease`: the server answered with status 503"]);
    setup.server.fault(IN_RELEASE, Fault::Status { status: 403, times: 99 });
    setup.server.seen();
    setup.check_failure(setup.refresh(), &empty, &expect!["cannot fetch `http://mirror/debian/dists/bookworm/InRelease`: the server answered with status 403"]);
    assert_eq!(setup.server.seen().len(), 1, "a refusal is not asked again");
    setup.server.fault(IN_RELEASE, Fault::Cut { after: 100, times: 99 });
    let error = setup.refresh().unwrap_err();
    assert!(matches!(error, Error::Connection { .. } | Error::Cut { .. }), "{error}");
    assert_eq!(setup.files(), empty);

    setup.server.fault(IN_RELEASE, Fault::Cut { after: 100, times: 2 });
    setup.server.fault(&setup.mirror.index_path(), Fault::Status { status: 502, times: 2 });
    setup.refresh().unwrap();
}

#[test]
fn offline_uses_what_was_accepted() {
    let mut setup = Setup::new();
    setup.options.offline = true;
    let error = setup.refresh().unwrap_err();
    let uri = format!("{}/debian", setup.server.base());
    assert_eq!(
        error.to_string(),
        format!("offline, and the state of `{uri}` `bookworm` is not in the store")
    );
    assert_eq!(error.hint().unwrap(), "Run the command once without `--offline`.");
    setup.options.offline = false;
    let online = setup.refresh().unwrap();
    setup.server.seen();
    setup.options.offline = true;
    setup.options.now_unix_s = NOW + 10_000_000;
    assert_eq!(setup.refresh().unwrap(), online);
    setup.options.architecture = "arm64".into();
    let error = setup.refresh().unwrap_err().to_string();
    assert_eq!(
        error,
        format!("offline, and the index of component `main` of `{uri}` `bookworm` is not in the store")
    );
    setup.options.architecture = "amd64".into();
    std::fs::remove_file(setup.store.path(&online.sources[0].indices[0].packages)).unwrap();
    assert!(matches!(setup.refresh(), Err(Error::Offline { .. })));
    assert!(setup.server.seen().is_empty(), "offline means offline");
}

#[test]
fn an_unknown_key_stops_everything() {
    let mut setup = Setup::new();
    let empty = setup.files();
    setup.options.keyring = Keyring::debian().unwrap();
    let error = setup.refresh().unwrap_err();
    assert!(error.to_string().ends_with("is not trusted"), "{error}");
    assert_eq!(setup.files(), empty);
    assert_eq!(setup.server.targets(), [IN_RELEASE], "nothing else may be fetched");
    setup.options.keyring = setup.options.keyring.with("mirror", &TestKey::new().public()).unwrap();
    assert!(setup.refresh().is_err());
    setup.options.keyring = setup.options.keyring.with("mirror", &setup.key.public()).unwrap();
    setup.refresh().unwrap();
}

#[test]
fn plain_http_goes_through_the_proxy() {
    let mut setup = Setup::new();
    let proxy = Server::new(&setup.mirror.files);
    let address = proxy.base().replace("http://", "http://us%3Aer:secret@");
    setup.options.proxies = Proxies { http: Some(address), ..Proxies::default() };
    // A host that no resolver knows: only the proxy can reach it.
    let sources = [source("http://mirror.invalid")];
    plumb_fetch::refresh(&setup.store, &sources, &setup.options, &plumb_fetch::Silent).unwrap();
    let seen = proxy.seen();
    assert_eq!(seen[0].target, "http://mirror.invalid/debian/dists/bookworm/InRelease");
    assert_eq!(seen[0].proxy_authorization.as_deref(), Some("Basic dXM6ZXI6c2VjcmV0"));
    assert_eq!(seen.len(), 2);
    let debs = setup.mirror.debs_at("http://mirror.invalid");
    plumb_fetch::fetch_packages(&setup.store, &debs, &setup.options, &plumb_fetch::Silent).unwrap();
    assert_eq!(proxy.seen().len(), debs.len());
    setup.options.proxies.no_proxy = "mirror.invalid".into();
    let error =
        plumb_fetch::refresh(&setup.store, &sources, &setup.options, &plumb_fetch::Silent).unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error}");
    assert!(proxy.seen().is_empty());
}

#[test]
fn a_directory_is_a_mirror() {
    let setup = Setup::new();
    write_mirror(&setup.mirror, setup.dir.path());
    let base = format!("file://{}", setup.dir.path().display());
    let snapshot =
        plumb_fetch::refresh(&setup.store, &[source(&base)], &setup.options, &plumb_fetch::Silent).unwrap();
    assert_eq!(snapshot.sources[0].indices.len(), 1);
    let debs = setup.mirror.debs_at(&base);
    plumb_fetch::fetch_packages(&setup.store, &debs, &setup.options, &plumb_fetch::Silent).unwrap();
    assert!(setup.server.seen().is_empty());
    let missing = debian_sources(&format!("{base}/none"), None, "sid");
    let error =
        plumb_fetch::refresh(&setup.store, &missing, &setup.options, &plumb_fetch::Silent).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
}

#[test]
fn sources_with_evil_names_are_refused() {
    let setup = Setup::new();
    for evil in ["../x", "", "a b", "/x", "a\nb"] {
        let source = plumb_fetch::ArchiveSource { suite: evil.into(), ..source(&setup.server.base()) };
        let outcome = plumb_fetch::refresh(&setup.store, &[source], &setup.options, &plumb_fetch::Silent);
        assert!(matches!(outcome, Err(Error::BadUrl { .. })), "{evil}");
    }
}
