//! Keys: Ed25519 (RFC 8032), named as TUF names them.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo, SecretDocument};
use plumb_model::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

use crate::json;

/// Length of an Ed25519 signature, bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// Work that a guess of a passphrase costs: scrypt with N = 2^15, r = 8, p = 1, which is 32 MiB and a tenth of a
/// second (RFC 7914; OWASP's password storage recommendation).
const SCRYPT_LOG_N: u8 = 15;

/// Why a text is not a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// Not a public key.
    #[error("this is not a public key; write it as `ed25519:` and 64 hex digits, or as PEM")]
    NotPublic,
    /// Not a private key.
    #[error("this is not an Ed25519 private key in PKCS #8 form")]
    NotPrivate,
    /// A passphrase is needed.
    #[error("the private key is sealed with a passphrase")]
    Sealed,
    /// The passphrase does not fit.
    #[error("the passphrase does not open the private key")]
    WrongPassphrase,
    /// A key could not be written.
    #[error("the private key cannot be written")]
    Unwritable,
}

/// A key's name: the digest of its public part, in the form that TUF gives it (TUF specification 1.0.33, 4.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Digest);

impl KeyId {
    /// Reads 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        Digest::from_hex(text).ok().map(KeyId)
    }

    /// The first 12 digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.short()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        KeyId::from_hex(&text).ok_or_else(|| serde::de::Error::custom("not the name of a key"))
    }
}

/// The public part of a key; on the heap, as it is carried about in lists and arguments. Shown and read as `ed25519:` and 64 hex digits; PEM is read, too.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(Box<VerifyingKey>);

impl PublicKey {
    /// Reads the 32 raw bytes in hex.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        let key = VerifyingKey::from_bytes(&bytes).ok()?;
        // A key of small order makes one signature good for many messages (RFC 8032, 8.9; "Taming the many EdDSAs").
        (!key.is_weak()).then_some(PublicKey(Box::new(key)))
    }

    /// The 32 raw bytes in hex.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0.as_bytes())
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let form = json!({"keytype": "ed25519", "keyval": {"public": self.hex()}, "scheme": "ed25519"});
        KeyId(Digest::of(&json::canonical(&form).unwrap_or_default()))
    }

    /// Is `signature` one of this key over `message`?
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
        self.0.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", self.hex())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if let Some(hex) = text.strip_prefix("ed25519:") {
            return PublicKey::from_hex(hex).ok_or(KeyError::NotPublic);
        }
        let key = VerifyingKey::from_public_key_pem(text).map_err(|_| KeyError::NotPublic)?;
        PublicKey::from_hex(&hex::encode(key.as_bytes())).ok_or(KeyError::NotPublic)
    }
}

/// A text that is never shown.
#[derive(Clone)]
pub struct Passphrase(String);

impl Passphrase {
    /// Wraps it.
    #[must_use]
    pub fn new(text: String) -> Self {
        Passphrase(text)
    }

    /// The text itself, for what else it opens.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// A whole key. Never shown; its bytes are wiped when it is dropped.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        SecretKey(SigningKey::from_bytes(seed))
    }

    /// Its public part.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(Box::new(self.0.verifying_key()))
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }

    /// The key as PKCS #8 in PEM (RFC 8410), as `openssl pkey` reads it; sealed with scrypt and AES-256 (PBES2, RFC
    /// 8018) if there is a passphrase. `salt` must be random.
    ///
    /// # Errors
    /// [`KeyError::Unwritable`].
    pub fn to_pem(&self, sealed: Option<(&Passphrase, &[u8; 32])>) -> Result<String, KeyError> {
        // An OCTET STRING of 32 bytes in the OCTET STRING of PKCS #8 (RFC 8410, 7).
        let mut inner = vec![0x04, 0x20];
        inner.extend(self.0.as_bytes());
        let plain =
            PrivateKeyInfo::new(pkcs8::AlgorithmIdentifierRef { oid: ED25519, parameters: None }, &inner);
        let Some((passphrase, salt)) = sealed else {
            let document = SecretDocument::encode_msg(&plain).map_err(|_| KeyError::Unwritable)?;
            return Ok(document
                .to_pem("PRIVATE KEY", LineEnding::LF)
                .map_err(|_| KeyError::Unwritable)?
                .to_string());
        };
        let (salt, iv) = salt.split_at(16);
        let iv: &[u8; 16] = iv.try_into().map_err(|_| KeyError::Unwritable)?;
        let scrypt =
            pkcs8::pkcs5::scrypt::Params::new(SCRYPT_LOG_N, 8, 1, 32).map_err(|_| KeyError::Unwritable)?;
        let scheme = pkcs8::pkcs5::pbes2::Parameters::scrypt_aes256cbc(scrypt, salt, iv)
            .map_err(|_| KeyError::Unwritable)?;
        let document =
            plain.encrypt_with_params(scheme, passphrase.0.as_bytes()).map_err(|_| KeyError::Unwritable)?;
        Ok(document
            .to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)
            .map_err(|_| KeyError::Unwritable)?
            .to_string())
    }

    /// Reads what [`SecretKey::to_pem`] or `openssl genpkey -algorithm ed25519` wrote.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn from_pem(text: &str, passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
            let passphrase = passphrase.ok_or(KeyError::Sealed)?;
            let (_, document) = SecretDocument::from_pem(text).map_err(|_| KeyError::NotPrivate)?;
            let info =
                EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(|_| KeyError::NotPrivate)?;
            let plain = info.decrypt(passphrase.0.as_bytes()).map_err(|_| KeyError::WrongPassphrase)?;
            let key = SigningKey::from_pkcs8_der(plain.as_bytes()).map_err(|_| KeyError::WrongPassphrase)?;
            return Ok(SecretKey(key));
        }
        SigningKey::from_pkcs8_pem(text).map(SecretKey).map_err(|_| KeyError::NotPrivate)
    }
}

/// id-Ed25519 (RFC 8410, 3).
const ED25519: pkcs8::ObjectIdentifier = pkcs8::ObjectIdentifier::new_unwrap("1.3.101.112");

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public().id().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answer() {
        // RFC 8032, 7.1, test 2.
        let mut seed = [0; 32];
        hex::decode_to_slice("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", &mut seed)
            .expect("hex");
        let key = SecretKey::from_seed(&seed);
        assert_eq!(key.public().hex(), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature = key.sign(&[0x72]);
        assert!(hex::encode(signature).starts_with("92a009a9f0d4cab8720e820b5f642540"));
        assert!(key.public().verifies(&[0x72], &signature));
        assert!(!key.public().verifies(&[0x73], &signature));
        assert!(!key.public().verifies(&[0x72], &signature[1..]));
    }

    #[test]
    fn files() {
        let key = SecretKey::from_seed(&[7; 32]);
        let open = key.to_pem(None).expect("a file");
        assert_eq!(SecretKey::from_pem(&open, None).expect("the key").public(), key.public());
        let passphrase = Passphrase::new("correct horse".to_owned());
        let sealed = key.to_pem(Some((&passphrase, &[3; 32]))).expect("a file");
        assert_eq!(SecretKey::from_pem(&sealed, Some(&passphrase)).expect("the key").public(), key.public());
        assert_eq!(SecretKey::from_pem(&sealed, None).expect_err("sealed"), KeyError::Sealed);
        let wrong = Passphrase::new("wrong".to_owned());
        assert_eq!(
            SecretKey::from_pem(&sealed, Some(&wrong)).expect_err("sealed"),
            KeyError::WrongPassphrase
        );
        assert_eq!(SecretKey::from_pem("x", None).expect_err("no key"), KeyError::NotPrivate);
        assert!(!format!("{key:?}{passphrase:?}").contains("correct"));
    }

    #[test]
    fn public_forms() {
        let key = SecretKey::from_seed(&[7; 32]).public();
        assert_eq!(key.to_string().parse(), Ok(key.clone()));
        let der = [
            &hex::decode("302a300506032b6570032100").expect("hex")[..],
            &hex::decode(key.hex()).expect("hex"),
        ]
        .concat();
        let pem = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der)
        );
        assert_eq!(pem.parse(), Ok(key));
        // The neutral element: its signatures would fit many messages.
        assert!(PublicKey::from_hex(&format!("01{}", "00".repeat(31))).is_none());
        for bad in ["", "ed25519:", "ed25519:00", "rsa:00"] {
            assert_eq!(bad.parse::<PublicKey>(), Err(KeyError::NotPublic), "{bad}");
        }
    }
}
