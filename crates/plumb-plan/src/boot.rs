//! What one boot of an instance consists of, and the addresses it gets.
//!
//! ```text
//!  private network of a deployment   10.77.0.0/24   instances 10.77.0.10 … 10.77.0.250, lowest free first, kept for life
//!  MAC addresses                     52:54:00:<3 bytes of SHA-256(deployment/instance)>
//! ```

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use plumb_guest_proto::{FORMAT, InstanceSpec, Interface, Peer, VolumeAttachment};
use plumb_model::config::ConfigName;
use plumb_model::release::{ReleaseMachine, ReleaseName};
use plumb_model::{DeploymentName, Digest, InstanceName, MachineName, VolumeName};
use serde::{Deserialize, Serialize};

use crate::planner::{PlanError, Wanted};
use crate::side::instances;

/// Address of every instance of a deployment on its private network.
pub type Addresses = BTreeMap<InstanceName, Ipv4Addr>;

/// First and last octet given to instances; below stays free for what the host side may need later.
const FIRST: u8 = 10;
const LAST: u8 = 250;

/// What the target needs to start an instance, besides what the guest is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSpec {
    /// Instance.
    pub instance: InstanceName,
    /// Its machine.
    pub machine: MachineName,
    /// Release it belongs to.
    pub release: ReleaseName,
    /// Plan generation.
    pub generation: u64,
    /// Image manifest.
    pub image: Digest,
    /// Memory, MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// Ports of the guest that are published.
    pub guest_ports: Vec<u16>,
    /// Volumes with their virtio-blk serials.
    pub volumes: BTreeMap<VolumeName, String>,
    /// Versions of the secrets that it gets; the secrets themselves are opened at its start.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<ConfigName, Digest>,
    /// Digest of everything above and of what the guest is told, except release and generation: an instance that runs
    /// with an equal digest need not be replaced.
    pub boot: Digest,
}

/// Gives every instance in `wanted` an address and keeps those in `known`.
///
/// # Errors
/// [`PlanError::NoAddress`] if more than 241 addresses are in use.
pub fn allocate(known: &Addresses, wanted: &[InstanceName]) -> Result<Addresses, PlanError> {
    let mut addresses = known.clone();
    for instance in wanted {
        if addresses.contains_key(instance) {
            continue;
        }
        let free = (FIRST..=LAST)
            .map(|octet| Ipv4Addr::new(10, 77, 0, octet))
            .find(|address| !addresses.values().any(|taken| taken == address))
            .ok_or_else(|| PlanError::NoAddress { instance: instance.clone() })?;
        addresses.insert(instance.clone(), free);
    }
    Ok(addresses)
}

/// Hardware address of an instance on its private network.
#[must_use]
pub fn mac_address(deployment: &DeploymentName, instance: &InstanceName) -> String {
    let digest = Digest::of(format!("{deployment}/{instance}").as_bytes());
    let bytes = digest.as_bytes();
    format!("52:54:00:{:02x}:{:02x}:{:02x}", bytes[0], bytes[1], bytes[2])
}

/// What to start for `instance`, and what to tell its guest. Whether a volume holds a file system already is a fact that
/// only the target knows; it fills that in.
///
/// # Errors
/// [`PlanError`] if the release has no such machine or an instance has no address.
pub fn boot_spec(
    deployment: &DeploymentName,
    instance: (&MachineName, &InstanceName),
    wanted: &Wanted<'_>,
    generation: u64,
) -> Result<(BootSpec, InstanceSpec), PlanError> {
    let (machine_name, name) = instance;
    let Wanted { release, settings, .. } = *wanted;
    let machine = release
        .content
        .machines
        .get(machine_name)
        .ok_or_else(|| PlanError::NoMachine { machine: machine_name.clone(), release: release.name() })?;
    let mut spec = InstanceSpec {
        format: FORMAT,
        deployment: deployment.to_string(),
        instance: name.to_string(),
        machine: machine_name.to_string(),
        release: String::new(),
        generation: 0,
        interfaces: vec![Interface {
            mac: mac_address(deployment, name),
            address: address_of(wanted.addresses, name)?,
            prefix: 24,
            gateway: None,
        }],
        peers: peers(wanted, machine_name, machine)?,
        volumes: Vec::new(),
        idle: false,
        config: told(machine, &settings.values).map(|(name, text)| (name.to_string(), text)).collect(),
    };
    let volumes: BTreeMap<VolumeName, String> =
        machine.volumes.keys().map(|volume| (volume.clone(), serial(volume))).collect();
    spec.volumes = volumes
        .iter()
        .map(|(volume, serial)| VolumeAttachment {
            name: volume.to_string(),
            serial: serial.clone(),
            initialized: false,
        })
        .collect();
    let mut guest_ports: Vec<u16> = machine.publish.iter().map(|publish| publish.guest_port).collect();
    guest_ports.sort_unstable();
    guest_ports.dedup();
    let identity = (&machine.image, machine.memory_mib, machine.cpus, &guest_ports, &volumes, &spec);
    let secrets: BTreeMap<ConfigName, Digest> = told(machine, &settings.secrets).collect();
    let mut bytes = serde_json::to_vec(&identity).expect("numbers, strings, lists and maps");
    if !secrets.is_empty() {
        bytes.extend(serde_json::to_vec(&secrets).expect("a map of strings"));
    }
    let boot = Digest::of(&bytes);
    spec.release = release.name().to_string();
    spec.generation = generation;
    let boot = BootSpec {
        instance: name.clone(),
        machine: machine_name.clone(),
        release: release.name(),
        generation,
        image: machine.image,
        memory_mib: machine.memory_mib,
        cpus: machine.cpus,
        guest_ports,
        volumes,
        secrets,
        boot,
    };
    Ok((boot, spec))
}

/// Of everything that is set, what the machine refers to.
fn told<T: Clone>(
    machine: &ReleaseMachine,
    all: &BTreeMap<ConfigName, T>,
) -> impl Iterator<Item = (ConfigName, T)> {
    machine.config.iter().filter_map(|name| Some((name.clone(), all.get(name)?.clone())))
}

/// virtio-blk serials hold 20 bytes (virtio 1.2, 5.2.6.1); a digest keeps long volume names apart.
fn serial(volume: &VolumeName) -> String {
    format!("vol-{}", Digest::of(volume.as_str().as_bytes()).short())
}

/// A machine knows itself and what it needs, nothing else: so that scaling one machine restarts only those that need it.
fn peers(
    wanted: &Wanted<'_>,
    machine_name: &MachineName,
    machine: &ReleaseMachine,
) -> Result<Vec<Peer>, PlanError> {
    let mut peers = Vec::new();
    for (other, instance) in instances(wanted.release, wanted.side)? {
        if other == *machine_name || machine.needs.contains(&other) {
            let address = address_of(wanted.addresses, &instance)?;
            peers.push(Peer { names: vec![instance.to_string(), other.to_string()], address });
        }
    }
    Ok(peers)
}

fn address_of(addresses: &Addresses, instance: &InstanceName) -> Result<Ipv4Addr, PlanError> {
    addresses.get(instance).copied().ok_or_else(|| PlanError::NoAddress { instance: instance.clone() })
}
