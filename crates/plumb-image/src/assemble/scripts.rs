//! All maintainer scripts of a closure in the order of an installation: `config` and `preinst`, then `postinst`, then
//! triggers; and the user's own rules where no rule of Plumb's covers a script.

use std::collections::{BTreeMap, BTreeSet};

use super::{AssembleError, Choice, PackageInput};
use crate::rule::Report;
use crate::rule::script::{self, Script};
use crate::rule::world::World;

/// How reports call the rule of a definition.
pub(super) const RULE: &str = "rule";

pub(super) struct Scripts<'c> {
    pub(super) choices: &'c BTreeMap<String, Choice>,
    pub(super) reports: Vec<Report>,
}

impl Scripts<'_> {
    /// debconf's questions and answers, and every `preinst`.
    pub(super) fn preinst(
        &mut self,
        world: &mut World<'_>,
        packages: &[PackageInput<'_>],
    ) -> Result<(), AssembleError> {
        for package in packages {
            if let Some(templates) = package.content.scripts.get("templates") {
                world.questions.load(package.name, templates);
            }
            if let Some(config) = package.content.scripts.get("config") {
                world.configs.insert(package.name.to_owned(), config.clone());
            }
        }
        for package in packages {
            self.run(world, package, "preinst", "")?;
        }
        Ok(())
    }

    pub(super) fn postinst(
        &mut self,
        world: &mut World<'_>,
        packages: &[PackageInput<'_>],
    ) -> Result<(), AssembleError> {
        for package in packages {
            self.run(world, package, "postinst", "")?;
            if let Some(Choice::Rule(text)) = self.choices.get(package.name) {
                let text = format!("#!/bin/sh\n{text}\n");
                let rule = Script { package: package.name, name: RULE, text: &text, triggers: "" };
                self.reports.extend(script::run(world, rule)?);
            }
        }
        Ok(())
    }

    /// deb-triggers(5): a `postinst` is called again if another package has what it is interested in.
    pub(super) fn triggers(
        &mut self,
        world: &mut World<'_>,
        packages: &[PackageInput<'_>],
    ) -> Result<(), AssembleError> {
        let mut activated: BTreeSet<String> = std::mem::take(&mut world.triggered);
        for package in packages {
            activated.extend(declared(package, "activate"));
        }
        for package in packages {
            let is_active = |trigger: &String| {
                if !trigger.starts_with('/') {
                    return activated.contains(trigger);
                }
                let others = |origin: &str| origin != package.name;
                let below = format!("{trigger}/");
                world.tree.entries.get(trigger).is_some_and(|(_, origin)| others(&origin.source))
                    || world
                        .tree
                        .entries
                        .range(below.clone()..)
                        .take_while(|(path, _)| path.starts_with(&below))
                        .any(|(_, (_, origin))| others(&origin.source))
            };
            let active: Vec<String> = declared(package, "interest").into_iter().filter(is_active).collect();
            if !active.is_empty() {
                self.run(world, package, "triggers", &active.join(" "))?;
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        world: &mut World<'_>,
        package: &PackageInput<'_>,
        name: &str,
        triggers: &str,
    ) -> Result<(), AssembleError> {
        let file = if name == "triggers" { "postinst" } else { name };
        if let Some(text) = package.content.scripts.get(file) {
            self.reports.extend(script::run(world, Script { package: package.name, name, text, triggers })?);
        }
        Ok(())
    }
}

/// The scripts of this name where no choice of the user matters and nothing is told: it is not their image.
pub(super) fn run_scripts(
    world: &mut World<'_>,
    packages: &[PackageInput<'_>],
    name: &str,
) -> Result<(), AssembleError> {
    let choices = BTreeMap::new();
    let mut scripts = Scripts { choices: &choices, reports: Vec::new() };
    world.packages = packages.iter().map(|p| (p.name.to_owned(), p.version.to_owned())).collect();
    if name == "preinst" { scripts.preinst(world, packages) } else { scripts.postinst(world, packages) }
}

/// Names and paths of a package's `triggers` whose directive starts with `verb`.
fn declared(package: &PackageInput<'_>, verb: &str) -> Vec<String> {
    let text = package.content.scripts.get("triggers").map_or("", String::as_str);
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let words = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| word.starts_with(verb)).and_then(|_| words.next())
    });
    words.map(|word| word.trim_end_matches('/').to_owned()).collect()
}
