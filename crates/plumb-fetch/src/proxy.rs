//! Proxies, as the environment variables `http_proxy`, `https_proxy` and `no_proxy` name them (the convention of curl).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::http::Uri;

use crate::{Error, Result};

/// Which proxies to go through. Empty by default.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http` archives.
    pub http: Option<String>,
    /// For `https` archives.
    pub https: Option<String>,
    /// Hosts that are reached directly, separated by commas. `*` is all; `example.org` includes what ends in
    /// `.example.org`.
    pub no_proxy: String,
}

impl std::fmt::Debug for Proxies {
    /// A proxy URL may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |proxy: &Option<String>| proxy.as_deref().map(without_password);
        f.debug_struct("Proxies")
            .field("http", &shown(&self.http))
            .field("https", &shown(&self.https))
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}

impl Proxies {
    /// From the environment: `lookup` is given the name of a variable. Lower case counts before upper case, and
    /// `HTTP_PROXY` does not count at all: in a CGI program a remote client sets it (httpoxy, CVE-2016-5385).
    #[must_use]
    pub fn from_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Proxies {
        let first =
            |names: &[&str]| names.iter().find_map(|name| lookup(name).filter(|value| !value.is_empty()));
        Proxies {
            http: first(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            no_proxy: first(&["no_proxy", "NO_PROXY"]).unwrap_or_default(),
        }
    }

    /// The proxy for `uri`, if one is to be used.
    pub(crate) fn for_uri(&self, uri: &Uri) -> Option<&str> {
        let proxy = if uri.scheme_str() == Some("https") { &self.https } else { &self.http };
        let host = uri.host()?.to_ascii_lowercase();
        if self.no_proxy.split(',').any(|entry| matches(entry, &host)) {
            return None;
        }
        proxy.as_deref()
    }
}

fn matches(entry: &str, host: &str) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    let name = entry.trim_start_matches('*').trim_start_matches('.');
    if entry == "*" {
        return true;
    }
    !name.is_empty() && (host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
}

/// A proxy that was parsed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProxyAddress {
    /// `http://host:port`, for the resolver.
    pub(crate) uri: String,
    /// The value of `Proxy-Authorization`, if the URL has a user.
    pub(crate) authorization: Option<String>,
}

impl ProxyAddress {
    /// Parses `[http://][user[:password]@]host[:port]`.
    pub(crate) fn parse(text: &str) -> Result<ProxyAddress> {
        let fail =
            |reason: &str| Error::BadProxy { proxy: without_password(text), reason: reason.to_owned() };
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = full.trim_end_matches('/').parse().map_err(|_| fail("it is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(fail("only `http://` proxies are known"));
        }
        let authority = uri.authority().ok_or_else(|| fail("it has no host"))?;
        let (user, _) = authority.as_str().rsplit_once('@').unwrap_or(("", ""));
        let authorization =
            (!user.is_empty()).then(|| format!("Basic {}", STANDARD.encode(percent_decoded(user))));
        // Port 80 is what the scheme says; curl's default of 1080 surprises people.
        let port = authority.port_u16().unwrap_or(80);
        Ok(ProxyAddress { uri: format!("http://{}:{port}/", authority.host()), authorization })
    }
}

/// The proxy URL for messages.
fn without_password(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((before, host)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            if scheme.is_empty() { format!("…@{host}") } else { format!("{scheme}://…@{host}") }
        }
        None => text.to_owned(),
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code {
            Some(code) if bytes[at] == b'%' => {
                decoded.push(code);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_need_no_proxy() {
        let proxies = Proxies {
            http: Some("http://p:3128".into()),
            https: Some("http://q:3128".into()),
            no_proxy: "localhost, example.org,.corp ,*.wild,10.0.0.1".into(),
        };
        let check = |uri: &str, expected: Option<&str>| {
            assert_eq!(proxies.for_uri(&uri.parse().unwrap()), expected, "{uri}");
        };
        check("http://deb.debian.org/debian", Some("http://p:3128"));
        check("https://deb.debian.org/debian", Some("http://q:3128"));
        check("http://LOCALHOST:80/", None);
        check("http://example.org/", None);
        check("http://deb.example.org/", None);
        check("http://badexample.org/", Some("http://p:3128"));
        check("http://a.corp/", None);
        check("http://a.wild/", None);
        check("http://10.0.0.1:8080/", None);
        let all = Proxies { no_proxy: "*".into(), ..proxies };
        assert_eq!(all.for_uri(&"http://x/".parse().unwrap()), None);
    }

    #[test]
    fn proxies_come_from_the_environment() {
        let lookup = |name: &str| match name {
            "http_proxy" => Some("http://p:1".to_owned()),
            "HTTP_PROXY" => Some("http://evil:1".to_owned()),
            "ALL_PROXY" => Some("http://all:1".to_owned()),
            "no_proxy" => Some(String::new()),
            "NO_PROXY" => Some("x".to_owned()),
            _ => None,
        };
        let proxies = Proxies::from_environment(&lookup);
        assert_eq!(proxies.http.as_deref(), Some("http://p:1"));
        assert_eq!(proxies.https.as_deref(), Some("http://all:1"));
        assert_eq!(proxies.no_proxy, "x");
    }

    #[test]
    fn proxy_addresses() {
        let parsed = ProxyAddress::parse("http://us%40er:pass@proxy.corp:3128/").unwrap();
        assert_eq!(parsed.uri, "http://proxy.corp:3128/");
        assert_eq!(parsed.authorization.as_deref(), Some("Basic dXNAZXI6cGFzcw=="));
        assert_eq!(ProxyAddress::parse("proxy").unwrap().uri, "http://proxy:80/");
        let error = ProxyAddress::parse("socks5://u:secret@h:1").unwrap_err().to_string();
        assert_eq!(error, "proxy `socks5://…@h:1` cannot be used: only `http://` proxies are known");
    }
}
