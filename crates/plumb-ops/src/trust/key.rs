//! The keys of this host.
//!
//! ```text
//!  $PLUMB_HOME/keys/     0700
//!  ├── alice.pem         0600, PKCS #8, sealed by a passphrase if one was given
//!  └── alice.pub         "ed25519:…", so that a sealed key need not be opened to be known
//! ```

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use plumb_model::SignerName;
use plumb_trust::{KeyId, Passphrase, PublicKey, SecretKey};
use serde::Serialize;

use super::TrustError;
use crate::Plumb;
use crate::error::{OpsError, io as io_error};

/// Largest key file that is read; a sealed key has 400 bytes.
const KEY_FILE_BYTES: u64 = 16 * 1024;

/// A key of this host, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyView {
    /// Its name here.
    pub name: SignerName,
    /// Its public part, `ed25519:…`.
    pub public: String,
    /// Its name in metadata.
    pub id: KeyId,
    /// A passphrase is needed to use it.
    pub sealed: bool,
}

impl Plumb<'_> {
    /// Makes a key, sealed if there is a passphrase.
    ///
    /// # Errors
    /// [`TrustError::KeyExists`] and others.
    pub fn new_key(&self, name: &SignerName, passphrase: Option<&Passphrase>) -> Result<KeyView, OpsError> {
        let folder = self.home.keys();
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&folder).map_err(io_error("make", &folder))?;
        let key = SecretKey::from_seed(&random()?);
        let path = folder.join(format!("{name}.pem"));
        let salt = random()?;
        let text = key
            .to_pem(passphrase.map(|passphrase| (passphrase, &salt)))
            .map_err(|source| TrustError::Key { path: path.clone(), source })?;
        // The public part first: a key whose public part is missing would be there and not be seen.
        let public = folder.join(format!("{name}.pub"));
        if path.exists() {
            return Err(TrustError::KeyExists { name: name.clone() }.into());
        }
        write_new(&path, text.as_bytes()).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => TrustError::KeyExists { name: name.clone() }.into(),
            _ => OpsError::Io { action: "write", path: path.clone(), source },
        })?;
        let line = format!("{}\n", key.public());
        fs::write(&public, line).map_err(io_error("write", &public))?;
        let sealed = passphrase.is_some();
        Ok(KeyView { name: name.clone(), public: key.public().to_string(), id: key.public().id(), sealed })
    }

    /// The keys of this host, by name.
    ///
    /// # Errors
    /// [`OpsError::Io`], [`TrustError::Key`].
    pub fn keys(&self) -> Result<Vec<KeyView>, OpsError> {
        let folder = self.home.keys();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(OpsError::Io { action: "read", path: folder, source }),
        };
        let mut keys = Vec::new();
        for entry in entries {
            let name = entry.map_err(io_error("read", &folder))?.file_name();
            let name =
                name.to_str().and_then(|name| name.strip_suffix(".pem")).and_then(|name| name.parse().ok());
            if let Some(name) = name {
                keys.push(self.key_view(&name)?);
            }
        }
        keys.sort_by(|a: &KeyView, b| a.name.cmp(&b.name));
        Ok(keys)
    }

    /// One key of this host.
    ///
    /// # Errors
    /// [`TrustError::NoKey`] and others.
    pub fn key_view(&self, name: &SignerName) -> Result<KeyView, OpsError> {
        let text = self.key_text(name)?;
        let sealed = text.contains("BEGIN ENCRYPTED PRIVATE KEY");
        let path = self.home.keys().join(format!("{name}.pub"));
        let public = match read(&path) {
            Ok(line) => line.parse::<PublicKey>().map_err(|source| TrustError::Key { path, source })?,
            // It can be told from an open key, and is written once more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.secret_key(name)?.public(),
            Err(source) => return Err(OpsError::Io { action: "read", path, source }),
        };
        Ok(KeyView { name: name.clone(), public: public.to_string(), id: public.id(), sealed })
    }

    /// Opens a key.
    pub(crate) fn secret_key(&self, name: &SignerName) -> Result<SecretKey, OpsError> {
        let text = self.key_text(name)?;
        let path = self.home.keys().join(format!("{name}.pem"));
        let fail = |source| OpsError::from(TrustError::Key { path: path.clone(), source });
        match SecretKey::from_pem(&text, None) {
            Err(plumb_trust::KeyError::Sealed) => {
                let passphrase = (self.options.passphrase)(name);
                SecretKey::from_pem(&text, passphrase.as_ref()).map_err(fail)
            }
            other => other.map_err(fail),
        }
    }

    fn key_text(&self, name: &SignerName) -> Result<String, OpsError> {
        let path = self.home.keys().join(format!("{name}.pem"));
        let mode = match fs::metadata(&path) {
            Ok(metadata) => metadata.permissions().mode() & 0o7777,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TrustError::NoKey { name: name.clone() }.into());
            }
            Err(source) => return Err(OpsError::Io { action: "read", path, source }),
        };
        if mode & 0o077 != 0 {
            return Err(TrustError::Exposed { path, mode }.into());
        }
        read(&path).map_err(io_error("read", &path))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(fs::File::open(path)?, KEY_FILE_BYTES), &mut text)?;
    Ok(text)
}

/// Writes a file that appears whole, only for this user, and never replaces another.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::hard_link(&draft, path));
    // The draft has no further use, whatever came of it; what counts is the first error.
    let removed = fs::remove_file(&draft);
    written.and(removed)
}

/// 32 bytes from the kernel.
pub(crate) fn random() -> Result<[u8; 32], OpsError> {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        let more = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
        filled += more.map_err(|errno| OpsError::Io {
            action: "read random bytes from",
            path: PathBuf::from("getrandom(2)"),
            source: errno.into(),
        })?;
    }
    Ok(bytes)
}
