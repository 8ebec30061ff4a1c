//! Reading `app`: what the user puts into an image.

use std::collections::BTreeMap;

use super::diagnostic::{Report, Span, quoted};
use super::machine::account;
use super::table::{Field, Table};
use super::{AppContent, NpmSource, PipSource, Source, UrlSource, Volume, value};
use crate::{Digest, VolumeName};

/// Ways to say where content comes from; an entry has one of them.
const KINDS: &[&str] = &["from", "npm", "pip", "url"];

/// Most folders that are stripped from the paths of an archive: none is deeper in practice.
const MAX_STRIP: u64 = 16;

pub(super) fn read(
    table: &Table<'_>,
    volumes: &BTreeMap<VolumeName, (Span, Volume)>,
    report: &mut Report<'_>,
) -> Vec<AppContent> {
    let Some(all) = table.get("app").and_then(|f| f.table("{ \"/srv/api\" = \"api/\" }", report)) else {
        return Vec::new();
    };
    let mut contents: Vec<AppContent> = Vec::new();
    for field in all.fields() {
        let target = match value::absolute_path(field.name()) {
            Ok(target) => target,
            Err(reason) => {
                report.add(&field.key, format!("`app`{}: {reason}", table.inside()));
                continue;
            }
        };
        if contents.iter().any(|other| other.target == target) {
            report.add(&field.key, format!("`{target}` stands twice in `app`{}", table.inside()));
        }
        let hiding = volumes.iter().find(|(_, (_, volume))| value::within(&target, &volume.mount));
        if let Some((name, (_, volume))) = hiding {
            report.add(
                &field.key,
                format!("`{target}` would be hidden by the volume `{name}` at `{}`", volume.mount),
            );
        }
        contents.extend(read_content(target, &field, report));
    }
    contents.sort_by(|a, b| a.target.cmp(&b.target));
    contents
}

/// `"web/shop.conf"` or a table with one of [`KINDS`].
fn read_content(target: String, field: &Field<'_>, report: &mut Report<'_>) -> Option<AppContent> {
    if field.is_text() {
        let source = Source::Path(source(field, report)?);
        return Some(AppContent { target, source, owner: None, group: None, mode: None });
    }
    let table = field.table("{ from = \"api/\", owner = \"api\" }", report)?;
    let kind = kind(&table, report)?;
    let mut allowed = vec!["group", "owner"];
    allowed.extend(match kind {
        "url" => &["mode", "sha256", "strip", "unpack", "url"][..],
        "npm" => &["npm", "skip_scripts"][..],
        "pip" => &["pip"][..],
        _ => &["from", "mode"][..],
    });
    table.allow(&allowed, report);
    let source = match kind {
        "url" => read_url(&table, report).map(Source::Url),
        "pip" => table
            .get("pip")
            .and_then(|field| source(&field, report))
            .map(|requirements| Source::Pip(PipSource { requirements })),
        "npm" => read_npm(&table, report).map(Source::Npm),
        _ => table.get("from").and_then(|field| source(&field, report)).map(Source::Path),
    };
    let owner = table.get("owner").and_then(|field| account(&field, report));
    let group = table.get("group").and_then(|field| account(&field, report));
    let mode = table.get("mode").and_then(|field| mode(&field, report));
    Some(AppContent { target, source: source?, owner, group, mode })
}

/// The one of [`KINDS`] that the entry has.
fn kind(table: &Table<'_>, report: &mut Report<'_>) -> Option<&'static str> {
    let found: Vec<&str> = KINDS.iter().copied().filter(|kind| table.get(kind).is_some()).collect();
    match found[..] {
        [one] => Some(one),
        [] => {
            table.required("from", "\"api/\"", report);
            None
        }
        [first, second, ..] => {
            report
                .add(&table.at, format!("both `{first}` and `{second}`{}", table.inside()))
                .hint("An entry of `app` comes from one place: keep one.");
            None
        }
    }
}

/// `{ url = "https://…/x.tar.gz", sha256 = "…", strip = 1 }`.
fn read_url(table: &Table<'_>, report: &mut Report<'_>) -> Option<UrlSource> {
    let url = table.get("url").and_then(|field| url(&field, report));
    let sha256 =
        table.required("sha256", "\"…64 hex digits…\"", report).and_then(|field| sha256(&field, report));
    let strip = table.get("strip").and_then(|field| field.integer(0..=MAX_STRIP, report)).unwrap_or(0);
    let unpack = table.get("unpack").and_then(|field| field.truth(report)).unwrap_or(true);
    if !unpack && let Some(field) = table.get("strip") {
        report.add(&field.key, format!("{} has no meaning with `unpack = false`", field.what()));
    }
    Some(UrlSource { url: url?, sha256: sha256?, strip: usize::try_from(strip).ok()?, unpack })
}

/// `{ npm = "service/", skip_scripts = ["esbuild"] }`.
fn read_npm(table: &Table<'_>, report: &mut Report<'_>) -> Option<NpmSource> {
    let folder = table.get("npm").and_then(|field| source(&field, report));
    let mut skip_scripts: Vec<String> = Vec::new();
    if let Some(field) = table.get("skip_scripts") {
        for item in field.list("[\"esbuild\"]", report) {
            skip_scripts.extend(item.text("\"esbuild\"", report).map(str::to_owned));
        }
    }
    Some(NpmSource { folder: folder?, skip_scripts })
}

/// A URL of a file.
pub(super) fn url(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text("\"https://example.org/x.tar.gz\"", report)?;
    let rest = ["http://", "https://", "file:///"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'"' | b'\\'));
    if rest.is_some_and(|rest| !rest.trim_matches('/').is_empty()) && is_plain {
        return Some(text.to_owned());
    }
    report
        .add(&field.span, format!("{}: {} is not the URL of a file", field.what(), quoted(text)))
        .hint("Write it like `https://example.org/x.tar.gz`; `http` and `file` are known, too.");
    None
}

/// 64 hex digits, with or without `sha256:`.
pub(super) fn sha256(field: &Field<'_>, report: &mut Report<'_>) -> Option<Digest> {
    let text = field.text("\"…64 hex digits…\"", report)?;
    let digest = Digest::from_hex(text.strip_prefix("sha256:").unwrap_or(text)).ok();
    if digest.is_none() {
        report
            .add(
                &field.span,
                format!("{}: {} is not a SHA-256 in 64 lower-case hex digits", field.what(), quoted(text)),
            )
            .hint("`sha256sum FILE` prints it.");
    }
    digest
}

pub(super) fn source(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    match value::relative_path(field.text("\"api/\"", report)?) {
        Ok(source) => Some(source),
        Err(reason) => {
            report
                .add(&field.span, format!("{}: {reason}", field.what()))
                .hint("Name a file or directory beside the definition, like `api/`.");
            None
        }
    }
}

/// `"0755"` or `0o755`.
pub(super) fn mode(field: &Field<'_>, report: &mut Report<'_>) -> Option<u32> {
    let mode = if field.is_text() {
        let text = field.text("\"0755\"", report)?;
        let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        is_octal.then(|| u32::from_str_radix(text, 8).ok()).flatten()
    } else {
        field.octal().filter(|mode| *mode <= 0o7777)
    };
    if mode.is_none() {
        report
            .add(&field.span, format!("{} is not a mode of octal digits", field.what()))
            .hint("Write it like `\"0755\"`.");
    }
    mode
}
