//! What every image has, also when base-files and base-passwd are not in the closure.

use super::AssembleError;
use crate::rule::account::Accounts;
use crate::rule::pam;
use crate::rule::world::World;
use crate::tree::{Entry, Kind};

const RULE: &str = "rule:skeleton";

/// Directories with their modes (file-hierarchy(7), base-files).
#[rustfmt::skip]
const DIRECTORIES: [(&str, u32); 24] = [
    ("/dev", 0o755), ("/etc", 0o755), ("/home", 0o755), ("/mnt", 0o755), ("/opt", 0o755), ("/proc", 0o555),
    ("/root", 0o700), ("/run", 0o755), ("/srv", 0o755), ("/sys", 0o555), ("/tmp", 0o1777), ("/usr/bin", 0o755),
    ("/usr/lib", 0o755), ("/usr/lib64", 0o755), ("/usr/local/bin", 0o755), ("/usr/local/lib", 0o755),
    ("/usr/sbin", 0o755), ("/usr/share", 0o755), ("/var/cache", 0o755), ("/var/lib", 0o755), ("/var/log", 0o755),
    ("/var/spool", 0o755), ("/var/tmp", 0o1777), ("/var/backups", 0o755),
];

/// Links; those to `/run/plumb` are written by PID 1 at boot.
const LINKS: [(&str, &str); 7] = [
    ("/etc/hostname", "/run/plumb/hostname"),
    ("/etc/hosts", "/run/plumb/hosts"),
    ("/etc/machine-id", "/run/plumb/machine-id"),
    ("/etc/mtab", "/proc/self/mounts"),
    ("/etc/resolv.conf", "/run/plumb/resolv.conf"),
    ("/var/lock", "/run/lock"),
    ("/var/run", "/run"),
];

/// Debian's suites with `VERSION_ID`; testing and unstable have none.
const SUITES: [(&str, &str); 7] = [
    ("bullseye", "11"),
    ("bookworm", "12"),
    ("trixie", "13"),
    ("forky", "14"),
    ("duke", "15"),
    ("testing", ""),
    ("sid", ""),
];

/// Text files that are written unless a package has them.
const FILES: [(&str, &str); 7] = [
    (
        "/etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\n\
         services: files\nethers: files\nrpc: files\n",
    ),
    ("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n\n"),
    ("/etc/host.conf", "multi on\n"),
    ("/etc/networks", "default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n\n"),
    ("/etc/environment", ""),
    ("/etc/fstab", ""),
    ("/etc/gai.conf", ""),
];

/// Directories, links and files.
pub(super) fn apply(world: &mut World<'_>, suite: &str) -> Result<(), AssembleError> {
    for (path, mode) in DIRECTORIES {
        world.add(path, Entry::directory(mode), RULE);
    }
    for (path, target) in LINKS {
        // A package's own file in such a place (`/etc/hosts` of an example) would hide what PID 1 writes.
        if world.tree.get(path).is_none_or(|entry| entry.kind != Kind::Directory) {
            world.insert(path, Entry::symlink(target), World::origin(RULE));
        }
    }
    os_release(world, suite)?;
    for (path, text) in FILES {
        if world.tree.resolve(path).is_none() {
            world.write(path, text.as_bytes(), 0o644, &World::origin(RULE))?;
        }
    }
    if world.tree.get("/usr/share/pam/common-auth").is_some() {
        pam::update(world);
    }
    if world.tree.resolve("/usr/share/zoneinfo/Etc/UTC").is_some() {
        world.add("/etc/localtime", Entry::symlink("/usr/share/zoneinfo/Etc/UTC"), RULE);
        if world.tree.get("/etc/timezone").is_none() {
            world.write("/etc/timezone", b"Etc/UTC\n", 0o644, &World::origin(RULE))?;
        }
    }
    Ok(())
}

/// os-release(5): still Debian for everything that matches packages with advisories, and Plumb by variant.
fn os_release(world: &mut World<'_>, suite: &str) -> Result<(), AssembleError> {
    let known = SUITES.iter().find(|(name, _)| *name == suite);
    let (_, version) = known.ok_or_else(|| AssembleError::UnknownSuite { suite: suite.to_owned() })?;
    let mut text =
        format!("PRETTY_NAME=\"Debian GNU/Linux {version} ({suite})\"\nNAME=\"Debian GNU/Linux\"\n");
    if !version.is_empty() {
        text.push_str(&format!("VERSION_ID=\"{version}\"\nVERSION=\"{version} ({suite})\"\n"));
    }
    text.push_str(&format!("VERSION_CODENAME={suite}\nID=debian\nVARIANT=\"Plumb\"\nVARIANT_ID=plumb\n"));
    let origin = World::origin(RULE);
    world.write("/usr/lib/os-release", text.as_bytes(), 0o644, &origin)?;
    world.insert("/etc/os-release", Entry::symlink("../usr/lib/os-release"), origin.clone());
    if world.tree.get("/etc/debian_version").is_none() {
        let version = if version.is_empty() { format!("{suite}/sid") } else { (*version).to_owned() };
        world.write("/etc/debian_version", format!("{version}\n").as_bytes(), 0o644, &origin)?;
    }
    Ok(())
}

/// `/bin/sh`, if the closure has a shell: dash as Debian does, else bash.
pub(super) fn shell(world: &mut World<'_>) {
    for shell in ["dash", "bash"] {
        if world.tree.get(&format!("/usr/bin/{shell}")).is_some() {
            world.add("/usr/bin/sh", Entry::symlink(shell), "rule:sh");
            return;
        }
    }
}

/// The account files; shadow is for root and its group only.
pub(super) fn accounts(world: &mut World<'_>, accounts: &Accounts) -> Result<(), AssembleError> {
    let origin = World::origin("rule:accounts");
    world.write("/etc/passwd", accounts.passwd().as_bytes(), 0o644, &origin)?;
    world.write("/etc/group", accounts.group().as_bytes(), 0o644, &origin)?;
    world.write("/etc/shadow", accounts.shadow().as_bytes(), 0o640, &origin)?;
    if let Some((entry, _)) = world.tree.entries.get_mut("/etc/shadow") {
        entry.gid = accounts.groups.get("shadow").map_or(0, |group| group.gid);
    }
    let shells = [
        "/bin/sh",
        "/usr/bin/sh",
        "/bin/bash",
        "/usr/bin/bash",
        "/bin/rbash",
        "/usr/bin/rbash",
        "/bin/dash",
        "/usr/bin/dash",
    ];
    let shells = shells.iter().filter(|shell| world.tree.resolve(shell).is_some());
    let shells: String = shells.map(|shell| format!("{shell}\n")).collect();
    if !shells.is_empty() {
        let shells = format!("# /etc/shells: valid login shells\n{shells}");
        world.write("/etc/shells", shells.as_bytes(), 0o644, &origin)?;
    }
    Ok(())
}
