//! Any request, for those who speak a protocol over HTTP themselves: object stores and registries that are written to.
//!
//! Statuses are values here, not errors: what a 412 or a 404 means only the protocol knows. Messages name the URL without
//! its query, which may hold a signature.

use std::io::{self, Read};

use ureq::http::{self, HeaderMap, Method, Uri, header};

use crate::http::{Client, parse};
use crate::{Error, Result, limit};

/// What is done with what the URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read it.
    Get,
    /// Ask about it.
    Head,
    /// Write it.
    Put,
    /// Begin or end something.
    Post,
    /// Add to it.
    Patch,
}

impl Verb {
    /// Whether such a request has a body.
    pub(crate) fn sends(self) -> bool {
        matches!(self, Verb::Put | Verb::Post | Verb::Patch)
    }

    fn method(self) -> Method {
        match self {
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
            Verb::Put => Method::PUT,
            Verb::Post => Method::POST,
            Verb::Patch => Method::PATCH,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// What to do.
    pub verb: Verb,
    /// `http` or `https`.
    pub url: &'a str,
    /// Headers besides our own, by lower-case name. `authorization` goes to no other host than that of the URL.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent; ignored by `Get` and `Head`.
    pub body: &'a [u8],
}

impl<'a> Call<'a> {
    /// A request without headers and body.
    #[must_use]
    pub fn new(verb: Verb, url: &'a str) -> Call<'a> {
        Call { verb, url, headers: Vec::new(), body: &[] }
    }
}

/// An answer whose body was not read yet.
pub struct Reply {
    /// Status code (RFC 9110, section 15).
    pub status: u16,
    /// Where it came from in the end, without a query.
    pub url: String,
    headers: HeaderMap,
    length: Option<u64>,
    reader: Box<dyn Read + Send + Sync>,
}

impl Reply {
    /// A header as text, by lower-case name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// How many bytes the server says the body has. For `Head`: the body that `Get` would have.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length.or_else(|| self.header("content-length")?.parse().ok())
    }

    /// The body. Its end may come early if the connection breaks: compare with [`Reply::length`].
    #[must_use]
    pub fn into_reader(self) -> Box<dyn Read + Send + Sync> {
        self.reader
    }

    /// The whole body.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Cut`] or [`Error::Connection`].
    pub fn read(self, limit: u64) -> Result<Vec<u8>> {
        let (url, length) = (self.url, self.length);
        let mut bytes = Vec::new();
        let read = self.reader.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|source: io::Error| Error::Connection { url: url.clone(), source: source.into() })?;
        let found = bytes.len() as u64;
        if found > limit {
            return Err(Error::TooLarge { url, limit });
        }
        match length {
            Some(expected) if expected != found => Err(Error::Cut { url, expected, found }),
            _ => Ok(bytes),
        }
    }
}

/// A URL for messages: queries may hold signatures.
#[must_use]
pub fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}

impl Client {
    /// Sends a request and returns whatever is answered. Redirects are followed for `Get` and `Head` only.
    ///
    /// # Errors
    /// [`Error::Connection`], [`Error::BadUrl`], [`Error::BadProxy`] or [`Error::RedirectLoop`].
    pub fn call(&self, call: &Call<'_>) -> Result<Reply> {
        let home = parse(call.url)?;
        let mut headers = call.headers.clone();
        let mut current = call.url.to_owned();
        for _ in 0..=limit::REDIRECTS {
            let uri = parse(&current)?;
            if uri.authority() != home.authority() || uri.scheme() != home.scheme() {
                headers.retain(|(name, _)| *name != "authorization");
            }
            let response = self.exchange(call, &uri, &headers)?;
            let follows = matches!(call.verb, Verb::Get | Verb::Head);
            match crate::http::redirected(&current, &uri, &response)? {
                Some(next) if follows => current = next,
                _ => return Ok(reply(&current, call.verb, response)),
            }
        }
        Err(Error::RedirectLoop { url: without_query(call.url), limit: limit::REDIRECTS })
    }

    fn exchange(
        &self,
        call: &Call<'_>,
        uri: &Uri,
        headers: &[(&'static str, String)],
    ) -> Result<http::Response<ureq::Body>> {
        let url = || without_query(&uri.to_string());
        let (agent, proxy) = self.agent_for(uri, call.verb)?;
        let mut builder = http::Request::builder().method(call.verb.method()).uri(uri);
        if let Some(value) = proxy {
            builder = builder.header(header::PROXY_AUTHORIZATION, value);
        }
        for (name, value) in headers {
            builder = builder.header(*name, value);
        }
        let bad = |error: http::Error| Error::BadUrl { url: url(), reason: error.to_string() };
        let sent = if call.verb.sends() {
            agent.run(builder.body(call.body).map_err(bad)?)
        } else {
            agent.run(builder.body(()).map_err(bad)?)
        };
        sent.map_err(|source| Error::Connection { url: url(), source: source.into() })
    }
}

fn reply(url: &str, verb: Verb, response: http::Response<ureq::Body>) -> Reply {
    let status = response.status().as_u16();
    let (parts, body) = response.into_parts();
    // The length of an answer to HEAD is not that of its body, which is empty.
    let length = if verb == Verb::Head { None } else { body.content_length() };
    Reply {
        status,
        url: without_query(url),
        headers: parts.headers,
        length,
        reader: Box::new(body.into_reader()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_query_in_messages() {
        assert_eq!(without_query("https://h/p?X-Amz-Signature=abc#x"), "https://h/p");
        let client = Client::new(&crate::Proxies::default(), 1);
        let call = Call::new(Verb::Get, "http://127.0.0.1:1/x?secret=1");
        let Err(error) = client.call(&call) else { panic!("nobody listens on port 1") };
        assert_eq!(error.to_string(), "cannot fetch `http://127.0.0.1:1/x`");
    }
}
