//! `plumb build`, `plumb release`, `plumb log`, `plumb show`.

use plumb_ops::{BuiltImage, OpsError, Project};

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
    let releases = session.plumb.releases(arguments.app.as_ref())?;
    if session.global.json {
        render::json(&releases);
        return Ok(());
    }
    let mut rows = table(&["RELEASE", "MADE", "MACHINES", "NOTE"]);
    for release in releases.iter().rev() {
        let machines: Vec<String> = release
            .content
            .machines
            .iter()
            .map(|(name, machine)| format!("{name}:{}", machine.image.short()))
            .collect();
        rows.add_row([
            release.name().to_string(),
            time(release.created_s),
            machines.join(" "),
            release.note.clone(),
        ]);
    }
    out!("{rows}");
    Ok(())
}

pub(super) fn show(session: &Session<'_>, arguments: &Show) -> Result<(), OpsError> {
    let (release, images) = session.plumb.show(&arguments.release)?;
    if session.global.json {
        render::json(&serde_json::json!({ "release": release, "images": images }));
        return Ok(());
    }
    out!("release    {}", release.name());
    out!("made       {}", time(release.created_s));
    if !release.note.is_empty() {
        out!("note       {}", release.note);
    }
    if release.content.fence > 0 {
        out!("fence      {}@{} (no rollback below)", release.app, release.content.fence);
    }
    out!("lock       {}", release.lock);
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
    Ok(())
}
