//! One test per shape and per error. A new error gets its message here, as people will read it.
#![expect(clippy::too_many_lines, reason = "what is said stands beside the text that it is said about")]

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
            hint: Known keys: app, cpus, instances, keep, memory, middleware, needs, oci, os, publish, script, scripts, service, volume, without."#]],
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

#[test]
fn packages() {
    check_machine(
        "middleware = [\"Nginx\", \"nginx-light\", \"nginx-light\", \"\", \"a-b (> 1)\", \"a-b (>= 1\", \"a-b (= 1:2:3 4)\", \"a-b | a-c\"]\nwithout = [\"perl\", \"perl\"]",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `middleware` in `[machine.web]`: `Nginx` does not start with a package name: package name `Nginx` holds `N`; allowed are lower-case letters, digits, `+`, `-` and `.`
              |
            3 | middleware = ["Nginx", "nginx-light", "nginx-light", "", "a-b (> 1)", "a-b (>= 1", "a-b (= 1:2:3 4)", "a-b | a-c"]
              |               ^^^^^^^
            hint: Write a package like `nginx-light`, or with a version like `postgresql-15 (>= 15.4)`.

            error: `shop/plumb.toml` line 3: `nginx-light` stands twice in `middleware` in `[machine.web]`
              |
            3 | middleware = ["Nginx", "nginx-light", "nginx-light", "", "a-b (> 1)", "a-b (>= 1", "a-b (= 1:2:3 4)", "a-b | a-c"]
              |                                       ^^^^^^^^^^^^^

            error: `shop/plumb.toml` line 3: `middleware` in `[machine.web]`: `` does not start with a package name: package name `` is shorter than two characters
              |
            3 | middleware = ["Nginx", "nginx-light", "nginx-light", "", "a-b (> 1)", "a-b (>= 1", "a-b (= 1:2:3 4)", "a-b | a-c"]
              |                                                      ^^
            hint: Write a package like `nginx-light`, or with a version like `postgresql-15 (>= 15.4)`.

            error: `shop/plumb.toml` line 3: `middleware` in `[machine.web]`: `a-b (>= 1` is not a relation such as `name (>= 1.0)`
              |
            3 | middleware = ["Nginx", "nginx-light", "nginx-light", "", "a-b (> 1)", "a-b (>= 1", "a-b (= 1:2:3 4)", "a-b | a-c"]
              |                                                                       ^^^^^^^^^^^
            hint: Write a package like `nginx-light`, or with a version like `postgresql-15 (>= 15.4)`.

            error: `shop/plumb.toml` line 3: `middleware` in `[machine.web]`: `a-b (= 1:2:3 4)` holds no valid version: version `1:2:3 4` holds ` ` where it is not allowed
              |
            3 | middleware = ["Nginx", "nginx-light", "nginx-light", "", "a-b (> 1)", "a-b (>= 1", "a-b (= 1:2:3 4)", "a-b | a-c"]
              |                                                                                    ^^^^^^^^^^^^^^^^^
            hint: Write a package like `nginx-light`, or with a version like `postgresql-15 (>= 15.4)`.

            error: `shop/plumb.toml` line 3: `middleware` in `[machine.web]`: `a-b | a-c` is not one package
              |
            3 | middleware = ["Nginx", "nginx-light", "nginx-light", "", "a-b (> 1)", "a-b (>= 1", "a-b (= 1:2:3 4)", "a-b | a-c"]
              |                                                                                                       ^^^^^^^^^^^
            hint: Write a package like `nginx-light`, or with a version like `postgresql-15 (>= 15.4)`.

            error: `shop/plumb.toml` line 4: `perl` stands twice in `without` in `[machine.web]`
              |
            4 | without = ["perl", "perl"]
              |                    ^^^^^^"#]],
    );
}

#[test]
fn sizes() {
    check_machine(
        "memory = \"256MB\"",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `memory` in `[machine.web]`: `256MB` is not a size
          |
        3 | memory = "256MB"
          |          ^^^^^^^
        hint: Did you mean `256MiB`?"#]],
    );
    check_machine(
        "memory = \"64MiB\"",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `memory` in `[machine.web]` is 64MiB, but must be at least 80MiB
          |
        3 | memory = "64MiB"
          |          ^^^^^^^"#]],
    );
    check_machine(
        "memory = \"2TiB\"",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `memory` in `[machine.web]` is 2TiB, but must be at most 1048576MiB
          |
        3 | memory = "2TiB"
          |          ^^^^^^"#]],
    );
    check_machine(
        "volume.a = { size = \"1MiB\", mount = \"/a\" }\nvolume.b = { size = \"lots\", mount = \"/b\" }",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `size` in `[machine.web.volume.a]` is 1MiB, but must be at least 16MiB
              |
            3 | volume.a = { size = "1MiB", mount = "/a" }
              |                     ^^^^^^

            error: `shop/plumb.toml` line 4: `size` in `[machine.web.volume.b]`: `lots` is not a size
              |
            4 | volume.b = { size = "lots", mount = "/b" }
              |                     ^^^^^^
            hint: A size is a whole number and `MiB`, `GiB` or `TiB`, like `256MiB`."#]],
    );
}

#[test]
fn numbers() {
    check_machine(
        "cpus = 0\ninstances = 51",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `cpus` in `[machine.web]` is 0, but must be from 1 to 64
          |
        3 | cpus = 0
          |        ^

        error: `shop/plumb.toml` line 4: `instances` in `[machine.web]` is 51, but must be from 1 to 50
          |
        4 | instances = 51
          |             ^^"#]],
    );
    check_machine(
        "cpus = -1\ninstances = 170141183460469231731687303715884105728",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `cpus` in `[machine.web]` is -1, but must be from 1 to 64
          |
        3 | cpus = -1
          |        ^^

        error: `shop/plumb.toml` line 4: `instances` in `[machine.web]` is 170141183460469231731687303715884105728, but must be from 1 to 50
          |
        4 | instances = 170141183460469231731687303715884105728
          |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"#]],
    );
}

#[test]
fn volumes() {
    check_machine(
        "volume.data = { size = \"1GiB\" }\nvolume.logs = { mount = \"/var/log\" }",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `mount` is missing in `[machine.web.volume.data]`
          |
        3 | volume.data = { size = "1GiB" }
          |        ^^^^
        hint: Add `mount = "/var/lib/data"`.

        error: `shop/plumb.toml` line 4: `size` is missing in `[machine.web.volume.logs]`
          |
        4 | volume.logs = { mount = "/var/log" }
          |        ^^^^
        hint: Add `size = "1GiB"`."#]],
    );
    check_machine(
        r#"volume.a = { size = "1GiB", mount = "/srv" }
volume.b = { size = "1GiB", mount = "/srv/b" }
volume.c = { size = "1GiB", mount = "/srv/" }
volume.d = { size = "1GiB", mount = "srv" }
volume.e = { size = "1GiB", mount = "/run/e" }
volume.f = { size = "1GiB", mount = "/usr", owner = "Root" }"#,
        &expect![[r#"
            error: `shop/plumb.toml` line 4: volumes `a` and `b` are mounted in each other: `/srv` and `/srv/b`
              |
            4 | volume.b = { size = "1GiB", mount = "/srv/b" }
              |                                     ^^^^^^^^

            error: `shop/plumb.toml` line 5: volumes `a` and `c` are mounted in each other: `/srv` and `/srv`
              |
            5 | volume.c = { size = "1GiB", mount = "/srv/" }
              |                                     ^^^^^^^

            error: `shop/plumb.toml` line 5: volumes `b` and `c` are mounted in each other: `/srv/b` and `/srv`
              |
            5 | volume.c = { size = "1GiB", mount = "/srv/" }
              |                                     ^^^^^^^

            error: `shop/plumb.toml` line 6: `mount` in `[machine.web.volume.d]`: `srv` is not an absolute path
              |
            6 | volume.d = { size = "1GiB", mount = "srv" }
              |                                     ^^^^^

            error: `shop/plumb.toml` line 7: `mount` in `[machine.web.volume.e]`: `/run/e` is below `/run`, which is made new at every boot
              |
            7 | volume.e = { size = "1GiB", mount = "/run/e" }
              |                                     ^^^^^^^^

            error: `shop/plumb.toml` line 8: `mount` in `[machine.web.volume.f]`: a volume at `/usr` would hide the machine's own files
              |
            8 | volume.f = { size = "1GiB", mount = "/usr", owner = "Root" }
              |                                     ^^^^^^

            error: `shop/plumb.toml` line 8: `owner` in `[machine.web.volume.f]`: `Root` is not a user or group name
              |
            8 | volume.f = { size = "1GiB", mount = "/usr", owner = "Root" }
              |                                                     ^^^^^^
            hint: Names are a-z, 0-9, `-` and `_`, start with a letter or `_`, and have at most 32 characters."#]],
    );
}

#[test]
fn app_contents() {
    check_machine(
        r#"volume.data = { size = "1GiB", mount = "/var/lib/data" }
[machine.web.app]
"/srv/a" = "../a"
"/srv/b" = "/etc/passwd"
"/srv/c" = "."
"/srv/d" = "d"
"/srv/d/" = "e"
"/proc/x" = "x"
"srv" = "x"
"/srv/../etc" = "x"
"/" = "x"
"/var/lib/data/seed" = "seed"
"/srv/e" = { owner = "a b", mode = "rwx" }
"/srv/f" = { from = "f", mode = 755 }
"/srv/g" = 1"#,
        &expect![[r#"
            error: `shop/plumb.toml` line 5: `/srv/a` in `[machine.web.app]`: `../a` leads out of the definition's directory
              |
            5 | "/srv/a" = "../a"
              |            ^^^^^^
            hint: Name a file or directory beside the definition, like `api/`.

            error: `shop/plumb.toml` line 6: `/srv/b` in `[machine.web.app]`: `/etc/passwd` is an absolute path, but sources lie beside the definition
              |
            6 | "/srv/b" = "/etc/passwd"
              |            ^^^^^^^^^^^^^
            hint: Name a file or directory beside the definition, like `api/`.

            error: `shop/plumb.toml` line 7: `/srv/c` in `[machine.web.app]`: `.` is the definition's own directory
              |
            7 | "/srv/c" = "."
              |            ^^^
            hint: Name a file or directory beside the definition, like `api/`.

            error: `shop/plumb.toml` line 9: `/srv/d` stands twice in `app` in `[machine.web]`
              |
            9 | "/srv/d/" = "e"
              | ^^^^^^^^^

            error: `shop/plumb.toml` line 10: `app` in `[machine.web]`: `/proc/x` is below `/proc`, which is made new at every boot
               |
            10 | "/proc/x" = "x"
               | ^^^^^^^^^

            error: `shop/plumb.toml` line 11: `app` in `[machine.web]`: `srv` is not an absolute path
               |
            11 | "srv" = "x"
               | ^^^^^

            error: `shop/plumb.toml` line 12: `app` in `[machine.web]`: `/srv/../etc` holds an empty part, `.` or `..`
               |
            12 | "/srv/../etc" = "x"
               | ^^^^^^^^^^^^^

            error: `shop/plumb.toml` line 13: `app` in `[machine.web]`: `/` is the whole machine
               |
            13 | "/" = "x"
               | ^^^

            error: `shop/plumb.toml` line 14: `/var/lib/data/seed` would be hidden by the volume `data` at `/var/lib/data`
               |
            14 | "/var/lib/data/seed" = "seed"
               | ^^^^^^^^^^^^^^^^^^^^

            error: `shop/plumb.toml` line 15: `from` is missing in `[machine.web.app./srv/e]`
               |
            15 | "/srv/e" = { owner = "a b", mode = "rwx" }
               | ^^^^^^^^
            hint: Add `from = "api/"`.

            error: `shop/plumb.toml` line 16: `mode` in `[machine.web.app./srv/f]` is not a mode of octal digits
               |
            16 | "/srv/f" = { from = "f", mode = 755 }
               |                                 ^^^
            hint: Write it like `"0755"`.

            error: `shop/plumb.toml` line 17: `/srv/g` in `[machine.web.app]` must be a table, not a whole number
               |
            17 | "/srv/g" = 1
               |            ^
            hint: Write it like `{ from = "api/", owner = "api" }`."#]],
    );
}

#[test]
fn services() {
    check_machine(
        r#"service.a = { from = "x", exec = "y" }
service.b = { exec = "say 'hello" }
service.c = { exec = "", prepare = 1, directory = "srv" }
service.d = { from = "../d" }
service.E = {}
service.f = { exec = "f", restart = "on-fail", environment = { "A-B" = "1", C = 2 } }
service.g = { exec = "g", restart = "sometimes", stop_signal = "INT" }"#,
        &expect![[r#"
            error: `shop/plumb.toml` line 3: both `from` and `exec` in `[machine.web.service.a]`
              |
            3 | service.a = { from = "x", exec = "y" }
              |               ^^^^
            hint: `from` takes a package's own unit, `exec` is a command of your own: keep one.

            error: `shop/plumb.toml` line 4: `exec` in `[machine.web.service.b]` has a quote that is not closed
              |
            4 | service.b = { exec = "say 'hello" }
              |                      ^^^^^^^^^^^^
            hint: Words are quoted as in a shell; a quote inside a word is written `\'`.

            error: `shop/plumb.toml` line 5: `exec` in `[machine.web.service.c]` is empty
              |
            5 | service.c = { exec = "", prepare = 1, directory = "srv" }
              |                      ^^

            error: `shop/plumb.toml` line 5: `prepare` in `[machine.web.service.c]` must be a string, not a whole number
              |
            5 | service.c = { exec = "", prepare = 1, directory = "srv" }
              |                                    ^
            hint: Write it like `"gunicorn -b :8000 app:app"`.

            error: `shop/plumb.toml` line 5: `directory` in `[machine.web.service.c]`: `srv` is not an absolute path
              |
            5 | service.c = { exec = "", prepare = 1, directory = "srv" }
              |                                                   ^^^^^

            error: `shop/plumb.toml` line 6: `from` in `[machine.web.service.d]`: `../d` is not the name of a unit
              |
            6 | service.d = { from = "../d" }
              |                      ^^^^^^
            hint: Write the unit as the package calls it, like `nginx` or `postgresql@15-main`.

            error: `shop/plumb.toml` line 7: `E` is not a valid service name: 1 to 40 of a-z, 0-9 and `-`, starting with a letter, not ending in `-`
              |
            7 | service.E = {}
              |         ^

            error: `shop/plumb.toml` line 8: `restart` in `[machine.web.service.f]`: `on-fail` is not known
              |
            8 | service.f = { exec = "f", restart = "on-fail", environment = { "A-B" = "1", C = 2 } }
              |                                     ^^^^^^^^^
            hint: Did you mean `on-failure`?

            error: `shop/plumb.toml` line 8: `A-B` is not the name of an environment variable
              |
            8 | service.f = { exec = "f", restart = "on-fail", environment = { "A-B" = "1", C = 2 } }
              |                                                                ^^^^^

            error: `shop/plumb.toml` line 8: `C` in `[machine.web.service.f.environment]` must be a string, not a whole number
              |
            8 | service.f = { exec = "f", restart = "on-fail", environment = { "A-B" = "1", C = 2 } }
              |                                                                                 ^
            hint: Write it like `"C.UTF-8"`.

            error: `shop/plumb.toml` line 9: `restart` in `[machine.web.service.g]`: `sometimes` is not known
              |
            9 | service.g = { exec = "g", restart = "sometimes", stop_signal = "INT" }
              |                                     ^^^^^^^^^^^
            hint: Known values: always, no, on-abnormal, on-abort, on-failure, on-success.

            error: `shop/plumb.toml` line 9: `stop_signal` in `[machine.web.service.g]`: `INT` is not known
              |
            9 | service.g = { exec = "g", restart = "sometimes", stop_signal = "INT" }
              |                                                                ^^^^^
            hint: Known values: SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH."#]],
    );
}

#[test]
fn readiness() {
    check_machine(
        r#"service.a.ready = {}
service.b.ready = { tcp = 1, http = ":80" }
service.c.ready.tcp = 65536
service.d.ready.http = "localhost:80/"
service.e.ready.http = ":80/a b"
service.f.ready.notify = false
service.g.ready = ":80"
service.h.ready = { tcp = 1, timeout = "10" }
service.i.ready = { tcp = 1, timeout = "2h" }
service.j.ready = { tcp = 1, timeout = "0s" }
service.k.ready.tcp = ":80""#,
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `ready` in `[machine.web.service.a]` names no check
              |
            3 | service.a.ready = {}
              |           ^^^^^
            hint: Add one of `http`, `tcp`, `exec`, `notify`, like `ready.http = ":80/health"`.

            error: `shop/plumb.toml` line 4: `ready` in `[machine.web.service.b]` names more than one check
              |
            4 | service.b.ready = { tcp = 1, http = ":80" }
              |                     ^^^
            hint: Keep the one that tells most.

            error: `shop/plumb.toml` line 5: `tcp` in `[machine.web.service.c.ready]` is 65536, but must be from 1 to 65535
              |
            5 | service.c.ready.tcp = 65536
              |                       ^^^^^

            error: `shop/plumb.toml` line 6: `http` in `[machine.web.service.d.ready]`: `localhost:80/` is not a port and a path
              |
            6 | service.d.ready.http = "localhost:80/"
              |                        ^^^^^^^^^^^^^^^
            hint: Write it like `:80/health`; the guest asks itself, so no host is named.

            error: `shop/plumb.toml` line 7: `http` in `[machine.web.service.e.ready]`: `:80/a b` is not a port and a path
              |
            7 | service.e.ready.http = ":80/a b"
              |                        ^^^^^^^^^
            hint: Write it like `:80/health`; the guest asks itself, so no host is named.

            error: `shop/plumb.toml` line 8: `notify` in `[machine.web.service.f.ready]` must be `true`
              |
            8 | service.f.ready.notify = false
              |                          ^^^^^
            hint: Leave it out if the service does not say `READY=1` itself.

            error: `shop/plumb.toml` line 9: `ready` in `[machine.web.service.g]` must be a table, not a string
              |
            9 | service.g.ready = ":80"
              |                   ^^^^^
            hint: Write it like `ready.http = ":80/health"`.

            error: `shop/plumb.toml` line 10: `timeout` in `[machine.web.service.h.ready]`: `10` is not a duration
               |
            10 | service.h.ready = { tcp = 1, timeout = "10" }
               |                                        ^^^^
            hint: A duration is a whole number and `ms`, `s`, `min` or `h`, like `30s`.

            error: `shop/plumb.toml` line 11: `timeout` in `[machine.web.service.i.ready]` is 2h, but must be at most 60min
               |
            11 | service.i.ready = { tcp = 1, timeout = "2h" }
               |                                        ^^^^

            error: `shop/plumb.toml` line 12: `timeout` in `[machine.web.service.j.ready]` must be more than 0
               |
            12 | service.j.ready = { tcp = 1, timeout = "0s" }
               |                                        ^^^^

            error: `shop/plumb.toml` line 13: `tcp` in `[machine.web.service.k.ready]` must be a whole number, not a string
               |
            13 | service.k.ready.tcp = ":80"
               |                       ^^^^^
            hint: Write it like `1`."#]],
    );
}

#[test]
fn order_of_services() {
    check_machine(
        "service.api = { exec = \"a\", after = [\"postgrs\", \"worker\", \"worker\"] }\nservice.postgres = {}\nservice.worker = { exec = \"w\", after = [\"api\"] }",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `after` names the service `postgrs`, which is not defined
              |
            3 | service.api = { exec = "a", after = ["postgrs", "worker", "worker"] }
              |                                      ^^^^^^^^^
            hint: Did you mean `postgres`?

            error: `shop/plumb.toml` line 3: `after` goes in a circle: api → worker → api
              |
            3 | service.api = { exec = "a", after = ["postgrs", "worker", "worker"] }
              |                                                 ^^^^^^^^
            hint: None of these services could ever start first; remove one of the `after`.

            error: `shop/plumb.toml` line 3: `worker` stands twice in `after` in `[machine.web.service.api]`
              |
            3 | service.api = { exec = "a", after = ["postgrs", "worker", "worker"] }
              |                                                           ^^^^^^^^"#]],
    );
}

#[test]
fn needs() {
    check(
        "app = \"x\"\nmachine.db = {}\nmachine.api.needs = [\"bd\"]\nmachine.web.needs = [\"nothing\"]\n",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `needs` names the machine `bd`, which is not defined
              |
            3 | machine.api.needs = ["bd"]
              |                      ^^^^
            hint: Did you mean `db`?

            error: `shop/plumb.toml` line 4: `needs` names the machine `nothing`, which is not defined
              |
            4 | machine.web.needs = ["nothing"]
              |                      ^^^^^^^^^
            hint: Known machines: api, db, web."#]],
    );
    check(
        "app = \"x\"\nmachine.a.needs = [\"b\"]\nmachine.b.needs = [\"c\"]\nmachine.c.needs = [\"b\"]\nmachine.d.needs = [\"d\"]\nmachine.e.needs = []\n",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `needs` goes in a circle: b → c → b
              |
            3 | machine.b.needs = ["c"]
              |                    ^^^
            hint: None of these machines could ever start first; remove one of the `needs`.

            error: `shop/plumb.toml` line 5: `needs` goes in a circle: d → d
              |
            5 | machine.d.needs = ["d"]
              |                    ^^^
            hint: None of these machines could ever start first; remove one of the `needs`."#]],
    );
}

#[test]
fn published_ports() {
    check_machine(
        "publish = [\"80\", \"a:b\", \"8080:80\", \"0.0.0.0:8080:81\"]",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `publish` in `[machine.web]`: `80` is not `host:guest`
          |
        3 | publish = ["80", "a:b", "8080:80", "0.0.0.0:8080:81"]
          |            ^^^^
        hint: Did you mean `"80:80"`?

        error: `shop/plumb.toml` line 3: `publish` in `[machine.web]`: `a:b` is not `host:guest`
          |
        3 | publish = ["80", "a:b", "8080:80", "0.0.0.0:8080:81"]
          |                  ^^^^^
        hint: Write two ports like `8080:80`, or with an address `0.0.0.0:8080:80`.

        error: `shop/plumb.toml` line 3: port 8080 of the host is already published by `[machine.web]`
          |
        3 | publish = ["80", "a:b", "8080:80", "0.0.0.0:8080:81"]
          |                                    ^^^^^^^^^^^^^^^^^"#]],
    );
    check(
        "app = \"x\"\nmachine.a.publish = [\"8080:80\"]\nmachine.b.publish = [\"127.0.0.2:8080:80\", \"8080:8080\"]\n",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: port 8080 of the host is already published by `[machine.a]`
              |
            3 | machine.b.publish = ["127.0.0.2:8080:80", "8080:8080"]
              |                                           ^^^^^^^^^^^"#]],
    );
}

#[test]
fn names_of_instances() {
    check(
        &format!(
            "app = \"x\"\nmachine.web.instances = 2\nmachine.web-2 = {{}}\nmachine.{} = {{}}\n",
            "m".repeat(40)
        ),
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `web-2` is also the name of an instance of the machine `web`
              |
            3 | machine.web-2 = {}
              |         ^^^^^

            error: `shop/plumb.toml` line 4: `mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm-1` is not a valid instance name: 1 to 40 of a-z, 0-9 and `-`, starting with a letter, not ending in `-`
              |
            4 | machine.mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm = {}
              |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            hint: The name of an instance is its machine's and `-1`."#]],
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
        include_str!("../../../../examples/hello/plumb.toml"),
        include_str!("../../../../examples/shop/v1/plumb.toml"),
        include_str!("../../../../examples/shop/v2/plumb.toml"),
        include_str!("../../../../examples/shop/v3/plumb.toml"),
    ] {
        Definition::parse(text, "plumb.toml").unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn content_by_url() {
    let digest = "ab".repeat(32);
    let text = format!(
        "app = \"x\"\n[machine.a.app]\n\"/srv/a\" = {{ url = \"https://example.org/a-1.tar.gz\", sha256 = \"{digest}\", strip = 1, owner = \"a\" }}\n\"/srv/b\" = {{ url = \"file:///b\", sha256 = \"sha256:{digest}\", unpack = false, mode = \"0755\" }}\n"
    );
    let definition = Definition::parse(&text, "plumb.toml").expect("right");
    let sources: Vec<&Source> =
        definition.machines.values().flat_map(|m| &m.app).map(|app| &app.source).collect();
    let sha256: Digest = digest.parse::<Digest>().or_else(|_| Digest::from_hex(&digest)).expect("right");
    let url =
        |url: &str, strip, unpack| Source::Url(UrlSource { url: url.to_owned(), sha256, strip, unpack });
    assert_eq!(sources, [&url("https://example.org/a-1.tar.gz", 1, true), &url("file:///b", 0, false)]);
    check_machine(
        "app = { \"/a\" = { url = \"ftp://x/y\", sha256 = \"12\", from = \"x\" }, \"/b\" = { url = \"x\" }, \"/c\" = { url = \"https://x/y\", sha256 = \"AB\", strip = 1, unpack = false, extract = 1 }, \"/d\" = { strip = 1 } }",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: both `from` and `url` in `[machine.web.app./a]`
              |
            3 | app = { "/a" = { url = "ftp://x/y", sha256 = "12", from = "x" }, "/b" = { url = "x" }, "/c" = { url = "https://x/y", sha
              |         ^^^^
            hint: An entry of `app` comes from one place: keep one.

            error: `shop/plumb.toml` line 3: `sha256` is missing in `[machine.web.app./b]`
              |
            3 | app = { "/a" = { url = "ftp://x/y", sha256 = "12", from = "x" }, "/b" = { url = "x" }, "/c" = { url = "https://x/y", sha
              |                                                                  ^^^^
            hint: Add `sha256 = "…64 hex digits…"`.

            error: `shop/plumb.toml` line 3: `url` in `[machine.web.app./b]`: `x` is not the URL of a file
              |
            3 | app = { "/a" = { url = "ftp://x/y", sha256 = "12", from = "x" }, "/b" = { url = "x" }, "/c" = { url = "https://x/y", sha
              |                                                                                 ^^^
            hint: Write it like `https://example.org/x.tar.gz`; `http` and `file` are known, too.

            error: `shop/plumb.toml` line 3: `sha256` in `[machine.web.app./c]`: `AB` is not a SHA-256 in 64 lower-case hex digits
              |
            3 | ps://x/y", sha256 = "AB", strip = 1, unpack = false, extract = 1 }, "/d" = { strip = 1 } }
              |                     ^^^^
            hint: `sha256sum FILE` prints it.

            error: `shop/plumb.toml` line 3: `strip` in `[machine.web.app./c]` has no meaning with `unpack = false`
              |
            3 | /y", sha256 = "AB", strip = 1, unpack = false, extract = 1 }, "/d" = { strip = 1 } }
              |                     ^^^^^

            error: `shop/plumb.toml` line 3: unknown key `extract` in `[machine.web.app./c]`
              |
            3 |  1, unpack = false, extract = 1 }, "/d" = { strip = 1 } }
              |                     ^^^^^^^
            hint: Known keys: group, owner, mode, sha256, strip, unpack, url.

            error: `shop/plumb.toml` line 3: `from` is missing in `[machine.web.app./d]`
              |
            3 | lse, extract = 1 }, "/d" = { strip = 1 } }
              |                     ^^^^
            hint: Add `from = "api/"`."#]],
    );
}

/// Each error costs a look through the text, so a long text must not have as many as it has lines.
#[test]
fn errors_are_limited_in_number() {
    let keys: String = (0..20_000).map(|number| format!("k{number} = 1\n")).collect();
    let errors = Definition::parse(&format!("app = \"a\"\n[machine.web]\n{keys}"), "plumb.toml").unwrap_err();
    assert_eq!(errors.0.len(), 201);
    assert_eq!(errors.0[200].message, "there are 19800 more errors");
}

#[test]
fn a_container_image_is_the_whole_userland() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let text = format!(
        "app = \"x\"\n[machine.a]\noci = \"nginx:1.27@{digest}\"\n[machine.b]\noci = {{ layout = \"images/b\", digest = \"{digest}\" }}\nservice.b.ready.tcp = 80\n"
    );
    let definition = Definition::parse(&text, "plumb.toml").expect("right");
    let machines: Vec<&Machine> = definition.machines.values().collect();
    let places: Vec<Option<&OciPlace>> =
        machines.iter().map(|machine| machine.oci.as_ref().map(|oci| &oci.place)).collect();
    let registry = OciPlace::Registry { host: "docker.io".into(), repository: "library/nginx".into() };
    assert_eq!(places, [Some(&registry), Some(&OciPlace::Layout { path: "images/b".into() })]);
    let service = machines[1].services.values().next().expect("a service");
    assert_eq!((&service.from, &service.exec), (&None, &None));
    check_machine(
        "oci = \"nginx:1.27\"\nos = [\"dash\"]\nvolume.data = { size = \"1GiB\", mount = \"/data\" }\nservice.nginx.from = \"nginx\"",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `oci` in `[machine.web]`: `nginx:1.27` has no digest
              |
            3 | oci = "nginx:1.27"
              |       ^^^^^^^^^^^^
            hint: A tag may mean other bytes tomorrow. `skopeo inspect --format '{{.Digest}}' docker://nginx:1.27` prints the digest: add it behind `@`.

            error: `shop/plumb.toml` line 4: `os` and `oci` in `[machine.web]`
              |
            4 | os = ["dash"]
              | ^^
            hint: A container image is the whole userland of its machine: no package is added to it.

            error: `shop/plumb.toml` line 5: `volume` and `oci` in `[machine.web]`: volumes are formatted by the image's own tools, which container images do not have
              |
            5 | volume.data = { size = "1GiB", mount = "/data" }
              | ^^^^^^
            hint: Keep the data in a machine of packages.

            error: `shop/plumb.toml` line 6: `from` in `[machine.web.service.nginx]` of a container image
              |
            6 | service.nginx.from = "nginx"
              |               ^^^^
            hint: Without `exec` the service is what the image itself says (its entrypoint)."#]],
    );
    check_machine(
        "oci = { layout = \"/x\", digest = \"ab\", tag = \"1\" }",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `layout` in `[machine.web.oci]`: `/x` is an absolute path, but sources lie beside the definition
          |
        3 | oci = { layout = "/x", digest = "ab", tag = "1" }
          |                  ^^^^

        error: `shop/plumb.toml` line 3: `digest` in `[machine.web.oci]`: `ab` is not a SHA-256 in 64 lower-case hex digits
          |
        3 | oci = { layout = "/x", digest = "ab", tag = "1" }
          |                                 ^^^^
        hint: `sha256sum FILE` prints it.

        error: `shop/plumb.toml` line 3: unknown key `tag` in `[machine.web.oci]`
          |
        3 | oci = { layout = "/x", digest = "ab", tag = "1" }
          |                                       ^^^
        hint: Known keys: digest, layout."#]],
    );
    check_machine(
        "oci = \"Nginx@sha256:0\"",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `oci` in `[machine.web]`: `Nginx@sha256:0` is not the reference of an image
          |
        3 | oci = "Nginx@sha256:0"
          |       ^^^^^^^^^^^^^^^^
        hint: Write it like `docker.io/library/nginx@sha256:…`."#]],
    );
}

#[test]
fn packages_of_npm() {
    check_machine(
        "app = { \"/a\" = { npm = \"service/\", skip_scripts = [\"esbuild\", 1], strip = 1 }, \"/b\" = { npm = \"../x\" } }",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `skip_scripts` in `[machine.web.app./a]` must be a string, not a whole number
              |
            3 | app = { "/a" = { npm = "service/", skip_scripts = ["esbuild", 1], strip = 1 }, "/b" = { npm = "../x" } }
              |                                                               ^
            hint: Write it like `"esbuild"`.

            error: `shop/plumb.toml` line 3: unknown key `strip` in `[machine.web.app./a]`
              |
            3 | app = { "/a" = { npm = "service/", skip_scripts = ["esbuild", 1], strip = 1 }, "/b" = { npm = "../x" } }
              |                                                                   ^^^^^
            hint: Known keys: group, owner, npm, skip_scripts.

            error: `shop/plumb.toml` line 3: `npm` in `[machine.web.app./b]`: `../x` leads out of the definition's directory
              |
            3 | app = { "/a" = { npm = "service/", skip_scripts = ["esbuild", 1], strip = 1 }, "/b" = { npm = "../x" } }
              |                                                                                               ^^^^^^
            hint: Name a file or directory beside the definition, like `api/`."#]],
    );
}

#[test]
fn requirements_of_python() {
    check(
        "app = \"x\"\nbase.pypi = \"x\"\n[machine.a.app]\n\"/a\" = { pip = \"/etc/x\", mode = \"0644\" }\n",
        &expect![[r#"
            error: `shop/plumb.toml` line 2: `pypi` in `[base]`: `x` is not the URL of an archive
              |
            2 | base.pypi = "x"
              |             ^^^
            hint: Write it like `"http://deb.debian.org/debian"`.

            error: `shop/plumb.toml` line 4: `pip` in `[machine.a.app./a]`: `/etc/x` is an absolute path, but sources lie beside the definition
              |
            4 | "/a" = { pip = "/etc/x", mode = "0644" }
              |                ^^^^^^^^
            hint: Name a file or directory beside the definition, like `api/`.

            error: `shop/plumb.toml` line 4: unknown key `mode` in `[machine.a.app./a]`
              |
            4 | "/a" = { pip = "/etc/x", mode = "0644" }
              |                          ^^^^
            hint: Known keys: group, owner, pip."#]],
    );
}

#[test]
fn script_choices() {
    let definition = Definition::parse(
        "app = \"shop\"\n[machine.web]\nscript.aa = \"skip\"\nscript.bb = { rule = \"touch /etc/b\" }\n\
         script.\"c1.0\" = { rule-file = \"rules/c.sh\" }\n",
        "shop/plumb.toml",
    )
    .expect("a good definition");
    let script = &definition.machines.values().next().expect("one machine").script;
    let choices: Vec<_> = script.iter().map(|(package, choice)| (package.as_str(), choice.clone())).collect();
    assert_eq!(
        choices,
        [
            ("aa", ScriptChoice::Skip),
            ("bb", ScriptChoice::Rule("touch /etc/b".into())),
            ("c1.0", ScriptChoice::RuleFile("rules/c.sh".into()))
        ]
    );
    check_machine(
        "script.aa = \"skp\"",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `aa` in `[machine.web.script]`: `skp` is not `skip`
          |
        3 | script.aa = "skp"
          |             ^^^^^
        hint: Did you mean `skip`?
        hint: Commands go into a rule: `{ rule = "install -d -o foo /var/lib/foo" }`."#]],
    );
    check_machine(
        "script.aa = { rul = \"x\" }",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `rule` is missing in `[machine.web.script.aa]`
          |
        3 | script.aa = { rul = "x" }
          |        ^^
        hint: Write it like `script.some-package = { rule = "install -d -o foo -m 0750 /var/lib/foo" }`.

        error: `shop/plumb.toml` line 3: unknown key `rul` in `[machine.web.script.aa]`
          |
        3 | script.aa = { rul = "x" }
          |               ^^^
        hint: Did you mean `rule`?"#]],
    );
    check_machine(
        "script.aa = { rule = \" \", rule-file = \"a\" }",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `rule` and `rule-file` exclude each other in `[machine.web.script.aa]`
          |
        3 | script.aa = { rule = " ", rule-file = "a" }
          |                           ^^^^^^^^^"#]],
    );
    check_machine(
        "script.aa = { rule = \"\" }\nscript.bb = { rule-file = \"../b\" }\nscript.cc = 1",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `rule` in `[machine.web.script.aa]` is empty
              |
            3 | script.aa = { rule = "" }
              |                      ^^
            hint: Write `"skip"` if there is nothing to do.

            error: `shop/plumb.toml` line 4: `rule-file` in `[machine.web.script.bb]`: `../b` leads out of the definition's directory
              |
            4 | script.bb = { rule-file = "../b" }
              |                           ^^^^^^
            hint: Name a file beside the definition, like `rules/foo.sh`.

            error: `shop/plumb.toml` line 5: `cc` in `[machine.web.script]` must be a table, not a whole number
              |
            5 | script.cc = 1
              |             ^
            hint: Write it like `script.some-package = { rule = "install -d -o foo -m 0750 /var/lib/foo" }`."#]],
    );
}

#[test]
fn scripts_are_rules_or_run() {
    let scripts = |value: &str| {
        let text = format!("app = \"shop\"\n[machine.web]\n{value}\n");
        Definition::parse(&text, "plumb.toml")
            .map(|definition| definition.machines.values().next().expect("a machine").scripts)
    };
    assert_eq!(scripts("").unwrap(), Scripts::Rules);
    assert_eq!(scripts("scripts = \"rules\"").unwrap(), Scripts::Rules);
    assert_eq!(scripts("scripts = \"run\"").unwrap(), Scripts::Run);
    check_machine(
        "scripts = \"yes\"",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `scripts` in `[machine.web]`: `yes` is not a way to treat scripts
              |
            3 | scripts = "yes"
              |           ^^^^^
            hint: Write `"rules"` for Plumb's rules, or `"run"` to run the scripts in a build VM."#]],
    );
}
