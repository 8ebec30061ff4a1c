//! Making metadata: a root and its changes, and what a push publishes.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::{AppName, SignerName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::metadata::{File, FileSignature, Key, Keys, Named, Names, SPEC_VERSION, Target, Targets};
use super::{Role, Root, Trusted, TufError};
use crate::json;
use crate::key::{KeyId, PublicKey, SecretKey};

/// Metadata with its signatures, as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Wire {
    signatures: Vec<FileSignature>,
    signed: Value,
}

impl Wire {
    fn unsigned<T: Serialize>(role: Role, content: &T) -> Result<Self, TufError> {
        let signed = serde_json::to_value(content)
            .map_err(|error| TufError::Malformed { role, why: error.to_string() })?;
        Ok(Wire { signatures: Vec::new(), signed })
    }

    /// Adds the signature of `key`, in the place of one that it may have given before.
    fn sign(&mut self, role: Role, key: &SecretKey) -> Result<(), TufError> {
        let bytes = json::canonical(&self.signed)
            .ok_or_else(|| TufError::Malformed { role, why: "it has no canonical form".to_owned() })?;
        let keyid = key.public().id().to_string();
        self.signatures.retain(|signature| signature.keyid != keyid);
        self.signatures.push(FileSignature { keyid, sig: hex::encode(key.sign(&bytes)) });
        Ok(())
    }

    fn to_bytes(&self, role: Role) -> Result<Vec<u8>, TufError> {
        let mut bytes =
            serde_json::to_vec(self).map_err(|error| TufError::Malformed { role, why: error.to_string() })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// A root that is being changed, and the signatures it has so far.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What it will say.
    pub root: Root,
    wire: Option<Wire>,
}

impl Draft {
    /// The first root of an application: one key for everything.
    #[must_use]
    pub fn first(app: &AppName, name: &SignerName, key: &PublicKey, expires_s: i64) -> Self {
        let id = key.id();
        let keys = Keys { keyids: BTreeSet::from([id]), threshold: 1 };
        let root = Root {
            kind: Role::Root,
            spec_version: SPEC_VERSION.to_owned(),
            consistent_snapshot: true,
            version: 1,
            expires: crate::time::text(expires_s),
            keys: BTreeMap::from([(id, Key::of(key))]),
            roles: Role::ALL.into_iter().map(|role| (role, keys.clone())).collect(),
            app: app.clone(),
            names: BTreeMap::from([(id, name.clone())]),
        };
        Draft { root, wire: None }
    }

    /// The root after `root`.
    #[must_use]
    pub fn after(root: &Root, expires_s: i64) -> Self {
        let mut root = root.clone();
        root.version += 1;
        root.expires = crate::time::text(expires_s);
        Draft { root, wire: None }
    }

    /// Adds a key under a name, for statements and for `roles`. Signatures so far are void.
    pub fn add(&mut self, name: &SignerName, key: &PublicKey, roles: &[Role]) {
        self.wire = None;
        let id = key.id();
        self.root.keys.insert(id, Key::of(key));
        self.root.names.insert(id, name.clone());
        for role in roles {
            self.root.roles.entry(*role).or_default().keyids.insert(id);
        }
    }

    /// Takes a key out of everything. Signatures so far are void. [`Draft::sign`] refuses if a role then has too few.
    pub fn remove(&mut self, id: &KeyId) {
        self.wire = None;
        self.root.keys.remove(id);
        self.root.names.remove(id);
        for keys in self.root.roles.values_mut() {
            keys.keyids.remove(id);
        }
    }

    /// How many keys must sign for a role. Signatures so far are void.
    pub fn threshold(&mut self, role: Role, threshold: usize) {
        self.wire = None;
        self.root.roles.entry(role).or_default().threshold = threshold;
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`TufError::Malformed`] if a role has fewer keys than must sign.
    pub fn sign(&mut self, key: &SecretKey) -> Result<(), TufError> {
        self.root.check()?;
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => Wire::unsigned(Role::Root, &self.root)?,
        };
        wire.sign(Role::Root, key)?;
        self.wire = Some(wire);
        Ok(())
    }

    /// Its bytes with the signatures so far; a file that others can sign, and the root itself when enough have.
    ///
    /// # Errors
    /// [`TufError::Malformed`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, TufError> {
        match &self.wire {
            Some(wire) => wire.to_bytes(Role::Root),
            None => Wire::unsigned(Role::Root, &self.root)?.to_bytes(Role::Root),
        }
    }

    /// Reads what [`Draft::to_bytes`] wrote. Its signatures are looked at when it becomes the root.
    ///
    /// # Errors
    /// [`TufError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TufError> {
        let file = File::read(Role::Root, bytes)?;
        let root: Root = file.content()?;
        root.check()?;
        Ok(Draft { root, wire: Some(Wire { signatures: file.signatures, signed: file.signed }) })
    }

    /// Keys that signed it so far, by what it says itself.
    #[must_use]
    pub fn signed_by(&self) -> BTreeSet<KeyId> {
        let signatures = self.wire.iter().flat_map(|wire| &wire.signatures);
        signatures.filter_map(|signature| KeyId::from_hex(&signature.keyid)).collect()
    }
}

/// How long what is published stays good, seconds since 1970, and how it is numbered.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    /// Targets and snapshot.
    pub long_s: i64,
    /// Timestamp.
    pub short_s: i64,
    /// Versions of targets and snapshot that are passed over, because files of a push that never came to its end have
    /// their names.
    pub skip: u64,
}

/// Files that a push writes, in this order; the last one makes them visible.
#[derive(Debug, Clone)]
pub struct Published {
    /// Name → bytes: `4.targets.json`, `4.snapshot.json`.
    pub files: Vec<(String, Vec<u8>)>,
    /// Bytes of `timestamp.json`.
    pub timestamp: Vec<u8>,
    /// Its version.
    pub version: u64,
}

/// Metadata for `documents`, one version on from what `seen` has seen at the remote, signed by those of `keys` that
/// `root` allows, which may be newer than the one of `seen`.
///
/// # Errors
/// [`TufError::Threshold`] if too few of the keys may sign.
pub fn publish(
    (root, seen): (&Root, &Trusted),
    documents: BTreeMap<String, Target>,
    keys: &[SecretKey],
    fresh: Fresh,
) -> Result<Published, TufError> {
    let next = |version: Option<u64>| version.unwrap_or(0) + 1;
    let (long, short) = (crate::time::text(fresh.long_s), crate::time::text(fresh.short_s));
    let spec_version = SPEC_VERSION.to_owned();
    let targets = Targets {
        kind: Role::Targets,
        spec_version: spec_version.clone(),
        version: next(seen.targets_version()) + fresh.skip,
        expires: long.clone(),
        targets: documents,
    };
    let targets_bytes = signed(root, Role::Targets, &targets, keys)?;
    let names = |kind: Role, of: Role, version: u64, of_version: u64, bytes: &[u8], expires: &str| Names {
        kind,
        spec_version: spec_version.clone(),
        version,
        expires: expires.to_owned(),
        meta: BTreeMap::from([(format!("{of}.json"), Named::of(of_version, bytes))]),
    };
    let version = next(seen.snapshot_version()) + fresh.skip;
    let snapshot = names(Role::Snapshot, Role::Targets, version, targets.version, &targets_bytes, &long);
    let snapshot_bytes = signed(root, Role::Snapshot, &snapshot, keys)?;
    let version = next(seen.timestamp_version());
    let timestamp =
        names(Role::Timestamp, Role::Snapshot, version, snapshot.version, &snapshot_bytes, &short);
    let version = timestamp.version;
    let timestamp = signed(root, Role::Timestamp, &timestamp, keys)?;
    let files = vec![
        (format!("{}.targets.json", targets.version), targets_bytes),
        (format!("{}.snapshot.json", snapshot.version), snapshot_bytes),
    ];
    Ok(Published { files, timestamp, version })
}

fn signed<T: Serialize>(
    root: &Root,
    role: Role,
    content: &T,
    keys: &[SecretKey],
) -> Result<Vec<u8>, TufError> {
    let (allowed, threshold) = root.role(role);
    let signers: Vec<&SecretKey> = keys.iter().filter(|key| allowed.contains(&key.public().id())).collect();
    if signers.len() < threshold {
        return Err(TufError::Threshold { role, found: signers.len(), threshold });
    }
    let mut wire = Wire::unsigned(role, content)?;
    for key in signers {
        wire.sign(role, key)?;
    }
    wire.to_bytes(role)
}
