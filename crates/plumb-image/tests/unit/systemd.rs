//! What the definition adds to units that systemd runs.

use plumb_image::unit::{HandedOver, hand_over_exec, hand_over_unit};

use super::*;

fn shown(handed: Result<HandedOver, UnitError>) -> String {
    match handed {
        Err(error) => format!("error: {error}"),
        Ok(handed) => {
            let (path, text) = handed.text.unwrap_or_default();
            let HandedOver { spec, file, programs, .. } = handed;
            format!("{} by {} from {file}, programs {programs:?}\n{path}:\n{text}", spec.name, spec.unit)
        }
    }
}

fn resolve(program: &str) -> Option<String> {
    let name = program.rsplit('/').next()?;
    (name != "missing").then(|| format!("/usr/bin/{name}"))
}

#[test]
fn a_unit_of_which_nothing_is_said_stays_as_it_is() {
    let input = ServiceInput::new("nginx", &resolve);
    let handed = hand_over_unit("nginx", &input, &Units::default(), &Etc, None).expect("there is one");
    assert_eq!(handed.text, None);
    assert_eq!((handed.spec.unit.as_str(), handed.file.as_str()), ("nginx.service", "nginx.service"));
}

#[test]
fn what_the_definition_says_wins_over_the_unit() {
    let mut input = ServiceInput::new("db", &resolve);
    input.prepare = Some("mkdir -p \"/srv/a b\"".to_owned());
    input.user = Some("postgres".to_owned());
    input.environment = [("PGOPTIONS".to_owned(), "-c \"x=5%\"".to_owned())].into();
    input.ready = Some(Ready::Tcp { port: 5432 });
    input.restart = Some(Restart::Always);
    input.after = vec!["cache".to_owned(), "other".to_owned()];
    let siblings = [
        Sibling { name: "cache".into(), unit: Some("redis-server".into()) },
        Sibling { name: "other".into(), unit: None },
    ];
    input.siblings = &siblings;
    let handed = hand_over_unit("postgresql@15-main", &input, &Units::default(), &Etc, Some(2));
    expect![[r#"
        db by postgresql@15-main.service from postgresql@.service, programs {"/usr/bin/mkdir"}
        postgresql@15-main.service.d/50-plumb.conf:
        # Written by Plumb from the definition.
        [Unit]
        Wants=redis-server.service
        After=redis-server.service
        Wants=other.service
        After=other.service

        [Service]
        User=postgres
        Group=
        Environment="PGOPTIONS=-c \"x=5%%\""
        Restart=always
        KillSignal=2
        ExecStartPre=
        ExecStartPre=+/usr/lib/plumb/guest wait-active cache
        ExecStartPre=+/usr/lib/plumb/guest wait-active other
        ExecStartPre=/usr/bin/mkdir -p "/srv/a b"
        ExecStartPost=/usr/lib/plumb/guest wait-ready db
    "#]]
    .assert_eq(&shown(handed));
}

#[test]
fn a_service_written_out_becomes_a_unit() {
    let mut input = ServiceInput::new("app", &resolve);
    input.exec = Some("node server.js --name '${NAME}' 'say \"50%\"' $ARGS".to_owned());
    input.user = Some("www-data".to_owned());
    input.working_directory = Some("/srv/app".to_owned());
    input.environment = [("NAME".to_owned(), "x y".to_owned())].into();
    input.ready = Some(Ready::Http { port: 80, path: "/".into() });
    input.ready_timeout_ms = Some(120_000);
    expect![[r#"
        app by app.service from app.service, programs {"/usr/bin/node"}
        app.service:
        # Written by Plumb from the definition.
        [Unit]
        Description=Service `app` of the definition

        [Service]
        Type=exec
        User=www-data
        WorkingDirectory=/srv/app
        Environment="HOME=/var/www"
        Environment="LANG=C.UTF-8"
        Environment="LOGNAME=www-data"
        Environment="NAME=x y"
        Environment="PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        Environment="PYTHONDONTWRITEBYTECODE=1"
        Environment="SHELL=/usr/sbin/nologin"
        Environment="USER=www-data"
        NoNewPrivileges=yes
        Restart=always
        KillSignal=15
        ExecStart=/usr/bin/node server.js --name ${NAME} "say \"50%%\"" $ARGS
        ExecStartPost=/usr/lib/plumb/guest wait-ready app
        TimeoutStartSec=130000ms
    "#]]
    .assert_eq(&shown(hand_over_exec(&input, &Etc, None)));
}

#[test]
fn readiness_that_the_service_tells_itself() {
    let mut input = ServiceInput::new("redis-server", &resolve);
    input.ready = Some(Ready::Notify);
    input.ready_timeout_ms = Some(5_000);
    // Debian's unit is of Type=notify already.
    let handed = hand_over_unit("redis-server", &input, &Units::default(), &Etc, None).expect("there is one");
    assert_eq!(handed.text, None);
    input.exec = Some("/usr/bin/tool".to_owned());
    let text = shown(hand_over_exec(&input, &Etc, None));
    assert!(text.contains("Type=notify\nNotifyAccess=all\n"), "{text}");
}

#[test]
fn what_is_not_in_the_image_is_refused() {
    let mut input = ServiceInput::new("x", &resolve);
    expect!["error: no package of the machine has a unit `nothing.service`"]
        .assert_eq(&shown(hand_over_unit("nothing", &input, &Units::default(), &Etc, None)));
    input.exec = Some("missing now".to_owned());
    expect!["error: the program `missing` that `exec of x` runs is not in the image (looked for in /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin, /bin)"].assert_eq(&shown(hand_over_exec(&input, &Etc, None)));
    expect!["error: the program `missing` that `exec of nginx.service` runs is not in the image (looked for in /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin, /bin)"].assert_eq(&shown(hand_over_unit("nginx", &input, &Units::default(), &Etc, None)));
    input.exec = None;
    input.user = Some("nobody-here".to_owned());
    expect!["error: the user `nobody-here` that `nginx.service` runs as does not exist in the image"]
        .assert_eq(&shown(hand_over_unit("nginx", &input, &Units::default(), &Etc, None)));
}

#[test]
fn the_program_of_a_readiness_command_is_found_when_the_image_is_built() {
    let ready = |program: &str| {
        let argv = [program, "--quick"].map(str::to_owned).into();
        Some(Ready::Exec { command: Command { argv, ignore_failure: false, privileged: false } })
    };
    let mut input = ServiceInput::new("nginx", &resolve);
    for (written, found) in [("check", "/usr/bin/check"), ("/usr/bin/check", "/usr/bin/check")] {
        input.ready = ready(written);
        let handed = hand_over_unit("nginx", &input, &Units::default(), &Etc, None).expect("there is one");
        let translated = from_unit("nginx", &input, &Units::default(), &Etc).expect("there is one");
        for ready in [handed.spec.ready, translated.spec.ready] {
            let Some(Ready::Exec { command }) = ready else { panic!("another check") };
            assert_eq!(command.argv, [found, "--quick"]);
        }
    }
    input.ready = ready("missing");
    let error = from_unit("nginx", &input, &Units::default(), &Etc).expect_err("there is none");
    expect!["the program `missing` that `ready.exec of nginx.service` runs is not in the image (looked for in /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin, /bin)"].assert_eq(&error.to_string());
}
