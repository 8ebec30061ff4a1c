//! Commands and scripts that leave no trace in an image, or whose trace another rule makes. Data, with reasons.

use super::script::Argument;

/// Command, first argument (or empty for any), reason.
#[rustfmt::skip]
const COMMANDS: &[(&str, &str, &str)] = &[
    ("deb-systemd-helper", "", "which services run is said by the definition, not by enablement links"),
    ("deb-systemd-invoke", "", "nothing runs while an image is built"),
    ("systemctl", "", "nothing runs while an image is built"),
    ("invoke-rc.d", "", "nothing runs while an image is built"),
    ("service", "", "nothing runs while an image is built"),
    ("start-stop-daemon", "", "nothing runs while an image is built"),
    ("kill", "", "nothing runs while an image is built"),
    ("dbus-send", "", "nothing runs while an image is built"),
    ("sysctl", "", "the kernel of the build host is not the image's"),
    ("udevadm", "", "the kernel of the build host is not the image's"),
    ("modprobe", "", "the kernel of the build host is not the image's"),
    ("mount", "", "nothing is mounted while an image is built"),
    ("umount", "", "nothing is mounted while an image is built"),
    ("update-rc.d", "", "there is no sysv-rc in an image"),
    ("update-initramfs", "", "the initramfs is written by Plumb"),
    ("depmod", "", "modules are ordered by Plumb"),
    ("systemd-sysusers", "", "rule `sysusers` reads sysusers.d itself"),
    ("systemd-tmpfiles", "", "rule `tmpfiles` reads tmpfiles.d itself"),
    ("systemd-hwdb", "", "hardware names are of no use in a virtual machine"),
    ("systemd-machine-id-setup", "", "the machine id is given at boot"),
    ("journalctl", "", "there is no journal in an image"),
    ("update-catalog", "", "there is no journal in an image"),
    ("ldconfig", "", "rule `linker` writes the cache itself"),
    ("update-ca-certificates", "", "rule `certificates` writes the bundle itself"),
    ("py3compile", "", "byte code is not kept in an image"),
    ("pypy3compile", "", "byte code is not kept in an image"),
    ("py3clean", "", "byte code is not kept in an image"),
    ("dpkg-maintscript-helper", "", "acts on upgrades only, and an image is always a first installation"),
    ("dpkg-trigger", "", "triggers are rules of their own"),
    ("update-menus", "", "there is no desktop in an image"),
    ("update-desktop-database", "", "there is no desktop in an image"),
    ("update-mime-database", "", "there is no desktop in an image"),
    ("gtk-update-icon-cache", "", "there is no desktop in an image"),
    ("fc-cache", "", "a cache; fontconfig works without"),
    ("update-binfmts", "", "formats are registered with the kernel at boot, where nothing needs it"),
    ("install-info", "", "info pages are dropped"),
    ("update-info-dir", "", "info pages are dropped"),
    ("mandb", "", "manual pages are dropped"),
    ("locale-gen", "", "C and C.UTF-8 need no generation"),
    ("update-locale", "", "the environment of services is in the definition"),
    ("db_get", "", "debconf asks nobody at build time"),
    ("db_set", "", "debconf asks nobody at build time"),
    ("db_fset", "", "debconf asks nobody at build time"),
    ("db_fget", "", "debconf asks nobody at build time"),
    ("db_go", "", "debconf asks nobody at build time"),
    ("db_input", "", "debconf asks nobody at build time"),
    ("db_subst", "", "debconf asks nobody at build time"),
    ("db_reset", "", "debconf asks nobody at build time"),
    ("db_stop", "", "debconf asks nobody at build time"),
    ("db_version", "", "debconf asks nobody at build time"),
    ("db_capb", "", "debconf asks nobody at build time"),
    ("db_metaget", "", "debconf asks nobody at build time"),
    ("db_register", "", "debconf asks nobody at build time"),
    ("db_unregister", "", "debconf asks nobody at build time"),
    ("db_purge", "", "debconf asks nobody at build time"),
    ("db_title", "", "debconf asks nobody at build time"),
    ("debconf-loadtemplate", "", "debconf asks nobody at build time"),
    ("pg_checksystem", "", "warns only"),
    ("pg_updateaptconfig", "", "there is no package manager in an image"),
    ("pg_updatedicts", "", "makes dictionaries of spelling packages, which initdb does not need"),
    ("dbus-uuidgen", "", "the machine id is given at boot"),
    ("runit-helper", "", "there is no runit in an image"),
    ("a2query", "", "computes only"),
    ("phpquery", "", "computes only"),
    ("df", "", "computes only"),
    ("ucfr", "", "there is no ucf database in an image"),
    ("aa-status", "", "there is no AppArmor policy in an image"),
    ("apparmor_parser", "", "there is no AppArmor policy in an image"),
    ("restorecon", "", "there is no SELinux policy in an image"),
    ("selinuxenabled", "", "there is no SELinux policy in an image"),
    ("update-passwd", "", "rule `accounts` knows Debian's fixed ids"),
    ("shadowconfig", "", "rule `accounts` writes /etc/shadow itself"),
    ("logger", "", "writes a message only"),
    ("sleep", "", "nothing to wait for"),
    ("sync", "", "nothing to wait for"),
    ("grep", "", "computes only"),
    ("egrep", "", "computes only"),
    ("fgrep", "", "computes only"),
    ("cmp", "", "computes only"),
    ("diff", "", "computes only"),
    ("cut", "", "computes only"),
    ("tr", "", "computes only"),
    ("sort", "", "computes only"),
    ("uniq", "", "computes only"),
    ("head", "", "computes only"),
    ("tail", "", "computes only"),
    ("wc", "", "computes only"),
    ("ls", "", "computes only"),
    ("stat", "", "computes only"),
    ("readlink", "", "computes only"),
    ("basename", "", "computes only"),
    ("dirname", "", "computes only"),
    ("md5sum", "", "computes only"),
    ("sha1sum", "", "computes only"),
    ("sha256sum", "", "computes only"),
    ("expr", "", "computes only"),
    ("uname", "", "computes only"),
    ("ps", "", "computes only"),
    ("ss", "", "computes only"),
    ("mktemp", "", "temporary files leave no trace"),
    ("dpkg-query", "", "computes only"),
    ("dpkg", "-L", "computes only"),
    ("dpkg", "-s", "computes only"),
    ("dpkg", "--print-architecture", "computes only"),
    ("dpkg", "--compare-versions", "computes only"),
    ("dpkg", "--validate-version", "computes only"),
    ("dpkg-vendor", "", "computes only"),
    ("dpkg-architecture", "", "computes only"),
    ("dpkg-divert", "--truename", "computes only"),
    ("dpkg-divert", "--list", "computes only"),
    ("getcap", "", "computes only"),
    ("shopt", "", "an option of the shell"),
];

/// Package (a trailing `*` matches any rest), script, reason why all of it is covered.
#[rustfmt::skip]
const SCRIPTS: &[(&str, &str, &str)] = &[
    ("base-files", "postinst", "rule `skeleton` makes the directories and os-release"),
    ("base-files", "preinst", "rule `skeleton` makes the directories and os-release"),
    ("base-passwd", "postinst", "rule `accounts` knows Debian's fixed ids"),
    ("base-passwd", "preinst", "rule `accounts` knows Debian's fixed ids"),
    ("bash", "preinst", "links /bin/sh if nothing else does; rule `sh` prefers dash"),
    ("bash", "postinst", "rule `sh` links /bin/sh; the rest is about upgrades"),
    ("dash", "preinst", "rule `sh` links /bin/sh"),
    ("dash", "postinst", "rule `sh` links /bin/sh"),
    ("libc6", "preinst", "checks the running system before an upgrade"),
    ("libc6", "postinst", "restarts services after an upgrade; rule `linker` writes the cache"),
    ("libc-bin", "postinst", "rule `linker` writes the cache, rule `skeleton` nsswitch.conf"),
    ("libpam0g", "postinst", "restarts services after an upgrade"),
    ("libpam-runtime", "postinst", "rule `pam` writes the common profiles"),
    ("libpam-modules", "preinst", "checks the running system before an upgrade"),
    ("libssl3*", "postinst", "restarts services after an upgrade"),
    ("ca-certificates", "postinst", "rule `certificates` writes the bundle and links"),
    ("tzdata", "postinst", "rule `skeleton` sets UTC; a definition may ship its own /etc/localtime"),
    ("tzdata", "preinst", "moves files of earlier versions"),
    ("locales", "postinst", "C and C.UTF-8 need no generation"),
    ("ucf", "preinst", "moves files of earlier versions"),
    ("ucf", "postinst", "there is no ucf database in an image"),
    ("dpkg", "postinst", "repairs the database of earlier versions"),
    ("debianutils", "postinst", "rule `skeleton` writes /etc/shells; its alternatives need none of its programs"),
    ("usrmerge", "preinst", "an image always has a merged /usr"),
    ("usrmerge", "postinst", "an image always has a merged /usr"),
    ("usr-is-merged", "preinst", "an image always has a merged /usr"),
    ("systemd", "preinst", "PID 1 is Plumb's"),
    ("systemd", "postinst", "PID 1 is Plumb's; accounts and directories come from sysusers.d and tmpfiles.d"),
    ("systemd-sysv", "postinst", "PID 1 is Plumb's"),
    ("udev", "postinst", "PID 1 is Plumb's; there is no udev database"),
    ("udev", "preinst", "PID 1 is Plumb's"),
    ("kmod", "postinst", "modules are loaded from the initramfs"),
    ("initramfs-tools", "postinst", "the initramfs is written by Plumb"),
    ("initramfs-tools-core", "postinst", "the initramfs is written by Plumb"),
    ("linux-image-*", "preinst", "the kernel is a part of the image of its own"),
    ("linux-image-*", "postinst", "the kernel is a part of the image of its own"),
    ("python3", "preinst", "byte code is not kept in an image"),
    ("python3", "postinst", "byte code is not kept in an image"),
    ("python3-minimal", "postinst", "byte code is not kept in an image"),
    ("python3-distutils", "postinst", "byte code is not kept in an image"),
    ("python3-lib2to3", "postinst", "byte code is not kept in an image"),
    ("python3.*", "postinst", "byte code is not kept in an image"),
    ("libpython3.*", "postinst", "byte code is not kept in an image"),
    ("libgcrypt20", "postinst", "removes leftovers of earlier versions"),
    ("libwrap0", "postinst", "writes comments into hosts.allow and hosts.deny"),
    ("libglib2.0-0", "postinst", "caches; glib works without"),
    ("passwd", "postinst", "rule `accounts` knows Debian's fixed ids and writes /etc/shadow"),
    ("postgresql-client-*", "postinst", "alternatives of manual pages, which are dropped"),
    ("mysql-common", "preinst", "moves files of earlier versions"),
    ("adduser", "preinst", "acts on upgrades only"),
    ("procps", "postinst", "kernel settings are read by nobody at boot"),
    ("iproute2", "postinst", "asks for capabilities that are off by default"),
];

/// Sourced files that define nothing but debconf's commands or messages.
const INCLUDES: [&str; 3] =
    ["/usr/share/debconf/confmodule", "/usr/share/dpkg/sh/dpkg-error.sh", "/lib/lsb/init-functions"];

/// Options of sed(1) and find(1) that write.
const WRITING: [&str; 6] = ["-i", "--in-place", "-delete", "-exec", "-execdir", "-ok"];

/// Does this command leave no trace, or one that another rule makes?
pub(super) fn command(name: &str, arguments: &[Argument]) -> bool {
    if matches!(name, "sed" | "find" | "awk" | "gawk" | "mawk" | "perl") {
        let writes = |argument: &Argument| {
            argument.as_deref().is_none_or(|text| WRITING.iter().any(|option| text.starts_with(option)))
        };
        return name != "perl" && !arguments.iter().filter(|a| a.is_some()).any(writes);
    }
    COMMANDS.iter().any(|(command, first, _)| {
        *command == name
            && (first.is_empty()
                || arguments.first().is_some_and(|argument| argument.as_deref() == Some(*first)))
    })
}

/// Is all of this script covered?
pub(super) fn script(package: &str, script: &str) -> bool {
    SCRIPTS.iter().any(|(name, which, _)| {
        let same = name.strip_suffix('*').map_or(*name == package, |prefix| package.starts_with(prefix));
        same && *which == script
    })
}

/// Is this sourced file of no account?
pub(super) fn include(path: &str) -> bool {
    INCLUDES.contains(&path)
}
