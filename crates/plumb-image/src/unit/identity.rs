//! Who a service runs as.

use super::{Accounts, UnitError, UserRecord};

/// User and groups of a service, as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub name: String,
    pub record: UserRecord,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
}

/// What is asked for, definition before unit.
#[derive(Debug, Default)]
pub(super) struct Wanted<'a> {
    pub service: &'a str,
    pub user: Option<&'a str>,
    pub group: Option<&'a str>,
    pub supplementary: Vec<&'a str>,
    /// `DynamicUser=`: a missing user has another reason.
    pub dynamic: bool,
}

impl Wanted<'_> {
    /// Looks everything up.
    pub(super) fn resolve(&self, accounts: &dyn Accounts) -> Result<Identity, UnitError> {
        let name = self.user.unwrap_or("root");
        let mut record = self.user(name, accounts)?;
        if let Some(group) = self.group {
            record.gid = self.group(group, accounts)?;
        }
        let mut groups = if record.uid == 0 { Vec::new() } else { accounts.groups_of(name) };
        for group in &self.supplementary {
            groups.push(self.group(group, accounts)?);
        }
        groups.sort_unstable();
        groups.dedup();
        groups.retain(|group| *group != record.gid);
        Ok(Identity { name: name.to_owned(), record, groups })
    }

    fn user(&self, name: &str, accounts: &dyn Accounts) -> Result<UserRecord, UnitError> {
        if let Some(record) = accounts.user(name) {
            return Ok(record);
        }
        let bare =
            |id, home: &str| UserRecord { uid: id, gid: id, home: home.to_owned(), shell: String::new() };
        if name == "root" {
            return Ok(bare(0, "/root"));
        }
        let service = self.service.to_owned();
        match name.parse() {
            Ok(id) => Ok(bare(id, "/")),
            Err(_) if self.dynamic => Err(UnitError::DynamicUser { service }),
            Err(_) => Err(UnitError::UserMissing { service, user: name.to_owned() }),
        }
    }

    fn group(&self, name: &str, accounts: &dyn Accounts) -> Result<u32, UnitError> {
        let known =
            accounts.group(name).or_else(|| (name == "root").then_some(0)).or_else(|| name.parse().ok());
        known.ok_or_else(|| UnitError::GroupMissing {
            service: self.service.to_owned(),
            group: name.to_owned(),
        })
    }
}
