//! `plumb footprint`.

use plumb_ops::{Baseline, FootprintView, MachineFootprint, OpsError, Start, Suggestion};

use super::Session;
use crate::args::Footprint;
use crate::output::out;
use crate::render::{self, COLUMNS, bytes, duration, table, wrapped};

/// Rows of each list; `--json` has all.
const ROWS: usize = 8;

/// A package smaller than this is no line in "what could go".
const WORTH_BYTES: u64 = 16_000;

pub(super) fn run(session: &Session<'_>, arguments: &Footprint) -> Result<(), OpsError> {
    let view = session.plumb.footprint(&Start::parse(&arguments.what)?)?;
    session.live.clear();
    if session.global.json {
        render::json(&view);
        return Ok(());
    }
    for (index, machine) in view.machines.iter().enumerate() {
        if index > 0 {
            out!();
        }
        print_machine(&view, machine);
    }
    Ok(())
}

fn print_machine(view: &FootprintView, machine: &MachineFootprint) {
    out!("machine {} of {}, beside {}", machine.machine, view.subject, view.baseline.name);
    comparison(&view.baseline, machine);
    out!();
    layers(machine);
    out!();
    out!("{}", parts(machine));
    ports(machine);
    for (path, what) in &machine.content.privileged {
        out!("{what:<12} {path}");
    }
    for package in &machine.without {
        out!("without      {package} (left out by the definition)");
    }
    for (package, reason) in &machine.left_out {
        for (index, line) in wrapped(&format!("{package}: {reason}"), 13).into_iter().enumerate() {
            out!("{:<12} {line}", if index == 0 { "left out" } else { "" });
        }
    }
    let dropped: u64 = machine.dropped.values().map(|rule| rule.bytes).sum();
    out!("left out     {} of files by {} rules", bytes(dropped), machine.dropped.len());
    out!();
    let packages: Vec<_> = machine.content.packages.iter().take(ROWS).collect();
    shares("LARGEST PACKAGES", &packages);
    shares("LARGEST FILES", &machine.content.largest_files.iter().take(ROWS).collect::<Vec<_>>());
    shares("LARGEST DIRECTORIES", &machine.content.largest_directories.iter().take(ROWS).collect::<Vec<_>>());
    could_go(&machine.could_go);
}

fn comparison(baseline: &Baseline, machine: &MachineFootprint) {
    let mut rows = table(&["", "HERE", "GENERAL", "SHARE"]);
    let mut row = |what: &str, here: u64, there: u64, show: &dyn Fn(u64) -> String| {
        rows.add_row([what.to_owned(), show(here), show(there), share(here, there)]);
    };
    let plain = |count: u64| count.to_string();
    row("bytes to boot and serve", machine.bytes, baseline.bytes, &bytes);
    row("packages", machine.packages, baseline.packages, &plain);
    row("files", machine.files, baseline.files, &plain);
    if let Some(measured) = &machine.measured {
        let kib = |count: u64| bytes(count * 1024);
        row("memory in use", measured.memory_used_kib, baseline.memory_used_kib, &kib);
        if let Some(processes) = measured.processes {
            row("processes", u64::from(processes), baseline.processes, &plain);
        }
        if let Some(ready_ms) = measured.ready_ms {
            row("start to ready", ready_ms, baseline.boot_ms, &duration);
        }
    }
    out!("{rows}");
    match &machine.measured {
        Some(measured) => out!(
            "memory, processes and start were seen of {} at {}",
            measured.instance,
            render::time(i64::try_from(measured.at_ms / 1000).unwrap_or_default())
        ),
        None => out!("memory, processes and start are known once an instance has run"),
    }
}

/// `1/17`, or `40%` where less than half is saved.
fn share(here: u64, there: u64) -> String {
    match there.checked_div(here) {
        Some(times) if times >= 2 => format!("1/{:.1}", there as f64 / here as f64),
        _ => format!("{}%", (here * 100).checked_div(there).unwrap_or_default()),
    }
}

fn layers(machine: &MachineFootprint) {
    let mut rows = table(&["LAYER", "BYTES", "PACKAGES", "FILES", "ELF", "SETUID", "SETGID", "CAPS"]);
    for (layer, found) in &machine.content.layers {
        rows.add_row([
            format!("{layer:?}").to_lowercase(),
            bytes(found.bytes),
            found.packages.to_string(),
            found.files.to_string(),
            found.elf.to_string(),
            found.setuid.to_string(),
            found.setgid.to_string(),
            found.capabilities.to_string(),
        ]);
    }
    out!("{rows}");
}

fn parts(machine: &MachineFootprint) -> String {
    format!(
        "kernel       {} compressed ({} in the image, unpacked)\n\
         initramfs    {}: PID 1 {}, {} modules\n\
         root         {} with its hash tree",
        bytes(machine.kernel_packed_bytes),
        bytes(machine.kernel_bytes),
        bytes(machine.initrd_bytes),
        bytes(machine.init_bytes),
        machine.modules.len(),
        bytes(machine.root_bytes)
    )
}

fn ports(machine: &MachineFootprint) {
    if let Some(measured) = &machine.measured {
        for port in &measured.listening {
            let inside = if port.loopback { " (only inside)" } else { "" };
            out!("open port    {}/{}{inside}", port.port, port.protocol);
        }
    }
    for port in &machine.published {
        out!("published    {port}/tcp");
    }
}

fn shares(title: &str, list: &[&plumb_ops::Share]) {
    out!("{title}");
    for share in list {
        out!("  {:>9}  {}", bytes(share.bytes), shortened(&share.name, COLUMNS - 13));
    }
}

/// The end of a path says more than its start.
fn shortened(path: &str, columns: usize) -> String {
    let count = path.chars().count();
    if count <= columns {
        return path.to_owned();
    }
    format!("…{}", path.chars().skip(count - columns + 1).collect::<String>())
}

fn could_go(suggestions: &[Suggestion]) {
    out!("WHAT COULD GO, if nothing loads or runs it by name (`without` leaves it out)");
    let worth: Vec<&Suggestion> =
        suggestions.iter().filter(|one| one.bytes >= WORTH_BYTES).take(ROWS).collect();
    if worth.is_empty() {
        out!("  nothing of size");
    }
    for one in worth {
        out!("  {:>9}  without = [\"{}\"]", bytes(one.bytes), one.package);
        let tell = |text: String| {
            for line in wrapped(&text, 13) {
                out!("             {line}");
            }
        };
        tell(one.because.clone());
        if !one.along.is_empty() {
            tell(format!("with it {}", one.along.join(", ")));
        }
        if one.modules {
            tell("it holds modules, which programs load by name".to_owned());
        }
        if let Some(first) = one.disables.first() {
            tell(format!("{first} could not be used any more"));
        }
        if let Some(first) = one.named_by.first() {
            tell(format!("{first} names it, and may use it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits() {
        assert_eq!(shortened("/usr/lib/x", 6), "…lib/x");
        assert_eq!(shortened("/a", 6), "/a");
        assert_eq!([share(10, 100), share(60, 100), share(0, 9)], ["1/10.0", "60%", "0%"]);
    }
}
