//! Plumb: one application as one coordinated set of version-managed, minimal virtual machines.
//!
//! All input and output is here: one file per command below `command/`, which renders what `plumb-ops` returns.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod command;
mod output;
mod render;

use std::panic;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::output::err;

fn main() -> ExitCode {
    let outcome = panic::catch_unwind(|| {
        let cli = Cli::parse();
        command::run(cli)
    });
    let outcome = outcome.unwrap_or_else(|_| {
        err!("error: plumb has a bug: it stopped in a place where it never should");
        err!("hint: the lines above say where; please report them together with what you typed");
        ExitCode::from(render::EXIT_BUG)
    });
    match output::failure() {
        Some(error) if outcome == ExitCode::SUCCESS => {
            err!("error: cannot write to standard output\ncaused by: {error}");
            ExitCode::FAILURE
        }
        _ => outcome,
    }
}
