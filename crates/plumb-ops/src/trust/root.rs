//! The root of trust of an application: read as a chain, begun, changed.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::{AppName, Digest, SignerName};
use plumb_trust::tuf::{Draft, Role, Root, Trusted, TufError};
use plumb_trust::{KeyId, PublicKey, SecretKey};
use serde::Serialize;

use super::TrustError;
use crate::error::OpsError;
use crate::progress::Progress;
use crate::{Plumb, clock};

/// How long a root stays good, seconds: a year, so that keys of people who left do not stay for ever.
const ROOT_LIFE_S: i64 = 365 * 86_400;

/// A change of trust that waits for signatures.
const DRAFT: &str = "trust-draft-1";

/// Kind of the store entries that hold the fingerprint of an application's trust: which first root it was, should its file be
/// damaged.
pub(crate) const FINGERPRINTS: &str = "fingerprint-1";

/// Who is trusted for an application.
#[derive(Debug, Clone, Serialize)]
pub struct TrustView {
    /// Application.
    pub app: AppName,
    /// Version of its root.
    pub version: u64,
    /// Digest of its first root: what a person compares before trusting it.
    pub fingerprint: Digest,
    /// When the root expires, RFC 3339.
    pub expires: String,
    /// Role to how many of its keys must sign.
    pub thresholds: BTreeMap<Role, usize>,
    /// The keys.
    pub keys: Vec<TrustedKey>,
    /// A change that waits for signatures.
    pub draft: Option<DraftView>,
}

/// A trusted key.
#[derive(Debug, Clone, Serialize)]
pub struct TrustedKey {
    /// Whose it is.
    pub name: SignerName,
    /// Its name in metadata.
    pub id: KeyId,
    /// Its public part.
    pub public: String,
    /// What it may sign beside statements.
    pub roles: BTreeSet<Role>,
    /// It is on this host.
    pub here: bool,
}

/// A change that waits for signatures.
#[derive(Debug, Clone, Serialize)]
pub struct DraftView {
    /// Version it will be.
    pub version: u64,
    /// Who signed it.
    pub signed_by: Vec<String>,
    /// Why it is not in force.
    pub waiting: String,
}

/// A change of trust.
#[derive(Debug, Clone)]
pub enum TrustChange {
    /// A key counts from now on, for statements and for these roles.
    Add {
        /// Name.
        name: SignerName,
        /// Key.
        key: PublicKey,
        /// Roles.
        roles: Vec<Role>,
    },
    /// A key counts no more, nor does anything it signed.
    Remove {
        /// Name.
        name: SignerName,
    },
    /// How many must sign.
    Threshold {
        /// Role.
        role: Role,
        /// How many.
        count: usize,
    },
    /// Nothing but a new time of expiry.
    Renew,
}

/// What is trusted of an application on this host.
pub(crate) struct Trust {
    pub(crate) trusted: Trusted,
    pub(crate) fingerprint: Digest,
    /// Every key that was ever trusted: what they signed is history, even if it counts no more.
    pub(crate) ever: BTreeMap<KeyId, PublicKey>,
    /// Their names.
    pub(crate) ever_names: BTreeMap<KeyId, SignerName>,
}

impl Trust {
    pub(crate) fn root(&self) -> &Root {
        self.trusted.root()
    }
}

impl Plumb<'_> {
    /// The trust of an application, or `None` if it has none yet. Every version is verified by the one before.
    pub(crate) fn trust_if_any(&self, app: &AppName) -> Result<Option<Trust>, OpsError> {
        self.trust_at(app, u64::MAX)
    }

    /// As it was in version `newest`, if there are newer ones.
    pub(crate) fn trust_at(&self, app: &AppName, newest: u64) -> Result<Option<Trust>, OpsError> {
        let mut found: Option<Trust> = None;
        let gap = |version| TrustError::RootGap { app: app.clone(), version };
        let versions = self.store.roots(app)?;
        if versions.is_empty() && self.fingerprint(app)?.is_some() {
            return Err(gap(1).into());
        }
        for (version, expected) in versions.into_iter().zip(1..=newest) {
            if expected != version {
                return Err(gap(expected).into());
            }
            let bytes = self.store.root_of_trust(app, version)?.ok_or_else(|| gap(version))?;
            let fail = |source| TrustError::Root { app: app.clone(), version, source };
            match &mut found {
                None => {
                    let trusted = Trusted::new(&bytes, app).map_err(fail)?;
                    let fingerprint = Digest::of(&bytes);
                    let (ever, ever_names) = (BTreeMap::new(), BTreeMap::new());
                    found = Some(Trust { trusted, fingerprint, ever, ever_names });
                }
                Some(trust) => trust.trusted.next_root(&bytes).map_err(fail)?,
            }
            if let Some(trust) = &mut found {
                trust.ever.extend(trust.trusted.root().signers());
                trust.ever_names.extend(trust.trusted.root().names.clone());
            }
        }
        Ok(found)
    }

    /// Keeps a version of the root of trust.
    pub(crate) fn add_root(&self, app: &AppName, version: u64, bytes: &[u8]) -> Result<(), OpsError> {
        self.store.add_root(app, version, bytes)?;
        if version == 1 { self.remember_fingerprint(app, &Digest::of(bytes)) } else { Ok(()) }
    }

    /// Which first root of an application was trusted here; `None` if that was before it was remembered.
    pub(crate) fn fingerprint(&self, app: &AppName) -> Result<Option<Digest>, OpsError> {
        let entry = self.store.entry(FINGERPRINTS, app.as_str())?;
        Ok(entry.and_then(|bytes| String::from_utf8_lossy(&bytes).parse().ok()))
    }

    pub(crate) fn remember_fingerprint(&self, app: &AppName, fingerprint: &Digest) -> Result<(), OpsError> {
        if self.fingerprint(app)?.as_ref() == Some(fingerprint) {
            return Ok(());
        }
        Ok(self.store.put_entry(FINGERPRINTS, app.as_str(), fingerprint.to_string().as_bytes())?)
    }

    /// The trust of an application.
    pub(crate) fn trust(&self, app: &AppName) -> Result<Trust, OpsError> {
        let found = self.trust_if_any(app)?;
        found.ok_or_else(|| TrustError::NoRoot { app: app.clone() }.into())
    }

    /// The trust of an application; begun with a key of this host, made if there is none, where it has none.
    pub(crate) fn trust_or_begin(&self, app: &AppName) -> Result<Trust, OpsError> {
        if let Some(trust) = self.trust_if_any(app)? {
            return Ok(trust);
        }
        let keys = self.keys()?;
        let chosen = self.options.signer.as_ref();
        let name = match (chosen, keys.as_slice()) {
            (Some(name), _) => name.clone(),
            (None, [only]) => only.name.clone(),
            (None, []) => self.options.user.clone(),
            (None, several) => {
                let names = several.iter().map(|key| key.name.clone()).collect();
                return Err(TrustError::WhichKey { app: app.clone(), names }.into());
            }
        };
        if !keys.iter().any(|key| key.name == name) {
            if chosen.is_some() {
                return Err(TrustError::NoKey { name }.into());
            }
            let key = self.new_key(&name, None)?;
            self.report(Progress::KeyMade { name: name.to_string(), public: key.public });
        }
        let key = self.secret_key(&name)?;
        let mut draft = Draft::first(app, &name, &key.public(), clock::now_s() + ROOT_LIFE_S);
        let fail = |source| TrustError::Root { app: app.clone(), version: 1, source };
        draft.sign(&key).map_err(fail)?;
        self.add_root(app, 1, &draft.to_bytes().map_err(fail)?)?;
        self.trust(app)
    }

    /// The key of this host that signs statements for an application.
    pub(crate) fn signing_key(&self, app: &AppName, root: &Root) -> Result<SecretKey, OpsError> {
        let trusted = root.signers();
        let here: Vec<SignerName> = self
            .keys()?
            .into_iter()
            .filter(|key| trusted.contains_key(&key.id))
            .map(|key| key.name)
            .collect();
        let name = match (&self.options.signer, here.as_slice()) {
            (Some(name), _) if here.contains(name) => name,
            (None, [only]) => only,
            (_, []) | (Some(_), _) => return Err(TrustError::NotTrusted { app: app.clone() }.into()),
            (None, several) => {
                return Err(TrustError::WhichKey { app: app.clone(), names: several.to_vec() }.into());
            }
        };
        self.secret_key(name)
    }

    /// All keys of this host that may sign for a role.
    pub(crate) fn role_keys(&self, root: &Root, roles: &[Role]) -> Result<Vec<SecretKey>, OpsError> {
        let allowed: BTreeSet<KeyId> = roles.iter().flat_map(|role| root.role(*role).0).collect();
        let mut keys = Vec::new();
        for key in self.keys()? {
            if allowed.contains(&key.id) {
                keys.push(self.secret_key(&key.name)?);
            }
        }
        Ok(keys)
    }

    /// Who is trusted for an application.
    ///
    /// # Errors
    /// [`TrustError::NoRoot`] and others.
    pub fn trust_view(&self, app: &AppName) -> Result<TrustView, OpsError> {
        let trust = self.trust(app)?;
        let root = trust.root();
        let here: BTreeSet<KeyId> = self.keys()?.into_iter().map(|key| key.id).collect();
        let signers = root.signers();
        let keys = signers.iter().filter_map(|(id, public)| {
            let roles = Role::ALL.into_iter().filter(|role| root.role(*role).0.contains(id)).collect();
            let name = root.names.get(id)?.clone();
            Some(TrustedKey { name, id: *id, public: public.to_string(), roles, here: here.contains(id) })
        });
        let mut keys: Vec<TrustedKey> = keys.collect();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        let draft = match self.draft(app)? {
            Some(draft) => Some(draft_view(&trust, &draft)?),
            None => None,
        };
        Ok(TrustView {
            app: app.clone(),
            version: root.version,
            fingerprint: trust.fingerprint,
            expires: root.expires.clone(),
            thresholds: Role::ALL.into_iter().map(|role| (role, root.role(role).1)).collect(),
            keys,
            draft,
        })
    }

    /// Who is trusted for every application that has a root of trust.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn trust_views(&self) -> Result<Vec<TrustView>, OpsError> {
        let mut views = Vec::new();
        for app in self.store.apps()? {
            if !self.store.roots(&app)?.is_empty() {
                views.push(self.trust_view(&app)?);
            }
        }
        Ok(views)
    }

    /// Changes who is trusted. What this host cannot sign alone waits as a draft.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn change_trust(&self, app: &AppName, change: &TrustChange) -> Result<TrustView, OpsError> {
        let _guard = self.store.lock_waiting(&format!("trust-{app}"), &mut |_| {})?;
        let trust = self.trust(app)?;
        let refuse = |why: String| OpsError::from(TrustError::Change { app: app.clone(), why });
        if self.draft(app)?.is_some() {
            return Err(refuse("another change waits for signatures".to_owned()));
        }
        let root = trust.root();
        let mut draft = Draft::after(root, clock::now_s() + ROOT_LIFE_S);
        match change {
            TrustChange::Add { name, key, roles } => {
                if let Some(known) = root.key_named(name).filter(|known| *known != key.id()) {
                    return Err(refuse(format!("`{name}` has another key, {}", known.short())));
                }
                draft.add(name, key, roles);
            }
            TrustChange::Remove { name } => {
                let id = root.key_named(name).ok_or_else(|| refuse(format!("there is no `{name}` in it")))?;
                draft.remove(&id);
            }
            TrustChange::Threshold { role, count } => draft.threshold(*role, *count),
            TrustChange::Renew => {}
        }
        self.advance(app, trust, draft)?;
        self.trust_view(app)
    }

    /// Signs the change that waits, or the one in `file`, which a colleague sent.
    ///
    /// # Errors
    /// [`TrustError`].
    pub fn sign_trust(&self, app: &AppName, file: Option<&[u8]>) -> Result<TrustView, OpsError> {
        let _guard = self.store.lock_waiting(&format!("trust-{app}"), &mut |_| {})?;
        let trust = self.trust(app)?;
        let draft = match file {
            Some(bytes) => {
                let version = trust.root().version + 1;
                Draft::from_bytes(bytes).map_err(|source| TrustError::Root {
                    app: app.clone(),
                    version,
                    source,
                })?
            }
            None => self.draft(app)?.ok_or_else(|| TrustError::Change {
                app: app.clone(),
                why: "no change waits for signatures".to_owned(),
            })?,
        };
        if draft.root.app != *app || draft.root.version != trust.root().version + 1 {
            let why = format!("it is version {} of `{}`", draft.root.version, draft.root.app);
            return Err(TrustError::Change { app: app.clone(), why }.into());
        }
        self.advance(app, trust, draft)?;
        self.trust_view(app)
    }

    /// The change that waits, as a file for a colleague.
    ///
    /// # Errors
    /// [`TrustError::Change`] if none waits.
    pub fn trust_draft(&self, app: &AppName) -> Result<Vec<u8>, OpsError> {
        let none =
            || TrustError::Change { app: app.clone(), why: "no change waits for signatures".to_owned() };
        Ok(self.store.entry(DRAFT, app.as_str())?.ok_or_else(none)?)
    }

    /// Drops the change that waits.
    ///
    /// # Errors
    /// [`OpsError::Store`].
    pub fn discard_trust(&self, app: &AppName) -> Result<(), OpsError> {
        Ok(self.store.remove_entry(DRAFT, app.as_str())?)
    }

    fn draft(&self, app: &AppName) -> Result<Option<Draft>, OpsError> {
        let Some(bytes) = self.store.entry(DRAFT, app.as_str())? else { return Ok(None) };
        let draft = Draft::from_bytes(&bytes).map_err(|source| TrustError::Root {
            app: app.clone(),
            version: 0,
            source,
        })?;
        Ok(Some(draft))
    }

    /// Adds the signatures of this host; a change that has enough is in force.
    fn advance(&self, app: &AppName, mut trust: Trust, mut draft: Draft) -> Result<(), OpsError> {
        let version = draft.root.version;
        let fail = |source| OpsError::from(TrustError::Root { app: app.clone(), version, source });
        let mut keys = self.role_keys(trust.root(), &[Role::Root])?;
        // A new key of this host signs as well: the new root must be signed by its own keys, too.
        keys.extend(self.role_keys(&draft.root, &[Role::Root])?);
        if keys.is_empty() {
            return Err(TrustError::NotTrusted { app: app.clone() }.into());
        }
        for key in &keys {
            draft.sign(key).map_err(|source| match source {
                TufError::Malformed { why, .. } => TrustError::Change { app: app.clone(), why }.into(),
                source => fail(source),
            })?;
        }
        let bytes = draft.to_bytes().map_err(fail)?;
        match trust.trusted.next_root(&bytes) {
            Ok(()) => {
                self.add_root(app, version, &bytes)?;
                Ok(self.store.remove_entry(DRAFT, app.as_str())?)
            }
            Err(TufError::Threshold { .. }) => Ok(self.store.put_entry(DRAFT, app.as_str(), &bytes)?),
            Err(source) => Err(fail(source)),
        }
    }
}

fn draft_view(trust: &Trust, draft: &Draft) -> Result<DraftView, OpsError> {
    let app = &draft.root.app;
    let version = draft.root.version;
    let bytes = draft.to_bytes().map_err(|source| TrustError::Root { app: app.clone(), version, source })?;
    let waiting = match trust.trusted.clone().next_root(&bytes) {
        Ok(()) => "it has all it needs; `plumb trust sign` puts it in force".to_owned(),
        Err(error) => error.to_string(),
    };
    let name = |id: &KeyId| {
        let name = draft.root.names.get(id).or_else(|| trust.root().names.get(id));
        name.map_or_else(|| id.short(), ToString::to_string)
    };
    Ok(DraftView { version, signed_by: draft.signed_by().iter().map(name).collect(), waiting })
}
