//! Reading `[upgrade]`: how a release takes the place of another one.

use std::collections::BTreeMap;

use super::diagnostic::Report;
use super::table::Table;
use super::{Machine, value};
use crate::MachineName;
use crate::release::{BlueGreen, FailedInstance, UpgradePolicy};

/// Longest time that a new set is watched before it stays: an upgrade is a command that somebody waits for.
const MAX_WATCH_MS: u64 = 24 * 3_600_000;

/// Longest time that an old set is kept: everything is there twice meanwhile.
const MAX_KEEP_MS: u64 = 7 * 24 * 3_600_000;

/// `[upgrade]`.
pub(super) fn read_policy(root: &Table<'_>, report: &mut Report<'_>) -> UpgradePolicy {
    let mut policy = UpgradePolicy::default();
    let example = "[upgrade]\nfailed_instance = \"stop\"";
    let Some(table) = root.get("upgrade").and_then(|field| field.table(example, report)) else {
        return policy;
    };
    table.allow(&["blue_green", "failed_instance"], report);
    if let Some(field) = table.get("failed_instance") {
        let all = [FailedInstance::Undo, FailedInstance::Stop, FailedInstance::Continue];
        let known = all.map(|one| (one.as_str(), one));
        policy.failed_instance = value::choice(&field, known, report).unwrap_or_default();
    }
    policy.blue_green = read_blue_green(&table, report);
    policy
}

/// `blue_green = { watch = "30s", keep = "10min" }`.
fn read_blue_green(table: &Table<'_>, report: &mut Report<'_>) -> Option<BlueGreen> {
    const EXAMPLE: &str = "blue_green = { watch = \"30s\", keep = \"10min\" }";
    let table = table.get("blue_green").and_then(|field| field.table(EXAMPLE, report))?;
    table.allow(&["keep", "watch"], report);
    let mut policy = BlueGreen::default();
    if let Some(field) = table.get("watch") {
        policy.watch_ms = value::duration_ms(&field, MAX_WATCH_MS, report).unwrap_or(policy.watch_ms);
    }
    if let Some(field) = table.get("keep") {
        let is_none = field.is_text() && field.text("\"10min\"", report) == Some("none");
        let said = if is_none { Some(0) } else { value::duration_ms(&field, MAX_KEEP_MS, report) };
        policy.keep_ms = said.unwrap_or(policy.keep_ms);
    }
    Some(policy)
}

/// Something must be able to run twice. What has a volume cannot: its data is there once.
pub(super) fn check_twice(
    root: &Table<'_>,
    policy: &UpgradePolicy,
    machines: &BTreeMap<MachineName, Machine>,
    report: &mut Report<'_>,
) {
    let all_have_volumes = machines.values().all(|machine| !machine.volumes.is_empty());
    if policy.blue_green.is_none() || machines.is_empty() || !all_have_volumes {
        return;
    }
    let Some(field) = root.get("upgrade") else { return };
    report
        .add(&field.key, "`blue_green`, but every machine has a volume, and what has one runs once")
        .hint("Leave `blue_green` out: machines with volumes are replaced one by one.");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Definition;

    fn policy(said: &str) -> Result<UpgradePolicy, String> {
        let text = format!("app = \"shop\"\n[machine.web]\nmiddleware = [\"nginx-light\"]\n{said}");
        let definition = Definition::parse(&text, "plumb.toml").map_err(|errors| errors.to_string())?;
        Ok(definition.upgrade)
    }

    #[test]
    fn what_follows_a_failed_instance_is_read_and_checked() {
        assert_eq!(policy(""), Ok(UpgradePolicy::default()));
        for (said, wanted) in [
            ("undo", FailedInstance::Undo),
            ("stop", FailedInstance::Stop),
            ("continue", FailedInstance::Continue),
        ] {
            let read = policy(&format!("[upgrade]\nfailed_instance = \"{said}\"\n"));
            assert_eq!(read.map(|policy| policy.failed_instance), Ok(wanted));
        }
        for (wrong, why) in [
            ("failed_instance = \"contine\"", "continue"),
            ("failed_instance = 3", "failed_instance"),
            ("failed = \"stop\"", "failed"),
        ] {
            let error = policy(&format!("[upgrade]\n{wrong}\n")).expect_err(wrong);
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn blue_and_green_are_read_and_checked() {
        let read = |said: &str| policy(&format!("[upgrade]\nblue_green = {said}\n"));
        let wanted = |watch_ms, keep_ms| Ok(Some(BlueGreen { watch_ms, keep_ms }));
        assert_eq!(read("{}").map(|policy| policy.blue_green), wanted(0, 600_000));
        let said = "{ watch = \"30s\", keep = \"1h\" }";
        assert_eq!(read(said).map(|policy| policy.blue_green), wanted(30_000, 3_600_000));
        assert_eq!(read("{ keep = \"none\" }").map(|policy| policy.blue_green), wanted(0, 0));
        for (wrong, why) in [
            ("true", "blue_green = {"),
            ("{ keep = \"ten\" }", "not a duration"),
            ("{ keep = \"200h\" }", "at most"),
            ("{ wait = \"1s\" }", "wait"),
        ] {
            let error = read(wrong).expect_err(wrong);
            assert!(error.contains(why), "{error}");
        }
        let error =
            policy("volume.data = { mount = \"/var/www\", size = \"1GiB\" }\n[upgrade]\nblue_green = {}\n");
        let error = error.expect_err("a machine with a volume only");
        assert!(error.contains("every machine has a volume"), "{error}");
        // Names of the second set are names, too.
        let clash = "[machine.web-51]\nmiddleware = [\"nginx-light\"]\n[upgrade]\n";
        assert!(policy(&format!("{clash}failed_instance = \"stop\"\n")).is_ok());
        let error = policy(&format!("{clash}blue_green = {{}}\n")).expect_err("a name that is taken");
        assert!(error.contains("`web-51` is also the name of an instance"), "{error}");
    }
}
