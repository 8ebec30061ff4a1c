//! The small languages inside strings: sizes, durations, paths, ports, modes.

use std::net::Ipv4Addr;

use super::Publish;
use super::diagnostic::{Report, quoted};
use super::table::Field;
use crate::config::measure;

/// Mounted fresh at every boot by PID 1, so nothing of an image or a volume can lie there.
const RESERVED: &[&str] = &["/dev", "/proc", "/run", "/sys", "/tmp"];

/// Longest time that something stays, seconds: ten years. What is meant to stay longer has no end.
const MAX_LONG_TIME_S: u64 = 10 * 366 * 86_400;

/// A size like `256MiB` in MiB.
pub(super) fn size_mib(field: &Field<'_>, range: (u64, u64), report: &mut Report<'_>) -> Option<u64> {
    let text = field.text("\"256MiB\"", report)?;
    let Some(mib) = measure(text, &[("MiB", 1), ("GiB", 1 << 10), ("TiB", 1 << 20)]) else {
        let found = report.add(&field.span, format!("{}: {} is not a size", field.what(), quoted(text)));
        let number: String = text.chars().take_while(char::is_ascii_digit).collect();
        match text[number.len()..].trim().to_ascii_lowercase().as_str() {
            "m" | "mb" | "mib" if !number.is_empty() => found.hint(format!("Did you mean `{number}MiB`?")),
            "g" | "gb" | "gib" if !number.is_empty() => found.hint(format!("Did you mean `{number}GiB`?")),
            "t" | "tb" | "tib" if !number.is_empty() => found.hint(format!("Did you mean `{number}TiB`?")),
            _ => found.hint("A size is a whole number and `MiB`, `GiB` or `TiB`, like `256MiB`."),
        };
        return None;
    };
    if mib < range.0 {
        report.add(&field.span, format!("{} is {}, but must be at least {}MiB", field.what(), text, range.0));
        return None;
    }
    if mib > range.1 {
        report.add(&field.span, format!("{} is {}, but must be at most {}MiB", field.what(), text, range.1));
        return None;
    }
    Some(mib)
}

/// A duration like `30s` in milliseconds.
pub(super) fn duration_ms(field: &Field<'_>, max_ms: u64, report: &mut Report<'_>) -> Option<u64> {
    let text = field.text("\"30s\"", report)?;
    match measure(text, &[("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)]) {
        Some(0) => {
            report.add(&field.span, format!("{} must be more than 0", field.what()));
            None
        }
        Some(duration_ms) if duration_ms <= max_ms => Some(duration_ms),
        Some(_) => {
            report.add(
                &field.span,
                format!("{} is {text}, but must be at most {}min", field.what(), max_ms / 60_000),
            );
            None
        }
        None => {
            report
                .add(&field.span, format!("{}: {} is not a duration", field.what(), quoted(text)))
                .hint("A duration is a whole number and `ms`, `s`, `min` or `h`, like `30s`.");
            None
        }
    }
}

/// A time like `24h` or `7d` in seconds; `None` if it is something else or nothing.
pub(super) fn span_s(text: &str) -> Option<u64> {
    measure(text, &[("s", 1), ("min", 60), ("h", 3600), ("d", 86_400)]).filter(|seconds| *seconds > 0)
}

/// A time like `7d` in milliseconds, of at most ten years: how long something stays. `or` is what else may stand there.
pub(super) fn long_time_ms(field: &Field<'_>, or: &str, report: &mut Report<'_>) -> Option<u64> {
    let text = field.text("\"7d\"", report)?;
    let time_ms = span_s(text).filter(|seconds| *seconds <= MAX_LONG_TIME_S).map(|seconds| seconds * 1000);
    if time_ms.is_none() {
        report.add(&field.span, format!("{}: {} is not a time", field.what(), quoted(text))).hint(format!(
            "A time is a whole number and `s`, `min`, `h` or `d`, like `7d`; at most ten years{or}."
        ));
    }
    time_ms
}

/// One of a few words; `None` if it is another one.
pub(super) fn choice<T: Copy, const N: usize>(
    field: &Field<'_>,
    known: [(&'static str, T); N],
    report: &mut Report<'_>,
) -> Option<T> {
    let names = known.map(|(name, _)| name);
    let text = field.text(&format!("\"{}\"", names[0]), report)?;
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    if found.is_none() {
        let all: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        let wrong = format!("{} is {}, but must be {}", field.what(), quoted(text), all.join(" or "));
        report.add(&field.span, wrong).suggest(text, names);
    }
    found
}

/// `text` as an absolute path in its one form: no `.`, `..`, empty part or `/` at the end. `Err` says what is wrong.
pub(super) fn absolute_path(text: &str) -> Result<String, String> {
    let path = format!("/{}", text.trim_matches('/'));
    if !text.starts_with('/') {
        return Err(format!("{} is not an absolute path", quoted(text)));
    }
    if path == "/" {
        return Err("`/` is the whole machine".to_owned());
    }
    if path.chars().any(char::is_control) {
        return Err(format!("{} holds a control character", quoted(text)));
    }
    if path[1..].split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("{} holds an empty part, `.` or `..`", quoted(text)));
    }
    if let Some(reserved) = RESERVED.iter().find(|reserved| within(&path, reserved)) {
        return Err(format!("{} is below `{reserved}`, which is made new at every boot", quoted(text)));
    }
    Ok(path)
}

/// `text` as a path below the definition's directory, without `.` parts and without `/` at the end.
pub(super) fn relative_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        return Err(format!("{} is an absolute path, but sources lie beside the definition", quoted(text)));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{} holds a control character", quoted(text)));
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err(format!("{} leads out of the definition's directory", quoted(text)));
    }
    if parts.is_empty() {
        return Err(format!("{} is the definition's own directory", quoted(text)));
    }
    Ok(parts.join("/"))
}

/// Whether `path` is `folder` or lies in it. Both in the form of [`absolute_path`].
pub(super) fn within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `8080:80` or `0.0.0.0:8080:80`.
pub(super) fn publish(text: &str) -> Option<Publish> {
    let mut parts = text.rsplitn(3, ':');
    let guest_port = port(parts.next()?)?;
    let host_port = port(parts.next()?)?;
    let address = parts.next().map_or(Some(Ipv4Addr::LOCALHOST), |address| address.parse().ok())?;
    Some(Publish { address, host_port, guest_port })
}

/// A port number, 1 to 65535, without sign or leading zero.
pub(super) fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if is_plain { text.parse().ok() } else { None }
}

/// A user or group name by the rules of Debian's adduser.conf(5) NAME_REGEX; at most 32 bytes (useradd(8)).
pub(super) fn is_account(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 32
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures() {
        let units = [("MiB", 1), ("GiB", 1024)];
        for (text, expected) in [
            ("256MiB", Some(256)),
            ("2 GiB", Some(2048)),
            ("0MiB", Some(0)),
            ("", None),
            ("MiB", None),
            ("1", None),
            ("1.5GiB", None),
            ("-1MiB", None),
            ("1mib", None),
            ("18446744073709551615GiB", None),
            ("99999999999999999999MiB", None),
        ] {
            assert_eq!(measure(text, &units), expected, "{text}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(absolute_path("/srv/api/"), Ok("/srv/api".to_owned()));
        assert_eq!(absolute_path("/runner"), Ok("/runner".to_owned()));
        for bad in [
            "",
            "/",
            "//",
            "srv",
            "/a/../b",
            "/a//b",
            "/a/.",
            "/run",
            "/proc/x",
            "/dev/null",
            "/tmp/x",
            "/a\nb",
        ] {
            assert!(absolute_path(bad).is_err(), "{bad}");
        }
        assert_eq!(relative_path("./web//x/"), Ok("web/x".to_owned()));
        assert_eq!(relative_path("a..b"), Ok("a..b".to_owned()));
        for bad in ["", ".", "./", "..", "a/../b", "/etc", "a\0b"] {
            assert!(relative_path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn published_ports() {
        let publish_text =
            |text| publish(text).map(|p| format!("{} {} {}", p.address, p.host_port, p.guest_port));
        assert_eq!(publish_text("8080:80").as_deref(), Some("127.0.0.1 8080 80"));
        assert_eq!(publish_text("0.0.0.0:8080:80").as_deref(), Some("0.0.0.0 8080 80"));
        for bad in
            ["", "80", ":80", "80:", "0:80", "8080:0", "65536:80", "+80:80", "080:80", "x:1:2", "::1:80:80"]
        {
            assert_eq!(publish_text(bad), None, "{bad}");
        }
    }
}
