//! What plans of a whole fleet cost: `scale APPS INSTANCES` plans the upgrade of so many applications with so many instances
//! each, all of them held at once, and prints seconds of each part and the most memory as JSON. For `cargo xtask bench --only plan`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use plumb_model::config::Settings;
use plumb_model::release::{Content, Release, ReleaseMachine, Rolling, Watch};
use plumb_model::{DeploymentName, Digest, Document as _, InstanceName, MachineName};
use plumb_plan::{
    Addresses, Observed, ObservedInstance, PlanKind, Side, Wanted, allocate, boot_spec, check, plan_up,
};

fn machine(image: &str, instances: u32, needs: &[&str]) -> ReleaseMachine {
    ReleaseMachine {
        image: Digest::of(image.as_bytes()),
        instances,
        memory_mib: 256,
        cpus: 1,
        needs: needs.iter().map(|name| name.parse().expect("a name")).collect(),
        publish: Vec::new(),
        volumes: BTreeMap::new(),
        ready_timeout_ms: 60_000,
        rolling: Rolling::default(),
        watch: Watch::default(),
        tasks: BTreeMap::new(),
        config: BTreeSet::new(),
    }
}

fn release(number: u64, instances: u32) -> Release {
    let web = instances.saturating_sub(5).max(1);
    let machines = [("db", 1, &[][..]), ("api", 4, &["db"][..]), ("web", web, &["api"][..])];
    let machines = machines.into_iter().map(|(name, count, needs)| {
        (name.parse().expect("a name"), machine(&format!("{name} {number}"), count, needs))
    });
    Release {
        format: 1,
        app: "shop".parse().expect("a name"),
        number,
        previous: None,
        created_s: 0,
        note: String::new(),
        definition: Digest::of(b""),
        lock: Digest::of(b""),
        checks: None,
        content: Content {
            fence: 0,
            machines: machines.collect(),
            config: BTreeMap::new(),
            snapshots: plumb_model::release::SnapshotPolicy::default(),
            upgrade: plumb_model::release::UpgradePolicy::default(),
        },
    }
}

fn running(name: &DeploymentName, wanted: &Wanted<'_>) -> Observed {
    let mut observed = Observed { current: Some(wanted.release.name()), ..Observed::default() };
    for instance in wanted.addresses.keys() {
        let of = instance.as_str().rsplit_once('-').expect("numbered").0;
        let machine: MachineName = of.parse().expect("a name");
        let (boot, _) = boot_spec(name, (&machine, instance), wanted, 1).expect("boots");
        let seen = ObservedInstance { machine, running: true, ready: true, boot: boot.boot };
        observed.instances.insert(instance.clone(), seen);
    }
    observed
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1024
}

fn main() {
    let numbers: Vec<u32> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let [apps, instances] = numbers[..] else { panic!("scale APPS INSTANCES") };
    let (old, new) = (release(1, instances), release(2, instances));
    let settings = Settings::default();
    let names = new.content.machines.iter().flat_map(|(name, machine)| {
        (1..=machine.instances).map(|number| InstanceName::of(name, number).expect("a name"))
    });
    let addresses = allocate(&Addresses::new(), &names.collect::<Vec<_>>()).expect("addresses");
    let of = |release| Wanted {
        side: Side::Blue,
        release,
        kind: PlanKind::Upgrade,
        addresses: &addresses,
        settings: &settings,
        data: plumb_plan::DataWish::default(),
        former: None,
    };
    let fleet: Vec<(DeploymentName, Observed)> = (0..apps)
        .map(|number| {
            let name: DeploymentName = format!("app-{number}").parse().expect("a name");
            let observed = running(&name, &of(&old));
            (name, observed)
        })
        .collect();
    let start = Instant::now();
    let plans: Vec<_> = fleet
        .iter()
        .map(|(name, observed)| plan_up(name, observed, &of(&new), None).expect("a plan"))
        .collect();
    let planned_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let wrong: usize =
        plans.iter().zip(&fleet).map(|(plan, (_, observed))| check(plan, observed, Some(&new)).len()).sum();
    let checked_s = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let bytes: usize = plans.iter().map(|plan| plan.to_bytes().len()).sum();
    let written_s = start.elapsed().as_secs_f64();
    let actions: usize = plans.iter().map(|plan| plan.actions.len()).sum();
    assert_eq!(wrong, 0);
    println!(
        "{{\"instances\":{},\"actions\":{actions},\"bytes\":{bytes},\"planned_s\":{planned_s:.4},\"checked_s\":{checked_s:.4},\"written_s\":{written_s:.4},\"peak_mib\":{}}}",
        apps as usize * addresses.len(),
        peak_mib()
    );
}
