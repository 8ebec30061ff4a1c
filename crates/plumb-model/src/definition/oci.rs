//! Reading `oci`: a container image as the whole userland of a machine.

use super::content::sha256;
use super::diagnostic::{Report, quoted};
use super::table::{Field, Table};
use super::{OciPlace, OciSource, value};
use crate::Digest;

/// Registry of a reference without a host, as Docker reads it.
const DEFAULT_HOST: &str = "docker.io";

/// Keys that say what packages are in a machine; a container image has them already.
const PACKAGE_KEYS: &[&str] = &["init", "middleware", "os", "scripts", "without"];

/// `oci = "docker.io/library/nginx@sha256:…"` or `oci = { layout = "images/x", digest = "sha256:…" }`.
pub(super) fn read(machine: &Table<'_>, report: &mut Report<'_>) -> Option<OciSource> {
    let field = machine.get("oci")?;
    for key in PACKAGE_KEYS {
        if let Some(other) = machine.get(key) {
            report
                .add(&other.key, format!("`{key}` and `oci`{}", machine.inside()))
                .hint("A container image is the whole userland of its machine: no package is added to it.");
        }
    }
    if let Some(volumes) = machine.get("volume") {
        report
            .add(&volumes.key, format!("`volume` and `oci`{}: volumes are formatted by the image's own tools, which container images do not have", machine.inside()))
            .hint("Keep the data in a machine of packages.");
    }
    if field.is_text() {
        return reference(&field, report);
    }
    let table = field.table("{ layout = \"images/x\", digest = \"sha256:…\" }", report)?;
    table.allow(&["digest", "layout"], report);
    let path = table.required("layout", "\"images/x\"", report).and_then(|field| {
        let text = field.text("\"images/x\"", report)?;
        match value::relative_path(text) {
            Ok(path) => Some(path),
            Err(reason) => {
                report.add(&field.span, format!("{}: {reason}", field.what()));
                None
            }
        }
    });
    let digest = table.required("digest", "\"sha256:…\"", report).and_then(|field| sha256(&field, report));
    Some(OciSource { digest: digest?, place: OciPlace::Layout { path: path? } })
}

fn reference(field: &Field<'_>, report: &mut Report<'_>) -> Option<OciSource> {
    let text = field.text("\"docker.io/library/nginx@sha256:…\"", report)?;
    let wrong = match parse(text) {
        Ok(source) => return Some(source),
        Err(wrong) => wrong,
    };
    let found = report.add(&field.span, format!("{}: {} {}", field.what(), quoted(text), wrong.reason()));
    match wrong {
        Wrong::NoDigest => found.hint(format!(
            "A tag may mean other bytes tomorrow. `skopeo inspect --format '{{{{.Digest}}}}' docker://{text}` prints the digest: add it behind `@`."
        )),
        Wrong::Reference => found.hint("Write it like `docker.io/library/nginx@sha256:…`."),
    };
    None
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    NoDigest,
    Reference,
}

impl Wrong {
    fn reason(self) -> &'static str {
        match self {
            Wrong::NoDigest => "has no digest",
            Wrong::Reference => "is not the reference of an image",
        }
    }
}

/// `[host/]repository[:tag]@sha256:…`. The tag says nothing beside a digest.
fn parse(text: &str) -> Result<OciSource, Wrong> {
    let (name, digest) = text.split_once('@').ok_or(Wrong::NoDigest)?;
    let digest: Digest = digest.parse().map_err(|_| Wrong::Reference)?;
    // A first part with a dot or a port is a host; so is `localhost`. Everything else is Docker's own registry.
    let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost";
    let (host, rest) = match name.split_once('/') {
        Some((host, rest)) if is_host(host) => (host, rest),
        _ => (DEFAULT_HOST, name),
    };
    let (repository, tag) = match rest.rsplit_once(':') {
        Some((repository, tag)) => (repository, tag),
        None => (rest, "latest"),
    };
    let repository = match repository.contains('/') || host != DEFAULT_HOST {
        true => repository.to_owned(),
        false => format!("library/{repository}"),
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        part.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'))
            && part.bytes().next().is_some_and(plain)
            && part.bytes().last().is_some_and(plain)
    };
    let is_tag = tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let is_hostname =
        host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'));
    if repository.len() > 255
        || !repository.split('/').all(is_part)
        || tag.is_empty()
        || !is_tag
        || !is_hostname
    {
        return Err(Wrong::Reference);
    }
    Ok(OciSource { digest, place: OciPlace::Registry { host: host.to_owned(), repository } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let shown = |name: &str| match parse(&format!("{name}@{digest}")).map(|source| source.place) {
            Ok(OciPlace::Registry { host, repository }) => format!("{host} {repository}"),
            other => format!("{other:?}"),
        };
        for (name, expected) in [
            ("nginx", "docker.io library/nginx"),
            ("docker.io/nginx:1.27", "docker.io library/nginx"),
            ("bitnami/redis", "docker.io bitnami/redis"),
            ("quay.io/a/b/c", "quay.io a/b/c"),
            ("localhost/x", "localhost x"),
            ("127.0.0.1:5000/a:1", "127.0.0.1:5000 a"),
            ("Nginx", "Err(Reference)"),
            ("quay.io/", "Err(Reference)"),
            ("quay.io/a/../b", "Err(Reference)"),
            ("a b", "Err(Reference)"),
        ] {
            assert_eq!(shown(name), expected, "{name}");
        }
        assert_eq!(parse("nginx:1.27"), Err(Wrong::NoDigest));
        assert_eq!(parse("nginx@sha256:12"), Err(Wrong::Reference));
    }
}
