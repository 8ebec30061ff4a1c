//! Whose deployments are, and until when.

use clap::{Args, Subcommand};
use plumb_model::{DeploymentName, SignerName};

/// `plumb lease`.
#[derive(Debug, Args)]
#[command(
    after_help = "What was made from a folder is stopped after 7 days and keeps its data; what came from channel `dev` loses it 30 days\nlater; everything else has no end. `up`, `upgrade` and `renew` begin the time anew. What is due is done by\n`plumb agent`, `plumb watch` and `plumb reap`.\n\nExamples:\n  plumb lease                               of all deployments\n  plumb lease renew shop\n  plumb lease set shop --for 14d --purpose \"demo for sales\"\n  plumb lease set shop --never              it has no end\n  plumb lease set shop --for 7d --keep 30d  its data goes 30 days after it stopped, with notice"
)]
pub struct Lease {
    /// What to do [default: show all]
    #[command(subcommand)]
    pub action: Option<LeaseAction>,
}

/// What `plumb lease` does.
#[derive(Debug, Subcommand)]
pub enum LeaseAction {
    /// Show the leases of all deployments, or of one
    Show {
        /// The deployment [default: all]
        deployment: Option<DeploymentName>,
    },
    /// Begin its time anew
    Renew {
        /// The deployment
        deployment: DeploymentName,
    },
    /// Change it, and begin its time anew
    Set(SetLease),
}

/// `plumb lease set`.
#[derive(Debug, Args)]
pub struct SetLease {
    /// The deployment
    pub deployment: DeploymentName,
    /// How long it runs from now on: a number with `d` or `h`
    #[arg(long = "for", value_name = "TIME", value_parser = term, conflicts_with = "never")]
    pub run_for: Option<u64>,
    /// It has no end, and its data is never deleted by a lease
    #[arg(long)]
    pub never: bool,
    /// How long its data is kept after it stopped; then it goes, after a notice and 7 days of grace
    #[arg(long, value_name = "TIME", value_parser = term, conflicts_with = "never")]
    pub keep: Option<u64>,
    /// Keep its data for ever
    #[arg(long, conflicts_with = "keep")]
    pub keep_data: bool,
    /// Whose it is
    #[arg(long, value_name = "NAME")]
    pub owner: Option<SignerName>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub purpose: Option<String>,
}

/// `plumb reap`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  plumb reap --dry-run    what is due, and why\n  plumb reap")]
pub struct Reap {
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// The clock is right, although it went back, or far ahead, since leases were last looked at
    #[arg(long)]
    pub clock_is_right: bool,
}

/// `plumb quota`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb quota\n  plumb quota set ann --instances 20 --memory 8GiB --disk 100GiB\n  plumb quota rm ann"
)]
pub struct Quota {
    /// What to do [default: show all]
    #[command(subcommand)]
    pub action: Option<QuotaAction>,
}

/// What `plumb quota` does.
#[derive(Debug, Subcommand)]
pub enum QuotaAction {
    /// Show what owners have, and may have
    Show,
    /// Change what an owner may have; what is not named stays
    Set {
        /// Who
        owner: SignerName,
        /// Instances that run
        #[arg(long, value_name = "N")]
        instances: Option<u64>,
        /// Memory of instances that run
        #[arg(long, value_name = "SIZE", value_parser = size)]
        memory: Option<u64>,
        /// Volumes, also of what is down
        #[arg(long, value_name = "SIZE", value_parser = size)]
        disk: Option<u64>,
    },
    /// Let an owner have as much as there is
    Rm {
        /// Who
        owner: SignerName,
    },
}

/// `14d` or `12h`, in milliseconds.
fn term(text: &str) -> Result<u64, String> {
    let wrong = || "write `14d` or `12h`".to_owned();
    let hours = match text.strip_suffix('d') {
        Some(days) => days.parse::<u64>().ok().and_then(|days| days.checked_mul(24)),
        None => text.strip_suffix('h').and_then(|hours| hours.parse().ok()),
    };
    hours.and_then(|hours| hours.checked_mul(3_600_000)).ok_or_else(wrong)
}

/// `8GiB` or `512MiB`, in bytes.
fn size(text: &str) -> Result<u64, String> {
    let units = [("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let read = |(unit, shift): (&str, u32)| {
        text.strip_suffix(unit)?.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
    };
    units.into_iter().find_map(read).ok_or_else(|| "write `512MiB`, `8GiB` or `1TiB`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        assert_eq!(term("14d"), Ok(14 * 86_400_000));
        assert_eq!(term("0h"), Ok(0));
        assert!(["14", "d", "-1d", "1w", "99999999999999999d"].iter().all(|text| term(text).is_err()));
        assert_eq!(size("8GiB"), Ok(8 << 30));
        assert!(["8", "GiB", "8GB", "99999999TiB"].iter().all(|text| size(text).is_err()));
    }
}
