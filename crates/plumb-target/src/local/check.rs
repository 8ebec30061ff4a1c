//! Checks inside: asked for by name, answered by the guest.

use std::time::{Duration, Instant};

use plumb_guest_proto::CheckAnswer;

use super::Local;
use crate::error::TargetError;
use crate::keeper::client::Client;
use crate::keeper::request::{CheckState, Reply, Request};

/// How long one question to the keeper waits for the answer; also how soon the caller's "no more" is heard.
const WAIT_MS: u64 = 200;

/// How a check inside ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checked {
    /// The guest answered.
    Answered(CheckAnswer),
    /// The guest, or the keeper, went away in between.
    Lost,
    /// There was no answer in time, although the guest has a limit of its own.
    Silent,
    /// The caller did not want to wait any longer.
    Cancelled,
}

pub(super) fn check(
    local: &Local,
    (instance, name): (&str, &str),
    limit: Duration,
    goes_on: &dyn Fn() -> bool,
) -> Result<Checked, TargetError> {
    local.keeper()?;
    let mut client = Client::open(&local.run())?;
    let request = Request::Check { instance: instance.to_owned(), name: name.to_owned() };
    let run = match client.ask(&request)? {
        Reply::Asked { run } => run,
        Reply::Refused { reason } => return Err(TargetError::KeeperRefused { reason }),
        other => return Err(unexpected(&other)),
    };
    let end = Instant::now() + limit;
    loop {
        if !goes_on() {
            return Ok(Checked::Cancelled);
        }
        let request = Request::CheckAnswer { instance: instance.to_owned(), run, wait_ms: WAIT_MS };
        match client.ask(&request) {
            Ok(Reply::Checked { state: CheckState::Over { answer } }) => {
                return Ok(Checked::Answered(answer));
            }
            Ok(Reply::Checked { state: CheckState::Lost }) => return Ok(Checked::Lost),
            Ok(Reply::Checked { state: CheckState::Running }) if Instant::now() >= end => {
                return Ok(Checked::Silent);
            }
            Ok(Reply::Checked { state: CheckState::Running }) => {}
            Ok(other) => return Err(unexpected(&other)),
            // A keeper that was killed took the question with it.
            Err(TargetError::Keeper { .. }) => return Ok(Checked::Lost),
            Err(error) => return Err(error),
        }
    }
}

fn unexpected(reply: &Reply) -> TargetError {
    TargetError::KeeperRefused { reason: format!("unexpected answer {reply:?}") }
}
