//! Every step of writing, restoring and removing fails once, and is the last one of a process that is killed, before and
//! after its effect. Afterwards nothing half is seen, and the same again does what it should.

use std::cell::Cell;
use std::io;
use std::path::Path;

use super::disk::{Copied, Disk, Real};
use super::tests::{Quiet, VOLUMES, World, request};
use super::*;

/// What happens at one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It fails, with no effect; the process goes on.
    Fails,
    /// The disk is full in the middle of it; the process goes on.
    Half,
    /// The process is killed before it.
    KilledBefore,
    /// The process is killed after it.
    KilledAfter,
}

struct Faulty {
    fault: Fault,
    /// Steps until it happens.
    left: Cell<usize>,
    is_dead: Cell<bool>,
}

impl Faulty {
    fn new(fault: Fault, at: usize) -> Faulty {
        Faulty { fault, left: Cell::new(at), is_dead: Cell::new(false) }
    }

    fn step<T>(&self, real: impl Fn() -> io::Result<T>, half: impl Fn()) -> io::Result<T> {
        let broken = || io::Error::from(io::ErrorKind::StorageFull);
        if self.is_dead.get() {
            return Err(broken());
        }
        let left = self.left.get();
        self.left.set(left.wrapping_sub(1));
        if left != 0 {
            return real();
        }
        match self.fault {
            Fault::Fails => Err(broken()),
            Fault::Half => {
                half();
                Err(broken())
            }
            Fault::KilledBefore => {
                self.is_dead.set(true);
                Err(broken())
            }
            Fault::KilledAfter => {
                let _ = real();
                self.is_dead.set(true);
                Err(broken())
            }
        }
    }
}

impl Disk for Faulty {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.step(|| Real.make_dir(path), || {})
    }

    fn copy(&self, from: &Path, to: &Path, _: &mut dyn FnMut(u64) -> bool) -> io::Result<Copied> {
        self.step(|| Real.copy(from, to, &mut |_| true), || std::fs::write(to, b"half").unwrap())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.step(|| Real.write(path, bytes), || std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step(|| Real.sync(path), || {})
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| Real.rename(from, to), || {})
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(
            || Real.remove(path),
            || {
                // A folder of which one file is gone.
                if let Ok(mut entries) = std::fs::read_dir(path)
                    && let Some(Ok(entry)) = entries.next()
                {
                    let _ = std::fs::remove_file(entry.path());
                }
            },
        )
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.step(|| Real.free_bytes(path), || {})
    }

    fn shares_blocks(&self, _: &Path) -> bool {
        false
    }
}

/// Does `what` with every fault at every step of it, and looks at what is left.
fn at_every_step(
    prepare: impl Fn(&World),
    what: impl Fn(&Faulty, &World) -> Result<(), TargetError>,
    look: impl Fn(&World, bool),
) -> usize {
    let mut count = 0;
    for fault in [Fault::Fails, Fault::Half, Fault::KilledBefore, Fault::KilledAfter] {
        for at in 0.. {
            assert!(at < 200, "it ends");
            let world = World::new();
            prepare(&world);
            let disk = Faulty::new(fault, at);
            let outcome = what(&disk, &world);
            if disk.left.get() < usize::MAX / 2 && !disk.is_dead.get() && outcome.is_ok() {
                // More steps than there are.
                break;
            }
            count += 1;
            recover(&Real, Place { volumes: &world.volumes() }).expect("the next command cleans up");
            assert!(
                world.names().iter().all(|name| !name.starts_with('.')),
                "{fault:?} {at}: {:?}",
                world.names()
            );
            look(&world, outcome.is_ok());
            what(&Faulty::new(fault, usize::MAX / 2 + 1_000), &world).expect("the same again converges");
            look(&world, true);
        }
    }
    count
}

#[test]
fn no_half_snapshot_is_ever_seen() {
    let count = at_every_step(
        |_| {},
        |disk, world| {
            let place = Place { volumes: &world.volumes() };
            take(disk, place, &request("g1", 1), &mut Quiet, &mut |_| {}).map(drop)
        },
        |world, is_done| {
            let place = Place { volumes: &world.volumes() };
            let found = list(place).unwrap();
            assert!(found.len() <= 1 && (!is_done || found.len() == 1));
            assert_eq!(world.texts(), ["old", "old"]);
            for manifest in found {
                for volume in &manifest.volumes {
                    let file = open_copy(place, &manifest.name, &volume.name).unwrap();
                    assert_eq!(content::digest(&file).unwrap(), volume.digest);
                }
            }
        },
    );
    assert!(count >= 40, "{count}");
}

#[test]
fn all_volumes_are_restored_or_none() {
    let volumes = VOLUMES.map(str::to_owned);
    let count = at_every_step(
        |world| {
            let place = Place { volumes: &world.volumes() };
            take(&Real, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap();
            world.write("new");
        },
        |disk, world| restore(disk, Place { volumes: &world.volumes() }, "g1", &volumes, &mut |_| {}),
        |world, is_done| {
            let texts = world.texts();
            let whole = if is_done { texts == ["old", "old"] } else { texts[0] == texts[1] };
            assert!(whole, "{texts:?}");
            assert_eq!(world.names(), ["g1"]);
        },
    );
    assert!(count >= 40, "{count}");
}

#[test]
fn a_snapshot_is_there_or_gone() {
    at_every_step(
        |world| {
            take(&Real, Place { volumes: &world.volumes() }, &request("g1", 1), &mut Quiet, &mut |_| {})
                .unwrap();
        },
        |disk, world| remove(disk, Place { volumes: &world.volumes() }, "g1"),
        |world, is_done| {
            let found = list(Place { volumes: &world.volumes() }).unwrap();
            assert!(!is_done || found.is_empty());
            for volume in found.iter().flat_map(|manifest| &manifest.volumes) {
                assert!(open_copy(Place { volumes: &world.volumes() }, "g1", &volume.name).is_ok());
            }
        },
    );
}

#[test]
fn an_imported_snapshot_is_whole_or_not_there() {
    at_every_step(
        |world| {
            let place = Place { volumes: &world.volumes() };
            take(&Real, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap();
            export(place, "g1", &world.temp.path().join("file"), &mut |_| {}).unwrap();
        },
        |disk, world| {
            let place = Place { volumes: &world.volumes() };
            let file = world.temp.path().join("file");
            let into = Import { from: &file, name: "in", deployment: "shop", why: "imported" };
            match import(disk, place, into, &mut |_| {}) {
                // It had come to its end before it was killed.
                Err(TargetError::SnapshotExists { .. }) => Ok(()),
                other => other.map(drop),
            }
        },
        |world, is_done| {
            let names = world.names();
            assert!(names == ["g1", "in"] || (!is_done && names == ["g1"]), "{names:?}");
        },
    );
}

#[test]
fn a_full_disk_is_said_before_anything_stands_still() {
    struct Full;
    impl Disk for Full {
        fn make_dir(&self, path: &Path) -> io::Result<()> {
            Real.make_dir(path)
        }
        fn copy(&self, _: &Path, _: &Path, _: &mut dyn FnMut(u64) -> bool) -> io::Result<Copied> {
            panic!("nothing is copied")
        }
        fn write(&self, _: &Path, _: &[u8]) -> io::Result<()> {
            panic!("nothing is written")
        }
        fn sync(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
        fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            panic!("nothing is made")
        }
        fn remove(&self, path: &Path) -> io::Result<()> {
            Real.remove(path)
        }
        fn free_bytes(&self, _: &Path) -> io::Result<u64> {
            Ok(1 << 20)
        }
        fn shares_blocks(&self, _: &Path) -> bool {
            false
        }
    }
    let world = World::new();
    let place = Place { volumes: &world.volumes() };
    let error = take(&Full, place, &request("g1", 1), &mut Quiet, &mut |_| {}).unwrap_err();
    assert!(matches!(error, TargetError::NoSpace { .. }), "{error}");
    assert_eq!(world.names(), Vec::<String>::new());
}
