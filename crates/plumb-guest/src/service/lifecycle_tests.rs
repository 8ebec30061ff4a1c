//! The lifecycle played through without a process.

use std::collections::BTreeMap;

use plumb_guest_proto::{Command, Restart};

use super::*;

fn program(path: &str) -> Command {
    Command { argv: vec![path.into()], ignore_failure: false, privileged: false }
}

/// A simple service without restart and readiness.
pub fn spec() -> ServiceSpec {
    ServiceSpec {
        name: "a".into(),
        kind: ServiceKind::Simple,
        uid: 1000,
        gid: 1000,
        groups: vec![],
        prepare: vec![],
        start_pre: vec![],
        start: vec![program("/bin/a")],
        start_post: vec![],
        stop: vec![],
        environment: BTreeMap::new(),
        environment_files: vec![],
        working_directory: "/".into(),
        umask: 0o022,
        limits: BTreeMap::new(),
        nice: 0,
        oom_score_adjust: 0,
        directories: vec![],
        pid_file: None,
        restart: Restart::No,
        restart_delay_ms: 100,
        start_timeout_ms: 90_000,
        stop_timeout_ms: 10_000,
        kill_signal: libc::SIGTERM,
        kill_mode: KillMode::ControlGroup,
        remain_after_exit: false,
        success_exit_status: vec![],
        capability_bounding: 0,
        capability_ambient: 0,
        no_new_privileges: false,
        ready: None,
        ready_timeout_ms: 30_000,
        after: vec![],
    }
}

const RUN_MAIN: Action = Action::Run(Stage::Start, 0, Role::Main);

fn kill_group(signal: i32) -> Vec<Action> {
    vec![
        Action::CancelCheck,
        Action::Signal(Target::Group, signal),
        Action::Signal(Target::Group, libc::SIGCONT),
    ]
}

fn failed(service: &Lifecycle) -> String {
    match service.state() {
        ServiceState::Failed { reason } => reason,
        other => panic!("not failed: {other:?}"),
    }
}

#[test]
fn commands_run_in_order_and_simple_waits_for_exec() {
    let list = || vec![program("/bin/x")];
    let mut service =
        Lifecycle::new(ServiceSpec { prepare: list(), start_pre: list(), start_post: list(), ..spec() });
    let control = |stage| Action::Run(stage, 0, Role::Control);
    let done = Input::Exited(Role::Control, Exit::Code(0));
    assert_eq!(service.step(0, Input::Proceed), [Action::Begin, control(Stage::Prepare)]);
    assert_eq!(service.step(1, done.clone()), [control(Stage::StartPre)]);
    assert_eq!(service.step(2, done.clone()), [RUN_MAIN]);
    assert_eq!(service.state(), ServiceState::Starting);
    assert_eq!(service.step(3, Input::Executed), [control(Stage::StartPost)]);
    assert_eq!(service.step(4, done), []);
    assert_eq!(service.state(), ServiceState::Ready);
}

#[test]
fn a_failed_command_fails_the_start_unless_ignored() {
    let mut ignored = program("/bin/x");
    ignored.ignore_failure = true;
    let mut service = Lifecycle::new(ServiceSpec { start_pre: vec![ignored, program("/bin/y")], ..spec() });
    service.step(0, Input::Proceed);
    let next = service.step(1, Input::Exited(Role::Control, Exit::Code(1)));
    assert_eq!(next, [Action::Run(Stage::StartPre, 1, Role::Control)]);
    assert_eq!(service.step(2, Input::Exited(Role::Control, Exit::Code(3))), kill_group(15));
    assert!(service.awaits_empty_group());
    service.step(3, Input::GroupEmpty);
    assert_eq!(failed(&service), "start-pre `/bin/y` exited with status 3");
}

#[test]
fn readiness_is_polled_and_lost_after_three_failures() {
    let mut service = Lifecycle::new(ServiceSpec { ready: Some(Ready::Tcp { port: 1 }), ..spec() });
    service.step(0, Input::Proceed);
    assert_eq!(service.step(10, Input::Executed), [Action::Check]);
    let refused = || Input::Checked(Err("connection refused".into()));
    service.step(11, refused());
    assert_eq!(service.state(), ServiceState::Started);
    assert_eq!(service.next_tick(), Some(11 + limit::CHECK_FIRST_MS));
    assert_eq!(service.step(61, Input::Tick), [Action::Check]);
    service.step(62, Input::Checked(Ok(())));
    assert_eq!(service.state(), ServiceState::Ready);
    let mut now = 62 + limit::CHECK_READY_MS;
    for expected in [ServiceState::Ready, ServiceState::Ready, ServiceState::Started] {
        assert_eq!(service.step(now, Input::Tick), [Action::Check]);
        service.step(now, refused());
        assert_eq!(service.state(), expected);
        now += limit::CHECK_LOST_MS;
    }
    // Lost readiness never ends a run, however long it lasts.
    assert_eq!(service.step(now + 60_000, Input::Tick), [Action::Check]);
    service.step(now + 60_001, Input::Checked(Ok(())));
    assert_eq!(service.state(), ServiceState::Ready);
}

#[test]
fn never_ready_is_a_failed_start_with_the_last_answer() {
    let mut service = Lifecycle::new(ServiceSpec { ready: Some(Ready::Tcp { port: 1 }), ..spec() });
    service.step(0, Input::Proceed);
    service.step(0, Input::Executed);
    service.step(1, Input::Checked(Err("connection refused".into())));
    assert_eq!(service.step(30_000, Input::Tick)[1..], kill_group(15));
    service.step(30_001, Input::Exited(Role::Main, Exit::Signal(15)));
    service.step(30_001, Input::GroupEmpty);
    assert_eq!(failed(&service), "not ready after 30 s: connection refused");
}

#[test]
fn restarts_back_off_and_are_given_up() {
    let mut service = Lifecycle::new(ServiceSpec { restart: Restart::OnFailure, ..spec() });
    service.step(0, Input::Proceed);
    let mut now = 0;
    for delay in [100, 200, 400, 800] {
        service.step(now, Input::Executed);
        service.step(now + 1, Input::Exited(Role::Main, Exit::Code(1)));
        service.step(now + 1, Input::GroupEmpty);
        let reason = "exited with status 1".to_owned();
        assert_eq!(service.state(), ServiceState::Backoff { reason, delay_ms: delay });
        now += 1 + delay;
        assert_eq!(service.step(now, Input::Tick), [Action::Begin, RUN_MAIN]);
    }
    assert_eq!(service.restarts(), 4);
    service.step(now, Input::NotStarted(Role::Main, "cannot run `/bin/a`: No such file".into()));
    service.step(now, Input::GroupEmpty);
    assert_eq!(failed(&service), "given up after 5 failed starts: cannot run `/bin/a`: No such file");
}

#[test]
fn a_good_run_is_restarted_for_ever_and_a_long_one_resets_the_delay() {
    let mut service = Lifecycle::new(ServiceSpec { restart: Restart::Always, ..spec() });
    service.step(0, Input::Proceed);
    let mut now = 0;
    let mut delays = Vec::new();
    for run in 0..12 {
        service.step(now, Input::Executed);
        now += match run {
            0 => limit::GOOD_RUN_MS,
            10 => limit::RESTART_RESET_MS,
            _ => 1,
        };
        service.step(now, Input::Exited(Role::Main, Exit::Signal(11)));
        service.step(now, Input::GroupEmpty);
        let ServiceState::Backoff { delay_ms, .. } = service.state() else { panic!("{:?}", service.state()) };
        delays.push(delay_ms);
        now += delay_ms;
        service.step(now, Input::Tick);
    }
    assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 100, 200]);
}

#[test]
fn notify_waits_for_ready() {
    let mut service = Lifecycle::new(ServiceSpec { kind: ServiceKind::Notify, ..spec() });
    service.step(0, Input::Proceed);
    assert_eq!(service.step(1, Input::Executed), []);
    assert_eq!(service.state(), ServiceState::Starting);
    service.step(2, Input::Notified);
    assert_eq!(service.state(), ServiceState::Ready);

    let mut silent =
        Lifecycle::new(ServiceSpec { kind: ServiceKind::Notify, start_timeout_ms: 5_000, ..spec() });
    silent.step(0, Input::Proceed);
    silent.step(1, Input::Executed);
    silent.step(5_000, Input::Tick);
    silent.step(5_001, Input::GroupEmpty);
    assert_eq!(failed(&silent), "no READY=1 from the service after 5 s");
}

#[test]
fn forking_finds_its_main_process() {
    let mut service = Lifecycle::new(ServiceSpec { kind: ServiceKind::Forking, ..spec() });
    assert_eq!(service.step(0, Input::Proceed)[1], Action::Run(Stage::Start, 0, Role::Control));
    assert_eq!(service.step(1, Input::Exited(Role::Control, Exit::Code(0))), [Action::FindMain]);
    service.step(2, Input::MainUnknown("no `/run/a.pid`".into()));
    assert_eq!(service.step(2 + limit::MAIN_FIRST_MS, Input::Tick), [Action::FindMain]);
    // The pause grows with the wait.
    service.step(40, Input::MainUnknown("no `/run/a.pid`".into()));
    assert_eq!(service.next_tick(), Some(40 + 39));
    assert_eq!(service.step(79, Input::Tick), [Action::FindMain]);
    assert_eq!(service.times(), None);
    service.step(90, Input::MainFound);
    assert_eq!(service.state(), ServiceState::Ready);
    let times = service.times().expect("it is ready");
    assert_eq!((times.begun_ms, times.launched_ms, times.started_ms, times.ready_ms), (0, 0, 90, 90));
    assert!(!service.awaits_empty_group());
    assert_eq!(service.step(95, Input::Exited(Role::Main, Exit::Signal(9))), kill_group(15));

    let mut unknown = Lifecycle::new(ServiceSpec { kind: ServiceKind::Forking, ..spec() });
    unknown.step(0, Input::Proceed);
    unknown.step(1, Input::Exited(Role::Control, Exit::Code(0)));
    unknown.step(2, Input::MainNone);
    assert_eq!(unknown.state(), ServiceState::Ready);
    assert!(unknown.awaits_empty_group());
    unknown.step(3, Input::GroupEmpty);
    unknown.step(3, Input::GroupEmpty);
    assert_eq!(failed(&unknown), "all its processes ended");
}

#[test]
fn oneshot_is_done_after_its_last_command() {
    let start = vec![program("/bin/x"), program("/bin/y")];
    let mut service = Lifecycle::new(ServiceSpec { kind: ServiceKind::Oneshot, start, ..spec() });
    service.step(0, Input::Proceed);
    let next = service.step(1, Input::Exited(Role::Control, Exit::Code(0)));
    assert_eq!(next, [Action::Run(Stage::Start, 1, Role::Control)]);
    service.step(2, Input::Exited(Role::Control, Exit::Code(0)));
    assert_eq!(service.state(), ServiceState::Done);
    service.step(3, Input::Stop);
    assert!(service.is_ended() && service.is_stopping());
}

#[test]
fn stop_runs_its_commands_then_signals_then_kills() {
    let mut service =
        Lifecycle::new(ServiceSpec { stop: vec![program("/bin/stop")], kill_signal: 2, ..spec() });
    service.step(0, Input::Proceed);
    service.step(1, Input::Executed);
    let stop = [Action::CancelCheck, Action::Run(Stage::Stop, 0, Role::Control)];
    assert_eq!(service.step(2, Input::Stop), stop);
    assert_eq!(service.state(), ServiceState::Stopping);
    assert_eq!(service.step(3, Input::Exited(Role::Control, Exit::Code(1))), kill_group(2));
    assert_eq!(service.step(10_003, Input::Tick), [Action::KillAll]);
    service.step(10_004, Input::GroupEmpty);
    assert_eq!(service.state(), ServiceState::Stopped);
}

#[test]
fn a_process_that_survives_sigkill_is_given_up() {
    let mut service = Lifecycle::new(spec());
    service.step(0, Input::Proceed);
    service.step(0, Input::Executed);
    service.step(0, Input::Stop);
    service.step(10_000, Input::Tick);
    service.step(10_000 + limit::KILL_WAIT_MS, Input::Tick);
    assert_eq!(service.state(), ServiceState::Stopped);
}

#[test]
fn kill_modes() {
    let up = |kill_mode| {
        let mut service = Lifecycle::new(ServiceSpec { kill_mode, ..spec() });
        service.step(0, Input::Proceed);
        service.step(0, Input::Executed);
        service
    };
    let main =
        [Action::CancelCheck, Action::Signal(Target::Main, 15), Action::Signal(Target::Main, libc::SIGCONT)];
    let mut mixed = up(KillMode::Mixed);
    assert_eq!(mixed.step(1, Input::Stop), main);
    assert_eq!(mixed.step(2, Input::Exited(Role::Main, Exit::Signal(15))), [Action::KillAll]);
    let mut process = up(KillMode::Process);
    assert_eq!(process.step(1, Input::Stop), main);
    assert_eq!(process.step(10_001, Input::Tick), [Action::Signal(Target::Main, 9)]);
    assert_eq!(up(KillMode::None).step(1, Input::Stop), [Action::CancelCheck]);
}

#[test]
fn remain_after_exit() {
    let mut service = Lifecycle::new(ServiceSpec { remain_after_exit: true, ..spec() });
    service.step(0, Input::Proceed);
    service.step(0, Input::Executed);
    service.step(1, Input::Exited(Role::Main, Exit::Code(0)));
    assert_eq!(service.state(), ServiceState::Done);
}

#[test]
fn no_order_of_events_panics_or_hangs() {
    // A small deterministic walk: every event in every phase, in many orders.
    let inputs = [
        Input::Proceed,
        Input::Tick,
        Input::Executed,
        Input::Exited(Role::Main, Exit::Code(1)),
        Input::Exited(Role::Control, Exit::Code(0)),
        Input::Exited(Role::Control, Exit::Signal(9)),
        Input::Notified,
        Input::MainFound,
        Input::MainNone,
        Input::MainUnknown("x".into()),
        Input::Checked(Ok(())),
        Input::Checked(Err("no".into())),
        Input::GroupEmpty,
        Input::NotStarted(Role::Main, "x".into()),
    ];
    let kinds = [
        ServiceKind::Simple,
        ServiceKind::Exec,
        ServiceKind::Forking,
        ServiceKind::Notify,
        ServiceKind::Oneshot,
    ];
    let mut seed = 1u64;
    for round in 0..2000 {
        let mut service = Lifecycle::new(ServiceSpec {
            kind: kinds[round % kinds.len()],
            restart: Restart::Always,
            prepare: vec![program("/bin/p")],
            ready: (round % 2 == 0).then_some(Ready::Tcp { port: 1 }),
            ..spec()
        });
        let mut now = 0;
        for _ in 0..60 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            now += seed >> 50;
            let input = inputs[usize::try_from((seed >> 33) % 14).unwrap_or(0)].clone();
            service.step(now, input);
        }
        service.step(now, Input::Stop);
        // Time alone must bring every stop to its end.
        for _ in 0..10 {
            let Some(at) = service.next_tick() else { break };
            now = now.max(at);
            service.step(now, Input::Tick);
        }
        assert!(service.is_ended(), "{service:?}");
    }
}
