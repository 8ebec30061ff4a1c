//! The command line of QEMU.
//!
//! Sockets are named relative to the instance directory, in which QEMU runs: a socket address holds 107 bytes only.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use plumb_guest_proto::CONTROL_PORT;
use serde_json::json;

use crate::accelerator::{Accelerator, AcceleratorKind};
use crate::driver::StartInstance;
use crate::layout::InstanceDir;

/// Serial of the root disk, as on every image's kernel command line.
pub const ROOT_SERIAL: &str = "plumb-root";

/// Translated code kept per instance. 64 MiB hold a kernel and a database; QEMU's own default is a quarter of the
/// host's memory at most.
const TCG_CACHE_MIB: u32 = 64;

/// What the emulated processor offers: x86-64-v2 (psABI), which current binaries may be built for, and a random number
/// instruction, so that the guest's generator is ready at once.
const TCG_PROCESSOR: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand";

/// Everything that decides the command line.
pub(crate) struct Launch<'a> {
    pub start: &'a StartInstance,
    pub dir: &'a InstanceDir,
    pub accelerator: &'a Accelerator,
    pub title: &'a str,
    /// Hardware address of the private interface.
    pub mac: &'a str,
    /// Hardware address of the interface for published ports.
    pub publish_mac: &'a str,
    /// Guest port → port on 127.0.0.1.
    pub forwards: &'a BTreeMap<u16, u16>,
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn pair(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }
}

/// All arguments, in a fixed order.
pub(crate) fn arguments(launch: &Launch<'_>) -> Vec<OsString> {
    let mut list = Arguments(Vec::new());
    let start = launch.start;
    list.pair("-name", launch.title);
    list.pair("-pidfile", launch.dir.pid().into_os_string());
    machine(&mut list, launch);
    // QEMU cannot start programs, change its user or its priority any more, should a guest take it over.
    list.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    list.pair("-m", format!("{}M", start.memory_mib));
    list.pair("-smp", start.cpus.to_string());
    if let Some(image) = &start.image {
        list.pair("-kernel", image.kernel.clone().into_os_string());
        list.pair("-initrd", launch.dir.initrd().into_os_string());
        list.pair("-append", kernel_command_line(&image.cmdline, launch.accelerator));
        disk(&mut list, 0, ROOT_SERIAL, &image.root, Access::SharedRead);
    } else {
        list.flag("-S");
    }
    for (index, volume) in start.volumes.iter().enumerate() {
        disk(&mut list, index + 1, &volume.serial, &volume.path, Access::OwnWrite);
    }
    network(&mut list, launch);
    channels(&mut list);
    list.0
}

fn machine(list: &mut Arguments, launch: &Launch<'_>) {
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        list.flag(flag);
    }
    list.pair("-display", "none");
    list.pair("-machine", "q35,vmport=off,usb=off");
    match launch.accelerator.kind {
        AcceleratorKind::Kvm => {
            list.pair("-accel", "kvm");
            list.pair("-cpu", "host");
        }
        AcceleratorKind::Tcg => {
            list.pair("-accel", format!("tcg,thread=multi,tb-size={TCG_CACHE_MIB}"));
            list.pair("-cpu", TCG_PROCESSOR);
        }
    }
}

/// Under TCG the guest's timers are late on a loaded host: its timer test would make it panic, and its measurement of
/// the counter takes long and comes out wrong.
fn kernel_command_line(image: &str, accelerator: &Accelerator) -> String {
    match accelerator.kind {
        AcceleratorKind::Kvm => image.to_owned(),
        AcceleratorKind::Tcg => format!("{image} no_timer_check tsc_early_khz={}", accelerator.tsc_khz),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Read only, by any number of instances at once.
    SharedRead,
    /// Written by one instance; QEMU locks the file against a second one.
    OwnWrite,
}

fn disk(list: &mut Arguments, index: usize, serial: &str, path: &Path, access: Access) {
    let read_only = access == Access::SharedRead;
    let node = format!("disk{index}");
    let device = json!({
        "driver": "raw", "node-name": node, "read-only": read_only,
        "discard": if read_only { "ignore" } else { "unmap" },
        // JSON needs no escape for commas in file names, unlike -drive. The host's page cache is used; a flush of the
        // guest is an fdatasync.
        "cache": { "direct": false, "no-flush": false },
        "file": {
            "driver": "file", "filename": path, "read-only": read_only, "aio": "threads",
            "locking": if read_only { "off" } else { "on" },
            "discard": if read_only { "ignore" } else { "unmap" },
        },
    });
    list.pair("-blockdev", device.to_string());
    let write_cache = if read_only { "" } else { ",write-cache=on" };
    list.pair("-device", format!("virtio-blk-pci,drive={node},serial={serial}{write_cache}"));
}

fn network(list: &mut Arguments, launch: &Launch<'_>) {
    list.pair("-netdev", "stream,id=private,server=on,addr.type=unix,addr.path=net.sock");
    list.pair("-device", format!("virtio-net-pci,netdev=private,mac={},romfile=", launch.mac));
    if !launch.forwards.is_empty() {
        let mut user = "user,id=publish,restrict=on,ipv6=off".to_owned();
        for (guest, host) in launch.forwards {
            user.push_str(&format!(",hostfwd=tcp:127.0.0.1:{host}-10.0.2.15:{guest}"));
        }
        list.pair("-netdev", user);
        list.pair("-device", format!("virtio-net-pci,netdev=publish,mac={},romfile=", launch.publish_mac));
    }
}

fn channels(list: &mut Arguments) {
    list.pair("-device", "virtio-rng-pci");
    list.pair("-device", "virtio-serial-pci");
    list.pair("-chardev", "socket,id=control,path=control.sock,server=on,wait=off");
    list.pair("-device", format!("virtserialport,chardev=control,name={CONTROL_PORT}"));
    list.pair(
        "-chardev",
        "socket,id=console,path=console.sock,server=on,wait=off,logfile=console.log,logappend=on",
    );
    list.pair("-serial", "chardev:console");
    list.pair("-chardev", "socket,id=qmp,path=qmp.sock,server=on,wait=off");
    list.pair("-mon", "chardev=qmp,mode=control");
}
