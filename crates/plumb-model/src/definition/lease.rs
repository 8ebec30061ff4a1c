//! Reading `[lease]`: how long deployments run, how long their data is kept after that, and what they are for.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::channel;
use super::diagnostic::Report;
use super::table::{Field, Table};
use super::value;
use crate::{ChannelName, DeploymentName};

/// Longest purpose, bytes: one line.
const MAX_PURPOSE_BYTES: usize = 200;

/// What stands where there is no end.
const FOR_EVER: &str = "for-ever";

const EXAMPLE: &str = "[lease]\nrun = \"14d\"";

const KEYS: [&str; 3] = ["keep", "purpose", "run"];

/// `[lease]`: what the first lease of a deployment is made from, the most particular first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeasePolicy {
    /// Of those that none of the others is about.
    pub all: LeaseTerms,
    /// `channel.NAME`: of what comes from this channel.
    pub channels: BTreeMap<ChannelName, LeaseTerms>,
    /// `deployment.NAME`: of the deployment of this name.
    pub deployments: BTreeMap<DeploymentName, LeaseTerms>,
}

/// What is said of a lease; what is not is as Plumb has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LeaseTerms {
    /// How long it runs after it was last brought up or renewed.
    pub run: Option<LeaseTime>,
    /// How long its data is kept after it stopped.
    pub keep: Option<LeaseTime>,
    /// What it is for.
    pub purpose: Option<String>,
}

/// A time, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseTime {
    /// So many milliseconds, more than none.
    Ms(u64),
    /// `"for-ever"`.
    ForEver,
}

/// `run 14d; channel dev: run 12h, keep for-ever`.
impl fmt::Display for LeasePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = (self.all != LeaseTerms::default()).then(|| self.all.to_string());
        let channels = self.channels.iter().map(|(name, terms)| format!("channel {name}: {terms}"));
        let deployments = self.deployments.iter().map(|(name, terms)| format!("deployment {name}: {terms}"));
        let parts: Vec<String> = all.into_iter().chain(channels).chain(deployments).collect();
        f.write_str(&parts.join("; "))
    }
}

/// `run 14d, keep for-ever, for "sales"`.
impl fmt::Display for LeaseTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |name: &str, time: Option<LeaseTime>| {
            time.map(|time| match time {
                LeaseTime::Ms(ms) => format!("{name} {}", channel::span(ms / 1000)),
                LeaseTime::ForEver => format!("{name} {FOR_EVER}"),
            })
        };
        let purpose = self.purpose.as_ref().map(|purpose| format!("purpose {purpose:?}"));
        let parts = [time("run", self.run), time("keep", self.keep), purpose];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl LeasePolicy {
    /// Nothing is said in the definition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == LeasePolicy::default()
    }

    /// What is said of a deployment, which comes from a channel or does not: of each key what is said most particularly.
    #[must_use]
    pub fn of(&self, deployment: &DeploymentName, channel: Option<&str>) -> LeaseTerms {
        let named = self.deployments.get(deployment);
        let channel =
            self.channels.iter().find(|(name, _)| Some(name.as_str()) == channel).map(|(_, terms)| terms);
        let mut found = LeaseTerms::default();
        for terms in named.into_iter().chain(channel).chain([&self.all]) {
            found.run = found.run.or(terms.run);
            found.keep = found.keep.or(terms.keep);
            found.purpose = found.purpose.or_else(|| terms.purpose.clone());
        }
        found
    }
}

/// `[lease]`.
pub(super) fn read(root: &Table<'_>, report: &mut Report<'_>) -> LeasePolicy {
    let mut policy = LeasePolicy::default();
    let Some(table) = root.get("lease").and_then(|field| field.table(EXAMPLE, report)) else {
        return policy;
    };
    table.allow(&["channel", "deployment", KEYS[0], KEYS[1], KEYS[2]], report);
    policy.all = read_terms(&table, report);
    for field in named(&table, "channel", report) {
        let name = field.parsed_name::<ChannelName>(report);
        if let (Some(name), Some(terms)) = (name, read_named(&field, report)) {
            policy.channels.insert(name, terms);
        }
    }
    for field in named(&table, "deployment", report) {
        let name = field.parsed_name::<DeploymentName>(report);
        if let (Some(name), Some(terms)) = (name, read_named(&field, report)) {
            policy.deployments.insert(name, terms);
        }
    }
    policy
}

fn named<'a>(table: &Table<'a>, key: &str, report: &mut Report<'_>) -> Vec<Field<'a>> {
    let example = format!("{key}.NAME = {{ run = \"7d\" }}");
    let all = table.get(key).and_then(|field| field.table(&example, report));
    all.map(|all| all.fields()).unwrap_or_default()
}

fn read_named(field: &Field<'_>, report: &mut Report<'_>) -> Option<LeaseTerms> {
    let table = field.table("{ run = \"7d\" }", report)?;
    table.allow(&KEYS, report);
    Some(read_terms(&table, report))
}

fn read_terms(table: &Table<'_>, report: &mut Report<'_>) -> LeaseTerms {
    let mut time = |key: &str| table.get(key).and_then(|field| read_time(&field, report));
    let (run, keep) = (time("run"), time("keep"));
    let purpose = table.get("purpose").and_then(|field| read_purpose(&field, report));
    LeaseTerms { run, keep, purpose }
}

/// `14d`, or that there is no end.
fn read_time(field: &Field<'_>, report: &mut Report<'_>) -> Option<LeaseTime> {
    if field.text("\"14d\"", report)? == FOR_EVER {
        return Some(LeaseTime::ForEver);
    }
    value::long_time_ms(field, &format!(", or `\"{FOR_EVER}\"`"), report).map(LeaseTime::Ms)
}

fn read_purpose(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text("\"demo for sales\"", report)?;
    let is_line = !text.trim().is_empty() && !text.chars().any(char::is_control);
    if is_line && text.len() <= MAX_PURPOSE_BYTES {
        return Some(text.to_owned());
    }
    let wrong = format!("{} must be one line of at most {MAX_PURPOSE_BYTES} bytes", field.what());
    report.add(&field.span, wrong);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::Definition;

    const DAY: u64 = 86_400_000;

    fn parse(lease: &str) -> Result<LeasePolicy, String> {
        let text = format!("app = \"shop\"\n[machine.web]\nmiddleware = [\"nginx-light\"]\n{lease}\n");
        let definition = Definition::parse(&text, "plumb.toml").map_err(|errors| errors.to_string())?;
        Ok(definition.lease)
    }

    fn of(policy: &LeasePolicy, name: &str, channel: Option<&str>) -> (Option<LeaseTime>, Option<LeaseTime>) {
        let terms = policy.of(&name.parse().expect("a name"), channel);
        (terms.run, terms.keep)
    }

    #[test]
    fn the_most_particular_holds_key_by_key() {
        let policy = parse(
            "[lease]\nrun = \"14d\"\nkeep = \"30d\"\npurpose = \"the shop\"\n\
             channel.dev = { run = \"12h\" }\nchannel.prod = { run = \"for-ever\", keep = \"for-ever\" }\n\
             deployment.shop-demo = { run = \"2d\", purpose = \"for sales\" }",
        )
        .expect("a policy");
        let ms = |time| Some(LeaseTime::Ms(time));
        assert_eq!(of(&policy, "shop", None), (ms(14 * DAY), ms(30 * DAY)));
        assert_eq!(of(&policy, "shop", Some("dev")), (ms(DAY / 2), ms(30 * DAY)));
        let ever = Some(LeaseTime::ForEver);
        assert_eq!(of(&policy, "shop", Some("prod")), (ever, ever));
        assert_eq!(of(&policy, "shop-demo", Some("prod")), (ms(2 * DAY), ever));
        assert_eq!(
            policy.to_string(),
            "run 14d, keep 30d, purpose \"the shop\"; channel dev: run 12h; \
             channel prod: run for-ever, keep for-ever; deployment shop-demo: run 2d, purpose \"for sales\""
        );
        let purpose = |name: &str| policy.of(&name.parse().expect("a name"), None).purpose;
        assert_eq!(purpose("shop").as_deref(), Some("the shop"));
        assert_eq!(purpose("shop-demo").as_deref(), Some("for sales"));
        assert!(parse("").expect("nothing").is_empty());
    }

    #[test]
    fn what_is_no_lease_is_told() {
        for (wrong, why) in [
            ("run = \"soon\"", "not a time"),
            ("run = \"0d\"", "not a time"),
            ("run = \"99999d\"", "not a time"),
            ("run = 7", "string"),
            ("runs = \"7d\"", "Did you mean `run`?"),
            ("purpose = \"\"", "one line"),
            ("channel.dev = \"7d\"", "table"),
            ("channel.dev = { keeps = \"7d\" }", "Did you mean `keep`?"),
            ("channel.Dev = { keep = \"7d\" }", "Dev"),
            ("deployment.Shop = { keep = \"7d\" }", "Shop"),
        ] {
            let error = parse(&format!("[lease]\n{wrong}")).expect_err(wrong);
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
