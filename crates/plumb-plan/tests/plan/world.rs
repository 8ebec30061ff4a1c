//! Releases, and what runs, for the tests of plans.

use std::collections::BTreeMap;

use plumb_model::config::Settings;
use plumb_model::release::{
    Content, Publish, Quiesce, Release, ReleaseMachine, Rolling, SnapshotPolicy, UpgradePolicy, VolumeSize,
    Watch,
};
use plumb_model::{DeploymentName, Digest, InstanceName};
use plumb_plan::{
    Addresses, DataWish, Observed, ObservedInstance, Plan, PlanError, PlanKind, Side, Wanted, allocate,
    boot_spec, instances, plan_up, side_for, task_instances,
};

pub fn machine(image: &str, instances: u32, needs: &[&str]) -> ReleaseMachine {
    ReleaseMachine {
        image: Digest::of(image.as_bytes()),
        instances,
        memory_mib: 256,
        cpus: 1,
        needs: needs.iter().map(|name| name.parse().expect("name")).collect(),
        publish: vec![],
        volumes: BTreeMap::new(),
        ready_timeout_ms: 1000,
        rolling: Rolling::default(),
        watch: Watch::default(),
        tasks: std::collections::BTreeMap::new(),
        config: std::collections::BTreeSet::new(),
    }
}

pub fn release(number: u64, fence: u64, machines: Vec<(&str, ReleaseMachine)>) -> Release {
    Release {
        format: 1,
        app: "shop".parse().expect("name"),
        number,
        previous: None,
        created_s: 0,
        note: String::new(),
        definition: Digest::of(b""),
        lock: Digest::of(b""),
        checks: None,
        content: Content {
            fence,
            config: std::collections::BTreeMap::new(),
            machines: machines
                .into_iter()
                .map(|(name, machine)| (name.parse().expect("name"), machine))
                .collect(),
            snapshots: SnapshotPolicy::default(),
            upgrade: UpgradePolicy::default(),
        },
    }
}

pub fn name() -> DeploymentName {
    "shop".parse().expect("name")
}

pub fn addresses_for(release: &Release) -> Addresses {
    let sides = [Side::Blue, Side::Green].map(|side| instances(release, side).expect("names"));
    let mut names: Vec<InstanceName> = sides.into_iter().flatten().map(|(_, instance)| instance).collect();
    names.extend(task_instances(release).expect("names"));
    allocate(&Addresses::new(), &names).expect("addresses")
}

/// Everything of `release` runs.
pub fn running(release: &Release) -> Observed {
    running_with(release, &Settings::default())
}

/// Everything of `release` runs, and was told `settings`.
pub fn running_with(release: &Release, settings: &Settings) -> Observed {
    running_on(release, settings, Side::Blue)
}

/// Everything of `release` runs on this side, and was told `settings`.
pub fn running_on(release: &Release, settings: &Settings, side: Side) -> Observed {
    let addresses = addresses_for(release);
    let mut observed = Observed {
        current: Some(release.name()),
        data_of: Some(release.name()),
        config: settings.configuration.map(|one| one.number),
        side,
        fence: release.content.fence,
        ..Observed::default()
    };
    for (machine, instance) in &instances(release, side).expect("names") {
        let wanted = Wanted {
            release,
            kind: PlanKind::Up,
            side,
            addresses: &addresses,
            settings,
            data: DataWish::default(),
            former: None,
        };
        let (boot, _) = boot_spec(&name(), (machine, instance), &wanted, 1).expect("boots");
        observed.instances.insert(
            instance.clone(),
            ObservedInstance { machine: machine.clone(), running: true, ready: true, boot: boot.boot },
        );
    }
    observed
}

/// A database with a volume, an application, and two web servers; images of `version`.
pub fn shop(number: u64, version: &str) -> Release {
    let mut db = machine("db", 1, &[]);
    db.volumes
        .insert("data".parse().expect("name"), VolumeSize { size_bytes: 1 << 30, snapshot: Quiesce::Freeze });
    let mut web = machine(&format!("web{version}"), 2, &["api"]);
    web.publish = vec![Publish { address: [127, 0, 0, 1].into(), host_port: 8080, guest_port: 80 }];
    release(number, 0, vec![("db", db), ("api", machine(&format!("api{version}"), 1, &["db"])), ("web", web)])
}

pub fn up(observed: &Observed, release: &Release, kind: PlanKind) -> Result<Plan, PlanError> {
    up_with(observed, (release, &Settings::default()), kind)
}

pub fn up_with(
    observed: &Observed,
    (release, settings): (&Release, &Settings),
    kind: PlanKind,
) -> Result<Plan, PlanError> {
    up_wishing(observed, (release, settings), kind, DataWish::default())
}

pub fn up_wishing(
    observed: &Observed,
    (release, settings): (&Release, &Settings),
    kind: PlanKind,
    data: DataWish<'_>,
) -> Result<Plan, PlanError> {
    let mut addresses = addresses_for(release);
    for instance in observed.instances.keys() {
        addresses = allocate(&addresses, std::slice::from_ref(instance)).expect("addresses");
    }
    let side = side_for(observed, release, settings.configuration.map(|one| one.number));
    let wanted = Wanted { release, kind, side, addresses: &addresses, settings, data, former: None };
    plan_up(&name(), observed, &wanted, None)
}
