//! Unit names and the `%` specifiers of systemd.unit(5) "SPECIFIERS".

use std::borrow::Cow;

use super::{MAX_WORD_BYTES, UnitError};

/// Suffixes of units that are no services.
const OTHER_TYPES: [&str; 10] =
    [".socket", ".target", ".timer", ".mount", ".automount", ".path", ".slice", ".scope", ".swap", ".device"];

/// A unit name in its parts: `postgresql@15-main.service` is prefix `postgresql`, instance `15-main`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnitName {
    /// With `.service`.
    pub full: String,
    /// Before the `@`, or before the suffix.
    pub prefix: String,
    /// Between `@` and suffix.
    pub instance: Option<String>,
}

impl UnitName {
    /// Reads a name with or without `.service`.
    pub(super) fn parse(name: &str) -> Result<UnitName, UnitError> {
        let refuse = || UnitError::Name { name: name.to_owned() };
        let stem = name.strip_suffix(".service").unwrap_or(name);
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        // 255 is the longest file name, which a unit name is.
        if stem.is_empty() || name.len() > 255 || stem.starts_with(['.', '@']) || !stem.chars().all(allowed) {
            return Err(refuse());
        }
        if OTHER_TYPES.iter().any(|suffix| stem.ends_with(suffix)) {
            return Err(refuse());
        }
        let (prefix, instance) = match stem.split_once('@') {
            Some((_, "")) => return Err(UnitError::InstanceMissing { name: format!("{stem}.service") }),
            Some((prefix, instance)) => (prefix, Some(instance.to_owned())),
            None => (stem, None),
        };
        Ok(UnitName { full: format!("{stem}.service"), prefix: prefix.to_owned(), instance })
    }

    /// `postgresql@.service` for an instance.
    pub(super) fn template(&self) -> Option<String> {
        self.instance.is_some().then(|| format!("{}@.service", self.prefix))
    }

    /// Without `.service`.
    pub(super) fn stem(&self) -> &str {
        self.full.strip_suffix(".service").unwrap_or(&self.full)
    }

    /// Resolves the specifiers in `text`. Like systemd, an unknown letter stays as written.
    pub(super) fn expand(&self, directive: &str, text: &str) -> Result<String, UnitError> {
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek().copied()) {
                ('%', Some(letter)) => {
                    chars.next();
                    match (self.value(letter), unknowable(letter)) {
                        (Some(value), _) => out.push_str(&value),
                        (None, Some(meaning)) => return Err(self.unknown(directive, letter, meaning)),
                        (None, None) => out.extend(['%', letter]),
                    }
                }
                _ => out.push(c),
            }
            if out.len() > MAX_WORD_BYTES {
                return Err(UnitError::Command {
                    service: format!("{directive}= of {}", self.full),
                    command: text.chars().take(80).collect(),
                    reason: format!("longer than {MAX_WORD_BYTES} bytes"),
                });
            }
        }
        Ok(out)
    }

    fn unknown(&self, directive: &str, specifier: char, meaning: &'static str) -> UnitError {
        UnitError::Specifier {
            service: self.full.clone(),
            directive: directive.to_owned(),
            specifier,
            meaning,
        }
    }

    /// The value of a specifier that is known when an image is built.
    fn value(&self, letter: char) -> Option<Cow<'_, str>> {
        let instance = self.instance.as_deref().unwrap_or_default();
        Some(match letter {
            '%' => "%".into(),
            'n' => self.full.as_str().into(),
            'N' => self.stem().into(),
            'p' => self.prefix.as_str().into(),
            'P' => unescape(&self.prefix).into(),
            'i' => instance.into(),
            'I' => unescape(instance).into(),
            'j' => last_part(&self.prefix).into(),
            'J' => unescape(last_part(&self.prefix)).into(),
            'f' => {
                let path = unescape(if instance.is_empty() { &self.prefix } else { instance });
                format!("/{}", path.trim_start_matches('/')).into()
            }
            't' => "/run".into(),
            'S' => "/var/lib".into(),
            'C' => "/var/cache".into(),
            'L' => "/var/log".into(),
            'E' => "/etc".into(),
            'T' => "/tmp".into(),
            'V' => "/var/tmp".into(),
            // systemd.unit(5): these are of the user who runs the service manager, whatever `User=` says.
            'u' | 'g' => "root".into(),
            'U' | 'G' => "0".into(),
            'h' => "/root".into(),
            's' => "/bin/sh".into(),
            _ => return None,
        })
    }
}

/// What a specifier stands for whose value only exists at run time.
fn unknowable(letter: char) -> Option<&'static str> {
    Some(match letter {
        'H' | 'l' | 'q' => "the host name",
        'm' => "the machine id",
        'b' => "the boot id",
        'v' => "the kernel release",
        'd' => "the credentials directory",
        'c' | 'r' | 'R' => "a control group",
        'a' | 'A' | 'B' | 'M' | 'o' | 'w' | 'W' => "a property of the running system",
        'y' | 'Y' => "the path of the unit file",
        _ => return None,
    })
}

/// The part behind the last `-`.
fn last_part(prefix: &str) -> &str {
    prefix.rsplit('-').next().unwrap_or(prefix)
}

/// systemd.unit(5) "STRING ESCAPING FOR INCLUSION IN UNIT NAMES", backwards: `-` is `/`, `\x2d` is `-`. What is no
/// UTF-8 afterwards is replaced: no path of an image holds it.
fn unescape(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = bytes[at..].strip_prefix(b"\\x").and_then(|rest| rest.get(..2));
        let decoded = escaped.and_then(|hex| {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(hex[0])? * 16 + digit(hex[1])?).ok()
        });
        match decoded {
            Some(0) | None => out.push(if *byte == b'-' { b'/' } else { *byte }),
            Some(decoded) => out.push(decoded),
        }
        at += if matches!(decoded, Some(0) | None) { 1 } else { 4 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = UnitName::parse("postgresql@15-main").unwrap();
        assert_eq!(name.full, "postgresql@15-main.service");
        assert_eq!(name.template().as_deref(), Some("postgresql@.service"));
        assert_eq!(UnitName::parse("php8.2-fpm").unwrap().full, "php8.2-fpm.service");
        for bad in ["", ".service", "a/b", "a b", "x.socket", "@x", "ä"] {
            assert!(matches!(UnitName::parse(bad), Err(UnitError::Name { .. })), "{bad}");
        }
        assert!(matches!(UnitName::parse("postgresql@"), Err(UnitError::InstanceMissing { .. })));
    }

    #[test]
    fn specifiers() {
        let name = UnitName::parse(r"my-db@15-main\x2dx").unwrap();
        let check = |text: &str, expect: &str| assert_eq!(name.expand("X", text).unwrap(), expect, "{text}");
        check("%n %N", r"my-db@15-main\x2dx.service my-db@15-main\x2dx");
        check("%p %P %j", "my-db my/db db");
        check("%i %I %f", r"15-main\x2dx 15/main-x /15/main-x");
        check(
            "%t %S %C %L %E %u %U %h %% %Z %",
            "/run /var/lib /var/cache /var/log /etc root 0 /root % %Z %",
        );
        assert_eq!(
            name.expand("ExecStart", "%H").unwrap_err().to_string(),
            r"`ExecStart` of `my-db@15-main\x2dx.service` uses `%H` (the host name), which is unknown when the image is built"
        );
    }
}
