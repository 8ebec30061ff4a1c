use super::*;

fn key(kind: Kind) -> Key {
    Key {
        kind,
        about: String::new(),
        default: None,
        required: true,
        min: None,
        max: None,
        one_of: Vec::new(),
        pattern: None,
        max_length: None,
        unit: None,
        generate: false,
    }
}

fn name(text: &str) -> ConfigName {
    text.parse().expect("a name")
}

fn configuration(values: &[(&str, Value)], secrets: &[&str]) -> Configuration {
    Configuration {
        format: 1,
        deployment: "shop-prod".parse().expect("a name"),
        app: "shop".parse().expect("a name"),
        number: 3,
        previous: None,
        created_s: 0,
        author: "ann@host".to_owned(),
        values: values.iter().map(|(text, value)| (name(text), value.clone())).collect(),
        secrets: secrets.iter().map(|text| (name(text), Digest::of(text.as_bytes()))).collect(),
    }
}

#[test]
fn names() {
    for good in ["a", "log_level", "x0"] {
        assert!(good.parse::<ConfigName>().is_ok(), "{good}");
    }
    for bad in ["", "A", "0a", "_a", "a-b", "a.b", &"a".repeat(41)] {
        assert!(bad.parse::<ConfigName>().is_err(), "{bad}");
    }
}

#[test]
fn values_are_checked() {
    let workers = Key { min: Some(1), max: Some(64), ..key(Kind::Integer) };
    let level =
        Key { one_of: vec![Value::Text("info".into()), Value::Text("warn".into())], ..key(Kind::String) };
    let host = Key { pattern: Some("[a-z]+|[0-9]+".into()), max_length: Some(8), ..key(Kind::String) };
    let cache = Key { min: Some(1 << 20), max: Some(1 << 30), unit: Some("MiB".into()), ..key(Kind::Size) };
    for (key, text, expected) in [
        (&workers, "64", None),
        (&workers, "0", Some("is 0, but must be from 1 to 64")),
        (&workers, "many", Some("must be a whole number, not `many`")),
        (&level, "warn", None),
        (&level, "loud", Some("is `loud`, but must be one of `info`, `warn`")),
        (&host, "abc", None),
        (&host, "abc1", Some("is `abc1`, but must match `[a-z]+|[0-9]+`")),
        (&host, "abcdefghi", Some("has 9 bytes, at most 8 are allowed")),
        (&key(Kind::Boolean), "true", None),
        (&key(Kind::Boolean), "yes", Some("must be `true` or `false`, not `yes`")),
        (&key(Kind::String), "a\0b", Some("holds a NUL character")),
        (&key(Kind::Secret), "hush", Some("is a secret")),
        (&cache, "2048KiB", None),
        (&cache, "1023KiB", Some("is 1023KiB, but must be from 1MiB to 1GiB")),
        (&cache, "1025KiB", Some("is 1025KiB, which is no whole number of MiB")),
        (
            &cache,
            "64MB",
            Some("is `64MB`, but must be a size, a whole number and one of `B` `KiB` `MiB` `GiB` `TiB`"),
        ),
        (&key(Kind::Duration), "90 s", None),
    ] {
        let found = key.read(text).err().map(|refused| refused.0);
        assert_eq!(found.as_deref(), expected, "{text}");
    }
}

#[test]
fn settings_are_schema_and_configuration_together() {
    let schema: Schema = [
        (
            name("level"),
            Key { default: Some(Value::Text("info".into())), required: false, ..key(Kind::String) },
        ),
        (name("workers"), Key { max: Some(8), ..key(Kind::Integer) }),
        (name("cache"), Key { unit: Some("KiB".into()), ..key(Kind::Size) }),
        (name("note"), Key { required: false, ..key(Kind::String) }),
        (name("password"), key(Kind::Secret)),
    ]
    .into();
    let unfit = settings(&schema, None).expect_err("three are missing");
    let told: Vec<&str> = unfit.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(told, ["cache", "password", "workers"]);
    assert!(unfit.iter().all(|one| one.refused.is_none()));

    // What the schema does not know stays out: another release may know it.
    let full = configuration(
        &[
            ("workers", Value::Integer(4)),
            ("cache", Value::Text("2MiB".into())),
            ("other", Value::Boolean(true)),
        ],
        &["password", "old"],
    );
    let found = settings(&schema, Some(&full)).expect("all is there");
    assert_eq!(found.configuration, Some(ConfigRef { number: 3, digest: full.digest() }));
    let values: Vec<String> = found.values.iter().map(|(name, text)| format!("{name}={text}")).collect();
    assert_eq!(values, ["cache=2048", "level=info", "workers=4"]);
    assert_eq!(found.secrets.len(), 1);

    let cache = ("cache", Value::Text("1MiB".into()));
    let large = configuration(&[("workers", Value::Integer(9)), cache], &["password"]);
    let unfit = settings(&schema, Some(&large)).expect_err("too many");
    assert_eq!(unfit[0].refused, Some(Refused("is 9, but must be at most 8".into())));
}

#[test]
fn the_document_has_one_form() {
    let one = configuration(
        &[("a", Value::Integer(-1)), ("b", Value::Boolean(false)), ("c", Value::Text("1".into()))],
        &["s"],
    );
    let bytes = one.to_bytes();
    assert_eq!(Configuration::from_bytes(&bytes).expect("canonical"), one);
    assert!(String::from_utf8(bytes).expect("text").contains(r#""values":{"a":-1,"b":false,"c":"1"}"#));
}
