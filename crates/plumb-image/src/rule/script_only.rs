//! Dependencies that only maintainer scripts use, as data with reasons.
//!
//! Nobody runs a maintainer script in an image, so what is named here does not come along because another package asks for
//! it. It is recorded in lock and image as left out, and it is one line to have it: a package that the definition names
//! (`os = ["ucf"]`) is never left out.

use plumb_model::definition::Init;

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptOnly {
    /// Whose dependency; empty: of every package.
    pub requirer: &'static str,
    /// The name it asks for; one `*` stands for any characters.
    pub dependency: &'static str,
    /// Why nothing misses it.
    pub reason: &'static str,
    /// It serves what systemd does while a machine runs: only a machine without systemd does not miss it.
    pub serves_systemd: bool,
}

const fn every(dependency: &'static str, reason: &'static str) -> ScriptOnly {
    ScriptOnly { requirer: "", dependency, reason, serves_systemd: false }
}

const fn systemd(dependency: &'static str, reason: &'static str) -> ScriptOnly {
    ScriptOnly { requirer: "", dependency, reason, serves_systemd: true }
}

const fn of(requirer: &'static str, dependency: &'static str, reason: &'static str) -> ScriptOnly {
    ScriptOnly { requirer, dependency, reason, serves_systemd: false }
}

/// The rules. A dependency goes if any of its alternatives is named: what one of them is for, the others are for, too.
#[rustfmt::skip]
const SCRIPT_ONLY: &[ScriptOnly] = &[
    every("debconf", "asks questions at installation; rule `script` answers them with their defaults"),
    every("debconf-2.0", "asks questions at installation; rule `script` answers them with their defaults"),
    every("ucf", "keeps a person's changes of configuration at upgrades; an image is made anew"),
    every("adduser", "makes accounts at installation; rule `accounts` does"),
    every("init-system-helpers", "enables and restarts services at installation; Plumb's PID 1 runs them"),
    systemd("lsb-base", "functions for init scripts, which an image does not have"),
    every("runit-helper", "serves the scripts of runit services, which an image does not have"),
    every("install-info", "keeps the index of info pages, which an image does not have"),
    every("emacsen-common", "compiles extensions of an editor at installation"),
    systemd("systemd-tmpfiles", "makes files at boot; rule `tmpfiles` and Plumb's PID 1 do"),
    systemd("systemd-standalone-tmpfiles", "makes files at boot; rule `tmpfiles` and Plumb's PID 1 do"),
    systemd("systemd-sysusers", "makes accounts at installation; rule `accounts` does"),
    systemd("systemd-standalone-sysusers", "makes accounts at installation; rule `accounts` does"),
    systemd("logrotate", "logs go to Plumb's PID 1; nothing runs logrotate"),
    every("gcc-*-base", "holds documentation of a compiler and nothing else"),
    of("python3-minimal", "dpkg", "py3compile asks it for a package's files at installation; python3 does not"),
    of("nginx", "iproute2", "its postinst asks `ss` whether port 80 is taken; nginx does not"),
    of("nginx-common", "iproute2", "its postinst asks `ss` whether port 80 is taken; nginx does not"),
];

/// The rules of a machine with this PID 1.
pub fn rules(init: Init) -> impl Iterator<Item = &'static ScriptOnly> {
    SCRIPT_ONLY.iter().filter(move |rule| init.is_plumb() || !rule.serves_systemd)
}

/// Why a package is left out by rule, if one names it, whoever asks for it.
#[must_use]
pub fn reason(dependency: &str) -> Option<&'static str> {
    let fits = |rule: &&ScriptOnly| match rule.dependency.split_once('*') {
        None => rule.dependency == dependency,
        Some((head, tail)) => {
            dependency.len() >= head.len() + tail.len()
                && dependency.starts_with(head)
                && dependency.ends_with(tail)
        }
    };
    SCRIPT_ONLY.iter().find(fits).map(|rule| rule.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_a_reason_and_a_place() {
        for (index, rule) in SCRIPT_ONLY.iter().enumerate() {
            assert!(!rule.reason.is_empty() && !rule.dependency.is_empty(), "{rule:?}");
            assert!(rule.dependency.matches('*').count() <= 1, "{rule:?}");
            let same =
                |other: &ScriptOnly| (other.requirer, other.dependency) == (rule.requirer, rule.dependency);
            assert!(!SCRIPT_ONLY[..index].iter().any(same), "twice: {rule:?}");
        }
        assert!(reason("gcc-12-base").is_some() && reason("gcc-12").is_none() && reason("libc6").is_none());
    }
}
