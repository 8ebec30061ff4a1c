//! The only clock of the guest: time since the kernel started. It never goes back and goes on during a suspend.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since the kernel started (CLOCK_BOOTTIME).
pub fn uptime_ms() -> u64 {
    uptime_us() / 1000
}

/// Microseconds since the kernel started (CLOCK_BOOTTIME).
pub fn uptime_us() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec.cast_unsigned() * 1_000_000 + now.tv_nsec.cast_unsigned() / 1000
}

/// Asks `look` every `poll_ms` until it has an answer or `limit_ms` is over.
pub fn wait_for<T>(limit_ms: u64, poll_ms: u64, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = uptime_ms() + limit_ms;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if uptime_ms() >= end {
            return None;
        }
        pause(poll_ms);
    }
}

/// Lets time pass between two looks; every caller has a limit on the number of looks.
#[expect(
    clippy::disallowed_methods,
    reason = "the kernel gives no descriptor to wait on for what is looked for here"
)]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
