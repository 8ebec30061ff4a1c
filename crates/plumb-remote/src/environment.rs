//! What the environment says about credentials and endpoints. Read once by the program and handed down.

use std::fmt;
use std::path::PathBuf;

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text, for whoever has to send it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// The variables that count, with the names that other tools use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: Option<String>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: Option<Secret>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<Secret>,
    /// `AWS_REGION`, `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`.
    pub endpoint: Option<String>,
    /// `AWS_PROFILE`.
    pub profile: Option<String>,
    /// `AWS_SHARED_CREDENTIALS_FILE`, `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// `AWS_CONFIG_FILE`, `~/.aws/config`.
    pub config_file: Option<PathBuf>,
    /// Where tools for registries keep logins, first found first: `REGISTRY_AUTH_FILE`,
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `$DOCKER_CONFIG/config.json`, `~/.docker/config.json`.
    pub registry_logins: Vec<PathBuf>,
}

impl Environment {
    /// From the environment: `lookup` is given the name of a variable.
    #[must_use]
    pub fn from_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Environment {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let path = |name: &str, below: &str| get(name).map(|value| PathBuf::from(value).join(below));
        let file = |name: &str, below: &str| get(name).map(PathBuf::from).or_else(|| path("HOME", below));
        let logins = [
            get("REGISTRY_AUTH_FILE").map(PathBuf::from),
            path("XDG_RUNTIME_DIR", "containers/auth.json"),
            path("DOCKER_CONFIG", "config.json"),
            path("HOME", ".docker/config.json"),
        ];
        Environment {
            access_key: get("AWS_ACCESS_KEY_ID"),
            secret_key: get("AWS_SECRET_ACCESS_KEY").map(Secret::new),
            session_token: get("AWS_SESSION_TOKEN").map(Secret::new),
            region: get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")),
            endpoint: get("AWS_ENDPOINT_URL_S3").or_else(|| get("AWS_ENDPOINT_URL")),
            profile: get("AWS_PROFILE"),
            credentials_file: file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
            config_file: file("AWS_CONFIG_FILE", ".aws/config"),
            registry_logins: logins.into_iter().flatten().collect(),
        }
    }
}

/// Largest file of settings or logins that is read.
const SETTINGS_BYTES: u64 = 1024 * 1024;

/// A file of another tool, if it is there and is text.
pub(crate) fn read_settings(path: &std::path::Path) -> Option<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(SETTINGS_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}
