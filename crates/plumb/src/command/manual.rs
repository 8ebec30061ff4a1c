//! Commands that need no home: completions, manual pages, and the keeper process itself.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::Cli;
use crate::output::{err, out};

pub(super) fn completions(shell: clap_complete::Shell) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "plumb", &mut script);
    out!("{}", String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

pub(super) fn man(folder: &Path) -> ExitCode {
    let written = fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            err!("error: cannot write manual pages to `{}`\ncaused by: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

pub(super) fn keeper(folder: &Path) -> ExitCode {
    match plumb_ops::keeper::run(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            err!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
