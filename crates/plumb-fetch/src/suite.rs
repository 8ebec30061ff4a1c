//! Whether a verified release file is the one that was asked for, and still good.

use plumb_debian::ReleaseFile;

use crate::error::date_text;
use crate::source::ArchiveSource;
use crate::{Error, Result, limit};

/// Checks everything about the signed `text` of the `InRelease` at `url` but its signature. `accepted_unix_s` is the
/// date of the one that was accepted last for the same source.
pub(crate) fn check(
    url: &str,
    text: &str,
    source: &ArchiveSource,
    accepted_unix_s: Option<i64>,
    now_unix_s: i64,
) -> Result<ReleaseFile> {
    let release: ReleaseFile =
        text.parse().map_err(|error| Error::Release { url: url.to_owned(), source: error })?;
    check_name(url, &release, source)?;
    let date = date_unix_s(&release);
    if date > now_unix_s.saturating_add(limit::CLOCK_SKEW_S) {
        return Err(Error::NotYetValid {
            url: url.to_owned(),
            date: date_text(date),
            now: date_text(now_unix_s),
        });
    }
    if let Some(accepted) = accepted_unix_s.filter(|accepted| date < *accepted) {
        return Err(Error::Replayed {
            url: url.to_owned(),
            date: date_text(date),
            accepted: date_text(accepted),
        });
    }
    let valid_until = release.valid_until.map(|end| i64::try_from(end).unwrap_or(i64::MAX));
    if let Some(end) = valid_until.filter(|end| *end < now_unix_s) {
        return Err(Error::Expired {
            url: url.to_owned(),
            valid_until: date_text(end),
            now: date_text(now_unix_s),
        });
    }
    Ok(release)
}

/// When the archive signed it, in seconds since 1970.
pub(crate) fn date_unix_s(release: &ReleaseFile) -> i64 {
    i64::try_from(release.date).unwrap_or(i64::MAX)
}

/// A correctly signed file of another suite must not pass for this one.
fn check_name(url: &str, release: &ReleaseFile, source: &ArchiveSource) -> Result<()> {
    let wrong = |field, expected: &str, found: String| Error::WrongSuite {
        url: url.to_owned(),
        field,
        expected: expected.to_owned(),
        found,
    };
    if ![&release.suite, &release.codename].contains(&&source.suite) {
        return Err(wrong("suite", &source.suite, format!("{} ({})", release.codename, release.suite)));
    }
    match &source.origin {
        Some(origin) if *origin != release.origin => Err(wrong("origin", origin, release.origin.clone())),
        _ => Ok(()),
    }
}

/// Whether the release has `component` for `architecture`. Debian's security archive calls its components
/// `updates/main` but has their indices in `main/`.
pub(crate) fn check_offer(
    url: &str,
    release: &ReleaseFile,
    component: &str,
    architecture: &str,
) -> Result<()> {
    let missing = |what, wanted: &str, offered: &[String]| Error::NotOffered {
        url: url.to_owned(),
        what,
        wanted: wanted.to_owned(),
        offered: offered.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    };
    let suffix = format!("/{component}");
    if !release.components.iter().any(|offered| offered == component || offered.ends_with(&suffix)) {
        return Err(missing("component", component, &release.components));
    }
    if !release.architectures.iter().any(|offered| offered == architecture) {
        return Err(missing("architecture", architecture, &release.architectures));
    }
    Ok(())
}
