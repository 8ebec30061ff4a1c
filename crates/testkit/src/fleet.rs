//! A fleet that was never built: releases with real documents in a real store, and a state that knows who runs them. Its
//! packages, versions, dependencies and files are made up, always the same ones; kernels and roots are not there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use plumb_debian::PackageName;
use plumb_image::inventory::Inventory;
use plumb_image::tree::{Entry, Layer, Origin, Tree};
use plumb_model::image::{Image, ImagePackage, Part};
use plumb_model::lock::{Lock, LockedMachine, LockedPackage, LockedSource};
use plumb_model::release::{Content, Release, ReleaseMachine, ReleaseName};
use plumb_model::{AppName, DeploymentName, Digest, Document as _, InstanceName, MachineName};
use plumb_state::{Running, State};
use plumb_store::Store;

/// Every application has these machines; so many instances of each make 100.
const MACHINES: [(&str, u32); 3] = [("api", 40), ("db", 20), ("web", 40)];

/// Packages that there are, and so many of them in every image.
const PACKAGES: usize = 1500;
const COMMON: usize = 30;

/// Packages of one image, and files of each.
const PACKAGES_OF_IMAGE: usize = 60;
const FILES_OF_PACKAGE: usize = 8;

/// How large a fleet is.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    /// Applications.
    pub apps: u32,
    /// Releases of each.
    pub releases: u32,
    /// Instances of all of them together, in deployments of 100.
    pub instances: u32,
}

/// One package of one machine of one release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// The release.
    pub release: ReleaseName,
    /// The machine.
    pub machine: MachineName,
    /// Package, version, and source package.
    pub package: (String, String, String),
}

/// xorshift64: the same fleet everywhere.
struct Steps(u64);

impl Steps {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// The packages of one machine: name and number of its version.
type Chosen = BTreeMap<usize, u32>;

/// Adds to a home what it lacks of the fleet, and returns what all of it holds.
///
/// # Errors
/// If something cannot be written.
pub fn make(home: &Path, fleet: Fleet) -> Result<Vec<Fact>> {
    let store = Store::open(&home.join("store"))?;
    let mut facts = Vec::new();
    for number in 1..=fleet.apps {
        let app: AppName = format!("app-{number}").parse()?;
        let mut steps = Steps(0x9e37_79b9_7f4a_7c15 ^ (u64::from(number) << 20));
        let mut machines: BTreeMap<MachineName, (Chosen, Option<Digest>)> = BTreeMap::new();
        for (name, _) in MACHINES {
            machines.insert(name.parse()?, (choose(&mut steps), None));
        }
        let known: BTreeSet<u64> = store.releases(&app)?.into_iter().collect();
        for release in 1..=fleet.releases {
            let name = ReleaseName { app: app.clone(), number: u64::from(release) };
            for (machine, (chosen, image)) in &mut machines {
                // One of two machines changes with a release.
                if image.is_none() || steps.below(2) == 0 {
                    update(chosen, &mut steps, release);
                    *image = Some(put_image(&store, &app, machine, chosen, release)?);
                }
                facts.extend(chosen.iter().map(|(package, version)| Fact {
                    release: name.clone(),
                    machine: machine.clone(),
                    package: (package_name(*package), version_text(*version), source_name(*package)),
                }));
            }
            if !known.contains(&name.number) {
                put_release(&store, &name, &machines)?;
            }
        }
    }
    deploy(home, fleet)?;
    Ok(facts)
}

fn package_name(number: usize) -> String {
    format!("lib{number:04}")
}

/// Three packages have one source.
fn source_name(number: usize) -> String {
    format!("source{:03}", number / 3)
}

fn version_text(number: u32) -> String {
    format!("1.{number}-1~deb12u{}", number % 4)
}

fn choose(steps: &mut Steps) -> Chosen {
    let mut chosen: Chosen = (0..COMMON).map(|package| (package, 0)).collect();
    while chosen.len() < PACKAGES_OF_IMAGE {
        chosen.insert(COMMON + steps.below(PACKAGES - COMMON), 0);
    }
    chosen
}

/// Versions grow with the releases; a third of the packages is behind by one.
fn update(chosen: &mut Chosen, steps: &mut Steps, release: u32) {
    for version in chosen.values_mut() {
        *version = (release - u32::from(steps.below(3) == 0)).max(*version);
    }
}

fn put_image(
    store: &Store,
    app: &AppName,
    machine: &MachineName,
    chosen: &Chosen,
    release: u32,
) -> Result<Digest> {
    let text = status(chosen);
    let status = store.put_bytes(text.as_bytes())?;
    let mut tree = Tree::default();
    let mut packages = BTreeMap::new();
    for (package, version) in chosen {
        let (name, version) = (package_name(*package), version_text(*version));
        let origin = || Origin { layer: Layer::Os, source: name.clone() };
        for file in 0..FILES_OF_PACKAGE {
            let digest = Digest::of(format!("{name} {version} {file}").as_bytes());
            tree.insert(
                format!("/usr/lib/{name}.so.{version}.{file}"),
                Entry::file(digest, 1000, 0o644),
                origin(),
            );
        }
        tree.insert(
            format!("/usr/lib/{name}.so"),
            Entry::symlink(format!("{name}.so.{version}.0")),
            origin(),
        );
        packages.insert(
            name.parse::<PackageName>()?,
            ImagePackage { version: version.parse()?, layer: "os".into() },
        );
    }
    let rule = |name: &str| Origin { layer: Layer::Os, source: format!("rule:{name}") };
    let own = Digest::of(format!("{app} {machine} {release}").as_bytes());
    tree.insert("/lib", Entry::symlink("usr/lib"), rule("skeleton"));
    tree.insert("/etc/ld.so.cache", Entry::file(own, 1000, 0o644), rule("linker"));
    tree.insert("/var/lib/dpkg/status", Entry::file(status, text.len() as u64, 0o644), rule("package-list"));
    tree.insert(
        "/srv/app",
        Entry::file(own, 1000, 0o755),
        Origin { layer: Layer::App, source: "app".into() },
    );
    tree.close();
    let inventory = Inventory {
        format: Inventory::FORMAT,
        kernel_packed_bytes: 1,
        init_bytes: 1,
        modules: Vec::new(),
        dropped: BTreeMap::new(),
        entries: tree.entries,
    }
    .to_bytes();
    let part = |digest, size| Part { digest, size };
    let image = Image {
        format: Image::FORMAT,
        app: app.clone(),
        machine: machine.clone(),
        recipe: own,
        kernel: part(Digest::of(b"kernel"), 1),
        kernel_release: "6.1.0-40-cloud-amd64".into(),
        initrd: part(Digest::of(b"initrd"), 1),
        root: part(own, 1),
        root_hash: own.hex(),
        cmdline: String::new(),
        packages,
        layers: BTreeMap::new(),
        without: BTreeSet::new(),
        left_out: BTreeSet::new(),
        inventory: Some(part(store.put_bytes(&inventory)?, inventory.len() as u64)),
        scripts: None,
    };
    Ok(store.put_bytes(&image.to_bytes())?)
}

/// Control stanzas; each package needs three others, as a tree.
fn status(chosen: &Chosen) -> String {
    let all: Vec<(&usize, &u32)> = chosen.iter().collect();
    let stanza = |(at, (package, version)): (usize, &(&usize, &u32))| {
        let needed = all.iter().skip(3 * at + 1).take(3);
        let needs: Vec<String> = needed.map(|(package, _)| package_name(**package)).collect();
        let needs = if needs.is_empty() { String::new() } else { format!("Depends: {}\n", needs.join(", ")) };
        format!(
            "Package: {}\nStatus: install ok installed\nSource: {}\nVersion: {}\n{needs}\n",
            package_name(**package),
            source_name(**package),
            version_text(**version)
        )
    };
    all.iter().enumerate().map(stanza).collect()
}

fn put_release(
    store: &Store,
    name: &ReleaseName,
    machines: &BTreeMap<MachineName, (Chosen, Option<Digest>)>,
) -> Result<()> {
    let mut definition = format!("app = \"{}\"\n", name.app);
    for machine in machines.keys() {
        definition.push_str(&format!(
            "\n[machine.{machine}]\nmiddleware = [\"{}\"]\nservice.main = {{ exec = \"/srv/app\" }}\n",
            package_name(0)
        ));
    }
    let entry = |(machine, (_, image)): (&MachineName, &(Chosen, Option<Digest>))| {
        let instances =
            MACHINES.iter().find(|(name, _)| *name == machine.as_str()).map_or(1, |(_, count)| *count);
        let entry = ReleaseMachine {
            image: (*image)?,
            instances,
            memory_mib: 128,
            cpus: 1,
            needs: Vec::new(),
            publish: Vec::new(),
            volumes: BTreeMap::new(),
            ready_timeout_ms: 1000,
            rolling: plumb_model::release::Rolling::default(),
            watch: plumb_model::release::Watch::default(),
            tasks: std::collections::BTreeMap::new(),
            config: std::collections::BTreeSet::new(),
        };
        Some((machine.clone(), entry))
    };
    let release = Release {
        format: Release::FORMAT,
        app: name.app.clone(),
        number: name.number,
        previous: None,
        created_s: 1_760_000_000,
        note: String::new(),
        definition: store.put_bytes(definition.as_bytes())?,
        lock: store.put_bytes(lock(name, machines)?.to_text().as_bytes())?,
        content: Content {
            fence: 0,
            config: std::collections::BTreeMap::new(),
            machines: machines.iter().filter_map(entry).collect(),
            snapshots: plumb_model::release::SnapshotPolicy::default(),
            upgrade: plumb_model::release::UpgradePolicy::default(),
        },
        checks: None,
    };
    Ok(store.add_release(&name.app, name.number, &release.to_bytes())?)
}

fn lock(name: &ReleaseName, machines: &BTreeMap<MachineName, (Chosen, Option<Digest>)>) -> Result<Lock> {
    const KERNEL: &str = "linux-image-6.1.0-40-cloud-amd64";
    let mut versions: Chosen = Chosen::new();
    let mut locked = BTreeMap::new();
    for (machine, (chosen, _)) in machines {
        versions.extend(chosen);
        let packages: Result<BTreeSet<PackageName>, _> =
            chosen.keys().map(|one| package_name(*one).parse()).collect();
        let machine_lock =
            LockedMachine { kernel: KERNEL.into(), packages: packages?, ..LockedMachine::default() };
        locked.insert(machine.clone(), machine_lock);
    }
    let package = |name: &str, version: &str| -> Result<LockedPackage> {
        Ok(LockedPackage {
            name: name.parse()?,
            version: version.parse()?,
            architecture: "amd64".into(),
            suite: "bookworm".into(),
            file: format!("pool/{name}.deb"),
            size: 1,
            digest: Digest::of(format!("{name} {version}").as_bytes()),
        })
    };
    let mut packages = Vec::new();
    for (number, version) in versions {
        packages.push(package(&package_name(number), &version_text(version))?);
    }
    packages.push(package(KERNEL, "6.1.153-1")?);
    Ok(Lock {
        format: plumb_model::lock::FORMAT,
        app: name.app.clone(),
        inputs: Digest::of(b"inputs"),
        sources: vec![LockedSource {
            uri: "http://deb.debian.org/debian".into(),
            suite: "bookworm".into(),
            date: 1_760_000_000,
            in_release: Digest::of(b"release"),
        }],
        machines: locked,
        packages,
    })
}

/// Deployments of all releases in turn, with an address for every instance.
fn deploy(home: &Path, fleet: Fleet) -> Result<()> {
    let mut state = State::open(&home.join("state.db"))?;
    let of_deployment: u32 = MACHINES.iter().map(|(_, count)| count).sum();
    let mut addresses = BTreeMap::new();
    for (machine, count) in MACHINES {
        let machine: MachineName = machine.parse()?;
        for number in 1..=count {
            let last = u8::try_from(addresses.len()).context("too many instances")?;
            addresses.insert(InstanceName::of(&machine, number)?, Ipv4Addr::new(10, 77, 0, last));
        }
    }
    for number in 0..fleet.instances / of_deployment {
        let (app, round) = (number % fleet.apps + 1, number / fleet.apps);
        let release = round % fleet.releases + 1;
        let name: DeploymentName = format!("site-{app}-{round}").parse()?;
        let app: AppName = format!("app-{app}").parse()?;
        state.ensure_deployment(&name, &app)?;
        state.set_running(&name, Running::release(u64::from(release)), 0)?;
        state.add_addresses(&name, &addresses)?;
    }
    Ok(())
}
