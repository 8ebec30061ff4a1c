//! The keeper: one small process per deployment that holds the private network, the published ports and the control
//! channels of its instances.
//!
//! It may be killed at any moment: its whole wanted configuration is in `keeper.json`, QEMU listens again on every
//! socket it loses, and [`ensure`] starts a new keeper that attaches to everything. It ends by itself when the
//! directory of its deployment is gone.

pub(crate) mod client;
pub(crate) mod request;
mod server;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::clock::pause;
use crate::error::{At, TargetError};
use crate::file;
use crate::layout::RunDir;
use crate::socket;
use client::Client;
use request::{FORMAT, Reply, Request};
use server::Server;

/// The hidden subcommand: `<exe> keeper <run directory>` must call [`run`].
pub const SUBCOMMAND: &str = "keeper";

/// How often records are written out and lost ports are tried again.
const TICK: Duration = Duration::from_millis(250);

/// Ticks between two looks at the size of the consoles: a guest writes some MB per second at most.
const TICKS_PER_BOUND: u64 = 4;

/// How long a new keeper may take to answer; it needs milliseconds on a quiet machine.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Pause between two looks for its answer.
const START_TICK: Duration = Duration::from_millis(5);

/// Size at which the keeper's own log is started anew.
const MAX_LOG_BYTES: u64 = 1024 * 1024;

/// Runs the keeper of the deployment in `dir` until it is told to quit or `dir` is gone. A second keeper of the same
/// directory ends at once.
///
/// # Errors
/// If the directory cannot be used or its socket cannot be opened.
pub fn run(dir: &Path) -> Result<(), TargetError> {
    // Not a child of the terminal any more. It fails only for a process that leads a group already.
    let _ = rustix::process::setsid();
    let dir = fs::canonicalize(dir).at("find", dir)?;
    let run = RunDir(dir.clone());
    let lock = file::create_or_open(&run.keeper_lock())?;
    match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(()),
        other => other.at("lock", &run.keeper_lock())?,
    }
    let identity = identity(&dir).at("find", &dir)?;
    let server = Arc::new(Server::new(run.clone())?);
    server.restore();
    // The lock is ours, so a socket that is there belongs to a dead keeper.
    file::remove(&run.keeper_socket())?;
    let listener = socket::listen(&run.keeper_socket()).at("listen on", &run.keeper_socket())?;
    let door = Arc::clone(&server);
    std::thread::Builder::new()
        .name("door".into())
        .spawn(move || door.accept_all(&listener))
        .at("start a thread for", &dir)?;
    eprintln!("keeper {} of `{}` is up", std::process::id(), dir.display());
    watch(&server, &dir, identity);
    eprintln!("keeper {} ends", std::process::id());
    if self::identity(&dir).is_ok_and(|now| now == identity) {
        file::remove(&run.keeper_socket())?;
    }
    Ok(())
}

fn identity(dir: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(dir).map(|data| (data.dev(), data.ino()))
}

fn watch(server: &Server, dir: &Path, born: (u64, u64)) {
    let mut ticks = 0_u64;
    while !server.wait_quit(TICK) {
        if !identity(dir).is_ok_and(|now| now == born) {
            eprintln!("`{}` is gone", dir.display());
            return;
        }
        server.tick(ticks.is_multiple_of(TICKS_PER_BOUND));
        ticks += 1;
    }
}

/// Makes sure that a keeper of `dir` runs and answers; starts `exe` if not. Returns its process id.
///
/// # Errors
/// If it cannot be started or does not answer.
pub fn ensure(dir: &Path, exe: &Path) -> Result<u32, TargetError> {
    let run = RunDir(dir.to_owned());
    file::make_dir(&run.instances())?;
    if let Some(pid) = current(&run)? {
        return Ok(pid);
    }
    let mut child = spawn(&run, exe)?;
    let end = Instant::now() + START_LIMIT;
    loop {
        if let Some(pid) = current(&run)? {
            return Ok(pid);
        }
        let ended = child.try_wait().at("wait for", exe)?;
        if Instant::now() >= end || ended.is_some_and(|status| !status.success()) {
            let output = file::tail(&run.keeper_log(), 5)?.join("\n");
            return Err(TargetError::KeeperStart { dir: dir.to_owned(), output });
        }
        if ended.is_some() {
            // Another keeper had the lock: it answers soon, or was just quitting.
            child = spawn(&run, exe)?;
        }
        pause(START_TICK);
    }
}

/// The process id of a keeper that answers in our format. One of another format is told to quit.
fn current(run: &RunDir) -> Result<Option<u32>, TargetError> {
    let Ok(mut client) = Client::open(run) else { return Ok(None) };
    match client.ask(&Request::Ping) {
        Ok(Reply::Pong { format: FORMAT, pid }) => Ok(Some(pid)),
        // A keeper that dies in the middle is no keeper; one of another version has to go.
        Ok(_) | Err(_) => {
            if let Ok(mut client) = Client::open(run) {
                drop(client.ask(&Request::Quit));
            }
            Ok(None)
        }
    }
}

fn spawn(run: &RunDir, exe: &Path) -> Result<Child, TargetError> {
    let path = run.keeper_log();
    if fs::metadata(&path).is_ok_and(|data| data.len() > MAX_LOG_BYTES) {
        file::remove(&path)?;
    }
    let log = file::append(&path)?;
    let error_log = log.try_clone().at("open", &path)?;
    let dir: PathBuf = fs::canonicalize(&run.0).at("find", &run.0)?;
    Command::new(exe)
        .arg(SUBCOMMAND)
        .arg(dir)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(error_log)
        .spawn()
        .at("run", exe)
}
