//! What holds on to releases: the one place where a search learns of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;

use plumb_model::release::ReleaseName;
use plumb_model::{AppName, DeploymentName, MachineName};
use plumb_search::{Pin, Place};
use plumb_target::{InstanceState, Target as _};

use crate::Plumb;
use crate::error::OpsError;

/// Above so many, all deployments are read in one go instead of those of one application after the other.
const MANY_APPS: usize = 64;

/// What holds on to releases, and what could not be found out about it.
#[derive(Default)]
pub(super) struct Pins {
    pub(super) all: Vec<Pin>,
    pub(super) notes: Vec<String>,
}

impl Plumb<'_> {
    /// The deployments of these applications.
    pub(super) fn pinned_by_deployments(&self, apps: &BTreeSet<&AppName>) -> Result<Pins, OpsError> {
        let state = self.state()?;
        let here = self.deployments_here()?;
        let mut pins = Pins::default();
        let mut take = |app: AppName, name: DeploymentName, number| {
            let current = ReleaseName { app, number };
            if here.contains(name.as_str()) {
                self.add_seen(&name, current, &mut pins);
            } else {
                pins.all.push(Pin { release: current, place: Place::Deployment { name, seen: None } });
            }
        };
        if apps.len() > MANY_APPS {
            for (app, name, number) in state.current_of_all(apps)? {
                take(app, name, number);
            }
        } else {
            for app in apps {
                for (name, number) in state.current_of(app)? {
                    take((*app).clone(), name, number);
                }
            }
        }
        Ok(pins)
    }

    /// The channels of these applications. One that was tampered with says nothing; that it was is told, and the rest of
    /// the answer stands.
    pub(super) fn add_channels(&self, apps: &BTreeSet<&AppName>, pins: &mut Pins) {
        for app in apps {
            match self.channels(Some(app)) {
                Ok(channels) => pins.all.extend(channels.into_iter().map(|one| {
                    let name = one.channel.to_string();
                    Pin { release: one.promotion.release, place: Place::Channel { name } }
                })),
                Err(error) => {
                    pins.notes.push(format!("the channels of `{app}` are not told: {}", error.in_one_line()));
                }
            }
        }
    }

    /// Deployments that have a folder for what runs on this host: only there can anything be seen.
    fn deployments_here(&self) -> Result<BTreeSet<String>, OpsError> {
        let folder = self.home.runs();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(source) => return Err(OpsError::Io { action: "read", path: folder, source }),
        };
        Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
    }

    /// What runs of a deployment on this host: of its release, and of others that an upgrade has left behind.
    fn add_seen(&self, name: &DeploymentName, current: ReleaseName, pins: &mut Pins) {
        let pin = |release, seen| Pin { release, place: Place::Deployment { name: name.clone(), seen } };
        let observed = self.bare_target(name).observe();
        let running = match observed {
            Ok(observed) => observed.into_iter().filter(|one| one.state == InstanceState::Running),
            Err(error) => {
                let why = OpsError::from(error).in_one_line();
                pins.notes.push(format!("what runs of `{name}` could not be seen: {why}"));
                pins.all.push(pin(current, None));
                return;
            }
        };
        // An instance that an upgrade had no reason to replace says the release that started it, and is of this one, too.
        let images = self.read_release(&current).map(|release| release.content.machines).unwrap_or_default();
        let mut by_release: BTreeMap<ReleaseName, BTreeMap<MachineName, u32>> =
            [(current.clone(), BTreeMap::new())].into();
        for instance in running {
            let Ok(machine) = instance.machine.parse::<MachineName>() else { continue };
            let is_current = images.get(&machine).map(|machine| machine.image.to_string()) == instance.image;
            let started_by = instance.release.parse().ok().filter(|_| !is_current);
            let of = by_release.entry(started_by.unwrap_or_else(|| current.clone())).or_default();
            *of.entry(machine).or_default() += 1;
        }
        pins.all.extend(by_release.into_iter().map(|(release, seen)| pin(release, Some(seen))));
    }
}
