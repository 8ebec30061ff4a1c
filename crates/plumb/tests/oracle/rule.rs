//! Why a difference is right, as data.

use std::collections::BTreeSet;

use plumb_image::rule::drop;
use plumb_model::definition::Init;
use plumb_model::lock::LockedMachine;

use super::difference::Difference;
use super::difference::What::{self, Added, Content, Kind, Missing, Mode};
use super::tree::Tree;

/// One rule. `*` in a path stands for any characters.
struct Rule {
    name: &'static str,
    reason: &'static str,
    what: &'static [What],
    paths: &'static [&'static str],
    /// Only where this package is there for scripts to run and not in the image; empty: anywhere.
    without: &'static str,
}

impl Rule {
    const fn new(
        name: &'static str,
        reason: &'static str,
        what: &'static [What],
        paths: &'static [&'static str],
    ) -> Self {
        Rule { name, reason, what, paths, without: "" }
    }

    /// What the scripts of a package make that is not in the image.
    const fn of(package: &'static str, reason: &'static str, paths: &'static [&'static str]) -> Self {
        Rule { name: package, reason, what: &[Missing], paths, without: package }
    }
}

/// Differences that rules of the product explain by themselves: what the drop rules leave out, and files of packages that
/// are only there for scripts to run.
const DROPPED: &str = "dropped";
const BUILD_ONLY: &str = "build only";

#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule::new("mounts", "mounted at every boot", &[Missing, Mode], &["/dev/*", "/run/lock", "/run/lock/*", "/proc", "/sys"]),
    Rule::new("of boot", "PID 1 knows it of the instance and writes it at every boot", &[Added, Kind],
        &["/etc/hostname", "/etc/hosts", "/etc/machine-id", "/etc/mtab", "/etc/resolv.conf"]),
    Rule::new("release", "of the suite, as base-files need not be there; names Plumb as the variant", &[Content],
        &["/etc/debian_version", "/usr/lib/os-release"]),
    Rule::new("defaults", "the same without comments and without the services of NIS and of NSS databases",
        &[Content, Added], &["/etc/fstab", "/etc/gai.conf", "/etc/networks", "/etc/nsswitch.conf"]),
    Rule::new("boot", "systemd-tmpfiles, which does not run at an installation, makes them so at boot", &[Mode],
        &["/var/cache/lighttpd", "/var/cache/lighttpd/*"]),
    Rule::new("machine", "what PID 1 runs", &[Added], &["/usr/lib/plumb", "/usr/lib/plumb/*"]),
    Rule::new("package list", "only for scanners: of the packages in the image, and of files that are there",
        &[Content, Added], &["/var/lib/dpkg/*"]),
    Rule::new("linker", "the cache of the libraries that are in the image", &[Content], &["/etc/ld.so.cache"]),
    Rule::new("shadow", "passwords always lie in /etc/shadow, also where nothing calls shadowconfig", &[Added],
        &["/etc/shadow", "/etc/shadow/*"]),
    Rule::new("group passwords", "groups have no passwords", &[Missing], &["/etc/gshadow"]),
    Rule::new("shell of root", "nobody logs in, and bash need not be there", &[Content], &["/etc/passwd/root"]),
    Rule::new("account tools", "backups and locks of tools that change accounts", &[Missing],
        &["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-", "/etc/.pwd.lock", "/var/lib/shells.state"]),
    Rule::new("manual pages", "manual pages are left out, so their alternatives lead nowhere", &[Missing],
        &["/etc/alternatives/*.gz"]),
    Rule::new("logs", "logs go to PID 1", &[Missing],
        &["/var/log/btmp", "/var/log/wtmp", "/var/log/lastlog", "/var/log/apt", "/var/log/fontconfig.log", "/var/log/postgresql/*"]),
    Rule::new("enablement", "the definition says which services run", &[Missing],
        &["/var/lib/systemd/deb-systemd-helper-enabled*", "/etc/runit/*"]),
    Rule::new("keys", "a secret is of one instance and never of an image", &[Missing],
        &["/etc/ssh/ssh_host_*", "/etc/bind/rndc.key", "/etc/ssl/certs/ssl-cert-snakeoil.pem",
            "/etc/ssl/private/ssl-cert-snakeoil.key", "/etc/shadowsocks-libev/config.json"]),
    Rule::new("databases", "a database is made on the server that runs", &[Missing],
        &["/var/lib/postgresql/15*", "/etc/postgresql/15*", "/etc/aliases.db"]),
    Rule::new("dictionaries", "made from spelling packages, of which there are none", &[Missing],
        &["/var/cache/postgresql*"]),
    Rule::new("hash links", "OpenSSL reads the bundle by way of /usr/lib/ssl/cert.pem", &[Missing],
        &["/etc/ssl/certs/*.0"]),
    Rule::new("list of authorities", "the same names without the comments", &[Content], &["/etc/ca-certificates.conf"]),
    Rule::new("plugins", "needs a library that only a recommended package has, and is told", &[Missing],
        &["/usr/lib/x86_64-linux-gnu/tc/q_atm.so"]),
    Rule::new("language", "the environment of services is in the definition", &[Missing], &["/etc/default/locale"]),
    Rule::new("byte code", "is not kept in a read-only image", &[Missing], &["/usr/share/python3/__pycache__*"]),
    Rule::new("local", "folders that people fill, on a system that is not read-only", &[Missing, Added],
        &["/usr/local/share/ca-certificates", "/usr/local/share/fonts", "/usr/local/lib/python3*"]),
    Rule::new("settings of keys", "written only where the key is, which each instance makes", &[Content], &["/etc/postfix/main.cf"]),
    Rule::new("memory of switches", "Apache's tools remember for upgrades who switched what on", &[Missing],
        &["/var/lib/apache2/conf*", "/var/lib/apache2/module*", "/var/lib/apache2/site*"]),
    Rule::new("notes", "what a package leaves for its next start", &[Missing], &["/var/spool/postfix/restart"]),
    Rule::new("caches", "of fonts; fontconfig works without", &[Missing], &["/var/cache/fontconfig*"]),
    Rule::new("unpacked first", "mmdebstrap unpacks before any preinst, so a diversion also moves the package's own file",
        &[Missing], &["/usr/bin/pg_config.libpq-dev"]),
    Rule::of("base-files", "directories and files for people who log in",
        &["/etc/motd", "/etc/profile", "/root/.bashrc", "/root/.profile", "/etc/opt", "/media", "/usr/local/*",
            "/var/mail", "/var/opt", "/var/spool/mail"]),
    Rule::of("mawk", "alternatives of its program", &["/etc/alternatives/*awk", "/usr/bin/*awk"]),
    Rule::of("util-linux", "alternatives of its program", &["/etc/alternatives/pager", "/usr/bin/pager"]),
    Rule::of("tar", "alternatives of its program", &["/etc/alternatives/rmt", "/usr/sbin/rmt"]),
    Rule::of("debianutils", "alternatives of its program, and shells that the image does not have",
        &["/etc/alternatives/which", "/usr/bin/which", "/etc/shells"]),
    Rule::of("libpam-runtime", "nothing in the image asks PAM", &["/etc/pam.d/common-*"]),
    Rule::of("libpam-modules", "nothing in the image asks PAM", &["/etc/security/opasswd"]),
    Rule::of("login", "nobody logs in", &["/etc/subgid", "/etc/subuid", "/var/log/faillog"]),
];

/// The name of the rule that explains a difference.
pub(crate) fn explain(found: &Difference, theirs: &Tree, machine: &LockedMachine) -> Option<&'static str> {
    if found.what == Missing {
        if drop::rule_of(&found.path, Init::Plumb).is_some() {
            return Some(DROPPED);
        }
        let packages = theirs.packages.get(&found.path).map_or(&[][..], Vec::as_slice);
        let is_of_build = |name: &String| machine.build.iter().any(|build| build.as_str() == name);
        if !packages.is_empty() && packages.iter().all(is_of_build) {
            return Some(BUILD_ONLY);
        }
    }
    let fits = |rule: &&Rule| {
        let is_out =
            rule.without.is_empty() || machine.build.iter().any(|build| build.as_str() == rule.without);
        is_out
            && rule.what.contains(&found.what)
            && rule.paths.iter().any(|pattern| matches(pattern, &found.path))
    };
    RULES.iter().find(fits).map(|rule| rule.name)
}

#[test]
fn every_rule_has_a_name_and_a_reason() {
    for (index, rule) in RULES.iter().enumerate() {
        assert!(!rule.reason.is_empty() && !rule.paths.is_empty(), "{}", rule.name);
        assert!(RULES[..index].iter().all(|other| other.name != rule.name), "twice: {}", rule.name);
    }
}

/// Rules that explained nothing.
pub(crate) fn idle(used: &BTreeSet<&'static str>) -> Vec<&'static str> {
    let all = RULES.iter().map(|rule| rule.name).chain([DROPPED, BUILD_ONLY]);
    all.filter(|name| !used.contains(name)).collect()
}

/// Does `path` have the form of `pattern`?
fn matches(pattern: &str, path: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == path };
    let Some(rest) = path.strip_prefix(head) else { return false };
    (0..=rest.len()).filter(|cut| rest.is_char_boundary(*cut)).any(|cut| matches(tail, &rest[cut..]))
}
