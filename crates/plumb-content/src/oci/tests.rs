use expect_test::{Expect, expect};

use super::*;

fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&match Manifest::parse(text.as_bytes()) {
        Ok(Manifest::Image { config, layers }) => format!("config {} layers {}", config.size, layers.len()),
        Ok(Manifest::Index(blob)) => format!("index {}", blob.size),
        Err(error) => error.to_string(),
    });
}

#[test]
fn manifests_and_lists() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let blob = |kind: &str, size: u64| {
        format!("{{\"mediaType\":\"{kind}\",\"digest\":\"{digest}\",\"size\":{size}}}")
    };
    let image = |kind: &str| {
        format!(
            "{{\"schemaVersion\":2,\"config\":{},\"layers\":[{},{}]}}",
            blob(kind, 1),
            blob("l", 2),
            blob("l", 3)
        )
    };
    check(&image("application/vnd.oci.image.config.v1+json"), &expect!["config 1 layers 2"]);
    check(&image("application/vnd.docker.container.image.v1+json"), &expect!["config 1 layers 2"]);
    check(
        &image("application/vnd.cncf.helm.config.v1+json"),
        &expect!["`application/vnd.cncf.helm.config.v1+json` is not an image"],
    );
    let listed = |os: &str, architecture: &str, size: u64| {
        format!(
            "{{\"digest\":\"{digest}\",\"size\":{size},\"platform\":{{\"os\":\"{os}\",\"architecture\":\"{architecture}\"}}}}"
        )
    };
    let list = |items: &[String]| format!("{{\"manifests\":[{}]}}", items.join(","));
    check(&list(&[listed("linux", "arm64", 1), listed("linux", "amd64", 2)]), &expect!["index 2"]);
    check(
        &list(&[listed("linux", "arm64", 1), listed("unknown", "unknown", 2)]),
        &expect!["the image list has nothing for linux/amd64, only linux/arm64, unknown/unknown"],
    );
    check("{}", &expect!["`a document without `config` and `layers`` is not an image"]);
    check("[", &expect!["the manifest is not understood: EOF while parsing a list at line 1 column 1"]);
    check(
        &image("application/vnd.oci.image.config.v1+json").replace("sha256:", "sha512:"),
        &expect![[
            r#"`sha512:abababababababababababababababababababababababababababababababab` is not a SHA-256"#
        ]],
    );
}

#[test]
fn configurations() {
    let text = r#"{"architecture":"amd64","config":{"User":"","ExposedPorts":{"8080/tcp":{},"80/tcp":{},"53/udp":{}},
        "Env":["PATH=/usr/bin","A=b=c","BROKEN"],"Entrypoint":["/entry.sh"],"Cmd":["nginx","-g","daemon off;"],
        "Volumes":{"/data":{}},"WorkingDir":"","StopSignal":"SIGQUIT","OnBuild":null}}"#;
    let config = Config::parse(text.as_bytes()).expect("right");
    assert_eq!(config.command, ["/entry.sh", "nginx", "-g", "daemon off;"]);
    assert_eq!((config.directory.as_str(), config.ports), ("/", vec![80, 8080]));
    assert_eq!(config.environment.len(), 2);
    assert_eq!(config.environment["A"], "b=c");
    assert_eq!((config.volumes, config.stop_signal), (vec!["/data".to_owned()], Some(3)));
    let empty = Config::parse(br#"{"config":{"Cmd":null,"Entrypoint":null,"StopSignal":"SIGRTMIN+3"}}"#)
        .expect("right");
    assert_eq!((empty.command.len(), empty.stop_signal), (0, Some(37)));
    assert_eq!(Config::parse(b"{}").expect("right").directory, "/");
    assert!(Config::parse(b"{\"config\":1}").is_err());
    let odd = Config::parse(br#"{"config":{"WorkingDir":"srv/app","Env":["=x","A="]}}"#).expect("right");
    assert_eq!((odd.directory.as_str(), odd.environment.len()), ("/srv/app", 1));
    assert!(Config::parse(br#"{"config":{"Cmd":["sh\u0000x"]}}"#).is_err());
}

#[test]
fn users_as_container_runtimes_resolve_them() {
    let line = |name: &str, uid, gid| User { name: name.into(), uid, gid, home: format!("/home/{name}") };
    let passwd = [line("root", 0, 0), line("app", 100, 101)];
    let groups =
        [("app".to_owned(), (101, vec![])), ("media".to_owned(), (44, vec!["app".to_owned()]))].into();
    for (spec, expected) in [
        ("", "0:0 [] /home/root"),
        ("app", "100:101 [44] /home/app"),
        ("100", "100:101 [44] /home/app"),
        ("app:media", "100:44 [] /home/app"),
        ("app:7", "100:7 [] /home/app"),
        ("1234", "1234:0 [] /"),
        ("1234:app", "1234:101 [] /"),
        ("nobody", "the image runs as `nobody`, which its own /etc/passwd and /etc/group do not know"),
        ("app:none", "the image runs as `app:none`, which its own /etc/passwd and /etc/group do not know"),
    ] {
        let found = match resolve_user(spec, &passwd, &groups) {
            Ok(id) => format!("{}:{} {:?} {}", id.uid, id.gid, id.groups, id.home),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{spec}");
    }
}
