//! One test per shape and per error. A new error gets its message here, as people will read it.
#![expect(clippy::too_many_lines, reason = "what is said stands beside the text that it is said about")]

mod config;
mod content;
mod machine;
mod probe;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// Compares what is said about `text`: every error, or the definition as JSON.
fn check(text: &str, expected: &Expect) {
    let said = match Definition::parse(text, "shop/plumb.toml") {
        Ok(definition) => serde_json::to_string_pretty(&definition).expect("plain data"),
        Err(errors) => errors.to_string(),
    };
    expected.assert_eq(&said);
}

/// The same for the lines of a machine called `web`.
fn check_machine(lines: &str, expected: &Expect) {
    check(&format!("app = \"shop\"\n[machine.web]\n{lines}\n"), expected);
}

const SHOP: &str = r#"
app = "shop"
fence = "this"

[base]
suite  = "bookworm"
kernel = "linux-image-cloud-amd64"

[machine.db]
middleware = ["postgresql-15 (>= 15.4)"]
os         = ["dash"]
without    = ["perl"]
memory     = "1GiB"
cpus       = 2
volume.data = { size = "1GiB", mount = "/var/lib/postgresql/", owner = "postgres" }
service.postgres = { from = "postgresql@15-main.service", prepare = "/usr/libexec/init '/a b'", ready.tcp = 5432 }

[machine.api]
app        = { "/srv/api/" = "api/", "/etc/api.key" = { from = "./key", owner = "api", group = "api", mode = "0640" } }
service.api = { exec = "gunicorn -b :8000 app:app", user = "api", ready.http = ":8000/health", ready.timeout = "2min", environment = { LANG = "C.UTF-8" } }
service.worker = { exec = "worker", directory = "/srv/api", after = ["api"], restart = "on-failure", stop_signal = "SIGINT", ready.exec = "worker 'is ready'" }
needs      = ["db"]

[machine.web]
middleware = ["nginx-light"]
service.nginx = { ready.http = ":80" }
needs      = ["api"]
instances  = 2
publish    = ["8080:80", "0.0.0.0:8443:443"]
"#;

#[test]
fn every_key() {
    check(
        SHOP,
        &expect![[r#"
            {
              "app": "shop",
              "base": {
                "suite": "bookworm",
                "mirror": "http://deb.debian.org/debian",
                "security_mirror": null,
                "kernel": "linux-image-cloud-amd64",
                "components": [
                  "main"
                ]
              },
              "machines": {
                "api": {
                  "middleware": [],
                  "os": [],
                  "without": [],
                  "script": {},
                  "app": [
                    {
                      "target": "/etc/api.key",
                      "source": "key",
                      "owner": "api",
                      "group": "api",
                      "mode": 416
                    },
                    {
                      "target": "/srv/api",
                      "source": "api",
                      "owner": null,
                      "group": null,
                      "mode": null
                    }
                  ],
                  "memory_mib": 256,
                  "cpus": 1,
                  "volumes": {},
                  "services": {
                    "api": {
                      "from": null,
                      "exec": "gunicorn -b :8000 app:app",
                      "user": "api",
                      "group": null,
                      "prepare": null,
                      "environment": {
                        "LANG": "C.UTF-8"
                      },
                      "directory": null,
                      "ready": {
                        "http": {
                          "port": 8000,
                          "path": "/health"
                        }
                      },
                      "ready_timeout_ms": 120000,
                      "stop_signal": null,
                      "restart": null,
                      "after": []
                    },
                    "worker": {
                      "from": null,
                      "exec": "worker",
                      "user": null,
                      "group": null,
                      "prepare": null,
                      "environment": {},
                      "directory": "/srv/api",
                      "ready": {
                        "exec": {
                          "command": {
                            "argv": [
                              "worker",
                              "is ready"
                            ],
                            "ignore_failure": false,
                            "privileged": false
                          }
                        }
                      },
                      "ready_timeout_ms": null,
                      "stop_signal": 2,
                      "restart": "on-failure",
                      "after": [
                        "api"
                      ]
                    }
                  },
                  "needs": [
                    "db"
                  ],
                  "instances": 1,
                  "publish": []
                },
                "db": {
                  "middleware": [
                    "postgresql-15 (>= 15.4)"
                  ],
                  "os": [
                    "dash"
                  ],
                  "without": [
                    "perl"
                  ],
                  "script": {},
                  "app": [],
                  "memory_mib": 1024,
                  "cpus": 2,
                  "volumes": {
                    "data": {
                      "size_bytes": 1073741824,
                      "mount": "/var/lib/postgresql",
                      "owner": "postgres"
                    }
                  },
                  "services": {
                    "postgres": {
                      "from": "postgresql@15-main",
                      "exec": null,
                      "user": null,
                      "group": null,
                      "prepare": "/usr/libexec/init '/a b'",
                      "environment": {},
                      "directory": null,
                      "ready": {
                        "tcp": {
                          "port": 5432
                        }
                      },
                      "ready_timeout_ms": null,
                      "stop_signal": null,
                      "restart": null,
                      "after": []
                    }
                  },
                  "needs": [],
                  "instances": 1,
                  "publish": []
                },
                "web": {
                  "middleware": [
                    "nginx-light"
                  ],
                  "os": [],
                  "without": [],
                  "script": {},
                  "app": [],
                  "memory_mib": 256,
                  "cpus": 1,
                  "volumes": {},
                  "services": {
                    "nginx": {
                      "from": "nginx",
                      "exec": null,
                      "user": null,
                      "group": null,
                      "prepare": null,
                      "environment": {},
                      "directory": null,
                      "ready": {
                        "http": {
                          "port": 80,
                          "path": "/"
                        }
                      },
                      "ready_timeout_ms": null,
                      "stop_signal": null,
                      "restart": null,
                      "after": []
                    }
                  },
                  "needs": [
                    "api"
                  ],
                  "instances": 2,
                  "publish": [
                    {
                      "address": "127.0.0.1",
                      "host_port": 8080,
                      "guest_port": 80
                    },
                    {
                      "address": "0.0.0.0",
                      "host_port": 8443,
                      "guest_port": 443
                    }
                  ]
                }
              },
              "fence": "this"
            }"#]],
    );
}

#[test]
fn defaults() {
    let definition = Definition::parse("app = \"x\"\n[machine.web]\n", "plumb.toml").expect("right");
    expect![[r#"
        {
          "app": "x",
          "base": {
            "suite": "bookworm",
            "mirror": "http://deb.debian.org/debian",
            "security_mirror": null,
            "kernel": "linux-image-cloud-amd64",
            "components": [
              "main"
            ]
          },
          "machines": {
            "web": {
              "middleware": [],
              "os": [],
              "without": [],
              "script": {},
              "app": [],
              "memory_mib": 256,
              "cpus": 1,
              "volumes": {},
              "services": {},
              "needs": [],
              "instances": 1,
              "publish": []
            }
          },
          "fence": null
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&definition).expect("plain data"));
}

#[test]
fn syntax() {
    check(
        "app = \"shop\n[machine.web]\n",
        &expect![[r#"
        error: `shop/plumb.toml` line 1: invalid basic string, expected `"`
          |
        1 | app = "shop
          |            ^"#]],
    );
    check(
        "app = \"shop\"\napp = \"other\"\n[machine.web]\n",
        &expect![[r#"
        error: `shop/plumb.toml` line 2: duplicate key
          |
        2 | app = "other"
          | ^^^"#]],
    );
    check(
        &"x".repeat(MAX_DEFINITION_BYTES + 1),
        &expect![[r#"
        error: `shop/plumb.toml` line 1: the file has 1048577 bytes, a definition at most 1048576
          |
        1 | xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
          | ^"#]],
    );
}

#[test]
fn top_of_the_file() {
    check(
        "",
        &expect![[r#"
        error: `shop/plumb.toml` line 1: `app` is missing
          |
        1 |
          | ^
        hint: Add `app = "shop"`.

        error: `shop/plumb.toml` line 1: the definition names no machine
          |
        1 |
          | ^
        hint: Add `[machine.web]` with `middleware = ["nginx-light"]` below it."#]],
    );
    check(
        "app = \"Shop\"\nmachine = 1\nfence = 0\nap = 1\n",
        &expect![[r#"
        error: `shop/plumb.toml` line 1: `app`: `Shop` is not a valid application name: 1 to 40 of a-z, 0-9 and `-`, starting with a letter, not ending in `-`
          |
        1 | app = "Shop"
          |       ^^^^^^

        error: `shop/plumb.toml` line 2: `machine` must be a table, not a whole number
          |
        2 | machine = 1
          |           ^
        hint: Write it like `[machine.web]`.

        error: `shop/plumb.toml` line 3: `fence` is 0, but must be from 1 to 999999999999999
          |
        3 | fence = 0
          |         ^

        error: `shop/plumb.toml` line 4: unknown key `ap`
          |
        4 | ap = 1
          | ^^
        hint: Did you mean `app`?"#]],
    );
    check(
        "name = \"shop\"\nfence = \"that\"\n[machine]\n",
        &expect![[r#"
        error: `shop/plumb.toml` line 1: unknown key `name`
          |
        1 | name = "shop"
          | ^^^^
        hint: Did you mean `app`?

        error: `shop/plumb.toml` line 1: `app` is missing
          |
        1 | name = "shop"
          | ^
        hint: Add `app = "shop"`.

        error: `shop/plumb.toml` line 2: `fence` is `that`, but must be `"this"` or a release's number
          |
        2 | fence = "that"
          |         ^^^^^^
        hint: `fence = "this"` refuses a rollback below the release made from this definition.

        error: `shop/plumb.toml` line 3: the definition names no machine
          |
        3 | [machine]
          |  ^^^^^^^
        hint: Add `[machine.web]`."#]],
    );
    let many: String = (0..=MAX_MACHINES).map(|n| format!("machine.m{n} = {{}}\n")).collect();
    check(
        &format!("app = \"x\"\n{many}"),
        &expect![[r#"
        error: `shop/plumb.toml` line 2: 101 machines, but at most 100 are possible
          |
        2 | machine.m0 = {}
          | ^^^^^^^"#]],
    );
}

#[test]
fn base() {
    check(
        "app = \"x\"\nmachine.a = {}\n[base]\nsuite = \"../x\"\nmirror = \"deb.debian.org\"\nkernel = \"Linux\"\ncomponents = [\"Main\", 1]\nsuit = 1\n",
        &expect![[r#"
            error: `shop/plumb.toml` line 4: `suite` in `[base]`: `../x` is not made of a-z, 0-9 and `-`
              |
            4 | suite = "../x"
              |         ^^^^^^

            error: `shop/plumb.toml` line 5: `mirror` in `[base]`: `deb.debian.org` is not the URL of an archive
              |
            5 | mirror = "deb.debian.org"
              |          ^^^^^^^^^^^^^^^^
            hint: Write it like `"http://deb.debian.org/debian"`.

            error: `shop/plumb.toml` line 6: `kernel` in `[base]`: package name `Linux` holds `L`; allowed are lower-case letters, digits, `+`, `-` and `.`
              |
            6 | kernel = "Linux"
              |          ^^^^^^^

            error: `shop/plumb.toml` line 7: `components` in `[base]`: `Main` is not made of a-z, 0-9 and `-`
              |
            7 | components = ["Main", 1]
              |               ^^^^^^
            hint: Did you mean `main`?

            error: `shop/plumb.toml` line 7: `components` in `[base]` must be a string, not a whole number
              |
            7 | components = ["Main", 1]
              |                       ^
            hint: Write it like `"bookworm"`.

            error: `shop/plumb.toml` line 8: unknown key `suit` in `[base]`
              |
            8 | suit = 1
              | ^^^^
            hint: Did you mean `suite`?"#]],
    );
    check(
        "app = \"x\"\nmachine.a = {}\nbase.components = []\nbase.suite = \"bookworm \"\n",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `components` in `[base]` is empty
          |
        3 | base.components = []
          |                   ^^
        hint: Write `components = ["main"]`.

        error: `shop/plumb.toml` line 4: `suite` in `[base]`: `bookworm ` is not made of a-z, 0-9 and `-`
          |
        4 | base.suite = "bookworm "
          |              ^^^^^^^^^^^
        hint: Did you mean `bookworm`?"#]],
    );
}

#[test]
fn unknown_keys() {
    check_machine(
        "memmory = \"256MiB\"",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: unknown key `memmory` in `[machine.web]`
          |
        3 | memmory = "256MiB"
          | ^^^^^^^
        hint: Did you mean `memory`?"#]],
    );
    check_machine(
        "replicas = 2\nqwertz = 1",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: unknown key `replicas` in `[machine.web]`
              |
            3 | replicas = 2
              | ^^^^^^^^
            hint: Did you mean `instances`?

            error: `shop/plumb.toml` line 4: unknown key `qwertz` in `[machine.web]`
              |
            4 | qwertz = 1
              | ^^^^^^
            hint: Known keys: app, config, cpus, init, instances, keep, lockdown, memory, middleware, needs, oci, os, publish, rolling, script, scripts, service, task, volume, watch, without."#]],
    );
    check_machine(
        "service.nginx = { ready = { htp = \":80\" }, user = \"a\", command = \"x\" }",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: unknown key `htp` in `[machine.web.service.nginx.ready]`
              |
            3 | service.nginx = { ready = { htp = ":80" }, user = "a", command = "x" }
              |                             ^^^
            hint: Did you mean `http`?

            error: `shop/plumb.toml` line 3: unknown key `command` in `[machine.web.service.nginx]`
              |
            3 | service.nginx = { ready = { htp = ":80" }, user = "a", command = "x" }
              |                                                        ^^^^^^^
            hint: Did you mean `exec`?"#]],
    );
}

#[test]
fn wrong_types() {
    check_machine(
        "middleware = \"nginx\"\nos = [1]\nmemory = 256\ncpus = \"2\"\ninstances = 1.5\nvolume = []\nneeds = { a = 1 }",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `middleware` in `[machine.web]` must be a list, not a string
              |
            3 | middleware = "nginx"
              |              ^^^^^^^
            hint: Write it like `["nginx-light"]`.

            error: `shop/plumb.toml` line 4: `os` in `[machine.web]` must be a string, not a whole number
              |
            4 | os = [1]
              |       ^
            hint: Write it like `"nginx-light"`.

            error: `shop/plumb.toml` line 5: `memory` in `[machine.web]` must be a string, not a whole number
              |
            5 | memory = 256
              |          ^^^
            hint: Write it like `"256MiB"`.

            error: `shop/plumb.toml` line 6: `cpus` in `[machine.web]` must be a whole number, not a string
              |
            6 | cpus = "2"
              |        ^^^
            hint: Write it like `1`.

            error: `shop/plumb.toml` line 7: `instances` in `[machine.web]` must be a whole number, not a fraction
              |
            7 | instances = 1.5
              |             ^^^
            hint: Write it like `1`.

            error: `shop/plumb.toml` line 8: `volume` in `[machine.web]` must be a table, not a list
              |
            8 | volume = []
              |          ^^
            hint: Write it like `volume.data = { size = "1GiB", mount = "/var/lib/data" }`.

            error: `shop/plumb.toml` line 9: `needs` in `[machine.web]` must be a list, not a table
              |
            9 | needs = { a = 1 }
              |         ^^^^^^^^^
            hint: Write it like `["db"]`."#]],
    );
    check(
        "app = 1979-05-27\nmachine.web = true\nmachine.a_b = {}",
        &expect![[r#"
        error: `shop/plumb.toml` line 1: `app` must be a string, not a date
          |
        1 | app = 1979-05-27
          |       ^^^^^^^^^^
        hint: Write it like `"shop"`.

        error: `shop/plumb.toml` line 2: `web` in `[machine]` must be a table, not a truth value
          |
        2 | machine.web = true
          |               ^^^^
        hint: Write it like `[machine.web]`.

        error: `shop/plumb.toml` line 3: `a_b` is not a valid machine name: 1 to 40 of a-z, 0-9 and `-`, starting with a letter, not ending in `-`
          |
        3 | machine.a_b = {}
          |         ^^^"#]],
    );
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        let _ = Definition::parse(&text, "plumb.toml").map_err(|errors| errors.to_string());
    }

    /// Every value of a right definition replaced by something else: refused or read, never a panic.
    #[test]
    fn damaged_definitions_never_panic(at in 0..SHOP.len(), length in 0_usize..20, with in "[\"'\\[\\]{}=.,\\n a-z0-9ä/:-]{0,8}") {
        let end = (at + length).min(SHOP.len());
        let text = format!("{}{with}{}", &SHOP[..at], &SHOP[end..]);
        if let Err(errors) = Definition::parse(&text, "plumb.toml") {
            prop_assert!(!errors.0.is_empty());
            for error in errors.0 {
                prop_assert!(error.line >= 1 && error.line <= text.split('\n').count(), "{error}");
                prop_assert!(error.column >= 1);
            }
        }
    }
}

/// The examples are what people copy: they must be right.
#[test]
fn examples() {
    for text in [
        include_str!("../../../../../examples/hello/plumb.toml"),
        include_str!("../../../../../examples/shop/v1/plumb.toml"),
        include_str!("../../../../../examples/shop/v2/plumb.toml"),
        include_str!("../../../../../examples/shop/v3/plumb.toml"),
    ] {
        Definition::parse(text, "plumb.toml").unwrap_or_else(|errors| panic!("{errors}"));
    }
}

/// Each error costs a look through the text, so a long text must not have as many as it has lines.
#[test]
fn errors_are_limited_in_number() {
    let keys: String = (0..20_000).map(|number| format!("k{number} = 1\n")).collect();
    let errors = Definition::parse(&format!("app = \"a\"\n[machine.web]\n{keys}"), "plumb.toml").unwrap_err();
    assert_eq!(errors.0.len(), 201);
    assert_eq!(errors.0[200].message, "there are 19800 more errors");
}
