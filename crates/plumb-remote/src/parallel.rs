//! Several transfers at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Result;

/// Runs `job` for each of `0..count` on at most `workers` threads and returns what they return, in order. The first failure
/// stops what has not begun.
pub(crate) fn each<T: Send>(
    count: usize,
    workers: usize,
    job: &(dyn Fn(usize) -> Result<T> + Sync),
) -> Result<Vec<T>> {
    let (next, stop) = (Mutex::new(0..count), AtomicBool::new(false));
    let work = || {
        let mut done = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let Some(number) = next.lock().unwrap_or_else(PoisonError::into_inner).next() else { break };
            let outcome = job(number);
            if outcome.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            done.push((number, outcome));
        }
        done
    };
    let mut outcomes: Vec<(usize, Result<T>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers.min(count)).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}
