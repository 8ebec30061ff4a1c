//! Units of Debian 12, as packaged, and what a machine makes of them.

mod packaged;
mod systemd;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use expect_test::{Expect, expect};
use plumb_guest_proto::{Command, Ready, Restart, ServiceKind, ServiceSpec};
use plumb_image::unit::{
    Accounts, OrderError, ROOT_BOUNDING, ServiceInput, Sibling, Translated, UnitError, UnitSource,
    UserRecord, capability_number, from_exec, from_unit, order_services, parse_command,
};
use proptest::prelude::*;

/// The units in `tests/data/units`, and those a test adds.
#[derive(Default)]
struct Units {
    own: BTreeMap<String, String>,
    drop_ins: BTreeMap<String, Vec<String>>,
}

impl UnitSource for Units {
    fn unit(&self, name: &str) -> Option<String> {
        let packaged = || {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/units").join(name);
            std::fs::read_to_string(path).ok()
        };
        self.own.get(name).cloned().or_else(packaged)
    }

    fn drop_ins(&self, name: &str) -> Vec<String> {
        self.drop_ins.get(name).cloned().unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        ["nginx", "postgresql", "postgresql@", "redis-server", "ssh"]
            .map(|name| format!("{name}.service"))
            .into()
    }
}

/// A few accounts of Debian.
struct Etc;

impl Accounts for Etc {
    fn user(&self, name: &str) -> Option<UserRecord> {
        let (uid, gid, home) = match name {
            "root" => (0, 0, "/root"),
            "www-data" => (33, 33, "/var/www"),
            "postgres" => (101, 102, "/var/lib/postgresql"),
            "redis" => (103, 104, "/var/lib/redis"),
            "mysql" => (105, 106, "/nonexistent"),
            "rabbitmq" => (107, 108, "/var/lib/rabbitmq"),
            "mosquitto" => (111, 112, "/var/lib/mosquitto"),
            "tomcat" => (109, 110, "/var/lib/tomcat"),
            "systemd-resolve" => (997, 997, "/"),
            _ => return None,
        };
        let shell = if uid == 0 { "/bin/bash" } else { "/usr/sbin/nologin" };
        Some(UserRecord { uid, gid, home: home.into(), shell: shell.into() })
    }

    fn group(&self, name: &str) -> Option<u32> {
        match name {
            "ssl-cert" => Some(111),
            "proxy" => Some(13),
            _ => self.user(name).map(|user| user.gid),
        }
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        if user == "postgres" { vec![111] } else { Vec::new() }
    }
}

/// Everything is in the image but what belongs to dpkg and coreutils; bare names are in `/usr/bin`.
fn resolve(program: &str) -> Option<String> {
    match program {
        "/sbin/start-stop-daemon" | "/bin/mkdir" | "/bin/chown" | "gunicorm" => None,
        _ if program.starts_with('/') => Some(program.to_owned()),
        _ => Some(format!("/usr/bin/{program}")),
    }
}

fn input(name: &str) -> ServiceInput<'static> {
    ServiceInput::new(name, &resolve)
}

fn capabilities(set: u64) -> String {
    if set == ROOT_BOUNDING {
        return "default of root".into();
    }
    let names =
        ["chown", "setgid", "setuid", "setpcap", "net_bind_service", "net_raw", "ipc_lock", "sys_resource"];
    let named = names.map(|name| (name, capability_number(name).expect("known")));
    let all: Vec<&str> = named.iter().filter(|(_, bit)| set >> bit & 1 == 1).map(|(name, _)| *name).collect();
    assert_eq!(set.count_ones() as usize, all.len(), "a capability is not in the list above");
    if all.is_empty() { "none".into() } else { all.join(" ") }
}

/// What differs from a plain service, one line each.
#[expect(clippy::too_many_lines, reason = "one line per field of the contract")]
fn render(Translated { spec, notes }: &Translated) -> String {
    let mut text = String::new();
    let mut line =
        |what: &str, value: String| writeln!(text, "{what}: {value}").expect("a string takes everything");
    line("service", format!("{} {:?} {}:{} {:?}", spec.name, spec.kind, spec.uid, spec.gid, spec.groups));
    let lists = [
        ("prepare", &spec.prepare),
        ("pre", &spec.start_pre),
        ("start", &spec.start),
        ("post", &spec.start_post),
        ("stop", &spec.stop),
    ];
    for (what, commands) in lists {
        for Command { argv, ignore_failure, privileged } in commands {
            let marks = (if *ignore_failure { "-" } else { "" }, if *privileged { "+" } else { "" });
            line(what, format!("{}{}{argv:?}", marks.0, marks.1));
        }
    }
    let usual = ["HOME", "LANG", "LOGNAME", "PATH", "PYTHONDONTWRITEBYTECODE", "SHELL", "USER"];
    for (name, value) in spec.environment.iter().filter(|(name, _)| !usual.contains(&name.as_str())) {
        line("env", format!("{name}={value}"));
    }
    for (path, optional) in &spec.environment_files {
        line("env file", format!("{path}{}", if *optional { " if present" } else { "" }));
    }
    for directory in &spec.directories {
        line(
            "directory",
            format!("{} {:o} {}:{}", directory.path, directory.mode, directory.uid, directory.gid),
        );
    }
    for (name, limit) in &spec.limits {
        if !(name == "nofile" && limit.hard == Some(524_288)
            || name == "memlock" && limit.hard == Some(8 << 20))
        {
            line("limit", format!("{name} {:?}:{:?}", limit.soft, limit.hard));
        }
    }
    line(
        "run",
        format!(
            "in {} umask {:o} nice {} oom {}",
            spec.working_directory, spec.umask, spec.nice, spec.oom_score_adjust
        ),
    );
    line("restart", format!("{:?} after {} ms", spec.restart, spec.restart_delay_ms));
    line(
        "times",
        format!(
            "start {} ms, stop {} ms, ready {} ms",
            spec.start_timeout_ms, spec.stop_timeout_ms, spec.ready_timeout_ms
        ),
    );
    line("kill", format!("{} {:?}", spec.kill_signal, spec.kill_mode));
    line(
        "capabilities",
        format!(
            "{}; ambient {}",
            capabilities(spec.capability_bounding),
            capabilities(spec.capability_ambient)
        ),
    );
    let extras = [
        spec.pid_file.as_ref().map(|path| format!("pid file {path}")),
        spec.remain_after_exit.then(|| "remains after exit".to_owned()),
        spec.no_new_privileges.then(|| "no new privileges".to_owned()),
        (!spec.success_exit_status.is_empty()).then(|| format!("success {:?}", spec.success_exit_status)),
        spec.ready.as_ref().map(|ready| format!("ready {ready:?}")),
        (!spec.after.is_empty()).then(|| format!("after {}", spec.after.join(", "))),
    ];
    for extra in extras.into_iter().flatten() {
        line("and", extra);
    }
    for note in notes {
        line("note", note.to_string());
    }
    text
}

fn check(unit: &str, expect: Expect) {
    expect.assert_eq(&render(&from_unit(unit, &input("it"), &Units::default(), &Etc).expect("translates")));
}

fn check_text(text: &str, expect: Expect) {
    let units = Units { own: [("x.service".to_owned(), text.to_owned())].into(), ..Units::default() };
    let shown = match from_unit("x", &input("it"), &units, &Etc) {
        Ok(translated) => render(&translated),
        Err(error) => format!("{error}\n"),
    };
    expect.assert_eq(&shown);
}

#[test]
fn values_and_notes() {
    check_text(
        "[Unit]\nAfter=other.service\nRequires=db.service gone.socket\nFuture=1\nnonsense\n[Service]\nType=idle\n\
         ExecStart=srv --port 80 %n\nEnvironment=\"A=a b\" B=%t/x 1=no\nEnvironment=C='d'\nUnsetEnvironment=B LANG\n\
         EnvironmentFile=-/etc/default/x\nEnvironmentFile=/etc/x/*.conf\nWorkingDirectory=-~\nUMask=0077\nNice=-5\n\
         OOMScoreAdjust=2000\nLimitNOFILE=1024:4096\nLimitCORE=infinity\nLimitNICE=+5\nLimitCPU=nine\n\
         StateDirectory=x/y x/z\nStateDirectoryMode=0700\nCacheDirectory=../up a:link\nConfigurationDirectory=x\n\
         PIDFile=x.pid\nRestart=on-watchdog\nRestartSec=1min 500ms\nTimeoutSec=5\nTimeoutStopSec=infinity\n\
         KillSignal=SIGQUIT\nKillMode=process\nSuccessExitStatus=0 TEMPFAIL 250 SIGKILL\nSuccessExitStatus=huh\n\
         User=www-data\nSupplementaryGroups=ssl-cert proxy\nAmbientCapabilities=CAP_NET_RAW CAP_NEW\nStandardOutput=file:/x\n\
         StandardInput=tty\nSendSIGHUP=yes\nOOMPolicy=stop\nIgnoreSIGPIPE=yes\nExecStopPost=/bin/x\nPrivateTmp=yes\n\
         ReadWritePaths=/etc/x /var/x\nMemoryMax=1G\n[Socket]\nListenStream=1\n",
        expect![[r#"
            service: it Simple 33:33 [13, 111]
            start: ["/usr/bin/srv", "--port", "80", "x.service"]
            env: A=a b
            env: C=d
            env: CACHE_DIRECTORY=/var/cache/a
            env: CONFIGURATION_DIRECTORY=/etc/x
            env: STATE_DIRECTORY=/var/lib/x/y:/var/lib/x/z
            env file: /etc/default/x if present
            directory: /var/lib/x 755 0:0
            directory: /var/lib/x/y 700 33:33
            directory: /var/lib/x/z 700 33:33
            directory: /var/cache/a 755 33:33
            limit: core None:None
            limit: nice Some(15):Some(15)
            limit: nofile Some(1024):Some(4096)
            run: in /var/www umask 77 nice -5 oom 0
            restart: OnAbnormal after 60500 ms
            times: start 5000 ms, stop 86400000 ms, ready 90000 ms
            kill: 3 Process
            capabilities: net_raw; ambient net_raw
            and: success [75, 250]
            note: `AmbientCapabilities=` not supported: `CAP_NEW` is no capability
            note: `CacheDirectory=` not supported: `../up` is not a path below `/var/cache`
            note: `CacheDirectory=` not supported: the link `/var/cache/link` is not made
            note: `Environment=` not supported: `1=no` is no `NAME=value`
            note: `EnvironmentFile=` not supported: `/etc/x/*.conf` is not the path of one file
            note: `ExecStopPost=` not supported: the command never runs
            note: `Future=` not supported: unknown in section `[Unit]`
            note: `IgnoreSIGPIPE=` not supported: SIGPIPE keeps its default action
            note: `LimitCPU=` not supported: `nine` is not a limit; the default is used
            note: `ListenStream=` not supported: unknown in section `[Socket]`
            note: `OOMPolicy=` not supported: the service goes on when one of its processes ran out of memory
            note: `OOMScoreAdjust=` not supported: `2000` is not a number from -1000 to 1000; the default is used
            note: `Requires=` not supported: the machine does not run `db.service`
            note: `Requires=` not supported: the machine does not run `gone.socket`
            note: `SendSIGHUP=` not supported: only `KillSignal=` is sent
            note: `StandardInput=` not supported: the service reads nothing, not `tty`
            note: `SuccessExitStatus=` not supported: `huh` is no exit status
            note: `SuccessExitStatus=` not supported: an end by the signal `SIGKILL` is not a success
            note: `MemoryMax=` not applied: resources are limited by the size of the machine, not per service
            note: `PrivateTmp=` not applied: all services of a machine see the same system
            note: the line `nonsense` is no assignment
            note: `ConfigurationDirectory=` directories below `/etc` must come from a package or the definition
            note: `ReadWritePaths=` `/etc/x` is read-only unless a volume is mounted there
            note: `StandardOutput=` output goes to the log of the machine, not to `file:/x`
            note: `WorkingDirectory=` `~` must exist, despite its `-`
        "#]],
    );
}

#[test]
fn oneshot_with_many_commands() {
    check_text(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/a ; -/bin/b 'c d'\nExecStart=+:/bin/e $X\n",
        expect![[r#"
            service: it Oneshot 0:0 []
            start: ["/bin/a"]
            start: -["/bin/b", "c d"]
            start: +["/bin/e", "$$X"]
            run: in / umask 22 nice 0 oom 0
            restart: No after 100 ms
            times: start 86400000 ms, stop 90000 ms, ready 90000 ms
            kill: 15 ControlGroup
            capabilities: default of root; ambient none
            and: remains after exit
        "#]],
    );
}

#[test]
fn capability_sets() {
    let check = |text: &str, expect: &str| {
        let unit = format!("[Service]\nExecStart=/bin/x\n{text}");
        let units = Units { own: [("x.service".to_owned(), unit)].into(), ..Units::default() };
        let spec = from_unit("x", &input("it"), &units, &Etc).expect("translates").spec;
        let shown = (capabilities(spec.capability_bounding), capabilities(spec.capability_ambient));
        assert_eq!(format!("{}; {}", shown.0, shown.1), expect, "{text}");
    };
    check("", "default of root; none");
    check("User=redis", "none; none");
    check("CapabilityBoundingSet=", "none; none");
    check("CapabilityBoundingSet=CAP_SETUID CAP_SETGID", "setgid setuid; none");
    check("CapabilityBoundingSet=~CAP_SYS_ADMIN", "default of root; none");
    check("User=redis\nCapabilityBoundingSet=~CAP_SYS_ADMIN", "none; none");
    check("User=redis\nAmbientCapabilities=CAP_NET_BIND_SERVICE", "net_bind_service; net_bind_service");
    check("AmbientCapabilities=CAP_IPC_LOCK\nCapabilityBoundingSet=CAP_CHOWN", "chown; none");
}

#[test]
fn what_cannot_be_translated() {
    let start = "[Service]\nExecStart=/bin/x\n";
    check_text(
        "[Service]\n",
        expect![[r#"
        `x.service` has no command to run: `ExecStart=` is missing
    "#]],
    );
    check_text(
        "[Service]\nExecStart=/bin/x\nExecStart=\n",
        expect![[r#"
        `x.service` has no command to run: `ExecStart=` is missing
    "#]],
    );
    check_text(
        "[Service]\nExecStart=/bin/x\nExecStart=/bin/y\n",
        expect![[r#"
        `x.service` has 2 start commands, but only `Type=oneshot` may have more than one
    "#]],
    );
    check_text(
        "[Service]\nExecStart=/bin/x 'a\n",
        expect![[r#"
        cannot understand the command `/bin/x 'a` of `ExecStart= of x.service`: a quote is not closed
    "#]],
    );
    check_text(
        "[Service]\nExecStart=-/sbin/start-stop-daemon\n",
        expect![[r#"
        the program `/sbin/start-stop-daemon` that `ExecStart= of x.service` runs is not in the image (looked for exactly there)
    "#]],
    );
    check_text(
        "[Service]\nExecStart=/bin/x %m\n",
        expect![[r#"
        `ExecStart` of `x.service` uses `%m` (the machine id), which is unknown when the image is built
    "#]],
    );
    for line in
        ["Type=dbus", "BusName=org.x", "Sockets=x.socket", "RootDirectory=/srv", "StandardInput=socket"]
    {
        let units =
            Units { own: [("x.service".to_owned(), format!("{start}{line}\n"))].into(), ..Units::default() };
        let error = from_unit("x", &input("it"), &units, &Etc).expect_err(line);
        assert!(matches!(&error, UnitError::Impossible { .. }), "{error}");
    }
    check_text(
        &format!("{start}Type=dbus\n"),
        expect![[r#"
        `x.service` cannot be translated: `Type=dbus` needs a D-Bus message bus, which a machine does not have
    "#]],
    );
    check_text(
        &format!("{start}User=nobody-here\n"),
        expect![[r#"
        the user `nobody-here` that `x.service` runs as does not exist in the image
    "#]],
    );
    check_text(
        &format!("{start}Group=none-here\n"),
        expect![[r#"
        the group `none-here` that `x.service` runs with does not exist in the image
    "#]],
    );
    check_text(
        &format!("{start}DynamicUser=yes\n"),
        expect![[r#"
        `x.service` wants a user made at boot (`DynamicUser=`), but a machine knows only the users of its image
    "#]],
    );
}

#[test]
fn names_of_units() {
    let check = |name: &str, expect: Expect| {
        let error = from_unit(name, &input("it"), &Units::default(), &Etc).expect_err(name);
        expect.assert_eq(&error.to_string());
    };
    check(
        "postgres",
        expect![
            "no package of the machine has a unit `postgres.service`; there is `postgresql.service`, `postgresql@.service`"
        ],
    );
    check(
        "postgresql@",
        expect![
            "`postgresql@.service` is a template: an instance must follow the `@`, like `postgresql@15-main`"
        ],
    );
    check(
        "../x",
        expect![
            "`../x` is not the name of a service unit (like `nginx`, `nginx.service` or `postgresql@15-main`)"
        ],
    );
    check(
        "ssh.socket",
        expect![
            "`ssh.socket` is not the name of a service unit (like `nginx`, `nginx.service` or `postgresql@15-main`)"
        ],
    );
    let sshd = from_unit("sshd", &input("it"), &Units::default(), &Etc).expect("an alias of ssh");
    assert_eq!(sshd.spec.start[0].argv[0], "/usr/sbin/sshd");
}

#[test]
fn drop_ins_change_a_unit() {
    let drop_in = |text: &str| vec![text.to_owned()];
    let units = Units {
        drop_ins: [
            (
                "redis-server@.service".to_owned(),
                drop_in("[Service]\nExecStart=\nExecStart=/opt/redis %i\nNice=1\n"),
            ),
            ("redis-server@a.service".to_owned(), drop_in("[Service]\nNice=2\n")),
        ]
        .into(),
        ..Units::default()
    };
    let spec = from_unit("redis-server@a", &input("it"), &units, &Etc).expect("translates").spec;
    assert_eq!(spec.start[0].argv, ["/opt/redis", "a"]);
    assert_eq!(spec.nice, 2);
}

#[test]
fn the_definition_wins() {
    let mut wanted = input("db");
    wanted.prepare =
        Some("-pg_createcluster 15 main\n# a comment\n\nsh -c 'test -d \"$HOME\" && echo 50%'".into());
    wanted.environment =
        [("LANG".to_owned(), "de_DE.UTF-8".to_owned()), ("PGPORT".to_owned(), "5433".to_owned())].into();
    wanted.working_directory = Some("/srv".into());
    wanted.ready = Some(Ready::Tcp { port: 5432 });
    wanted.ready_timeout_ms = Some(5000);
    wanted.restart = Some(Restart::Always);
    wanted.user = Some("postgres".into());
    let translated =
        from_unit("postgresql@15-main.service", &wanted, &Units::default(), &Etc).expect("translates");
    expect![[r#"
        service: db Forking 101:102 [111]
        prepare: -["/usr/bin/pg_createcluster", "15", "main"]
        prepare: ["/usr/bin/sh", "-c", "test -d \"$HOME\" && echo 50%"]
        start: -["/usr/bin/pg_ctlcluster", "--skip-systemctl-redirect", "15-main", "start"]
        stop: ["/usr/bin/pg_ctlcluster", "--skip-systemctl-redirect", "-m", "fast", "15-main", "stop"]
        env: PGPORT=5433
        run: in /srv umask 22 nice 0 oom -900
        restart: Always after 100 ms
        times: start 86400000 ms, stop 3600000 ms, ready 5000 ms
        kill: 15 ControlGroup
        capabilities: none; ambient none
        and: pid file /run/postgresql/15-main.pid
        and: ready Tcp { port: 5432 }
    "#]]
    .assert_eq(&render(&translated));
}

#[test]
fn written_out() {
    let mut wanted = input("api");
    // Longer than a start may take: what it prepares is a part of it.
    wanted.ready_timeout_ms = Some(300_000);
    wanted.exec = Some("gunicorn -b :8000 --access-logformat '%(h)s' app:app".into());
    wanted.user = Some("www-data".into());
    wanted.after = vec!["db".into()];
    wanted.ready = Some(Ready::Notify);
    let translated = from_exec(&wanted, &Etc).expect("translates");
    assert_eq!(translated.spec.environment["HOME"], "/var/www");
    expect![[r#"
        service: api Notify 33:33 []
        start: ["/usr/bin/gunicorn", "-b", ":8000", "--access-logformat", "%(h)s", "app:app"]
        run: in / umask 22 nice 0 oom 0
        restart: Always after 100 ms
        times: start 300000 ms, stop 90000 ms, ready 300000 ms
        kill: 15 ControlGroup
        capabilities: none; ambient none
        and: no new privileges
        and: ready Notify
        and: after db
    "#]]
    .assert_eq(&render(&translated));

    let error = |change: &dyn Fn(&mut ServiceInput<'static>)| {
        let mut wanted = input("api");
        wanted.exec = Some("gunicorn".into());
        change(&mut wanted);
        from_exec(&wanted, &Etc).expect_err("is refused").to_string()
    };
    expect!["the program `gunicorm` that `exec of api` runs is not in the image (looked for in /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin, /bin)"].assert_eq(&error(&|input| input.exec = Some("gunicorm -b :8000".into())));
    expect!["`api` has 2 start commands, but only `Type=oneshot` may have more than one"]
        .assert_eq(&error(&|input| input.exec = Some("a ; b".into())));
    expect!["`api` has no command to run: `ExecStart=` is missing"]
        .assert_eq(&error(&|input| input.exec = None));
    expect!["the user `api` that `api` runs as does not exist in the image"]
        .assert_eq(&error(&|input| input.user = Some("api".into())));
    expect!["cannot understand the command `echo 'a` of `prepare of api`: a quote is not closed"]
        .assert_eq(&error(&|input| input.prepare = Some("echo 'a".into())));
}

#[test]
fn commands_of_checks() {
    let command = parse_command("db", "pg_isready -q", &resolve).expect("one command");
    assert_eq!(command.argv, ["/usr/bin/pg_isready", "-q"]);
    for bad in ["", "a ; b", "'", "gunicorm"] {
        assert!(parse_command("db", bad, &resolve).is_err(), "{bad}");
    }
}

#[test]
fn siblings_order_each_other() {
    let sibling =
        |name: &str, unit: &str| Sibling { name: name.into(), unit: (!unit.is_empty()).then(|| unit.into()) };
    let siblings = [
        sibling("db", "postgresql@15-main"),
        sibling("cache", "redis-server"),
        sibling("first", "first"),
        sibling("log", ""),
        sibling("web", "web"),
    ];
    let units = Units {
        own: [
            ("first.service", "[Unit]\nBefore=web.service\n[Service]\nExecStart=/bin/f\n"),
            (
                "web.service",
                "[Unit]\nAfter=network.target postgresql.service redis.service log.service gone.service web.service\n\
                 Requires=postgresql.service\n[Service]\nExecStart=/bin/w\n",
            ),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into(),
        ..Units::default()
    };
    let mut wanted = input("web");
    wanted.after = vec!["log".into()];
    wanted.siblings = &siblings;
    let translated = from_unit("web", &wanted, &units, &Etc).expect("translates");
    assert_eq!(translated.spec.after, ["log", "db", "cache", "first"]);
    assert_eq!(translated.notes, []);
}

fn plain(name: &str, after: &[&str]) -> ServiceSpec {
    let mut wanted = input(name);
    wanted.exec = Some("true".into());
    wanted.after = after.iter().map(|&name| name.to_owned()).collect();
    let spec = from_exec(&wanted, &Etc).expect("translates").spec;
    assert_eq!(spec.kind, ServiceKind::Exec);
    spec
}

fn ordered(specs: &[(&str, &[&str])]) -> Result<Vec<String>, OrderError> {
    let specs = specs.iter().map(|(name, after)| plain(name, after)).collect();
    Ok(order_services(specs)?.into_iter().map(|spec| spec.name).collect())
}

#[test]
fn order_follows_after() {
    let names = ordered(&[("web", &["api"]), ("log", &[]), ("api", &["db", "log"]), ("db", &[])])
        .expect("has an order");
    assert_eq!(names, ["log", "db", "api", "web"]);
    let error = |specs: &[(&str, &[&str])]| ordered(specs).expect_err("has no order").to_string();
    expect!["services wait for each other: `a` after `b` after `d` after `a`"].assert_eq(&error(&[
        ("x", &["a"]),
        ("a", &["b"]),
        ("b", &["c", "d"]),
        ("c", &[]),
        ("d", &["a"]),
    ]));
    expect!["services wait for each other: `a` after `a`"].assert_eq(&error(&[("a", &["a"])]));
    expect!["the service `a` is to start after `b`, which the machine does not have"]
        .assert_eq(&error(&[("a", &["b"])]));
    expect!["two services are called `a`"].assert_eq(&error(&[("a", &[]), ("a", &[])]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_unit_panics(
        bytes in proptest::collection::vec(any::<u8>(), 0..512),
        directive in "Exec(Start|Stop)|Environment|LimitNOFILE|RuntimeDirectory|CapabilityBoundingSet|User|TimeoutSec",
    ) {
        let text = String::from_utf8_lossy(&bytes);
        let unit = format!("{text}\n[Service]\nExecStart=/bin/x\nType=oneshot\n{directive}={text}\n");
        let units = Units { own: [("x@.service".to_owned(), unit)].into(), ..Units::default() };
        let _ = from_unit("x@y", &input("it"), &units, &Etc);
        let mut wanted = input("it");
        wanted.exec = Some(text.clone().into_owned());
        let _ = (from_exec(&wanted, &Etc), from_unit(&text, &wanted, &units, &Etc));
    }

    #[test]
    fn an_order_holds_every_service_once(edges in proptest::collection::vec((0_usize..8, 0_usize..8), 0..12)) {
        let mut specs: Vec<ServiceSpec> = (0..8).map(|n| plain(&n.to_string(), &[])).collect();
        for (from, to) in edges {
            specs[from].after.push(to.to_string());
        }
        match order_services(specs.clone()) {
            Ok(ordered) => {
                prop_assert_eq!(ordered.len(), specs.len());
                for (at, spec) in ordered.iter().enumerate() {
                    let early: Vec<&str> = ordered[..at].iter().map(|spec| spec.name.as_str()).collect();
                    prop_assert!(spec.after.iter().all(|after| early.contains(&after.as_str())));
                }
            }
            Err(OrderError::Cycle { services }) => {
                prop_assert_eq!(services.first(), services.last());
                for pair in services.windows(2) {
                    let spec = specs.iter().find(|spec| spec.name == pair[0]).expect("is one of them");
                    prop_assert!(spec.after.contains(&pair[1]));
                }
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}
