//! Reading `[upgrade]`: how a release takes the place of another one.

use super::diagnostic::{Report, quoted};
use super::table::{Field, Table};
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
        policy.failed_instance = read_failed(&field, report).unwrap_or_default();
    }
    policy
}

fn read_failed(field: &Field<'_>, report: &mut Report<'_>) -> Option<FailedInstance> {
    let all = [FailedInstance::Undo, FailedInstance::Stop, FailedInstance::Continue];
    let text = field.text("\"undo\"", report)?;
    let found = all.into_iter().find(|one| one.as_str() == text);
    if found.is_none() {
        let wrong = format!("{} is {}, but must be `undo`, `stop` or `continue`", field.what(), quoted(text));
        report.add(&field.span, wrong).suggest(text, all.map(FailedInstance::as_str));
    }
    found
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
