//! md5sum(1) and sha256sum(1): scripts ask by them whether a file is still the one that they know.

use md5::{Digest as _, Md5};

use super::filter::{Outcome, inputs, letters};
use super::script::Machine;
use super::secret;

/// What is written and the status; `None` if it is not known.
pub(super) fn run(machine: &mut Machine<'_, '_, '_>, name: &str, arguments: &[String]) -> Option<Outcome> {
    let long = [("check", 'c'), ("status", 's'), ("quiet", 'q'), ("ignore-missing", 'i'), ("strict", 'e')];
    let (options, files) = letters(arguments, "", &long)?;
    let has = |letter: char| options.iter().any(|(known, _)| *known == letter);
    if options.iter().any(|(letter, _)| !"csqiebt".contains(*letter)) {
        return None;
    }
    let texts = inputs(machine, &files)?;
    if has('c') {
        let list: String = texts.into_iter().flatten().collect();
        let (out, is_good) = check(machine, name, &list, has('i'))?;
        let lines = out.lines().filter(|line| !(has('s') || has('q') && line.ends_with(": OK")));
        return Some((Some(lines.map(|line| format!("{line}\n")).collect()), Some(is_good)));
    }
    let names = if files.is_empty() { vec!["-"] } else { files };
    let mut out = String::new();
    for (file, text) in names.iter().zip(&texts) {
        if let Some(text) = text {
            if secret::is_in(text) {
                out.push_str(&format!("{}  {file}\n", secret::SECRET));
                continue;
            }
            out.push_str(&format!("{}  {file}\n", sum(name, text)));
        }
    }
    Some((Some(out), Some(texts.iter().all(Option::is_some))))
}

/// Lines of sums and names: what is said of each file, and whether all is well.
fn check(
    machine: &mut Machine<'_, '_, '_>,
    name: &str,
    list: &str,
    ignores_missing: bool,
) -> Option<(String, bool)> {
    let (mut out, mut good, mut any) = (String::new(), true, false);
    for (wanted, file) in list.lines().filter_map(|line| line.split_once(char::is_whitespace)) {
        let file = file.trim_start_matches([' ', '*']);
        let text = inputs(machine, &[file])?.pop()?;
        if text.is_none() && ignores_missing {
            continue;
        }
        any = true;
        let verdict = match text {
            Some(text) if sum(name, &text) == wanted => "OK",
            Some(_) => "FAILED",
            None => "FAILED open or read",
        };
        good &= verdict == "OK";
        out.push_str(&format!("{file}: {verdict}\n"));
    }
    Some((out, good && any))
}

fn sum(name: &str, text: &str) -> String {
    match name {
        "md5sum" => format!("{:x}", Md5::digest(text)),
        _ => plumb_model::Digest::of(text.as_bytes()).hex(),
    }
}
