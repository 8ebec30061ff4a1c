use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use super::disk::Real;
use super::*;
use crate::volume;

/// Nothing runs: it is still anyway.
pub(super) struct Quiet;

impl Still for Quiet {
    fn hold(&mut self) -> Result<(), TargetError> {
        Ok(())
    }

    fn is_in_time(&self) -> bool {
        true
    }

    fn let_go(&mut self) -> Result<Option<u64>, TargetError> {
        Ok(None)
    }
}

/// Says no at some point.
#[derive(Default)]
struct Stubborn {
    refuses: bool,
    is_late: bool,
    slips: bool,
    went_on: u32,
}

impl Still for Stubborn {
    fn hold(&mut self) -> Result<(), TargetError> {
        if self.refuses { Err(refused()) } else { Ok(()) }
    }

    fn is_in_time(&self) -> bool {
        !self.is_late
    }

    fn let_go(&mut self) -> Result<Option<u64>, TargetError> {
        self.went_on += 1;
        if self.slips { Err(refused()) } else { Ok(Some(7)) }
    }
}

fn refused() -> TargetError {
    TargetError::NotFrozen { instance: "db-1".into(), reason: "test".into() }
}

pub(super) struct World {
    pub temp: tempfile::TempDir,
}

pub(super) const VOLUMES: [&str; 2] = ["db-1--data", "db-1--log"];

impl World {
    /// Two volumes with something in them.
    pub fn new() -> World {
        let world = World { temp: tempfile::tempdir().unwrap() };
        for name in VOLUMES {
            let made = volume::create(&world.volumes(), name, 4 << 20).unwrap();
            volume::mark_initialized(&made.path).unwrap();
        }
        world.write("old");
        world
    }

    pub fn volumes(&self) -> PathBuf {
        self.temp.path().join("volumes")
    }

    pub fn write(&self, text: &str) {
        for (index, name) in VOLUMES.iter().enumerate() {
            let file = fs::OpenOptions::new().write(true).open(copy_in(&self.volumes(), name)).unwrap();
            file.write_all_at(text.as_bytes(), 1_000_000 * (index as u64 + 1)).unwrap();
        }
    }

    /// What is in each volume.
    pub fn texts(&self) -> Vec<String> {
        let read = |(index, name): (usize, &&str)| {
            let file = File::open(copy_in(&self.volumes(), name)).unwrap();
            let mut text = [0; 3];
            file.read_exact_at(&mut text, 1_000_000 * (index as u64 + 1)).unwrap();
            String::from_utf8_lossy(&text).into_owned()
        };
        VOLUMES.iter().enumerate().map(read).collect()
    }

    /// Everything below `snapshots`, by name.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.volumes().join("snapshots")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(super) fn request(name: &str, generation: u64) -> SnapshotRequest {
    SnapshotRequest {
        name: name.into(),
        deployment: "shop".into(),
        generation,
        release: Some("shop@1".into()),
        configuration: None,
        why: "before-upgrade".into(),
        pinned: false,
        volumes: VOLUMES.iter().map(|name| ((*name).to_owned(), Held::AtRest)).collect(),
        hold_ms: 1000,
    }
}

fn all() -> Vec<String> {
    VOLUMES.map(str::to_owned).to_vec()
}

#[test]
fn what_was_is_back() {
    let world = World::new();
    let place = Place { volumes: &world.volumes() };
    let made = take(&Real, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap();
    assert_eq!(made.volumes.len(), 2);
    assert!(made.volumes[0].allocated_bytes < 100_000, "a copy has the holes of what it copies");
    assert_eq!(list(place).unwrap(), std::slice::from_ref(&made));
    assert_eq!(
        take(&Real, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap(),
        made,
        "the same again"
    );
    let other = take(&Real, place, &request("g1", 2), &mut Quiet, &mut |_| {});
    assert!(matches!(other, Err(TargetError::SnapshotExists { .. })));
    world.write("new");
    restore(&Real, place, "g1", &all()[..1], &mut |_| {}).unwrap();
    assert_eq!(world.texts(), ["old", "new"], "what is not named stays");
    restore(&Real, place, "g1", &all(), &mut |_| {}).unwrap();
    assert_eq!(world.texts(), ["old", "old"]);
    assert_eq!(list(place).unwrap(), [made], "the snapshot is still there");
    let missing = restore(&Real, place, "g1", &["web-1--x".to_owned()], &mut |_| {});
    assert!(matches!(missing, Err(TargetError::NotInSnapshot { .. })));
    assert!(matches!(restore(&Real, place, "g9", &all(), &mut |_| {}), Err(TargetError::NoSnapshot { .. })));
    remove(&Real, place, "g1").unwrap();
    remove(&Real, place, "g1").unwrap();
    assert_eq!((list(place).unwrap(), world.names()), (Vec::new(), Vec::new()));
}

#[test]
fn a_volume_that_is_gone_comes_back() {
    let world = World::new();
    let place = Place { volumes: &world.volumes() };
    take(&Real, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap();
    VOLUMES.iter().for_each(|name| volume::remove(&world.volumes(), name).unwrap());
    restore(&Real, place, "g1", &all(), &mut |_| {}).unwrap();
    assert_eq!(world.texts(), ["old", "old"]);
    assert!(volume::list(&world.volumes()).unwrap().iter().all(|volume| volume.initialized));
}

#[test]
fn what_did_not_hold_still_is_not_kept() {
    for broken in [
        Stubborn { refuses: true, ..Stubborn::default() },
        Stubborn { is_late: true, ..Stubborn::default() },
        Stubborn { slips: true, ..Stubborn::default() },
    ] {
        let world = World::new();
        let place = Place { volumes: &world.volumes() };
        let mut still = broken;
        let is_late = still.is_late;
        let error = take(&Real, place, &request("g1", 1), &mut still, &mut |_| {}).unwrap_err();
        assert_eq!(matches!(error, TargetError::SnapshotLate { .. }), is_late, "{error}");
        assert_eq!(still.went_on, 1, "whatever happens, it goes on");
        assert_eq!(world.names(), Vec::<String>::new());
    }
}

#[test]
fn a_damaged_copy_is_found_before_it_replaces_anything() {
    let world = World::new();
    let place = Place { volumes: &world.volumes() };
    take(&Real, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap();
    let copy = copy_in(&place.snapshot("g1").unwrap(), VOLUMES[1]);
    fs::OpenOptions::new().write(true).open(&copy).unwrap().write_all_at(b"x", 5).unwrap();
    world.write("new");
    let error = restore(&Real, place, "g1", &all(), &mut |_| {}).unwrap_err();
    assert!(matches!(error, TargetError::SnapshotDamaged { .. }), "{error}");
    assert_eq!(world.texts(), ["new", "new"]);
    let file = world.temp.path().join("shop.snapshot");
    let error = export(place, "g1", &file, &mut |_| {}).unwrap_err();
    assert!(matches!(error, TargetError::SnapshotDamaged { .. }), "{error}");
    assert!(!file.exists());
}

#[test]
fn a_file_carries_a_snapshot_elsewhere() {
    let (world, other) = (World::new(), World::new());
    let place = Place { volumes: &world.volumes() };
    let made = take(&Real, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap();
    let file = world.temp.path().join("shop.snapshot");
    let mut last = 0;
    export(place, "g1", &file, &mut |bytes| last = bytes).unwrap();
    assert_eq!(last, 8 << 20);
    assert!(file.metadata().unwrap().size() < 10_000, "zeros cost nothing");
    assert!(export(place, "g1", &file, &mut |_| {}).is_err(), "nothing is written over");

    let there = Place { volumes: &other.volumes() };
    let into = Import { from: &file, name: "from-test", deployment: "shop-prod", why: "imported" };
    let got = import(&Real, there, into, &mut |_| {}).unwrap();
    assert_eq!((got.pinned, got.deployment.as_str(), &got.release), (true, "shop-prod", &made.release));
    assert_eq!(got.volumes[0].digest, made.volumes[0].digest);
    assert!(got.volumes[0].allocated_bytes < 100_000);
    other.write("new");
    restore(&Real, there, "from-test", &all(), &mut |_| {}).unwrap();
    assert_eq!(other.texts(), ["old", "old"]);
    assert!(matches!(import(&Real, there, into, &mut |_| {}), Err(TargetError::SnapshotExists { .. })));
}

#[test]
fn a_file_that_is_cut_or_changed_leaves_nothing() {
    let world = World::new();
    let place = Place { volumes: &world.volumes() };
    take(&Real, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap();
    let file = world.temp.path().join("shop.snapshot");
    export(place, "g1", &file, &mut |_| {}).unwrap();
    let bytes = fs::read(&file).unwrap();
    let bad = world.temp.path().join("bad");
    let into = Import { from: &bad, name: "in", deployment: "shop", why: "imported" };
    for cut in (0..bytes.len()).step_by(11) {
        fs::write(&bad, &bytes[..cut]).unwrap();
        assert!(import(&Real, place, into, &mut |_| {}).is_err(), "cut at {cut}");
        let mut changed = bytes.clone();
        changed[cut] ^= 0x55;
        fs::write(&bad, &changed).unwrap();
        // A bit that nothing depends on may change; what is taken then is what was exported.
        if let Ok(got) = import(&Real, place, into, &mut |_| {}) {
            let digests =
                |made: &Manifest| made.volumes.iter().map(|one| one.digest.clone()).collect::<Vec<_>>();
            let made = read(place, "g1").unwrap().unwrap();
            assert_eq!((digests(&got), got.release), (digests(&made), made.release), "changed at {cut}");
            remove(&Real, place, "in").unwrap();
        }
        assert_eq!(world.names(), ["g1"]);
    }
}

#[test]
fn names_from_elsewhere_stay_inside() {
    let world = World::new();
    let place = Place { volumes: &world.volumes() };
    let mut manifest = take(&Real, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap();
    manifest.volumes[0].name = "../../x".into();
    assert!(matches!(check_manifest(&manifest, Path::new("x")), Err(TargetError::Name { .. })));
    manifest.volumes[0].name = manifest.volumes[1].name.clone();
    assert!(matches!(check_manifest(&manifest, Path::new("x")), Err(TargetError::Snapshot { .. })));
}
