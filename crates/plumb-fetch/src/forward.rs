//! Plain `http` through a proxy: the request line carries the whole URL (RFC 9112, section 3.2.2).
//!
//! ureq only knows `CONNECT`, which proxies in front of package archives refuse for port 80 (squid's default) or do not
//! cache (apt-cacher-ng). So its connection goes to the proxy, and the request line is completed on the way out.

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// Resolves the proxy instead of the host that is asked for: behind a proxy, the latter often has no address.
#[derive(Debug)]
pub(crate) struct ProxyResolver {
    pub(crate) proxy: Uri,
}

impl Resolver for ProxyResolver {
    fn resolve(&self, _: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        DefaultResolver::default().resolve(&self.proxy, config, timeout)
    }
}

/// Comes after the connector that made the connection.
#[derive(Debug)]
pub(crate) struct ForwardConnector;

impl<In: Transport> Connector<In> for ForwardConnector {
    type Out = Forward<In>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let origin = match details.uri.authority() {
            Some(authority) => format!("http://{authority}"),
            None => return Err(Error::BadUri(details.uri.to_string())),
        };
        Ok(chained.map(|inner| Forward { inner, origin }))
    }
}

/// Puts the origin into each request line.
#[derive(Debug)]
pub(crate) struct Forward<In> {
    inner: In,
    origin: String,
}

/// How our requests begin, all of which only read. No header line can: a header's name holds no space.
const REQUESTS: [&[u8]; 2] = [b"GET /", b"HEAD /"];

impl<In: Transport> Transport for Forward<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = self.inner.buffers().output();
        let begins = REQUESTS.iter().find(|request| output[..amount].starts_with(request));
        let Some(path_at) = begins.map(|request| request.len() - 1) else {
            return self.inner.transmit_output(amount, timeout);
        };
        let grown = amount + self.origin.len();
        if grown > output.len() {
            return Err(Error::BadUri(format!("{} with a path too long for a proxy", self.origin)));
        }
        output.copy_within(path_at..amount, path_at + self.origin.len());
        output[path_at..path_at + self.origin.len()].copy_from_slice(self.origin.as_bytes());
        self.inner.transmit_output(grown, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}
