//! The four kinds of metadata as types, and the one way in: bytes → signatures → type.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::{AppName, Digest, SignerName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Role, TufError};
use crate::json;
use crate::key::{KeyId, PublicKey};

/// Largest root that is read: some thousand keys.
pub const MAX_ROOT_BYTES: usize = 512 * 1024;
/// Largest timestamp that is read: it holds one name.
pub const MAX_TIMESTAMP_BYTES: usize = 16 * 1024;
/// Largest snapshot that is read: one name for each targets file, and there is one.
pub const MAX_SNAPSHOT_BYTES: usize = 64 * 1024;
/// Largest targets that are read: 100,000 documents.
pub const MAX_TARGETS_BYTES: usize = 32 * 1024 * 1024;

/// Highest version that is read: one a millisecond for a hundred thousand years.
const MAX_VERSION: u64 = u64::MAX >> 12;

/// Most signatures that are looked at in one file; each costs the check of a signature.
const MAX_SIGNATURES: usize = 64;

/// The version of the specification that is written and read.
pub(super) const SPEC_VERSION: &str = "1.0.33";

/// Who may sign what (section 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    #[serde(rename = "_type")]
    pub(super) kind: Role,
    pub(super) spec_version: String,
    pub(super) consistent_snapshot: bool,
    /// Version, from 1.
    pub version: u64,
    /// RFC 3339.
    pub expires: String,
    pub(super) keys: BTreeMap<KeyId, Key>,
    pub(super) roles: BTreeMap<Role, Keys>,
    /// Ours: the application.
    #[serde(rename = "x-plumb-app")]
    pub app: AppName,
    /// Ours: the name of every key whose statements count.
    #[serde(rename = "x-plumb-names")]
    pub names: BTreeMap<KeyId, SignerName>,
}

/// A key as metadata writes it (section 4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    pub(super) keytype: String,
    pub(super) scheme: String,
    pub(super) keyval: KeyValue,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyValue {
    pub(super) public: String,
}

/// The keys of a role, and how many of them must sign.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Keys {
    pub(super) keyids: BTreeSet<KeyId>,
    pub(super) threshold: usize,
}

impl Key {
    pub(super) fn of(public: &PublicKey) -> Self {
        let ed25519 = "ed25519".to_owned();
        Key { keytype: ed25519.clone(), scheme: ed25519, keyval: KeyValue { public: public.hex() } }
    }

    /// The key, if it is of the one kind that is understood and its name is its own.
    fn read(&self, id: &KeyId) -> Option<PublicKey> {
        let known = self.keytype == "ed25519" && self.scheme == "ed25519";
        let key = PublicKey::from_hex(&self.keyval.public).filter(|key| known && key.id() == *id)?;
        Some(key)
    }
}

impl Root {
    /// All keys that the root names, as those whose statements count.
    #[must_use]
    pub fn signers(&self) -> BTreeMap<KeyId, PublicKey> {
        let named = self.names.keys().filter_map(|id| Some((*id, self.keys.get(id)?.read(id)?)));
        named.collect()
    }

    /// The key of this name.
    #[must_use]
    pub fn key_named(&self, name: &SignerName) -> Option<KeyId> {
        self.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    /// The keys of a role, and how many must sign.
    #[must_use]
    pub fn role(&self, role: Role) -> (BTreeSet<KeyId>, usize) {
        let keys = self.roles.get(&role).cloned().unwrap_or_default();
        (keys.keyids, keys.threshold)
    }

    /// Does each role have as many keys as must sign, and is each of them there?
    pub(super) fn check(&self) -> Result<(), TufError> {
        let malformed = |why: String| Err(TufError::Malformed { role: Role::Root, why });
        for role in Role::ALL {
            let Some(keys) = self.roles.get(&role) else {
                return malformed(format!("it has no keys for {role}"));
            };
            if keys.threshold == 0 || keys.threshold > keys.keyids.len() {
                return malformed(format!(
                    "{} signatures are asked of {} keys for {role}",
                    keys.threshold,
                    keys.keyids.len()
                ));
            }
        }
        for (id, key) in &self.keys {
            let used =
                self.names.contains_key(id) || self.roles.values().any(|keys| keys.keyids.contains(id));
            if used && key.read(id).is_none() {
                return malformed(format!("key {} is not an Ed25519 key of this name", id.short()));
            }
        }
        Ok(())
    }

    /// Insists on as many good signatures of the role's keys as it needs.
    pub(super) fn verify(&self, role: Role, file: &File) -> Result<(), TufError> {
        let (keys, threshold) = self.role(role);
        let mut good = BTreeSet::new();
        for signature in file.signatures.iter().take(MAX_SIGNATURES) {
            let Some(id) = KeyId::from_hex(&signature.keyid).filter(|id| keys.contains(id)) else { continue };
            let Some(key) = self.keys.get(&id).and_then(|key| key.read(&id)) else { continue };
            let bytes = hex::decode(&signature.sig).unwrap_or_default();
            if key.verifies(&file.signed_bytes, &bytes) {
                good.insert(id);
            }
        }
        if threshold == 0 || good.len() < threshold {
            return Err(TufError::Threshold { role, found: good.len(), threshold });
        }
        Ok(())
    }
}

/// What a document is (section 4.5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Bytes.
    pub length: u64,
    pub(super) hashes: Hashes,
}

impl Target {
    /// A target of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Target { length: bytes.len() as u64, hashes: Hashes { sha256: Digest::of(bytes).hex() } }
    }

    /// Digest of its bytes; `None` if the metadata gives none.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        Digest::from_hex(&self.hashes.sha256).ok()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hashes {
    pub(super) sha256: String,
}

/// All documents (section 4.5). Without delegations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    #[serde(rename = "_type")]
    pub(super) kind: Role,
    pub(super) spec_version: String,
    /// Version, from 1.
    pub version: u64,
    /// RFC 3339.
    pub expires: String,
    /// Path → document.
    pub targets: BTreeMap<String, Target>,
}

/// `snapshot` and `timestamp` (sections 4.4 and 4.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    #[serde(rename = "_type")]
    pub(super) kind: Role,
    pub(super) spec_version: String,
    pub(super) version: u64,
    pub(super) expires: String,
    pub(super) meta: BTreeMap<String, Named>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) version: u64,
    pub(super) length: u64,
    pub(super) hashes: Hashes,
}

impl Named {
    pub(super) fn of(version: u64, bytes: &[u8]) -> Self {
        let Target { length, hashes } = Target::of(bytes);
        Named { version, length, hashes }
    }

    pub(super) fn fits(&self, bytes: &[u8]) -> bool {
        Named::of(self.version, bytes) == *self
    }
}

/// One signature of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSignature {
    pub(super) keyid: String,
    pub(super) sig: String,
}

/// A file of metadata whose signatures were not looked at yet.
pub(super) struct File {
    pub(super) role: Role,
    pub(super) signed: Value,
    pub(super) signed_bytes: Vec<u8>,
    pub(super) signatures: Vec<FileSignature>,
}

#[derive(Deserialize)]
struct Wire {
    signed: Value,
    signatures: Vec<FileSignature>,
}

impl File {
    /// Reads a file of a role.
    pub(super) fn read(role: Role, bytes: &[u8]) -> Result<Self, TufError> {
        let limit_bytes = match role {
            Role::Root => MAX_ROOT_BYTES,
            Role::Targets => MAX_TARGETS_BYTES,
            Role::Snapshot => MAX_SNAPSHOT_BYTES,
            Role::Timestamp => MAX_TIMESTAMP_BYTES,
        };
        if bytes.len() > limit_bytes {
            return Err(TufError::TooLarge { role, limit_bytes });
        }
        let malformed = |why: String| TufError::Malformed { role, why };
        let wire: Wire = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let signed_bytes =
            json::canonical(&wire.signed).ok_or_else(|| malformed("it has no canonical form".to_owned()))?;
        Ok(File { role, signed: wire.signed, signed_bytes, signatures: wire.signatures })
    }

    /// The content as its type. Call it after the signatures were verified.
    pub(super) fn content<T: DeserializeOwned>(&self) -> Result<T, TufError> {
        let malformed = |why: String| TufError::Malformed { role: self.role, why };
        let kind = self.signed.get("_type").and_then(Value::as_str).unwrap_or_default();
        if kind != self.role.as_str() {
            return Err(malformed("it is of another role".to_owned()));
        }
        // So far no chain of versions leads; beyond it nothing could be counted on.
        if self.signed.get("version").and_then(Value::as_u64).is_none_or(|version| version > MAX_VERSION) {
            return Err(malformed("its version is no number that comes about".to_owned()));
        }
        let spec = self.signed.get("spec_version").and_then(Value::as_str).unwrap_or_default();
        if !spec.starts_with("1.") {
            return Err(malformed("it follows another version of the specification".to_owned()));
        }
        serde_json::from_value(self.signed.clone()).map_err(|error| malformed(error.to_string()))
    }
}

/// Refuses what has expired (section 5.3.10 and the others like it).
pub(super) fn not_expired(role: Role, expires: &str, now_s: i64) -> Result<(), TufError> {
    let Some(end_s) = crate::time::seconds(expires) else {
        return Err(TufError::Malformed { role, why: "its time of expiry is not a time".to_owned() });
    };
    if end_s <= now_s {
        return Err(TufError::Expired { role, at: crate::time::text(end_s) });
    }
    Ok(())
}
