//! What plans do about data.

use std::collections::BTreeSet;

use plumb_model::config::Settings;
use plumb_model::release::{Quiesce, Release, ReleaseName, Task, When};
use plumb_model::{MachineName, SnapshotName, VolumeName};
use plumb_plan::{
    Action, DataWish, Former, Hold, InstanceVolume, Known, Observed, ObservedSnapshot, Plan, PlanError,
    PlanKind, Progress, Side, SnapshotReason, Violation, Wanted, check, explain, is_given_by_plans,
    plan_at_rest, plan_down, plan_snapshot, plan_up, snapshot_stops, touched,
};
use proptest::prelude::*;

use super::planner::random_release;
use super::world::{addresses_for, name, running, shop, up_wishing};

fn volume(instance: &str) -> InstanceVolume {
    InstanceVolume { instance: instance.parse().expect("name"), volume: "data".parse().expect("name") }
}

/// The shop at `number` runs, and its database has data.
fn with_data(release: &Release) -> Observed {
    let mut observed = running(release);
    observed.volumes.insert(volume("db-1"), Quiesce::Freeze);
    observed
}

fn snapshot(name: &str, release: &Release, taken_ms: u64) -> ObservedSnapshot {
    ObservedSnapshot {
        name: name.parse().expect("name"),
        release: Some(release.name()),
        taken_ms,
        pinned: false,
        volumes: [volume("db-1")].into(),
    }
}

fn plan(
    observed: &Observed,
    release: &Release,
    kind: PlanKind,
    data: DataWish<'_>,
) -> Result<Plan, PlanError> {
    up_wishing(observed, (release, &Settings::default()), kind, data)
}

/// The steps in short: `stop db-1`, `copy g1 db-1 frozen`, `restore g1`, `start db-1`.
fn steps(plan: &Plan) -> Vec<String> {
    let one = |action: &Action| {
        Some(match action {
            Action::Stop { instance } => format!("stop {instance}"),
            Action::Start { boot, .. } => format!("start {}", boot.instance),
            Action::Snapshot { snapshot, volumes, .. } => {
                let volumes: Vec<String> = volumes
                    .iter()
                    .map(|one| {
                        format!(
                            "{} {}",
                            one.instance,
                            if one.hold == Hold::Frozen { "frozen" } else { "at rest" }
                        )
                    })
                    .collect();
                format!("copy {snapshot}: {}", volumes.join(", "))
            }
            Action::Restore { snapshot, .. } => format!("restore {snapshot}"),
            Action::Prune { snapshots } => format!("prune {snapshots:?}"),
            Action::Commit { number, .. } => format!("commit {number}"),
            _ => return None,
        })
    };
    plan.actions.iter().filter_map(one).collect()
}

fn names(names: &[&str]) -> Vec<SnapshotName> {
    names.iter().map(|name| name.parse().expect("name")).collect()
}

#[test]
fn an_upgrade_begins_with_a_copy_of_the_data() {
    let (old, new) = (shop(1, "1"), shop(2, "2"));
    let observed = with_data(&old);
    let made = plan(&observed, &new, PlanKind::Upgrade, DataWish::default()).expect("a plan");
    assert_eq!(check(&made, &observed, Some(&new)), []);
    assert_eq!(steps(&made)[0], "copy g1: db-1 frozen");
    assert!(!steps(&made).contains(&"stop db-1".to_owned()), "an equal database runs on");
    let explained = explain(
        &made,
        Known {
            observed: &observed,
            before: Some(&old),
            after: Some(&new),
            stop_ms: 1,
            settings: (None, None),
        },
    );
    assert_eq!(explained.snapshot.expect("told").why, SnapshotReason::BeforeUpgrade);

    let mut without = made.clone();
    without.actions.retain(|action| !matches!(action, Action::Snapshot { .. }));
    let mut changed = shop(2, "2");
    changed.content.machines.get_mut(&"db".parse().expect("name")).expect("there").memory_mib = 512;
    let mut replaced = plan(&observed, &changed, PlanKind::Upgrade, DataWish::default()).expect("a plan");
    replaced.actions.retain(|action| !matches!(action, Action::Snapshot { .. }));
    assert!(
        check(&replaced, &observed, Some(&changed))
            .contains(&Violation::NotKept("db-1".parse().expect("name")))
    );
}

#[test]
fn nothing_is_copied_where_nothing_changes() {
    let old = shop(1, "1");
    let same = plan(&with_data(&old), &old, PlanKind::Up, DataWish::default()).expect("a plan");
    let back = plan(&with_data(&old), &shop(2, "2"), PlanKind::Return, DataWish::default()).expect("a plan");
    let mut silent = shop(2, "2");
    silent.content.snapshots.before_upgrade = false;
    let silent_plan =
        plan(&with_data(&old), &silent, PlanKind::Upgrade, DataWish::default()).expect("a plan");
    let first = plan(&Observed::default(), &old, PlanKind::Up, DataWish::default()).expect("a plan");
    for made in [same, back, silent_plan, first] {
        assert!(
            !made.actions.iter().any(|action| matches!(action, Action::Snapshot { .. })),
            "{:?}",
            steps(&made)
        );
    }
}

#[test]
fn what_cannot_be_frozen_is_stopped_and_comes_back() {
    let (old, new) = (shop(1, "1"), shop(2, "2"));
    let mut declared = with_data(&old);
    declared.volumes.insert(volume("db-1"), Quiesce::Stop);
    let mut older = with_data(&old);
    older.cannot_freeze.insert("db-1".parse().expect("name"));
    let late = DataWish { quiesce: Some(Quiesce::Stop), ..DataWish::default() };
    for (observed, wish) in
        [(declared, DataWish::default()), (older, DataWish::default()), (with_data(&old), late)]
    {
        assert!(snapshot_stops(&observed, wish));
        let made = plan(&observed, &new, PlanKind::Upgrade, wish).expect("a plan");
        assert_eq!(check(&made, &observed, Some(&new)), []);
        assert_eq!(steps(&made)[..3], ["stop db-1", "copy g1: db-1 at rest", "start db-1"]);
    }
    let mut stopped = with_data(&old);
    stopped.instances.get_mut(&"db-1".parse().expect("name")).expect("there").running = false;
    assert!(!snapshot_stops(&stopped, DataWish::default()));
    let made = plan(&stopped, &new, PlanKind::Upgrade, DataWish::default()).expect("a plan");
    assert_eq!(steps(&made)[..2], ["copy g1: db-1 at rest", "start db-1"]);
}

/// A command of what runs may fail whatever is tried: the release that comes says that nobody has to hold still.
#[test]
fn a_release_that_copies_at_rest_is_the_way_from_one_that_cannot_hold_still() {
    let (old, mut new) = (shop(1, "1"), shop(2, "2"));
    let db = new.content.machines.get_mut(&"db".parse::<MachineName>().expect("name")).expect("there");
    db.volumes.get_mut(&"data".parse::<VolumeName>().expect("name")).expect("there").snapshot = Quiesce::Stop;
    let observed = with_data(&old);
    let made = plan(&observed, &new, PlanKind::Upgrade, DataWish::default()).expect("a plan");
    assert_eq!(check(&made, &observed, Some(&new)), []);
    assert_eq!(steps(&made)[..3], ["stop db-1", "copy g1: db-1 at rest", "start db-1"]);
}

#[test]
fn a_rollback_with_data_passes_the_fence_and_keeps_what_was() {
    let old = shop(1, "1");
    let mut new = shop(2, "2");
    new.content.fence = 2;
    let observed = Observed { snapshots: vec![snapshot("g1", &old, 10)], ..with_data(&new) };
    let refused = plan(&observed, &old, PlanKind::Rollback, DataWish::default());
    assert!(matches!(refused, Err(PlanError::Fenced { .. })));
    let restore = Some(&observed.snapshots[0]);
    let none = [volume("web-1")];
    let nothing = DataWish { restore, only: &none, ..DataWish::default() };
    assert!(plan(&observed, &old, PlanKind::Rollback, nothing).is_err(), "other data would stay as it is");
    let made = plan(&observed, &old, PlanKind::Rollback, DataWish { restore, ..DataWish::default() })
        .expect("a plan");
    assert_eq!(check(&made, &observed, Some(&old)), []);
    assert_eq!(
        steps(&made),
        [
            "stop web-2",
            "stop web-1",
            "stop api-1",
            "stop db-1",
            "copy g1: db-1 at rest",
            "restore g1",
            "start db-1",
            "start api-1",
            "start web-1",
            "start web-2",
            "commit 1",
        ]
    );
    let explained = explain(
        &made,
        Known {
            observed: &observed,
            before: Some(&new),
            after: Some(&old),
            stop_ms: 1,
            settings: (None, None),
        },
    );
    assert_eq!(explained.restored.expect("told").taken_ms, 10);

    let mut unkept = made.clone();
    unkept.actions.retain(|action| !matches!(action, Action::Snapshot { .. }));
    assert!(
        check(&unkept, &observed, Some(&old)).contains(&Violation::NotKept("db-1".parse().expect("name")))
    );
    let mut in_use = made;
    in_use
        .actions
        .retain(|action| !matches!(action, Action::Stop { instance } if instance.as_str() == "db-1"));
    let violations = check(&in_use, &observed, Some(&old));
    assert!(violations.contains(&Violation::ReplacedInUse("db-1".parse().expect("name"))), "{violations:?}");
    assert!(violations.contains(&Violation::NotHeld("db-1".parse().expect("name"))));
}

#[test]
fn old_copies_go_and_named_ones_stay() {
    let (old, new) = (shop(1, "1"), shop(2, "2"));
    let mut snapshots: Vec<ObservedSnapshot> =
        (1..=5).map(|day| snapshot(&format!("old-{day}"), &old, day * 100)).collect();
    snapshots[0].pinned = true;
    let observed = Observed { snapshots, ..with_data(&old) };
    let at = DataWish { now_ms: 600, ..DataWish::default() };
    let pruned = |release: &Release, wish| {
        let made = plan(&observed, release, PlanKind::Upgrade, wish).expect("a plan");
        assert_eq!(check(&made, &observed, Some(release)), []);
        match made.actions.last() {
            Some(Action::Prune { snapshots }) => snapshots.clone(),
            _ => Vec::new(),
        }
    };
    assert_eq!(pruned(&new, at), names(&["old-2", "old-3"]), "three stay: two of them and the new one");
    let mut longer = new.clone();
    longer.content.snapshots.keep_for_ms = 300;
    assert_eq!(pruned(&longer, at), names(&["old-2", "old-3"]));
    longer.content.snapshots.keep_for_ms = 301;
    assert_eq!(pruned(&longer, at), names(&["old-2"]));
    let used = DataWish { restore: Some(&observed.snapshots[1]), ..at };
    assert_eq!(pruned(&new, used), names(&["old-3"]), "what is restored stays");
    let mut quiet = new.clone();
    quiet.content.snapshots.before_upgrade = false;
    assert_eq!(pruned(&quiet, at), [], "nothing goes where nothing comes");
}

#[test]
fn an_instance_whose_disk_grows_is_started_again() {
    let (old, mut new) = (shop(1, "1"), shop(2, "1"));
    let data = "data".parse().expect("name");
    let db = new.content.machines.get_mut(&"db".parse().expect("name")).expect("there");
    db.volumes.get_mut(&data).expect("there").size_bytes = 2 << 30;
    let mut observed = with_data(&old);
    observed.sizes.insert(volume("db-1"), 1 << 30);
    let made = plan(&observed, &new, PlanKind::Upgrade, DataWish::default()).expect("a plan");
    assert_eq!(check(&made, &observed, Some(&new)), []);
    assert_eq!(steps(&made), ["copy g1: db-1 frozen", "stop db-1", "start db-1", "commit 2"]);
    observed.sizes.insert(volume("db-1"), 2 << 30);
    let made = plan(&observed, &new, PlanKind::Upgrade, DataWish::default()).expect("a plan");
    assert_eq!(steps(&made), ["copy g1: db-1 frozen", "commit 2"]);
}

#[test]
fn a_copy_by_hand_changes_nothing_else() {
    let old = shop(1, "1");
    let observed = with_data(&old);
    let own: SnapshotName = "before-the-fair".parse().expect("name");
    let wish = DataWish { pin: Some(&own), ..DataWish::default() };
    let made = plan_snapshot(&name(), &observed, (&old.content.snapshots, wish), None);
    assert_eq!(steps(&made), ["copy before-the-fair: db-1 frozen"]);
    assert_eq!(check(&made, &observed, Some(&old)), []);
    assert!(!is_given_by_plans(&own) && is_given_by_plans(&"g17".parse().expect("name")));
    let mut down = observed.clone();
    down.instances.clear();
    down.snapshots.push(snapshot("g9", &old, 10));
    let wish = DataWish { restore: Some(&down.snapshots[0]), ..DataWish::default() };
    let made = plan_at_rest(&name(), &down, (&old.content.snapshots, wish), None);
    assert_eq!(steps(&made), ["copy g1: db-1 at rest", "restore g9"]);
    assert_eq!(check(&made, &down, None), []);
}

proptest! {
    #[test]
    fn data_is_kept_from_any_state(
        old in random_release(1),
        new in random_release(2),
        seen in proptest::collection::vec((any::<bool>(), 0u8..4, any::<bool>()), 20),
        ages in proptest::collection::vec((0u64..1000, any::<bool>()), 0..6),
        (kind, restores, late) in (0u8..3, any::<bool>(), any::<bool>()),
    ) {
        let mut observed = running(&old);
        let names: Vec<_> = observed.instances.keys().cloned().collect();
        let mut held = BTreeSet::new();
        for (instance, (stopped, data, cannot)) in names.iter().zip(&seen) {
            observed.instances.get_mut(instance).expect("there").running = !stopped;
            if *data > 0 {
                let quiesce = if *data == 1 { Quiesce::Stop } else { Quiesce::Freeze };
                observed.volumes.insert(volume(instance.as_str()), quiesce);
                held.insert(volume(instance.as_str()));
            }
            if *cannot {
                observed.cannot_freeze.insert(instance.clone());
            }
        }
        observed.snapshots = ages.iter().enumerate().map(|(number, (taken_ms, pinned))| ObservedSnapshot {
            pinned: *pinned,
            volumes: held.clone(),
            ..snapshot(&format!("old-{number}"), &old, *taken_ms)
        }).collect();
        let kind = [PlanKind::Upgrade, PlanKind::Up, PlanKind::Return][usize::from(kind)];
        let restore = observed.snapshots.first().filter(|_| restores);
        let quiesce = late.then_some(Quiesce::Stop);
        let wish = DataWish { now_ms: 1000, restore, quiesce, ..DataWish::default() };
        let made = plan(&observed, &new, kind, wish).expect("a plan");
        prop_assert_eq!(check(&made, &observed, Some(&new)), vec![]);
        let copied = made.actions.iter().find_map(|action| match action {
            Action::Snapshot { volumes, .. } => Some(volumes.len()),
            _ => None,
        });
        if !observed.volumes.is_empty() && (kind == PlanKind::Upgrade || restore.is_some()) {
            prop_assert_eq!(copied, Some(observed.volumes.len()), "all of the set as of one moment");
        }
    }
}

/// Release 2 has a fence, and its web servers a task that turns the data of the database back.
fn reversible() -> Release {
    let mut second = shop(2, "2");
    second.content.fence = 2;
    let web = second.content.machines.get_mut(&"web".parse().expect("a name")).expect("there");
    web.tasks.insert("revert".parse().expect("a name"), Task { when: When::Reverse, timeout_ms: 1000 });
    second
}

#[test]
fn data_is_turned_back_or_put_back_and_never_both() {
    let (first, second) = (shop(1, "1"), reversible());
    let mut observed = with_data(&second);
    let settings = Settings::default();
    let mut addresses = addresses_for(&second);
    addresses.extend(addresses_for(&first));
    let back = |observed: &Observed, data: DataWish<'_>| {
        let former = Some(Former { release: &second, settings: &settings, reaches: 0 });
        let (kind, side) = (PlanKind::Rollback, Side::Blue);
        let wanted =
            Wanted { release: &first, kind, side, addresses: &addresses, settings: &settings, data, former };
        let plan = plan_up(&name(), observed, &wanted, None)?;
        assert_eq!(check(&plan, observed, Some(&first)), []);
        Ok::<Plan, PlanError>(plan)
    };
    let turned = |plan: &Plan| plan.actions.iter().any(|action| matches!(action, Action::Task { .. }));
    let plan = back(&observed, DataWish::default()).expect("a plan");
    assert_eq!((turned(&plan), &plan.reversed), (true, &Some(second.name())));
    let old = snapshot("g1", &first, 1);
    let put = DataWish { restore: Some(&old), ..DataWish::default() };
    let plan = back(&observed, put).expect("a plan");
    assert_eq!((turned(&plan), &plan.reversed), (false, &None));
    // It was cut short: what is copied then is nobody's data.
    let mut cut = observed.clone();
    cut.turned_back = Some(second.name());
    let plan = back(&cut, DataWish::default()).expect("a plan");
    let copied = plan.actions.iter().find_map(|action| match action {
        Action::Snapshot { release, .. } => Some(release),
        _ => None,
    });
    assert_eq!(copied, Some(&None));
    // A volume that the older one does not use is nothing to it.
    observed.volumes.insert(volume("api-1"), Quiesce::Freeze);
    assert!(back(&observed, put).is_ok());
    // One that it uses and the snapshot does not have: the data would be of two times.
    let empty = ObservedSnapshot { volumes: BTreeSet::new(), ..old.clone() };
    let put = DataWish { restore: Some(&empty), ..DataWish::default() };
    assert!(matches!(back(&observed, put), Err(PlanError::Fenced { .. })));
}

/// Release 2 was let at the data and did not come to its end: it is what the fence speaks of, although 1 is current.
#[test]
fn what_was_begun_has_the_data() {
    let (first, second) = (shop(1, "1"), reversible());
    let mut fenced = second.clone();
    fenced.content.machines.values_mut().for_each(|machine| machine.tasks.clear());
    let (settings, side) = (Settings::default(), Side::Blue);
    let mut addresses = addresses_for(&second);
    addresses.extend(addresses_for(&first));
    let to = |observed: &Observed, (release, newer): (&Release, &Release), kind, data: DataWish<'_>| {
        let former = Some(Former { release: newer, settings: &settings, reaches: 0 });
        let wanted = Wanted { release, kind, side, addresses: &addresses, settings: &settings, data, former };
        let plan = plan_up(&name(), observed, &wanted, None)?;
        assert_eq!(check(&plan, observed, Some(release)), []);
        Ok::<Plan, PlanError>(plan)
    };
    let before = with_data(&first);
    let keep = DataWish::default();
    let begun = to(&before, (&fenced, &fenced), PlanKind::Upgrade, keep).expect("a plan");
    let starts = |action: &Action| matches!(action, Action::Start { .. });
    let first_start = begun.actions.iter().position(starts).expect("one starts");
    let seen = |done: usize, plan: &Plan| {
        let last = Progress { plan, done, is_through: false };
        let fence_of = |name: &ReleaseName| Ok::<u64, ()>(if name.number == 2 { 2 } else { 0 });
        let mut observed = before.clone();
        observed.touched = touched(Some(last), Some(&first.name()), fence_of).expect("they are there");
        observed.data_of = observed.touched.clone().or(observed.data_of);
        observed.fence = if observed.touched.is_some() { 2 } else { 0 };
        observed
    };
    // Nothing was started yet.
    let whole = seen(first_start - 1, &begun);
    assert_eq!(whole.touched, None);
    assert!(to(&whole, (&first, &fenced), PlanKind::Return, keep).is_ok());
    // From then on the way back is with the data of then, by its task, or not at all.
    let cut = seen(first_start, &begun);
    for kind in [PlanKind::Return, PlanKind::Up] {
        let refused = to(&cut, (&first, &fenced), kind, keep);
        assert!(matches!(refused, Err(PlanError::Fenced { .. })), "{refused:?}");
        let turned = to(&cut, (&first, &second), kind, keep).expect("a plan");
        let position = |is: fn(&Action) -> bool| turned.actions.iter().position(is);
        let copied = position(|action| matches!(action, Action::Snapshot { release: None, .. }));
        let task = position(|action| matches!(action, Action::Task { .. }));
        assert!(copied.is_some() && copied < task, "{turned:?}");
        assert_eq!((&turned.reversed, &turned.touched), (&Some(second.name()), &Some(second.name())));
    }
    let old = snapshot("g1", &first, 1);
    let put = DataWish { restore: Some(&old), ..keep };
    let back = to(&cut, (&first, &fenced), PlanKind::Rollback, put).expect("a plan");
    // It was cut short, too, or everything was stopped: that is not forgotten.
    assert_eq!(seen(0, &back).touched, Some(second.name()));
    let down = plan_down(&name(), &cut, &[], Some(&begun));
    assert_eq!(seen(down.actions.len(), &down).touched, Some(second.name()));
    // Going on needs no other copy: there is one of before.
    let on = to(&cut, (&fenced, &fenced), PlanKind::Upgrade, keep).expect("a plan");
    assert!(!on.actions.iter().any(|action| matches!(action, Action::Snapshot { .. })));
    let through = Progress { plan: &on, done: on.actions.len(), is_through: true };
    assert_eq!(touched(Some(through), Some(&first.name()), |_| Ok::<u64, ()>(2)), Ok(None));
}
