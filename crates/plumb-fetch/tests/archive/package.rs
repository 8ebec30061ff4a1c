//! Packages: resumed, retried, checked.

use std::collections::BTreeMap;
use std::sync::Mutex;

use expect_test::expect;
use plumb_fetch::{Error, Progress, Silent, fetch_packages, fetch_packages_each};
use plumb_model::Digest;

use crate::server::Fault;
use crate::{Setup, verify_objects};

fn path(number: usize) -> String {
    format!("/debian/pool/main/p/p{number}/p{number}_1.0~rc+{number}_amd64.deb")
}

/// Bytes so far, bytes expected, whether it is finished.
type Count = (u64, Option<u64>, bool);

/// Counts what it is told.
#[derive(Default)]
struct Counter(Mutex<BTreeMap<String, Count>>);

impl Progress for Counter {
    fn begin(&self, item: &str, total_bytes: Option<u64>) {
        self.0.lock().unwrap().insert(item.into(), (0, total_bytes, false));
    }

    fn advance(&self, item: &str, bytes: u64) {
        self.0.lock().unwrap().get_mut(item).unwrap().0 += bytes;
    }

    fn finish(&self, item: &str) {
        self.0.lock().unwrap().get_mut(item).unwrap().2 = true;
    }
}

#[test]
fn packages_become_objects() {
    let mut setup = Setup::new();
    let counter = Counter::default();
    let mut debs = setup.mirror.debs_at(&setup.server.base());
    debs.push(debs[0].clone());
    let arrived = Mutex::new(Vec::new());
    fetch_packages_each(&setup.store, &debs, &setup.options, &counter, &|position| {
        assert_eq!(setup.store.size(&debs[position].sha256).unwrap(), Some(debs[position].size));
        arrived.lock().unwrap().push(position);
    })
    .unwrap();
    let mut arrived = arrived.into_inner().unwrap();
    arrived.sort_unstable();
    assert_eq!(arrived, [0, 1, 2, 3, 4, 5]);
    for deb in &debs {
        assert_eq!(setup.store.size(&deb.sha256).unwrap(), Some(deb.size));
        let item = format!("{} {}", deb.name, deb.version);
        assert_eq!(counter.0.lock().unwrap()[&item], (deb.size, Some(deb.size), true));
    }
    verify_objects(&setup.store);
    assert_eq!(setup.files().len(), 6);
    assert_eq!(setup.server.seen().len(), 6);
    setup.options.offline = true;
    setup.fetch().unwrap();
    assert!(setup.server.seen().is_empty());
}

#[test]
fn offline_names_what_is_missing() {
    let mut setup = Setup::new();
    setup.options.offline = true;
    let empty = setup.files();
    setup.check_failure(
        setup.fetch(),
        &empty,
        &expect![
            "offline, and `p0 1.0~rc+0`, `p1 1.0~rc+1`, `p2 1.0~rc+2`, 3 more packages is not in the store"
        ],
    );
}

#[test]
fn a_tampered_package_is_deleted_and_named() {
    let setup = Setup::new();
    let good = &setup.mirror.files[&path(2)];
    let mut evil = good.clone();
    evil[50_000] ^= 1;
    setup.server.put(&path(2), &evil);
    let error = setup.fetch().unwrap_err();
    let expected = format!(
        "`{}{}` has the wrong digest: expected `{}`, found `{}`",
        setup.server.base(),
        path(2),
        Digest::of(good),
        Digest::of(&evil)
    );
    assert_eq!(error.to_string(), expected);
    assert!(!setup.files().contains(&format!("partial/{}", Digest::of(good).hex())));
    verify_objects(&setup.store);
    assert!(!setup.store.contains(&Digest::of(good)) && !setup.store.contains(&Digest::of(&evil)));

    for size in [good.len() - 1, good.len() + 1] {
        evil.resize(size, 0);
        setup.server.put(&path(2), &evil);
        let error = setup.fetch().unwrap_err();
        let text = error.to_string();
        assert!(
            text.ends_with(&format!("has the wrong size: expected {} bytes, found {size}", good.len())),
            "{text}"
        );
        assert!(!setup.files().contains(&format!("partial/{}", Digest::of(good).hex())));
    }
    setup.server.set_files(&setup.mirror.files);
    setup.fetch().unwrap();
}

#[test]
fn a_cut_transfer_goes_on() {
    let setup = Setup::new();
    setup.server.fault(&path(3), Fault::Cut { after: 40_000, times: 2 });
    setup.fetch().unwrap();
    let ranges: Vec<_> = setup
        .server
        .seen()
        .into_iter()
        .filter(|seen| seen.target == path(3))
        .map(|seen| seen.range)
        .collect();
    assert_eq!(ranges, [None, Some("bytes=40000-".into()), Some("bytes=80000-".into())]);
    verify_objects(&setup.store);
    assert_eq!(setup.files().len(), 6);
}

#[test]
fn what_came_before_a_failure_is_used_by_the_next_run() {
    let mut setup = Setup::new();
    setup.options.connections = 1;
    setup.server.fault(&path(3), Fault::Cut { after: 20_000, times: 99 });
    let error = setup.fetch().unwrap_err();
    assert!(matches!(error, Error::Connection { .. } | Error::Cut { .. }), "{error}");
    assert!(error.to_string().contains(&path(3)), "{error}");
    assert_eq!(setup.files().iter().filter(|name| name.starts_with("partial/")).count(), 1);
    verify_objects(&setup.store);
    setup.server.heal();
    setup.server.seen();
    setup.fetch().unwrap();
    let seen = setup.server.seen();
    assert_eq!(seen.len(), 3, "p0 to p2 are there");
    assert_eq!(seen[0].range.as_deref(), Some("bytes=60000-"));
    assert!(setup.files().iter().all(|name| name.starts_with("objects/")));
}

#[test]
fn a_wrong_partial_file_heals() {
    let setup = Setup::new();
    let deb = &setup.mirror.debs[1];
    let size = usize::try_from(deb.size).unwrap();
    for (bytes, faults) in [
        (vec![0; 1000], None),
        (vec![0; size], None),
        (vec![0; size + 1], None),
        (vec![0; 1000], Some(Fault::NoRange)),
        (vec![0; 1000], Some(Fault::Status { status: 416, times: 1 })),
    ] {
        setup.store.partial(&deb.sha256).unwrap().append(&bytes).unwrap();
        if let Some(fault) = faults {
            setup.server.fault(&path(1), fault);
        }
        setup.fetch().unwrap();
        verify_objects(&setup.store);
        assert_eq!(setup.files().len(), 6);
        setup.server.heal();
        std::fs::remove_file(setup.store.path(&deb.sha256)).unwrap();
    }
}

#[test]
fn an_object_that_a_crash_left_short_is_fetched_again() {
    let setup = Setup::new();
    setup.fetch().unwrap();
    let path = setup.store.path(&setup.mirror.debs[0].sha256);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, b"").unwrap();
    setup.fetch().unwrap();
    verify_objects(&setup.store);
}

#[test]
fn a_server_that_promises_too_much_is_not_believed() {
    let mut setup = Setup::new();
    setup.options.connections = 1;
    setup.server.fault(&path(0), Fault::Length { length: 1_000_000_000_000 });
    let error = setup.fetch().unwrap_err();
    assert!(matches!(error, Error::WrongSize { found: 1_000_000_000_000, .. }), "{error}");
    assert!(setup.files().is_empty());
}

#[test]
fn a_missing_package_is_named() {
    let mut setup = Setup::new();
    setup.options.connections = 1;
    setup.server.remove(&path(0));
    let empty = setup.files();
    setup.check_failure(
        setup.fetch(),
        &empty,
        &expect!["`http://mirror/debian/pool/main/p/p0/p0_1.0~rc+0_amd64.deb` is not there"],
    );
    let gone = setup.mirror.debs_at("http://127.0.0.1:1");
    let error = fetch_packages(&setup.store, &gone, &setup.options, &Silent).unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error}");
    assert!(error.hint().unwrap().contains("http_proxy"));
}
