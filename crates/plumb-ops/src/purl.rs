//! Package URLs of Debian packages (<https://github.com/package-url/purl-spec>).

/// What tells packages of one name and version apart.
pub(crate) struct Qualifiers<'a> {
    pub(crate) arch: &'a str,
    pub(crate) distro: &'a str,
    /// The source package, where it has another name.
    pub(crate) upstream: Option<&'a str>,
}

/// `pkg:deb/debian/libssl3@3.0.17-1?arch=amd64&distro=bookworm&upstream=openssl` (purl-spec, type `deb`).
pub(crate) fn debian(name: &str, version: &str, qualifiers: &Qualifiers<'_>) -> String {
    let mut purl = format!(
        "pkg:deb/debian/{}@{}?arch={}&distro={}",
        encoded(name),
        encoded(version),
        encoded(qualifiers.arch),
        encoded(qualifiers.distro)
    );
    if let Some(upstream) = qualifiers.upstream {
        purl.push_str(&format!("&upstream={}", encoded(upstream)));
    }
    purl
}

/// Percent-encoding of purl-spec: everything but letters, digits and `.-_~:`.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
