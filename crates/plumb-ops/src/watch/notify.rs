//! A program of the user's that hears of events: mail, a chat, a pager. Each is one JSON document on its standard input.
//!
//! Whoever watches never waits for it: what it has no time for is left out, and that is told. It gets no environment but what was
//! chosen for it, because that of a watcher may hold passwords.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use plumb_model::DeploymentName;

use super::{EventView, TICK};
use crate::cancel::Cancel;
use crate::clock;

/// Events that wait for the program: those of a host that comes up with some hundred instances.
const QUEUE: usize = 256;

/// Longest time of one run: a mail server that has to be tried twice.
const LIMIT: Duration = Duration::from_secs(30);

/// Time for what still waits when somebody wants an end.
const END_LIMIT: Duration = Duration::from_secs(3);

/// Longest text of an event that it gets, bytes: all of one fits into a pipe, so that writing it never waits.
const TEXT_LIMIT_BYTES: usize = 4096;

/// Who hears of events, and how it is run.
#[derive(Debug, Clone)]
pub struct Notify {
    /// The program.
    pub program: PathBuf,
    /// All of its environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// What waits for the program.
pub(super) struct Queue {
    sender: SyncSender<EventView>,
    lost: AtomicU64,
}

/// The other end.
pub(super) struct Waiting(Receiver<EventView>);

pub(super) fn queue() -> (Queue, Waiting) {
    let (sender, receiver) = sync_channel(QUEUE);
    (Queue { sender, lost: AtomicU64::new(0) }, Waiting(receiver))
}

impl Queue {
    /// Takes an event, if there is room.
    pub(super) fn offer(&self, event: &EventView) {
        let mut event = event.clone();
        if event.text.len() > TEXT_LIMIT_BYTES {
            let end = (0..=TEXT_LIMIT_BYTES).rfind(|at| event.text.is_char_boundary(*at)).unwrap_or_default();
            event.text.truncate(end);
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            event
                .text
                .push_str(&format!(" ({lost} events before this one were left out: the program was busy)"));
        }
        if self.sender.try_send(event).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

impl Waiting {
    /// Runs the program for each event, one after the other, until nothing more comes. Trouble with it is told once for each kind.
    pub(super) fn carry(
        &self,
        notify: &Notify,
        cancel: &Cancel,
        trouble_with: &dyn Fn(&DeploymentName, &str),
    ) {
        let mut told: Option<String> = None;
        let mut ends: Option<Instant> = None;
        while let Ok(event) = self.0.recv() {
            if cancel.is_set() {
                let end = *ends.get_or_insert_with(|| Instant::now() + END_LIMIT);
                if Instant::now() >= end {
                    return;
                }
            }
            let trouble = match run(notify, &event, cancel) {
                Ok(Some(status)) if status.success() => None,
                Ok(Some(status)) => Some(format!("ended with {status}")),
                Ok(None) => Some(format!("was ended: it took longer than {} s", LIMIT.as_secs())),
                Err(error) => Some(format!("could not be run: {error}")),
            };
            if let Some(why) = trouble.as_ref().filter(|_| trouble != told) {
                let text = format!("`{}`, which is to hear of events, {why}", notify.program.display());
                trouble_with(&event.deployment, &text);
            }
            told = trouble;
        }
    }
}

/// One run; `None` if it had to be ended.
fn run(notify: &Notify, event: &EventView, cancel: &Cancel) -> std::io::Result<Option<ExitStatus>> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let mut child = Command::new(&notify.program)
        .env_clear()
        .envs(notify.environment.iter().map(|(name, value)| (name, value)))
        .env("PLUMB_EVENT", event.kind)
        .env("PLUMB_DEPLOYMENT", event.deployment.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ended with all that it started.
        .process_group(0)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // Whoever does not want to read it need not.
        let _ = input.write_all(&line);
    }
    let status = wait(&mut child, cancel)?;
    if status.is_none() {
        let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            // It may have ended just now.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        child.wait()?;
    }
    Ok(status)
}

fn wait(child: &mut Child, cancel: &Cancel) -> std::io::Result<Option<ExitStatus>> {
    let mut end = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let now = Instant::now();
        if cancel.is_set() {
            end = end.min(now + END_LIMIT);
        }
        if now >= end {
            return Ok(None);
        }
        clock::pause(TICK);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Mutex;

    use plumb_state::EventKind;

    use super::*;

    fn event(text: &str) -> EventView {
        let name = "shop".parse().expect("a name");
        EventView::now(&name, EventKind::LeaseNotice, text, "ann@host")
    }

    /// What a program wrote into `out`, and what was told, after it heard of `events`.
    fn heard(script: &str, events: &[EventView]) -> (String, Vec<String>) {
        let folder = tempfile::tempdir().expect("a folder");
        let (program, out) = (folder.path().join("hear"), folder.path().join("out"));
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("writes");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("may be run");
        let environment = vec![("OUT".into(), out.clone().into()), ("PATH".into(), "/usr/bin:/bin".into())];
        let told = Mutex::new(Vec::new());
        let tell = |_: &DeploymentName, text: &str| told.lock().expect("one at a time").push(text.to_owned());
        let (queue, waiting) = queue();
        events.iter().for_each(|event| queue.offer(event));
        drop(queue);
        waiting.carry(&Notify { program, environment }, &Cancel::default(), &tell);
        (std::fs::read_to_string(out).unwrap_or_default(), told.into_inner().expect("not poisoned"))
    }

    #[test]
    fn a_program_hears_of_each_event_and_of_nothing_else() {
        let long = "x".repeat(100_000);
        let script =
            "echo \"$PLUMB_EVENT $PLUMB_DEPLOYMENT $CARGO_MANIFEST_DIR\" >> \"$OUT\"; cat >> \"$OUT\"";
        let (out, told) = heard(script, &[event("its lease ends"), event(&long)]);
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!((lines.len(), lines[0]), (4, "lease-notice shop "), "no other environment: {out}");
        let read: serde_json::Value = serde_json::from_str(lines[1]).expect("JSON");
        assert_eq!((&read["text"], &read["kind"]), (&"its lease ends".into(), &"lease-notice".into()));
        assert!(lines[3].len() < 2 * TEXT_LIMIT_BYTES);
        assert_eq!(told, [""; 0]);
    }

    #[test]
    fn one_that_fails_is_told_once_and_one_that_is_slow_loses_some() {
        let (_, told) = heard("exit 3", &[event("one"), event("two")]);
        assert_eq!(told.len(), 1);
        assert!(told[0].ends_with("ended with exit status: 3"), "{told:?}");
        let many: Vec<EventView> = (0..QUEUE + 5).map(|number| event(&number.to_string())).collect();
        let (queue, waiting) = queue();
        many.iter().for_each(|event| queue.offer(event));
        assert_eq!(waiting.0.try_recv().map(|event| event.text), Ok("0".to_owned()));
        queue.offer(&event("later"));
        let last = waiting.0.try_iter().last().expect("an event").text;
        assert!(last.starts_with("later (5 events before this one were left out"), "{last}");
    }

    #[test]
    fn whoever_wants_an_end_waits_for_no_program() {
        let cancel = Cancel::default();
        cancel.flag().store(true, Ordering::Release);
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().expect("runs");
        let begun = Instant::now();
        let ended = wait(&mut child, &cancel);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(ended.expect("waits").is_none() && begun.elapsed() < LIMIT);
    }
}
