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
use crate::throwaway::Throwaway;

/// Serial of the root disk, as on every image's kernel command line.
pub const ROOT_SERIAL: &str = "plumb-root";

/// Least and most translated code kept per instance, MiB. A boot of nginx makes 66 MiB of it, most of which runs once:
/// with 48 MiB it takes 4 % more processor time than with 64, with 32 MiB 13 %. QEMU's own default is 1 GiB.
const TCG_CACHE_MIB: (u64, u64) = (48, 128);

/// What the emulated processor offers: x86-64-v2 (psABI), which current binaries may be built for, and a random number
/// instruction, so that the guest's generator is ready at once.
const TCG_PROCESSOR: &str = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand";

/// The machine that QEMU plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Board {
    /// `microvm`: nothing but PCI Express, a serial port and a clock, and a firmware that only hands over to the kernel.
    Microvm,
    /// `q35`: a whole PC, for a QEMU that has no other.
    Q35,
}

impl Board {
    /// Value of `-machine`. What a Linux guest on virtio never uses is left out: each device that is there is probed.
    fn machine(self) -> &'static str {
        match self {
            // PCI rather than virtio-mmio: there every queue has 1024 places, and the buffers in them take 14 MB of the
            // guest's memory. Without a clock chip the kernel waits a second for each of its answers.
            Board::Microvm => "microvm,acpi=on,pcie=on,rtc=on",
            Board::Q35 => "q35,vmport=off,usb=off,i8042=off,sata=off,smbus=off",
        }
    }
}

/// Everything that decides the command line.
pub(crate) struct Launch<'a> {
    pub start: &'a StartInstance,
    pub dir: &'a InstanceDir,
    pub accelerator: &'a Accelerator,
    pub board: Board,
    /// Where QEMU reads the initramfs of this boot.
    pub initrd: &'a Path,
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
    machine(&mut list, launch.accelerator, launch.board, start.memory_mib);
    list.pair("-m", format!("{}M", start.memory_mib));
    list.pair("-smp", start.cpus.to_string());
    if let Some(image) = &start.image {
        list.pair("-kernel", image.kernel.clone().into_os_string());
        list.pair("-initrd", launch.initrd.as_os_str());
        list.pair("-append", kernel_command_line(&image.cmdline, launch.accelerator, launch.board));
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

/// The command line of a machine that runs once, reaches nobody and is reached by nobody: no network, no channel.
pub(crate) fn throwaway_arguments(wanted: &Throwaway<'_>, accelerator: &Accelerator) -> Vec<OsString> {
    let mut list = Arguments(Vec::new());
    list.pair("-name", "plumb-build");
    // The board that every QEMU has: a build is no boot whose time counts.
    let board = Board::Q35;
    machine(&mut list, accelerator, board, wanted.memory_mib);
    list.pair("-m", format!("{}M", wanted.memory_mib));
    list.pair("-kernel", wanted.image.kernel.clone().into_os_string());
    list.pair("-initrd", wanted.image.initrd.clone().into_os_string());
    list.pair("-append", kernel_command_line(&wanted.image.cmdline, accelerator, board));
    disk(&mut list, 0, ROOT_SERIAL, &wanted.image.root, Access::SharedRead);
    disk(&mut list, 1, wanted.answer_serial, wanted.answer, Access::OwnWrite);
    list.pair("-rtc", format!("base={},clock=vm", wanted.clock));
    list.pair("-chardev", "file,id=console,path=console.log");
    list.pair("-serial", "chardev:console");
    list.0
}

fn machine(list: &mut Arguments, accelerator: &Accelerator, board: Board, memory_mib: u64) {
    for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
        list.flag(flag);
    }
    list.pair("-display", "none");
    list.pair("-machine", board.machine());
    // QEMU cannot start programs, change its user or its priority any more, should a guest take it over.
    list.pair("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    match accelerator.kind {
        AcceleratorKind::Kvm => {
            list.pair("-accel", "kvm");
            list.pair("-cpu", "host");
        }
        AcceleratorKind::Tcg => {
            list.pair("-accel", format!("tcg,thread=multi,tb-size={}", tcg_cache_mib(memory_mib)));
            list.pair("-cpu", TCG_PROCESSOR);
        }
    }
}

/// A quarter of the machine's memory: what runs in more memory has more code that it runs often.
fn tcg_cache_mib(memory_mib: u64) -> u64 {
    (memory_mib / 4).clamp(TCG_CACHE_MIB.0, TCG_CACHE_MIB.1)
}

/// Under TCG the guest's timers are late on a loaded host: its timer test would make it panic, and its measurement of
/// the counter takes long and comes out wrong; `microvm` has nothing to measure by. The counter is the host's, so it can
/// be relied on; else the kernel would compare it with its own late ticks and fall back to a clock of 4 ms. Under KVM
/// the guest learns the rate from the hypervisor (kvm-clock).
///
/// `noreplace-smp`: on one processor the kernel takes the locks out of its code, place by place. QEMU then throws away what
/// it has translated around each, a twentieth of a boot, and a lock costs an emulated processor nothing.
fn kernel_command_line(image: &str, accelerator: &Accelerator, board: Board) -> String {
    let khz = accelerator.tsc_khz;
    match (accelerator.kind, board) {
        (AcceleratorKind::Kvm, _) => image.to_owned(),
        (AcceleratorKind::Tcg, Board::Q35) => {
            format!("{image} no_timer_check noreplace-smp tsc_early_khz={khz}")
        }
        (AcceleratorKind::Tcg, Board::Microvm) => {
            format!("{image} no_timer_check noreplace-smp tsc_early_khz={khz} tsc=reliable")
        }
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
    // Port 0 is reserved. Each port that could be there takes two queues from the boot.
    list.pair("-device", "virtio-serial-pci,max_ports=2");
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use plumb_guest_proto::{FORMAT, InstanceSpec};

    use super::*;
    use crate::driver::{ImagePaths, VolumeDisk};

    fn start() -> StartInstance {
        StartInstance {
            deployment: "shop".into(),
            instance: "db-1".into(),
            machine: "db".into(),
            generation: 1,
            release: "shop@1".into(),
            label: "l".into(),
            image: Some(ImagePaths {
                digest: "sha256:00".into(),
                kernel: "/s/kernel".into(),
                initrd: "/s/initrd".into(),
                root: "/s/ro,ot".into(),
                cmdline: "quiet".into(),
            }),
            memory_mib: 256,
            cpus: 1,
            spec: InstanceSpec {
                format: FORMAT,
                deployment: "shop".into(),
                instance: "db-1".into(),
                machine: "db".into(),
                release: "shop@1".into(),
                generation: 1,
                interfaces: vec![],
                peers: vec![],
                volumes: vec![],
                idle: false,
                config: std::collections::BTreeMap::new(),
            },
            volumes: vec![VolumeDisk { serial: "v-data".into(), path: PathBuf::from("/v/data.raw") }],
            publish: vec![80],
        }
    }

    /// The values of an option.
    fn values(board: Board, kind: AcceleratorKind, option: &str) -> Vec<String> {
        let accelerator =
            Accelerator { kind, reason: String::new(), hint: None, tsc_khz: 2_000_000, fresh: false };
        let start = start();
        let words = arguments(&Launch {
            board,
            start: &start,
            dir: &InstanceDir(PathBuf::from("/r")),
            initrd: Path::new("/r/initrd"),
            accelerator: &accelerator,
            title: "t",
            mac: "52:54:00:00:00:01",
            publish_mac: "56:54:00:00:00:01",
            forwards: &BTreeMap::from([(80, 40_080)]),
        });
        let words: Vec<String> = words.into_iter().map(|word| word.into_string().unwrap()).collect();
        words.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].clone()).collect()
    }

    #[test]
    fn both_machines_have_the_same_devices() {
        let devices = values(Board::Microvm, AcceleratorKind::Tcg, "-device");
        assert_eq!(devices, values(Board::Q35, AcceleratorKind::Tcg, "-device"));
        assert_eq!(
            devices,
            [
                "virtio-blk-pci,drive=disk0,serial=plumb-root",
                "virtio-blk-pci,drive=disk1,serial=v-data,write-cache=on",
                "virtio-net-pci,netdev=private,mac=52:54:00:00:00:01,romfile=",
                "virtio-net-pci,netdev=publish,mac=56:54:00:00:00:01,romfile=",
                "virtio-rng-pci",
                "virtio-serial-pci,max_ports=2",
                "virtserialport,chardev=control,name=plumb.control",
            ]
        );
        assert!(values(Board::Q35, AcceleratorKind::Kvm, "-blockdev")[0].contains("/s/ro,ot"));
    }

    #[test]
    fn the_guest_is_told_the_rate_of_its_counter_unless_kvm_does() {
        let line = |board, kind| values(board, kind, "-append").remove(0);
        assert_eq!(line(Board::Microvm, AcceleratorKind::Kvm), "quiet");
        assert_eq!(line(Board::Q35, AcceleratorKind::Kvm), "quiet");
        assert_eq!(
            line(Board::Q35, AcceleratorKind::Tcg),
            "quiet no_timer_check noreplace-smp tsc_early_khz=2000000"
        );
        assert_eq!(
            line(Board::Microvm, AcceleratorKind::Tcg),
            "quiet no_timer_check noreplace-smp tsc_early_khz=2000000 tsc=reliable"
        );
    }

    #[test]
    fn translated_code_is_bounded() {
        assert_eq!([80, 256, 4096].map(tcg_cache_mib), [48, 64, 128]);
    }

    #[test]
    fn every_machine_is_sandboxed() {
        for kind in [AcceleratorKind::Kvm, AcceleratorKind::Tcg] {
            let sandbox = values(Board::Microvm, kind, "-sandbox");
            assert_eq!(sandbox, ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]);
        }
    }
}
