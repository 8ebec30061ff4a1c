//! Reading `script.PACKAGE` of a machine.

use std::collections::BTreeMap;

use plumb_debian::PackageName;

use super::diagnostic::{Report, quoted};
use super::table::{Field, Table};
use super::{ScriptChoice, value};

/// Longest rule in bytes. Debian's longest scripts have some 50 KiB; one that a person writes is far below.
const MAX_RULE_BYTES: usize = 64 * 1024;

const EXAMPLE: &str = "script.some-package = { rule = \"install -d -o foo -m 0750 /var/lib/foo\" }";

pub(super) fn read(machine: &Table<'_>, report: &mut Report<'_>) -> BTreeMap<PackageName, ScriptChoice> {
    let Some(all) = machine.get("script").and_then(|field| field.table(EXAMPLE, report)) else {
        return BTreeMap::new();
    };
    let mut choices = BTreeMap::new();
    for field in all.fields() {
        let name = field.parsed_name::<PackageName>(report);
        let choice = read_choice(&field, report);
        if let (Some(name), Some(choice)) = (name, choice) {
            choices.insert(name, choice);
        }
    }
    choices
}

fn read_choice(field: &Field<'_>, report: &mut Report<'_>) -> Option<ScriptChoice> {
    if field.is_text() {
        let text = field.text("\"skip\"", report)?;
        if text == "skip" {
            return Some(ScriptChoice::Skip);
        }
        report
            .add(&field.span, format!("{}: {} is not `skip`", field.what(), quoted(text)))
            .suggest(text, ["skip"])
            .hint("Commands go into a rule: `{ rule = \"install -d -o foo /var/lib/foo\" }`.");
        return None;
    }
    let table = field.table(EXAMPLE, report)?;
    table.allow(&["rule", "rule-file"], report);
    match (table.get("rule"), table.get("rule-file")) {
        (Some(rule), None) => {
            let text = rule.text("\"install -d -o foo -m 0750 /var/lib/foo\"", report)?;
            if text.trim().is_empty() {
                report
                    .add(&rule.span, format!("{} is empty", rule.what()))
                    .hint("Write `\"skip\"` if there is nothing to do.");
                return None;
            }
            if text.len() > MAX_RULE_BYTES {
                report.add(
                    &rule.span,
                    format!(
                        "{} has {} bytes, but at most {MAX_RULE_BYTES} are read",
                        rule.what(),
                        text.len()
                    ),
                );
                return None;
            }
            Some(ScriptChoice::Rule(text.to_owned()))
        }
        (None, Some(file)) => match value::relative_path(file.text("\"rules/foo.sh\"", report)?) {
            Ok(path) => Some(ScriptChoice::RuleFile(path)),
            Err(reason) => {
                report
                    .add(&file.span, format!("{}: {reason}", file.what()))
                    .hint("Name a file beside the definition, like `rules/foo.sh`.");
                None
            }
        },
        (Some(_), Some(file)) => {
            report.add(&file.key, format!("`rule` and `rule-file` exclude each other{}", table.inside()));
            None
        }
        (None, None) => {
            report
                .add(&table.at, format!("`rule` is missing{}", table.inside()))
                .hint(format!("Write it like `{EXAMPLE}`."));
            None
        }
    }
}
