//! What happens to a service and what has to be done for it: the language between `lifecycle` and `runtime`.

use plumb_guest_proto::{Command, ServiceSpec};

use super::restart::Exit;

/// Which process of a service is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The service itself.
    Main,
    /// A command before, after or around it.
    Control,
    /// A readiness command; the lifecycle never sees it end, only its verdict.
    Check,
}

/// Which list of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `prepare`.
    Prepare,
    /// `ExecStartPre=`.
    StartPre,
    /// `ExecStart=`.
    Start,
    /// `ExecStartPost=`.
    StartPost,
    /// `ExecStop=`.
    Stop,
}

/// What happened to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// All services in `after` are ready.
    Proceed,
    /// The machine shuts down.
    Stop,
    /// Only time has passed.
    Tick,
    /// A command could not be started.
    NotStarted(Role, String),
    /// The main program is running (execve succeeded).
    Executed,
    /// A process ended.
    Exited(Role, Exit),
    /// `READY=1`.
    Notified,
    /// The main process of a forking service is known.
    MainFound,
    /// It is not known yet; the text says why.
    MainUnknown(String),
    /// The daemon left processes behind but none of them is known as the main one.
    MainNone,
    /// The verdict of a readiness check.
    Checked(Result<(), String>),
    /// No process of the service is left.
    GroupEmpty,
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The main process.
    Main,
    /// The running command.
    Control,
    /// Every process of the service.
    Group,
}

/// What has to be done for a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A new run begins: directories, environment files.
    Begin,
    /// Start a command in this role.
    Run(Stage, usize, Role),
    /// Find out the main process of a forking service.
    FindMain,
    /// Start a readiness check.
    Check,
    /// Forget the running check.
    CancelCheck,
    /// Send a signal.
    Signal(Target, i32),
    /// SIGKILL to every process of the service.
    KillAll,
}

/// One command of a service.
pub fn command(spec: &ServiceSpec, stage: Stage, index: usize) -> Option<&Command> {
    let list = match stage {
        Stage::Prepare => &spec.prepare,
        Stage::StartPre => &spec.start_pre,
        Stage::Start => &spec.start,
        Stage::StartPost => &spec.start_post,
        Stage::Stop => &spec.stop,
    };
    list.get(index)
}

/// A command of a service for a message: "start-pre `/usr/bin/test`".
pub fn command_name(spec: &ServiceSpec, stage: Stage, index: usize) -> String {
    let name = match stage {
        Stage::Prepare => "prepare",
        Stage::StartPre => "start-pre",
        Stage::Start => "start",
        Stage::StartPost => "start-post",
        Stage::Stop => "stop",
    };
    let program = command(spec, stage, index).and_then(|command| command.argv.first());
    format!("{name} `{}`", program.map_or("", String::as_str))
}
