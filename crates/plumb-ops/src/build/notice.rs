//! What the owner of an image should know, as text.

use std::collections::BTreeMap;

use plumb_image::assemble::{Assembled, Note};
use plumb_image::closure;

pub(super) fn missing_text(missing: &closure::Missing) -> String {
    let (by, source, needed) = (&missing.needed_by, &missing.source, &missing.needed);
    format!("`{by}` of `{source}` needs `{needed}`, which is not in the image")
}

pub(super) fn plugin_text(missing: &closure::Missing) -> String {
    let (by, source, needed) = (&missing.needed_by, &missing.source, &missing.needed);
    format!("plugin `{by}` of `{source}` is left out: it needs `{needed}`, which is not in the image")
}

/// What an image has not because each instance must have its own; never passed over.
pub(super) fn left_out(assembled: &Assembled) -> Vec<String> {
    let text = |note: &Note| match note {
        Note::LeftToInstance { package, line, reason } => Some(format!(
            "`{line}` of package `{package}` is not done: {reason}; `prepare` of a service can do it"
        )),
        Note::Replaced { .. } => None,
    };
    assembled.notes.iter().filter_map(text).collect()
}

/// One line per package and missing thing: a package can have dozens of scripts for one interpreter.
pub(super) fn summary(missing: &[closure::Missing]) -> Vec<String> {
    let mut groups: BTreeMap<(&str, &str), Vec<&closure::Missing>> = BTreeMap::new();
    for one in missing {
        groups.entry((&one.source, &one.needed)).or_default().push(one);
    }
    let text = |((source, needed), group): ((&str, &str), Vec<&closure::Missing>)| match group.as_slice() {
        [one] => missing_text(one),
        [first, rest @ ..] => format!(
            "`{}` and {} more of `{source}` need `{needed}`, which is not in the image",
            first.needed_by,
            rest.len()
        ),
        [] => String::new(),
    };
    groups.into_iter().map(text).collect()
}
