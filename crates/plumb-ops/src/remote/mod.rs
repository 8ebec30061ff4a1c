//! Remotes: named places, releases sent there, releases brought here.
//!
//! ```text
//!  push    reach ─► delta against what the remote has, or all of it ─► blobs ─► signed documents, last
//!  pull    signed documents ─► the cheapest chain of deltas from what is here ─► objects ─► release, last
//! ```

mod bundle;
mod chain;
mod error;
mod index;
mod object;
mod pull;
mod push;
mod regain;
mod report;
mod restore;
mod signed;
mod supply;
mod word;

use std::path::PathBuf;

use plumb_model::release::{ReleaseName, ReleaseRef};
use plumb_model::{AppName, ChannelName, Digest, RemoteName};
use plumb_remote::{Address, Patience, Remote};
use serde::Serialize;

pub use self::error::TransferError;
pub use self::pull::{Pulled, PulledBundle};
pub use self::push::{Pushed, PushedBundle};
pub use self::report::Reports;

pub(crate) use self::restore::Lost;
pub(crate) use crate::collect::Mode;

use crate::Plumb;
use crate::error::{OpsError, io};

/// Kind of the store entries that hold addresses of remotes.
const REMOTES: &str = "remote-1";

/// Kind of the store entries that say which remote an application came from or goes to.
const UPSTREAMS: &str = "upstream-1";

/// The name that `clone` gives, and the one that is taken if none is said.
const ORIGIN: &str = "origin";

/// A release, or the newest one of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The application.
    pub app: AppName,
    /// The number; the newest if there is neither this nor a channel.
    pub number: Option<u64>,
    /// The channel that points to it.
    pub channel: Option<ChannelName>,
}

impl Wanted {
    /// `shop@3`, `shop@prod` or `shop`.
    ///
    /// # Errors
    /// [`TransferError::NotARelease`].
    pub fn parse(text: &str) -> Result<Wanted, OpsError> {
        match text.parse() {
            Ok(ReleaseRef::Release(ReleaseName { app, number })) => {
                return Ok(Wanted { app, number: Some(number), channel: None });
            }
            Ok(ReleaseRef::Channel { app, channel }) => {
                return Ok(Wanted { app, number: None, channel: Some(channel) });
            }
            Err(_) => {}
        }
        let refused = |_| TransferError::NotARelease { value: text.to_owned() };
        Ok(Wanted { app: text.parse().map_err(refused)?, number: None, channel: None })
    }
}

/// What a transfer does besides the usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Supplies {
    /// Only what a release needs to be looked at and run.
    #[default]
    Leave,
    /// Also the packages and files that its images were built from.
    Bring,
}

/// A remote with its name.
#[derive(Debug, Clone, Serialize)]
pub struct NamedRemote {
    /// As this user calls it.
    pub name: RemoteName,
    /// Where it is.
    pub address: String,
}

/// A remote that was found by what somebody typed.
pub(crate) struct Place {
    /// Its name, if it has one.
    name: Option<RemoteName>,
    remote: Box<dyn Remote>,
    patience: Patience,
}

impl Plumb<'_> {
    /// The remotes of this user, by name.
    ///
    /// # Errors
    /// [`OpsError::Store`].
    pub fn remotes(&self) -> Result<Vec<NamedRemote>, OpsError> {
        let mut remotes = Vec::new();
        for key in self.store.entries(REMOTES)? {
            if let (Ok(name), Some(value)) = (key.parse(), self.store.entry(REMOTES, &key)?) {
                let address = String::from_utf8_lossy(&value).into_owned();
                remotes.push(NamedRemote { name, address });
            }
        }
        Ok(remotes)
    }

    /// Gives a remote a name. It is not looked at.
    ///
    /// # Errors
    /// [`OpsError::Remote`] for a bad address, [`TransferError::RemoteTaken`] if the name leads elsewhere.
    pub fn add_remote(&self, name: &RemoteName, address: &str) -> Result<NamedRemote, OpsError> {
        let address = parse(address)?.to_string();
        if !self.is_named(name, &address)? {
            self.store.put_entry(REMOTES, name.as_str(), address.as_bytes())?;
        }
        Ok(NamedRemote { name: name.clone(), address })
    }

    /// Has this address this name? An error if another one has.
    fn is_named(&self, name: &RemoteName, address: &str) -> Result<bool, OpsError> {
        match self.store.entry(REMOTES, name.as_str())? {
            Some(known) if known != address.as_bytes() => {
                let address = String::from_utf8_lossy(&known).into_owned();
                Err(OpsError::Transfer(TransferError::RemoteTaken { name: name.clone(), address }))
            }
            known => Ok(known.is_some()),
        }
    }

    /// Forgets the name of a remote. What is there stays.
    ///
    /// # Errors
    /// [`TransferError::NoRemote`].
    pub fn remove_remote(&self, name: &RemoteName) -> Result<(), OpsError> {
        if self.store.entry(REMOTES, name.as_str())?.is_none() {
            return Err(self.no_remote(name.as_str())?);
        }
        for app in self.store.entries(UPSTREAMS)? {
            if self.store.entry(UPSTREAMS, &app)?.as_deref() == Some(name.as_str().as_bytes()) {
                self.store.remove_entry(UPSTREAMS, &app)?;
            }
        }
        Ok(self.store.remove_entry(REMOTES, name.as_str())?)
    }

    /// Adds a remote and pulls the newest release of an application from it. Where nobody is trusted for the application yet,
    /// `pin` is the fingerprint that its root of trust must have; without it whoever is trusted there is trusted here.
    ///
    /// # Errors
    /// [`OpsError`]; the name stays only if the release is here.
    pub fn clone_app(
        &self,
        (name, address): (Option<&RemoteName>, &str),
        (app, pin): (&AppName, Option<&Digest>),
        (supplies, mode): (Supplies, Mode),
    ) -> Result<Pulled, OpsError> {
        let origin = ORIGIN.parse().map_err(|_| TransferError::NotARelease { value: ORIGIN.to_owned() })?;
        let name = name.unwrap_or(&origin);
        let address = parse(address)?;
        self.is_named(name, &address.to_string())?;
        let wanted = Wanted { app: app.clone(), number: None, channel: None };
        let place = self.open_remote(&address, Some(name.clone()))?;
        let pulled = self.pull_from(&place, (&wanted, pin), supplies, mode)?;
        if mode == Mode::Do {
            self.add_remote(name, &address.to_string())?;
            self.store.put_entry(UPSTREAMS, app.as_str(), name.as_str().as_bytes())?;
        }
        Ok(pulled)
    }

    /// The remote that `text` names or is the address of; without it the one of the application, `origin`, or the only one.
    pub(crate) fn place(&self, text: Option<&str>, app: &AppName) -> Result<Place, OpsError> {
        let name = match text {
            Some(text) if text.contains(['/', ':']) => return self.open_remote(&parse(text)?, None),
            Some(text) => text.to_owned(),
            None => self.usual_remote(app)?,
        };
        let Ok(name) = name.parse::<RemoteName>() else { return Err(self.no_remote(&name)?) };
        let Some(address) = self.store.entry(REMOTES, name.as_str())? else {
            return Err(self.no_remote(name.as_str())?);
        };
        let address = parse(&String::from_utf8_lossy(&address))?;
        self.open_remote(&address, Some(name))
    }

    fn usual_remote(&self, app: &AppName) -> Result<String, OpsError> {
        if let Some(upstream) = self.store.entry(UPSTREAMS, app.as_str())? {
            return Ok(String::from_utf8_lossy(&upstream).into_owned());
        }
        let known = self.store.entries(REMOTES)?;
        match known.as_slice() {
            [only] => Ok(only.clone()),
            _ if known.iter().any(|name| name == ORIGIN) => Ok(ORIGIN.to_owned()),
            _ => Err(OpsError::Transfer(TransferError::WhichRemote { app: app.clone(), known })),
        }
    }

    /// Remembers which remote an application belongs to, once something came from or went to one that has a name.
    fn keep_upstream(&self, place: &Place, app: &AppName) -> Result<(), OpsError> {
        let Some(name) = &place.name else { return Ok(()) };
        if self.store.entry(UPSTREAMS, app.as_str())?.is_none() {
            self.store.put_entry(UPSTREAMS, app.as_str(), name.as_str().as_bytes())?;
        }
        Ok(())
    }

    fn open_remote(&self, address: &Address, name: Option<RemoteName>) -> Result<Place, OpsError> {
        if self.options.offline && address.is_far() {
            let what = format!("remote `{address}`");
            return Err(plumb_fetch::Error::Offline { what }.into());
        }
        let patience = Patience::default();
        let options = plumb_remote::Options {
            proxies: self.options.proxies.clone(),
            environment: self.options.environment.clone(),
            patience,
        };
        Ok(Place { name, remote: plumb_remote::open(address, &options)?, patience })
    }

    fn no_remote(&self, name: &str) -> Result<OpsError, OpsError> {
        Ok(OpsError::Transfer(TransferError::NoRemote {
            name: name.to_owned(),
            known: self.store.entries(REMOTES)?,
        }))
    }
}

/// Threads that ask a remote, or send or bring files.
fn connections() -> Result<rayon::ThreadPool, OpsError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(plumb_remote::limit::CONNECTIONS).build();
    Ok(pool.map_err(|error| TransferError::Threads { source: error.into() })?)
}

fn parse(text: &str) -> Result<Address, OpsError> {
    let here = std::env::current_dir().map_err(io("find", &PathBuf::from(".")))?;
    Ok(Address::parse(text, &here)?)
}
