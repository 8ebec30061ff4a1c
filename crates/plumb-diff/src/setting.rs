//! What the definition says of instances, the kernel, accounts, and sizes.

use std::collections::BTreeSet;

use plumb_model::definition::Machine;
use plumb_model::release::{Publish, ReleaseMachine};

use crate::cause::Cause;
use crate::side::{Pair, Side, SideMachine};
use crate::{Change, Figure};

/// What is true of the set as a whole.
pub(crate) fn of_set(before: &Side, after: &Side) -> Vec<Change> {
    let mut found = Vec::new();
    let mut add = |what: &str, one: Option<String>, other: Option<String>, key: &str| {
        if one != other {
            let cause = Cause::Definition { key: key.to_owned() };
            found.push(Change { what: what.to_owned(), before: one, after: other, cause });
        }
    };
    // "This release" is another number in every release, and no change.
    let fence = |side: &Side| side.definition.fence.map(|_| side.content.fence.to_string());
    let is_same_fence = before.definition.fence == after.definition.fence;
    if !is_same_fence {
        add("fence", fence(before), fence(after), "fence");
    }
    let lease = |side: &Side| Some(side.definition.lease.to_string()).filter(|said| !said.is_empty());
    add("lease", lease(before), lease(after), "lease");
    let failed = |side: &Side| Some(side.content.upgrade.failed_instance.as_str().to_owned());
    add("failed instance", failed(before), failed(after), "upgrade.failed_instance");
    let twice = |side: &Side| {
        let said = side.content.upgrade.blue_green;
        said.map(|said| format!("watched {} ms, kept {} ms", said.watch_ms, said.keep_ms))
    };
    add("blue-green", twice(before), twice(after), "upgrade.blue_green");
    let names = |side: &Side| side.machines.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
    for name in names(before).symmetric_difference(&names(after)) {
        let is = |side: &Side| names(side).contains(name).then(|| "there".to_owned());
        add(&format!("machine {name}"), is(before), is(after), &format!("machine.{name}"));
    }
    let (one, other) = (&before.content.config, &after.content.config);
    for name in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
        let (before, after) = (one.get(name), other.get(name));
        if before != after {
            let cause = Cause::Definition { key: format!("config.{name}") };
            let (before, after) = (before.map(ToString::to_string), after.map(ToString::to_string));
            found.push(Change { what: format!("config {name}"), before, after, cause });
        }
    }
    let checks = |side: &Side| side.definition.checks.clone();
    let (one, other) = (checks(before), checks(after));
    for name in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
        let (before, after) = (one.get(name), other.get(name));
        if before != after {
            let cause = Cause::Definition { key: format!("check.{name}") };
            let (before, after) = (before.map(ToString::to_string), after.map(ToString::to_string));
            found.push(Change { what: format!("check {name}"), before, after, cause });
        }
    }
    found
}

pub(crate) fn of_machine(pair: &Pair<'_>) -> Vec<Change> {
    let (Some(one), Some(other)) = pair.contents() else { return Vec::new() };
    let mut found = Settings { pair, found: Vec::new() };
    found.add("instances", (one.instances, other.instances), |machine| machine.instances);
    found.add("memory", (mib(one.memory_mib), mib(other.memory_mib)), |machine| machine.memory_mib);
    found.add("cpus", (one.cpus, other.cpus), |machine| machine.cpus);
    let needs = |machine: &ReleaseMachine| list(machine.needs.iter().map(ToString::to_string));
    found.add("needs", (needs(one), needs(other)), |machine| machine.needs.clone());
    let ports = |machine: &ReleaseMachine| list(machine.publish.iter().map(port));
    found.add("publish", (ports(one), ports(other)), |machine| machine.publish.clone());
    let names: BTreeSet<_> = one.volumes.keys().chain(other.volumes.keys()).cloned().collect();
    for name in names {
        let size = |machine: &ReleaseMachine| machine.volumes.get(&name).map(|volume| volume.size_bytes);
        let text =
            |machine: &ReleaseMachine| size(machine).map_or("none".to_owned(), |size| format!("{size} B"));
        let key = format!("volume.{name}");
        found.add(&key, (text(one), text(other)), |machine| machine.volumes.get(&name).cloned());
    }
    let mounts = |machine: &SideMachine| {
        list(machine.spec.volumes.iter().map(|volume| format!("{} on {}", volume.name, volume.mount)))
    };
    found.add("volume", (mounts(pair.before), mounts(pair.after)), |machine| machine.volumes.clone());
    let timeouts = (one.ready_timeout_ms, other.ready_timeout_ms);
    found.add("ready.timeout", timeouts, |machine| machine.services.clone());
    found.add("rolling", (one.rolling, other.rolling), |machine| machine.rolling);
    let names: BTreeSet<_> = one.tasks.keys().chain(other.tasks.keys()).cloned().collect();
    for name in names {
        let text = |machine: &ReleaseMachine| {
            machine.tasks.get(&name).map_or("none".to_owned(), ToString::to_string)
        };
        let key = format!("task.{name}");
        found.add(&key, (text(one), text(other)), |machine| machine.tasks.get(&name).cloned());
    }
    let told = |machine: &ReleaseMachine| list(machine.config.iter().map(ToString::to_string));
    if one.config != other.config {
        // What a template refers to stands in the user's file, not in the definition.
        let cause = pair
            .definition("service", |machine| machine.environment_names())
            .or_else(|| pair.definition("config", |machine| machine.config.clone()))
            .or_else(|| Some(Cause::Files { target: machine_template(pair)? }))
            .unwrap_or(Cause::Unknown);
        let (before, after) = (Some(told(one)), Some(told(other)));
        found.found.push(Change { what: "is told".to_owned(), before, after, cause });
    }
    found.add("watch", (one.watch, other.watch), |machine| machine.watch);
    found.found
}

/// A file of the machine that is filled in at boot.
fn machine_template(pair: &Pair<'_>) -> Option<String> {
    let (before, after) = pair.machines();
    [after, before]
        .into_iter()
        .flatten()
        .flat_map(|machine| &machine.config)
        .map(|one| one.target.clone())
        .next()
}

struct Settings<'p> {
    pair: &'p Pair<'p>,
    found: Vec<Change>,
}

impl Settings<'_> {
    fn add<V: ToString + PartialEq, T: PartialEq>(
        &mut self,
        key: &str,
        (before, after): (V, V),
        of: impl Fn(&Machine) -> T,
    ) {
        if before != after {
            let cause = self.pair.definition(key, of).or_else(|| self.pair.plumb()).unwrap_or(Cause::Unknown);
            let (before, after) = (Some(before.to_string()), Some(after.to_string()));
            self.found.push(Change { what: key.to_owned(), before, after, cause });
        }
    }
}

fn mib(memory: u32) -> String {
    format!("{memory} MiB")
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn port(publish: &Publish) -> String {
    format!("{}:{} -> {}", publish.address, publish.host_port, publish.guest_port)
}

pub(crate) fn accounts(pair: &Pair<'_>) -> Vec<Change> {
    let (before, after) = (&pair.before.accounts, &pair.after.accounts);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let users = |machine: &Machine| -> BTreeSet<String> {
        let services = machine.services.values().filter_map(|service| service.user.clone());
        services.chain(machine.volumes.values().filter_map(|volume| volume.owner.clone())).collect()
    };
    let change = |name: &String| {
        let bare = name.split(' ').nth(1).unwrap_or_default();
        let asked = pair.definition("service", |machine| users(machine).contains(bare));
        Change {
            what: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
            cause: asked.unwrap_or_else(|| pair.made("accounts")),
        }
    };
    differing.map(change).collect()
}

/// Kernel, parameters, modules and PID 1.
pub(crate) fn kernel(pair: &Pair<'_>) -> Vec<Change> {
    let (one, other) = (&pair.before.image, &pair.after.image);
    let mut found = Vec::new();
    let mut add = |what: &str, before: String, after: String, cause: Cause| {
        if before != after {
            let (before, after) = (Some(before), Some(after));
            found.push(Change { what: what.to_owned(), before, after, cause });
        }
    };
    let cause = kernel_cause(pair);
    let is_other_package = kernel_version(pair.sides.0, pair) != kernel_version(pair.sides.1, pair);
    add("kernel", kernel_version(pair.sides.0, pair), kernel_version(pair.sides.1, pair), cause.clone());
    if !is_other_package && one.kernel.digest != other.kernel.digest {
        let digests = (one.kernel.digest.to_string(), other.kernel.digest.to_string());
        add("kernel bytes", digests.0, digests.1, pair.plumb().unwrap_or(Cause::Unknown));
    }
    let lockdown = pair.definition("lockdown", |machine| machine.lockdown);
    let of_package = is_other_package.then(|| cause.clone());
    let parameters = lockdown.or_else(|| pair.plumb()).or(of_package).unwrap_or(Cause::Unknown);
    add(
        "kernel parameters",
        only(&one.cmdline, &other.cmdline),
        only(&other.cmdline, &one.cmdline),
        parameters,
    );
    let modules =
        |machine: &SideMachine| list(machine.inventory.modules.iter().map(|module| module.name.clone()));
    let of_modules = if is_other_package { cause } else { pair.plumb().unwrap_or(Cause::Unknown) };
    add("kernel modules", modules(pair.before), modules(pair.after), of_modules);
    let short = |machine: &SideMachine| machine.guest.to_string().chars().take(19).collect();
    add("PID 1", short(pair.before), short(pair.after), Cause::Plumb);
    found
}

/// The parameters that only the first has; without the root hash, which says that the root differs.
fn only(cmdline: &str, other: &str) -> String {
    let known: BTreeSet<&str> = other.split_whitespace().collect();
    let words = cmdline.split_whitespace();
    list(words.filter(|word| !word.starts_with("plumb.root=") && !known.contains(word)).map(str::to_owned))
}

fn kernel_version(side: &Side, pair: &Pair<'_>) -> String {
    let package = side.lock.machines.get(pair.name).and_then(|machine| side.lock.package(&machine.kernel));
    package.map(|package| format!("{} {}", package.name, package.version)).unwrap_or_default()
}

fn kernel_cause(pair: &Pair<'_>) -> Cause {
    let (before, after) = pair.sides;
    if before.definition.base.kernel != after.definition.base.kernel {
        return Cause::Definition { key: "base.kernel".to_owned() };
    }
    let package = after.lock.machines.get(pair.name).and_then(|machine| after.lock.package(&machine.kernel));
    pair.base(package).unwrap_or(Cause::Update)
}

/// Sizes and measured values, those that differ.
pub(crate) fn figures(before: Option<&SideMachine>, after: Option<&SideMachine>) -> Vec<Figure> {
    let count =
        |machine: &SideMachine, layer: &str| machine.image.layers.get(layer).map_or(0, |layer| layer.files);
    let figure = |what, unit, of: &dyn Fn(&SideMachine) -> Option<u64>| Figure {
        what,
        unit,
        before: before.and_then(of),
        after: after.and_then(of),
    };
    let all = [
        figure("image", "B", &|machine| Some(machine.image.size())),
        figure("root", "B", &|machine| Some(machine.image.root.size)),
        figure("kernel", "B", &|machine| Some(machine.image.kernel.size)),
        figure("initramfs", "B", &|machine| Some(machine.image.initrd.size)),
        figure("packages", "", &|machine| Some(machine.image.packages.len() as u64)),
        figure("files", "", &|machine| {
            Some(["os", "middleware", "app"].iter().map(|layer| count(machine, layer)).sum())
        }),
        figure("memory in use", "KiB", &|machine| machine.measured.map(|seen| seen.memory_used_kib)),
        figure("boot to ready", "ms", &|machine| machine.measured.and_then(|seen| seen.ready_ms)),
    ];
    all.into_iter().filter(|figure| figure.before != figure.after).collect()
}
