//! One door to archives: `http`, `https` and `file` URLs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ureq::http::{Response, StatusCode, Uri, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::{Connector as _, TcpConnector};
use ureq::{Agent, Proxy};

use crate::forward::{ForwardConnector, ProxyResolver};
use crate::proxy::ProxyAddress;
use crate::{Error, Proxies, Result, Verb, limit};

/// Told to servers, so that a mirror's administrator knows whom to talk to.
const USER_AGENT: &str = concat!("plumb/", env!("CARGO_PKG_VERSION"));

/// Where distributions keep the certificates that this host trusts (Debian, Fedora, openSUSE).
const CERTIFICATE_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// What to ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// Where to begin, in bytes; for going on with an unfinished transfer.
    pub(crate) offset: u64,
    /// Only if it is not this one any more.
    pub(crate) known: Validators,
    /// More headers, by lower-case name. `authorization` is for the host of the URL and goes to no other.
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// What HTTP knows a version of a file by (RFC 9110, section 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// What came back.
pub(crate) enum Answer {
    /// The file from `start` on.
    Body(Body),
    /// It still is the known one.
    NotModified,
    /// The offset is beyond its end.
    RangeRefused,
}

/// The bytes of an answer.
pub(crate) struct Body {
    pub(crate) reader: Box<dyn Read>,
    /// Which byte of the file comes first: the offset, or zero if the server does not know offsets.
    pub(crate) start: u64,
    /// How many bytes the server says will come.
    pub(crate) length: Option<u64>,
    pub(crate) validators: Validators,
}

/// Keeps connections open between requests. One per way to get somewhere: directly or through a proxy.
pub struct Client {
    proxies: Proxies,
    connections: usize,
    agents: Mutex<BTreeMap<Way, Agent>>,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Direct,
    /// Plain `http`: the proxy reads and may cache it.
    Forward(ProxyAddress),
    /// `https`: the proxy sees only the host name.
    Tunnel(String),
}

impl Client {
    /// A client that goes through `proxies` and keeps up to `connections` open per host.
    #[must_use]
    pub fn new(proxies: &Proxies, connections: usize) -> Client {
        Client { proxies: proxies.clone(), connections, agents: Mutex::default() }
    }

    /// Asks for `url`. Anything but the three answers is an error; 404 and 410 are [`Error::Missing`].
    pub(crate) fn get(&self, url: &str, request: &Request) -> Result<Answer> {
        if let Some(path) = url.strip_prefix("file://") {
            return open_file(url, path, request.offset);
        }
        let (home, mut request) = (parse(url)?, request.clone());
        let mut current = url.to_owned();
        for _ in 0..=limit::REDIRECTS {
            let uri = parse(&current)?;
            if uri.authority() != home.authority() || uri.scheme() != home.scheme() {
                request.headers.retain(|(name, _)| *name != "authorization");
            }
            let response = self.send(&uri, &request).map_err(|error| match error {
                SendError::Ours(error) => error,
                SendError::Http(source) => Error::Connection { url: current.clone(), source: source.into() },
            })?;
            match redirected(&current, &uri, &response)? {
                Some(next) => current = next,
                None => return answer(&current, &request, response),
            }
        }
        Err(Error::RedirectLoop { url: url.to_owned(), limit: limit::REDIRECTS })
    }

    fn send(&self, uri: &Uri, request: &Request) -> std::result::Result<Response<ureq::Body>, SendError> {
        let way = self.way(uri).map_err(SendError::Ours)?;
        let agent = self.agent(&way).map_err(SendError::Ours)?;
        let mut builder = agent.get(uri);
        if let Way::Forward(ProxyAddress { authorization: Some(value), .. }) = &way {
            builder = builder.header(header::PROXY_AUTHORIZATION, value);
        }
        if request.offset > 0 {
            builder = builder.header(header::RANGE, format!("bytes={}-", request.offset));
        }
        if let Some(etag) = &request.known.etag {
            builder = builder.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(date) = &request.known.last_modified {
            builder = builder.header(header::IF_MODIFIED_SINCE, date);
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        builder.call().map_err(SendError::Http)
    }

    /// Who speaks to the host of `uri`, and the `proxy-authorization` to add. What is written goes through a tunnel: only
    /// request lines of reads are rewritten for a proxy.
    pub(crate) fn agent_for(&self, uri: &Uri, verb: Verb) -> Result<(Agent, Option<String>)> {
        match (self.way(uri)?, self.proxies.for_uri(uri)) {
            (Way::Forward(_), Some(proxy)) if verb.sends() => {
                Ok((self.agent(&Way::Tunnel(proxy.to_owned()))?, None))
            }
            (way @ Way::Forward(_), _) => {
                let agent = self.agent(&way)?;
                let Way::Forward(address) = way else { return Ok((agent, None)) };
                Ok((agent, address.authorization))
            }
            (way, _) => Ok((self.agent(&way)?, None)),
        }
    }

    fn way(&self, uri: &Uri) -> Result<Way> {
        let Some(proxy) = self.proxies.for_uri(uri) else { return Ok(Way::Direct) };
        let address = ProxyAddress::parse(proxy)?;
        if uri.scheme_str() == Some("https") {
            return Ok(Way::Tunnel(proxy.to_owned()));
        }
        Ok(Way::Forward(address))
    }

    fn agent(&self, way: &Way) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = agents.get(way) {
            return Ok(agent.clone());
        }
        let tunnel = match way {
            Way::Tunnel(proxy) => {
                let bad =
                    |_| Error::BadProxy { proxy: "https_proxy".into(), reason: "it is not a URL".into() };
                Some(Proxy::new(proxy).map_err(bad)?)
            }
            Way::Direct | Way::Forward(_) => None,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(tunnel)
            .tls_config(TlsConfig::builder().root_certs(trusted_roots()).build())
            .user_agent(USER_AGENT)
            .timeout_resolve(Some(limit::CONNECT))
            .timeout_connect(Some(limit::CONNECT))
            .timeout_recv_response(Some(limit::SILENCE))
            .timeout_per_read(Some(limit::SILENCE))
            .timeout_per_write(Some(limit::SILENCE))
            .max_response_header_size(limit::HEAD_BYTES)
            .max_idle_connections_per_host(self.connections)
            .build();
        let agent = match way {
            Way::Forward(address) => {
                let connector = ().chain(TcpConnector::default()).chain(ForwardConnector);
                Agent::with_parts(config, connector, ProxyResolver { proxy: parse(&address.uri)? })
            }
            Way::Direct | Way::Tunnel(_) => Agent::new_with_config(config),
        };
        agents.insert(way.clone(), agent.clone());
        Ok(agent)
    }
}

/// The certificates that this host trusts, because behind a company's proxy those are the right ones; Mozilla's list if
/// the host has none. Only privacy depends on it: what is believed is decided by signatures.
fn trusted_roots() -> RootCerts {
    let read = |path: &&str| {
        let mut text = Vec::new();
        File::open(path).ok()?.take(limit::CERTIFICATE_BYTES).read_to_end(&mut text).ok()?;
        let certificates = parse_pem(&text).filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        });
        let certificates: Vec<Certificate<'static>> = certificates.collect();
        (!certificates.is_empty()).then_some(certificates)
    };
    match CERTIFICATE_BUNDLES.iter().find_map(read) {
        Some(certificates) => RootCerts::new_with_certs(&certificates),
        None => RootCerts::WebPki,
    }
}

enum SendError {
    Ours(Error),
    Http(ureq::Error),
}

pub(crate) fn parse(url: &str) -> Result<Uri> {
    let fail = |reason: &str| Error::BadUrl { url: url.to_owned(), reason: reason.to_owned() };
    let uri: Uri = url.parse().map_err(|_| fail("it is not a URL"))?;
    match uri.scheme_str() {
        Some("http" | "https") => Ok(uri),
        _ => Err(fail("only `http`, `https` and `file` are known")),
    }
}

/// Where the answer sends us, if it does.
pub(crate) fn redirected(url: &str, uri: &Uri, response: &Response<ureq::Body>) -> Result<Option<String>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let fail = |reason: &str| Error::BadUrl { url: url.to_owned(), reason: reason.to_owned() };
    let target = header_text(response, &header::LOCATION).ok_or_else(|| fail("it redirects to nowhere"))?;
    let origin =
        format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority().map_or("", |a| a.as_str()));
    let next = if target.contains("://") {
        target
    } else if target.starts_with("//") {
        format!("{}:{target}", uri.scheme_str().unwrap_or("http"))
    } else if target.starts_with('/') {
        format!("{origin}{target}")
    } else {
        let directory = uri.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{origin}{directory}/{target}")
    };
    if uri.scheme_str() == Some("https") && !next.starts_with("https://") {
        return Err(fail("it redirects from `https` to something less"));
    }
    Ok(Some(next))
}

fn answer(url: &str, request: &Request, response: Response<ureq::Body>) -> Result<Answer> {
    let status = response.status();
    let start = match status {
        StatusCode::OK => 0,
        StatusCode::PARTIAL_CONTENT if request.offset > 0 => range_start(&response).ok_or_else(|| {
            let source = "the server sent part of the file without saying which".into();
            Error::Connection { url: url.to_owned(), source }
        })?,
        StatusCode::NOT_MODIFIED => return Ok(Answer::NotModified),
        StatusCode::RANGE_NOT_SATISFIABLE if request.offset > 0 => return Ok(Answer::RangeRefused),
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Error::Missing { url: url.to_owned() }),
        StatusCode::UNAUTHORIZED => {
            let challenge = header_text(&response, &header::WWW_AUTHENTICATE).unwrap_or_default();
            return Err(Error::Unauthorized { url: url.to_owned(), challenge });
        }
        _ => return Err(Error::Status { url: url.to_owned(), status: status.as_u16() }),
    };
    let validators = Validators {
        etag: header_text(&response, &header::ETAG),
        last_modified: header_text(&response, &header::LAST_MODIFIED),
    };
    let body = response.into_body();
    let length = body.content_length();
    Ok(Answer::Body(Body { reader: Box::new(body.into_reader()), start, length, validators }))
}

/// The first byte of `Content-Range: bytes 100-199/200`.
fn range_start(response: &Response<ureq::Body>) -> Option<u64> {
    let range = header_text(response, &header::CONTENT_RANGE)?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

fn header_text(response: &Response<ureq::Body>, name: &header::HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(ToOwned::to_owned)
}

fn open_file(url: &str, path: &str, offset: u64) -> Result<Answer> {
    if !path.starts_with('/') {
        let reason = "a `file` URL has three slashes and an absolute path".to_owned();
        return Err(Error::BadUrl { url: url.to_owned(), reason });
    }
    let fail = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Error::Missing { url: url.to_owned() },
        _ => Error::BadUrl { url: url.to_owned(), reason: source.to_string() },
    };
    let mut file = File::open(Path::new(path)).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    if offset > size {
        return Ok(Answer::RangeRefused);
    }
    file.seek(SeekFrom::Start(offset)).map_err(fail)?;
    let validators = Validators::default();
    Ok(Answer::Body(Body { reader: Box::new(file), start: offset, length: Some(size - offset), validators }))
}
