//! Where a state is: a file of this host, or a PostgreSQL server that several hosts use.
//!
//! ```text
//!  postgresql://USER@HOST[:PORT][,HOST[:PORT]]/DATABASE[?sslmode=MODE&sslrootcert=FILE&passfile=FILE]
//!  postgresql:///DATABASE?host=/run/postgresql          a Unix socket
//! ```
//!
//! No address holds a password: addresses stand in files, on command lines and in messages.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// Longest address: what fits on a command line without being a mistake.
const ADDRESS_LIMIT_BYTES: usize = 4096;

/// Certificates of the system, as Debian keeps them.
pub(crate) const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// A PostgreSQL server and database.
#[derive(Debug, Clone)]
pub struct PostgresAddress {
    config: Config,
    tls: Tls,
    passfile: Option<PathBuf>,
    text: String,
}

/// How the connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Not at all.
    Disable,
    /// TLS if the server offers it; whoever the server is.
    Prefer,
    /// TLS; whoever the server is.
    Require,
    /// TLS with a server whose name is certified by one of these.
    Verify(PathBuf),
}

/// Why an address is none. The address itself is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Another kind of address.
    #[error("the address of a state begins with `postgresql://`")]
    Scheme,
    /// It is not understood.
    #[error("the address of the state is not understood: {0}")]
    Form(String),
    /// A password stands in it.
    #[error("the address of the state holds a password; it would stand in files and messages")]
    Password,
    /// Longer than is plausible.
    #[error("the address of the state is longer than {ADDRESS_LIMIT_BYTES} bytes")]
    Long,
}

impl FromStr for PostgresAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_LIMIT_BYTES {
            return Err(AddressError::Long);
        }
        if !text.starts_with("postgresql://") && !text.starts_with("postgres://") {
            return Err(AddressError::Scheme);
        }
        let (front, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut mode, mut root, mut passfile, mut rest) = (None, None, None, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value.to_owned()),
                Some(("sslrootcert", value)) => root = Some(decoded(value)?),
                Some(("passfile", value)) => passfile = Some(PathBuf::from(decoded(value)?)),
                Some(("password", _)) => return Err(AddressError::Password),
                Some(("host" | "port" | "dbname" | "user" | "target_session_attrs", _)) => {
                    rest.push(parameter)
                }
                Some((name, _)) => return Err(AddressError::Form(format!("`{name}` is not known"))),
                None => return Err(AddressError::Form("after `?` stand words like `name=value`".to_owned())),
            }
        }
        let plain = if rest.is_empty() { front.to_owned() } else { format!("{front}?{}", rest.join("&")) };
        // What the parser says is not repeated: it quotes what it did not understand.
        let config: Config = plain
            .parse()
            .map_err(|_| AddressError::Form("write `postgresql://USER@HOST/DATABASE`".to_owned()))?;
        if config.get_password().is_some() {
            return Err(AddressError::Password);
        }
        if config.get_hosts().is_empty() {
            return Err(AddressError::Form("it names no host and no socket".to_owned()));
        }
        let tls = tls(mode.as_deref(), root.as_deref(), &config)?;
        Ok(PostgresAddress { config, tls, passfile, text: text.to_owned() })
    }
}

impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PostgresAddress {
    /// The same as `user`, if it names none.
    #[must_use]
    pub fn or_user(mut self, user: &str) -> Self {
        if self.config.get_user().is_none() {
            self.config.user(user);
        }
        self
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The file with its password, if it names one.
    pub(crate) fn passfile(&self) -> Option<&Path> {
        self.passfile.as_deref()
    }

    /// What lines of a file with passwords are compared with: host, port, database, user.
    pub(crate) fn asked(&self) -> [String; 4] {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            _ => "localhost".to_owned(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432).to_string();
        let user = self.config.get_user().unwrap_or_default().to_owned();
        let database = self.config.get_dbname().unwrap_or(&user).to_owned();
        [host, port, database, user]
    }
}

/// Who is on this host or behind a socket needs no certificate; everybody else does, unless the address says otherwise.
fn tls(mode: Option<&str>, root: Option<&str>, config: &Config) -> Result<Tls, AddressError> {
    let local = |host: &Host| match host {
        Host::Tcp(name) => ["localhost", "127.0.0.1", "::1"].contains(&name.as_str()),
        Host::Unix(_) => true,
    };
    let default = if config.get_hosts().iter().all(local) { "prefer" } else { "verify-full" };
    let tls = match mode.unwrap_or(default) {
        "disable" => Tls::Disable,
        "prefer" => Tls::Prefer,
        "require" => Tls::Require,
        "verify-full" => Tls::Verify(match root {
            None | Some("system") => SYSTEM_ROOTS.into(),
            Some(path) => path.into(),
        }),
        _ => {
            let known = "`sslmode` is `disable`, `prefer`, `require` or `verify-full`";
            return Err(AddressError::Form(known.to_owned()));
        }
    };
    if root.is_some() && !matches!(tls, Tls::Verify(_)) {
        return Err(AddressError::Form("`sslrootcert` needs `sslmode=verify-full`".to_owned()));
    }
    Ok(tls)
}

/// `%2F` is `/` (RFC 3986, 2.1).
fn decoded(text: &str) -> Result<String, AddressError> {
    let wrong = || AddressError::Form("after `%` stand two hexadecimal digits".to_owned());
    let mut bytes = Vec::new();
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        if byte == b'%' {
            let digits = [left.next().ok_or_else(wrong)?, left.next().ok_or_else(wrong)?];
            let digits = std::str::from_utf8(&digits).map_err(|_| wrong())?;
            bytes.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| AddressError::Form("it is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Tls, AddressError> {
        text.parse::<PostgresAddress>().map(|address| address.tls)
    }

    #[test]
    fn the_server_is_verified_unless_it_is_this_host_or_the_address_says_otherwise() {
        assert_eq!(check("postgresql://ann@db.example/plumb"), Ok(Tls::Verify(SYSTEM_ROOTS.into())));
        assert_eq!(check("postgresql://ann@db.example/plumb?sslmode=require"), Ok(Tls::Require));
        assert_eq!(check("postgresql://ann@db.example/plumb?sslmode=disable"), Ok(Tls::Disable));
        assert_eq!(check("postgresql://ann@localhost/plumb"), Ok(Tls::Prefer));
        assert_eq!(
            check("postgresql://ann@localhost,db.example/plumb"),
            Ok(Tls::Verify(SYSTEM_ROOTS.into()))
        );
        assert_eq!(check("postgresql:///plumb?host=/run/postgresql"), Ok(Tls::Prefer));
        let own = "postgresql://db.example/plumb?sslmode=verify-full&sslrootcert=%2Fetc%2Fown.crt";
        assert_eq!(check(own), Ok(Tls::Verify("/etc/own.crt".into())));
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for secret in [
            "postgresql://ann:hunter2@db.example/plumb",
            "postgresql://db.example/plumb?password=hunter2",
            "postgresql://ann:hunter2@[db.example/plumb",
            "postgresql://db.example/plumb?sslmode=hunter2",
            "hunter2",
        ] {
            let error = check(secret).expect_err(secret);
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        assert_eq!(check("postgresql://ann:x@db.example/plumb"), Err(AddressError::Password));
        assert_eq!(check("mysql://db.example/plumb"), Err(AddressError::Scheme));
        assert!(check("postgresql:///plumb").is_err(), "no host");
        assert!(check("postgresql://localhost/plumb?sslrootcert=/x").is_err(), "would not be looked at");
        assert!(check("postgresql://localhost/plumb?sslmode=verify-full&sslrootcert=%2").is_err());
        assert!(check(&format!("postgresql://localhost/{}", "x".repeat(5000))).is_err());
    }
}
