//! What a machine is made of, and what it does.

use super::*;

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
fn rolling() {
    check_machine(
        "instances = 3\nrolling = { max_unavailable = 4, min_ready = \"2h\", batch = 2 }",
        &expect![[r#"
            error: `shop/plumb.toml` line 4: `max_unavailable` in `[machine.web.rolling]` is 4, but must be from 1 to 3
              |
            4 | rolling = { max_unavailable = 4, min_ready = "2h", batch = 2 }
              |                               ^

            error: `shop/plumb.toml` line 4: `min_ready` in `[machine.web.rolling]` is 2h, but must be at most 60min
              |
            4 | rolling = { max_unavailable = 4, min_ready = "2h", batch = 2 }
              |                                              ^^^^

            error: `shop/plumb.toml` line 4: unknown key `batch` in `[machine.web.rolling]`
              |
            4 | rolling = { max_unavailable = 4, min_ready = "2h", batch = 2 }
              |                                                    ^^^^^
            hint: Known keys: max_unavailable, min_ready, canary."#]],
    );
    check_machine(
        "instances = 3\nrolling = { canary = { instances = 4, for = \"25h\" } }\nwatch = { repair = \"pray\", unready = 3 }",
        &expect![[r#"
            error: `shop/plumb.toml` line 4: `instances` in `[machine.web.rolling.canary]` is 4, but must be from 1 to 3
              |
            4 | rolling = { canary = { instances = 4, for = "25h" } }
              |                                    ^

            error: `shop/plumb.toml` line 5: `repair` in `[machine.web.watch]`: `pray` is nothing that is done
              |
            5 | watch = { repair = "pray", unready = 3 }
              |                    ^^^^^^
            hint: Write `"restart"` to have it started again, or `"report"` to be told.

            error: `shop/plumb.toml` line 5: `unready` in `[machine.web.watch]` must be a string, not a whole number
              |
            5 | watch = { repair = "pray", unready = 3 }
              |                                      ^
            hint: Write it like `"30s"`."#]],
    );
    check_machine(
        "instances = 3\nrolling = { canary = { instances = 1 } }",
        &expect![[r#"
            error: `shop/plumb.toml` line 4: `for` is missing in `[machine.web.rolling.canary]`
              |
            4 | rolling = { canary = { instances = 1 } }
              |             ^^^^^^
            hint: Add `for = "10min"`."#]],
    );
}

#[test]
fn tasks() {
    check_machine(
        "volume.data = { size = \"1GiB\", mount = \"/srv\" }\ntask.migrate = { exec = \"/bin/true\" }",
        &expect![[r#"
            error: `shop/plumb.toml` line 4: `task` and `volume` in `[machine.web]`: a task runs beside the instances, whose volumes it does not have
              |
            4 | task.migrate = { exec = "/bin/true" }
              | ^^^^
            hint: Give the task to a machine that talks to this one, or make one for it."#]],
    );
    check_machine(
        "init = \"systemd\"\ntask.migrate = { exec = \"/bin/true\" }",
        &expect![[r#"
        error: `shop/plumb.toml` line 4: `task` and `init` in `[machine.web]`: tasks need Plumb's own PID 1: systemd starts everything
          |
        4 | task.migrate = { exec = "/bin/true" }
          | ^^^^
        hint: Give the task to a machine that talks to this one, or make one for it."#]],
    );
    check_machine(
        "task.migrate = { when = \"soon\", timeout = \"2d\" }\ntask.Bad = { exec = \"'\" }",
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `exec` is missing in `[machine.web.task.migrate]`
              |
            3 | task.migrate = { when = "soon", timeout = "2d" }
              |      ^^^^^^^
            hint: Add `exec = "/srv/api/migrate"`.

            error: `shop/plumb.toml` line 3: `when` in `[machine.web.task.migrate]`: `soon` is no time of an upgrade
              |
            3 | task.migrate = { when = "soon", timeout = "2d" }
              |                         ^^^^^^
            hint: Write `"before"` its machine is replaced, `"after"` the whole set is ready, or `"reverse"` before a rollback below the fence.

            error: `shop/plumb.toml` line 3: `timeout` in `[machine.web.task.migrate]`: `2d` is not a duration
              |
            3 | task.migrate = { when = "soon", timeout = "2d" }
              |                                           ^^^^
            hint: A duration is a whole number and `ms`, `s`, `min` or `h`, like `30s`.

            error: `shop/plumb.toml` line 4: `Bad` is not a valid task name: 1 to 40 of a-z, 0-9 and `-`, starting with a letter, not ending in `-`
              |
            4 | task.Bad = { exec = "'" }
              |      ^^^

            error: `shop/plumb.toml` line 4: `exec` in `[machine.web.task.Bad]` has a quote that is not closed
              |
            4 | task.Bad = { exec = "'" }
              |                     ^^^
            hint: Words are quoted as in a shell; a quote inside a word is written `\'`."#]],
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

#[test]
fn init_is_plumb_or_systemd() {
    let init = |value: &str| {
        let text = format!("app = \"shop\"\n[machine.web]\n{value}\n");
        Definition::parse(&text, "plumb.toml")
            .map(|definition| definition.machines.values().next().expect("a machine").init)
    };
    assert_eq!(init("").unwrap(), Init::Plumb);
    assert_eq!(init("init = \"plumb\"").unwrap(), Init::Plumb);
    assert_eq!(init("init = \"systemd\"").unwrap(), Init::Systemd);
    check_machine(
        "init = \"runit\"",
        &expect![[r#"
        error: `shop/plumb.toml` line 3: `init` in `[machine.web]`: `runit` is no PID 1 of a machine
          |
        3 | init = "runit"
          |        ^^^^^^^
        hint: Write `"plumb"` for Plumb's own, or `"systemd"` for the packages' units as they are."#]],
    );
}
