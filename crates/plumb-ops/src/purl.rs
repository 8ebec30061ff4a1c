//! Package URLs of Debian packages (<https://github.com/package-url/purl-spec>).

/// Who makes Debian's packages.
pub(crate) const DEBIAN: &str = "debian";

/// What tells packages of one name and version apart.
pub(crate) struct Qualifiers<'a> {
    /// Whose packages they are.
    pub(crate) vendor: &'a str,
    pub(crate) arch: &'a str,
    /// Empty if it is not known.
    pub(crate) distro: &'a str,
    /// The source package, where it has another name.
    pub(crate) upstream: Option<&'a str>,
}

/// `pkg:deb/debian/libssl3@3.0.17-1?arch=amd64&distro=bookworm&upstream=openssl` (purl-spec, type `deb`).
pub(crate) fn debian(name: &str, version: &str, qualifiers: &Qualifiers<'_>) -> String {
    let mut purl = format!("pkg:deb/{}/{}@{}", encoded(qualifiers.vendor), encoded(name), encoded(version));
    let upstream = qualifiers.upstream.unwrap_or_default();
    let all = [("arch", qualifiers.arch), ("distro", qualifiers.distro), ("upstream", upstream)];
    let known = all.iter().filter(|(_, value)| !value.is_empty());
    for (separator, (key, value)) in std::iter::once('?').chain(std::iter::repeat('&')).zip(known) {
        purl.push_str(&format!("{separator}{key}={}", encoded(value)));
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
