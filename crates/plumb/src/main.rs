//! Plumb: one application as one coordinated set of version-managed, minimal virtual machines.
//!
//! All input and output is here: one file per command below `command/`, which renders what `plumb-ops` returns.

mod args;
mod command;
mod render;

use std::panic;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;

fn main() -> ExitCode {
    let outcome = panic::catch_unwind(|| {
        let cli = Cli::parse();
        command::run(cli)
    });
    outcome.unwrap_or_else(|_| {
        eprintln!("error: plumb has a bug: it stopped in a place where it never should");
        eprintln!("hint: the lines above say where; please report them together with what you typed");
        ExitCode::from(render::EXIT_BUG)
    })
}
