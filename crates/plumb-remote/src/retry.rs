//! Another try after what may pass: bounded, with growing pauses.

use std::sync::mpsc;
use std::time::Duration;

use crate::{Error, Result, limit};

/// How often something is tried, and how long the pauses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Tries in all.
    pub tries: u32,
    /// The first pause, in milliseconds; it doubles each time.
    pub pause_ms: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { tries: limit::TRIES, pause_ms: limit::RETRY_PAUSE_MS }
    }
}

impl Patience {
    /// Waits before try number `tried + 1`.
    pub fn pause(&self, tried: u32) {
        let pause = Duration::from_millis(self.pause_ms.saturating_mul(1 << tried.saturating_sub(1).min(16)));
        // Nobody sends: it is the limit of the wait that ends it.
        let (_sender, receiver) = mpsc::channel::<()>();
        let _ = receiver.recv_timeout(pause);
    }
}

/// Calls `attempt` until it succeeds, fails for good, or has failed often enough.
///
/// # Errors
/// The last one.
pub fn retried<T>(patience: &Patience, attempt: &mut dyn FnMut() -> Result<T>) -> Result<T> {
    let mut tried = 1;
    loop {
        match attempt() {
            Err(error) if tried < patience.tries && Error::is_transient(&error) => patience.pause(tried),
            other => return other,
        }
        tried += 1;
    }
}
