//! Stopping: ask the guest, then the hypervisor, then the kernel.

use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::Signal;

use super::Local;
use crate::clock::pause;
use crate::driver::{Stopped, Target};
use crate::error::{At, TargetError};
use crate::file;
use crate::identity::Live;
use crate::keeper::client::Client;
use crate::keeper::request::Request;
use crate::qmp;

/// How long a keeper may take to reach the guest's control channel: a new one needs milliseconds.
const TELL_LIMIT: Duration = Duration::from_secs(2);

/// Pause between two tries to tell the guest.
const TELL_TICK: Duration = Duration::from_millis(50);

/// How long QEMU may take to quit on request: it writes out what the guest has flushed.
const QUIT_LIMIT: Duration = Duration::from_secs(10);

/// How long it may take after SIGTERM.
const TERM_LIMIT: Duration = Duration::from_secs(5);

/// How long the kernel may take after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How long a keeper may take to quit.
const KEEPER_LIMIT: Duration = Duration::from_secs(10);

/// Pause between two looks whether it has.
const KEEPER_TICK: Duration = Duration::from_millis(5);

pub(super) fn stop(local: &Local, name: &str, grace: Duration) -> Result<Stopped, TargetError> {
    let stopped = match local.live(name)? {
        None => Stopped::Already,
        Some(live) => end(local, name, &live, grace)?,
    };
    let dir = local.dir(name)?;
    for path in dir.sockets().iter().chain([&dir.pid(), &dir.initrd()]) {
        file::remove(path)?;
    }
    Ok(stopped)
}

fn end(local: &Local, name: &str, live: &Live, grace: Duration) -> Result<Stopped, TargetError> {
    if !grace.is_zero() && tell_guest(local, name, live) && live.wait_end(grace) {
        return Ok(Stopped::Guest);
    }
    // QEMU closes the connection as it quits, so only its end counts.
    let _ = qmp::execute(&local.dir(name)?.qmp_socket(), "quit");
    if live.wait_end(QUIT_LIMIT) {
        return Ok(Stopped::Quit);
    }
    live.signal(Signal::TERM);
    if live.wait_end(TERM_LIMIT) {
        return Ok(Stopped::Quit);
    }
    live.signal(Signal::KILL);
    // A stopped (traced) process ends as well.
    if live.wait_end(KILL_LIMIT) {
        return Ok(Stopped::Killed);
    }
    Err(TargetError::Unkillable { instance: name.to_owned(), pid: live.process.pid })
}

/// Asks the guest to shut down. `false` if it cannot be told: it gets no time then, as it would not use it.
fn tell_guest(local: &Local, name: &str, live: &Live) -> bool {
    let end = Instant::now() + TELL_LIMIT;
    loop {
        if local.tell_keeper(&Request::ShutdownGuest { instance: name.to_owned() }).is_ok() {
            return true;
        }
        if Instant::now() >= end || live.wait_end(TELL_TICK) {
            return false;
        }
    }
}

/// Takes an instance off the network and out of the keeper's configuration.
pub(super) fn detach(local: &Local, name: &str) -> Result<(), TargetError> {
    if local.run().keeper_config().exists() {
        local.tell_keeper(&Request::Detach { instance: name.to_owned() })?;
    }
    Ok(())
}

pub(super) fn teardown(local: &Local, grace: Duration) -> Result<(), TargetError> {
    let end = Instant::now() + grace;
    let names = local.names()?;
    if !grace.is_zero() {
        // All guests go down at the same time, so the whole takes as long as the slowest one.
        for name in &names {
            if local.live(name)?.is_some() {
                // One that cannot be told yet is told again below.
                let _ = local.tell_keeper(&Request::ShutdownGuest { instance: name.clone() });
            }
        }
    }
    for name in names {
        local.stop_instance(&name, end.saturating_duration_since(Instant::now()))?;
    }
    let run = local.run();
    if !run.0.exists() {
        return Ok(());
    }
    quit_keeper(local)?;
    file::remove_tree(&run.instances())?;
    // Only what is ours: the directory itself goes if nothing else is in it.
    for path in [run.keeper_socket(), run.keeper_config(), run.keeper_log(), run.keeper_lock()] {
        file::remove(&path)?;
    }
    match std::fs::remove_dir(&run.0) {
        Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => other.at("remove", &run.0),
    }
}

/// Tells the keeper to quit and waits until its lock is free.
fn quit_keeper(local: &Local) -> Result<(), TargetError> {
    let run = local.run();
    let lock = file::create_or_open(&run.keeper_lock())?;
    let end = Instant::now() + KEEPER_LIMIT;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => {}
            other => return other.at("lock", &run.keeper_lock()),
        }
        // One that is just starting has no socket yet; it is told in the next round.
        if let Ok(mut client) = Client::open(&run) {
            drop(client.tell(&Request::Quit));
        }
        pause(KEEPER_TICK);
    }
}
