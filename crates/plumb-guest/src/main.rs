//! PID 1 of every machine: boots from the initramfs to the verified root, brings up volumes and network, runs the
//! services, and powers off in order. One thread, one loop, no resolver, no shell.
//!
//! ```text
//!  initramfs ─► modules ─► control port ─► dm-verity ─► EROFS root ─► writable places ─► volumes, network ─► services
//!      └────────────────────────────── any error: said, sent, power off ──────────────────────────────┘
//! ```

mod activity;
mod build;
mod clock;
mod config;
mod console;
mod control;
mod disk;
mod document;
mod errand;
mod error;
mod ext4;
mod file;
mod identity;
mod limit;
mod module;
mod mount;
mod network;
mod quiesce;
mod report;
mod service;
mod signal;
mod systemd;
mod timeline;
mod tool;
mod verity;
mod volume;

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;

use plumb_guest_proto::{
    BootPhase, Event, FORMAT, GuestMessage, Init, InstanceSpec, MachineSpec, RootDisk, Writable,
};
use rustix::mount::MountFlags;
use rustix::system::{RebootCommand, reboot};

use crate::console::Console;
use crate::control::Control;
use crate::error::Error;
use crate::report::{Reporter, shorten};
use crate::signal::Signals;
use crate::timeline::Timeline;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        return beside_pid_1();
    }
    let timeline = Timeline::begin();
    let mounted = mount::kernel_file_systems();
    let mut reporter = Reporter { console: Console::open(), control: Control::default() };
    let result = mounted.and_then(|()| live(&mut reporter, timeline));
    if let Err(error) = result {
        let message = error.chain();
        // The port may not have been looked for yet when the boot failed.
        reporter.control.open();
        reporter.event(Event::Fatal { message: shorten(message.clone(), limit::TOOL_OUTPUT_BYTES) });
        reporter.say(&format!("fatal: {message}"));
    }
    let Err(error) = power_off(&mut reporter);
    // Without power management all that is left is a panic, which the setting kernel.panic ends.
    reporter.say(&format!("fatal: {}", error.chain()));
    std::process::abort();
}

/// As a service of systemd. Anything else that is started by hand would unmount, kill and power off somebody's machine.
fn beside_pid_1() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    systemd::command(&arguments).unwrap_or_else(|| {
        eprintln!("plumb-guest is PID 1 of a machine, or a service of its systemd; it does nothing else");
        ExitCode::from(2)
    })
}

/// A whole life: boot, run, stop.
fn live(reporter: &mut Reporter, mut timeline: Timeline) -> Result<(), Error> {
    if let Some(answer) = build::requested()? {
        return build::run(&answer, reporter);
    }
    let signals = Signals::open()?;
    reporter.say("up");
    for missing in network::apply_settings()? {
        reporter.say(&format!("this kernel has no setting `{missing}`"));
    }
    timeline.end(BootPhase::Setup);
    let count = module::load_all()?;
    timeline.end(BootPhase::Modules);
    reporter.control.open();
    reporter.say(&format!("{count} kernel modules loaded"));
    // Read only now, so that the host hears of a document that is refused.
    let instance = document::instance()?;
    let secrets = config::take_secrets()?;
    let mut machine = enter_root(reporter, &mut timeline)?;
    document::check(&machine, &instance)?;
    if instance.idle {
        machine.services.clear();
    }
    timeline.end(BootPhase::Root);
    identity::write(&instance)?;
    for line in network::configure(&instance.interfaces)? {
        reporter.say(&line);
    }
    timeline.end(BootPhase::Network);
    bring_up_volumes(&machine, &instance, reporter)?;
    timeline.end(BootPhase::Volumes);
    for directory in &machine.directories {
        if let Err(problem) = service::make_directory(directory) {
            reporter.say(&problem);
        }
    }
    config::apply(&machine, &instance.config, &secrets)?;
    drop(secrets);
    reporter.control.open();
    let InstanceSpec { instance: name, machine: of, release, generation, .. } = &instance;
    reporter.say(&format!("instance {name} of machine {of}, release {release}, generation {generation}"));
    let hello = GuestMessage::Hello {
        format: FORMAT,
        instance: name.clone(),
        generation: *generation,
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        freezes: true,
    };
    if let Init::Systemd(_) = machine.init {
        timeline.end(BootPhase::Directories);
        reporter.event(timeline.event());
        let Err(error) = systemd::hand_over(reporter, &hello);
        return Err(error);
    }
    let mut runtime = service::Runtime::new(&machine, hello, signals, reporter)?;
    timeline.end(BootPhase::Directories);
    runtime.run(timeline.event());
    drop(runtime);
    take_down(&machine, reporter);
    Ok(())
}

/// From the initramfs to the verified root; returns what the image says it is.
fn enter_root(reporter: &mut Reporter, timeline: &mut Timeline) -> Result<MachineSpec, Error> {
    let device = verified_root()?;
    timeline.end(BootPhase::Verity);
    mount::file_system(
        "erofs",
        &device.display().to_string(),
        "/sysroot",
        MountFlags::RDONLY | MountFlags::NODEV,
        "",
    )?;
    module::free_initramfs()?;
    let machine = document::machine("/sysroot")?;
    if machine.writable == Writable::Root {
        mount::writable_root()?;
    }
    mount::switch_root()?;
    mount::writable_places(machine.writable)?;
    reporter.say(&format!("root mounted, verified by {}", &root_disk()?.root_hash[..16]));
    reporter.event(Event::RootMounted);
    Ok(machine)
}

/// The device of the root with dm-verity over it.
fn verified_root() -> Result<PathBuf, Error> {
    let root = root_disk()?;
    verity::open(&root, &disk::find(&root.serial)?)
}

/// `plumb.root=` of the kernel command line.
fn root_disk() -> Result<RootDisk, Error> {
    let line = file::read_text("/proc/cmdline").map_err(Error::file("read", "/proc/cmdline"))?;
    let value = line.split_whitespace().find_map(|word| word.strip_prefix("plumb.root="));
    Ok(value.ok_or(Error::NoRoot)?.parse()?)
}

fn bring_up_volumes(
    machine: &MachineSpec,
    instance: &InstanceSpec,
    reporter: &mut Reporter,
) -> Result<(), Error> {
    for volume in &machine.volumes {
        let Some(attachment) = instance.volumes.iter().find(|attached| attached.name == volume.name) else {
            continue; // `document::check` has refused this
        };
        let mounted = volume::bring_up(volume, attachment)?;
        reporter.say(&mounted.line(&volume.name));
        reporter.event(mounted.event(&volume.name));
    }
    Ok(())
}

/// After the last process: volumes, deepest mount first.
fn take_down(machine: &MachineSpec, reporter: &mut Reporter) {
    rustix::fs::sync();
    for volume in machine.volumes.iter().rev() {
        match volume::take_down(&volume.mount) {
            Ok(()) => reporter.say(&format!("volume {} unmounted", volume.name)),
            Err(problem) => reporter.say(&problem),
        }
    }
}

fn power_off(reporter: &mut Reporter) -> Result<Infallible, Error> {
    rustix::fs::sync();
    reporter.say("power off");
    reporter.drain();
    reboot(RebootCommand::PowerOff).map_err(|errno| Error::system("power off")(errno.into()))?;
    // The call does not return when it succeeds.
    Err(Error::system("power off")(std::io::Error::other("the kernel went on")))
}
