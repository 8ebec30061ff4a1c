//! Commands of units that wait for a service of the definition.
//!
//! - `ExecStartPost=` of a unit with a readiness check: it ends when the service is ready, and runs as the service does,
//!   in its user, its namespaces and its environment.
//! - `ExecStartPre=` of a service that comes after another one. `Requires=` would restart it with the other one, and
//!   `After=` alone has it start also when the other one has failed.

use plumb_guest_proto::{Init, MACHINE_SPEC_PATH, UnitSpec};
use rustix::event::{PollFd, Timespec, poll};

use super::check::{Check, Surroundings};
use super::look;
use crate::clock::uptime_ms;
use crate::error::Error;
use crate::service::pause_ms;
use crate::{document, limit, tool};

/// Waits until its readiness check succeeds, at most as long as the definition says.
///
/// # Errors
/// [`Error::NotReady`], and what [`document::machine`] says.
pub fn ready(service: &str) -> Result<(), Error> {
    let unit = unit(service)?;
    let Some(ready) = &unit.ready else { return Ok(()) };
    let around = Surroundings { environment: std::env::vars().collect(), ids: None };
    let ask = || match Check::start(uptime_ms(), ready, &around) {
        Ok(Some(mut check)) => finish(&mut check),
        Ok(None) => Ok(()),
        Err(answer) => Err(answer),
    };
    wait(&unit, ask)
}

/// Waits until systemd calls it active, at most as long as its readiness may take.
///
/// # Errors
/// [`Error::NotReady`], and what [`document::machine`] says.
pub fn active(service: &str) -> Result<(), Error> {
    let unit = unit(service)?;
    wait(&unit, || match tool::run(look::PROGRAM, &["is-active", "--", &unit.unit])? {
        tool::Finished { code: Some(0), .. } => Ok(()),
        tool::Finished { output, .. } => Err(format!("systemd calls it {output}")),
    })
}

fn unit(service: &str) -> Result<UnitSpec, Error> {
    let unknown = || {
        let problem = format!("it has no service `{}`", service.escape_debug());
        Error::Contradiction { path: MACHINE_SPEC_PATH, problem }
    };
    let Init::Systemd(units) = document::machine("")?.init else { return Err(unknown()) };
    units.into_iter().find(|unit| unit.name == service).ok_or_else(unknown)
}

fn wait(unit: &UnitSpec, ask: impl FnMut() -> Result<(), String>) -> Result<(), Error> {
    ask_again(unit.ready_timeout_ms, ask).map_err(|answer| Error::NotReady {
        service: unit.name.clone(),
        seconds: unit.ready_timeout_ms.div_ceil(1000),
        answer,
    })
}

/// Asks until the answer is good; the last one if none was.
fn ask_again(limit_ms: u64, mut ask: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let start = uptime_ms();
    loop {
        match ask() {
            Err(_) if uptime_ms() < start + limit_ms => rest(pause_ms(uptime_ms() - start)),
            answer => return answer,
        }
    }
}

fn finish(check: &mut Check) -> Result<(), String> {
    let mut is_ready = false;
    loop {
        if let Some(verdict) = check.advance(uptime_ms(), is_ready) {
            return verdict;
        }
        match check.interest() {
            Some((fd, flags)) => {
                let left = check.deadline().saturating_sub(uptime_ms());
                let mut polled = [PollFd::from_borrowed_fd(fd, flags)];
                is_ready = poll(&mut polled, Some(&span(left))).is_ok_and(|count| count > 0);
            }
            None => rest(limit::CHECK_FIRST_MS),
        }
    }
}

fn rest(pause_ms: u64) {
    // Interrupted or not: the next check is only earlier.
    let _ = poll(&mut [], Some(&span(pause_ms)));
}

fn span(ms: u64) -> Timespec {
    Timespec { tv_sec: (ms / 1000).cast_signed(), tv_nsec: ((ms % 1000) * 1_000_000).cast_signed() }
}

#[cfg(test)]
mod tests {
    use plumb_guest_proto::Ready;

    use super::*;

    #[test]
    fn it_asks_until_there_is_an_answer() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = taken.local_addr().expect("address");
        drop(taken);
        let ready = Ready::Tcp { port: address.port() };
        let ask = || match Check::start(uptime_ms(), &ready, &Surroundings::default())? {
            Some(mut check) => finish(&mut check),
            None => Ok(()),
        };
        assert_eq!(ask_again(0, ask), Err("connection refused".to_owned()));
        let server = std::thread::spawn(move || {
            let listener = std::net::TcpListener::bind(address).expect("bind");
            listener.accept().map(drop)
        });
        assert_eq!(ask_again(60_000, ask), Ok(()));
        server.join().expect("server").expect("a connection");
    }
}
