//! Arguments of the commands that keep deployments alive and tell what happened.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use plumb_model::DeploymentName;
use plumb_ops::{Reaping, now_s, parse_time};

/// `plumb watch`.
#[derive(Debug, Args)]
#[command(
    after_help = "Prints what happens until Ctrl-C. `plumb agent` does the same as a service.\n\nExamples:\n  plumb watch              every deployment of this host\n  plumb watch shop --dry-run    tell, repair nothing\n  plumb watch --once       look once and repair what is due, from a timer"
)]
pub struct Watch {
    /// Only these deployments
    pub deployments: Vec<DeploymentName>,
    /// Look once, repair what is due, and end
    #[arg(long)]
    pub once: bool,
    /// Say what is not as it should be, and repair nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub care: Care,
}

/// What whoever watches does besides repairing.
#[derive(Debug, Clone, Args)]
pub struct Care {
    /// How far to go with leases that have ended
    #[arg(long, value_enum, default_value_t = Leases::Delete, global = true, value_name = "HOW")]
    pub leases: Leases,
    /// A program that is run for everything that happens, with the event as JSON on its standard input
    #[arg(long, global = true, value_name = "PROGRAM")]
    pub notify: Option<PathBuf>,
}

/// How far whoever watches goes with leases that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Leases {
    /// Give notice, nothing else
    Notice,
    /// Stop what has ended; no data goes
    Stop,
    /// Stop what has ended, and delete data after its notice and 7 days of grace
    Delete,
}

impl From<Leases> for Reaping {
    fn from(leases: Leases) -> Self {
        match leases {
            Leases::Notice => Reaping::Notice,
            Leases::Stop => Reaping::Stop,
            Leases::Delete => Reaping::Delete,
        }
    }
}

/// `plumb agent`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a subcommand it watches every deployment of this host, as `plumb watch` does, for a service manager.\n\nExample:\n  plumb agent install && systemctl --user enable --now plumb-agent\n  loginctl enable-linger       so that it runs while nobody is logged in, and from boot on\n  journalctl --user -u plumb-agent -f"
)]
pub struct Agent {
    /// What to do instead
    #[command(subcommand)]
    pub action: Option<AgentAction>,
    #[command(flatten)]
    pub care: Care,
}

/// What `plumb agent` does besides watching.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum AgentAction {
    /// Print the unit file for this user's systemd
    Unit,
    /// Write the unit file to where this user's systemd finds it
    Install,
    /// Remove the unit file
    Uninstall,
}

/// `plumb journal`.
#[derive(Debug, Args)]
#[command(
    after_help = "Times are this host's. Deployments that are gone have their journal still.\n\nExamples:\n  plumb journal shop-prod --since 12h\n  plumb journal --since \"2026-11-29 22:00\" --until \"2026-11-30 06:00\"\n  plumb journal shop-prod -f"
)]
pub struct Journal {
    /// Only of this deployment
    pub deployment: Option<DeploymentName>,
    /// Not before: `12h` or `7d` ago, a day, a day and a time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<i64>,
    /// Before
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<i64>,
    /// So many at most, the newest
    #[arg(long, short = 'n', default_value_t = 200, value_name = "N")]
    pub lines: u64,
    /// Go on with what happens
    #[arg(long, short, conflicts_with = "until")]
    pub follow: bool,
}

fn time(text: &str) -> Result<i64, String> {
    let wrong = "write `12h` or `7d` for so long ago, `2026-11-30`, or `2026-11-30 22:15`";
    parse_time(text, now_s()).ok_or_else(|| wrong.to_owned())
}
