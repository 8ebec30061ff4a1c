//! What helps against an error: a command or a change, at most two.

use plumb_model::MachineName;
use plumb_target::TargetError;

use crate::content::error::ContentError;
use crate::data::error::DataError;
use crate::error::OpsError;

impl OpsError {
    /// Commands or changes that help, at most two.
    #[must_use]
    pub fn hints(&self) -> Vec<String> {
        let one = match self {
            OpsError::Uncovered { machine, packages, .. } => return script_choice(machine, packages),
            OpsError::Stopped { .. } | OpsError::NotWhole { .. } => return after_failure(self),
            OpsError::Returned { .. } | OpsError::Stranded { .. } => return after_failure(self),
            OpsError::UnknownVulnerability { asked, .. } if asked.len() > 1 => {
                Some("`plumb advisory update` takes what the feeds have now".to_owned())
            }
            OpsError::UnknownVulnerability { .. } => Some(
                "`plumb advisory add debian` takes what Debian's security team knows; `plumb affected PACKAGE` asks for \
                 a package"
                    .to_owned(),
            ),
            // Plumb knows no feed of another distribution, whose suites have a colon.
            OpsError::ScanIncomplete { gaps, .. }
                if gaps.iter().any(|gap| gap.starts_with("no feed") && !gap.contains(':')) => Some(
                "`plumb advisory add debian` takes what Debian's security team knows; `osv-pypi` and `osv-npm` speak of \
                 those packages"
                    .to_owned(),
            ),
            OpsError::ScanIncomplete { release, .. } => Some(format!(
                "`plumb advisory update` takes feeds again; what another scanner says is added with `plumb evidence add \
                 {release} NAME --attach REPORT`"
            )),
            OpsError::NoFeed { known, .. } if known.is_empty() => {
                Some("`plumb advisory add debian` takes one".to_owned())
            }
            OpsError::NoFeed { known, .. } => {
                Some(format!("known is {}; others need a URL or a file", list(known)))
            }
            OpsError::OtherFeed { feed, .. } => {
                Some(format!("`plumb advisory rm {feed}` forgets it; or take another name"))
            }
            OpsError::Query { .. } => Some(
                "for example: plumb affected 'libssl3 < 3.0.17', plumb affected CVE-2025-9230, plumb affected --file libz.so.1"
                    .to_owned(),
            ),
            OpsError::Content(ContentError::Npm { source, .. }) => source.hint(),
            OpsError::Content(ContentError::Requirements { source, .. }) => source.hint(),
            OpsError::Fetch(error) => error.hint(),
            OpsError::Store(error) => error.hint(),
            OpsError::State(error) => error.hint(),
            OpsError::StateAddress(plumb_state::AddressError::Password) => Some(
                "leave it out; it is taken from `PGPASSWORD`, `~/.pgpass`, or the file that `?passfile=FILE` names".to_owned(),
            ),
            OpsError::StateAddress(_) => {
                Some("for example: postgresql://ann@db.example/plumb, or `local` for this host's file".to_owned())
            }
            OpsError::StateSetting { path } if path.ends_with("state.json") => {
                Some(format!("remove `{}`, and say again where it is: `plumb state use`", path.display()))
            }
            OpsError::GivenUp { deployment, .. } => Some(format!(
                "`plumb journal {deployment}` says why they ended; `plumb up` or `plumb upgrade` tries again"
            )),
            OpsError::OverQuota { owner, .. } => Some(format!(
                "`plumb lease` shows what `{owner}` has; `plumb quota set {owner}` changes what that may be"
            )),
            OpsError::Clock { .. } => {
                Some("look at `date`; if it is right, `plumb reap --clock-is-right`".to_owned())
            }
            OpsError::StateByEnvironment => Some("`unset PLUMB_STATE` first".to_owned()),
            OpsError::StateNotCopied { to, .. } if to == "local" => Some(
                "move the home's old `state.db` aside, if there is one, then `plumb state copy local`".to_owned(),
            ),
            OpsError::StateNotCopied { to, .. } => Some(format!("`plumb state copy {to}` copies what is of this host")),
            OpsError::Transfer(error) => error.hint(),
            OpsError::Target(error) => error.hint(),
            OpsError::Trust(error) => error.hint(),
            OpsError::Config(error) => error.hint(),
            _ => self.of_definition().or_else(|| self.of_release()).or_else(|| self.of_deployment()),
        };
        one.into_iter().collect()
    }

    /// What to change in a definition, its lock or its content.
    fn of_definition(&self) -> Option<String> {
        Some(match self {
            OpsError::NoDefinition { .. } => {
                "`plumb init hello` makes a folder with a small application".to_owned()
            }
            OpsError::Exists { .. } => "name another folder: `plumb init hello my-app`".to_owned(),
            OpsError::NoTemplate { known, .. } => format!("there is {}", list(known)),
            OpsError::Lock { .. } => {
                "`plumb lock` writes a new lock; the old versions are kept if git has them".to_owned()
            }
            OpsError::StaleLock { .. } => {
                "`plumb lock` brings it up to date and keeps the versions it has".to_owned()
            }
            OpsError::ForeignLock { .. } => {
                "put it beside the `plumb.toml` that it was made for; a worktree of your version control has both"
                    .to_owned()
            }
            OpsError::Incomplete { packages, .. } if !packages.is_empty() => {
                let list = packages.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
                format!("add `os = [{list}]` to the machine, or leave out what needs them")
            }
            OpsError::Content(ContentError::NoPython { .. }) => "add `middleware = [\"python3\"]` to the machine".to_owned(),
            OpsError::Content(ContentError::Unpinned { .. }) => {
                "`pip-compile --generate-hashes` pins everything that is needed".to_owned()
            }
            OpsError::Content(ContentError::NoCommand { service, .. }) => {
                format!("write `service.{service}.exec`: the command to run")
            }
            OpsError::Content(ContentError::NotAnArchive { .. }) => "leave out `strip`".to_owned(),
            OpsError::NoScript { machine, package } => format!(
                "remove `script.{package}` from `[machine.{machine}]`, or name the package that has the script"
            ),
            OpsError::Script { .. } => {
                "`scripts = \"rules\"`, the default, does without the package's scripts".to_owned()
            }
            _ => return None,
        })
    }

    /// How to find or make a release.
    fn of_release(&self) -> Option<String> {
        Some(match self {
            OpsError::StoreDamaged { .. } => {
                "`plumb pull` brings what a remote has; `plumb release` in the application's folder makes a new release"
                    .to_owned()
            }
            OpsError::DiskFull { store } => {
                format!("free some space on the file system of `{}`, then `plumb gc` goes on", store.display())
            }
            OpsError::Collected { release } => format!(
                "`plumb verify {release} --rebuild` builds them again from its packages and keeps them; `plumb pull` brings \
                 them from a remote"
            ),
            OpsError::NoRelease { release } => format!("`plumb log {}` lists the releases", release.app),
            OpsError::NotADefinition { .. } => "`plumb log` lists the releases".to_owned(),
            OpsError::FirstRelease { release } => {
                format!("`plumb show {release}` shows what it consists of")
            }
            OpsError::NotComparable { .. } => {
                "write a release like `shop@3`, a folder like `./shop`, a lock file, or the name of a deployment"
                    .to_owned()
            }
            OpsError::Unattributed { .. } => {
                "this is an error of Plumb's; please report it with the output of `--json`".to_owned()
            }
            OpsError::NoReleases { .. } => "`plumb release` in the application's folder makes one".to_owned(),
            OpsError::NoInventory { .. } | OpsError::NoRecipe { .. } => {
                "`plumb release` in the application's folder makes a release that has one".to_owned()
            }
            OpsError::NoMachine { known, .. } => format!("there is {}", list(known)),
            OpsError::NotInside { subject, .. } => {
                format!("`plumb footprint {subject} --json` lists the packages; files are absolute paths")
            }
            _ => return None,
        })
    }

    /// What to look at, or which one to name.
    fn of_deployment(&self) -> Option<String> {
        Some(match self {
            OpsError::NoDeployment { known, .. } if known.is_empty() => {
                "`plumb up` in a folder with a definition starts one".to_owned()
            }
            OpsError::NoDeployment { known, .. } => format!("there is {}", list(known)),
            OpsError::NotSoaking { deployment, .. } => {
                format!(
                    "`plumb down {deployment}` and `plumb up` start its instances anew, and the time with them"
                )
            }
            OpsError::NotRunning { deployment } => format!("`plumb ps {deployment}` shows what is there"),
            OpsError::NoInstance { known, .. } if !known.is_empty() => format!("there is {}", list(known)),
            OpsError::Ambiguous { known, .. } => format!("say which: {}", list(known)),
            OpsError::Plan(plumb_plan::PlanError::Fenced { deployment, to, .. }) => format!(
                "`plumb rollback {deployment} {to} --with-data` goes back with the data as it was then: what was written since is no \
                 longer in use, and is kept as a snapshot; or make a new release whose code reads the new data, or that has a \
                 `reverse` task, which turns it back"
            ),
            OpsError::Plan(plumb_plan::PlanError::TooFarBack { reaches, from, .. }) => format!(
                "go back to `{}@{reaches}` or later first, which may turn its own data back; or `--with-data`",
                from.app
            ),
            OpsError::Data(DataError::NoData { deployment, .. }) => format!(
                "`plumb volume snapshots {deployment}` lists them; `--with-data=SNAPSHOT` takes another one"
            ),
            OpsError::Data(DataError::NoSnapshots { deployment }) => format!("`plumb volume snapshot {deployment}` makes one"),
            OpsError::Data(DataError::DataThere { volumes, .. }) => format!(
                "`--replace {}` says that this data may go; it is copied first",
                volumes.join(" --replace ")
            ),
            OpsError::Data(DataError::NotConfirmed { wanted, .. }) => format!("`--confirm {wanted}` says it"),
            OpsError::Data(DataError::PlanName { .. }) => "take a name that says what for, like `before-the-fair`".to_owned(),
            OpsError::Data(DataError::StillRuns { deployment }) => format!("`plumb down {deployment}` stops them"),
            OpsError::Data(DataError::NotCopied { source: TargetError::NoSpace { .. }, .. }) => {
                "`plumb volume snapshots` lists what takes space, and `plumb volume rm --snapshot` removes one; \
                 `[snapshots] before_upgrade = false` does without"
                    .to_owned()
            }
            OpsError::Data(DataError::NotCopied { source: TargetError::SnapshotLate { .. } | TargetError::NotFrozen { .. }, .. }) => {
                "`snapshot = \"stop\"` of the volume copies it while its instance is stopped; `plumb volume snapshot \
                 --stop` tries it"
                    .to_owned()
            }
            OpsError::NoCheck { known, .. } if known.is_empty() => {
                "`[check.page]` with `http = \"web:80/\"` in the definition is a check".to_owned()
            }
            OpsError::NoCheck { known, .. } => format!("there is {}", list(known)),
            OpsError::NoCheckFile { .. } => {
                "paths are from the definition's folder; a program of this host has no `/` in its name"
                    .to_owned()
            }
            OpsError::ChecksFailed { release, .. } => {
                format!("`plumb test {release} --keep` lets the set run on, to look into it")
            }
            OpsError::NotReady { instance, .. } => {
                format!("`plumb logs {instance}` shows everything its services said")
            }
            _ => return None,
        })
    }
}

/// On, or back.
fn after_failure(error: &OpsError) -> Vec<String> {
    match error {
        OpsError::Stopped { deployment, to, before, .. } => {
            let back = match before {
                Some(_) => format!("`plumb rollback {deployment}` goes back"),
                None => format!("`plumb down {deployment}` takes away what there is"),
            };
            vec![format!("`plumb upgrade {deployment} {to}` goes on from there"), back]
        }
        OpsError::NotWhole { deployment, instances, before, .. } => {
            let logs = instances.first().map(|one| format!("`plumb logs {one}` shows what it said"));
            let back = before.as_ref().map(|before| {
                format!("`plumb rollback {deployment} {before}` goes back; `plumb watch` starts it again")
            });
            logs.into_iter().chain(back).collect()
        }
        // What is in the way back is the operator's to clear.
        OpsError::Stranded { why, .. } if matches!(**why, OpsError::Plan(_)) => why.hints(),
        OpsError::Returned { source, .. } | OpsError::Stranded { source, .. } => source.hints(),
        _ => Vec::new(),
    }
}

/// The choice that an uncovered effect asks for.
fn script_choice(machine: &MachineName, packages: &[String]) -> Vec<String> {
    let skip: Vec<String> = packages.iter().map(|name| format!("`script.{name} = \"skip\"`")).collect();
    let first = packages.first().map_or("", String::as_str);
    vec![
        format!(
            "if these effects are not needed, say so in `[machine.{machine}]`: {}; if they are, write them as a rule: \
             `script.{first} = {{ rule = \"install -d -o foo -m 0750 /var/lib/foo\" }}`",
            skip.join(", ")
        ),
        format!(
            "`scripts = \"run\"` in `[machine.{machine}]` runs all scripts in a virtual machine of their own"
        ),
    ]
}

pub(crate) fn list<T: std::fmt::Display>(items: &[T]) -> String {
    items.iter().map(|item| format!("`{item}`")).collect::<Vec<_>>().join(", ")
}
