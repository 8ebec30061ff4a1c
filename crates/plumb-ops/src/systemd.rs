//! What an image needs so that systemd runs its services and the host still sees them.

use std::collections::{BTreeMap, BTreeSet};

use plumb_guest_proto::{AGENT_COMMAND, AGENT_PATH, Init, ServiceSettings};
use plumb_image::assemble::Assembled;
use plumb_image::tree::{Entry, Layer, Objects, Origin, Tree};
use plumb_image::unit::{self, HandedOver, Severity, TreeUnits, UnitSource};
use plumb_model::MachineName;
use plumb_model::definition::Machine;

use crate::config;
use crate::error::OpsError;
use crate::guest::GUEST;
use crate::machine::{input, siblings, untranslated};

/// Where the definition's units and links go: above what packages have.
const OWN: &str = "/etc/systemd/system";
/// Where packages have units; a link's name says which unit it means, systemd.unit(5).
const PACKAGED: &str = "/usr/lib/systemd/system";
/// The target of a machine that is up.
const UP: &str = "multi-user.target";

/// The service that speaks for the machine. It is there before and after everything else, and ends with the last
/// processes; what it has to say comes by the control port and the console, not by the journal it reads.
const AGENT_UNIT: &str = "plumb-agent.service";

/// Programs without which such a machine does not run.
const PROGRAMS: [&str; 4] = [
    "/usr/lib/systemd/systemd",
    "/usr/lib/systemd/systemd-journald",
    "/usr/bin/journalctl",
    "/usr/bin/systemctl",
];

/// Files of systemd's configuration, which a file of the user's in `/etc/systemd` overrides.
const SETTINGS: [(&str, &str); 2] = [
    // The host keeps the log; nothing of /var outlives the instance anyway.
    ("/usr/lib/systemd/journald.conf.d/50-plumb.conf", "[Journal]\nStorage=volatile\n"),
    // A serial console is slow, and the agent writes what matters there.
    ("/usr/lib/systemd/system.conf.d/50-plumb.conf", "[Manager]\nShowStatus=no\n"),
];

/// Units that have nothing to do in a machine, and why.
const MASKED: [(&str, &str); 8] = [
    ("getty.target", "nobody logs in on a console"),
    ("systemd-journal-catalog-update.service", "makes a database at every boot that nobody reads"),
    ("systemd-update-done.service", "an image is never updated in place"),
    ("ldconfig.service", "the image has the cache"),
    ("systemd-firstboot.service", "asks a person"),
    ("e2scrub_all.timer", "checks file systems on LVM, which a machine does not have"),
    ("e2scrub_reap.service", "checks file systems on LVM, which a machine does not have"),
    ("systemd-machine-id-commit.service", "the identity of an instance is not kept in it"),
];

/// Needs the message bus, which only some machines have.
const LOGIN: (&str, &str) = ("systemd-logind.service", "/usr/lib/systemd/system/dbus.socket");

/// Units, and those that systemd makes of init scripts at boot: systemd-sysv-generator(8).
struct WithInitScripts<'t> {
    units: TreeUnits<'t>,
    tree: &'t Tree,
}

impl UnitSource for WithInitScripts<'_> {
    fn unit(&self, name: &str) -> Option<String> {
        let script = || {
            let path = format!("/etc/init.d/{}", name.strip_suffix(".service")?);
            self.tree.get(&path)?;
            Some(format!("[Service]\nType=forking\nExecStart={path} start\n"))
        };
        self.units.unit(name).or_else(script)
    }

    fn drop_ins(&self, name: &str) -> Vec<String> {
        self.units.drop_ins(name)
    }

    fn names(&self) -> Vec<String> {
        self.units.names()
    }
}

/// A machine's services, handed over.
pub(crate) struct Services {
    /// For the machine's spec.
    pub(crate) init: Init,
    /// Units and drop-ins.
    handed: Vec<HandedOver>,
    /// Programs that must be able to run.
    pub(crate) programs: BTreeSet<String>,
    /// What its owner should know.
    pub(crate) notices: Vec<String>,
}

/// Makes the definition's part of every service.
pub(crate) fn services(
    name: &MachineName,
    machine: &Machine,
    assembled: &Assembled,
    objects: &dyn Objects,
) -> Result<Services, OpsError> {
    let mut units = Tree { entries: assembled.units.clone() };
    units.close();
    let units = WithInitScripts { units: TreeUnits { tree: &units, objects }, tree: &assembled.tree };
    let resolve = |program: &str| unit::find_program(&assembled.tree, program);
    let mut found = Services {
        init: Init::Systemd(Vec::new()),
        handed: Vec::new(),
        programs: PROGRAMS.map(str::to_owned).into(),
        notices: Vec::new(),
    };
    for (service_name, service) in &machine.services {
        let siblings = siblings(service_name, &machine.services);
        let input = input(service_name, service, &siblings, &resolve);
        let handed = match (&service.from, &service.exec) {
            (None, Some(_)) => unit::hand_over_exec(&input, &assembled.accounts, service.stop_signal),
            (from, _) => {
                let unit_name = from.as_deref().unwrap_or(service_name.as_str());
                unit::hand_over_unit(unit_name, &input, &units, &assembled.accounts, service.stop_signal)
            }
        };
        let handed = handed.map_err(|error| untranslated(name, error))?;
        let told = handed.notes.iter().filter(|note| note.severity != Severity::Info);
        found.notices.extend(told.map(|note| format!("service `{service_name}`: {}", note.message)));
        found.programs.extend(handed.programs.iter().cloned());
        found.handed.push(handed);
    }
    found.init = Init::Systemd(found.handed.iter().map(|handed| handed.spec.clone()).collect());
    Ok(found)
}

impl Services {
    /// Puts agent, units and links into the tree.
    ///
    /// # Errors
    /// What keeping contents says.
    pub(crate) fn add(
        &self,
        tree: &mut Tree,
        objects: &dyn Objects,
        settings: &BTreeMap<String, ServiceSettings>,
    ) -> Result<(), std::io::Error> {
        let mut place = Place { tree, objects };
        place.file(AGENT_PATH, GUEST, 0o555)?;
        place.file(&format!("{PACKAGED}/{AGENT_UNIT}"), agent_unit().as_bytes(), 0o644)?;
        place.link(
            &format!("{PACKAGED}/sysinit.target.wants/{AGENT_UNIT}"),
            &format!("{PACKAGED}/{AGENT_UNIT}"),
        );
        for (path, text) in SETTINGS {
            place.file(path, text.as_bytes(), 0o644)?;
        }
        let needless = (place.tree.get(LOGIN.1).is_none()).then_some(LOGIN.0);
        for unit in MASKED.iter().map(|(unit, _)| *unit).chain(needless) {
            if place.tree.get(&format!("{PACKAGED}/{unit}")).is_some() {
                place.link(&format!("{OWN}/{unit}"), "/dev/null");
            }
        }
        for handed in &self.handed {
            if let Some((path, text)) = &handed.text {
                place.file(&format!("{OWN}/{path}"), text.as_bytes(), 0o644)?;
            }
            if settings.contains_key(&handed.spec.name) {
                let path = format!("{OWN}/{}.d/60-plumb-config.conf", handed.spec.unit);
                place.file(&path, config::drop_in(&handed.spec.name).as_bytes(), 0o644)?;
            }
            let own = format!("{OWN}/{}", handed.file);
            let target =
                if place.tree.get(&own).is_some() { own } else { format!("{PACKAGED}/{}", handed.file) };
            place.link(&format!("{OWN}/{UP}.wants/{}", handed.spec.unit), &target);
        }
        place.tree.close();
        Ok(())
    }
}

/// `DefaultDependencies=no` without a conflict with `shutdown.target`: it is ended by the last step of a shutdown, which
/// ends every process.
fn agent_unit() -> String {
    format!(
        "[Unit]\nDescription=Plumb's end of the control port\nDefaultDependencies=no\n\
         After=systemd-journald.service\n\n[Service]\nType=exec\nExecStart={AGENT_PATH} {AGENT_COMMAND}\n\
         Restart=always\nRestartSec=1\nStartLimitIntervalSec=0\nOOMScoreAdjust=-900\nStandardOutput=null\n\
         StandardError=journal\n"
    )
}

struct Place<'t, 'o> {
    tree: &'t mut Tree,
    objects: &'o dyn Objects,
}

impl Place<'_, '_> {
    fn file(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<(), std::io::Error> {
        let (digest, size) = self.objects.put(&mut &*bytes)?;
        self.tree.insert(path, Entry::file(digest, size, mode), origin());
        Ok(())
    }

    /// What the user or a package has there stays.
    fn link(&mut self, path: &str, target: &str) {
        if self.tree.get(path).is_none() {
            self.tree.insert(path, Entry::symlink(target), origin());
        }
    }
}

fn origin() -> Origin {
    Origin { layer: Layer::Os, source: "rule:machine".to_owned() }
}
