//! A comparison as one page: no script, nothing from elsewhere, readable on paper. For people who decide about a change,
//! and for the file they keep of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use plumb_ops::{Cause, Change, Diff, MachineDiff, Presence, Running};

use crate::command::diff::{arrow, figure_text, is_unknown, what_text};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:72em;padding:0 1em;color:#1a1a1a;\
background:#fff}h1{font-size:1.6em}h2{margin-top:2em;border-bottom:2px solid #ddd}h3{margin:1.4em 0 .3em;font-size:1em}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.25em .8em .25em 0;\
border-bottom:1px solid #eee;overflow-wrap:break-word}td:last-child{min-width:18em}th{color:#666;font-weight:600}code{font-size:.92em}\
.cause{color:#555}.fix{color:#0a6b2d}.back,.unknown{color:#a40000;font-weight:600}summary{cursor:pointer;margin:.6em 0}\
@media(prefers-color-scheme:dark){body{background:#161616;color:#e4e4e4}td,th,h2{border-color:#333}.cause,th{color:#aaa}\
.fix{color:#6fce8f}.back,.unknown{color:#ff8a80}}";

/// The page.
pub fn of(diff: &Diff) -> String {
    let title = format!("{} → {}", diff.before, diff.after);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style>\n<h1>{0}</h1>\n",
        escaped(&title)
    );
    html.push_str(&summary(diff));
    for note in &diff.notes {
        add(&mut html, format_args!("<p class=\"back\">Not compared: {}</p>\n", escaped(note)));
    }
    running(&mut html, &diff.running);
    changes(&mut html, "The set", &diff.set);
    for (name, machine) in &diff.machines {
        let presence = match machine.presence {
            Presence::Added => ", new",
            Presence::Removed => ", gone",
            Presence::Both => "",
        };
        add(&mut html, format_args!("<h2>machine {}{presence}</h2>\n", escaped(name.as_str())));
        of_machine(&mut html, machine);
    }
    html.push_str("</html>\n");
    html
}

fn running(html: &mut String, found: &[Running]) {
    if found.is_empty() {
        return;
    }
    html.push_str(
        "<h3>What runs</h3>\n<table><tr><th>instance<th>what<th>the release says<th>it is<th>known\n",
    );
    for one in found {
        let cells = [one.expected.as_str(), &one.found, one.why.as_deref().unwrap_or_default()].map(escaped);
        add(
            html,
            format_args!(
                "<tr><td><code>{}/{}</code><td>{}<td><code>{}</code><td class=\"back\">{}<td>{}\n",
                one.deployment,
                escaped(&one.instance),
                one.what,
                cells[0],
                cells[1],
                cells[2],
            ),
        );
    }
    html.push_str("</table>\n");
}

/// Writing to a String cannot fail.
fn add(html: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = html.write_fmt(text);
}

/// What somebody wants to know first.
fn summary(diff: &Diff) -> String {
    if diff.is_empty() {
        return "<p>Nothing differs.</p>\n".to_owned();
    }
    let sum = |of: &dyn Fn(&MachineDiff) -> usize| diff.machines.values().map(of).sum::<usize>();
    let names = |of: fn(&MachineDiff) -> &BTreeSet<String>| {
        diff.machines.values().flat_map(of).collect::<BTreeSet<&String>>().len()
    };
    let (fixed, brought) = (names(|machine| &machine.fixes), names(|machine| &machine.brings));
    let mut text = format!(
        "<p>What differs: {}, {}, {}.",
        count(diff.machines.len(), "machine"),
        count(sum(&|machine| machine.packages.len()), "package"),
        count(sum(&|machine| machine.files.len()), "path"),
    );
    if fixed > 0 {
        add(&mut text, format_args!(" <span class=\"fix\">{fixed} vulnerabilities fixed.</span>"));
    }
    if brought > 0 {
        add(&mut text, format_args!(" <span class=\"back\">{brought} vulnerabilities brought in.</span>"));
    }
    match diff.unknown().len() {
        0 => text.push_str(" Every change has a cause.</p>\n"),
        count => add(
            &mut text,
            format_args!(
                " <span class=\"unknown\">{count} changes have no cause that Plumb knows.</span></p>\n"
            ),
        ),
    }
    text
}

/// `1 package`, `2 packages`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn of_machine(html: &mut String, machine: &MachineDiff) {
    for (class, word, names) in [("fix", "Fixes", &machine.fixes), ("back", "Brings", &machine.brings)] {
        if !names.is_empty() {
            let all = names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            // A kernel fixes thousands.
            let known = if names.len() == 1 {
                "1 vulnerability".to_owned()
            } else {
                format!("{} vulnerabilities", names.len())
            };
            add(
                html,
                format_args!(
                    "<details><summary class=\"{class}\">{word} {known}</summary>{}</details>\n",
                    escaped(&all)
                ),
            );
        }
    }
    if !machine.packages.is_empty() {
        html.push_str("<h3>Packages</h3>\n<table><tr><th>package<th>layer<th>version<th>why\n");
        for package in &machine.packages {
            let version = arrow(package.before.as_deref(), package.after.as_deref());
            add(
                html,
                format_args!(
                    "<tr><td><code>{}</code><td>{}<td><code>{}</code><td>{}{}{}\n",
                    escaped(package.name.as_str()),
                    escaped(&package.layer),
                    escaped(&version),
                    cause(&package.cause),
                    names("fix", "fixes", &package.fixes),
                    names("back", "brings", &package.brings),
                ),
            );
        }
        html.push_str("</table>\n");
    }
    changes(html, "Settings", &machine.settings);
    changes(html, "Services", &machine.services);
    changes(html, "Accounts", &machine.accounts);
    changes(html, "Kernel", &machine.kernel);
    changes(html, "Shared libraries", &machine.libraries);
    if !machine.figures.is_empty() {
        html.push_str("<h3>Figures</h3>\n<ul>");
        for figure in &machine.figures {
            add(html, format_args!("<li>{}", escaped(&figure_text(figure))));
        }
        html.push_str("</ul>\n");
    }
    if machine.files.is_empty() {
        return;
    }
    add(html, format_args!("<details><summary>{} paths</summary>\n", machine.files.len()));
    html.push_str("<table><tr><th>path<th>layer<th>what<th>why\n");
    for file in &machine.files {
        let rights = if file.privilege { " <span class=\"back\">rights</span>" } else { "" };
        add(
            html,
            format_args!(
                "<tr><td><code>{}</code><td>{}<td>{}{rights}<td>{}\n",
                escaped(&file.path),
                escaped(&file.layer),
                escaped(&what_text(&file.what)),
                cause(&file.cause),
            ),
        );
    }
    html.push_str("</table></details>\n");
}

fn changes(html: &mut String, title: &str, changes: &[Change]) {
    if changes.is_empty() {
        return;
    }
    add(html, format_args!("<h3>{title}</h3>\n<table><tr><th>what<th>change<th>why\n"));
    for change in changes {
        let values = arrow(change.before.as_deref(), change.after.as_deref());
        add(
            html,
            format_args!(
                "<tr><td>{}<td><code>{}</code><td>{}\n",
                escaped(&change.what),
                escaped(&values),
                cause(&change.cause)
            ),
        );
    }
    html.push_str("</table>\n");
}

fn cause(cause: &Cause) -> String {
    let class = if is_unknown(cause) { "unknown" } else { "cause" };
    format!("<span class=\"{class}\">{}</span>", escaped(&cause.to_string()))
}

fn names(class: &str, word: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    format!("<br><span class=\"{class}\">{word} {}</span>", escaped(&names.join(", ")))
}

/// Text of packages and definitions is not to be trusted with a page of ours.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
