use std::path::Path;
use std::sync::Mutex;

use super::*;

#[derive(Default)]
struct Kept(Mutex<std::collections::BTreeMap<Blob, String>>);

impl Memory for Kept {
    fn recall(&self, blob: &Blob) -> Option<String> {
        self.0.lock().unwrap().get(blob).cloned()
    }

    fn keep(&self, blob: &Blob, text: &str) {
        self.0.lock().unwrap().insert(*blob, text.to_owned());
    }

    fn forget(&self, blob: &Blob) {
        self.0.lock().unwrap().remove(blob);
    }
}

fn options() -> Options {
    Options {
        proxies: plumb_fetch::Proxies::default(),
        environment: Environment::default(),
        patience: Patience { tries: 2, pause_ms: 1 },
    }
}

fn send(remote: &dyn Remote, bytes: &[u8]) -> Result<Blob> {
    let blob = Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
    let memory = Kept::default();
    let source = bytes.to_vec();
    remote.blob_write(&Upload { blob, source: &source, memory: &memory, arrived: &|_| {} })?;
    Ok(blob)
}

fn text_of(remote: &dyn Remote, blob: &Blob, range: Range<u64>) -> Result<String> {
    let mut text = String::new();
    remote.blob_read(blob, range)?.read_to_string(&mut text).unwrap();
    Ok(text)
}

/// What every remote does.
fn contract(remote: &dyn Remote) {
    assert!(matches!(require(remote), Err(Error::NotARemote { .. })));
    found(remote).unwrap();
    found(remote).unwrap();
    require(remote).unwrap();

    let name = Name::new("apps/shop/index.json").unwrap();
    assert_eq!(remote.read(&name, 10).unwrap(), None);
    assert_eq!(remote.write(&name, b"one", &Expected::Absent).unwrap(), Written::Done);
    assert_eq!(remote.write(&name, b"two", &Expected::Absent).unwrap(), Written::Changed);
    let (bytes, version) = remote.read(&name, 10).unwrap().unwrap();
    assert_eq!(bytes, b"one");
    assert_eq!(remote.write(&name, b"two", &Expected::Is(version.clone())).unwrap(), Written::Done);
    assert_eq!(remote.write(&name, b"three", &Expected::Is(version)).unwrap(), Written::Changed);
    assert!(matches!(remote.read(&name, 2), Err(Error::TooLarge { limit: 2, .. })));
    write_once(remote, &name, b"two").unwrap();
    assert!(matches!(write_once(remote, &name, b"six"), Err(Error::Taken { .. })));

    let absent = Blob { digest: Digest::of(b"absent"), size: 6 };
    assert_eq!(remote.blob_size(&absent.digest).unwrap(), None);
    assert!(matches!(remote.blob_read(&absent, 0..6), Err(Error::Missing { .. })));
    let blob = send(remote, b"hello world").unwrap();
    assert_eq!(send(remote, b"hello world").unwrap(), blob);
    assert_eq!(remote.blob_size(&blob.digest).unwrap(), Some(11));
    assert_eq!(text_of(remote, &blob, 0..11).unwrap(), "hello world");
    assert_eq!(text_of(remote, &blob, 6..9).unwrap(), "wor");
    let longer = Blob { size: 12, ..blob };
    assert!(matches!(read_blob(remote, &longer, 100, &options().patience), Err(Error::WrongSize { .. })));
    assert!(matches!(read_blob(remote, &blob, 10, &options().patience), Err(Error::TooLarge { .. })));
    assert_eq!(read_blob(remote, &blob, 11, &options().patience).unwrap(), b"hello world");
}

#[test]
fn a_directory_is_a_remote() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("new/remote");
    let remote = open(&Address::parse(root.to_str().unwrap(), Path::new("/")).unwrap(), &options()).unwrap();
    contract(remote.as_ref());
    // What a dead writer left is removed by the next one.
    let left = root.join("tmp").join(Digest::of(b"left").hex());
    std::fs::write(&left, b"half").unwrap();
    send(remote.as_ref(), b"another").unwrap();
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    // What is read here is not what was promised.
    let blob = Blob { digest: Digest::of(b"a"), size: 1 };
    let upload = Upload { blob, source: &b"b".to_vec(), memory: &Kept::default(), arrived: &|_| {} };
    assert!(matches!(remote.blob_write(&upload), Err(Error::WrongDigest { .. })));
    assert_eq!(remote.blob_size(&blob.digest).unwrap(), None);
    std::fs::write(root.join("plumb.json"), "{\"format\":2}\n").unwrap();
    let error = found(remote.as_ref()).unwrap_err();
    assert!(error.to_string().contains("says `{\"format\":2}`"), "{error}");
}

#[test]
fn of_many_writers_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let remote = directory::Directory::new(folder.path());
    let name = Name::new("apps/shop/index.json").unwrap();
    let won: usize = std::thread::scope(|scope| {
        let write = |n: u8| remote.write(&name, &[n], &Expected::Absent).unwrap() == Written::Done;
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || usize::from(write(n)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
}

#[test]
fn addresses() {
    let here = Path::new("/srv/here");
    for (text, shown) in [
        ("/srv/x", "/srv/x"),
        ("x/y", "/srv/here/x/y"),
        ("file:///srv/x", "/srv/x"),
        ("https://h/x/", "https://h/x"),
        ("s3://b", "s3://b"),
        ("s3://b/x/y/?endpoint=http://127.0.0.1:9/", "s3://b/x/y?endpoint=http://127.0.0.1:9"),
        ("oci://h:5000/team/shop", "oci://h:5000/team/shop"),
    ] {
        assert_eq!(Address::parse(text, here).unwrap().to_string(), shown);
    }
    for (text, message) in [
        ("https://me:secret@h/x", "`https://…@h/x` is not the address of a remote: it holds a user"),
        ("https:///x", "it names no host"),
        ("file://x", "three slashes"),
        ("s3://b/../x", "bucket and prefix"),
        ("s3://b/x?endpoint=https://me:secret@h", "without a user"),
        ("s3://b/x?region=y", "may only be"),
        ("oci://h", "names no repository"),
        ("oci://h/Shop", "lower-case"),
        ("ftp://h/x", "this scheme is not known"),
        ("https://h/x?y", "no query"),
        ("https://h/x y", "spaces"),
        ("", "it is empty"),
    ] {
        let error = Address::parse(text, here).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains("secret"), "{error}");
    }
}

#[test]
fn names_cannot_leave_their_place() {
    for bad in [
        "",
        "/x",
        "x/",
        "x//y",
        "..",
        "x/../y",
        ".x",
        "x/.y",
        "X",
        "x_y",
        "x y",
        "ä",
        "x\0",
        &"x".repeat(129),
    ] {
        assert!(Name::new(bad).is_err(), "{bad}");
    }
    assert_eq!(Name::new("apps/shop/index.json").unwrap().tag().as_str(), "apps_shop_index.json");
    assert!(Tag::new("shop.4").is_ok() && Tag::new(".x").is_err() && Tag::new("x/y").is_err());
}
