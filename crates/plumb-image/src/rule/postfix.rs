//! postconf(1): Postfix's settings in `main.cf`.

use super::filter::{Outcome, letters};
use super::world::World;

const FILE: &str = "/etc/postfix/main.cf";

/// Settings that scripts ask for, where `main.cf` says nothing (postconf(5)).
const DEFAULTS: [(&str, &str); 4] = [
    ("alias_database", "hash:/etc/aliases"),
    ("default_transport", "smtp"),
    ("inet_interfaces", "all"),
    ("relay_transport", "relay"),
];

/// `postconf -h[x] NAME`: its value; `None` for a form that is not understood, or where other settings are in the value.
pub(super) fn get(world: &World<'_>, arguments: &[String]) -> Option<Outcome> {
    let (options, operands) = letters(arguments, "", &[])?;
    let [name] = operands[..] else { return None };
    let (mut no_name, mut expands) = (false, false);
    for (letter, _) in options {
        match letter {
            'h' => no_name = true,
            'x' => expands = true,
            _ => return None,
        }
    }
    let text = world.text(FILE).ok()?.unwrap_or_default();
    let set = text.lines().rev().find_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    });
    let value = set.or_else(|| {
        DEFAULTS.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })?;
    if expands && value.contains('$') {
        return None;
    }
    let line = if no_name { format!("{value}\n") } else { format!("{name} = {value}\n") };
    Some((Some(line), Some(true)))
}
