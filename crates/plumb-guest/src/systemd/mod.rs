//! A machine whose PID 1 is systemd.
//!
//! ```text
//!  initramfs: modules, dm-verity, root, network, volumes ─ exec ─► systemd ─► units of the image
//!      what the host was not told yet ─► /run/plumb/agent ──────────► plumb-agent.service: this program again
//!                                                                       journal, states of units ─► control port
//! ```
//!
//! Up to the last step it is the boot of every machine. Then PID 1 becomes systemd, and the control port is spoken by
//! [`agent`]; a unit with a readiness check is active only after [`wait`] has seen it ready, so that what is ordered
//! after it starts when it can be used.

mod agent;
mod check;
mod handover;
mod journal;
mod look;
mod state;
mod wait;
mod watched;

use std::process::ExitCode;

use plumb_guest_proto::{AFTER_COMMAND, AGENT_COMMAND, WAIT_COMMAND};

pub use handover::hand_over;

/// What this program does in a machine with systemd, if its arguments ask for that.
pub fn command(arguments: &[String]) -> Option<ExitCode> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        [AGENT_COMMAND] => agent::run(),
        [WAIT_COMMAND, service] => wait::ready(service),
        [AFTER_COMMAND, service] => wait::active(service),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Into the journal of the unit.
            eprintln!("{}", error.chain());
            ExitCode::FAILURE
        }
    })
}
