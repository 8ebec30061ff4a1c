//! Folded objects: what goes in comes out, and nothing else does.

use std::io::Read as _;
use std::time::{Duration, SystemTime};

use plumb_delta::verity;
use plumb_model::Digest;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

/// Bytes that compress by half.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & 0x0f
    };
    (0..length).map(|_| next()).collect()
}

/// A root as images have it: blocks of two files and something between, and the tree behind; with its pieces.
fn root(store: &Store) -> (Digest, Vec<Piece>, Vec<Digest>) {
    let files = [noise(1, 100_000), noise(2, 30_000)];
    let mut bytes = noise(3, 8192);
    let mut pieces = Vec::new();
    let mut bases = Vec::new();
    for file in &files {
        let base = store.put_bytes(file).unwrap();
        bases.push(base);
        let length = file.len() as u64 / 4096 * 4096;
        pieces.push(Piece { at: bytes.len() as u64, base, offset: 0, length });
        bytes.extend_from_slice(&file[..length as usize]);
        // The tail lies beside an inode.
        pieces.push(Piece { at: 64 + bases.len() as u64 * 2048, base, offset: length, length: 1000 });
        let at = 64 + bases.len() * 2048;
        bytes[at..at + 1000].copy_from_slice(&file[length as usize..][..1000]);
    }
    let mut tree = verity::Tree::default();
    tree.push(&bytes);
    bytes.extend(tree.finish());
    (store.put_bytes(&bytes).unwrap(), pieces, bases)
}

fn alone(store: &Store) -> Alone {
    store.alone(&mut || panic!("nobody else is here")).unwrap()
}

fn read(store: &Store, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.open_object(digest).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_folded_object_is_read_like_a_plain_one() {
    let (_dir, store) = store();
    let bytes = noise(7, 100_000);
    let digest = store.put_bytes(&bytes).unwrap();
    let folded = store.fold(&digest, &[], Tree::None).unwrap().unwrap();
    assert!(folded < 60_000, "{folded}");
    store.remove_plain(&alone(&store), &digest).unwrap();
    assert_eq!(store.size(&digest).unwrap(), Some(100_000));
    assert_eq!(store.read_bytes(&digest, 100_000).unwrap(), bytes);
    assert_eq!(read(&store, &digest), bytes);
    store.verify(&digest).unwrap();
    assert!(store.bases(&digest).unwrap().is_empty());
    // Nothing of this made it plain again; this does.
    assert!(!store.path(&digest).exists());
    assert_eq!(std::fs::read(store.ready(&digest).unwrap()).unwrap(), bytes);
    assert!(store.is_folded(&digest));
    // What is there already is not written again, in whatever form.
    store.remove_plain(&alone(&store), &digest).unwrap();
    store.put_bytes(&bytes).unwrap();
    assert!(!store.path(&digest).exists());
    assert_eq!(std::fs::read(store.root().join("format")).unwrap(), b"2\n");
    Store::open(store.root()).unwrap();
}

#[test]
fn what_saves_no_block_is_not_folded() {
    let (_dir, store) = store();
    let small = store.put_bytes(&[0; 4096]).unwrap();
    assert_eq!(store.fold(&small, &[], Tree::None).unwrap(), None);
    assert!(!store.is_folded(&small));
    assert_eq!(std::fs::read(store.root().join("format")).unwrap(), b"1\n");
}

#[test]
fn a_root_is_pieces_of_files_and_its_tree_is_computed() {
    let (_dir, store) = store();
    let (digest, pieces, bases) = root(&store);
    let bytes = read(&store, &digest);
    let folded = store.fold(&digest, &pieces, Tree::Behind).unwrap().unwrap();
    assert!(folded < 6000, "{folded}: pieces and half of the literals");
    assert_eq!(store.bases(&digest).unwrap(), bases);
    store.remove_plain(&alone(&store), &digest).unwrap();
    assert_eq!(read(&store, &digest), bytes);
    // One of its files folded as well.
    store.fold(&bases[0], &[], Tree::None).unwrap().unwrap();
    store.remove_plain(&alone(&store), &bases[0]).unwrap();
    assert_eq!(read(&store, &digest), bytes);
    assert_eq!(std::fs::read(store.ready(&digest).unwrap()).unwrap(), bytes);

    // A file that is gone is named, and nothing is blamed that is good.
    store.remove_plain(&alone(&store), &digest).unwrap();
    store.remove_plain(&alone(&store), &bases[1]).unwrap();
    let error = store.open_object(&digest).unwrap_err();
    assert!(matches!(&error, Error::Missing { digest } if *digest == bases[1]), "{error}");
    assert!(store.is_folded(&digest));
}

#[test]
fn wrong_pieces_are_found_before_they_matter() {
    let (_dir, store) = store();
    let (digest, mut pieces, _) = root(&store);
    pieces[0].offset = 4096;
    pieces[0].length -= 4096;
    let error = store.fold(&digest, &pieces, Tree::Behind).unwrap_err();
    assert!(matches!(error, Error::Unfoldable { .. }), "{error}");
    assert!(!store.is_folded(&digest));
    store.verify(&digest).unwrap();
    // One over the other, behind the end, without length: left out.
    let (digest, mut pieces, bases) = root(&store);
    pieces.push(Piece { at: u64::MAX, base: bases[0], offset: 0, length: 5000 });
    pieces.push(Piece { at: pieces[0].at + 1, base: bases[0], offset: 0, length: 5000 });
    assert!(store.fold(&digest, &pieces, Tree::Behind).unwrap().is_some());
}

#[test]
fn damage_is_named_and_moved_away() {
    let (_dir, store) = store();
    let damage = |path: &Path, at: usize| {
        let mut bytes = std::fs::read(path).unwrap();
        let at = at.min(bytes.len() - 1);
        bytes[at] ^= 1;
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let bytes = noise(9, 100_000);
    for at in [0, 7, 10, 17, 30, 20_000, usize::MAX] {
        let digest = store.put_bytes(&bytes).unwrap();
        store.fold(&digest, &[], Tree::None).unwrap().unwrap();
        store.remove_plain(&alone(&store), &digest).unwrap();
        damage(&store.folded_path(&digest), at);
        let error = store.verify(&digest).unwrap_err();
        assert!(
            matches!(&error, Error::DamagedFold { digest: named, .. } if *named == digest),
            "{at}: {error}"
        );
        assert!(!store.contains(&digest));
    }
    // Cut anywhere.
    let digest = store.put_bytes(&bytes).unwrap();
    store.fold(&digest, &[], Tree::None).unwrap().unwrap();
    let whole = std::fs::read(store.folded_path(&digest)).unwrap();
    store.remove_plain(&alone(&store), &digest).unwrap();
    for length in [0, 5, 16, 17, 20, 1000, whole.len() - 1] {
        let path = store.folded_path(&digest);
        let _ = std::fs::remove_file(&path);
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(store.open_object(&digest).is_err(), "{length}");
        assert!(!store.contains(&digest), "{length}");
    }
    // A damaged base is the one that is named.
    let (digest, pieces, bases) = root(&store);
    store.fold(&digest, &pieces, Tree::Behind).unwrap().unwrap();
    store.remove_plain(&alone(&store), &digest).unwrap();
    damage(&store.path(&bases[1]), 100);
    let error = store.open_object(&digest).unwrap_err();
    assert!(matches!(&error, Error::Damaged { digest, .. } if *digest == bases[1]), "{error}");
    assert!(store.is_folded(&digest));
}

#[test]
fn an_object_that_is_wrong_is_not_folded() {
    let (_dir, store) = store();
    let digest = store.put_bytes(&noise(4, 50_000)).unwrap();
    std::fs::remove_file(store.path(&digest)).unwrap();
    std::fs::write(store.path(&digest), noise(5, 50_000)).unwrap();
    let error = store.fold(&digest, &[], Tree::None).unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    assert!(!store.contains(&digest));
}

#[test]
fn what_lies_in_a_store_is_listed() {
    let (_dir, store) = store();
    let digest = store.put_bytes(&noise(7, 100_000)).unwrap();
    store.fold(&digest, &[], Tree::None).unwrap().unwrap();
    let stored = store.stored().unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].plain.map(|form| (form.bytes, form.mode)), Some((100_000, 0o444)));
    assert_eq!(stored[0].folded.map(|form| form.mode), Some(0o444));
    assert!(store.leftovers().unwrap().is_empty());

    std::fs::write(store.root().join("objects/notes"), b"").unwrap();
    std::fs::write(store.root().join("readme"), b"").unwrap();
    std::fs::create_dir(store.root().join("tmp/1-1")).unwrap();
    std::fs::write(store.root().join("tmp/1-1/0"), b"x").unwrap();
    std::fs::write(store.root().join("format.123"), b"1\n").unwrap();
    std::fs::write(store.root().join("partial").join(digest.hex()), b"x").unwrap();
    let found = store.leftovers().unwrap();
    let at = |name: &str| store.root().join(name);
    assert_eq!(
        found,
        [
            Leftover::Partial(at("partial").join(digest.hex())),
            Leftover::Unfinished(at("format.123")),
            Leftover::Unfinished(at("tmp/1-1")),
            Leftover::Foreign(at("objects/notes")),
            Leftover::Foreign(at("readme")),
        ]
    );
    for leftover in &found {
        store.remove_leftover(leftover).unwrap();
    }
    assert!(store.leftovers().unwrap().is_empty());
    assert!(store.root().join("tmp").read_dir().unwrap().count() == 1, "that of this process");
}

/// Nothing can be written any more.
#[derive(Debug)]
struct Full;

impl Gate for Full {
    fn before(&self, change: &Change<'_>) -> io::Result<()> {
        match change {
            Change::Write(..) | Change::Create(_) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn documents_are_read_on_a_full_disk() {
    let (_dir, store) = store();
    let (document, empty) = (noise(7, 100_000), store.put_bytes(b"").unwrap());
    let digest = store.put_bytes(&document).unwrap();
    store.fold(&digest, &[], Tree::None).unwrap().unwrap();
    store.remove_plain(&alone(&store), &digest).unwrap();
    let full = Store::open_behind(store.root(), Arc::new(Full)).unwrap();
    assert_eq!(full.read_bytes(&digest, 100_000).unwrap(), document);
    assert_eq!(full.first_byte(&digest).unwrap(), Some(document[0]));
    assert_eq!(full.first_byte(&empty).unwrap(), None);
    let error = full.read_bytes(&digest, 99_999).unwrap_err();
    assert!(matches!(error, Error::TooLarge { size: 100_000, .. }), "{error}");
    // What is not what it says is found in memory as well, and goes away.
    let other = store.put_bytes(&noise(8, 100_000)).unwrap();
    store.fold(&other, &[], Tree::None).unwrap().unwrap();
    std::fs::rename(store.folded_path(&other), store.folded_path(&digest)).unwrap();
    let error = store.read_bytes(&digest, 100_000).unwrap_err();
    assert!(matches!(error, Error::DamagedFold { .. }), "{error}");
    assert!(!store.contains(&digest));
}

/// Somebody else moves a file away just before it is moved.
#[derive(Debug)]
struct Meanwhile(PathBuf);

impl Gate for Meanwhile {
    fn before(&self, change: &Change<'_>) -> io::Result<()> {
        match change {
            Change::Link(from, _) if *from == self.0 => std::fs::remove_file(from),
            _ => Ok(()),
        }
    }
}

#[test]
fn only_the_file_that_was_read_is_moved_away() {
    let (_dir, store) = store();
    let bytes = noise(7, 100_000);
    let digest = store.put_bytes(&bytes).unwrap();
    store.fold(&digest, &[], Tree::None).unwrap().unwrap();
    let spoil = || {
        let _ = std::fs::remove_file(store.path(&digest));
        std::fs::write(store.path(&digest), noise(8, 100_000)).unwrap();
    };
    let other = Store::open_behind(store.root(), Arc::new(Meanwhile(store.path(&digest)))).unwrap();
    spoil();
    assert_eq!(other.read_bytes(&digest, 100_000).unwrap(), bytes);
    spoil();
    other.verify(&digest).unwrap();
    assert!(store.is_folded(&digest));
    // Alone, it is the plain one.
    spoil();
    assert!(matches!(store.read_bytes(&digest, 100_000), Err(Error::Damaged { .. })));
    assert_eq!(store.read_bytes(&digest, 100_000).unwrap(), bytes);
}

#[test]
fn a_base_that_is_cut_short_is_named() {
    let (_dir, store) = store();
    let (digest, pieces, bases) = root(&store);
    store.fold(&digest, &pieces, Tree::Behind).unwrap().unwrap();
    let plain = std::fs::read(store.path(&bases[1])).unwrap();
    for removed in [true, false] {
        if removed {
            store.remove_plain(&alone(&store), &digest).unwrap();
        }
        std::fs::remove_file(store.path(&bases[1])).unwrap();
        std::fs::write(store.path(&bases[1]), &plain[..5000]).unwrap();
        let error = store.prove(&digest).unwrap_err();
        assert!(matches!(&error, Error::Damaged { digest, .. } if *digest == bases[1]), "{error}");
        assert!(store.is_folded(&digest) && !store.contains(&bases[1]));
        store.put_bytes(&plain).unwrap();
    }
    store.prove(&digest).unwrap();
}

#[test]
fn a_folded_object_is_as_old_as_the_plain_one() {
    let (_dir, store) = store();
    let digest = store.put_bytes(&noise(7, 100_000)).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    std::fs::File::open(store.path(&digest)).unwrap().set_modified(long_ago).unwrap();
    store.fold(&digest, &[], Tree::None).unwrap().unwrap();
    let stored = store.stored().unwrap();
    assert_eq!(stored[0].folded.map(|form| form.modified_s), Some(1_000_000));
}

#[test]
fn looking_once_looks_at_the_plain_form_alone() {
    let (_dir, store) = store();
    let digest = store.put_bytes(&noise(7, 100_000)).unwrap();
    store.fold(&digest, &[], Tree::None).unwrap().unwrap();
    std::fs::remove_file(store.folded_path(&digest)).unwrap();
    std::fs::write(store.folded_path(&digest), b"not like one").unwrap();
    store.verify_once(&digest).unwrap();
    store.verify_once(&digest).unwrap();
    assert!(store.is_folded(&digest), "nobody looked at it");
    assert!(store.verify(&digest).is_err());
    // Touched since, so it is read again.
    std::fs::remove_file(store.path(&digest)).unwrap();
    std::fs::write(store.path(&digest), noise(8, 100_000)).unwrap();
    assert!(matches!(store.verify_once(&digest), Err(Error::Damaged { .. })));
}
