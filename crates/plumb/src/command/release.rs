//! `plumb build`, `plumb release`, `plumb log`, `plumb show`.

use std::collections::BTreeMap;

use plumb_model::image::Image;
use plumb_model::{Document as _, MachineName};
use plumb_ops::{BuiltImage, LogEntry, OpsError, Project};

use super::Session;
use crate::args::{Build, Log, Release, Show};
use crate::output::{err, out};
use crate::render::{self, bytes, table, time};

pub(super) fn build(session: &Session<'_>, arguments: &Build) -> Result<(), OpsError> {
    let project = Project::load(&arguments.folder)?;
    let images = session.plumb.build(&project)?;
    if arguments.check_scripts {
        session.plumb.check_scripts(&project)?;
    }
    session.live.clear();
    if session.global.json {
        render::json(&images);
    } else {
        print_images(&images);
    }
    Ok(())
}

pub(super) fn release(session: &Session<'_>, arguments: &Release) -> Result<(), OpsError> {
    let project = Project::load(&arguments.folder)?;
    if arguments.dry_run {
        let images = session.plumb.build(&project)?;
        session.live.clear();
        if session.global.json {
            render::json(&images);
        } else {
            print_images(&images);
            err!("dry run: no release was made");
        }
        return Ok(());
    }
    let outcome = session.plumb.release(&project, &arguments.message)?;
    session.live.clear();
    if session.global.json {
        render::json(&outcome);
        return Ok(());
    }
    out!("{}", outcome.release);
    if !outcome.changed {
        err!("nothing changed since `{}`", outcome.release);
    }
    Ok(())
}

fn print_images(images: &[BuiltImage]) {
    let mut rows =
        table(&["MACHINE", "IMAGE", "SIZE", "ROOT", "INITRAMFS", "KERNEL", "PACKAGES", "FILES", ""]);
    for image in images {
        rows.add_row([
            image.machine.to_string(),
            image.image.short(),
            bytes(image.size_bytes),
            bytes(image.root_bytes),
            bytes(image.initrd_bytes),
            bytes(image.kernel_bytes),
            image.packages.to_string(),
            image.files.to_string(),
            if image.cached { "unchanged".to_owned() } else { "built".to_owned() },
        ]);
    }
    out!("{rows}");
    for image in images {
        for notice in &image.notices {
            err!("note: {}: {notice}", image.machine);
        }
    }
}

pub(super) fn log(session: &Session<'_>, arguments: &Log) -> Result<(), OpsError> {
    let entries = session.plumb.history_of(arguments.app.as_ref())?;
    if session.global.json {
        render::json(&entries);
        return Ok(());
    }
    let (mut app, mut after) = (None, None);
    for entry in entries.iter().rev() {
        let release = &entry.release;
        if app.as_ref().is_some_and(|app| *app != release.app) {
            out!("");
            after = None;
        }
        // A number that is missing between two is told: the chain of digests goes through it.
        if after.is_some_and(|after: u64| after != release.number + 1) {
            out!("~");
        }
        log_entry(entry);
        (app, after) = (Some(release.app.clone()), Some(release.number));
    }
    Ok(())
}

/// One release, as people know it from git: a node of the chain, its name, the channels on it, who, when and why.
fn log_entry(entry: &LogEntry) {
    let release = &entry.release;
    let names: Vec<&str> = entry.channels.iter().map(|channel| channel.as_str()).collect();
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let by = if entry.signed_by.is_empty() { "not signed".to_owned() } else { entry.signed_by.join(", ") };
    out!("* {}{names}  {}  {by}", release.name(), time(release.created_s));
    if !release.note.is_empty() {
        out!("|   {}", release.note);
    }
    if !entry.evidence.is_empty() {
        out!("|   evidence: {}", entry.evidence.join(", "));
    }
    let machines = release.content.machines.iter();
    let machines: Vec<String> =
        machines.map(|(name, machine)| format!("{name} {}", machine.image.short())).collect();
    out!("|   {}", machines.join(", "));
    if !entry.here {
        out!("|   images collected");
    }
}

pub(super) fn show(session: &Session<'_>, arguments: &Show) -> Result<(), OpsError> {
    let name = session.plumb.named(&arguments.release)?;
    let (release, images) = session.plumb.show(&name)?;
    if session.global.json {
        render::json(&serde_json::json!({ "release": release, "images": images }));
        return Ok(());
    }
    let known = session
        .plumb
        .history_of(Some(&name.app))?
        .into_iter()
        .find(|entry| entry.release.number == name.number);
    show_head(&release, known.as_ref());
    if known.is_some_and(|known| !known.here) {
        out!("images     not in the store: collected, damaged, or never pulled");
        err!("hint: `plumb verify {name} --rebuild` builds them again from its packages");
    }
    show_machines(&release, &images);
    Ok(())
}

fn show_head(release: &plumb_model::release::Release, known: Option<&LogEntry>) {
    out!("release    {}", release.name());
    out!("digest     {}", release.digest());
    out!("made       {}", time(release.created_s));
    if let Some(known) = known {
        let by = known.signed_by.join(", ");
        out!("signed by  {}", if by.is_empty() { "nobody who is trusted" } else { &by });
        for channel in &known.channels {
            out!("channel    {channel}");
        }
        for evidence in &known.evidence {
            out!("evidence   {evidence}");
        }
    }
    if !release.note.is_empty() {
        out!("note       {}", release.note);
    }
    if release.content.fence > 0 {
        out!("fence      {}@{} (no rollback below)", release.app, release.content.fence);
    }
    out!("lock       {}", release.lock);
}

fn show_machines(release: &plumb_model::release::Release, images: &BTreeMap<MachineName, Image>) {
    for (name, machine) in &release.content.machines {
        out!("\nmachine    {name}");
        out!("  image    {}", machine.image);
        out!("  runs     {} x {} MiB, {} CPU", machine.instances, machine.memory_mib, machine.cpus);
        for need in &machine.needs {
            out!("  needs    {need}");
        }
        for port in &machine.publish {
            out!("  port     {}:{} -> {}", port.address, port.host_port, port.guest_port);
        }
        for (volume, size) in &machine.volumes {
            out!("  volume   {volume} {}", bytes(size.size_bytes));
        }
        if let Some(image) = images.get(name) {
            out!("  kernel   {} {}", image.kernel_release, bytes(image.kernel.size));
            out!("  root     {} dm-verity {}", bytes(image.root.size), image.root_hash);
            for (layer, size) in &image.layers {
                out!("  layer    {layer}: {} files, {}", size.files, bytes(size.bytes));
            }
            for package in &image.without {
                out!("  without  {package}");
            }
            for package in &image.left_out {
                out!("  left out {package} (only maintainer scripts use it)");
            }
            for (package, entry) in &image.packages {
                out!("  package  {package} {} ({})", entry.version, entry.layer);
            }
        }
    }
}
