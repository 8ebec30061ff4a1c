//! The keys that may sign an archive.

use std::sync::Arc;

use pgp::composed::{Deserializable as _, SignedPublicKey};

use crate::{Error, Result};

/// Debian's public keys; `keys/README.md` says which package they come from.
const DEBIAN: &[u8] = include_bytes!("../keys/debian-archive-keyring.gpg");

/// Public keys (OpenPGP certificates). A signature by any other key counts for nothing.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    certificates: Arc<Vec<SignedPublicKey>>,
}

impl Keyring {
    /// Nobody is trusted.
    #[must_use]
    pub fn empty() -> Keyring {
        Keyring::default()
    }

    /// The keys of Debian's archives.
    ///
    /// # Errors
    /// [`Error::Keyring`], which would be a fault of this build.
    pub fn debian() -> Result<Keyring> {
        Keyring::empty().with("built-in keys of Debian", DEBIAN)
    }

    /// This keyring and the keys in `bytes`: binary or armored OpenPGP certificates. `name` is for messages.
    ///
    /// # Errors
    /// [`Error::Keyring`] if `bytes` is anything else or holds no key.
    pub fn with(&self, name: &str, bytes: &[u8]) -> Result<Keyring> {
        let fail = |source| Error::Keyring { name: name.to_owned(), source };
        let (found, _) = SignedPublicKey::from_reader_many(bytes).map_err(|error| fail(error.into()))?;
        let mut certificates = Vec::clone(&self.certificates);
        let before = certificates.len();
        for certificate in found {
            certificates.push(certificate.map_err(|error| fail(error.into()))?);
        }
        if certificates.len() == before {
            return Err(fail("it holds no key".into()));
        }
        Ok(Keyring { certificates: Arc::new(certificates) })
    }

    pub(crate) fn certificates(&self) -> &[SignedPublicKey] {
        &self.certificates
    }
}
