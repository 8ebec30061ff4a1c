//! Texts with references to the configuration of a deployment.
//!
//! ```text
//!  {config.NAME}        the value of a setting             {{config.NAME}   the text `{config.NAME}`
//!  {secret.NAME}        a secret itself                    { a: 1 }, ${X}   what does not look like a reference is text
//!  {secret-file.NAME}   path of a file that holds it
//! ```
//! A run of braces before what looks like a reference (`KIND.NAME}`) loses one of them; a single one makes it a
//! reference. So files full of braces (JSON, nginx) are templates as they are, and still nothing that was meant as a
//! reference passes as text: a kind that is not known is seen by whoever checks the template.

/// Longest kind or name that is looked at: both are short words, and a template may be one endless line.
const MAX_WORD_BYTES: usize = 64;

/// A piece of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'t> {
    /// Stays as it is.
    Text(&'t str),
    /// Stands for something.
    Reference(Reference<'t>),
}

/// `{config.log_level}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference<'t> {
    /// `config`.
    pub kind: &'t str,
    /// `log_level`.
    pub name: &'t str,
    /// Where its brace is, in bytes from the start of the template.
    pub at: usize,
}

impl Reference<'_> {
    /// Its length in the template, braces included.
    #[must_use]
    pub fn length(&self) -> usize {
        self.kind.len() + self.name.len() + 3
    }
}

/// [`Reference::kind`] of a value.
pub const CONFIG: &str = "config";
/// [`Reference::kind`] of a secret.
pub const SECRET: &str = "secret";
/// [`Reference::kind`] of the path of a file that holds a secret.
pub const SECRET_FILE: &str = "secret-file";

/// The parts of a template, in order; together they are all of it, but for braces that keep something from being a
/// reference.
#[must_use]
pub fn parts(template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut text = 0;
    let mut from = 0;
    while let Some(open) = template[from..].find('{').map(|at| from + at) {
        let braces = template[open..].bytes().take_while(|byte| *byte == b'{').count();
        let last = open + braces - 1;
        from = last + 1;
        let Some((kind, name)) = reference(&template[from..]) else { continue };
        if braces > 1 {
            push_text(&mut parts, &template[text..last]);
            text = from;
            continue;
        }
        push_text(&mut parts, &template[text..last]);
        let found = Reference { kind, name, at: last };
        from = last + found.length();
        text = from;
        parts.push(Part::Reference(found));
    }
    push_text(&mut parts, &template[text..]);
    parts
}

fn push_text<'t>(parts: &mut Vec<Part<'t>>, text: &'t str) {
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}

/// `kind.name}` at the start of `text`.
fn reference(text: &str) -> Option<(&str, &str)> {
    let word = |text: &str, also: u8| {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == also;
        text.bytes().take(MAX_WORD_BYTES + 1).take_while(is_part).count()
    };
    let kind = word(text, b'-');
    let rest = text.get(kind..)?.strip_prefix('.')?;
    let name = word(rest, b'-');
    let is_reference = (1..=MAX_WORD_BYTES).contains(&kind)
        && (1..=MAX_WORD_BYTES).contains(&name)
        && text.as_bytes()[0].is_ascii_lowercase()
        && rest.as_bytes().get(name) == Some(&b'}');
    is_reference.then(|| (&text[..kind], &rest[..name]))
}

/// The template with every reference replaced by what `value` says of it.
///
/// # Errors
/// The first reference of which it says nothing.
pub fn fill<'t>(
    template: &'t str,
    value: &dyn Fn(&Reference<'t>) -> Option<String>,
) -> Result<String, Reference<'t>> {
    let mut filled = String::with_capacity(template.len());
    for part in parts(template) {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Reference(reference) => filled.push_str(&value(&reference).ok_or(reference)?),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> String {
        fill(template, &|reference| Some(format!("<{}:{}>", reference.kind, reference.name)))
            .expect("everything has a value")
    }

    #[test]
    fn references_and_text() {
        for (template, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("a {config.x} b", "a <config:x> b"),
            ("{config.x}{secret-file.y_2}", "<config:x><secret-file:y_2>"),
            ("${config.x}", "$<config:x>"),
            // Braces of other languages.
            ("{", "{"),
            ("{}", "{}"),
            ("server { listen 80; }", "server { listen 80; }"),
            ("{\"a\":{\"b\":1.5}}", "{\"a\":{\"b\":1.5}}"),
            ("${HOME} {name} {0.5} {a.b.c} {a.} {.a} {A.b}", "${HOME} {name} {0.5} {a.b.c} {a.} {.a} {A.b}"),
            ("{{ config.x }}", "{{ config.x }}"),
            ("{config.x", "{config.x"),
            ("{config.ä}", "{config.ä}"),
            // A brace less.
            ("{{config.x}", "{config.x}"),
            ("{{{config.x}}", "{{config.x}}"),
            ("{{config.x}{config.y}", "{config.x}<config:y>"),
            ("ä{config.x}ö", "ä<config:x>ö"),
        ] {
            assert_eq!(filled(template), expected, "{template}");
        }
    }

    #[test]
    fn what_has_no_value_is_told() {
        let missing = fill("a{config.x}b{config.y}", &|reference| (reference.name == "x").then(String::new));
        assert_eq!(missing, Err(Reference { kind: "config", name: "y", at: 12 }));
        let long = format!("{{config.{}}}", "x".repeat(65));
        assert_eq!(filled(&long), long);
    }
}
