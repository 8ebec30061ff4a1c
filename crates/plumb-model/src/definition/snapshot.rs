//! Reading `[snapshots]`, and `snapshot` of a volume: how data is kept before it is changed.

use serde::Serialize;

use super::diagnostic::Report;
use super::machine;
use super::table::Table;
use super::value;
use crate::release::{AfterFailure, SnapshotPolicy, WhenLate};

/// Most snapshots that are kept: each may take as much space as the volumes.
const MAX_KEEP: u64 = 1000;

/// How a volume is kept from changing while it is copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeSnapshot {
    /// `"freeze"`: its file system stands still.
    #[default]
    Freeze,
    /// `"stop"`: its instance is stopped.
    Stop,
    /// `{ before = "…", after = "…" }`: commands around the freeze.
    Commands {
        /// Runs before; `None` is nothing.
        before: Option<String>,
        /// Runs after.
        after: Option<String>,
        /// User they run as; `None` is root.
        user: Option<String>,
    },
}

impl VolumeSnapshot {
    /// Nothing is said in the definition.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == VolumeSnapshot::default()
    }
}

/// `[snapshots]`.
pub(super) fn read_policy(root: &Table<'_>, report: &mut Report<'_>) -> SnapshotPolicy {
    let mut policy = SnapshotPolicy::default();
    let example = "[snapshots]\nkeep = 3";
    let Some(table) = root.get("snapshots").and_then(|field| field.table(example, report)) else {
        return policy;
    };
    let known = ["before_upgrade", "failed_release", "freeze_limit", "keep", "keep_for", "when_late"];
    table.allow(&known, report);
    if let Some(wanted) = table.get("before_upgrade").and_then(|field| field.truth(report)) {
        policy.before_upgrade = wanted;
    }
    if let Some(keep) = table.get("keep").and_then(|field| field.integer(1..=MAX_KEEP, report)) {
        policy.keep = u32::try_from(keep).unwrap_or(policy.keep);
    }
    if let Some(field) = table.get("keep_for") {
        policy.keep_for_ms = value::long_time_ms(&field, "", report).unwrap_or(policy.keep_for_ms);
    }
    if let Some(field) = table.get("freeze_limit") {
        let longest_ms = plumb_guest_proto::MAX_HOLD_MS;
        policy.freeze_limit_ms =
            value::duration_ms(&field, longest_ms, report).unwrap_or(policy.freeze_limit_ms);
    }
    if let Some(field) = table.get("when_late") {
        let known = [("stop", WhenLate::Stop), ("fail", WhenLate::Fail)];
        policy.when_late = value::choice(&field, known, report).unwrap_or(policy.when_late);
    }
    if let Some(field) = table.get("failed_release") {
        let known = [("keep-data", AfterFailure::KeepData), ("restore-data", AfterFailure::RestoreData)];
        policy.failed_release = value::choice(&field, known, report).unwrap_or(policy.failed_release);
    }
    policy
}

/// `snapshot` of a volume: `"freeze"`, `"stop"` or commands.
pub(super) fn read_volume(volume: &Table<'_>, report: &mut Report<'_>) -> VolumeSnapshot {
    const EXAMPLE: &str = "snapshot = { before = \"/usr/bin/checkpoint\" }";
    let Some(field) = volume.get("snapshot") else { return VolumeSnapshot::default() };
    if field.is_text() {
        return match value::choice(&field, [("freeze", false), ("stop", true)], report) {
            Some(true) => VolumeSnapshot::Stop,
            _ => VolumeSnapshot::Freeze,
        };
    }
    let Some(table) = field.table(EXAMPLE, report) else { return VolumeSnapshot::default() };
    table.allow(&["after", "before", "user"], report);
    let mut command = |name: &str| {
        let field = table.get(name)?;
        let text = field.text("\"/usr/bin/checkpoint\"", report)?;
        if text.trim().is_empty() {
            report.add(&field.span, format!("{} is empty", field.what()));
            return None;
        }
        Some(text.to_owned())
    };
    let (before, after) = (command("before"), command("after"));
    let user = table.get("user").and_then(|field| machine::account(&field, report));
    if before.is_none() && after.is_none() {
        report
            .add(&table.at, format!("{} has neither `before` nor `after`", field.what()))
            .hint(format!("Write `{EXAMPLE}`, `snapshot = \"freeze\"` or `snapshot = \"stop\"`."));
    }
    VolumeSnapshot::Commands { before, after, user }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Definition;

    fn parse(volume: &str, rest: &str) -> Result<Definition, String> {
        let text = format!(
            "app = \"shop\"\n[machine.db]\nmiddleware = [\"sqlite3\"]\nvolume.data = {{ size = \"1GiB\", mount = \"/srv/data\"{volume} }}\n{rest}"
        );
        Definition::parse(&text, "plumb.toml").map_err(|errors| errors.to_string())
    }

    fn how(volume: &str) -> VolumeSnapshot {
        let definition = parse(volume, "").expect("a definition");
        let machine = definition.machines.into_values().next().expect("a machine");
        machine.volumes.into_values().next().expect("a volume").snapshot
    }

    #[test]
    fn a_volume_says_how_it_is_kept_still() {
        assert_eq!(how(""), VolumeSnapshot::Freeze);
        assert_eq!(how(", snapshot = \"freeze\""), VolumeSnapshot::Freeze);
        assert_eq!(how(", snapshot = \"stop\""), VolumeSnapshot::Stop);
        assert_eq!(
            how(", snapshot = { before = \"/bin/flush\", user = \"app\" }"),
            VolumeSnapshot::Commands {
                before: Some("/bin/flush".into()),
                after: None,
                user: Some("app".into())
            }
        );
        for (wrong, why) in [
            ("\"stopp\"", "stop"),
            ("{}", "neither"),
            ("{ before = \" \" }", "empty"),
            ("{ befor = \"x\" }", "befor"),
        ] {
            let error = parse(&format!(", snapshot = {wrong}"), "").expect_err(wrong);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_policy_is_read_and_checked() {
        let policy = |text: &str| parse("", text).map(|definition| definition.snapshots);
        assert_eq!(policy(""), Ok(SnapshotPolicy::default()));
        let said = "[snapshots]\nkeep = 5\nkeep_for = \"7d\"\nbefore_upgrade = false\nfreeze_limit = \"10s\"\nwhen_late = \"fail\"\nfailed_release = \"restore-data\"\n";
        let wanted = SnapshotPolicy {
            before_upgrade: false,
            keep: 5,
            keep_for_ms: 7 * 86_400_000,
            freeze_limit_ms: 10_000,
            when_late: WhenLate::Fail,
            failed_release: AfterFailure::RestoreData,
        };
        assert_eq!(policy(said), Ok(wanted));
        for wrong in
            ["keep = 0", "keep_for = \"soon\"", "freeze_limit = \"1h\"", "when_late = \"wait\"", "kept = 1"]
        {
            assert!(policy(&format!("[snapshots]\n{wrong}\n")).is_err(), "{wrong}");
        }
    }
}
