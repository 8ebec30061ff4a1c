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
    ("update-catalog", "", "lists SGML catalogs for typesetters; those of XML are written by rule `catalog`"),
    ("ldconfig", "", "rule `linker` writes the cache itself"),
    ("update-ca-certificates", "", "rule `certificates` writes the bundle itself"),
    ("py3compile", "", "byte code is not kept in an image"),
    ("pypy3compile", "", "byte code is not kept in an image"),
    ("py3clean", "", "byte code is not kept in an image"),
    ("dpkg-maintscript-helper", "", "acts on upgrades only, and an image is always a first installation"),
    ("dpkg-trigger", "", "triggers are rules of their own"),
    ("update-mime", "", "says which programs show files to people; there is no desktop in an image"),
    ("gio-querymodules", "", "a cache; GIO reads the folder without it"),
    ("gtk-query-immodules-2.0", "", "input methods; there is no display in an image"),
    ("gtk-query-immodules-3.0", "", "input methods; there is no display in an image"),
    ("log_daemon_msg", "", "writes a message only"),
    ("log_action_begin_msg", "", "writes a message only"),
    ("log_action_end_msg", "", "writes a message only"),
    ("log_end_msg", "", "writes a message only"),
    ("log_progress_msg", "", "writes a message only"),
    ("log_success_msg", "", "writes a message only"),
    ("log_failure_msg", "", "writes a message only"),
    ("log_warning_msg", "", "writes a message only"),
    ("chattr", "", "an image has no attributes of a file system; it is read-only"),
    ("exim4", "-C", "checks a configuration"),
    ("exim", "-C", "checks a configuration"),
    ("proftpd", "-t", "checks a configuration"),
    ("collectd", "-t", "checks a configuration"),
    ("nginx", "-t", "checks a configuration"),
    ("apache2ctl", "configtest", "checks a configuration"),
    ("sshd", "-t", "checks a configuration"),
    ("haproxy", "-c", "checks a configuration"),
    ("mkfontscale", "", "fonts of a display server; there is no display in an image"),
    ("mkfontdir", "", "fonts of a display server; there is no display in an image"),
    ("stty", "", "computes only"),
    ("base64", "", "computes only"),
    ("fold", "", "computes only"),
    ("xxd", "", "computes only"),
    ("od", "", "computes only"),
    ("hexdump", "", "computes only"),
    ("base32", "", "computes only"),
    ("getfacl", "", "computes only"),
    ("twadmin", "-m", "computes only"),
    ("py3versions", "", "computes only"),
    ("pkill", "", "nothing runs while an image is built"),
    ("killall", "", "nothing runs while an image is built"),
    ("date", "", "computes only; an image has no date"),
    ("nproc", "", "computes only"),
    ("getconf", "", "computes only"),
    ("ip", "", "computes only"),
    ("ifconfig", "", "computes only"),
    ("netstat", "", "computes only"),
    ("lsof", "", "computes only"),
    ("fuser", "", "computes only"),
    ("lsb_release", "", "computes only"),
    ("sha512sum", "", "computes only"),
    ("dmesg", "", "computes only"),
    ("lsmod", "", "computes only"),
    ("file", "", "computes only"),
    ("update-menus", "", "there is no desktop in an image"),
    ("update-desktop-database", "", "there is no desktop in an image"),
    ("gtk-update-icon-cache", "", "there is no desktop in an image"),
    ("fc-cache", "", "a cache; fontconfig works without"),
    ("update-binfmts", "", "formats are registered with the kernel at boot, where nothing needs it"),
    ("install-info", "", "info pages are dropped"),
    ("update-info-dir", "", "info pages are dropped"),
    ("mandb", "", "manual pages are dropped"),
    ("locale-gen", "", "C and C.UTF-8 need no generation"),
    ("update-locale", "", "the environment of services is in the definition"),
    ("debconf-loadtemplate", "", "debconf asks nobody at build time"),
    ("pg_checksystem", "", "warns only"),
    ("pg_updateaptconfig", "", "there is no package manager in an image"),
    ("pg_updatedicts", "", "makes dictionaries of spelling packages, which initdb does not need"),
    ("dbus-uuidgen", "", "the machine id is given at boot"),
    ("runit-helper", "", "there is no runit in an image"),
    ("a2query", "", "computes only"),
    ("df", "", "computes only"),
    ("ucfr", "", "there is no ucf database in an image"),
    ("aa-status", "", "there is no AppArmor policy in an image"),
    ("apparmor_parser", "", "there is no AppArmor policy in an image"),
    ("restorecon", "", "there is no SELinux policy in an image"),
    ("selinuxenabled", "", "there is no SELinux policy in an image"),
    ("update-shells", "", "rule `accounts` writes /etc/shells itself"),
    ("update-passwd", "", "rule `accounts` knows Debian's fixed ids"),
    ("shadowconfig", "", "rule `accounts` writes /etc/shadow itself"),
    ("logger", "", "writes a message only"),
    ("sleep", "", "nothing to wait for"),
    ("sync", "", "nothing to wait for"),
    ("sha1sum", "", "computes only"),
    ("ps", "", "computes only"),
    ("ss", "", "computes only"),
    ("getcap", "", "computes only"),
    ("shopt", "", "an option of the shell"),
];

/// Package (a trailing `*` matches any rest), script, reason why all of it is covered.
#[rustfmt::skip]
const SCRIPTS: &[(&str, &str, &str)] = &[
    ("dash", "postinst", "rule `sh` links /bin/sh"),
    ("libc6", "postinst", "restarts services after an upgrade; rule `linker` writes the cache"),
    ("ca-certificates", "postinst", "rule `certificates` writes the bundle and links"),
    ("ucf", "preinst", "moves files of earlier versions"),
    ("dpkg", "postinst", "repairs the database of earlier versions"),
    ("systemd", "preinst", "nothing of an earlier version is there"),
    ("systemd", "postinst", "accounts and directories come from sysusers.d and tmpfiles.d, nobody logs in on a terminal"),
    ("linux-image-*", "preinst", "the kernel is a part of the image of its own"),
    ("linux-image-*", "postinst", "the kernel is a part of the image of its own"),
    ("python3-distutils", "postinst", "byte code is not kept in an image"),
    ("python3-lib2to3", "postinst", "byte code is not kept in an image"),
    ("python3.*", "postinst", "byte code is not kept in an image"),
    ("iproute2", "postinst", "asks for capabilities that are off by default"),
];

/// Sourced files that define nothing but debconf's commands or messages.
const INCLUDES: [&str; 3] =
    ["/usr/share/debconf/confmodule", "/usr/share/dpkg/sh/dpkg-error.sh", "/lib/lsb/init-functions"];

/// Commands that make what belongs to one instance and never to an image, which all instances share and which can be
/// read by whoever has it. The build tells its user, who makes it at the first start.
#[rustfmt::skip]
const OF_INSTANCE: &[(&str, &str, &str)] = &[
    ("ssh-keygen", "", KEY),
    ("make-ssl-cert", "", KEY),
    ("mungekey", "", KEY),
    ("dropbearkey", "", KEY),
    ("iscsi-iname", "", KEY),
    ("kstash", "", KEY),
    ("doveadm", "", KEY),
    ("openssl", "req", KEY),
    ("openssl", "genrsa", KEY),
    ("openssl", "genpkey", KEY),
    ("openssl", "ecparam", KEY),
    ("openssl", "x509", KEY),
    ("openssl", "dhparam", KEY),
    ("openssl", "rand", KEY),
    ("mkimapdcert", "", KEY),
    ("mkpop3dcert", "", KEY),
    ("mkesmtpdcert", "", KEY),
    ("schleuder", "cert", KEY),
    ("certtool", "", KEY),
    ("rndc-confgen", "", KEY),
    ("tsig-keygen", "", KEY),
    ("dnssec-keygen", "", KEY),
    ("unbound-control-setup", "", KEY),
    ("nsd-control-setup", "", KEY),
    ("pwgen", "", KEY),
    ("apg", "", KEY),
    ("makepasswd", "", KEY),
    ("mcookie", "", KEY),
    ("uuidgen", "", KEY),
    ("dbc_go", "", DATABASE),
    ("update-davical-database", "", DATABASE),
    ("rake", "db:init", DATABASE),
    ("saslpasswd2", "", DATABASE),
    ("sqlite3", "", DATABASE),
    ("psql", "", DATABASE),
    ("createuser", "", DATABASE),
    ("createdb", "", DATABASE),
    ("mysql", "", DATABASE),
    ("mysqladmin", "", DATABASE),
    ("mariadb", "", DATABASE),
    ("mysql_install_db", "", DATABASE),
    ("mariadb-install-db", "", DATABASE),
    ("mysqld", "", DATABASE),
    ("pg_createcluster", "", DATABASE),
    ("slapadd", "", DATABASE),
    ("kdb5_util", "", DATABASE),
    ("kadmin", "", DATABASE),
    ("kadmin.local", "", DATABASE),
    ("isql-fb", "", DATABASE),
    ("newaliases", "", DATABASE),
];

pub(super) const KEY: &str = "a key, certificate or password must be made for each instance";
const DATABASE: &str = "a database is made on the server that runs";

/// exim4-config's awk program: every setting gets its value from the variable of its name.
const EXIM_VALUES: &str = r#"while read -r line; do
    name=${line%%=*}
    case " $dc_directives " in
        *" $name "*) eval "value=\$$name"; printf '%s\n' "$name='$value'" ;;
        *) printf '%s\n' "$line" ;;
    esac
done"#;

/// privoxy's perl program: the addresses it is called with stand in place of the first line that has one.
const PRIVOXY_ADDRESSES: &str = r#"done=
while IFS= read -r line; do
    if echo "$line" | grep -q '^[[:space:]]*listen-address[[:space:]]'; then
        [ -n "$done" ] || for address in $RET; do echo "listen-address  $address"; done
        done=1
    else
        printf '%s\n' "$line"
    fi
done"#;

/// Lines of single packages (the source line, or the command with its arguments) and what is evaluated instead.
#[rustfmt::skip]
const INSTEAD: &[(&str, &str, &str, &str)] = &[
    ("bind9", "ls -ln /etc/bind/rndc.key", "echo '-rw------- 1 0 0'", "the key is made by root, for each instance"),
    ("squid", "grepconf cache_effective_user proxy", "echo proxy", "the package's configuration names none"),
    ("squid", "grepconf cache_effective_group proxy", "echo proxy", "the package's configuration names none"),
    ("squid", "grepconf2 cache_dir /var/spool/squid", "echo /var/spool/squid", "the package's configuration names none"),
    ("squid-openssl", "grepconf cache_effective_user proxy", "echo proxy", "the package's configuration names none"),
    ("squid-openssl", "grepconf cache_effective_group proxy", "echo proxy", "the package's configuration names none"),
    ("squid-openssl", "grepconf2 cache_dir /var/spool/squid", "echo /var/spool/squid", "the package's configuration names none"),
    ("exim4-config", "awk '", EXIM_VALUES, "the same in the language of the rules"),
    ("libpaper1", "locale width", "echo 210", "of the language C, in which nobody has chosen another"),
    ("libpaper1", "locale height", "echo 297", "of the language C, in which nobody has chosen another"),
    ("libpaper1", r#"LC_ALL=C awk -v w="$w" -v h="$h" 'NF == 3 && int($2*72/2.54 + 0.5) == w && int($3*72/2.54 + 0.5) == h {"#,
        "echo a4", "the size of those"),
    ("policyd-rate-limit", "policyd-rate-limit --get-config user", "echo policyd-rate-limit", "the package's default"),
    ("policyd-rate-limit", "policyd-rate-limit --get-config group", "echo policyd-rate-limit", "the package's default"),
    ("pgpool2", r#"perl -e 'use lib "/usr/share/postgresql-common";use PgCommon;printf "%s\n", next_free_port;'"#,
        "echo 5432", "the first, as there is no cluster yet"),
    ("ddclient", "date", "echo 'Thu Jan  1 00:00:00 UTC 1970'", "in a comment; an image has no date"),
    ("privoxy", "perl -le '", PRIVOXY_ADDRESSES, "the same in the language of the rules"),
    ("chrony", "chronyd -p", "cat /etc/chrony/chrony.conf", "prints the configuration"),
    ("mariadb-server", r"find $mysql_datadir -follow -not -group mysql -print0 2>/dev/null \",
        "chgrp -R mysql $mysql_datadir", "whatever is not of the server's group becomes so"),
    ("erlang-base", r#"if [ -n "$idl" ] ; then"#, ":", "starts services again that were stopped"),
    ("python3-twisted", r#""${p}" -c 'from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))' \"#, ":",
        "a cache that Twisted does without"),
    ("mariadb-server", r#"find $mysql_datadir ! -uid "$(id -u mysql)" -print0 | xargs -0 -r chown mysql"#,
        "chown -R mysql $mysql_datadir", "whatever is not the server's becomes its own"),
    ("mariadb-server", "find $mysql_statedir ! -uid 0 -print0 -or ! -gid 0 -print0 | xargs -0 -r sudo chown 0:0",
        "chown -R root:root $mysql_statedir", "whatever is not root's becomes root's"),
];

/// Scripts in another language (package, script, the same in the language of the rules, what it is at a first
/// installation with nobody to answer questions).
#[rustfmt::skip]
const TRANSLATED: &[(&str, &str, &str, &str)] = &[
    ("postfix", "config", "#!/bin/sh\n. /usr/share/debconf/confmodule\n\
        db_set postfix/destinations '$myhostname, localdomain, localhost, localhost.localdomain, localhost'\n\
        db_set postfix/protocols all\n", "what it finds for the name `localhost`"),
    ("krb5-config", "postinst", "#!/bin/sh\n[ -e /etc/krb5.conf ] || cp /usr/share/kerberos-configs/krb5.conf.template /etc/krb5.conf\n",
        "the template; without a realm nothing is put into it"),
];

/// This script in the language of the rules, if it is in another.
pub(super) fn translated(package: &str, script: &str) -> Option<&'static str> {
    let found = TRANSLATED.iter().find(|(name, which, ..)| *name == package && *which == script);
    found.map(|(_, _, text, _)| *text)
}

/// Devices that give what is never twice the same.
pub(super) fn is_random(path: &str) -> bool {
    matches!(path, "/dev/urandom" | "/dev/random")
}

/// What is evaluated instead of this line.
pub(super) fn instead(package: &str, text: &str, arguments: &[Argument]) -> Option<&'static str> {
    let mut of_package = INSTEAD.iter().filter(|(name, ..)| *name == package).peekable();
    of_package.peek()?;
    let command = arguments.iter().cloned().collect::<Option<Vec<_>>>().map(|words| words.join(" "));
    let found = of_package.find(|(_, line, ..)| *line == text || command.as_deref() == Some(line));
    found.map(|(_, _, instead, _)| *instead)
}

/// What installing leaves behind and nothing reads: logs, and the memory of package tools (rule `packaging`).
const LEFTOVERS: [&str; 4] = ["/var/log/", "/var/lib/ucf/", "/var/cache/debconf/", "/etc/apparmor.d/"];

/// Is a file there of no account if its text is not known?
pub(super) fn leftover(path: &str) -> bool {
    LEFTOVERS.iter().any(|folder| path.starts_with(folder))
}

/// Does this command make what belongs to an instance? The reason.
pub(super) fn instance(name: &str, arguments: &[Argument]) -> Option<&'static str> {
    let first = arguments.first().and_then(Option::as_deref);
    if name == "dd" && arguments.iter().flatten().any(|word| word.strip_prefix("if=").is_some_and(is_random))
    {
        return Some(KEY);
    }
    let found = OF_INSTANCE
        .iter()
        .find(|(command, argument, _)| *command == name && (argument.is_empty() || first == Some(argument)));
    found.map(|(_, _, reason)| *reason)
}

/// Does this command leave no trace, or one that another rule makes?
pub(super) fn command(name: &str, arguments: &[Argument]) -> bool {
    if name == "pg_conftool" {
        return arguments.iter().flatten().any(|word| word == "show");
    }
    COMMANDS.iter().any(|(command, first, _)| {
        *command == name
            && (first.is_empty()
                || arguments.first().is_some_and(|argument| argument.as_deref() == Some(*first)))
    })
}

/// Is all of this script covered?
pub(super) fn script(package: &str, script: &str) -> bool {
    // Triggers are processed by the `postinst`, called another way.
    let script = if script == "triggers" { "postinst" } else { script };
    SCRIPTS.iter().any(|(name, which, _)| {
        let same = name.strip_suffix('*').map_or(*name == package, |prefix| package.starts_with(prefix));
        same && *which == script
    })
}

/// Is this sourced file of no account?
pub(super) fn include(path: &str) -> bool {
    INCLUDES.contains(&path)
}
