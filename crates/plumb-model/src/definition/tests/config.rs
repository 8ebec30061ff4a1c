//! What a deployment can set, and what refers to it.

use super::*;
use crate::config::{Kind, Value};

#[test]
fn a_schema() {
    let text = r#"
app = "shop"
[config]
greeting = "hello"
log_level = { type = "string", default = "info", one_of = ["info", "warn"], about = "how much is logged" }
workers = { type = "integer", default = 2, min = 1, max = 64 }
note = { type = "string", required = false, pattern = "[a-z ]*", max_length = 20 }
cache = { type = "size", default = "64MiB", min = "1 MiB", max = "2048MiB", unit = "KiB" }
patience = { type = "duration", default = "90s", max = "1h" }
db_password = { type = "secret" }
session_key = { type = "secret", generate = true }
[machine.api]
middleware = ["python3"]
config."/etc/app.conf" = "api/app.conf.in"
config."/etc/app.key" = { from = "key.in", owner = "api", mode = "0400" }
[machine.api.service.api]
exec = "api"
environment = { LEVEL = "{config.log_level}", SESSION = "{secret.session_key}", OTHER = "{} ${X} {{config.x}" }
[machine.api.task.migrate]
exec = "api migrate"
directory = "/srv/api"
environment = { PASSWORD_FILE = "{secret-file.db_password}", STEPS = "all" }
"#;
    let definition = Definition::parse(text, "plumb.toml").expect("good");
    let told: Vec<String> = definition.config.iter().map(|(name, key)| format!("{name}: {key}")).collect();
    expect![[r#"
        [
            "cache: size, 64MiB unless set, from 1MiB to 2GiB, told in KiB",
            "db_password: secret, required",
            "greeting: string, hello unless set",
            "log_level: string, info unless set, one of info warn",
            "note: string, optional, matches [a-z ]*, at most 20 bytes",
            "patience: duration, 90s unless set, at most 1h",
            "session_key: secret, made at random unless set",
            "workers: integer, 2 unless set, from 1 to 64",
        ]
    "#]]
    .assert_debug_eq(&told);
    let api = &definition.machines[&"api".parse().expect("a name")];
    assert_eq!(api.config.len(), 2);
    assert_eq!(api.config[1].mode, Some(0o400));
    let names: Vec<String> = api.environment_names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["db_password", "log_level", "session_key"]);
    let service = &api.services[&"api".parse().expect("a name")];
    assert_eq!(service.environment["OTHER"], "{} ${X} {config.x}");
    let task = &api.tasks[&"migrate".parse().expect("a name")];
    assert_eq!(secret_files(&task.settings).into_iter().collect::<Vec<_>>(), ["db_password"]);
    assert_eq!((task.environment["STEPS"].as_str(), task.directory.as_deref()), ("all", Some("/srv/api")));

    // Those that only templates name are known by whoever read the templates.
    let used = check_template(
        "x {config.greeting} {config.workers} {config.cache} {config.patience}",
        "app.conf.in",
        &definition.config,
    );
    let unused =
        definition.refuse_unused((text, "plumb.toml"), &used.expect("good")).expect_err("one is left");
    expect![[r#"
        error: `plumb.toml` line 7: `note` in `[config]` is used by nothing
          |
        7 | note = { type = "string", required = false, pattern = "[a-z ]*", max_length = 20 }
          | ^^^^
        hint: Refer to it in `environment` of a service or a task, or in a file of `config`, like `{config.note}`, or remove it."#]]
    .assert_eq(&unused.to_string());
    let wrong = check_template(
        "a\n  b = {config.worker}; {secret-file.db_password}",
        "app.conf.in",
        &definition.config,
    );
    expect![[r"
        error: `app.conf.in` line 2: template: `{config.worker}` is not in `[config]`
          |
        2 |   b = {config.worker}; {secret-file.db_password}
          |       ^^^^^^^^^^^^^^^
        hint: Did you mean `workers`?

        error: `app.conf.in` line 2: the file of a secret belongs to a service, and a template to none
          |
        2 |   b = {config.worker}; {secret-file.db_password}
          |                        ^^^^^^^^^^^^^^^^^^^^^^^^^
        hint: `{secret.db_password}` is the secret itself."]]
    .assert_eq(&wrong.expect_err("two").to_string());
}

#[test]
fn braces_mean_nothing_without_a_schema() {
    let text = "app = \"shop\"\n[machine.web.service.web]\nexec = \"web\"\nenvironment = { A = \"{a.b} {{config.x}\" }\n";
    let definition = Definition::parse(text, "plumb.toml").expect("as it was before");
    let web = &definition.machines[&"web".parse().expect("a name")];
    assert!(web.environment_names().is_empty());
    let text = text.replace("{a.b}", "{config.b}");
    let error = Definition::parse(&text, "plumb.toml").expect_err("could be nothing else").to_string();
    assert!(error.contains("`{config.b}` is not in `[config]`"), "{error}");
}

#[test]
fn a_short_form_is_type_and_default() {
    let text = "app = \"shop\"\n[config]\na = true\nb = -3\n[machine.web]\n";
    let definition = Definition::parse(text, "plumb.toml").expect("good");
    let kinds: Vec<_> = definition.config.values().map(|key| (key.kind, key.default.clone())).collect();
    assert_eq!(
        kinds,
        [(Kind::Boolean, Some(Value::Boolean(true))), (Kind::Integer, Some(Value::Integer(-3)))]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "what is said stands beside the text that it is said about")]
fn mistakes() {
    check(
        r#"app = "shop"
[config]
Level = "x"
a = { type = "strnig" }
b = { default = 1 }
c = { type = "integer", min = 5, max = 1 }
d = { type = "integer", max = 10, default = 11 }
e = { type = "secret", default = "x" }
f = { type = "string", required = true, default = "x" }
g = { type = "string", pattern = "(" }
h = { type = "string", one-of = ["a"] }
i = { type = "string", one_of = ["a", 1] }
k = { type = "size", min = "1MB", unit = "MB" }
l = { type = "duration", default = "90s", max = "1min" }
m = { type = "string", generate = true }
j = 1.5
port = 80
key = { type = "secret" }
[machine.web]
app."/etc/x" = "x"
config."/etc/x" = "x"
config."/run/y" = "y"
[machine.web.service.web]
exec = "web"
environment = { A = "{config.prot}", B = "{config.key}", C = "{secret.port}", D = "{confg.port}", E = "{secret.other}" }
"#,
        &expect![[r#"
            error: `shop/plumb.toml` line 3: `Level` is not the name of a setting: 1 to 40 of a-z, 0-9 and `_`, starting with a letter
              |
            3 | Level = "x"
              | ^^^^^

            error: `shop/plumb.toml` line 4: `type` in `[config.a]`: `strnig` is no type
              |
            4 | a = { type = "strnig" }
              |              ^^^^^^^^
            hint: Did you mean `string`?

            error: `shop/plumb.toml` line 5: `type` is missing in `[config.b]`
              |
            5 | b = { default = 1 }
              | ^
            hint: Add `type = "string"`.

            error: `shop/plumb.toml` line 6: `c` in `[config]`: `min` is 5, above `max`, which is 1
              |
            6 | c = { type = "integer", min = 5, max = 1 }
              | ^

            error: `shop/plumb.toml` line 7: `default` in `[config.d]` is 11, but must be at most 10
              |
            7 | d = { type = "integer", max = 10, default = 11 }
              |                                             ^^

            error: `shop/plumb.toml` line 8: `default` in `[config.e]` has no meaning for a secret
              |
            8 | e = { type = "secret", default = "x" }
              |                        ^^^^^^^
            hint: It is for values of type string, integer, boolean, size, duration.

            error: `shop/plumb.toml` line 9: `f` in `[config]` is required and has a default
              |
            9 | f = { type = "string", required = true, default = "x" }
              |                        ^^^^^^^^
            hint: What has a default is always set: keep one of both.

            error: `shop/plumb.toml` line 10: `pattern` in `[config.g]` has the pattern `(`: found open group without closing ')'
               |
            10 | g = { type = "string", pattern = "(" }
               |                                  ^^^

            error: `shop/plumb.toml` line 11: unknown key `one-of` in `[config.h]`
               |
            11 | h = { type = "string", one-of = ["a"] }
               |                        ^^^^^^
            hint: Did you mean `one_of`?

            error: `shop/plumb.toml` line 12: `one_of` in `[config.i]` must be of type string
               |
            12 | i = { type = "string", one_of = ["a", 1] }
               |                                       ^

            error: `shop/plumb.toml` line 13: `min` in `[config.k]`: `1MB` is no size
               |
            13 | k = { type = "size", min = "1MB", unit = "MB" }
               |                            ^^^^^
            hint: Write it like `"64MiB"`.

            error: `shop/plumb.toml` line 13: `unit` in `[config.k]`: `MB` is no unit of a size
               |
            13 | k = { type = "size", min = "1MB", unit = "MB" }
               |                                          ^^^^
            hint: Known units: B, KiB, MiB, GiB, TiB.

            error: `shop/plumb.toml` line 14: `default` in `[config.l]` is 90s, but must be at most 1min
               |
            14 | l = { type = "duration", default = "90s", max = "1min" }
               |                                    ^^^^^

            error: `shop/plumb.toml` line 15: `generate` in `[config.m]` has no meaning for a string
               |
            15 | m = { type = "string", generate = true }
               |                        ^^^^^^^^
            hint: It is for values of type secret.

            error: `shop/plumb.toml` line 16: `j` in `[config]` must be a table, not a fraction
               |
            16 | j = 1.5
               |     ^^^
            hint: Write it like `log_level = { type = "string", default = "info" }`.

            error: `shop/plumb.toml` line 21: `/etc/x` stands twice in `[machine.web]`
               |
            21 | config."/etc/x" = "x"
               |        ^^^^^^^^

            error: `shop/plumb.toml` line 22: `config` in `[machine.web]`: `/run/y` is below `/run`, which is made new at every boot
               |
            22 | config."/run/y" = "y"
               |        ^^^^^^^^

            error: `shop/plumb.toml` line 25: `A` in `[machine.web.service.web.environment]`: `{config.prot}` is not in `[config]`
               |
            25 | environment = { A = "{config.prot}", B = "{config.key}", C = "{secret.port}", D = "{confg.port}", E = "{secret.other}" }
               |                     ^^^^^^^^^^^^^^^
            hint: Did you mean `port`?

            error: `shop/plumb.toml` line 25: `B` in `[machine.web.service.web.environment]`: `{config.key}`, but `key` is a secret
               |
            25 | environment = { A = "{config.prot}", B = "{config.key}", C = "{secret.port}", D = "{confg.port}", E = "{secret.other}" }
               |                                          ^^^^^^^^^^^^^^
            hint: `{secret-file.key}` is the path of a file that holds it, `{secret.key}` the secret itself.

            error: `shop/plumb.toml` line 25: `C` in `[machine.web.service.web.environment]`: `{secret.port}`, but `port` is no secret
               |
            25 | environment = { A = "{config.prot}", B = "{config.key}", C = "{secret.port}", D = "{confg.port}", E = "{secret.other}" }
               |                                                              ^^^^^^^^^^^^^^^
            hint: Write `{config.port}`.

            error: `shop/plumb.toml` line 25: `D` in `[machine.web.service.web.environment]`: `{confg.port}` refers to nothing that there is
               |
            25 | environment = { A = "{config.prot}", B = "{config.key}", C = "{secret.port}", D = "{confg.port}", E = "{secret.other}" }
               |                                                                                   ^^^^^^^^^^^^^^
            hint: Did you mean `config`?
            hint: `{{confg.port}` stands for the text itself.

            error: `shop/plumb.toml` line 25: `E` in `[machine.web.service.web.environment]`: `{secret.other}` is not in `[config]`
               |
            25 | environment = { A = "{config.prot}", B = "{config.key}", C = "{secret.port}", D = "{confg.port}", E = "{secret.other}" }
               |                                                                                                       ^^^^^^^^^^^^^^^^
            hint: Add `other = { type = "secret" }` to `[config]`."#]],
    );
}
