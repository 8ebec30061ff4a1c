//! `os`, `cpu` and `libc` of a package (npm-install-checks): a list of names, `!name` refuses.

use super::{OneOrMany, Raw};

/// Whether the package is for linux on x64 with glibc.
pub(super) fn fits(entry: &Raw) -> bool {
    let holds = |list: &Option<OneOrMany>, value| list.as_ref().is_none_or(|list| allows(list, value));
    holds(&entry.os, "linux") && holds(&entry.cpu, "x64") && holds(&entry.libc, "glibc")
}

fn allows(list: &OneOrMany, value: &str) -> bool {
    let list: Vec<&str> = match list {
        OneOrMany::One(one) => vec![one],
        OneOrMany::Many(many) => many.iter().map(String::as_str).collect(),
    };
    if list == ["any"] {
        return true;
    }
    let refused = |item: &&str| item.strip_prefix('!').is_some();
    if list.iter().any(|item| item.strip_prefix('!') == Some(value)) {
        return false;
    }
    list.contains(&value) || list.iter().all(refused)
}
