//! Reading `[upgrade]`: how a release takes the place of another one.

use super::diagnostic::Report;
use super::table::Table;
use super::value;
use crate::release::{FailedInstance, UpgradePolicy};

/// `[upgrade]`.
pub(super) fn read_policy(root: &Table<'_>, report: &mut Report<'_>) -> UpgradePolicy {
    let mut policy = UpgradePolicy::default();
    let example = "[upgrade]\nfailed_instance = \"stop\"";
    let Some(table) = root.get("upgrade").and_then(|field| field.table(example, report)) else {
        return policy;
    };
    table.allow(&["failed_instance"], report);
    if let Some(field) = table.get("failed_instance") {
        let all = [FailedInstance::Undo, FailedInstance::Stop, FailedInstance::Continue];
        let known = all.map(|one| (one.as_str(), one));
        policy.failed_instance = value::choice(&field, known, report).unwrap_or_default();
    }
    policy
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
}
