//! Waiting until an instance is ready, or will not be.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use plumb_guest_proto::{ServiceState, Status};

use super::Local;
use crate::driver::{Progress, Readiness, Target};
use crate::error::TargetError;
use crate::keeper::client::Client;
use crate::keeper::request::{Reply, Request};
use crate::record::GuestRecord;
use crate::volume;

/// How long one question to the keeper waits for news; also how soon a dead QEMU is seen if its guest never spoke.
const WATCH: Duration = Duration::from_millis(200);

/// How long the last words of a dead guest may take from the socket into the record.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);

/// Lines of the console that explain a failure.
const CONSOLE_LINES: usize = 40;

pub(super) fn wait_ready(
    local: &Local,
    name: &str,
    limit: Duration,
    news: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<Readiness, TargetError> {
    let Some(record) = local.record(name)? else {
        return Err(TargetError::NoInstance { instance: name.to_owned() });
    };
    let end = Instant::now() + limit;
    let mut watcher = Watcher { local, name, client: None, seen: 0, status: None };
    loop {
        let alive = local.live(name)?.is_some();
        let guest = if alive { watcher.ask(WATCH)? } else { watcher.last_words()? };
        if let Some(guest) = &guest {
            if watcher.tell(guest, news).is_break() {
                return Ok(Readiness::Cancelled);
            }
            if alive && guest.is_ready() {
                for disk in &record.wanted.volumes {
                    volume::mark_initialized(&disk.path)?;
                }
                return Ok(Readiness::Ready);
            }
        }
        if news(&Progress::Waiting).is_break() {
            return Ok(Readiness::Cancelled);
        }
        let hopeless = guest.as_ref().and_then(why_never);
        let reason = match hopeless {
            Some(reason) => reason,
            None if !alive => "QEMU has ended".to_owned(),
            None if Instant::now() >= end => why_late(guest.as_ref(), limit),
            None => continue,
        };
        return Ok(Readiness::NotReady { reason, console: local.console_tail(name, CONSOLE_LINES)? });
    }
}

/// The guest itself says that it will not become ready.
fn why_never(guest: &GuestRecord) -> Option<String> {
    if let Some(fatal) = &guest.fatal {
        return Some(fatal.clone());
    }
    guest.status.as_ref()?.services.iter().find_map(|service| match &service.state {
        ServiceState::Failed { reason } => Some(format!("service `{}` failed: {reason}", service.name)),
        _ => None,
    })
}

fn why_late(guest: Option<&GuestRecord>, limit: Duration) -> String {
    let limit = limit.as_secs();
    let Some(status) = guest.and_then(|guest| guest.status.as_ref()) else {
        return format!("the guest said nothing within {limit} s");
    };
    let late: Vec<String> = status
        .services
        .iter()
        .filter(|service| !service.state.is_ready())
        .map(|service| match &service.state {
            ServiceState::Backoff { reason, .. } => format!("`{}` ({reason})", service.name),
            _ => format!("`{}`", service.name),
        })
        .collect();
    format!("not ready within {limit} s: {}", late.join(", "))
}

struct Watcher<'a> {
    local: &'a Local,
    name: &'a str,
    client: Option<Client>,
    seen: u64,
    status: Option<Status>,
}

impl Watcher<'_> {
    /// The record as soon as there is news. A keeper that was killed is replaced.
    fn ask(&mut self, wait: Duration) -> Result<Option<GuestRecord>, TargetError> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => {
                self.local.keeper()?;
                Client::open(&self.local.run())?
            }
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Watch { instance: self.name.to_owned(), seen: self.seen, wait_ms };
        match client.ask(&request) {
            Ok(Reply::Guest { guest }) => {
                self.client = Some(client);
                Ok(guest)
            }
            Ok(other) => Err(TargetError::KeeperRefused { reason: format!("unexpected answer {other:?}") }),
            // The next round starts a new keeper or says why it cannot.
            Err(TargetError::Keeper { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a guest said before its QEMU ended: all of it once the channel is closed.
    fn last_words(&mut self) -> Result<Option<GuestRecord>, TargetError> {
        let end = Instant::now() + LAST_WORDS_LIMIT;
        loop {
            let guest = self.ask(WATCH)?;
            if guest.as_ref().is_none_or(|guest| !guest.connected) || Instant::now() >= end {
                return Ok(guest);
            }
        }
    }

    fn tell(
        &mut self,
        guest: &GuestRecord,
        news: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        // A new keeper counts from the beginning.
        let seen = if guest.sequence < self.seen { 0 } else { self.seen };
        self.seen = guest.sequence;
        for entry in guest.events.iter().filter(|entry| entry.sequence > seen) {
            news(&Progress::Event(entry.clone()))?;
        }
        if let Some(status) = &guest.status
            && self.status.as_ref() != Some(status)
        {
            self.status = Some(status.clone());
            news(&Progress::Status(status.clone()))?;
        }
        ControlFlow::Continue(())
    }
}
