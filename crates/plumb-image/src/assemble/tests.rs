use super::*;
use crate::closure::{self, Severity};
use crate::fixture::Folder;

fn content(
    objects: &Folder,
    control: &str,
    files: &[(&str, &str)],
    scripts: &[(&str, &str)],
) -> PackageContent {
    let mut content = PackageContent { control: format!("{control}\n"), ..PackageContent::default() };
    for (path, text) in files {
        let entry = if let Some(target) = text.strip_prefix("->") {
            Entry::symlink(target)
        } else if path.ends_with('/') {
            Entry::directory(0o755)
        } else {
            let (digest, size) = objects.put(&mut text.as_bytes()).unwrap();
            Entry::file(digest, size, if text.starts_with("#!") { 0o755 } else { 0o644 })
        };
        content.entries.insert(path.trim_end_matches('/').to_owned(), entry);
    }
    for (name, text) in scripts {
        content.scripts.insert((*name).to_owned(), format!("#!/bin/sh\nset -e\n{text}"));
    }
    content
}

fn input<'a>(contents: &'a [(&'a str, PackageContent)]) -> AssembleInput<'a> {
    let packages = contents.iter().map(|(name, content)| PackageInput {
        name,
        version: "1",
        architecture: "amd64",
        layer: Layer::Middleware,
        content,
    });
    AssembleInput { packages: packages.collect(), suite: "bookworm".into(), ..AssembleInput::default() }
}

/// One package with one postinst, assembled.
fn run(postinst: &str, files: &[(&str, &str)]) -> Assembled {
    let objects = Folder::new();
    let contents = [("x", content(&objects, "Package: x", files, &[("postinst", postinst)]))];
    assemble(&input(&contents), &objects).unwrap()
}

fn unhandled(assembled: &Assembled) -> Vec<&str> {
    assembled.reports.iter().flat_map(|report| report.unhandled.iter().map(String::as_str)).collect()
}

#[test]
fn skeleton_without_any_package() {
    let objects = Folder::new();
    let made = assemble(&input(&[]), &objects).unwrap();
    let entry = |path: &str| made.tree.get(path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(entry("/tmp").mode, 0o1777);
    assert_eq!(entry("/root").mode, 0o700);
    assert_eq!(entry("/bin").kind, Kind::Symlink { target: "usr/bin".into() });
    assert_eq!(entry("/etc/resolv.conf").kind, Kind::Symlink { target: "/run/plumb/resolv.conf".into() });
    assert_eq!((entry("/etc/shadow").mode, entry("/etc/shadow").gid), (0o640, 42));
    assert!(made.tree.get("/usr/bin/sh").is_none());
    assert!(made.reports.is_empty());
    let again = assemble(&input(&[]), &Folder::new()).unwrap();
    assert_eq!(again.tree, made.tree);
}

#[test]
fn usrmerge_moves_and_conflicts_show() {
    let objects = Folder::new();
    let a = content(&objects, "Package: a", &[("/bin/x", "one"), ("/usr/share/d/", "")], &[]);
    let b = content(&objects, "Package: b", &[("/usr/bin/x", "two")], &[]);
    let contents = [("a", a.clone()), ("b", b.clone())];
    let error = assemble(&input(&contents), &objects).unwrap_err();
    assert_eq!(error.to_string(), "packages `a` and `b` both have `/usr/bin/x`");
    let replacing = PackageContent { control: "Package: b\nReplaces: a (<< 2), z\n".into(), ..b.clone() };
    let contents = [("a", a.clone()), ("b", replacing)];
    let made = assemble(&input(&contents), &objects).unwrap();
    assert_eq!(made.tree.entries["/usr/bin/x"].1.source, "b");
    let mut diverting = b;
    let divert = "#!/bin/sh\ncase $1 in install|upgrade)\n dpkg-divert --package b --rename --divert /usr/bin/x.a --add /usr/bin/x\nesac\n";
    diverting.scripts.insert("preinst".into(), divert.into());
    let contents = [("a", a), ("b", diverting)];
    let made = assemble(&input(&contents), &objects).unwrap();
    assert_eq!(made.tree.entries["/usr/bin/x.a"].1.source, "a");
    assert_eq!(made.tree.entries["/usr/bin/x"].1.source, "b");
}

#[test]
fn files_below_a_link_of_another_package_follow_it() {
    let objects = Folder::new();
    let contents = [
        ("a", content(&objects, "Package: a", &[("/usr/lib/real/", ""), ("/usr/lib/link", "->real")], &[])),
        ("b", content(&objects, "Package: b", &[("/usr/lib/link/", ""), ("/usr/lib/link/f", "x")], &[])),
    ];
    // `a` has a link where `b` has a directory: whoever comes first stays, and nothing lies below a link.
    let made = assemble(&input(&contents), &objects).unwrap();
    assert!(made.tree.resolve("/usr/lib/link/f").is_some());
}

#[test]
fn accounts_of_scripts() {
    let made = run(
        "if [ \"$1\" = configure ]; then\n  if ! getent passwd redis >/dev/null; then\n    adduser --system --quiet \\\n      \
         --home /var/lib/redis --group --gecos 'Redis server' redis\n  fi\n  adduser --quiet redis adm\n  \
         useradd -r -g nogroup -d /srv/y -s /bin/false y\n  groupadd -g 150 z\nfi\n",
        &[],
    );
    assert!(made.reports.is_empty(), "{:?}", made.reports);
    let redis = &made.accounts.users["redis"];
    assert_eq!((redis.uid, redis.gid, redis.gecos.as_str()), (101, 101, "Redis server,,,"));
    assert!(made.accounts.groups["adm"].members.contains("redis"));
    assert_eq!((made.accounts.users["y"].uid, made.accounts.users["y"].gid), (102, 65534));
    assert_eq!(made.accounts.groups["z"].gid, 150);
    assert_eq!(
        (made.tree.get("/var/lib/redis").unwrap().uid, made.accounts.allocated["redis"]),
        (101, (101, 101))
    );
}

#[test]
fn what_is_written_at_boot_is_there_and_stays() {
    // netbase and whoever else writes /etc/hosts: PID 1 writes the names of the other instances there.
    let made = run(
        "if [ ! -e /etc/hosts ]; then\n cat > /etc/hosts <<-EOF\n\t127.0.0.1 localhost\n\tEOF\nfi\n\
         echo '127.0.1.1 x' >> /etc/hosts\nln -s real /etc/link\necho y > /etc/link\n",
        &[],
    );
    assert!(made.reports.is_empty(), "{:?}", made.reports);
    let kind = |path| made.tree.get(path).map(|entry| entry.kind.clone());
    assert_eq!(kind("/etc/hosts"), Some(Kind::Symlink { target: "/run/plumb/hosts".into() }));
    // A redirection follows a link, also to where nothing is yet.
    assert_eq!(kind("/etc/link"), Some(Kind::Symlink { target: "real".into() }));
    assert!(matches!(kind("/etc/real"), Some(Kind::File { size: 2, .. })));
    assert_eq!(made.tree.get("/etc/real").unwrap().mode, 0o644);
}

#[test]
fn functions_variables_and_cases() {
    let made = run(
        "USER=x\nsetup_dir () {\n DIR=\"${1}\"\n mkdir -p ${DIR}\n if ! dpkg-statoverride --list ${DIR} >/dev/null 2>&1\n \
         then\n chown ${USER}:adm ${DIR}\n chmod ${2} ${DIR}\n fi\n}\n. /usr/share/debconf/confmodule\ncase \"$1\" in\n \
         configure)\n addgroup --system x\n adduser --system --ingroup x --no-create-home x\n setup_dir /var/log/x 2750\n \
         [ -d /var/run/x ] || install -d -m 2775 -o x -g x /var/run/x\n ;;\n abort-upgrade) rm -rf /etc ;;\n *) exit 1;;\n \
         esac\nif [ -n \"$2\" ]; then reboot; fi\ncat > /etc/x.conf <<-EOF\n\tname=${USER%x}y\n\tEOF\n",
        &[],
    );
    assert!(made.reports.is_empty(), "{:?}", made.reports);
    let log = made.tree.get("/var/log/x").unwrap();
    assert_eq!((log.mode, log.uid, log.gid), (0o2750, 101, 4));
    assert_eq!(made.directories.len(), 1);
    assert_eq!((made.directories[0].path.as_str(), made.directories[0].mode), ("/run/x", 0o2775));
    assert!(made.tree.get("/etc/x.conf").is_some());
}

#[test]
fn what_no_rule_covers_is_reported() {
    let made = run("frobnicate --all\nif unknowable; then\n  chmod 700 /etc\nfi\nxyz() { :; }\nxyz\n", &[]);
    assert_eq!(unhandled(&made), ["frobnicate --all", "if unknowable; then", "chmod 700 /etc"]);
    assert_eq!(made.tree.get("/etc").unwrap().mode, 0o755);
    let made = run("if true; then :\n", &[]);
    assert!(unhandled(&made)[0].starts_with("it cannot be read: line "), "{:?}", made.reports);
    let made = run("f() { f; }\nf\n", &[]);
    assert_eq!(unhandled(&made), ["it calls itself too often"]);
    let made = run(
        "for a in 1 2 3 4 5 6 7 8; do for b in 1 2 3 4 5 6 7 8; do for c in 1 2 3 4 5 6 7 8; do \
                    for d in 1 2 3 4 5 6 7 8; do for e in 1 2 3 4 5 6 7 8; do for f in 1 2 3 4; do :; done; done; done; done; done; done",
        &[],
    );
    assert_eq!(unhandled(&made), ["it runs longer than the rules follow it"]);
    let made = run("while do done\n", &[]);
    assert_eq!(unhandled(&made), ["it runs longer than the rules follow it"]);
}

#[test]
fn deep_nesting_is_no_stack_overflow() {
    for text in [
        "(".repeat(10_000),
        "$(".repeat(10_000),
        "if ".repeat(10_000),
        "${a:-".repeat(10_000),
        "! ".repeat(10_000),
    ] {
        assert_eq!(unhandled(&run(&format!("x {text}\n"), &[])).len(), 1);
        assert_eq!(unhandled(&run(&format!("{text}\n"), &[])).len(), 1);
    }
}

#[test]
fn alternatives_follow_priority() {
    let made = run(
        "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz\n\
         update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/gawk 10\nupdate-alternatives --install /usr/bin/awk awk /usr/bin/none 99\n",
        &[("/usr/bin/mawk", "m"), ("/usr/bin/gawk", "g"), ("/usr/share/man/man1/mawk.1.gz", "")],
    );
    assert!(made.reports.is_empty(), "{:?}", made.reports);
    assert_eq!(made.tree.resolve("/usr/bin/awk").as_deref(), Some("/usr/bin/gawk"));
    assert!(made.tree.get("/usr/share/man/man1/awk.1.gz").is_none());
}

#[test]
fn tmpfiles_lines() {
    let lines = "d /run/x 0750 www-data adm -\nd /var/lib/x 0700 www-data - -\nL+ /etc/x - - - - /usr/share/x\nx /tmp/*\n\
                 f /etc/y 0600 - - - text here\nw /proc/sys/x - - - - 1\n";
    let made = run("", &[("/usr/lib/tmpfiles.d/x.conf", lines)]);
    assert_eq!(unhandled(&made), ["w /proc/sys/x - - - - 1"]);
    let run = &made.directories[0];
    assert_eq!((run.path.as_str(), run.mode, run.uid, run.gid), ("/run/x", 0o750, 33, 4));
    let lib = made.tree.get("/var/lib/x").unwrap();
    assert_eq!((lib.mode, lib.uid, lib.gid), (0o700, 33, 0));
    assert_eq!(made.tree.get("/etc/x").unwrap().kind, Kind::Symlink { target: "/usr/share/x".into() });
    assert_eq!(made.tree.get("/etc/y").unwrap().mode, 0o600);
}

#[test]
fn app_files_win_and_are_checked() {
    let objects = Folder::new();
    let contents = [("x", content(&objects, "Package: x", &[("/etc/x.conf", "a")], &[]))];
    let mut input = input(&contents);
    input.users.insert("api".into());
    let (digest, size) = objects.put(&mut &b"b"[..]).unwrap();
    let app = |path: &str| AppFile {
        path: path.into(),
        digest,
        size,
        mode: 0o644,
        user: Some("api".into()),
        group: None,
    };
    input.app_files = vec![app("/etc/x.conf"), app("/srv/api/app.py"), app("/bin/tool")];
    input.mounts = vec!["/var/lib/data".into()];
    let made = assemble(&input, &objects).unwrap();
    assert_eq!(made.notes, [Note::Replaced { path: "/etc/x.conf".into(), package: "x".into() }]);
    assert_eq!(made.tree.get("/srv/api/app.py").unwrap().uid, made.accounts.users["api"].uid);
    assert!(made.tree.get("/usr/bin/tool").is_some());
    assert_eq!(made.tree.get("/var/lib/data").unwrap().kind, Kind::Directory);
    for bad in ["relative", "/a/../b", "/run/x", "/etc/", "/etc", "/a\nb"] {
        input.app_files = vec![app(bad)];
        assert!(assemble(&input, &objects).is_err(), "{bad:?}");
    }
}

#[test]
fn programs_inside_packages_of_languages_need_not_run() {
    let objects = Folder::new();
    let mut input = input(&[]);
    let (digest, size) = objects.put(&mut &b"#!/usr/bin/env node\n"[..]).unwrap();
    let app = |path: &str| AppFile { path: path.into(), digest, size, mode: 0o755, user: None, group: None };
    input.app_files = vec![app("/srv/node_modules/semver/bin/semver.js"), app("/srv/own.js")];
    let made = assemble(&input, &objects).unwrap();
    let severities = |executed: &[&str]| -> Vec<Severity> {
        let executed = executed.iter().map(|path| (*path).to_owned()).collect();
        let missing = closure::check(&made.tree, &objects, &executed).unwrap();
        let of = |name: &str| missing.iter().find(|one| one.needed_by == name).map(|one| one.severity);
        ["/srv/node_modules/semver/bin/semver.js", "/srv/own.js"].into_iter().filter_map(of).collect()
    };
    assert_eq!(severities(&[]), [Severity::Notice, Severity::Error]);
    let executed = ["/srv/node_modules/semver/bin/semver.js"];
    assert_eq!(severities(&executed), [Severity::Error, Severity::Error]);
}

#[test]
fn scripts_without_interpreter_are_said() {
    let objects = Folder::new();
    let contents = [("x", content(&objects, "Package: x", &[("/usr/bin/t", "#!/usr/bin/perl -w\n")], &[]))];
    let made = assemble(&input(&contents), &objects).unwrap();
    let check = |executed: &[&str]| {
        let executed = executed.iter().map(|path| (*path).to_owned()).collect();
        let missing = closure::check(&made.tree, &objects, &executed).unwrap();
        assert_eq!(missing.len(), 1);
        (missing[0].severity, missing[0].hint.clone())
    };
    assert_eq!(check(&["/usr/bin/other"]), (Severity::Notice, Some("perl-base".into())));
    // A service runs it, by whatever path.
    assert_eq!(check(&["/bin/t"]), (Severity::Error, Some("perl-base".into())));
}

#[test]
fn dpkg_query_reads_the_package_list() {
    let objects = Folder::new();
    let control = "Package: x\nVersion: 1:2.3-4\nArchitecture: amd64\nMaintainer: A <a@b.c>\nMulti-Arch: same\n\
                   Description: short\n long\n .\n more\n\nPackage: forged\nVersion: 1\n";
    let contents = [("x", content(&objects, control, &[("/usr/bin/t", "t")], &[]))];
    let made = assemble(&input(&contents), &objects).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (path, (entry, _)) in &made.tree.entries {
        if let (Some(name), Kind::File { digest, .. }) = (path.strip_prefix("/var/lib/dpkg/"), &entry.kind) {
            let to = folder.path().join(name);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, objects.read(digest, u64::MAX - 1).unwrap()).unwrap();
        }
    }
    let query = |arguments: &[&str]| {
        let admin = format!("--admindir={}", folder.path().display());
        let output = std::process::Command::new("dpkg-query").arg(admin).args(arguments).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(query(&["-W", "-f", "${Package} ${Version} ${db:Status-Status}\n"]), "x 1:2.3-4 installed\n");
    assert!(query(&["-L", "x"]).contains("/usr/bin/t\n"));
}

/// One package with these control files, assembled with a choice about it.
fn run_chosen(scripts: &[(&str, &str)], choice: Option<Choice>) -> Assembled {
    let objects = Folder::new();
    let contents = [("x", content(&objects, "Package: x", &[("/etc/x.conf", "a = 1\n# b\n")], scripts))];
    let mut input = input(&contents);
    input.choices.extend(choice.map(|choice| ("x".to_owned(), choice)));
    assemble(&input, &objects).unwrap()
}

#[test]
fn a_choice_covers_what_no_rule_does() {
    let scripts = [("postinst", "adduser --system x\nfrobnicate\n")];
    assert_eq!(unhandled(&run_chosen(&scripts, None)), ["frobnicate"]);
    let skipped = run_chosen(&scripts, Some(Choice::Skip));
    assert!(skipped.reports.is_empty() && skipped.accounts.users.contains_key("x"));
    let rule = Choice::Rule("install -d -o x -m 0750 /var/lib/x\nsed -i s/1/2/ /etc/x.conf".into());
    let ruled = run_chosen(&scripts, Some(rule));
    assert!(ruled.reports.is_empty(), "{:?}", ruled.reports);
    let made = ruled.tree.get("/var/lib/x").unwrap();
    assert_eq!((made.mode, made.uid), (0o750, ruled.accounts.users["x"].uid));
    let wrong = run_chosen(&scripts, Some(Choice::Rule("frobnicate harder".into())));
    assert_eq!((wrong.reports[0].script.as_str(), unhandled(&wrong)), ("rule", vec!["frobnicate harder"]));
}

#[test]
fn pipes_files_and_loops_are_evaluated() {
    let made = run_chosen(
        &[(
            "postinst",
            "value=$(grep -v '^#' /etc/x.conf | cut -d= -f2 | tr -d ' ')\n\
             for n in $(seq 1 3); do echo \"$n:$((n * 2)):$value\"; done > /etc/y\n\
             cd /etc && sed 's/^2:/two:/' y > z && mv z w\n\
             while read -r key eq rest; do case $key in a) echo \"$rest\" >> /etc/w ;; esac; done < /etc/x.conf\n\
             if ! getent group g | grep -q '^g:'; then addgroup --system g; fi\n\
             find /etc -maxdepth 1 \\( -name w -o -name y \\) -type f -exec chgrp g {} \\;\n\
             su -s /bin/sh -c 'mkdir -p /var/lib/own/deep' www-data\n\
             [ \"$(stat -c %U:%a /etc/w)\" = root:644 ] || frobnicate\n",
        )],
        None,
    );
    assert!(made.reports.is_empty(), "{:?}", made.reports);
    let of = |path: &str| made.tree.get(path).unwrap_or_else(|| panic!("{path}"));
    assert!(
        matches!(of("/etc/w").kind, Kind::File { digest, .. } if digest == Digest::of(b"1:2:1\ntwo:4:1\n3:6:1\n1\n"))
    );
    assert_eq!(
        (of("/etc/y").gid, of("/etc/w").gid),
        (made.accounts.groups["g"].gid, made.accounts.groups["g"].gid)
    );
    assert_eq!((of("/var/lib/own").uid, of("/var/lib/own/deep").uid), (0, 33));
    assert!(made.tree.get("/etc/z").is_none());
}

#[test]
fn debconf_answers_with_defaults() {
    let made = run_chosen(
        &[
            ("templates", "Template: x/port\nType: string\nDefault: 80\n\nTemplate: x/host\nType: string\n"),
            (
                "config",
                ". /usr/share/debconf/confmodule\ndb_input high x/host || true\ndb_go\ndb_set x/host here\n",
            ),
            (
                "postinst",
                ". /usr/share/debconf/confmodule\ndb_get x/port\nport=$RET\ndb_get x/host\n\
                 echo \"$RET:$port\" > /etc/y\ndb_get x/none || echo none >> /etc/y\ndb_stop\n",
            ),
        ],
        None,
    );
    assert!(made.reports.is_empty(), "{:?}", made.reports);
    let kind = &made.tree.get("/etc/y").unwrap().kind;
    assert!(
        matches!(kind, Kind::File { digest, .. } if *digest == Digest::of(b"here:80\nnone\n")),
        "{kind:?}"
    );
}

#[test]
fn triggers_are_for_those_who_are_interested() {
    let objects = Folder::new();
    let postinst = "if [ \"$1\" = triggered ]; then echo \"$2\" > /etc/triggered; fi\n";
    let interested = |trigger: &str| {
        let mut a =
            content(&objects, "Package: a", &[("/usr/share/hooks/own", "")], &[("postinst", postinst)]);
        a.scripts.insert("triggers".into(), format!("interest-noawait {trigger}\n"));
        let b = content(
            &objects,
            "Package: b",
            &[("/usr/share/things/b", "")],
            &[("postinst", "dpkg-trigger named\n")],
        );
        let contents = [("a", a), ("b", b)];
        let made = assemble(&input(&contents), &objects).unwrap();
        assert!(made.reports.is_empty(), "{:?}", made.reports);
        made.tree.get("/etc/triggered").is_some()
    };
    assert!(interested("/usr/share/things"));
    assert!(interested("named"));
    assert!(!interested("/usr/share/hooks"), "a package's own files are no reason");
    assert!(!interested("other"));
}

#[test]
fn what_belongs_to_an_instance_is_told_and_not_made() {
    let made = run(
        "openssl req -new -x509 -out /etc/k.pem\ndd if=/dev/urandom bs=1 count=9 | base64 > /etc/secret\n\
         hostname -f > /etc/name\nunknown=$(frobnicate)\necho \"$unknown\" > /etc/u\n",
        &[],
    );
    assert_eq!(unhandled(&made), ["frobnicate", "echo \"$unknown\" > /etc/u"]);
    assert!(made.tree.get("/etc/secret").is_none() && made.tree.get("/etc/name").is_some());
    let told = made.notes.iter().filter(|note| matches!(note, Note::LeftToInstance { .. })).count();
    assert_eq!(told, 4, "{:?}", made.notes);
}

#[test]
fn behind_an_unknown_exit_nothing_is_certain() {
    let made = run("if unknowable; then exit 0; fi\nchmod 700 /etc\n", &[]);
    assert_eq!(unhandled(&made), ["if unknowable; then exit 0; fi", "chmod 700 /etc"]);
    assert_eq!(made.tree.get("/etc").unwrap().mode, 0o755);
    let made = run("if unknowable; then exit 1; fi\nchmod 700 /etc\n", &[]);
    assert_eq!((unhandled(&made).len(), made.tree.get("/etc").unwrap().mode), (1, 0o700));
}

#[test]
fn locals_keep_their_value_and_end_with_their_function() {
    let script = "\
x=outer
inner() { local x=inner y=1; local x; echo $x > /etc/inner; }
kept() { local x; echo $x > /etc/kept; x=changed; }
inner
kept
echo $x ${y:-none} > /etc/after
";
    let objects = Folder::new();
    let contents = [("x", content(&objects, "Package: x", &[], &[("postinst", script)]))];
    let made = assemble(&input(&contents), &objects).unwrap();
    assert!(made.reports.is_empty(), "{:?}", made.reports);
    for (path, expected) in
        [("/etc/inner", "inner\n"), ("/etc/kept", "outer\n"), ("/etc/after", "outer none\n")]
    {
        let Kind::File { digest, .. } = made.tree.get(path).unwrap().kind else { panic!("{path}") };
        assert_eq!(String::from_utf8(objects.read(&digest, 100).unwrap()).unwrap(), expected, "{path}");
    }
}

#[test]
fn what_is_to_be_compiled_is_not_passed_over() {
    let script = "/usr/lib/glib-2.0/glib-compile-schemas /usr/share/glib-2.0/schemas || true\n\
                  if which update-mime-database >/dev/null 2>&1; then update-mime-database /usr/share/mime; fi\n";
    let compiler = ("/usr/bin/update-mime-database", "");
    assert!(run(script, &[compiler]).reports.is_empty());
    let schema = ("/usr/share/glib-2.0/schemas/org.x.gschema.xml", "<schemalist/>");
    let types = ("/usr/share/mime/packages/x.xml", "<mime-info/>");
    assert_eq!(unhandled(&run(script, &[compiler, schema, types])).len(), 2);
}

mod evaluation;
