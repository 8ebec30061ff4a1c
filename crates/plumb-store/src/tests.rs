use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use expect_test::{Expect, expect};
use plumb_model::{AppName, ChannelName, Digest};

use super::*;

/// Names the store of a child process of these tests; without it the child tests have nothing to do.
const CHILD_STORE: &str = "PLUMB_STORE_TEST_CHILD";

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn shop() -> AppName {
    "shop".parse().unwrap()
}

/// Every regular file below `path`, relative, sorted.
fn files(path: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![path.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(path).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn check_error(error: &Error, dir: &Path, expect: &Expect) {
    let text = error.to_string().replace(dir.to_str().unwrap(), "<dir>");
    expect.assert_eq(&text);
}

#[test]
fn an_object_is_its_bytes() {
    let (_dir, store) = store();
    let large = vec![7_u8; 300_000];
    for bytes in [b"".as_slice(), b"hello", &large] {
        let digest = store.put_bytes(bytes).unwrap();
        assert_eq!(digest, Digest::of(bytes));
        assert_eq!(store.put_reader(&mut &*bytes).unwrap(), (digest, bytes.len() as u64));
        let mut writer = store.writer();
        for chunk in bytes.chunks(40_000) {
            writer.write_all(chunk).unwrap();
        }
        assert_eq!(writer.size(), bytes.len() as u64);
        assert_eq!(writer.commit_expecting(&digest).unwrap(), (digest, bytes.len() as u64));
        assert!(store.contains(&digest));
        assert_eq!(store.read_bytes(&digest, 300_000).unwrap(), bytes);
        store.verify(&digest).unwrap();
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&store.path(&digest).metadata().unwrap().permissions());
        assert_eq!(mode & 0o222, 0, "an object must not be writable");
    }
    assert_eq!(files(&store.root().join("objects")).len(), 3);
    assert_eq!(files(&store.root().join("tmp")).len(), 0);
}

#[test]
fn a_writer_streams_large_objects() {
    let (_dir, store) = store();
    let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    for chunk_size in [1000, 65_536, 70_000, 1_000_000] {
        let mut writer = store.writer();
        for chunk in bytes.chunks(chunk_size) {
            writer.write_all(chunk).unwrap();
        }
        let (digest, size) = writer.commit().unwrap();
        assert_eq!((digest, size), (Digest::of(&bytes), 4_000_000));
        assert_eq!(store.read_bytes(&digest, 4_000_000).unwrap(), bytes);
        std::fs::remove_file(store.path(&digest)).unwrap();
    }
}

#[test]
fn a_dropped_or_wrong_writer_leaves_nothing() {
    let (dir, store) = store();
    let mut dropped = store.writer();
    dropped.write_all(&[1; 200_000]).unwrap();
    assert_eq!(files(&store.root().join("tmp")).len(), 1);
    drop(dropped);
    let mut wrong = store.writer();
    wrong.write_all(&[1; 200_000]).unwrap();
    let error = wrong.commit_expecting(&Digest::of(b"x")).unwrap_err();
    check_error(
        &error,
        dir.path(),
        &expect![
            "expected bytes with digest `sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881`, found `sha256:6015fcd09f3f14b7da9d89cb95f1e4ee007948bc7cf9a59be8163c3460e4f954`"
        ],
    );
    assert_eq!(files(&store.root().join("tmp")).len(), 0);
    assert_eq!(files(&store.root().join("objects")).len(), 0);
}

#[test]
fn a_damaged_object_is_set_aside() {
    let (dir, store) = store();
    for round in 0..2 {
        let digest = store.put_bytes(b"good").unwrap();
        std::fs::remove_file(store.path(&digest)).unwrap();
        std::fs::write(store.path(&digest), b"evil").unwrap();
        let error = store.verify(&digest).unwrap_err();
        assert!(matches!(&error, Error::Damaged { digest: named, .. } if *named == digest), "{error}");
        assert!(!store.contains(&digest));
        assert_eq!(files(&store.root().join("damaged")).len(), round + 1);
    }
    // A crash can leave an object empty: bytes that are there again replace it.
    let digest = store.put_bytes(b"good").unwrap();
    std::fs::remove_file(store.path(&digest)).unwrap();
    std::fs::write(store.path(&digest), b"").unwrap();
    store.put_bytes(b"good").unwrap();
    store.verify(&digest).unwrap();
    let missing = store.read_bytes(&Digest::of(b"none"), 10).unwrap_err();
    assert!(matches!(missing, Error::Missing { .. }));
    let too_large = store.read_bytes(&digest, 3).unwrap_err();
    check_error(
        &too_large,
        dir.path(),
        &expect![
            "object `sha256:770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c` has 4 bytes, more than the 3 allowed here"
        ],
    );
}

#[test]
fn a_good_file_in_the_place_of_a_damaged_one_stays() {
    let (_dir, store) = store();
    let digest = store.put_bytes(b"good").unwrap();
    let spoil = || {
        std::fs::remove_file(store.path(&digest)).unwrap();
        std::fs::write(store.path(&digest), b"evil").unwrap();
        store.plain_digest(&digest).unwrap().unwrap()
    };
    // Two readers see the same damage; the first moves it away, and somebody brings the object again.
    let (found, seen) = spoil();
    assert_eq!(found, Digest::of(b"evil"));
    store.set_plain_aside(&digest, seen).unwrap();
    let again = store.set_plain_aside(&digest, seen).unwrap_err();
    assert!(matches!(again, Error::Missing { .. }), "{again}");
    store.put_bytes(b"good").unwrap();
    let late = store.set_plain_aside(&digest, seen).unwrap_err();
    assert!(matches!(late, Error::Missing { .. }), "{late}");
    store.verify(&digest).unwrap();
    assert_eq!(files(&store.root().join("damaged")).len(), 1);
}

#[test]
fn the_same_object_from_many_threads() {
    let (_dir, store) = store();
    let bytes = vec![3_u8; 100_000];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let digest = store.put_bytes(&bytes).unwrap();
                    assert_eq!(store.put_reader(&mut bytes.as_slice()).unwrap().0, digest);
                    assert_eq!(store.read_bytes(&digest, 100_000).unwrap(), bytes);
                }
            });
        }
    });
    assert_eq!(files(&store.root().join("objects")).len(), 1);
    assert_eq!(files(&store.root().join("tmp")).len(), 0);
}

#[test]
fn partial_downloads_are_picked_up() {
    let (_dir, store) = store();
    let digest = Digest::of(b"hello world");
    let mut partial = store.partial(&digest).unwrap();
    partial.append(b"hello ").unwrap();
    drop(partial);
    let mut partial = store.partial(&digest).unwrap();
    assert_eq!(partial.size(), 6);
    partial.append(b"world").unwrap();
    partial.commit().unwrap();
    assert_eq!(store.read_bytes(&digest, 100).unwrap(), b"hello world");

    let mut wrong = store.partial(&Digest::of(b"other")).unwrap();
    wrong.append(b"hello").unwrap();
    wrong.restart().unwrap();
    wrong.append(b"evil").unwrap();
    assert!(matches!(wrong.commit().unwrap_err(), Error::WrongDigest { .. }));
    assert_eq!(files(&store.root().join("partial")).len(), 0);

    let mut step = store.partial(&Digest::of(b"step")).unwrap();
    step.append(b"step").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut step.into_verified_file().unwrap(), &mut text).unwrap();
    assert_eq!(text, "step");
    assert_eq!(files(&store.root().join("partial")).len(), 0);
}

#[test]
fn a_file_written_elsewhere_is_adopted() {
    let (_dir, store) = store();
    let (first, second) = (store.scratch_path().unwrap(), store.scratch_path().unwrap());
    assert_ne!(first, second);
    std::fs::write(&first, b"image").unwrap();
    let digest = Digest::of(b"image");
    store.adopt(&first, &digest).unwrap();
    store.verify(&digest).unwrap();
    assert!(matches!(store.adopt(&second, &digest), Err(Error::Write { .. })));
    std::fs::write(&second, b"left behind").unwrap();
    let root = store.root().to_owned();
    drop(store);
    assert_eq!(files(&root.join("tmp")).len(), 0);
}

#[test]
fn entries_are_replaced_and_names_are_checked() {
    let (dir, store) = store();
    assert_eq!(store.entry("archive", "a").unwrap(), None);
    store.put_entry("archive", "a", b"1").unwrap();
    store.put_entry("archive", "a", b"2").unwrap();
    store.put_entry("archive", "b", b"").unwrap();
    assert_eq!(store.entry("archive", "a").unwrap().unwrap(), b"2");
    assert_eq!(store.entries("archive").unwrap(), ["a", "b"]);
    store.remember("archive", "a", b"3").unwrap();
    assert_eq!(store.entry("archive", "a").unwrap().unwrap(), b"3");
    assert!(matches!(store.remember("archive", "../x", b""), Err(Error::BadName { .. })));
    store.remove_entry("archive", "a").unwrap();
    store.remove_entry("archive", "a").unwrap();
    assert_eq!(store.entries("archive").unwrap(), ["b"]);
    for bad in ["", "..", ".", "a/b", "A", "ä", "../../x", "a\0", &"a".repeat(129)] {
        assert!(matches!(store.put_entry("archive", bad, b""), Err(Error::BadName { .. })), "{bad}");
        assert!(matches!(store.put_entry(bad, "a", b""), Err(Error::BadName { .. })), "{bad}");
        assert!(matches!(store.lock(bad), Err(Error::BadName { .. })), "{bad}");
    }
    let error = store.entry("archive", "../x").unwrap_err();
    check_error(
        &error,
        dir.path(),
        &expect![
            "`../x` is not a valid entry key: 1 to 128 of a-z, 0-9, `-`, `.` and `_`, not starting with `.`"
        ],
    );
}

#[test]
fn a_release_number_is_given_once() {
    let (dir, store) = store();
    assert_eq!(store.releases(&shop()).unwrap(), Vec::<u64>::new());
    for number in [1, 2, 10, 9] {
        store.add_release(&shop(), number, format!("r{number}").as_bytes()).unwrap();
    }
    std::fs::write(store.root().join("releases/shop/07"), "not ours").unwrap();
    let error = store.add_release(&shop(), 2, b"r2").unwrap_err();
    check_error(&error, dir.path(), &expect!["release `shop@2` exists already"]);
    assert_eq!(store.release(&shop(), 2).unwrap(), b"r2");
    assert!(matches!(store.release(&shop(), 3), Err(Error::ReleaseMissing { number: 3, .. })));
    assert_eq!(store.releases(&shop()).unwrap(), [1, 2, 9, 10]);
    assert_eq!(store.apps().unwrap(), [shop()]);
    assert_eq!(files(&store.root().join("tmp")).len(), 0);
}

#[test]
fn what_was_vouched_for_is_kept_as_it_was() {
    let (_dir, store) = store();
    let channel: ChannelName = "prod".parse().expect("name");
    let digest = store.add_statement(&shop(), 3, b"signed").expect("added");
    assert_eq!(store.add_statement(&shop(), 3, b"signed").expect("again"), digest);
    assert_eq!(store.statements(&shop(), 3).expect("listed"), [digest]);
    assert_eq!(store.statement(&shop(), 3, &digest).expect("read").as_deref(), Some(&b"signed"[..]));
    assert_eq!(store.statement(&shop(), 4, &digest).expect("read"), None);
    let path = store.root().join("statements/shop/3").join(digest.hex());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("writable");
    std::fs::write(&path, b"forged").expect("written");
    assert!(matches!(store.statement(&shop(), 3, &digest), Err(Error::WrongDigest { .. })));

    store.add_promotion(&shop(), &channel, 1, b"one").expect("added");
    assert!(matches!(store.add_promotion(&shop(), &channel, 1, b"one"), Err(Error::ChannelMoved { .. })));
    assert_eq!(store.channels(&shop()).expect("listed"), std::slice::from_ref(&channel));
    assert_eq!(store.promotions(&shop(), &channel).expect("listed"), [1]);
    assert_eq!(store.promotion(&shop(), &channel, 1).expect("read").as_deref(), Some(&b"one"[..]));

    store.add_root(&shop(), 1, b"root").expect("added");
    store.add_root(&shop(), 1, b"root").expect("the same again");
    assert!(matches!(store.add_root(&shop(), 1, b"other"), Err(Error::TrustMoved { .. })));
    assert_eq!(store.roots(&shop()).expect("listed"), [1]);
    assert_eq!(store.root_of_trust(&shop(), 1).expect("read").as_deref(), Some(&b"root"[..]));
}

#[test]
fn one_of_many_gets_the_release_number() {
    let (_dir, store) = store();
    let winners: usize = std::thread::scope(|scope| {
        let add = |text: String| store.add_release(&shop(), 1, text.as_bytes());
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || add(format!("from {n}")).is_ok())).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    });
    assert_eq!(winners, 1);
    assert!(store.release(&shop(), 1).unwrap().starts_with(b"from "));
}

#[test]
fn another_format_is_refused() {
    let (dir, store) = store();
    std::fs::write(store.root().join("format"), "3\n").unwrap();
    let error = Store::open(store.root()).unwrap_err();
    check_error(
        &error,
        dir.path(),
        &expect![
            "`<dir>/store/format` says store format `3`, this version of Plumb knows formats `1` and `2`"
        ],
    );
    assert!(error.hint().is_some());
    let mode = std::os::unix::fs::PermissionsExt::mode(&store.root().metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_lock_names_its_holder() {
    let (_dir, store) = store();
    let guard = store.lock("store").unwrap();
    let error = store.lock("store").unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("store is in use by process {} (", std::process::id())), "{text}");
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut waited = Vec::new();
            let guard = store.lock_waiting("store", &mut |holder| {
                waited.push(holder.clone());
                sender.send(()).unwrap();
            });
            drop(guard.unwrap());
            waited.len()
        });
        receiver.recv().unwrap();
        drop(guard);
        assert_eq!(waiter.join().unwrap(), 1);
    });
    drop(store.lock("store").unwrap());
}

fn child(test: &str, store: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD_STORE, store)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Child: writes objects, entries and releases until it is killed, printing a line after each round.
#[test]
fn child_writes_until_killed() {
    let Some(path) = std::env::var_os(CHILD_STORE) else { return };
    let store = Store::open(Path::new(&path)).unwrap();
    let _guard = store.lock("store").unwrap();
    let mut number = store.releases(&shop()).unwrap().last().copied().unwrap_or(0);
    loop {
        number += 1;
        let digest = store.put_bytes(&number.to_le_bytes().repeat(20_000)).unwrap();
        store.put_bytes(&number.to_le_bytes()).unwrap();
        store.put_entry("last", "object", digest.to_string().as_bytes()).unwrap();
        store.partial(&Digest::of(b"x")).unwrap().append(&[0; 10_000]).unwrap();
        store.add_release(&shop(), number, &number.to_le_bytes().repeat(30_000)).unwrap();
        println!("round {number}");
    }
}

#[test]
fn kill_nine_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut spin = 1_u64;
    for rounds in [1, 2, 3, 1, 5, 2, 1, 4, 1, 3] {
        let mut process = child("tests::child_writes_until_killed", &path).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(std::io::Result::ok);
        let last = lines.by_ref().filter(|line| line.contains("round ")).nth(rounds - 1);
        assert!(last.is_some(), "the child ended by itself");
        // Moves the kill to another place of the round each time.
        spin = (0..spin % 1_000_003).fold(spin.wrapping_mul(7_919), |sum, n| sum.wrapping_add(n));
        process.kill().unwrap();
        process.wait().unwrap();

        let store = Store::open(&path).unwrap();
        drop(store.lock("store").unwrap());
        let numbers = store.releases(&shop()).unwrap();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        for number in numbers {
            assert_eq!(store.release(&shop(), number).unwrap(), number.to_le_bytes().repeat(30_000));
        }
        for name in files(&path.join("objects")) {
            store.verify(&Digest::from_hex(&name.replace('/', "")).unwrap()).unwrap();
        }
        let entry = String::from_utf8(store.entry("last", "object").unwrap().unwrap()).unwrap();
        assert!(store.contains(&entry.parse().unwrap()));
        assert_eq!(files(&path.join("tmp")).len(), 0);
        assert_eq!(std::fs::read_dir(path.join("tmp")).unwrap().count(), 1, "only our own directory");
    }
}

/// Child: may not write files of more than 64 KiB, and says what the store says about it.
#[test]
fn child_with_a_file_size_limit() {
    let Some(path) = std::env::var_os(CHILD_STORE) else { return };
    let store = Store::open(Path::new(&path)).unwrap();
    store.put_bytes(b"small").unwrap();
    let big = vec![0; 1_000_000];
    let say = |error: Error| println!("error: {error}");
    say(store.put_bytes(&big).unwrap_err());
    say(store.put_reader(&mut big.as_slice()).unwrap_err());
    say(store.put_entry("kind", "key", &big).unwrap_err());
    say(store.add_release(&shop(), 1, &big).unwrap_err());
    say(store.partial(&Digest::of(&big)).unwrap().append(&big).unwrap_err());
    println!("tmp: {}", files(&store.root().join("tmp")).len());
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let (dir, store) = store();
    store.put_entry("kind", "key", b"old").unwrap();
    // RLIMIT_FSIZE fails writes like a full disk does; the signal is ignored so that write(2) returns.
    let program = std::env::current_exe().unwrap();
    let script =
        "trap '' XFSZ; ulimit -f 128; exec \"$0\" --exact tests::child_with_a_file_size_limit --nocapture";
    let output =
        Command::new("sh").args(["-c", script]).arg(program).env(CHILD_STORE, store.root()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap().replace(dir.path().to_str().unwrap(), "<dir>");
    let errors: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert_eq!(errors.len(), 5, "{text}");
    for (error, what) in errors.iter().zip([
        "object `sha256:",
        "a new object",
        "entry `kind/key`",
        "release `shop@1`",
        "object",
    ]) {
        assert!(
            error.starts_with(&format!("cannot write {what}")) && error.contains("`<dir>/store/"),
            "{error}"
        );
    }
    assert!(text.contains("tmp: 0"), "{text}");
    assert_eq!(store.entry("kind", "key").unwrap().unwrap(), b"old");
    assert_eq!(store.releases(&shop()).unwrap(), Vec::<u64>::new());
    assert_eq!(files(&store.root().join("objects")).len(), 1);
}

/// Child: uses the store as a build does: finds an object, waits, names it in a release.
#[test]
fn child_builds_on_what_it_found() {
    let Some(path) = std::env::var_os(CHILD_STORE) else { return };
    let store = Store::open(Path::new(&path)).unwrap();
    let digest = Digest::of(b"found");
    assert!(store.contains(&digest));
    println!("found");
    // Until the other side has tried to collect.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    store.put_bytes(b"found").unwrap();
    store.add_release(&shop(), 1, digest.to_string().as_bytes()).unwrap();
}

#[test]
fn what_another_process_has_seen_is_not_removed() {
    let (_dir, store) = store();
    let digest = store.put_bytes(b"found").unwrap();
    store.leave();
    let mut process =
        child("tests::child_builds_on_what_it_found", store.root()).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(std::io::Result::ok);
    assert!(lines.any(|line| line.contains("found")));
    let mut waited = false;
    let alone = store.alone(&mut || {
        // Only now the other one goes on, and it ends before this returns.
        waited = true;
        process.stdin.take().unwrap().write_all(b"go\n").unwrap();
    });
    let alone = alone.unwrap();
    assert!(waited, "the store was in use");
    assert!(process.wait().unwrap().success());
    // Who decides now sees the release and keeps the object; one that nobody named goes.
    assert_eq!(store.release(&shop(), 1).unwrap(), digest.to_string().as_bytes());
    store.remove_plain(&alone, &digest).unwrap();
    drop(alone);
    assert!(!store.contains(&digest));
}

#[test]
fn a_process_that_dies_lets_go() {
    let (_dir, store) = store();
    store.put_bytes(b"found").unwrap();
    store.leave();
    let mut process =
        child("tests::child_builds_on_what_it_found", store.root()).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(std::io::Result::ok);
    assert!(lines.any(|line| line.contains("found")));
    drop(store.alone(&mut || process.kill().unwrap()).unwrap());
    process.wait().unwrap();
    // Held alone it can still be used by its own process, from any thread, and nobody is waited for.
    let alone = store.alone(&mut || panic!("nobody is there")).unwrap();
    std::thread::scope(|scope| scope.spawn(|| assert!(store.contains(&Digest::of(b"found")))).join())
        .unwrap();
    drop(alone);
}
