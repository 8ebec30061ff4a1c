//! `plumb why`.

use plumb_ops::{How, OpsError, Start, Why, WhyKind, WhyLink, WhyUse};

use super::Session;
use crate::args::Why as Arguments;
use crate::output::out;
use crate::render::{self, bytes, tell};

/// Lines of each list; `--json` has all.
const ROWS: usize = 6;

pub(super) fn run(session: &Session<'_>, arguments: &Arguments) -> Result<(), OpsError> {
    let start = Start::parse(&arguments.place)?;
    let answers = session.plumb.why(&start, arguments.machine.as_ref(), &arguments.what)?;
    session.live.clear();
    if session.global.json {
        render::json(&answers);
        return Ok(());
    }
    for (index, answer) in answers.iter().enumerate() {
        if index > 0 {
            out!();
        }
        print(answer);
    }
    Ok(())
}

fn print(why: &Why) {
    tell(0, &format!("machine {}: {}", why.machine, headline(why)));
    for link in &why.chain {
        tell(2, &step(link));
    }
    list("also needed by", why.also.iter().map(step));
    list("used by", why.used_by.iter().map(user));
}

fn headline(why: &Why) -> String {
    let what = &why.what;
    match &why.kind {
        WhyKind::Package { version, layer, files, bytes: size } => {
            format!("package `{what}` {version}, layer {layer}, {files} files, {}", bytes(*size))
        }
        WhyKind::File { path, bytes: size, package } => {
            format!("`{path}` ({}) of package `{package}`", bytes(*size))
        }
        WhyKind::Made { rule, purpose } => format!("`{what}` is made by rule `{rule}`: {purpose}"),
        WhyKind::App => format!("`{what}` is the application's own (`app` in the definition)"),
        WhyKind::Module { bytes: size } => {
            format!("kernel module `{what}` ({}) of the initramfs", bytes(*size))
        }
        WhyKind::Kernel { release } => {
            format!("`{what}` is the kernel {release} (`base.kernel`), a part of the image of its own")
        }
        WhyKind::Without => format!("`{what}` is not in the image: the definition says `without`"),
        WhyKind::Dropped { rule, reason } => {
            format!("`{what}` would not be in the image: rule `{rule}` leaves it out ({reason})")
        }
    }
}

fn step(link: &WhyLink) -> String {
    if link.is_asked_for() {
        format!("{} asks for `{}`", link.by, link.answer)
    } else if link.relation == link.answer {
        format!("{} needs `{}`", link.by, link.answer)
    } else {
        format!("{} needs `{}`: `{}`", link.by, link.relation, link.answer)
    }
}

fn user(one: &WhyUse) -> String {
    let how = match one.how {
        How::Needs => "needs",
        How::Plugin => "is a plugin or script that needs",
        How::Names => "names",
    };
    format!("{} {how} {}", one.by, one.path)
}

fn list(title: &str, lines: impl ExactSizeIterator<Item = String>) {
    let count = lines.len();
    if count == 0 {
        return;
    }
    out!("  {title}:");
    for line in lines.take(ROWS) {
        tell(4, &line);
    }
    if count > ROWS {
        out!("    and {} more", count - ROWS);
    }
}
