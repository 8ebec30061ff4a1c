//! CycloneDX 1.6 (ECMA-424): <https://cyclonedx.org/docs/1.6/json/>.

use serde_json::{Value, json};

use super::{Bill, BillMachine, Component, timestamp, uuid};

/// The whole document.
pub(super) fn document(bill: &Bill) -> Value {
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    let machines: Vec<String> = bill.machines.iter().map(|machine| machine.name.to_string()).collect();
    dependencies.push(json!({"ref": bill.name, "dependsOn": machines}));
    for machine in &bill.machines {
        components.push(of_machine(bill, machine));
        let all: Vec<String> = machine.components.iter().map(|one| reference(machine, one)).collect();
        dependencies.push(json!({"ref": machine.name, "dependsOn": all}));
        for one in &machine.components {
            components.push(of_component(machine, one));
            let known = machine.components.iter().filter(|other| one.needs.contains(&other.name));
            let needs: Vec<String> = known.map(|other| reference(machine, other)).collect();
            dependencies.push(json!({"ref": reference(machine, one), "dependsOn": needs}));
        }
    }
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", uuid(&bill.id)),
        "version": 1,
        "metadata": {
            "timestamp": timestamp(bill.date_s),
            "tools": {"components": [
                {"type": "application", "name": "plumb", "version": env!("CARGO_PKG_VERSION")},
            ]},
            "component": {"type": "application", "bom-ref": bill.name, "name": bill.app, "version": version(bill)},
        },
        "components": components,
        "dependencies": dependencies,
        "compositions": bill.machines.iter().map(composition).collect::<Vec<_>>(),
    })
}

/// Whether everything that a machine holds is named.
fn composition(machine: &BillMachine) -> Value {
    let aggregate = if machine.blind.is_none() { "complete" } else { "incomplete" };
    json!({"aggregate": aggregate, "assemblies": [machine.name]})
}

/// The number of a release; a folder has none.
fn version(bill: &Bill) -> &str {
    bill.name.split_once('@').map_or("unreleased", |(_, number)| number)
}

fn of_machine(bill: &Bill, machine: &BillMachine) -> Value {
    json!({
        "type": "operating-system",
        "bom-ref": machine.name,
        "name": format!("{}/{}", bill.app, machine.name),
        "version": version(bill),
        "description": format!("{}, root file system with dm-verity{}", machine.system, machine.told()),
        "hashes": [{"alg": "SHA-256", "content": machine.root.hex()}],
    })
}

fn reference(machine: &BillMachine, component: &Component) -> String {
    format!("{}/{}", machine.name, component.purl)
}

fn of_component(machine: &BillMachine, component: &Component) -> Value {
    let mut value = json!({
        "type": "library",
        "bom-ref": reference(machine, component),
        "name": component.name,
        "version": component.version,
        "purl": component.purl,
        "properties": [{"name": "plumb:machine", "value": machine.name}],
    });
    if let Some(sha256) = &component.sha256 {
        value["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
    }
    if let Some(location) = &component.location {
        value["externalReferences"] = json!([{"type": "distribution", "url": location}]);
    }
    value
}
