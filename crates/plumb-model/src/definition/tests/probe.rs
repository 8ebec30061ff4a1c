//! `[check.NAME]`.

use expect_test::{Expect, expect};

use super::*;
use crate::check::Probe;

const MACHINES: &str = "app = \"shop\"\n[machine.web]\nservice.nginx = {}\n[machine.db]\nservice.x = {}\n";

/// What is said of one check.
fn check_probe(lines: &str, expected: &Expect) {
    let text = format!("{MACHINES}[check.one]\n{lines}\n");
    let found = match Definition::parse(&text, "plumb.toml") {
        Ok(definition) => serde_json::to_string(&definition.checks).expect("JSON"),
        Err(errors) => errors.to_string(),
    };
    expected.assert_eq(&found);
}

#[test]
fn what_can_be_checked() {
    check_probe(
        "http = \"web:80\"",
        &expect![[
            r#"{"one":{"probe":{"http":{"at":{"machine":"web","port":80},"path":"/","method":"GET","headers":{},"body":null,"status":200,"contains":null}},"timeout_ms":30000,"retry":0}}"#
        ]],
    );
    check_probe(
        "http = \"web:80/orders?a=b\"\nbody = \"x\"\nstatus = 303\ncontains = \"ok\"\nheader = { Accept = \"text/html\" }\ntimeout = \"2min\"\nretry = 2",
        &expect![[
            r#"{"one":{"probe":{"http":{"at":{"machine":"web","port":80},"path":"/orders?a=b","method":"POST","headers":{"Accept":"text/html"},"body":"x","status":303,"contains":"ok"}},"timeout_ms":120000,"retry":2}}"#
        ]],
    );
    check_probe(
        "tcp = \"db:5432\"",
        &expect![[r#"{"one":{"probe":{"tcp":{"machine":"db","port":5432}},"timeout_ms":30000,"retry":0}}"#]],
    );
    check_probe(
        "run = \"checks/order.py --fast\"\nfiles = [\"checks/\"]\nports = [\"db:5432\"]",
        &expect![[
            r#"{"one":{"probe":{"run":{"command":"checks/order.py --fast","files":["checks"],"ports":[{"machine":"db","port":5432}]}},"timeout_ms":30000,"retry":0}}"#
        ]],
    );
    check_probe(
        "exec = \"psql -c 'select 1'\"\nmachine = \"db\"\nuser = \"postgres\"",
        &expect![[
            r#"{"one":{"probe":{"exec":{"command":"psql -c 'select 1'","machine":"db","user":"postgres"}},"timeout_ms":30000,"retry":0}}"#
        ]],
    );
}

#[test]
fn mistakes_are_told() {
    check_probe(
        "timeout = \"1s\"",
        &expect![[r#"
        error: `plumb.toml` line 6: nothing to do in `[check.one]`
          |
        6 | [check.one]
          |        ^^^
        hint: Add one of `http = "web:80/"`, `tcp = "db:5432"`, `run = "checks/order.sh"`, `exec = "…"`."#]],
    );
    check_probe(
        "url = \"http://web/\"",
        &expect![[r#"
        error: `plumb.toml` line 6: nothing to do in `[check.one]`
          |
        6 | [check.one]
          |        ^^^
        hint: Did you mean `http`?"#]],
    );
    check_probe(
        "http = \"web:80\"\ntcp = \"web:80\"",
        &expect![[r#"
        error: `plumb.toml` line 6: both `http` and `tcp` in `[check.one]`
          |
        6 | [check.one]
          |        ^^^
        hint: Make two checks of it; they run side by side."#]],
    );
    check_probe(
        "http = \"http://web:80/\"",
        &expect![[r#"
        error: `plumb.toml` line 7: `http` in `[check.one]`: `http://web:80/` is not a machine, a port and a path
          |
        7 | http = "http://web:80/"
          |        ^^^^^^^^^^^^^^^^
        hint: Write it like `web:80/health`: no scheme, and a machine of this application."#]],
    );
    check_probe(
        "http = \"wbe:80/\"",
        &expect![[r#"
        error: `plumb.toml` line 7: a check names the machine `wbe`, which is not defined
          |
        7 | http = "wbe:80/"
          |        ^^^^^^^^^
        hint: Did you mean `web`?"#]],
    );
    check_probe(
        "http = \"web:80/\"\nmethod = \"get\"\nstatus = 42\nmachine = \"web\"",
        &expect![[r#"
            error: `plumb.toml` line 8: `method` in `[check.one]`: `get` is not known
              |
            8 | method = "get"
              |          ^^^^^
            hint: Did you mean `GET`?

            error: `plumb.toml` line 9: `status` in `[check.one]` is 42, but must be from 100 to 599
              |
            9 | status = 42
              |          ^^

            error: `plumb.toml` line 10: unknown key `machine` in `[check.one]`
               |
            10 | machine = "web"
               | ^^^^^^^
            hint: Known keys: body, contains, header, http, method, retry, status, timeout."#]],
    );
    check_probe(
        "http = \"web:80/\"\nmethod = \"HEAD\"\nbody = \"x\"",
        &expect![[r#"
        error: `plumb.toml` line 9: `body` in `[check.one]`: a request `HEAD` has no body
          |
        9 | body = "x"
          | ^^^^"#]],
    );
    check_probe(
        "http = \"web:80/\"\nheader = { \"A b\" = \"1\\n2\" }\ncontains = \"\"",
        &expect![[r#"
        error: `plumb.toml` line 8: `A b` is not the name of a header field
          |
        8 | header = { "A b" = "1\n2" }
          |            ^^^^^

        error: `plumb.toml` line 8: `A b` in `[check.one.header]` holds more than visible ASCII
          |
        8 | header = { "A b" = "1\n2" }
          |                    ^^^^^^

        error: `plumb.toml` line 9: `contains` in `[check.one]` is empty, which every answer contains
          |
        9 | contains = ""
          |            ^^"#]],
    );
    check_probe(
        "tcp = \"db\"",
        &expect![[r#"
        error: `plumb.toml` line 7: `tcp` in `[check.one]`: `db` is not a machine and a port
          |
        7 | tcp = "db"
          |       ^^^^
        hint: Write it like `db:5432`."#]],
    );
    check_probe(
        "run = \"a 'b\"\nfiles = [\"../x\"]\nretry = 99",
        &expect![[r#"
        error: `plumb.toml` line 7: `run` in `[check.one]` has a quote that is not closed
          |
        7 | run = "a 'b"
          |       ^^^^^^
        hint: Words are quoted as in a shell; a quote inside a word is written `\'`.

        error: `plumb.toml` line 8: `files` in `[check.one]`: `../x` leads out of the definition's directory
          |
        8 | files = ["../x"]
          |          ^^^^^^
        hint: Name a file or folder beside the definition, like `checks/`.

        error: `plumb.toml` line 9: `retry` in `[check.one]` is 99, but must be from 0 to 10
          |
        9 | retry = 99
          |         ^^"#]],
    );
    check_probe(
        "exec = \"true\"\nuser = \"Root\"",
        &expect![[r#"
        error: `plumb.toml` line 6: `machine` is missing in `[check.one]`
          |
        6 | [check.one]
          |        ^^^
        hint: Add `machine = "db"`.

        error: `plumb.toml` line 8: `user` in `[check.one]`: `Root` is not a user or group name
          |
        8 | user = "Root"
          |        ^^^^^^
        hint: Names are a-z, 0-9, `-` and `_`, start with a letter or `_`, and have at most 32 characters."#]],
    );
    check_probe(
        "exec = \"true\"\nmachine = \"dbb\"\ntimeout = \"2h\"",
        &expect![[r#"
        error: `plumb.toml` line 8: a check names the machine `dbb`, which is not defined
          |
        8 | machine = "dbb"
          |           ^^^^^
        hint: Did you mean `db`?

        error: `plumb.toml` line 9: `timeout` in `[check.one]` is 2h, but must be at most 60min
          |
        9 | timeout = "2h"
          |           ^^^^"#]],
    );
}

#[test]
fn readiness_has_its_name() {
    let text = format!("{MACHINES}[check.ready]\ntcp = \"db:1\"\n");
    let errors = Definition::parse(&text, "plumb.toml").expect_err("refused").to_string();
    assert!(errors.contains("a check cannot be called `ready`"), "{errors}");
}

#[test]
fn a_definition_without_checks_is_what_it_was() {
    let definition = Definition::parse(MACHINES, "plumb.toml").expect("good");
    assert!(!serde_json::to_string(&definition).expect("JSON").contains("check"));
    let text = format!("{MACHINES}[check.x]\nrun = \"a b\"\n");
    let definition = Definition::parse(&text, "plumb.toml").expect("good");
    let Probe::Run(run) = &definition.checks.values().next().expect("a check").probe else {
        panic!("a program")
    };
    assert_eq!(run.argv(), Some(vec!["a".to_owned(), "b".to_owned()]));
}
