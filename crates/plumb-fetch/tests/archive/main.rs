//! `plumb-fetch` against a real HTTP server on this host that serves an archive signed for the test.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod file;
mod key;
mod mirror;
mod package;
mod refresh;
mod server;
mod signature;

use std::collections::BTreeSet;
use std::path::Path;

use plumb_fetch::{Error, FetchOptions, Keyring, Proxies, Silent, Snapshot};
use plumb_store::Store;

use key::TestKey;
use mirror::{Mirror, MirrorSpec, NOW, source};
use server::Server;

/// A signed archive on a server, and an empty store.
struct Setup {
    dir: tempfile::TempDir,
    store: Store,
    key: TestKey,
    mirror: Mirror,
    server: Server,
    options: FetchOptions,
}

impl Setup {
    fn new() -> Setup {
        Setup::with(&MirrorSpec::default())
    }

    fn with(spec: &MirrorSpec) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let key = TestKey::new();
        let mirror = Mirror::new(spec, &key);
        let server = Server::new(&mirror.files);
        let options = FetchOptions {
            keyring: Keyring::empty().with("test", &key.public()).unwrap(),
            proxies: Proxies::default(),
            retry_pause_ms: 1,
            ..FetchOptions::new(NOW, "amd64").unwrap()
        };
        Setup { dir, store, key, mirror, server, options }
    }

    /// Another state of the archive, signed by the same key.
    fn change(&mut self, spec: &MirrorSpec) {
        self.mirror = Mirror::new(spec, &self.key);
        self.server.set_files(&self.mirror.files);
    }

    fn refresh(&self) -> Result<Snapshot, Error> {
        plumb_fetch::refresh(&self.store, &[source(&self.server.base())], &self.options, &Silent)
    }

    fn fetch(&self) -> Result<(), Error> {
        let debs = self.mirror.debs_at(&self.server.base());
        plumb_fetch::fetch_packages(&self.store, &debs, &self.options, &Silent)
    }

    /// Every file of the store but its format and locks.
    fn files(&self) -> BTreeSet<String> {
        let root = self.store.root();
        let mut found = BTreeSet::new();
        let mut open = vec![root.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found.remove("format");
        // The file that everybody locks who uses the store; it holds nothing.
        found.remove("locks/use");
        found
    }

    /// The message of an error, with the server's address replaced; the store must be as it was `before`.
    fn check_failure<T: std::fmt::Debug>(
        &self,
        outcome: Result<T, Error>,
        before: &BTreeSet<String>,
        expect: &expect_test::Expect,
    ) {
        let error = outcome.unwrap_err();
        expect.assert_eq(&error.to_string().replace(&self.server.base(), "http://mirror"));
        assert_eq!(&self.files(), before, "a failure left something in the store");
    }
}

/// All objects of the store have their digest.
fn verify_objects(store: &Store) {
    for fan in std::fs::read_dir(store.root().join("objects")).unwrap() {
        let fan = fan.unwrap();
        for object in std::fs::read_dir(fan.path()).unwrap() {
            let name = [fan.file_name(), object.unwrap().file_name()].map(|part| part.into_string().unwrap());
            store.verify(&plumb_model::Digest::from_hex(&name.concat()).unwrap()).unwrap();
        }
    }
}

/// Copies the files of a mirror below a directory, for `file://`.
fn write_mirror(mirror: &Mirror, root: &Path) {
    for (path, bytes) in &mirror.files {
        let path = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}
