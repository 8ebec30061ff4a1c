//! `plumb logs`.

use std::io::{self, Write};

use plumb_ops::OpsError;

use super::Session;
use crate::args::Logs;
use crate::render::clock_time;

pub(super) fn run(session: &Session<'_>, arguments: &Logs) -> Result<(), OpsError> {
    let json = session.global.json;
    let mut out = io::stdout().lock();
    let mut print = |line: &plumb_ops::LogLine| -> bool {
        let written = if json {
            serde_json::to_writer(&mut out, line).map_err(io::Error::from).and_then(|()| writeln!(out))
        } else {
            writeln!(out, "{} {} | {}", clock_time(line.t_ms), line.service, line.line)
        };
        // A closed pipe (`plumb logs web-1 | head`) is the reader's way to say enough.
        written.and_then(|()| out.flush()).is_ok()
    };
    session.plumb.logs(&arguments.instance, arguments.lines, arguments.follow, &mut print)
}
