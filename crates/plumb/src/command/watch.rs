//! `plumb watch`, `plumb agent`, `plumb journal`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plumb_ops::{Bond, Cancel, EventView, JournalWanted, Mode, Notify, OpsError, WatchWanted, local};

use super::{Session, listen, variable};
use crate::args::{Agent, AgentAction, Care, Journal, Leases, Watch};
use crate::output::{err, out};
use crate::render;

/// Name of the unit.
const UNIT: &str = "plumb-agent.service";

/// What a program that hears of events may know of the environment: enough to find others and to show something on a desktop. No
/// passwords.
const HEARS: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "TZ",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "DISPLAY",
];

/// How often a followed journal is looked at.
const FOLLOW: Duration = Duration::from_millis(500);

/// How far back a journal goes if nothing is said, seconds: a week.
const WEEK_S: i64 = 7 * 86_400;

pub(super) fn watch(session: &Session<'_>, arguments: &Watch) -> Result<(), OpsError> {
    let cancel = Cancel::default();
    listen(&cancel)?;
    let mode = if arguments.dry_run { Mode::DryRun } else { Mode::Do };
    let reaping = arguments.care.leases.into();
    let notify = notify(&arguments.care)?;
    let wanted = WatchWanted { only: arguments.deployments.clone(), mode, reaping, notify };
    let tell = |event: &EventView| {
        session.live.clear();
        print(event, session.global.json);
    };
    let bond = Bond { cancel: &cancel, tell: &tell, alive: &|| {} };
    if arguments.once {
        return session.plumb.watch_once(&wanted, bond);
    }
    if !session.global.json {
        err!("Watching; Ctrl-C ends it, and what runs goes on.");
    }
    session.plumb.watch(&wanted, bond)
}

pub(super) fn agent(session: &Session<'_>, arguments: &Agent) -> Result<(), OpsError> {
    match arguments.action {
        Some(AgentAction::Unit) => out!("{}", unit(session, &arguments.care)?.trim_end()),
        Some(AgentAction::Install) => {
            let path = unit_path()?;
            write(&path, &unit(session, &arguments.care)?)?;
            out!("{}", path.display());
            err!("hint: `systemctl --user enable --now plumb-agent` starts it, now and whenever you log in;");
            err!("      `loginctl enable-linger` has it run from boot on");
        }
        Some(AgentAction::Uninstall) => {
            let path = unit_path()?;
            match fs::remove_file(&path) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(OpsError::Io { action: "remove", path, source });
                }
                _ => err!("hint: `systemctl --user disable --now plumb-agent` ends one that runs"),
            }
        }
        None => serve(session, &arguments.care)?,
    }
    Ok(())
}

/// Watches for a service manager: it is told when watching begins and that it goes on (sd_notify(3)).
fn serve(session: &Session<'_>, care: &Care) -> Result<(), OpsError> {
    let cancel = Cancel::default();
    listen(&cancel)?;
    let reaping = care.leases.into();
    let wanted = WatchWanted { only: Vec::new(), mode: Mode::Do, reaping, notify: notify(care)? };
    let tell = |event: &EventView| print(event, session.global.json);
    // Whoever is started by hand has nobody to notify.
    let manager = |state| drop(sd_notify::notify(&[state]));
    manager(sd_notify::NotifyState::Ready);
    let alive = || manager(sd_notify::NotifyState::Watchdog);
    let outcome = session.plumb.watch(&wanted, Bond { cancel: &cancel, tell: &tell, alive: &alive });
    manager(sd_notify::NotifyState::Stopping);
    outcome
}

pub(super) fn journal(session: &Session<'_>, arguments: &Journal) -> Result<(), OpsError> {
    let now_s = plumb_ops::now_s();
    let ms = |seconds: i64| u64::try_from(seconds).unwrap_or_default().saturating_mul(1000);
    let mut wanted = JournalWanted {
        deployment: arguments.deployment.as_ref(),
        since_ms: ms(arguments.since.unwrap_or(now_s - WEEK_S)),
        until_ms: arguments.until.map_or(u64::MAX, ms),
        limit: arguments.lines,
    };
    let events = session.plumb.journal(&wanted)?;
    if session.global.json && !arguments.follow {
        render::json(&events);
        return Ok(());
    }
    if events.is_empty() && !arguments.follow {
        err!("Nothing happened in that time.");
    }
    events.iter().for_each(|event| print(event, session.global.json));
    if !arguments.follow {
        return Ok(());
    }
    // Several things happen in one millisecond: those of the last one were printed.
    let mut last = events;
    wanted.limit = u64::MAX;
    loop {
        #[expect(
            clippy::disallowed_methods,
            reason = "a table that grows gives nothing to wait on but time"
        )]
        std::thread::sleep(FOLLOW);
        wanted.since_ms = last.last().map_or(wanted.since_ms, |event| event.at_ms);
        let events = session.plumb.journal(&wanted)?;
        let fresh: Vec<&EventView> = events.iter().filter(|event| !last.contains(event)).collect();
        fresh.iter().for_each(|event| print(event, session.global.json));
        if !events.is_empty() {
            last = events;
        }
    }
}

/// One event, on one line.
fn print(event: &EventView, json: bool) {
    if json {
        out!("{}", serde_json::to_string(event).expect("texts and numbers"));
        return;
    }
    let time = local(i64::try_from(event.at_ms / 1000).unwrap_or(i64::MAX), "%Y-%m-%d %H:%M:%S");
    let who = match &event.instance {
        Some(instance) => format!("{}/{instance}", event.deployment),
        None => event.deployment.to_string(),
    };
    let by = if event.kind == "plan-begun" { format!(" (by {})", event.by) } else { String::new() };
    out!("{time}  {who}  {}{by}", event.text);
}

/// The unit: what the agent started outlives it, and a stuck one is started again.
fn unit(session: &Session<'_>, care: &Care) -> Result<String, OpsError> {
    let program = std::env::current_exe().map_err(|source| OpsError::Io {
        action: "find the program",
        path: PathBuf::from("/proc/self/exe"),
        source,
    })?;
    let home = session.plumb.home_path();
    Ok(format!(
        "[Unit]
Description=Plumb: keeps deployments alive
Documentation=man:plumb-agent(1)
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={} agent --quiet --home {}{}
# Virtual machines and the keepers of their networks go on while the agent is started again.
KillMode=process
Restart=always
RestartSec=5
WatchdogSec=120

[Install]
WantedBy=default.target
",
        quoted(&program),
        quoted(home),
        words(care)?
    ))
}

/// What the agent is to do otherwise than by default.
fn words(care: &Care) -> Result<String, OpsError> {
    let mut words = match care.leases {
        Leases::Delete => String::new(),
        Leases::Stop => " --leases stop".to_owned(),
        Leases::Notice => " --leases notice".to_owned(),
    };
    if let Some(program) = program(care)? {
        words.push_str(&format!(" --notify {}", quoted(&program)));
    }
    Ok(words)
}

/// The program that hears of events, by its whole path: a service has another folder.
fn program(care: &Care) -> Result<Option<PathBuf>, OpsError> {
    let Some(path) = &care.notify else { return Ok(None) };
    let failed = |source| OpsError::Io { action: "run", path: path.clone(), source };
    let whole = fs::canonicalize(path).map_err(failed)?;
    let mode = fs::metadata(&whole).map_err(failed)?.permissions().mode();
    if whole.is_file() && mode & 0o111 != 0 {
        return Ok(Some(whole));
    }
    Err(failed(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "it is no program")))
}

/// What it is run with.
fn notify(care: &Care) -> Result<Option<Notify>, OpsError> {
    let environment = HEARS.iter().filter_map(|name| Some(((*name).into(), variable(name)?.into())));
    Ok(program(care)?.map(|program| Notify { program, environment: environment.collect() }))
}

/// A path as a word of `ExecStart` (systemd.service(5), COMMAND LINES).
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{text}\"")
}

/// Where this user's systemd looks (systemd.unit(5), UNIT FILE LOAD PATH).
fn unit_path() -> Result<PathBuf, OpsError> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let config = config.ok_or_else(|| OpsError::Io {
        action: "find",
        path: PathBuf::from("~/.config"),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "`HOME` is not set"),
    })?;
    Ok(config.join("systemd/user").join(UNIT))
}

fn write(path: &Path, text: &str) -> Result<(), OpsError> {
    let failed = |source| OpsError::Io { action: "write", path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // Whole or not at all: systemd may read it at any time.
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, path)).map_err(failed)
}
