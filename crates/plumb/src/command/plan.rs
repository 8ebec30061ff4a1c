//! `plumb plan`, and what `--dry-run` of `up`, `upgrade` and `rollback` prints.

use plumb_ops::{
    Beside, Effect, EffectCause, Explanation, FailureEffect, HeldVolume, Hold, Irreversible, OpsError,
    Outage, PlanKind, RestoreEffect, SnapshotEffect, Start, UpOptions, UpOutcome, VolumeEffect, What,
    WhenLate,
};

use super::Session;
use crate::args::Plan as Arguments;
use crate::output::{err, out};
use crate::render::{self, bytes, table, tell};

pub(super) fn run(session: &Session<'_>, arguments: &Arguments) -> Result<(), OpsError> {
    let plumb = &session.plumb;
    let outcome = match (Start::parse(&arguments.what), &arguments.release) {
        (Ok(start), None) => {
            let options = UpOptions { name: arguments.name.clone(), dry_run: true, ..UpOptions::default() };
            plumb.up(&start, &options)?
        }
        (_, release) => {
            let refused = |_| OpsError::NotADefinition { value: arguments.what.clone() };
            plumb.upgrade(&arguments.what.parse().map_err(refused)?, release.as_ref(), true)?
        }
    };
    session.live.clear();
    if session.global.json {
        render::json(&outcome);
    } else {
        print(&outcome, arguments.steps);
    }
    Ok(())
}

/// For a person.
pub(super) fn print(outcome: &UpOutcome, with_steps: bool) {
    let exceeds: Vec<String> = outcome.exceeds.iter().map(ToString::to_string).collect();
    print_plan(&outcome.plan, (&outcome.steps, &exceeds), with_steps);
}

/// A plan and its steps.
pub(super) fn print_plan(plan: &Explanation, (steps, exceeds): (&[String], &[String]), with_steps: bool) {
    out!("{}: {}", plan.deployment, way(plan));
    let changes = plan.instances.iter().any(|one| one.what != What::Stays);
    if !plan.instances.is_empty() {
        let mut rows = table(&["INSTANCE", "WHAT", "WHY"]);
        for Effect { instance, what, why } in &plan.instances {
            let why: Vec<String> = why.iter().map(cause).collect();
            rows.add_row([instance.to_string(), word(*what).to_owned(), why.join("; ")]);
        }
        out!("\n{rows}");
    }
    let tasks = plan.tasks.iter().map(|one| {
        let back = one.turns_back.as_ref();
        let back = back.map_or_else(String::new, |release| format!("; it turns the data of {release} back"));
        format!("{} in {}, for at most {}{back}", one.task, one.instance, span(one.at_most_ms))
    });
    section("tasks, once", tasks);
    section("two sets beside each other", plan.beside.iter().flat_map(beside));
    section("meanwhile", plan.outages.iter().map(outage));
    section("volumes", plan.volumes.iter().map(volume));
    section("data", data(plan).into_iter());
    if changes && !matches!(plan.kind, PlanKind::Down | PlanKind::Snapshot) {
        section("if an instance does not become ready", failure(plan).into_iter());
    }
    section("cannot be undone", plan.irreversible.iter().map(irreversible));
    let order = plan.order.iter().map(|one| {
        let by: Vec<&str> = one.needed_by.iter().map(|machine| machine.as_str()).collect();
        format!("{} first: {} needs it", one.first, by.join(", "))
    });
    section("order", order);
    section("more than the owner may have", exceeds.iter().cloned());
    if with_steps {
        section("steps", steps.iter().cloned());
    }
    if changes {
        let without = if plan.snapshot.is_none() { "no snapshot of volumes is made; " } else { "" };
        err!("\n{without}all of it takes at most {}", span(plan.at_most_ms));
    } else {
        err!("\nnothing stops and nothing starts");
    }
    err!("plan {} ({}): nothing was changed", plan.generation, plan.digest.short());
}

fn section(title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        out!("\n{title}");
        lines.for_each(|line| tell(2, &line));
    }
}

fn way(plan: &Explanation) -> String {
    match (&plan.from, &plan.to) {
        (Some(from), Some(to)) if from == to && plan.kind == PlanKind::Configure => {
            format!("{to}, with another configuration")
        }
        _ if plan.kind == PlanKind::Relieve => "what served before goes".to_owned(),
        _ if plan.kind == PlanKind::Snapshot => "a snapshot".to_owned(),
        _ if plan.kind == PlanKind::Restore => "other data".to_owned(),
        (Some(from), Some(to)) if from == to => format!("{to}, as it is"),
        (Some(from), Some(to)) => format!("{from} -> {to}"),
        (None, Some(to)) => format!("{to}, from nothing"),
        (_, None) => "down".to_owned(),
    }
}

fn beside(beside: &Beside) -> Vec<String> {
    let mut lines = vec![format!(
        "both run at the same time, with {} MiB of memory together; the ports lead to the new one at once, when all of it is ready",
        beside.memory_mib
    )];
    if !beside.in_place.is_empty() {
        let names: Vec<&str> = beside.in_place.iter().map(|name| name.as_str()).collect();
        lines.push(format!(
            "{} cannot run twice, because its data is there once: replaced in place",
            names.join(", ")
        ));
    }
    if beside.watch_ms > 0 {
        lines.push(format!(
            "for {} it is looked at whether the new one stays ready; if not, the ports lead back",
            span(beside.watch_ms)
        ));
    }
    lines.push(match beside.keep_ms {
        0 => "then the old one goes".to_owned(),
        keep_ms => format!(
            "then the old one is kept for {}: `plumb rollback` leads back to it and starts nothing",
            span(keep_ms)
        ),
    });
    lines
}

fn word(what: What) -> &'static str {
    match what {
        What::Stays => "stays",
        What::Starts => "starts",
        What::IsReplaced => "is replaced",
        What::Goes => "goes",
        What::IsKept => "is kept",
    }
}

fn cause(cause: &EffectCause) -> String {
    match cause {
        EffectCause::New => "it is new".to_owned(),
        EffectCause::Stopped => "it does not run".to_owned(),
        EffectCause::Image { before, after } => format!("image {} -> {}", before.short(), after.short()),
        EffectCause::Memory { before_mib, after_mib } => format!("memory {before_mib} -> {after_mib} MiB"),
        EffectCause::Processors { before, after } => format!("processors {before} -> {after}"),
        EffectCause::Volumes => "other volumes".to_owned(),
        EffectCause::Ports => "other ports".to_owned(),
        EffectCause::Peers => "those that it talks to come or go".to_owned(),
        EffectCause::Setting { name, before, after } => {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
            format!("{name} {} -> {}", shown(before), shown(after))
        }
        EffectCause::Secret { name } => format!("secret {name} changed"),
        EffectCause::Otherwise => "it was started in another way".to_owned(),
        EffectCause::Beside => "it comes up beside what serves".to_owned(),
        EffectCause::Relieved => "another set serves in its place".to_owned(),
        EffectCause::Copied => "its volumes are copied while it is stopped".to_owned(),
        EffectCause::Restored => "other data takes the place of what is there".to_owned(),
        EffectCause::NotInRelease => "the release does not have it".to_owned(),
        EffectCause::Down => "everything stops".to_owned(),
    }
}

fn outage(outage: &Outage) -> String {
    let Outage { machine, ready_at_least, instances, each_at_most_ms, felt_by } = outage;
    let Some(each_ms) = each_at_most_ms else {
        return match ready_at_least {
            0 => format!("{machine}: it goes"),
            ready => format!("{machine}: {ready} of {instances} stay"),
        };
    };
    let each = span(*each_ms);
    let felt: Vec<&str> = felt_by.iter().map(|machine| machine.as_str()).collect();
    match (ready_at_least, felt.as_slice()) {
        (0, []) => format!("{machine}: for at most {each}"),
        (0, felt) => format!("{machine}: for at most {each}; {} cannot reach it", felt.join(", ")),
        (ready, _) => {
            format!("{machine}: {ready} of {instances} ready at all times, each away for at most {each}")
        }
    }
}

fn volume(volume: &VolumeEffect) -> String {
    let VolumeEffect { instance, volume, before_bytes, after_bytes } = volume;
    match before_bytes {
        Some(before) => format!("{instance}/{volume}: {} -> {}", bytes(*before), bytes(*after_bytes)),
        None => format!("{instance}/{volume}: {}, made if it is not there", bytes(*after_bytes)),
    }
}

/// What is copied, replaced and removed.
fn data(plan: &Explanation) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(SnapshotEffect { snapshot, volumes, freeze_limit_ms, when_late, pinned, .. }) = &plan.snapshot
    {
        let one = |volume: &HeldVolume| {
            let how = if volume.hold == Hold::Frozen { "frozen meanwhile" } else { "at rest" };
            format!("{}/{} ({how})", volume.instance, volume.volume)
        };
        let all: Vec<String> = volumes.iter().map(one).collect();
        lines.push(format!("snapshot {snapshot} first, as of one moment: {}", all.join(", ")));
        if volumes.iter().any(|volume| volume.hold == Hold::Frozen) {
            let late = match when_late {
                WhenLate::Stop => "then its instances are stopped, and copied again",
                WhenLate::Fail => "then nothing is changed",
            };
            lines.push(format!("volumes stand still for at most {}; {late}", span(*freeze_limit_ms)));
        }
        if *pinned {
            lines.push(format!("snapshot {snapshot} stays until `plumb volume rm` names it"));
        }
    }
    if let Some(restored) = &plan.restored {
        lines.extend(restore(restored));
    }
    if !plan.pruned.is_empty() {
        let names: Vec<&str> = plan.pruned.iter().map(|name| name.as_str()).collect();
        lines.push(format!("then snapshots that are older go, as `[snapshots]` says: {}", names.join(", ")));
    }
    lines
}

fn restore(restored: &RestoreEffect) -> Vec<String> {
    let RestoreEffect { snapshot, taken_ms, volumes, kept_as } = restored;
    let volumes: Vec<String> = volumes.iter().map(ToString::to_string).collect();
    let taken = render::time(i64::try_from(taken_ms / 1000).unwrap_or(i64::MAX));
    let age = plumb_ops::now_ms().saturating_sub(*taken_ms);
    let mut lines = vec![format!(
        "{} as in snapshot {snapshot} of {taken}: what was written in the {} since then is gone from it",
        volumes.join(", "),
        render::duration(age)
    )];
    lines.extend(kept_as.as_ref().map(|kept| format!("what was there before is kept as snapshot {kept}")));
    lines
}

/// What has become of the data, when it is done.
pub(super) fn print_restored(plan: &Explanation) {
    for line in plan.restored.iter().flat_map(restore) {
        tell(2, &line);
    }
}

/// What follows from a failure, as the release's `[upgrade]` says.
fn failure(plan: &Explanation) -> Vec<String> {
    let FailureEffect { back_to, goes_on } = &plan.failure;
    let mut lines: Vec<String> = goes_on
        .iter()
        .map(|(machine, most)| {
            let (which, verb) =
                if *most == 1 { ("one".to_owned(), "does") } else { (most.to_string(), "do") };
            format!("{machine}: the others follow without it, while not more than {which} of it {verb} so")
        })
        .collect();
    let then = match (back_to, &plan.from, plan.kind) {
        (Some(back), _, _) => format!("the whole set goes back to {back}"),
        (None, None, _) | (None, _, PlanKind::Return) => "there is nothing to go back to".to_owned(),
        (None, Some(from), _) => format!(
            "it stops, and everything stays as it is then: `plumb upgrade {0}` goes on, `plumb rollback {0}` goes \
             back to {from}",
            plan.deployment
        ),
    };
    lines.push(if goes_on.is_empty() { then } else { format!("otherwise {then}") });
    lines
}

fn irreversible(what: &Irreversible) -> String {
    match what {
        Irreversible::Fence { lowest } => {
            format!("no way below release {lowest}: data that is written from then on is not readable there")
        }
        Irreversible::Growth { instance, volume } => format!("{instance}/{volume} grows; no volume shrinks"),
    }
}

/// `90 s`, `5 min`.
fn span(milliseconds: u64) -> String {
    match milliseconds.div_ceil(1000) {
        seconds @ ..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}
