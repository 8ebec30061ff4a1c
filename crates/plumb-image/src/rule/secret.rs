//! Secrets: what scripts draw from chance. A text knows where one is, so that a file that holds one is known, too,
//! however the script came to it. No image has such a file: each instance makes its own, and the build says so.
//!
//! ```text
//!  /dev/urandom, pwgen, … ─► SECRET ─► variables, pipes, files ─► files that hold it are left out, and told
//! ```

use std::collections::BTreeSet;

use super::filter::Outcome;
use super::script::{Argument, Flow, Machine};
use super::world::World;
use super::{Report, command};
use crate::tree::Kind;

/// Stands in texts for something that is never twice the same: a character that no text has.
pub(super) const SECRET: char = '\u{10FFFD}';

const OF_FILE: &str = "it holds a secret, which each instance must have of its own";

/// Programs that print a secret and nothing else (first argument, or empty for any).
const MAKERS: [(&str, &str); 8] = [
    ("openssl", "rand"),
    ("pwgen", ""),
    ("apg", ""),
    ("makepasswd", ""),
    ("mcookie", ""),
    ("uuidgen", ""),
    ("iscsi-iname", ""),
    ("dd", ""), // from a random device, or it would not be asked about
];

/// Programs that make one text of another. What they make of a secret is one, whatever the options say.
const FILTERS: [&str; 22] = [
    "awk",
    "base32",
    "base64",
    "cat",
    "cut",
    "dd",
    "fold",
    "grep",
    "head",
    "hexdump",
    "md5sum",
    "od",
    "rev",
    "sed",
    "sha1sum",
    "sha256sum",
    "sha512sum",
    "sort",
    "strings",
    "tail",
    "tr",
    "xxd",
];

/// Those of them by which a part of a text may get lost, or which hide the whole of it.
const LOSSY: [&str; 12] =
    ["awk", "base32", "base64", "cut", "head", "md5sum", "sed", "sha256sum", "tail", "tr", "uniq", "xxd"];

pub(super) fn is_in(text: &str) -> bool {
    text.contains(SECRET)
}

pub(super) fn is_in_bytes(content: &[u8]) -> bool {
    let mut buffer = [0; 4];
    let sought = SECRET.encode_utf8(&mut buffer).as_bytes();
    content.windows(sought.len()).any(|window| window == sought)
}

/// Is this a program that prints a secret?
pub(super) fn is_maker(name: &str, arguments: &[Argument]) -> bool {
    let first = arguments.first().and_then(Option::as_deref);
    MAKERS.iter().any(|(maker, argument)| *maker == name && (argument.is_empty() || first == Some(argument)))
}

/// A filter that reads a secret and nothing else; `None` for any other command.
pub(super) fn filter(
    machine: &mut Machine<'_, '_, '_>,
    name: &str,
    arguments: &[Argument],
) -> Option<Outcome> {
    let reads_it = machine.input.as_deref().is_some_and(|input| input.trim_end() == SECRET.to_string());
    let opens_it = || arguments.iter().flatten().any(|word| super::ignore::is_random(word));
    if !FILTERS.contains(&name) || !(reads_it || opens_it()) {
        return None;
    }
    if opens_it() {
        machine.random("/dev/urandom");
    } else {
        machine.input = Some(String::new());
    }
    Some((Some(format!("{SECRET}\n")), Some(true)))
}

/// What a filter made of a text, if it can be believed: where a secret was and is no more, it may be a part of it, or
/// its sum.
pub(super) fn believed(name: &str, input: Option<&str>, made: Outcome) -> Outcome {
    let (text, status) = made;
    let was_in = input.is_some_and(is_in) && LOSSY.contains(&name);
    (text.filter(|text| !was_in || text.is_empty() || is_in(text)), status)
}

/// `htpasswd -bm FILE USER PASSWORD` (htpasswd(1)) with a secret: what it writes is one, too.
pub(super) fn password_file(machine: &mut Machine<'_, '_, '_>, arguments: &[Argument]) -> Option<Flow> {
    let known = arguments.iter().cloned().collect::<Option<Vec<String>>>()?;
    let operands: Vec<&String> = known.iter().filter(|word| !word.starts_with('-')).collect();
    let [file, user, password] = operands[..] else { return None };
    if !is_in(password) || is_in(file) || known.iter().any(|word| word.starts_with('-') && word.contains('n'))
    {
        return None;
    }
    let place = machine.world.target(file)?;
    let line = format!("{user}:{SECRET}\n");
    let written = command::write(machine.world, machine.script.package, &place, &line, true);
    if let Err(error) = written {
        machine.world.failure.get_or_insert(error);
    }
    Some(Flow::Next(Some(true)))
}

/// Takes every file that holds a secret out of the tree, and tells it. Where a package has the file itself, without the
/// secret the service would run with what everybody knows, and nothing is right but to ask.
pub(crate) fn leave_out(world: &mut World<'_>, is_of_package: &dyn Fn(&str) -> bool) -> Vec<Report> {
    let mut reports = Vec::new();
    let holders: Vec<(String, String)> = world
        .tree
        .entries
        .iter()
        .filter(|(path, (entry, _))| {
            matches!(entry.kind, Kind::File { digest, .. } if world.secrets.contains(&digest))
                && !World::is_volatile(path)
        })
        .map(|(path, (_, origin))| (path.clone(), origin.source.clone()))
        .collect();
    let mut gone = BTreeSet::new();
    for (path, source) in holders {
        let package = source.rsplit(':').next().unwrap_or_default().to_owned();
        if is_of_package(&path) {
            let line =
                format!("a secret of each instance goes into {path}, which the package has without it");
            reports.push(Report { package, script: "secrets".to_owned(), unhandled: vec![line] });
            continue;
        }
        world.left_to_instance.insert((package, format!("writing {path}"), OF_FILE));
        gone.insert(path);
    }
    world.tree.entries.retain(|path, _| !gone.contains(path));
    reports
}
