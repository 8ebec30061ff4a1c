//! Every step of every kind of plan fails once, is killed once before and once after its effect, and is done twice: afterwards
//! the set is whole, at the old or the new release, at once or with the next command. The table is `docs/internals/faults.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use expect_test::expect_file;
use plumb_model::release::{BlueGreen, FailedInstance, Publish, Task, VolumeSize, When};
use plumb_model::{Digest, MachineName};
use plumb_plan::{Action, Plan, PlanKind};

use super::host::{End, Fault, Host, Trouble};
use super::script::{plain, release};

const FAULTS: [(Fault, &str); 4] = [
    (Fault::Fails, "fails"),
    (Fault::KilledBefore, "killed before it"),
    (Fault::KilledAfter, "killed after it"),
    (Fault::Twice, "done twice"),
];

/// What the operator wants.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Go(u64),
    Down,
}

/// A set with everything that plans have steps for: a volume, tasks, ports, a machine that goes and one that comes.
fn host(failed_instance: FailedInstance) -> Host {
    let mut host = Host::new("shop-prod");
    for number in 1..=2 {
        let image = |name: &str| format!("{name} {number}");
        let mut db = plain(&image("db"), 1);
        db.volumes.insert(
            "data".parse().expect("a name"),
            VolumeSize { size_bytes: 1 << 30, snapshot: plumb_model::release::Quiesce::Freeze },
        );
        let mut api = plain(&image("api"), 2);
        api.needs = vec!["db".parse().expect("a name")];
        for (name, when) in [("migrate", When::Before), ("warm", When::After)] {
            api.tasks.insert(name.parse().expect("a name"), Task { when, timeout_ms: 60_000 });
        }
        let mut web = plain(&image("web"), 3);
        web.needs = vec!["api".parse().expect("a name")];
        web.publish = vec![Publish { address: [127, 0, 0, 1].into(), host_port: 8080, guest_port: 80 }];
        web.rolling.min_ready_ms = 5_000;
        let extra = if number == 1 { "old" } else { "new" };
        let machines = [("db", db), ("api", api), ("web", web), (extra, plain(extra, 1))];
        let machines: BTreeMap<MachineName, _> =
            machines.into_iter().map(|(name, of)| (name.parse().expect("a name"), of)).collect();
        let mut release = release(number, 0, &machines);
        release.content.upgrade.failed_instance = failed_instance;
        host.releases.insert(number, release);
    }
    assert_ne!(Digest::of(b"old"), Digest::of(b"new"));
    host
}

/// The same, each release beside the one before, which is kept for so long.
fn beside(keep_ms: u64) -> Host {
    let mut host = host(FailedInstance::Undo);
    for release in host.releases.values_mut() {
        release.content.upgrade.blue_green = Some(BlueGreen { watch_ms: 5_000, keep_ms });
    }
    host
}

/// The same with a fence at release 2, whose tasks turn its data back.
fn reversible() -> Host {
    let mut host = host(FailedInstance::Undo);
    let second = host.releases.get_mut(&2).expect("release 2");
    second.content.fence = 2;
    let api = second.content.machines.get_mut(&"api".parse().expect("a name")).expect("there");
    let revert = Task { when: When::Reverse, timeout_ms: 60_000 };
    api.tasks.insert("revert".parse().expect("a name"), revert);
    // Another machine with one: it comes first, as it needs the other.
    let web = second.content.machines.get_mut(&"web".parse().expect("a name")).expect("there");
    web.tasks.insert("forget".parse().expect("a name"), revert);
    host
}

fn carried_out(host: &mut Host, wish: Wish) -> Result<(), End> {
    match wish {
        Wish::Go(number) => host.go(number),
        Wish::Down => host.down(),
    }
}

fn kind_of(action: &Action) -> &'static str {
    match action {
        Action::Network => "network and keeper",
        Action::Volume { .. } => "volume",
        Action::Ports { .. } => "published ports",
        Action::Stop { .. } => "stop",
        Action::Start { .. } => "start",
        Action::AwaitReady { .. } => "wait until ready",
        Action::Task { .. } => "task",
        Action::Settle { .. } => "stays ready",
        Action::Remove { .. } => "remove",
        Action::Commit { .. } => "commit",
        Action::Teardown => "take down",
        Action::Snapshot { .. } => "snapshot",
        Action::Restore { .. } => "restore",
        Action::Prune { .. } => "remove snapshots",
    }
}

fn at(host: &Host) -> String {
    match (host.whole(), &host.current) {
        (Some(number), _) => format!("release {number}, whole"),
        (None, Some(current)) if host.left_behind > 0 => {
            format!("release {}, but for one instance", current.number)
        }
        (None, None) if host.is_empty() => "down".to_owned(),
        (None, _) => "half-way".to_owned(),
    }
}

/// What comes of a fault, and that the next command comes to its end, whichever it is.
fn outcome(before: &Host, wish: Wish, step: usize, fault: Fault) -> String {
    let mut host = before.clone();
    host.count_from_here();
    host.troubles.push(Trouble::Step(step, fault));
    let end = carried_out(&mut host, wish);
    assert!(host.troubles.is_empty(), "the fault came");
    let then = at(&host);
    let story = host.trace.join("\n");
    match (&end, wish) {
        (Ok(()), Wish::Go(number)) => assert_eq!(host.whole(), Some(number), "{story}"),
        (Ok(()), Wish::Down) => assert_eq!(then, "down", "{story}"),
        // Whoever fails goes back to what ran, if anything did.
        (Err(End::Failed(_)), Wish::Go(number)) if before.whole().is_some() => {
            if host.releases[&number].content.upgrade.failed_instance == FailedInstance::Undo {
                assert_eq!(host.whole(), before.whole(), "{story}");
            }
            for (machine, of) in &host.releases[&number].content.machines {
                let least = of.instances.saturating_sub(of.rolling.max_unavailable) as usize;
                assert!(host.fewest.get(machine).is_none_or(|fewest| *fewest >= least), "{machine}: {story}");
            }
        }
        _ => {}
    }
    // The same again, and the way back: each for itself.
    let mut same = host.clone();
    carried_out(&mut same, wish).unwrap_or_else(|end| panic!("{end:?}: {}", same.trace.join("\n")));
    match wish {
        Wish::Go(number) => assert_eq!(same.whole(), Some(number), "{}", same.trace.join("\n")),
        Wish::Down => assert_eq!(at(&same), "down"),
    }
    if let Some(number) = before.whole() {
        let mut back = host.clone();
        back.go(number).unwrap_or_else(|end| panic!("{end:?}: {}", back.trace.join("\n")));
        assert_eq!(back.whole(), Some(number), "{}", back.trace.join("\n"));
    }
    then
}

#[test]
fn after_every_fault_the_set_is_whole_at_the_old_or_the_new_release() {
    let [undo, stop, goes_on] =
        [FailedInstance::Undo, FailedInstance::Stop, FailedInstance::Continue].map(|policy| {
            let mut host = host(policy);
            host.go(1).expect("it starts");
            host
        });
    let (nothing, old) = (host(FailedInstance::Undo), undo);
    let mut new = old.clone();
    new.go(2).expect("it is upgraded");
    let [relieved, kept] = [0, 60_000].map(|keep_ms| {
        let mut host = beside(keep_ms);
        host.go(1).expect("it starts");
        host
    });
    let mut beside_kept = kept.clone();
    beside_kept.go(2).expect("it is upgraded");
    let mut fenced = reversible();
    fenced.go(1).expect("it starts");
    let below = fenced.clone();
    fenced.go(2).expect("it is upgraded");
    assert_eq!(fenced.shape, 2);
    let wishes: [(&str, &Host, Wish); 11] = [
        ("up, from nothing", &nothing, Wish::Go(1)),
        ("upgrade, from release 1 to 2", &old, Wish::Go(2)),
        ("upgrade, with `failed_instance = \"stop\"`", &stop, Wish::Go(2)),
        ("upgrade, with `failed_instance = \"continue\"`", &goes_on, Wish::Go(2)),
        ("rollback, from release 2 to 1", &new, Wish::Go(1)),
        ("upgrade, with `blue_green = { keep = \"none\" }`", &relieved, Wish::Go(2)),
        ("upgrade, with `blue_green`", &kept, Wish::Go(2)),
        ("rollback to the set that was kept", &beside_kept, Wish::Go(1)),
        ("upgrade past a fence, with a `reverse` task", &below, Wish::Go(2)),
        ("rollback below the fence, with a `reverse` task", &fenced, Wish::Go(1)),
        ("down, from release 1", &old, Wish::Down),
    ];
    let mut text = String::from(
        "# What comes of every fault\n\nEvery step of every kind of plan fails once, is killed once before and once after its effect, and is done \
         twice, in a simulation with\nthe product's own planner and loop (`cargo test -p plumb-plan --test fleet`, which writes this file with \
         `UPDATE_EXPECT=1`). The cells say\nhow the set is when the command has ended. Where that is *half-way*, the same command again ends at its \
         release, and the command to\nthe former release ends there, whole; the test does both for every cell. Where a policy is to stop, a failure leaves it there by intent;\nnever more instances are away than may be. With real virtual machines \
         [`kill_nine_at_ten_points_converges`](../../crates/plumb/tests/machines.rs)\ndoes the like.\n",
    );
    let mut steps = 0;
    for (title, before, wish) in wishes {
        let plan = planned(before, wish);
        let mut cells: BTreeMap<(&str, usize), BTreeSet<String>> = BTreeMap::new();
        let mut kinds: Vec<&str> = Vec::new();
        for (step, action) in plan.actions.iter().enumerate() {
            let kind = kind_of(action);
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
            for (column, (fault, _)) in FAULTS.iter().enumerate() {
                cells.entry((kind, column)).or_default().insert(outcome(before, wish, step, *fault));
                steps += 1;
            }
        }
        let heads: Vec<&str> = FAULTS.iter().map(|(_, name)| *name).collect();
        text.push_str(&format!("\n## {title}\n| step | {} |\n|---|---|---|---|---|\n", heads.join(" | ")));
        for kind in kinds {
            let cell = |column| cells[&(kind, column)].iter().cloned().collect::<Vec<_>>().join(" or ");
            let row: Vec<String> = (0..FAULTS.len()).map(cell).collect();
            text.push_str(&format!("| {kind} | {} |\n", row.join(" | ")));
        }
    }
    text.push_str(&format!("\n{steps} faults.\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/internals/faults.md");
    expect_file![path].assert_eq(&text);
}

fn planned(before: &Host, wish: Wish) -> Plan {
    let mut host = before.clone();
    match wish {
        Wish::Go(number) => {
            let kind = match &before.current {
                Some(current) if number > current.number => PlanKind::Upgrade,
                Some(current) if number < current.number => PlanKind::Rollback,
                _ => PlanKind::Up,
            };
            host.plan(number, kind).expect("a plan")
        }
        Wish::Down => {
            host.down().expect("it goes down");
            host.last_plan()
        }
    }
}
