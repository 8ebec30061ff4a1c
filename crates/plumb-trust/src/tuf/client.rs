//! The client's workflow (section 5): what was trusted before, and what a remote shows now.

use plumb_model::AppName;

use super::metadata::{File, Names, not_expired};
use super::{Role, Root, Targets, TufError};

/// What is trusted of an application at one remote. Starts from a root that is trusted already, is led on by newer
/// metadata in the order of the specification, and refuses everything else.
#[derive(Debug, Clone)]
pub struct Trusted {
    root: Root,
    timestamp: Option<Names>,
    snapshot: Option<Names>,
    targets: Option<Targets>,
}

impl Trusted {
    /// Begins with a root that is trusted: pinned by digest, seen before, or ours. Its own signatures must be right; it
    /// may have expired.
    ///
    /// # Errors
    /// [`TufError`].
    pub fn new(root: &[u8], app: &AppName) -> Result<Self, TufError> {
        let file = File::read(Role::Root, root)?;
        let root: Root = file.content()?;
        root.check()?;
        root.verify(Role::Root, &file)?;
        if root.app != *app {
            return Err(TufError::App { wanted: app.clone(), found: root.app.to_string() });
        }
        Ok(Trusted { root, timestamp: None, snapshot: None, targets: None })
    }

    /// The root that is trusted now.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The documents, after [`Trusted::targets`] accepted them.
    #[must_use]
    pub fn documents(&self) -> Option<&Targets> {
        self.targets.as_ref()
    }

    /// The next root (5.3.3 to 5.3.8): signed by enough keys of the one before and of its own, one version on.
    ///
    /// # Errors
    /// [`TufError`]; nothing changes then.
    pub fn next_root(&mut self, bytes: &[u8]) -> Result<(), TufError> {
        let file = File::read(Role::Root, bytes)?;
        self.root.verify(Role::Root, &file)?;
        let next: Root = file.content()?;
        next.check()?;
        next.verify(Role::Root, &file)?;
        if next.version != self.root.version + 1 {
            return Err(TufError::Version {
                role: Role::Root,
                found: next.version,
                wanted: self.root.version + 1,
            });
        }
        if next.app != self.root.app {
            return Err(TufError::App { wanted: self.root.app.clone(), found: next.app.to_string() });
        }
        // Keys that were changed may have been stolen and used to sign versions far ahead (5.3.11, fast-forward attack).
        for role in [Role::Timestamp, Role::Snapshot] {
            if self.root.role(role) != next.role(role) {
                (self.timestamp, self.snapshot) = (None, None);
            }
        }
        if self.root.role(Role::Targets) != next.role(Role::Targets) {
            (self.snapshot, self.targets) = (None, None);
        }
        self.root = next;
        Ok(())
    }

    /// What was accepted at this remote before; only its versions matter, so it may have expired. The version of targets
    /// stands in the snapshot.
    ///
    /// # Errors
    /// [`TufError`] if it is not signed by the keys of the root.
    pub fn remember(&mut self, timestamp: &[u8], snapshot: &[u8]) -> Result<(), TufError> {
        self.timestamp(timestamp, i64::MIN)?;
        self.snapshot(snapshot, i64::MIN)
    }

    /// The timestamp that the remote shows (5.4). Returns whether it differs from the one before.
    ///
    /// # Errors
    /// [`TufError`]; nothing changes then.
    pub fn timestamp(&mut self, bytes: &[u8], now_s: i64) -> Result<bool, TufError> {
        not_expired(Role::Root, &self.root.expires, now_s)?;
        let file = File::read(Role::Timestamp, bytes)?;
        self.root.verify(Role::Timestamp, &file)?;
        let next: Names = file.content()?;
        let snapshot_version = named(&next, Role::Snapshot)?.version;
        if let Some(known) = &self.timestamp {
            let known_snapshot = named(known, Role::Snapshot)?.version;
            not_older(Role::Timestamp, next.version, known.version)?;
            not_older(Role::Snapshot, snapshot_version, known_snapshot)?;
            if next.version == known.version && next != *known {
                return Err(TufError::Mixed { role: Role::Timestamp, parent: Role::Timestamp });
            }
        }
        not_expired(Role::Timestamp, &next.expires, now_s)?;
        let changed = self.timestamp.as_ref() != Some(&next);
        self.timestamp = Some(next);
        Ok(changed)
    }

    /// Version of the snapshot that the timestamp names.
    #[must_use]
    pub fn snapshot_version(&self) -> Option<u64> {
        self.timestamp.as_ref().and_then(|names| named(names, Role::Snapshot).ok()).map(|named| named.version)
    }

    /// The snapshot (5.5).
    ///
    /// # Errors
    /// [`TufError`]; nothing changes then.
    pub fn snapshot(&mut self, bytes: &[u8], now_s: i64) -> Result<(), TufError> {
        let Some(timestamp) = &self.timestamp else {
            return Err(TufError::Mixed { role: Role::Snapshot, parent: Role::Timestamp });
        };
        let expected = named(timestamp, Role::Snapshot)?;
        if !expected.fits(bytes) {
            return Err(TufError::Mixed { role: Role::Snapshot, parent: Role::Timestamp });
        }
        let file = File::read(Role::Snapshot, bytes)?;
        self.root.verify(Role::Snapshot, &file)?;
        let next: Names = file.content()?;
        version_is(Role::Snapshot, next.version, expected.version)?;
        let targets_version = named(&next, Role::Targets)?.version;
        if let Some(known) = &self.snapshot {
            not_older(Role::Targets, targets_version, named(known, Role::Targets)?.version)?;
        }
        not_expired(Role::Snapshot, &next.expires, now_s)?;
        self.snapshot = Some(next);
        Ok(())
    }

    /// Version of the targets that the snapshot names.
    #[must_use]
    pub fn targets_version(&self) -> Option<u64> {
        self.snapshot.as_ref().and_then(|names| named(names, Role::Targets).ok()).map(|named| named.version)
    }

    /// Version of the timestamp.
    #[must_use]
    pub fn timestamp_version(&self) -> Option<u64> {
        self.timestamp.as_ref().map(|timestamp| timestamp.version)
    }

    /// When the timestamp expires, seconds since 1970.
    #[must_use]
    pub fn fresh_until_s(&self) -> Option<i64> {
        self.timestamp.as_ref().and_then(|timestamp| crate::time::seconds(&timestamp.expires))
    }

    /// The targets (5.6).
    ///
    /// # Errors
    /// [`TufError`]; nothing changes then.
    pub fn targets(&mut self, bytes: &[u8], now_s: i64) -> Result<(), TufError> {
        let Some(snapshot) = &self.snapshot else {
            return Err(TufError::Mixed { role: Role::Targets, parent: Role::Snapshot });
        };
        let expected = named(snapshot, Role::Targets)?;
        if !expected.fits(bytes) {
            return Err(TufError::Mixed { role: Role::Targets, parent: Role::Snapshot });
        }
        let file = File::read(Role::Targets, bytes)?;
        self.root.verify(Role::Targets, &file)?;
        let next: Targets = file.content()?;
        version_is(Role::Targets, next.version, expected.version)?;
        not_expired(Role::Targets, &next.expires, now_s)?;
        self.targets = Some(next);
        Ok(())
    }
}

fn named(names: &Names, role: Role) -> Result<&super::metadata::Named, TufError> {
    let found = names.meta.get(&format!("{role}.json"));
    found.ok_or_else(|| TufError::Malformed { role: names.kind, why: format!("it does not name the {role}") })
}

fn not_older(role: Role, found: u64, known: u64) -> Result<(), TufError> {
    if found < known { Err(TufError::Rollback { role, found, known }) } else { Ok(()) }
}

fn version_is(role: Role, found: u64, wanted: u64) -> Result<(), TufError> {
    if found == wanted { Ok(()) } else { Err(TufError::Version { role, found, wanted }) }
}
