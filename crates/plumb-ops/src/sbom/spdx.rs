//! SPDX 2.3: <https://spdx.github.io/spdx-spec/v2.3/>.

use serde_json::{Value, json};

use super::{Bill, BillMachine, Component, timestamp, uuid};

/// What nobody has looked into.
const UNKNOWN: &str = "NOASSERTION";

/// The whole document.
pub(super) fn document(bill: &Bill) -> Value {
    let root = identifier(&[&bill.app]);
    let mut packages = vec![package(&root, &bill.app, &bill.name, "APPLICATION")];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", &root)];
    for machine in &bill.machines {
        let own = identifier(&[&bill.app, machine.name.as_str()]);
        let name = format!("{}/{}", bill.app, machine.name);
        let mut value = package(&own, &name, &bill.name, "OPERATING-SYSTEM");
        value["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": machine.root.hex()}]);
        value["comment"] = json!(format!("{}{}", machine.system, machine.told()));
        packages.push(value);
        relations.push(relation(&root, "CONTAINS", &own));
        for one in &machine.components {
            packages.push(of_component(machine, one));
            relations.push(relation(&own, "CONTAINS", &reference(machine, one)));
            for other in machine.components.iter().filter(|other| one.needs.contains(&other.name)) {
                relations.push(relation(&reference(machine, one), "DEPENDS_ON", &reference(machine, other)));
            }
        }
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": bill.name,
        "documentNamespace": format!("https://spdx.org/spdxdocs/{}-{}", bill.app, uuid(&bill.id)),
        "creationInfo": {
            "created": timestamp(bill.date_s),
            "creators": [format!("Tool: plumb-{}", env!("CARGO_PKG_VERSION"))],
        },
        "packages": packages,
        "relationships": relations,
    })
}

/// Letters, digits, `.` and `-` are all there may be; everything else is told by its number.
fn identifier(parts: &[&str]) -> String {
    let mut text = String::from("SPDXRef");
    for part in parts {
        text.push('-');
        for c in part.chars() {
            if c.is_ascii_alphanumeric() || c == '.' || c == '-' {
                text.push(c);
            } else {
                text.push_str(&format!(".{:x}.", u32::from(c)));
            }
        }
    }
    text
}

fn reference(machine: &BillMachine, component: &Component) -> String {
    identifier(&[machine.name.as_str(), &component.purl])
}

fn package(id: &str, name: &str, version: &str, purpose: &str) -> Value {
    json!({
        "SPDXID": id,
        "name": name,
        "versionInfo": version,
        "primaryPackagePurpose": purpose,
        "downloadLocation": UNKNOWN,
        "filesAnalyzed": false,
        "licenseConcluded": UNKNOWN,
        "licenseDeclared": UNKNOWN,
        "copyrightText": UNKNOWN,
    })
}

fn of_component(machine: &BillMachine, component: &Component) -> Value {
    let mut value = package(&reference(machine, component), &component.name, &component.version, "LIBRARY");
    value["externalRefs"] = json!([{
        "referenceCategory": "PACKAGE-MANAGER",
        "referenceType": "purl",
        "referenceLocator": component.purl,
    }]);
    if let Some(sha256) = &component.sha256 {
        value["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sha256}]);
    }
    if let Some(location) = &component.location {
        value["downloadLocation"] = json!(location);
    }
    value
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}
