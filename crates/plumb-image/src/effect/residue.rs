//! What maintainer scripts leave behind that is no content of an image, as data with reasons.

use crate::rule::matches;

/// One rule: what lies at or below a path that matches one of `patterns` is left out.
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// Shown to people who ask why something is missing.
    pub(super) reason: &'static str,
    /// People are told each time: they may have counted on it.
    pub(super) told: bool,
    /// Shell patterns of whole paths; `*` also matches slashes here.
    patterns: &'static [&'static str],
}

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    Rule { name: "accounts", reason: "accounts are taken over one by one, with the ids of the lock", told: false,
        patterns: &["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid",
            "/etc/.pwd.lock"] },
    Rule { name: "backup", reason: "the state before a change is in the image before", told: false,
        patterns: &["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/subuid-", "/etc/subgid-",
            "/var/backups/*", "*.dpkg-old", "*.dpkg-dist", "*.dpkg-new", "*.ucf-old", "*.ucf-dist"] },
    Rule { name: "identity", reason: "every instance has its own, made at boot", told: false,
        patterns: &["/etc/machine-id", "/var/lib/dbus/machine-id", "/etc/hostname", "/etc/mailname", "/etc/hosts",
            "/etc/resolv.conf"] },
    Rule { name: "key", reason: "a secret must not be in an image: everybody who has the image has it", told: true,
        patterns: &["/etc/ssh/ssh_host_*", "/etc/ssl/private/*", "/etc/ssl/certs/ssl-cert-snakeoil.pem",
            "/etc/bind/rndc.key", "/var/lib/*/.erlang.cookie"] },
    Rule { name: "random", reason: "random numbers are made at boot", told: false,
        patterns: &["/var/lib/systemd/random-seed", "/var/lib/urandom/*", "/var/lib/systemd/credential.secret"] },
    Rule { name: "log", reason: "logs of a build say nothing about a machine, and hold times", told: false,
        patterns: &["/var/log/*.log", "/var/log/*/*.log", "/var/log/btmp", "/var/log/wtmp", "/var/log/lastlog",
            "/var/log/faillog", "/var/log/journal/*", "/var/log/apt/*"] },
    Rule { name: "packaging", reason: "state of package managers; an image has none", told: false,
        patterns: &["/var/lib/dpkg", "/var/cache/debconf", "/var/lib/ucf", "/var/lib/apt", "/var/cache/apt",
            "/var/lib/pam", "/var/lib/systemd/deb-systemd-helper-*", "/var/lib/systemd/deb-systemd-user-helper-*",
            "/usr/sbin/policy-rc.d"] },
    Rule { name: "cache", reason: "made anew by rules, from what is really in the image", told: false,
        patterns: &["/etc/ld.so.cache", "/var/cache/ldconfig/*", "/var/cache/man/*", "/var/cache/fontconfig/*",
            "*/__pycache__", "*.pyc", "/usr/share/info/dir", "/usr/share/info/dir.old", "/root/.*", "/var/tmp/*"] },
];

/// The rule that names this path or a parent of it.
pub(super) fn find(path: &str) -> Option<&'static Rule> {
    let cuts = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    cuts.map(|cut| &path[..cut])
        .find_map(|part| RULES.iter().find(|rule| rule.patterns.iter().any(|name| matches(name, part))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_lies_below() {
        let name = |path: &str| find(path).map(|rule| rule.name);
        assert_eq!(name("/etc/ssh/ssh_host_rsa_key"), Some("key"));
        assert_eq!(name("/var/lib/dpkg/info/x.list"), Some("packaging"));
        assert_eq!(name("/etc/passwd-"), Some("backup"));
        assert_eq!(name("/usr/lib/python3/dist-packages/__pycache__/x.pyc"), Some("cache"));
        assert_eq!(name("/etc/nginx/nginx.conf"), None);
        assert_eq!(name("/etc/passwd.d"), None);
        assert!(RULES.iter().all(|rule| !rule.reason.is_empty()));
    }
}
