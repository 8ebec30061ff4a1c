//! Canonical JSON as TUF signs it: keys sorted, no space, only `"` and `\` escaped, whole numbers only
//! (<https://wiki.laptop.org/go/Canonical_JSON>).

use serde_json::Value;

/// Deepest nesting that is written; metadata has some six levels.
const MAX_DEPTH: usize = 32;

/// The canonical bytes, or `None` for what has none: a fraction, a number beyond 64 bits, or nesting without end.
#[must_use]
pub fn canonical(value: &Value) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    write(value, &mut out, MAX_DEPTH)?;
    Some(out)
}

fn write(value: &Value, out: &mut Vec<u8>, depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(value) => out.extend(value.to_string().bytes()),
        Value::Number(number) => {
            let whole =
                number.as_i64().map(|n| n.to_string()).or_else(|| number.as_u64().map(|n| n.to_string()))?;
            out.extend(whole.bytes());
        }
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out, depth)?;
            }
            out.push(b']');
        }
        Value::Object(map) => {
            // Sorted here, because a feature of the JSON library that another crate may switch on keeps their order.
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            out.push(b'{');
            for (at, (key, value)) in fields.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                string(key, out);
                out.push(b':');
                write(value, out, depth)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::canonical;

    #[test]
    fn one_form() {
        let value = json!({"b": [1, true, null], "a": "line\n\"quoted\" \\ ä", "": {}});
        let text = String::from_utf8(canonical(&value).expect("canonical")).expect("text");
        assert_eq!(text, "{\"\":{},\"a\":\"line\n\\\"quoted\\\" \\\\ ä\",\"b\":[1,true,null]}");
        assert_eq!(canonical(&json!(1.5)), None);
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert_eq!(canonical(&deep), None);
    }
}
