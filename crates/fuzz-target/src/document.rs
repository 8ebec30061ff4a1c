//! Documents: lock, image manifest, release, configuration, plan; templates; and what a guest reads at boot.

use plumb_guest_proto::{InstanceSpec, MachineSpec, template};
use plumb_model::config::Configuration;
use plumb_model::image::Image;
use plumb_model::lock::Lock;
use plumb_model::release::Release;
use plumb_model::{Digest, Document};
use plumb_plan::Plan;

pub(crate) fn run(data: &[u8]) {
    canonical::<Image>(data);
    canonical::<Release>(data);
    canonical::<Configuration>(data);
    if let Some(plan) = canonical::<Plan>(data) {
        // Whether the plan keeps its promises is another question; asking must not fail.
        let _ = plan.actions.iter().filter_map(|action| action.instance()).count();
    }
    same_again::<MachineSpec>(data);
    same_again::<InstanceSpec>(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A template with every reference as it was written is the text, but for braces that keep one from being read.
    let same = template::fill(text, &|found| Some(text[found.at..found.at + found.length()].to_owned()));
    assert!(
        same.is_ok_and(|same| same.len() <= text.len() && same.replace('{', "") == text.replace('{', ""))
    );
    if let Ok(lock) = Lock::parse(text) {
        let written = lock.to_text();
        let again = Lock::parse(&written).unwrap_or_else(|error| panic!("{error}: {written}"));
        assert_eq!(again, lock);
        assert_eq!(again.to_text(), written);
    }
}

/// There is exactly one byte form.
fn canonical<T: Document>(data: &[u8]) -> Option<T> {
    let document = T::from_bytes(data).ok()?;
    assert_eq!(document.to_bytes(), data);
    assert_eq!(document.digest(), Digest::of(data));
    Some(document)
}

fn same_again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_vec(&value).expect("what was read is written");
    assert_eq!(serde_json::from_slice::<T>(&written).expect("and read again"), value);
}
