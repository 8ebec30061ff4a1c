//! Faults at every change of the disk: releases are made and collected, and at each point a write fails, the process
//! ends, or the power goes. Afterwards the store is usable: nothing that was acknowledged is lost, `fsck` leaves no damage,
//! the same commands again converge, and the bytes are those of a run without faults.
//!
//! What comes before the command with the fault is the same for all of its points, so it is done once and copied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;

use plumb_model::Digest;

use super::world_tests::{Counter, Fault, Seen, Sort, World, check, make, noise};
use super::{Collection, Documents, Mode, Policy, Reason};
use crate::Plumb;
use crate::error::OpsError;

/// A command.
#[derive(Clone, Copy, Debug)]
enum Step {
    Make(u64),
    Collect,
}

/// Releases, a collection that keeps two of them, one more release, two more collections, of which the last has nothing to
/// do.
const STEPS: [Step; 7] =
    [Step::Make(1), Step::Make(2), Step::Make(3), Step::Collect, Step::Make(4), Step::Collect, Step::Collect];
/// The first collection.
const FIRST: usize = 3;
const POLICY: Policy = Policy { newest: 2, young_s: 0, documents: Documents::Keep };

/// A run without faults.
struct Run {
    /// The world before each step, the changes that the step makes, and the world at the end.
    before: Vec<(World, Seen, Vec<Sort>)>,
}

/// The run, as long as a test uses it.
static RUN: Mutex<Weak<Run>> = Mutex::new(Weak::new());

fn run() -> Arc<Run> {
    let mut kept = RUN.lock().unwrap();
    if let Some(run) = kept.upgrade() {
        return run;
    }
    let run = Arc::new(Run::new());
    *kept = Arc::downgrade(&run);
    run
}

impl Run {
    fn new() -> Run {
        let (mut before, mut made) = (Vec::new(), BTreeSet::new());
        let (mut world, mut seen) = (World::new(), Seen::default());
        for step in STEPS {
            let (next, carried) = world.copy(&seen);
            let gate = Counter::after(Some((Fault::PowerCut, usize::MAX)), carried);
            let plumb = next.open(&gate).unwrap();
            let outcome = take(&plumb, step, &mut made).unwrap();
            assert!(outcome.is_none_or(|outcome| !outcome.disk_full && outcome.problems.is_empty()));
            drop(plumb);
            let after = gate.seen();
            before.push((world, seen, after.sorts.clone()));
            (world, seen) = (next, after);
        }
        before.push((world, seen, Vec::new()));
        Run { before }
    }

    /// What lies there before a step.
    fn files(&self, step: usize) -> BTreeMap<String, Digest> {
        self.before[step].0.files()
    }

    /// What lies there at the end.
    fn wanted(&self) -> BTreeMap<String, Digest> {
        let (world, _) = self.before[STEPS.len()].0.copy(&Seen::default());
        let plumb = world.open(&Counter::new(None)).unwrap();
        check(&plumb, &made_before(STEPS.len()), "no fault");
        let is_here =
            |name: &str| plumb.is_here(&plumb.read_release(&name.parse().unwrap()).unwrap()).unwrap();
        assert!(plumb.is_collected(&"tiny@1".parse().unwrap()).unwrap());
        assert!(!is_here("tiny@1") && is_here("tiny@4"));
        drop(plumb);
        let files = world.files();
        assert!(!files.keys().any(|name| name.starts_with("entries/unpacked")), "{files:#?}");
        files
    }

    /// Steps and changes at which a fault may do what it does at no other.
    fn points(&self, fault: Fault) -> Vec<(usize, usize)> {
        let differs = |sort: &Sort| match fault {
            // A full disk is noticed by the next change that takes space.
            Fault::Full | Fault::Tight => *sort == Sort::Writes,
            // Killed before a sync or after it: the same lies there.
            Fault::Killed => *sort != Sort::Syncs,
            Fault::Fails | Fault::PowerCut => true,
        };
        let mut points = Vec::new();
        for (step, (_, _, sorts)) in self.before.iter().enumerate() {
            let at = sorts.iter().enumerate().filter(|(_, sort)| differs(sort));
            points.extend(at.map(|(at, _)| (step, at)));
        }
        points
    }

    /// A step with a fault, and what must hold afterwards.
    fn attempt(&self, fault: Fault, (step, point): (usize, usize), wanted: &BTreeMap<String, Digest>) {
        let context = format!("{fault:?} at change {point} of {:?}, step {step}", STEPS[step]);
        let (before, seen, _) = &self.before[step];
        let (world, seen) = before.copy(seen);
        let gate = Counter::after(Some((fault, point)), seen);
        let mut made = made_before(step);
        // Whether it was acknowledged counts, and what is left then.
        let _ = world.open(&gate).and_then(|plumb| take(&plumb, STEPS[step], &mut made));
        let seen = gate.seen();
        assert!(seen.sorts.len() > point, "{context}: it ended before");
        if fault == Fault::PowerCut {
            seen.cut(&mut ((step * 1000 + point) as u64));
        }
        let after = Counter::new(None);
        let plumb = world.open(&after).unwrap_or_else(|error| panic!("{context}: {error}"));
        check(&plumb, &made, &context);
        for step in &STEPS[step..] {
            let outcome = take(&plumb, *step, &mut made);
            let outcome = outcome.unwrap_or_else(|error| panic!("{context}, again: {error:?}"));
            if let Some(outcome) = outcome {
                assert!(!outcome.disk_full, "{context}");
                assert_eq!(outcome.problems, Vec::<String>::new(), "{context}");
            }
        }
        check(&plumb, &made, &context);
        drop(plumb);
        same(&world.files(), wanted, &context);
    }
}

/// Releases that are acknowledged before a step.
fn made_before(step: usize) -> BTreeSet<u64> {
    let number = |step: &Step| match step {
        Step::Make(number) => Some(*number),
        Step::Collect => None,
    };
    STEPS[..step].iter().filter_map(number).collect()
}

/// Does a step. `made` learns of a release as soon as it is acknowledged.
fn take(plumb: &Plumb<'_>, step: Step, made: &mut BTreeSet<u64>) -> Result<Option<Collection>, OpsError> {
    match step {
        Step::Make(number) => {
            make(plumb, number)?;
            made.insert(number);
            Ok(None)
        }
        Step::Collect => plumb.collect(&POLICY, Mode::Do).map(Some),
    }
}

fn same(found: &BTreeMap<String, Digest>, wanted: &BTreeMap<String, Digest>, context: &str) {
    let differ = |(name, digest): &(&String, &Digest)| found.get(*name) != Some(digest);
    let differs: Vec<_> = wanted.iter().filter(differ).map(|(name, _)| name).collect();
    let besides: Vec<_> = found.keys().filter(|name| !wanted.contains_key(*name)).collect();
    assert!(differs.is_empty() && besides.is_empty(), "{context}: {differs:?} differ, {besides:?} are new");
}

/// All points, on all processors. What a point is like does not depend on others, and within one nothing runs beside
/// something else, so that each change is met once: but for changes that fail once, which others go on beside.
fn every_point(fault: Fault) {
    let run = run();
    let (wanted, points, next) = (run.wanted(), run.points(fault), AtomicUsize::new(0));
    assert!(points.len() > 100, "only {} points", points.len());
    let threads = if fault == Fault::Fails { 2 } else { 1 };
    let work = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                run.attempt(fault, *point, &wanted);
            }
        });
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    println!("{fault:?}: {} points", points.len());
}

#[test]
fn every_change_fails_once() {
    every_point(Fault::Fails);
}

#[test]
fn the_disk_is_full_from_every_change_on() {
    every_point(Fault::Full);
}

#[test]
fn the_process_is_killed_at_every_change() {
    every_point(Fault::Killed);
}

#[test]
fn the_power_goes_at_every_change() {
    every_point(Fault::PowerCut);
}

/// A world before its first collection whose disk goes wrong as soon as it is opened.
fn full(fault: Fault) -> (World, Plumb<'static>) {
    let run = run();
    let (before, _, _) = &run.before[FIRST];
    let (world, _) = before.copy(&Seen::default());
    let plumb = world.open(&Counter::new(Some((fault, 0)))).unwrap();
    (world, plumb)
}

#[test]
fn a_full_disk_gets_space_from_what_needs_no_writing() {
    let (world, plumb) = full(Fault::Full);
    let documentation = Digest::of(&noise(2, 20_000));
    assert!(plumb.store.contains(&documentation));
    let outcome = plumb.collect(&POLICY, Mode::Do).unwrap();
    assert!(outcome.disk_full && outcome.bytes_before - outcome.bytes_after >= 20_000, "{outcome:#?}");
    assert!(!plumb.store.contains(&documentation));
    // It cannot be noted that the images of the first release go, so they stay, and this is said.
    assert_eq!(outcome.releases[0].reasons, [Reason::DiskFull].into());
    assert!(plumb.is_here(&plumb.read_release(&"tiny@1".parse().unwrap()).unwrap()).unwrap());
    assert!(outcome.kinds.iter().all(|row| row.folded_objects == 0), "{outcome:#?}");
    drop(plumb);
    let plumb = world.open(&Counter::new(None)).unwrap();
    check(&plumb, &made_before(FIRST), "collected on a full disk");
    // The same command goes on once there is space.
    assert!(!plumb.collect(&POLICY, Mode::Do).unwrap().disk_full);
    drop(plumb);
    same(&world.files(), &run().files(FIRST + 1), "with space again");
}

#[test]
fn releases_go_from_a_full_disk() {
    let (world, plumb) = full(Fault::Full);
    let root = |number: u64| {
        let release = plumb.read_release(&format!("tiny@{number}").parse().unwrap()).unwrap();
        plumb.image(&release.content.machines.values().next().unwrap().image).unwrap().root.digest
    };
    let (first, second) = (root(1), root(2));
    let outcome = plumb.collect(&Policy { documents: Documents::Remove, ..POLICY }, Mode::Do).unwrap();
    assert!(outcome.disk_full, "nothing could be folded");
    assert_eq!(plumb.store.releases(&"tiny".parse().unwrap()).unwrap(), [2, 3]);
    assert!(!plumb.store.contains(&first) && plumb.store.contains(&second));
    drop(plumb);
    let plumb = world.open(&Counter::new(None)).unwrap();
    check(&plumb, &[2, 3].into(), "removed on a full disk");
}

#[test]
fn what_is_freed_makes_room_for_the_rest() {
    let (world, plumb) = full(Fault::Tight);
    let outcome = plumb.collect(&POLICY, Mode::Do).unwrap();
    assert!(!outcome.disk_full && outcome.problems.is_empty(), "{outcome:#?}");
    assert!(outcome.kinds.iter().any(|row| row.folded_objects > 0), "{outcome:#?}");
    assert!(outcome.releases[0].reasons.is_empty() && outcome.releases[0].bytes > 0, "{outcome:#?}");
    drop(plumb);
    let plumb = world.open(&Counter::new(None)).unwrap();
    check(&plumb, &made_before(FIRST), "collected with what it freed");
    drop(plumb);
    same(&world.files(), &run().files(FIRST + 1), "as if there had been space");
}
