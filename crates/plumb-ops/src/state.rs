//! Where the state of this home is: in a file, or with a team's PostgreSQL server.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;

use plumb_model::DeploymentName;
use plumb_state::{Claim, Credentials, Host, Limits, PostgresAddress, State};
use serde::{Deserialize, Serialize};

use crate::error::{OpsError, io};
use crate::{Plumb, clock};

/// What stands for the file of this home where an address can be.
const LOCAL: &str = "local";

/// Longest file of a setting, and longest id: far above what is written.
const SETTING_LIMIT_BYTES: u64 = 8 * 1024;

/// Bytes of a host's id that are random: no two homes meet.
const ID_BYTES: usize = 16;

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct StateOptions {
    /// `PLUMB_STATE`: an address, or `local`; stands above the home's own setting.
    pub address: Option<String>,
    /// Where passwords are.
    pub credentials: Credentials,
    /// Who works here, as the operating system knows it.
    pub user: String,
    /// What people call this host.
    pub host: String,
    /// What leases take for the time.
    pub clock: crate::LeaseClock,
    /// Which command this is, for others who want the same deployment.
    pub command: String,
}

/// Where the state is, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaidWhere {
    /// Nobody.
    Default,
    /// `plumb state use`.
    Home,
    /// `PLUMB_STATE`.
    Environment,
}

/// The state, for a person.
#[derive(Debug, Clone, Serialize)]
pub struct StateView {
    /// A path, or an address without a password.
    pub place: String,
    /// `sqlite` or `postgresql`.
    pub kind: &'static str,
    /// Who says so.
    pub said: SaidWhere,
    /// What this host is called.
    pub host: String,
    /// Deployments of this host.
    pub here: usize,
    /// Deployments of other hosts, by host.
    pub elsewhere: std::collections::BTreeMap<String, usize>,
}

/// What was copied.
#[derive(Debug, Clone, Serialize)]
pub struct CopyOutcome {
    /// From where.
    pub from: String,
    /// Where to.
    pub to: String,
    /// Deployments.
    pub deployments: usize,
    /// Rows, all read back.
    pub rows: u64,
    /// Deployments that are gone here, and whose name another host has there: their journals were not mixed.
    pub journals_left: Vec<String>,
    /// Owners who may have something else there, which was not changed.
    pub quotas_left: Vec<String>,
}

/// The setting of a home.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    format: u32,
    address: String,
}

/// Where a state can be.
enum Place {
    File,
    Server(Box<PostgresAddress>),
}

impl Plumb<'_> {
    /// The state, opened.
    pub(crate) fn state(&self) -> Result<State, OpsError> {
        self.open_state(&self.state_place()?.0)
    }

    /// Whether there is anything to open; looking does not make a file.
    pub(crate) fn has_state(&self) -> Result<bool, OpsError> {
        Ok(match self.state_place()?.0 {
            Place::File => self.home.state().exists(),
            Place::Server(_) => true,
        })
    }

    /// What is written beside the lock of a deployment.
    pub(crate) fn claim(&self) -> Claim {
        let state = &self.options.state;
        Claim {
            who: format!("{}@{}", state.user, state.host),
            pid: std::process::id(),
            what: state.command.clone(),
            since_ms: clock::now_ms(),
        }
    }

    fn open_state(&self, place: &Place) -> Result<State, OpsError> {
        let state = match place {
            Place::File => State::open(&self.home.state())?,
            Place::Server(address) => {
                let host = Host { id: self.host_id()?, name: self.options.state.host.clone() };
                State::connect(address, &self.options.state.credentials, host, Limits::default())?
            }
        };
        Ok(state)
    }

    fn state_place(&self) -> Result<(Place, SaidWhere), OpsError> {
        if let Some(text) = &self.options.state.address {
            return Ok((self.parse_place(text)?, SaidWhere::Environment));
        }
        let path = self.home.state_setting();
        let Some(text) = read(&path)? else { return Ok((Place::File, SaidWhere::Default)) };
        let damaged = || OpsError::StateSetting { path: path.clone() };
        let setting: Setting = serde_json::from_str(&text).map_err(|_| damaged())?;
        if setting.format != 1 {
            return Err(damaged());
        }
        Ok((self.parse_place(&setting.address)?, SaidWhere::Home))
    }

    fn parse_place(&self, text: &str) -> Result<Place, OpsError> {
        if text == LOCAL {
            return Ok(Place::File);
        }
        let address: PostgresAddress = text.parse().map_err(OpsError::StateAddress)?;
        Ok(Place::Server(Box::new(address.or_user(&self.options.state.user))))
    }

    /// What tells this home from all others; made when it is first asked for.
    fn host_id(&self) -> Result<String, OpsError> {
        let path = self.home.host_id();
        if read(&path)?.is_none() {
            let bytes = &crate::trust::random()?[..ID_BYTES];
            let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            // Of two that make one at once, the first one's stays.
            match crate::trust::write_new(&path, format!("{id}\n").as_bytes()) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                written => written.map_err(io("write", &path))?,
            }
        }
        let id = read(&path)?.unwrap_or_default().trim().to_owned();
        if id.len() == 2 * ID_BYTES && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(id)
        } else {
            Err(OpsError::StateSetting { path })
        }
    }

    /// Where the state is and what is in it.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn show_state(&self) -> Result<StateView, OpsError> {
        let (place, said) = self.state_place()?;
        let state = self.open_state(&place)?;
        let mut view = StateView {
            place: state.place().to_owned(),
            kind: match place {
                Place::File => "sqlite",
                Place::Server(_) => "postgresql",
            },
            said,
            host: self.options.state.host.clone(),
            here: 0,
            elsewhere: std::collections::BTreeMap::new(),
        };
        for record in state.deployments()? {
            match record.elsewhere {
                Some(host) => *view.elsewhere.entry(host).or_default() += 1,
                None => view.here += 1,
            }
        }
        Ok(view)
    }

    /// From now on the state of this home is at `text`: an address, or `local`.
    ///
    /// # Errors
    /// [`OpsError::StateNotCopied`] if deployments of this host would be lost from sight.
    pub fn use_state(&self, text: &str) -> Result<StateView, OpsError> {
        if self.options.state.address.is_some() {
            return Err(OpsError::StateByEnvironment);
        }
        let place = self.parse_place(text)?;
        let other = self.open_state(&place)?;
        let mut lost = Vec::new();
        if self.has_state()? {
            let state = self.state()?;
            for name in own(&state)? {
                // An old copy would lead back to what was.
                if standing(&state, &name)? != standing(&other, &name)? {
                    lost.push(name);
                }
            }
        }
        drop(other);
        if !lost.is_empty() {
            return Err(OpsError::StateNotCopied { to: text.to_owned(), deployments: lost });
        }
        let path = self.home.state_setting();
        match place {
            Place::File => match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io("remove", &path)(error));
                }
                _ => {}
            },
            Place::Server(address) => {
                let setting = Setting { format: 1, address: address.to_string() };
                let text =
                    serde_json::to_string(&setting).map_err(|error| io("write", &path)(error.into()))?;
                replace(&path, format!("{text}\n").as_bytes()).map_err(io("write", &path))?;
            }
        }
        self.show_state()
    }

    /// Copies what is of this host to `text` and reads it back. Where the state is stays as it is.
    ///
    /// # Errors
    /// [`OpsError::State`] if something of it is there already.
    pub fn copy_state(&self, text: &str) -> Result<CopyOutcome, OpsError> {
        let from = self.state()?;
        let deployments = own(&from)?;
        // Nobody changes any of them meanwhile.
        let mut guards = Vec::new();
        for name in &deployments {
            guards.push(self.store.lock(&format!("deployment-{name}"))?);
        }
        let mut to = self.open_state(&self.parse_place(text)?)?;
        let copied = from.copy_to(&mut to)?;
        Ok(CopyOutcome {
            from: from.place().to_owned(),
            to: to.place().to_owned(),
            deployments: deployments.len(),
            rows: copied.rows,
            journals_left: copied.journals_left,
            quotas_left: copied.quotas_left,
        })
    }
}

/// Deployments of this host.
fn own(state: &State) -> Result<Vec<DeploymentName>, OpsError> {
    let own = state.deployments()?.into_iter().filter(|record| record.elsewhere.is_none());
    Ok(own.map(|record| record.name).collect())
}

/// What of a deployment has to be the same in two states: its release and its newest plan.
fn standing(state: &State, name: &DeploymentName) -> Result<Option<Standing>, OpsError> {
    let Some(record) = state.deployment(name)?.filter(|record| record.elsewhere.is_none()) else {
        return Ok(None);
    };
    let generation = state.last_plan(name)?.map(|last| last.plan.generation);
    Ok(Some((record.current, generation)))
}

/// Release and generation.
type Standing = (Option<plumb_model::release::ReleaseName>, Option<u64>);

fn read(path: &Path) -> Result<Option<String>, OpsError> {
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(io("read", path))?,
    };
    let mut text = String::new();
    file.take(SETTING_LIMIT_BYTES).read_to_string(&mut text).map_err(io("read", path))?;
    Ok(Some(text))
}

/// The old or the new text, whatever happens.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let mut file = fs::File::create(&draft)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&draft, path))
}
