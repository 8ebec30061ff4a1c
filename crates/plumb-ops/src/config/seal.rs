//! Secrets at rest: each is an age file (age-encryption.org/v1, X25519), sealed for this home and for everybody else who is
//! named a recipient.
//!
//! ```text
//!  $PLUMB_HOME/secrets/          0700
//!  ├── identity.txt              0600, as age-keygen(1) writes it; or encrypted by `age -p`
//!  └── identity.new              only while the key is rotated: until every secret is sealed for it
//!
//!  age( plumb-secret 1 \n deployment \n name \n version \n  the secret )
//! ```
//! What a secret is for is sealed with it: whoever can write to the database cannot give one deployment another's secret.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use age::secrecy::ExposeSecret as _;
use age::x25519;
use plumb_guest_proto::MAX_SECRET_BYTES;
use plumb_model::config::ConfigName;
use plumb_model::{DeploymentName, Digest};

use super::ConfigError;
use crate::Plumb;
use crate::error::{OpsError, io as io_error};
use crate::trust::write_new;

/// Largest file of identities that is read: some lines each.
const IDENTITY_FILE_BYTES: u64 = 64 * 1024;

/// First line of what is sealed.
const HEAD: &str = "plumb-secret 1";

/// What a secret is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Purpose<'a> {
    pub(super) deployment: &'a DeploymentName,
    pub(super) name: &'a ConfigName,
    pub(super) version: &'a Digest,
}

impl Purpose<'_> {
    fn head(&self) -> String {
        format!("{HEAD}\n{}\n{}\n{}\n", self.deployment, self.name, self.version)
    }
}

/// What opens the secrets of this home; the first is the one for which new ones are sealed.
pub(super) struct Identities(Vec<x25519::Identity>);

impl Identities {
    /// The public part of the key of this home.
    pub(super) fn public(&self) -> String {
        self.0.first().map(|own| own.to_public().to_string()).unwrap_or_default()
    }

    /// Opens a secret and checks what it is for.
    pub(super) fn open(&self, sealed: &[u8], purpose: Purpose<'_>) -> Result<Vec<u8>, OpsError> {
        let bytes = self.bytes(sealed).map_err(|source| ConfigError::Sealed {
            deployment: purpose.deployment.clone(),
            name: purpose.name.clone(),
            source,
        })?;
        match bytes.strip_prefix(purpose.head().as_bytes()) {
            Some(secret) => Ok(secret.to_vec()),
            None => Err(ConfigError::Swapped {
                deployment: purpose.deployment.clone(),
                name: purpose.name.clone(),
            }
            .into()),
        }
    }

    /// What is sealed, with its head.
    fn bytes(&self, sealed: &[u8]) -> Result<Vec<u8>, age::DecryptError> {
        let decryptor = age::Decryptor::new_buffered(sealed)?;
        let reader = decryptor.decrypt(self.0.iter().map(|identity| identity as &dyn age::Identity))?;
        let mut bytes = Vec::new();
        reader.take(MAX_SECRET_BYTES as u64 * 2).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The same for other recipients.
    pub(super) fn reseal(
        &self,
        sealed: &[u8],
        recipients: &[x25519::Recipient],
    ) -> Result<Vec<u8>, OpsError> {
        let bytes = self.bytes(sealed).map_err(ConfigError::Reseal)?;
        encrypt(&bytes, recipients)
    }
}

/// Seals a secret.
pub(super) fn seal(
    secret: &[u8],
    purpose: Purpose<'_>,
    recipients: &[x25519::Recipient],
) -> Result<Vec<u8>, OpsError> {
    let mut bytes = purpose.head().into_bytes();
    bytes.extend_from_slice(secret);
    encrypt(&bytes, recipients)
}

fn encrypt(bytes: &[u8], recipients: &[x25519::Recipient]) -> Result<Vec<u8>, OpsError> {
    let write = || -> Result<Vec<u8>, age::EncryptError> {
        let all = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
        let mut sealed = Vec::new();
        let mut writer = age::Encryptor::with_recipients(all)?.wrap_output(&mut sealed)?;
        writer.write_all(bytes)?;
        writer.finish()?;
        Ok(sealed)
    };
    Ok(write().map_err(ConfigError::Seal)?)
}

/// `age1…` as a recipient.
pub(super) fn recipient(text: &str) -> Result<x25519::Recipient, OpsError> {
    let refused = |_| ConfigError::NoRecipient { value: text.chars().take(80).collect() };
    Ok(x25519::Recipient::from_str(text).map_err(refused)?)
}

impl Plumb<'_> {
    fn secrets_folder(&self) -> PathBuf {
        self.home.root().join("secrets")
    }

    fn identity_path(&self) -> PathBuf {
        match &self.options.age_identity {
            Some(path) => path.clone(),
            None => self.secrets_folder().join("identity.txt"),
        }
    }

    fn new_identity_path(&self) -> PathBuf {
        self.secrets_folder().join("identity.new")
    }

    /// The identities of this home; a first one is made.
    pub(super) fn identities_or_new(&self) -> Result<Identities, OpsError> {
        match self.identities()? {
            Some(found) => Ok(found),
            None => {
                let identity = x25519::Identity::generate();
                self.write_identity(&identity, &self.identity_path())?;
                // Another command may have been faster; then its key counts.
                self.identities()?
                    .ok_or_else(|| ConfigError::NoIdentity { path: self.identity_path() }.into())
            }
        }
    }

    /// The identities of this home, if there are some.
    pub(super) fn identities(&self) -> Result<Option<Identities>, OpsError> {
        // What is opened from here on is in no core dump of ours, nor of a process that we start.
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(rustix::process::Resource::Core, none).map_err(|errno| OpsError::Io {
            action: "limit core dumps of",
            path: PathBuf::from("/proc/self"),
            source: errno.into(),
        })?;
        let mut all = Vec::new();
        for path in [self.new_identity_path(), self.identity_path()] {
            all.extend(self.read_identities(&path)?);
        }
        Ok(if all.is_empty() { None } else { Some(Identities(all)) })
    }

    fn read_identities(&self, path: &Path) -> Result<Vec<x25519::Identity>, OpsError> {
        let file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("read", path))?,
        };
        let mode = file.metadata().map_err(io_error("read", path))?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(crate::TrustError::Exposed { path: path.to_owned(), mode }.into());
        }
        let mut bytes = Vec::new();
        file.take(IDENTITY_FILE_BYTES).read_to_end(&mut bytes).map_err(io_error("read", path))?;
        if bytes.starts_with(b"age-encryption.org/") {
            bytes = self.open_identity_file(&bytes, path)?;
        }
        let refused = || OpsError::from(ConfigError::BadIdentity { path: path.to_owned() });
        let text = String::from_utf8(bytes).map_err(|_| refused())?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let all: Vec<x25519::Identity> =
            lines.map(|line| line.parse().map_err(|_| refused())).collect::<Result<_, _>>()?;
        if all.is_empty() { Err(refused()) } else { Ok(all) }
    }

    /// A file of identities that a passphrase protects, as `age -p` makes it.
    fn open_identity_file(&self, bytes: &[u8], path: &Path) -> Result<Vec<u8>, OpsError> {
        let refused = || OpsError::from(ConfigError::BadIdentity { path: path.to_owned() });
        let name = "secrets".parse().map_err(|_| refused())?;
        let sealed = Digest::of(bytes);
        if let Some((_, opened)) =
            self.unsealed.lock().iter().flat_map(|all| all.iter()).find(|one| one.0 == sealed)
        {
            return Ok(opened.clone());
        }
        let passphrase = (self.options.passphrase)(&name)
            .ok_or_else(|| ConfigError::NoPassphrase { path: path.to_owned() })?;
        let identity = age::scrypt::Identity::new(passphrase.reveal().to_owned().into());
        let open = || -> Result<Vec<u8>, age::DecryptError> {
            let reader = age::Decryptor::new_buffered(bytes)?
                .decrypt(std::iter::once(&identity as &dyn age::Identity))?;
            let mut opened = Vec::new();
            reader.take(IDENTITY_FILE_BYTES).read_to_end(&mut opened)?;
            Ok(opened)
        };
        let opened =
            open().map_err(|source| ConfigError::LockedIdentity { path: path.to_owned(), source })?;
        // Asked for once by a command, however often it needs it.
        if let Ok(mut all) = self.unsealed.lock() {
            all.push((sealed, opened.clone()));
        }
        Ok(opened)
    }

    fn write_identity(&self, identity: &x25519::Identity, path: &Path) -> Result<(), OpsError> {
        if let Some(folder) = path.parent() {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(folder).map_err(io_error("make", folder))?;
        }
        let text = format!(
            "# The key that opens the secrets of deployments. Without it they are lost: keep a copy.\n\
             # public key: {}\n{}\n",
            identity.to_public(),
            identity.to_string().expose_secret()
        );
        match write_new(path, text.as_bytes()) {
            // Another command was faster; its key counts.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(io_error("write", path)),
        }
    }

    /// Makes the key to which secrets are to be sealed anew, unless a former rotation has left one.
    pub(super) fn begin_rotation(&self) -> Result<Identities, OpsError> {
        if self.options.age_identity.is_some() {
            return Err(ConfigError::ForeignIdentity { path: self.identity_path() }.into());
        }
        let path = self.new_identity_path();
        if !path.exists() {
            self.write_identity(&x25519::Identity::generate(), &path)?;
        }
        self.identities_or_new()
    }

    /// Forgets the former key.
    pub(super) fn end_rotation(&self) -> Result<(), OpsError> {
        let (new, path) = (self.new_identity_path(), self.identity_path());
        fs::rename(&new, &path).map_err(io_error("replace", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let own = Identities(vec![x25519::Identity::generate()]);
        let other = Identities(vec![x25519::Identity::generate()]);
        let recipients = [recipient(&own.public()).expect("a recipient")];
        let (shop, name, version) =
            ("shop".parse().expect("a name"), "password".parse().expect("a name"), Digest::of(b"1"));
        let purpose = Purpose { deployment: &shop, name: &name, version: &version };
        let sealed = seal(b"hush", purpose, &recipients).expect("sealed");
        assert!(sealed.starts_with(b"age-encryption.org/v1\n"));
        assert!(!sealed.windows(4).any(|part| part == b"hush"));
        assert_eq!(own.open(&sealed, purpose).expect("opened"), b"hush");
        assert!(other.open(&sealed, purpose).is_err(), "not for others");
        let elsewhere = "test".parse().expect("a name");
        for wrong in [
            Purpose { deployment: &elsewhere, ..purpose },
            Purpose { name: &"user".parse().expect("a name"), ..purpose },
            Purpose { version: &Digest::of(b"2"), ..purpose },
        ] {
            assert!(own.open(&sealed, wrong).is_err(), "{wrong:?}");
        }
        let both = [recipients[0].clone(), recipient(&other.public()).expect("a recipient")];
        let again = own.reseal(&sealed, &both).expect("sealed anew");
        assert_eq!(other.open(&again, purpose).expect("opened"), b"hush");
        assert!(recipient("age1nonsense").is_err());
    }
}
