//! debconf-devel(7) with nobody to ask: every question has the answer of its template, or the one that the package's
//! `config` script set.

use std::collections::BTreeMap;

use super::script::{Argument, Machine};

/// Questions and their answers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Questions {
    /// Template name to fields.
    templates: BTreeMap<String, BTreeMap<String, String>>,
    /// Package to its questions.
    owners: BTreeMap<String, Vec<String>>,
    /// Question to template, where the two differ.
    registered: BTreeMap<String, String>,
    /// Answers that scripts set; `None` if it is not known.
    answers: BTreeMap<String, Argument>,
    flags: BTreeMap<(String, String), Argument>,
}

impl Questions {
    /// The answers to a package's questions are not known: what sets them cannot be followed.
    pub(crate) fn forget(&mut self, package: &str) {
        for question in self.owners.get(package).into_iter().flatten() {
            self.answers.insert(question.clone(), None);
        }
    }

    /// Takes a package's `templates` (debconf-devel(7), "The Templates file").
    pub(crate) fn load(&mut self, package: &str, text: &str) {
        for stanza in text.split("\n\n") {
            let mut fields: BTreeMap<String, String> = BTreeMap::new();
            for line in stanza.lines().filter(|line| !line.starts_with([' ', '\t', '#'])) {
                if let Some((name, value)) = line.split_once(':') {
                    fields.insert(name.trim().to_ascii_lowercase(), value.trim().to_owned());
                }
            }
            if let Some(name) = fields.get("template").cloned() {
                self.owners.entry(package.to_owned()).or_default().push(name.clone());
                self.templates.insert(name, fields);
            }
        }
    }

    fn template(&self, question: &str) -> Option<&BTreeMap<String, String>> {
        self.templates.get(self.registered.get(question).map_or(question, String::as_str))
    }

    /// Outer `None`: there is no such question.
    fn answer(&self, question: &str) -> Option<Argument> {
        if let Some(answer) = self.answers.get(question) {
            return Some(answer.clone());
        }
        let template = self.template(question)?;
        Some(Some(template.get("default").cloned().unwrap_or_default()))
    }
}

/// `db_get` and its kin; `None` for another command.
pub(super) fn command(
    machine: &mut Machine<'_, '_, '_>,
    name: &str,
    arguments: &[Argument],
) -> Option<Option<bool>> {
    let verb = name.strip_prefix("db_")?;
    let (answer, status) = answer(machine, verb, arguments).unwrap_or((None, None));
    machine.variables.insert("RET".to_owned(), answer);
    Some(status)
}

/// The answer and whether there is one; `None` if it is not known.
fn answer(
    machine: &mut Machine<'_, '_, '_>,
    verb: &str,
    arguments: &[Argument],
) -> Option<(Argument, Option<bool>)> {
    let word = |at: usize| arguments.get(at).cloned().flatten();
    let certain = machine.uncertain == 0;
    let questions = &mut machine.world.questions;
    Some(match verb {
        "get" => match word(0).map(|question| questions.answer(&question)) {
            Some(Some(answer)) => (answer, Some(true)),
            Some(None) => (Some(String::new()), Some(false)),
            None => (None, None),
        },
        "set" => {
            let question = word(0)?;
            let known = questions.answer(&question).is_some();
            let answer = word(1).filter(|_| certain);
            if known {
                questions
                    .answers
                    .insert(question, answer.or_else(|| (certain && arguments.len() == 1).then(String::new)));
            }
            (Some("value set".to_owned()), Some(known))
        }
        "fget" => {
            let flag = (word(0)?, word(1)?);
            (questions.flags.get(&flag).cloned().unwrap_or_else(|| Some("false".to_owned())), Some(true))
        }
        "fset" => {
            let (flag, value) = ((word(0)?, word(1)?), word(2).filter(|_| certain));
            questions.flags.insert(flag, value);
            (Some(String::new()), Some(true))
        }
        "metaget" => {
            let (question, field) = (word(0)?, word(1)?);
            let value = match field.as_str() {
                "value" => questions.answer(&question).unwrap_or_default(),
                "owners" => None,
                field => questions.template(&question).map(|t| t.get(field).cloned().unwrap_or_default()),
            };
            let status = value.as_ref().map(|_| true);
            (value, status)
        }
        "register" => {
            let (template, question) = (word(0)?, word(1)?);
            questions.registered.insert(question, template);
            (Some(String::new()), Some(true))
        }
        "unregister" | "reset" => {
            let question = word(0)?;
            questions.answers.remove(&question);
            if verb == "unregister" {
                questions.registered.remove(&question);
            }
            (Some(String::new()), Some(true))
        }
        "exist" => (Some(String::new()), word(0).map(|question| questions.answer(&question).is_some())),
        // Nobody is asked: debconf says 30 where a question is not shown (debconf-devel(7), INPUT).
        "input" => (Some("question skipped".to_owned()), Some(false)),
        "version" | "capb" | "settitle" | "title" | "go" | "subst" | "stop" | "purge" | "beginblock"
        | "endblock" | "progress" | "info" | "clear" | "x_loadtemplatefile" | "x_save" | "data" => {
            (Some(String::new()), Some(true))
        }
        _ => return None,
    })
}
