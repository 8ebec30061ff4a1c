//! Where the state of deployments is.

use clap::{Args, Subcommand};

/// `plumb state`.
#[derive(Debug, Args)]
#[command(
    after_help = "Passwords are taken from PGPASSWORD, PGPASSFILE or ~/.pgpass, never from an address. PLUMB_STATE stands above what is set.\n\nExamples:\n  plumb state                                             where it is\n  plumb state copy postgresql://ann@db.example/plumb      take along what runs here\n  plumb state use postgresql://ann@db.example/plumb       share it from now on\n  plumb state use local                                   this host's own file again"
)]
pub struct State {
    /// What to do [default: show where it is]
    #[command(subcommand)]
    pub action: Option<StateAction>,
}

/// What `plumb state` does.
#[derive(Debug, Subcommand)]
pub enum StateAction {
    /// Show where it is, and how many deployments of which hosts it has
    Show,
    /// From now on keep it there
    Use {
        /// `postgresql://USER@HOST/DATABASE`, or `local` for a file in the home
        #[arg(value_name = "ADDRESS|local")]
        address: String,
    },
    /// Copy what is of this host to another place and read it back
    Copy {
        /// Where to
        #[arg(value_name = "ADDRESS|local")]
        address: String,
    },
}
