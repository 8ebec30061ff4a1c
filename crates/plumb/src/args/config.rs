//! What is set of deployments: `config` and `secret`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};
use plumb_model::DeploymentName;
use plumb_model::config::ConfigName;

/// `NAME=VALUE`.
#[derive(Debug, Clone)]
pub struct Assignment(pub ConfigName, pub String);

impl FromStr for Assignment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
        let name = name.parse().map_err(|error: plumb_model::config::ConfigNameError| error.to_string())?;
        Ok(Assignment(name, value.to_owned()))
    }
}

/// `plumb config`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb config show shop-prod\n  plumb config set shop-prod log_level=debug workers=4\n  plumb config log shop-prod"
)]
pub struct Config {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// The commands below `plumb config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show every setting: its value, where that comes from, and who uses it
    Show {
        /// The deployment
        deployment: DeploymentName,
        /// Of this configuration [default: the newest]
        #[arg(long, value_name = "NUMBER")]
        number: Option<u64>,
    },
    /// Set values; what uses them is restarted, in order
    #[command(after_help = "Example:\n  plumb config set shop-prod log_level=debug workers=4")]
    Set {
        /// The deployment
        deployment: DeploymentName,
        /// What to set
        #[arg(value_name = "NAME=VALUE", required = true)]
        settings: Vec<Assignment>,
        /// When, and whether at all
        #[command(flatten)]
        when: When,
    },
    /// Take values back to their defaults; what uses them is restarted, in order
    Unset {
        /// The deployment
        deployment: DeploymentName,
        /// What to take back
        #[arg(value_name = "NAME", required = true)]
        names: Vec<ConfigName>,
        /// When, and whether at all
        #[command(flatten)]
        when: When,
    },
    /// Edit all settings in `$VISUAL` or `$EDITOR`; what uses those that changed is restarted, in order
    #[command(after_help = "Example:\n  EDITOR=nano plumb config edit shop-prod")]
    Edit {
        /// The deployment
        deployment: DeploymentName,
        /// When, and whether at all
        #[command(flatten)]
        when: When,
    },
    /// Bring what was set with `--no-apply` to the instances
    Apply {
        /// The deployment
        deployment: DeploymentName,
        /// Say what would happen, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List all configurations of a deployment, who made them, and what they changed
    Log {
        /// The deployment
        deployment: DeploymentName,
    },
    /// Show what differs between two configurations
    #[command(
        after_help = "Examples:\n  plumb config diff shop-prod      what is set and does not run yet\n  plumb config diff shop-prod 2 5"
    )]
    Diff {
        /// The deployment
        deployment: DeploymentName,
        /// From this one [default: the one that runs]
        one: Option<u64>,
        /// To this one [default: the newest]
        other: Option<u64>,
    },
}

/// When a change is brought to the instances.
#[derive(Debug, Clone, Copy, Args)]
pub struct When {
    /// Set it, and leave the instances as they are
    #[arg(long)]
    pub no_apply: bool,
    /// Say what would happen, and set nothing
    #[arg(long, conflicts_with = "no_apply")]
    pub dry_run: bool,
}

/// `plumb secret`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  plumb secret set shop-prod db_password          asks for it\n  pwgen 24 1 | plumb secret set shop-prod db_password\n  plumb secret ls shop-prod"
)]
pub struct Secret {
    /// What to do.
    #[command(subcommand)]
    pub command: SecretCommand,
}

/// The commands below `plumb secret`.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret, from a prompt, standard input or a file; what uses it is restarted, in order
    #[command(
        after_help = "Examples:\n  plumb secret set shop-prod db_password\n  plumb secret set shop-prod tls_key --file key.pem\n  plumb secret set shop-prod db_password --generate"
    )]
    Set {
        /// The deployment
        deployment: DeploymentName,
        /// The secret
        name: ConfigName,
        /// Read it from this file
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Make a random one: 32 letters and digits
        #[arg(long, conflicts_with = "file")]
        generate: bool,
        /// When, and whether at all
        #[command(flatten)]
        when: When,
    },
    /// List the secrets of a deployment: which are set, and who uses them
    Ls {
        /// The deployment
        deployment: DeploymentName,
    },
    /// Take a secret out of the configuration; older configurations still have it
    Rm {
        /// The deployment
        deployment: DeploymentName,
        /// The secret
        name: ConfigName,
        /// When, and whether at all
        #[command(flatten)]
        when: When,
    },
    /// Show or change for whom secrets are sealed
    #[command(after_help = "Example:\n  plumb secret recipients --add age1… --name bob@laptop")]
    Recipients {
        /// Seal all secrets for this key of age, too
        #[arg(long, value_name = "KEY", requires = "name")]
        add: Option<String>,
        /// Whose key it is
        #[arg(long, value_name = "NAME", requires = "add")]
        name: Option<String>,
        /// Seal all secrets for this key no longer
        #[arg(long, value_name = "KEY")]
        remove: Vec<String>,
    },
    /// Make a new key for this home, and seal all secrets for it anew
    RotateKey,
}
