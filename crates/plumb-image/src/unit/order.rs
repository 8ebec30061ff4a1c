//! Start order.

use std::collections::{BTreeMap, BTreeSet};

use plumb_guest_proto::ServiceSpec;

/// Why services have no order.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OrderError {
    /// `after` names nothing.
    #[error("the service `{service}` is to start after `{after}`, which the machine does not have")]
    Unknown {
        /// The service.
        service: String,
        /// What it names.
        after: String,
    },
    /// Two services with one name.
    #[error("two services are called `{service}`")]
    Duplicate {
        /// The name.
        service: String,
    },
    /// Services wait for each other.
    #[error("services wait for each other: `{}`", .services.join("` after `"))]
    Cycle {
        /// The circle; the first is repeated at the end.
        services: Vec<String>,
    },
}

/// Brings services into an order in which each comes behind all it names in `after`; otherwise the given order stays.
///
/// # Errors
/// [`OrderError`] if a name is unknown or given twice, or services wait for each other.
pub fn order_services(mut specs: Vec<ServiceSpec>) -> Result<Vec<ServiceSpec>, OrderError> {
    let mut names = BTreeSet::new();
    for spec in &specs {
        if !names.insert(spec.name.clone()) {
            return Err(OrderError::Duplicate { service: spec.name.clone() });
        }
    }
    for spec in &specs {
        if let Some(after) = spec.after.iter().find(|after| !names.contains(*after)) {
            return Err(OrderError::Unknown { service: spec.name.clone(), after: after.clone() });
        }
    }
    let mut placed = BTreeSet::new();
    let mut ordered = Vec::with_capacity(specs.len());
    while !specs.is_empty() {
        let is_free = |spec: &ServiceSpec| spec.after.iter().all(|after| placed.contains(after));
        let Some(next) = specs.iter().position(is_free) else {
            return Err(OrderError::Cycle { services: circle(&specs) });
        };
        let spec = specs.remove(next);
        placed.insert(spec.name.clone());
        ordered.push(spec);
    }
    Ok(ordered)
}

/// Follows the first unplaced `after` of each service until a name repeats. All of `left` are in or behind a circle.
fn circle(left: &[ServiceSpec]) -> Vec<String> {
    let by_name: BTreeMap<&str, &ServiceSpec> = left.iter().map(|spec| (spec.name.as_str(), spec)).collect();
    let mut path: Vec<&str> = Vec::new();
    let mut at = left.first();
    while let Some(spec) = at {
        if let Some(start) = path.iter().position(|name| *name == spec.name) {
            path.drain(..start);
            path.push(&spec.name);
            break;
        }
        path.push(&spec.name);
        at = spec.after.iter().find_map(|after| by_name.get(after.as_str()).copied());
    }
    path.into_iter().map(str::to_owned).collect()
}
