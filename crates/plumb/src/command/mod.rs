//! One file per command: calls one use case, renders what it returns.

mod advisory;
mod affected;
mod channel;
mod config;
mod console;
pub(crate) mod diff;
mod down;
mod evidence;
mod footprint;
mod fsck;
mod gc;
mod init;
mod lease;
mod lock;
mod logs;
mod manual;
mod plan;
mod ps;
mod release;
mod remote;
mod sbom;
mod secret;
mod state;
mod test;
mod trust;
mod up;
mod verify;
mod volume;
mod watch;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use plumb_model::SignerName;
use plumb_ops::{
    Cancel, Credentials, Environment, Home, OpsError, Options, Password, Plumb, Proxies, StateOptions,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::args::{Cli, Command, Global};
use crate::render::{self, Live};

/// What every command gets.
pub(crate) struct Session<'a> {
    pub(crate) plumb: Plumb<'a>,
    pub(crate) global: &'a Global,
    pub(crate) live: &'a Live,
}

/// Runs the command and turns its outcome into an exit code.
pub fn run(cli: Cli) -> ExitCode {
    match &cli.command {
        Command::Completions { shell } => return manual::completions(*shell),
        Command::Man { folder } => return manual::man(folder),
        Command::Keeper { folder } => return manual::keeper(folder),
        Command::Init(arguments) => return init::run(arguments, &cli.global),
        _ => {}
    }
    let live = Live::new(cli.global.quiet || cli.global.json);
    let outcome = open(&cli.global, &live).and_then(|plumb| dispatch(&cli, plumb, &live));
    live.clear();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => render::failure(&error, cli.global.json),
    }
}

fn dispatch(cli: &Cli, plumb: Plumb<'_>, live: &Live) -> Result<(), OpsError> {
    let session = Session { plumb, global: &cli.global, live };
    match &cli.command {
        Command::Lock(arguments) => lock::run(&session, arguments),
        Command::Build(arguments) => release::build(&session, arguments),
        Command::Release(arguments) => release::release(&session, arguments),
        Command::Log(arguments) => release::log(&session, arguments),
        Command::Show(arguments) => release::show(&session, arguments),
        Command::Footprint(arguments) => footprint::run(&session, arguments),
        Command::Why(arguments) => why::run(&session, arguments),
        Command::Sbom(arguments) => sbom::run(&session, arguments),
        Command::Diff(arguments) => diff::run(&session, arguments),
        Command::Channel(arguments) => channel::channel(&session, arguments),
        Command::Promote(arguments) => channel::promote(&session, arguments),
        Command::Demote(arguments) => channel::demote(&session, arguments),
        Command::Evidence(arguments) => evidence::evidence(&session, arguments),
        Command::Approve(arguments) => evidence::approve(&session, arguments),
        Command::Soak(arguments) => evidence::soak(&session, arguments),
        Command::Sign(arguments) => evidence::sign(&session, arguments),
        Command::Key(arguments) => trust::key(&session, arguments),
        Command::Trust(arguments) => trust::trust(&session, arguments),
        Command::Affected(arguments) => affected::run(&session, arguments),
        Command::Scan(arguments) => affected::scan(&session, arguments),
        Command::Advisory(arguments) => advisory::run(&session, &arguments.action),
        Command::Verify(arguments) => verify::run(&session, arguments),
        Command::Test(arguments) => test::run(&session, arguments),
        Command::Fsck(arguments) => fsck::run(&session, arguments),
        Command::Gc(arguments) => gc::run(&session, arguments),
        Command::Pin(arguments) => gc::pin(&session, arguments),
        Command::Unpin(arguments) => gc::unpin(&session, arguments),
        Command::Remote(arguments) => remote::remote(&session, arguments),
        Command::Push(arguments) => remote::push(&session, arguments),
        Command::Pull(arguments) => remote::pull(&session, arguments),
        Command::Clone(arguments) => remote::clone(&session, arguments),
        Command::Up(arguments) => up::up(&session, arguments),
        Command::Plan(arguments) => plan::run(&session, arguments),
        Command::Upgrade(arguments) => up::upgrade(&session, arguments),
        Command::Rollback(arguments) => up::rollback(&session, arguments),
        Command::Down(arguments) => down::run(&session, arguments),
        Command::Config(arguments) => config::run(&session, arguments),
        Command::Secret(arguments) => secret::run(&session, arguments),
        Command::Volume(arguments) => volume::run(&session, &arguments.action),
        Command::Ps(arguments) => ps::run(&session, arguments),
        Command::Watch(arguments) => watch::watch(&session, arguments),
        Command::Agent(arguments) => watch::agent(&session, arguments),
        Command::Journal(arguments) => watch::journal(&session, arguments),
        Command::Logs(arguments) => logs::run(&session, arguments),
        Command::Console(arguments) => console::run(&session, arguments),
        Command::Lease(arguments) => lease::lease(&session, arguments),
        Command::Reap(arguments) => lease::reap(&session, arguments),
        Command::Quota(arguments) => lease::quota(&session, arguments),
        Command::State(arguments) => state::run(&session, arguments),
        Command::Doctor => ps::doctor(&session),
        Command::Init(_) | Command::Completions { .. } | Command::Man { .. } | Command::Keeper { .. } => {
            Ok(())
        }
    }
}

fn open<'a>(global: &Global, live: &'a Live) -> Result<Plumb<'a>, OpsError> {
    let home = global.home.clone().unwrap_or_else(default_home);
    let program = std::env::current_exe().map_err(|source| OpsError::Io {
        action: "find the program",
        path: PathBuf::from("/proc/self/exe"),
        source,
    })?;
    let home = std::path::absolute(&home).map_err(|source| OpsError::Io {
        action: "find",
        path: home.clone(),
        source,
    })?;
    let proxies = Proxies::from_environment(&variable);
    let options = Options {
        offline: global.offline,
        proxies,
        environment: Environment::from_environment(&variable),
        program,
        signer: global.key.clone(),
        user: user_name(),
        state: state_options(),
        passphrase: render::passphrase::known,
        age_identity: variable("PLUMB_AGE_IDENTITY").map(PathBuf::from),
    };
    Plumb::open(Home::new(home), options, live)
}

/// The first signal asks a command to come to its end; the second ends this process at once, and the next command takes
/// away what is left.
pub(crate) fn listen(cancel: &Cancel) -> Result<(), OpsError> {
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let both = signal_hook::flag::register_conditional_default(signal, cancel.flag())
            .and_then(|_| signal_hook::flag::register(signal, cancel.flag()));
        both.map_err(|source| OpsError::Io {
            action: "listen to signals of",
            path: PathBuf::from("this process"),
            source,
        })?;
    }
    Ok(())
}

/// The door to the environment.
pub(crate) fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the door")]
    std::env::var(name).ok()
}

/// What the environment says of the state, with PostgreSQL's own words for passwords.
fn state_options() -> StateOptions {
    let own = || variable("HOME").map(|home| PathBuf::from(home).join(".pgpass"));
    // The name of the command only; what follows may be private.
    let command = std::env::args().nth(1).filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()));
    let user = variable("USER").or_else(|| variable("LOGNAME"));
    StateOptions {
        address: variable("PLUMB_STATE").filter(|address| !address.is_empty()),
        credentials: Credentials {
            password: variable("PGPASSWORD").map(Password::new),
            passfile: variable("PGPASSFILE").map(PathBuf::from).or_else(own),
        },
        user: user.unwrap_or_else(|| user_name().to_string()),
        clock: plumb_ops::LeaseClock::default(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        command: command.map_or_else(|| "plumb".to_owned(), |command| format!("plumb {command}")),
    }
}

/// Whose host this is, as a name of a signer: what a first key is called.
fn user_name() -> SignerName {
    let named =
        variable("USER").or_else(|| variable("LOGNAME")).and_then(|name| name.to_lowercase().parse().ok());
    named.unwrap_or_else(|| "owner".parse().expect("`owner` keeps the rules of a name"))
}

/// The XDG data folder (XDG Base Directory Specification 0.8).
fn default_home() -> PathBuf {
    let variable = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("/var/tmp"))
        .join("plumb")
}
