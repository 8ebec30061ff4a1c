//! The local target with real QEMU processes (paused, without an image) and real keepers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plumb_guest_proto::{FORMAT, InstanceSpec, Interface};
use plumb_target::{
    Accelerator, AcceleratorKind, InstanceState, Local, LocalPaths, Publication, Qemu, Readiness,
    StartInstance, Started, Stopped, Target, TargetError, VolumeDisk, keeper,
};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for something that takes well under a second on a quiet machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Not a test of its own: the keeper process of the tests below runs in here.
#[test]
fn keeper_child() {
    if let Some(dir) = std::env::var_os("PLUMB_TEST_KEEPER") {
        keeper::run(Path::new(&dir)).unwrap();
    }
}

struct World {
    local: Local,
    temp: tempfile::TempDir,
    run: PathBuf,
}

impl World {
    fn new(below: &str) -> World {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join(below);
        fs::create_dir_all(&base).unwrap();
        // The test program stands in for `plumb`: it is run again with the keeper as its only test.
        let exe = temp.path().join("plumb");
        let test = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\n[ \"$1\" = keeper ] || exit 64\nPLUMB_TEST_KEEPER=\"$2\" exec '{}' --exact keeper_child --nocapture\n",
            test.display()
        );
        fs::write(&exe, script).unwrap();
        fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
        let run = base.join("run").join("shop-dev");
        let paths = LocalPaths { run: run.clone(), volumes: base.join("volumes").join("shop-dev") };
        let accelerator = Accelerator {
            kind: AcceleratorKind::Tcg,
            reason: "test".into(),
            hint: None,
            tsc_khz: 2_000_000,
            fresh: false,
        };
        let local = Local::new(paths, exe).with_engine(Qemu::find().unwrap(), accelerator);
        World { local, temp, run }
    }

    fn pid(&self, name: &str) -> Option<u32> {
        self.local.observe().unwrap().into_iter().find(|seen| seen.name == name).and_then(|seen| seen.pid)
    }

    fn links(&self) -> usize {
        let status = self.local.keeper_status().unwrap_or_default();
        status.links.values().filter(|link| link.connected).count()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = self.local.teardown(Duration::ZERO) {
            eprintln!("teardown: {error}");
        }
    }
}

fn instance(name: &str, number: u8) -> StartInstance {
    StartInstance {
        deployment: "shop-dev".into(),
        instance: name.into(),
        machine: "web".into(),
        generation: 3,
        release: "shop@1".into(),
        label: "first".into(),
        image: None,
        memory_mib: 16,
        cpus: 1,
        spec: InstanceSpec {
            idle: false,
            format: FORMAT,
            deployment: "shop-dev".into(),
            instance: name.into(),
            machine: "web".into(),
            release: "shop@1".into(),
            generation: 3,
            interfaces: vec![Interface {
                mac: format!("52:54:00:00:00:{number:02x}"),
                address: [10, 7, 0, number].into(),
                prefix: 24,
                gateway: None,
            }],
            peers: vec![],
            volumes: vec![],
            config: std::collections::BTreeMap::new(),
        },
        volumes: vec![],
        publish: vec![],
    }
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn an_instance_from_start_to_teardown() {
    let world = World::new("home");
    let local = &world.local;
    let volume = local.create_volume("web-data-1", 1 << 20).unwrap();
    let mut wanted = instance("web-1", 1);
    wanted.publish = vec![80, 443];
    wanted.volumes = vec![VolumeDisk { serial: "data".into(), path: volume.path.clone() }];
    assert_eq!(local.start_instance(&wanted).unwrap(), Started::Now);
    let pid = world.pid("web-1").unwrap();
    assert_eq!(local.start_instance(&wanted).unwrap(), Started::Already);
    assert_eq!(world.pid("web-1"), Some(pid));

    let seen = &local.observe().unwrap()[0];
    assert_eq!((seen.state, seen.generation, seen.release.as_str()), (InstanceState::Running, 3, "shop@1"));
    assert!(seen.usage.rss_kib > 1000 && !seen.is_ready());
    until("network and control channel are up", || {
        let status = local.keeper_status().unwrap_or_default();
        world.links() == 1 && status.guests["web-1"].connected
    });

    let newer = StartInstance { generation: 4, release: "shop@2".into(), ..wanted.clone() };
    assert!(matches!(local.start_instance(&newer), Err(TargetError::RunsOther { generation: 3, .. })));
    let older = StartInstance { generation: 2, ..wanted.clone() };
    assert!(matches!(local.start_instance(&older), Err(TargetError::StaleGeneration { recorded: 3, .. })));
    assert!(matches!(local.remove_volume("web-data-1"), Err(TargetError::VolumeInUse { .. })));
    assert!(matches!(local.remove_instance("web-1"), Err(TargetError::StillRuns { .. })));

    // The guest is paused and cannot shut down, so QEMU is asked to quit.
    assert_eq!(local.stop_instance("web-1", Duration::ZERO).unwrap(), Stopped::Quit);
    assert_eq!(local.stop_instance("web-1", Duration::ZERO).unwrap(), Stopped::Already);
    assert_eq!(local.observe().unwrap()[0].state, InstanceState::Exited);
    assert_eq!(local.start_instance(&newer).unwrap(), Started::Now);
    assert_ne!(world.pid("web-1").unwrap(), pid);

    local.teardown(Duration::ZERO).unwrap();
    assert!(!world.run.exists());
    assert_eq!(local.observe().unwrap(), []);
    assert_eq!(local.volumes().unwrap(), [volume]);
    local.remove_volume("web-data-1").unwrap();
    local.teardown(Duration::ZERO).unwrap();
}

#[test]
fn a_second_writer_of_a_volume_is_refused_by_qemu() {
    let world = World::new("home");
    let volume = world.local.create_volume("data-1", 1 << 20).unwrap();
    let disks = vec![VolumeDisk { serial: "data".into(), path: volume.path }];
    world.local.start_instance(&StartInstance { volumes: disks.clone(), ..instance("web-1", 1) }).unwrap();
    let second = world.local.start_instance(&StartInstance { volumes: disks, ..instance("web-2", 2) });
    match second {
        Err(TargetError::QemuStart { instance, output, .. }) => {
            assert_eq!(instance, "web-2");
            assert!(output.contains("lock"), "{output}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.pid("web-2"), None);
}

#[test]
fn the_truth_after_kills() {
    let world = World::new("home");
    let local = &world.local;
    for (name, number) in [("web-1", 1), ("web-2", 2)] {
        local.start_instance(&instance(name, number)).unwrap();
    }
    until("both links are up", || world.links() == 2);
    let keeper = local.ensure_keeper().unwrap().unwrap();
    kill(keeper);
    until("the keeper is gone", || local.keeper_status().is_none());
    let again = local.ensure_keeper().unwrap().unwrap();
    assert_ne!(keeper, again);
    until("both links are back", || world.links() == 2);

    kill(world.pid("web-2").unwrap());
    until("the kill is seen", || world.pid("web-2").is_none());
    let wait = local.wait_ready("web-2", LIMIT, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(matches!(&wait, Readiness::NotReady { reason, .. } if reason == "QEMU has ended"), "{wait:?}");
    let states: Vec<InstanceState> = local.observe().unwrap().iter().map(|seen| seen.state).collect();
    assert_eq!(states, [InstanceState::Running, InstanceState::Exited]);
    local.clean().unwrap();
    assert!(world.pid("web-1").is_some());
    assert!(!world.run.join("instances/web-2/qmp.sock").exists());

    // A kill of the command right after the start of QEMU: the record does not know the process yet.
    let path = world.run.join("instances/web-1/instance.json");
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let process = record["process"].take();
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(world.pid("web-1").map(u64::from), process["pid"].as_u64());
    assert_eq!(local.start_instance(&instance("web-1", 1)).unwrap(), Started::Already);

    // A reboot of the host: same pid file, another boot.
    let pid = world.pid("web-1").unwrap();
    record["host_boot"] = "another".into();
    fs::write(&path, record.to_string()).unwrap();
    assert_eq!(local.observe().unwrap()[0].state, InstanceState::Stale);
    assert_eq!(local.stop_instance("web-1", LIMIT).unwrap(), Stopped::Already);
    kill(pid);
}

#[test]
fn published_ports_are_refused_clearly_and_come_back() {
    let world = World::new("home");
    let local = &world.local;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let publication = Publication {
        address: [127, 0, 0, 1].into(),
        host_port: port,
        guest_port: 80,
        instances: vec!["web-1".into()],
    };
    let error = local.set_published(std::slice::from_ref(&publication)).unwrap_err().to_string();
    assert!(error.starts_with(&format!("port {port} on 127.0.0.1 cannot be opened: Address already in use")));
    assert!(error.contains(&format!("held by process {}", std::process::id())), "{error}");
    drop(taken);
    // A process that another test is just starting may hold a copy of the listener until its exec.
    until("the freed port can be published", || {
        local.set_published(std::slice::from_ref(&publication)).is_ok()
    });
    let open = || local.keeper_status().is_some_and(|status| status.published.iter().all(|port| port.open));
    assert!(open());
    local.start_instance(&instance("web-1", 1)).unwrap();
    kill(local.ensure_keeper().unwrap().unwrap());
    until("the keeper is gone", || local.keeper_status().is_none());
    local.ensure_keeper().unwrap();
    until("the port is open again", open);
    local.set_published(&[]).unwrap();
    until("the port is free", || TcpListener::bind(("127.0.0.1", port)).is_ok());
}

#[test]
fn long_and_strange_paths_work() {
    let below = format!("{} with, comma/{}", "d".repeat(80), "e".repeat(80));
    let world = World::new(&below);
    let volume = world.local.create_volume("data-1", 1 << 20).unwrap();
    let mut wanted = instance("web-1", 1);
    wanted.volumes = vec![VolumeDisk { serial: "data".into(), path: volume.path }];
    world.local.start_instance(&wanted).unwrap();
    until("the link is up", || world.links() == 1);
    let mut console = plumb_target::connect(&world.local.console_socket("web-1").unwrap()).unwrap();
    console.write_all(b"\n").unwrap();
    assert_eq!(world.local.console_tail("web-1", 10).unwrap(), Vec::<String>::new());
    assert_eq!(world.local.stop_instance("web-1", Duration::ZERO).unwrap(), Stopped::Quit);
    assert_eq!(console.read(&mut [0; 1]).unwrap_or(0), 0);
    world.local.remove_instance("web-1").unwrap();
    assert_eq!(world.local.observe().unwrap(), []);
}

#[test]
fn a_keeper_ends_with_its_directory() {
    let world = World::new("home");
    let pid = keeper::ensure(&world.run, &world.temp.path().join("plumb")).unwrap();
    assert_eq!(keeper::ensure(&world.run, &world.temp.path().join("plumb")).unwrap(), pid);
    fs::remove_dir_all(&world.run).unwrap();
    until("the keeper is gone", || {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.contains(") Z ")
    });
}

#[test]
fn a_start_that_fails_says_why() {
    let world = World::new("home");
    let error = world.local.start_instance(&StartInstance { memory_mib: 1 << 40, ..instance("web-1", 1) });
    assert!(matches!(&error, Err(TargetError::QemuStart { .. })), "{error:?}");
    let mut twice = instance("web-1", 1);
    twice.spec.interfaces.clear();
    assert!(matches!(world.local.start_instance(&twice), Err(TargetError::Request { .. })));
    let broken = World::new("other");
    let exe = PathBuf::from("/bin/false");
    let error = keeper::ensure(&broken.run, &exe).unwrap_err();
    assert!(matches!(error, TargetError::KeeperStart { .. }), "{error:?}");
}
