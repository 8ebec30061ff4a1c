//! Several transfers at the same time.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What all of them see: one has failed, and what has not begun need not begin.
pub trait Brake: Sync {
    /// It was pulled.
    fn stopped(&self) -> bool;
    /// Pulls it.
    fn stop(&self);
}

impl Brake for AtomicBool {
    fn stopped(&self) -> bool {
        self.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.store(true, Ordering::Relaxed);
    }
}

/// Runs `job` for each of `0..count` on at most `workers` threads. The first failure stops what has not begun. Returns what
/// was done, by number.
pub fn each<T: Send, E: Send>(
    count: usize,
    workers: usize,
    brake: &dyn Brake,
    job: &(dyn Fn(usize) -> Result<T, E> + Sync),
) -> Vec<(usize, Result<T, E>)> {
    let next: Mutex<Range<usize>> = Mutex::new(0..count);
    let work = || {
        let mut done = Vec::new();
        while !brake.stopped() {
            let Some(number) = next.lock().unwrap_or_else(PoisonError::into_inner).next() else { break };
            let outcome = job(number);
            if outcome.is_err() {
                brake.stop();
            }
            done.push((number, outcome));
        }
        done
    };
    let mut outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.min(count)).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes
}
