//! `plumb console`: the instance's console, both ways. Ctrl-] leaves it.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use plumb_ops::OpsError;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use super::Session;
use crate::args::Console;
use crate::output::{err, out};

/// Ctrl-], as in telnet and `virsh console`.
const LEAVE: u8 = 0x1d;

pub(super) fn run(session: &Session<'_>, arguments: &Console) -> Result<(), OpsError> {
    let console = session.plumb.console(&arguments.instance)?;
    let failed =
        |source| OpsError::Io { action: "show the console of", path: console.socket.clone(), source };
    for line in &console.tail {
        out!("{line}");
    }
    if arguments.no_follow {
        return Ok(());
    }
    let stream = plumb_ops::connect(&console.socket).map_err(failed)?;
    err!("-- connected to {}; Ctrl-] leaves --", arguments.instance);
    let raw = RawTerminal::enter();
    let outcome = relay(&stream, &mut io::stdout().lock());
    drop(raw);
    outcome.map_err(failed)
}

/// Copies both ways until the user leaves or the instance ends.
fn relay(stream: &UnixStream, out: &mut dyn Write) -> io::Result<()> {
    let input = io::stdin();
    let mut input_open = true;
    let mut buffer = [0; 4096];
    loop {
        let mut watched = vec![PollFd::new(stream, PollFlags::IN)];
        if input_open {
            watched.push(PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN));
        }
        poll(&mut watched, None)?;
        let ready = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let from_guest = watched[0].revents().intersects(ready);
        let from_user = watched.get(1).is_some_and(|fd| fd.revents().intersects(ready));
        if from_guest {
            let count = (&*stream).read(&mut buffer)?;
            if count == 0 {
                err!("\r\n-- the instance closed its console --");
                return Ok(());
            }
            out.write_all(&buffer[..count])?;
            out.flush()?;
        }
        if from_user {
            let count = rustix::io::read(&input, &mut buffer)?;
            let typed = &buffer[..count];
            if let Some(end) = typed.iter().position(|byte| *byte == LEAVE) {
                (&*stream).write_all(&typed[..end])?;
                return Ok(());
            }
            (&*stream).write_all(typed)?;
            input_open = count > 0;
        }
    }
}

/// Raw mode as long as it lives.
struct RawTerminal(Option<Termios>);

impl RawTerminal {
    fn enter() -> Self {
        let input = io::stdin();
        let before = isatty(&input).then(|| tcgetattr(&input).ok()).flatten();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            if tcsetattr(&input, OptionalActions::Now, &raw).is_err() {
                return RawTerminal(None);
            }
        }
        RawTerminal(before)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // Nothing better can be done than to leave the terminal as it is.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}
