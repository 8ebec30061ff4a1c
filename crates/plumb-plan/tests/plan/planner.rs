//! What the planner decides, seen as text, and its promises on random cases.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use plumb_model::config::{ConfigRef, Settings};
use plumb_model::release::{
    BlueGreen, Canary, FailedInstance, Publish, Quiesce, Release, ReleaseMachine, Rolling, Task, VolumeSize,
    When,
};
use plumb_model::{Digest, InstanceName, TaskName};
use plumb_plan::{
    Action, DataWish, Former, InstanceVolume, Observed, ObservedInstance, OtherSet, Plan, PlanError,
    PlanKind, Side, Violation, Wanted, check, plan_down, plan_repair, plan_up,
};
use proptest::prelude::*;

use super::world::{
    addresses_for, machine, name, release, running, running_on, running_with, shop, up, up_with,
};

fn text(plan: &Plan) -> String {
    let join = |names: &[InstanceName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    plan.actions
        .iter()
        .map(|action| match action {
            Action::Network => "network\n".to_owned(),
            Action::Volume { instance, volume, size_bytes } => {
                format!("volume {instance}/{volume} {size_bytes}\n")
            }
            Action::Stop { instance } => format!("stop {instance}\n"),
            Action::Start { boot, spec, .. } => format!(
                "start {} {}\n",
                boot.instance,
                spec.peers.iter().map(|peer| peer.names[0].clone()).collect::<Vec<_>>().join(",")
            ),
            Action::AwaitReady { instance, .. } => format!("await {instance}\n"),
            Action::Ports { published } => {
                let all = published
                    .iter()
                    .map(|(machine, ports)| format!(" {machine}: {}", join(&ports.instances)));
                format!("ports{}\n", all.collect::<String>())
            }
            Action::Task { instance, task, .. } => format!("task {task} in {instance}\n"),
            Action::Settle { instances, for_ms, .. } => format!("settle {} {for_ms}\n", join(instances)),
            Action::Remove { instance } => format!("remove {instance}\n"),
            Action::Commit { number, .. } => format!("commit {number}\n"),
            Action::Snapshot { .. } | Action::Restore { .. } | Action::Prune { .. } => {
                unreachable!("data is told of in `snapshot`")
            }
            Action::Teardown => "teardown\n".to_owned(),
        })
        .collect()
}

fn expect_plan(observed: &Observed, release: &Release, kind: PlanKind, expected: &Expect) {
    let plan = up(observed, release, kind).expect("a plan");
    assert_eq!(check(&plan, observed, Some(release)), []);
    expected.assert_eq(&text(&plan));
}

#[test]
fn up_from_nothing_starts_by_needs() {
    expect_plan(
        &Observed::default(),
        &shop(1, "1"),
        PlanKind::Up,
        &expect![[r#"
            network
            volume db-1/data 1073741824
            start db-1 db-1
            await db-1
            start api-1 api-1,db-1
            await api-1
            start web-1 api-1,web-1,web-2
            start web-2 api-1,web-1,web-2
            await web-1
            await web-2
            ports web: web-1 web-2
            commit 1
        "#]],
    );
}

#[test]
fn up_again_only_looks() {
    let release = shop(1, "1");
    expect_plan(
        &running(&release),
        &release,
        PlanKind::Up,
        &expect![[r#"
            network
            volume db-1/data 1073741824
            await db-1
            await api-1
            await web-1
            await web-2
            ports web: web-1 web-2
            commit 1
        "#]],
    );
}

#[test]
fn upgrade_replaces_what_changed_one_by_one() {
    expect_plan(
        &running(&shop(1, "1")),
        &shop(2, "2"),
        PlanKind::Upgrade,
        &expect![[r#"
            network
            volume db-1/data 1073741824
            await db-1
            stop api-1
            start api-1 api-1,db-1
            await api-1
            ports web: web-2
            stop web-1
            start web-1 api-1,web-1,web-2
            await web-1
            ports web: web-1 web-2
            ports web: web-1
            stop web-2
            start web-2 api-1,web-1,web-2
            await web-2
            ports web: web-1 web-2
            commit 2
        "#]],
    );
}

#[test]
fn the_first_are_watched_before_the_others_follow() {
    let site = |image: &str| {
        let mut web = machine(image, 4, &[]);
        let canary = Some(Canary { instances: 1, for_ms: 600_000 });
        web.rolling = Rolling { max_unavailable: 2, min_ready_ms: 5_000, canary };
        web
    };
    let (old, new) = (release(1, 0, vec![("web", site("w1"))]), release(2, 0, vec![("web", site("w2"))]));
    let of = |kind, observed: &Observed, release: &Release| {
        let text = text(&up(observed, release, kind).expect("a plan"));
        text.lines().filter(|line| !line.starts_with("await")).collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        network
        stop web-1
        start web-1 web-1,web-2,web-3,web-4
        settle web-1 600000
        stop web-2
        stop web-3
        start web-2 web-1,web-2,web-3,web-4
        start web-3 web-1,web-2,web-3,web-4
        settle web-2 web-3 5000
        stop web-4
        start web-4 web-1,web-2,web-3,web-4
        settle web-4 5000
        ports
        commit 2"#]]
    .assert_eq(&of(PlanKind::Upgrade, &running(&old), &new));
    let back = of(PlanKind::Return, &running(&new), &old);
    assert!(!back.contains("settle"), "{back}");
}

#[test]
fn of_a_quorum_who_serves_nobody_goes_first() {
    let (old, new) = (
        release(1, 0, vec![("q", machine("q1", 3, &[]))]),
        release(2, 0, vec![("q", machine("q2", 3, &[]))]),
    );
    let mut observed = running(&old);
    observed.instances.get_mut(&"q-2".parse().expect("a name")).expect("it is there").ready = false;
    let plan = up(&observed, &new, PlanKind::Upgrade).expect("a plan");
    assert_eq!(check(&plan, &observed, Some(&new)), []);
    let text = text(&plan);
    let stops: Vec<&str> = text.lines().filter(|line| line.starts_with("stop")).collect();
    assert_eq!(stops, ["stop q-2", "stop q-1", "stop q-3"]);
    // Two of three would be away if a ready one went first.
    let mut wrong = plan.clone();
    let stop = |name: &str| Action::Stop { instance: name.parse().expect("a name") };
    for action in &mut wrong.actions {
        match action {
            Action::Stop { instance } if instance.as_str() == "q-2" => *action = stop("q-1"),
            Action::Stop { instance } if instance.as_str() == "q-1" => *action = stop("q-2"),
            _ => {}
        }
    }
    let violations = check(&wrong, &observed, Some(&new));
    assert!(violations.contains(&Violation::TooManyAway("q".parse().expect("a name"))), "{violations:?}");
}

#[test]
fn tasks_run_once_in_the_new_image_before_and_after() {
    let task = |when| Task { when, timeout_ms: 60_000 };
    let with_tasks = |number, version: &str| {
        let mut release = shop(number, version);
        let api = release.content.machines.get_mut(&"api".parse().expect("a name")).expect("it is there");
        api.tasks.insert("migrate".parse().expect("a name"), task(When::Before));
        api.tasks.insert("check".parse().expect("a name"), task(When::Before));
        api.tasks.insert("tidy".parse().expect("a name"), task(When::After));
        release
    };
    let (old, new) = (with_tasks(1, "1"), with_tasks(2, "2"));
    let planned = |kind, observed: &Observed, release: &Release| {
        let plan = up(observed, release, kind).expect("a plan");
        assert_eq!(check(&plan, observed, Some(release)), []);
        text(&plan)
    };
    expect![[r#"
        network
        volume db-1/data 1073741824
        await db-1
        start api-0 api-1,db-1
        await api-0
        task check in api-0
        task migrate in api-0
        stop api-0
        remove api-0
        stop api-1
        start api-1 api-1,db-1
        await api-1
        ports web: web-2
        stop web-1
        start web-1 api-1,web-1,web-2
        await web-1
        ports web: web-1 web-2
        ports web: web-1
        stop web-2
        start web-2 api-1,web-1,web-2
        await web-2
        ports web: web-1 web-2
        start api-0 api-1,db-1
        await api-0
        task tidy in api-0
        stop api-0
        remove api-0
        commit 2
    "#]]
    .assert_eq(&planned(PlanKind::Upgrade, &running(&old), &new));
    // One that an interruption left goes first.
    let mut left = running(&old);
    let of_old = left.instances.values().next().expect("one").clone();
    let api = ObservedInstance { machine: "api".parse().expect("a name"), ..of_old };
    left.instances.insert("api-0".parse().expect("a name"), api);
    let again = planned(PlanKind::Upgrade, &left, &new);
    assert!(again.contains("stop api-0\nremove api-0\nstart api-0"), "{again}");
    assert_eq!(again.matches("remove api-0").count(), 3, "{again}");
    // Not for what is committed, nor on a way back; what was left goes all the same.
    for (kind, observed, release) in [
        (PlanKind::Up, running(&new), &new),
        (PlanKind::Rollback, running(&new), &old),
        (PlanKind::Return, running(&new), &old),
    ] {
        assert!(!planned(kind, &observed, release).contains("-0"), "{kind:?}");
    }
    assert!(planned(PlanKind::Return, &left, &old).contains("remove api-0"));
}

#[test]
fn a_repair_touches_what_is_due_and_nothing_else() {
    let release = shop(1, "1");
    let mut observed = running(&release);
    let stop = |observed: &mut Observed, name: &str| {
        observed.instances.get_mut(&name.parse().expect("a name")).expect("it is there").running = false;
    };
    stop(&mut observed, "web-1");
    stop(&mut observed, "db-1");
    let repaired = |observed: &Observed, due: &[&str]| {
        let due: BTreeSet<InstanceName> = due.iter().map(|name| name.parse().expect("a name")).collect();
        let addresses = addresses_for(&release);
        let settings = Settings::default();
        let wanted = Wanted {
            release: &release,
            kind: PlanKind::Repair,
            side: observed.side,
            addresses: &addresses,
            settings: &settings,
            data: DataWish::default(),
            former: None,
        };
        let plan = plan_repair(&name(), observed, (&wanted, &due), None).expect("it can be planned");
        plan.iter().for_each(|plan| assert_eq!(check(plan, observed, Some(&release)), []));
        plan.as_ref().map_or_else(String::new, text)
    };
    // What runs no longer is taken from its ports at once; `db-1` waits for its time.
    expect![[r#"
        network
        ports web: web-2
        start web-1 api-1,web-1,web-2
        await web-1
        ports web: web-1 web-2
        commit 1
    "#]]
    .assert_eq(&repaired(&observed, &["web-1"]));
    expect![[r#"
        network
        ports web: web-2
        volume db-1/data 1073741824
        start db-1 db-1
        await db-1
        start web-1 api-1,web-1,web-2
        await web-1
        ports web: web-1 web-2
        commit 1
    "#]]
    .assert_eq(&repaired(&observed, &["db-1", "web-1"]));
    stop(&mut observed, "api-1");
    assert_eq!(repaired(&observed, &["web-1"]), "", "there is nothing that it could talk to");
    // One that runs and does not answer is stopped first.
    expect![[r#"
        network
        ports web: web-1 web-2
        ports web: web-1
        stop web-2
        start web-2 api-1,web-1,web-2
        await web-2
        ports web: web-1 web-2
        commit 1
    "#]]
    .assert_eq(&repaired(&running(&release), &["web-2"]));
}

#[test]
fn batches_are_as_large_as_the_definition_allows() {
    let mut new = release(2, 0, vec![("web", machine("w2", 5, &[]))]);
    let web = new.content.machines.get_mut(&"web".parse().expect("name")).expect("a machine");
    web.publish = vec![Publish { address: [127, 0, 0, 1].into(), host_port: 8080, guest_port: 80 }];
    web.rolling = Rolling { max_unavailable: 2, min_ready_ms: 10_000, canary: None };
    let mut old = new.clone();
    let web = old.content.machines.get_mut(&"web".parse().expect("name")).expect("a machine");
    web.image = Digest::of(b"w1");
    expect_plan(
        &running(&old),
        &new,
        PlanKind::Upgrade,
        &expect![[r#"
        network
        ports web: web-3 web-4 web-5
        stop web-1
        stop web-2
        start web-1 web-1,web-2,web-3,web-4,web-5
        start web-2 web-1,web-2,web-3,web-4,web-5
        await web-1
        await web-2
        ports web: web-1 web-2 web-3 web-4 web-5
        settle web-1 web-2 10000
        ports web: web-1 web-2 web-5
        stop web-3
        stop web-4
        start web-3 web-1,web-2,web-3,web-4,web-5
        start web-4 web-1,web-2,web-3,web-4,web-5
        await web-3
        await web-4
        ports web: web-1 web-2 web-3 web-4 web-5
        settle web-3 web-4 10000
        ports web: web-1 web-2 web-3 web-4
        stop web-5
        start web-5 web-1,web-2,web-3,web-4,web-5
        await web-5
        ports web: web-1 web-2 web-3 web-4 web-5
        settle web-5 10000
        commit 2
    "#]],
    );
    let back = up(&running(&old), &new, PlanKind::Return).expect("a plan");
    assert!(!text(&back).contains("settle"), "nobody waits on the way back");
}

#[test]
fn a_crashed_instance_is_started_and_a_lost_machine_removed() {
    let old = release(1, 0, vec![("web", machine("w", 2, &[])), ("old", machine("o", 1, &[]))]);
    let new = release(2, 0, vec![("web", machine("w", 1, &[]))]);
    let mut observed = running(&old);
    observed.instances.get_mut(&"web-1".parse().expect("name")).expect("runs").running = false;
    let plan = up(&observed, &new, PlanKind::Upgrade).expect("a plan");
    expect![[r#"
        network
        start web-1 web-1
        await web-1
        ports
        stop web-2
        remove web-2
        stop old-1
        remove old-1
        commit 2
    "#]]
    .assert_eq(&text(&plan));
}

/// The shop with a setting of the api, a secret of api and database, and what is told of them.
fn configured(level: &str, version: &str) -> (Release, Settings) {
    let mut release = shop(1, "1");
    let names = |names: &[&str]| names.iter().map(|name| name.parse().expect("a name")).collect();
    for (machine, told) in [("api", &["level", "password"][..]), ("db", &["password"])] {
        let machine = machine.parse().expect("a name");
        release.content.machines.get_mut(&machine).expect("a machine").config = names(told);
    }
    let settings = Settings {
        configuration: Some(ConfigRef { number: 2, digest: Digest::of(b"2") }),
        values: [("level".parse().expect("a name"), level.to_owned())].into(),
        secrets: [("password".parse().expect("a name"), Digest::of(version.as_bytes()))].into(),
    };
    (release, settings)
}

#[test]
fn only_those_restart_that_are_told_what_changed() {
    let (release, before) = configured("info", "a");
    let observed = running_with(&release, &before);
    let replaced = |level: &str, version: &str| {
        let (_, after) = configured(level, version);
        let plan = up_with(&observed, (&release, &after), PlanKind::Configure).expect("a plan");
        assert_eq!(check(&plan, &observed, Some(&release)), []);
        assert_eq!(plan.config, after.configuration);
        assert_eq!(
            plan.actions.last(),
            Some(&Action::Commit { number: 1, config: Some(2), side: Side::Blue, other: OtherSet::Gone })
        );
        let starts = plan.actions.iter().filter_map(|action| match action {
            Action::Start { boot, spec, .. } => {
                Some((boot.instance.to_string(), spec.config.clone(), boot.secrets.len()))
            }
            _ => None,
        });
        starts.collect::<Vec<_>>()
    };
    assert_eq!(replaced("info", "a"), []);
    let told = |level: &str| std::collections::BTreeMap::from([("level".to_owned(), level.to_owned())]);
    assert_eq!(replaced("warn", "a"), [("api-1".to_owned(), told("warn"), 1)]);
    // Those that others need come first.
    let nothing = std::collections::BTreeMap::new();
    assert_eq!(
        replaced("info", "b"),
        [("db-1".to_owned(), nothing, 1), ("api-1".to_owned(), told("info"), 1)]
    );
}

#[test]
fn the_fence_is_kept() {
    let mut second = shop(2, "2");
    second.content.fence = 2;
    let error = up(&running(&second), &shop(1, "1"), PlanKind::Rollback).expect_err("is refused");
    expect!["`shop@2` cannot be rolled back to `shop@1`: its definition sets the fence at release 2, because data written by `shop@2` is not readable below it"]
        .assert_eq(&error.to_string());
    assert!(up(&running(&second), &shop(3, "3"), PlanKind::Upgrade).is_ok());
}

#[test]
fn down_stops_in_reverse() {
    let release = shop(1, "1");
    let order = plumb_plan::start_order(&release.content.machines).expect("no cycle");
    let observed = running(&release);
    let plan = plan_down(&name(), &observed, &order, None);
    assert_eq!(check(&plan, &observed, None), []);
    expect![[r#"
        ports
        stop web-2
        remove web-2
        stop web-1
        remove web-1
        stop api-1
        remove api-1
        stop db-1
        remove db-1
        teardown
    "#]]
    .assert_eq(&text(&plan));
}

#[test]
fn a_circle_of_needs_is_refused() {
    let release = release(1, 0, vec![("a", machine("a", 1, &["b"])), ("b", machine("b", 1, &["a"]))]);
    let error = up(&Observed::default(), &release, PlanKind::Up).expect_err("is refused");
    assert_eq!(error.to_string(), "machines need each other in a circle: `a`, `b`");
}

pub(crate) fn random_release(number: u64) -> impl Strategy<Value = Release> {
    proptest::collection::btree_map(
        0u8..6,
        (0u8..3, 1u32..4, proptest::collection::vec(0u8..6, 0..3), any::<bool>(), 1u32..4),
        1..6,
    )
    .prop_map(move |machines| {
        let known: Vec<u8> = machines.keys().copied().collect();
        let machines = machines.into_iter().map(|(key, (image, instances, needs, publishes, away))| {
            // Only needs of smaller keys, so there is no cycle.
            let needs: Vec<String> = needs
                .into_iter()
                .filter(|need| *need < key && known.contains(need))
                .map(|n| format!("m{n}"))
                .collect();
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            let mut made = machine(&image.to_string(), instances, &needs);
            made.rolling = Rolling { max_unavailable: away, min_ready_ms: u64::from(away), canary: None };
            if publishes {
                made.publish = vec![Publish {
                    address: [127, 0, 0, 1].into(),
                    host_port: 8000 + u16::from(key),
                    guest_port: 80,
                }];
            }
            (format!("m{key}"), made)
        });
        let machines: Vec<(String, ReleaseMachine)> = machines.collect();
        release(number, 0, machines.iter().map(|(name, machine)| (name.as_str(), machine.clone())).collect())
    })
}

/// A release with tasks of all kinds on machines without volumes, and a volume on the others.
fn with_tasks(mut release: Release, kinds: u8) -> Release {
    for (at, machine) in release.content.machines.values_mut().enumerate() {
        if at % 3 == 0 {
            let size = VolumeSize { size_bytes: 1 << 20, snapshot: [Quiesce::Freeze, Quiesce::Stop][at % 2] };
            machine.volumes.insert("data".parse().expect("a name"), size);
            continue;
        }
        for (bit, when) in [(1, When::Before), (2, When::After), (4, When::Reverse)] {
            if kinds & bit != 0 {
                machine.tasks.insert(when_name(when), Task { when, timeout_ms: 1000 });
            }
        }
    }
    release
}

fn when_name(when: When) -> TaskName {
    format!("{when:?}").to_lowercase().parse().expect("a name")
}

proptest! {
    #[test]
    fn data_fits_whoever_gets_it(old in random_release(1), new in random_release(2), life in proptest::collection::vec(0u8..3, 20), kinds in 0u8..8, marked in any::<bool>(), begun in any::<bool>(), back in any::<bool>()) {
        let (old, mut new) = (with_tasks(old, kinds), with_tasks(new, kinds));
        new.content.fence = 2;
        let settings = Settings::default();
        let mut observed = running(&new);
        observed.turned_back = marked.then(|| new.name());
        if begun {
            // What runs is of both: it was let at the data, and is not current.
            (observed.current, observed.touched) = (Some(old.name()), Some(new.name()));
        }
        for (machine, of) in &new.content.machines {
            for volume in of.volumes.keys() {
                let instance: InstanceName = format!("{machine}-1").parse().expect("a name");
                observed.volumes.insert(InstanceVolume { instance, volume: volume.clone() }, Quiesce::Freeze);
            }
        }
        for (instance, life) in observed.instances.values_mut().zip(life) {
            (instance.running, instance.ready) = (life > 0, life > 1);
        }
        let mut addresses = addresses_for(&new);
        addresses.extend(addresses_for(&old).into_iter().filter(|(name, _)| !observed.instances.contains_key(name)));
        let can = new.content.machines.values().any(|machine| machine.tasks.contains_key(&when_name(When::Reverse)));
        let former = Some(Former { release: &new, settings: &settings, reaches: 0 });
        let kind_back = if begun { PlanKind::Return } else { PlanKind::Rollback };
        let (release, kind) = if back { (&old, kind_back) } else { (&new, PlanKind::Up) };
        let (side, data) = (Side::Blue, DataWish::default());
        let wanted = Wanted { release, kind, side, addresses: &addresses, settings: &settings, data, former };
        match plan_up(&name(), &observed, &wanted, None) {
            Ok(plan) => prop_assert_eq!(check(&plan, &observed, Some(release)), vec![]),
            Err(error) => {
                let is_fenced = matches!(error, PlanError::Fenced { .. });
                prop_assert!(back && !can && is_fenced, "{}", error);
            }
        }
    }

    #[test]
    fn promises_hold_from_any_state(old in random_release(1), new in random_release(2), life in proptest::collection::vec(0u8..3, 20), policy in 0usize..3, beside in 0u8..8) {
        let (mut new, is) = (new, |bit| beside & bit != 0);
        // Beside what runs, kept or not, from either side.
        new.content.upgrade.blue_green =
            is(1).then_some(BlueGreen { watch_ms: 1000, keep_ms: u64::from(is(2)) });
        let side = if is(4) { Side::Green } else { Side::Blue };
        new.content.upgrade.failed_instance =
            [FailedInstance::Undo, FailedInstance::Stop, FailedInstance::Continue][policy];
        let mut observed = running_on(&old, &Settings::default(), side);
        // What an earlier plan left of the other set.
        let left = running_on(&new, &Settings::default(), side.other()).instances;
        observed.instances.extend(left.into_iter().take(usize::from(beside)));
        for (instance, life) in observed.instances.values_mut().zip(life) {
            (instance.running, instance.ready) = (life > 0, life > 1);
        }
        let plan = up(&observed, &new, PlanKind::Upgrade).expect("a plan");
        prop_assert_eq!(check(&plan, &observed, Some(&new)), vec![]);
    }
}
