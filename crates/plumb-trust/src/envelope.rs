//! DSSE: what signed statements are wrapped in (<https://github.com/secure-systems-lab/dsse>, protocol and envelope 1.0).
//!
//! ```text
//!  {"payload": base64, "payloadType": type, "signatures": [{"keyid": hex, "sig": base64}]}
//!
//!  signed     "DSSEv1" SP length(type) SP type SP length(payload) SP payload
//! ```

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

use crate::key::{KeyId, PublicKey, SecretKey};

/// Largest envelope that is read. A release of a hundred machines with its packages stays below one megabyte.
pub const MAX_ENVELOPE_BYTES: usize = 4 * 1024 * 1024;

/// Most signatures of one envelope that are looked at; each costs the check of a signature.
const MAX_SIGNATURES: usize = 32;

/// Why an envelope is refused.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope.
    #[error("it is not a signed envelope")]
    Malformed(#[source] Option<serde_json::Error>),
    /// Larger than is read.
    #[error("it has more than {MAX_ENVELOPE_BYTES} bytes")]
    TooLarge,
    /// Something else is signed.
    #[error("it is a `{found}`, not a `{wanted}`")]
    Type {
        /// Wanted.
        wanted: &'static str,
        /// Found.
        found: String,
    },
    /// Nobody who is trusted signed it.
    #[error("no trusted key signed it{}", signers(keys))]
    Untrusted {
        /// The keys that it says to be signed by.
        keys: Vec<String>,
    },
    /// It names a trusted key, but the signature is not of it: it was changed.
    #[error("its signature of key {} is wrong: it was changed after it was signed", key.short())]
    Wrong {
        /// The key.
        key: KeyId,
    },
}

fn signers(keys: &[String]) -> String {
    match keys {
        [] => ": it has no signature".to_owned(),
        keys => format!(" (signed by {})", keys.join(", ")),
    }
}

/// A signed envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Signature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// Pre-authentication encoding: what is signed.
fn encoded(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend(payload);
    out
}

fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

impl Envelope {
    /// Signs `payload`.
    #[must_use]
    pub fn sign(payload_type: &str, payload: &[u8], key: &SecretKey) -> Self {
        let signature = key.sign(&encoded(payload_type, payload));
        Envelope {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![Signature {
                keyid: key.public().id().to_string(),
                sig: STANDARD.encode(signature),
            }],
        }
    }

    /// The bytes that are kept: compact JSON and a newline.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Reads an envelope; says nothing about its signatures.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge);
        }
        serde_json::from_slice(bytes).map_err(|source| EnvelopeError::Malformed(Some(source)))
    }

    /// The payload, whoever signed it: for what does not depend on that. `None` if it is not base64.
    #[must_use]
    pub fn payload(&self) -> Option<Vec<u8>> {
        decode(&self.payload)
    }

    /// The payload and who of `trusted` signed it: at least one. A trusted key that is named with a signature that is
    /// not its own is an error even if another signature is good.
    ///
    /// # Errors
    /// [`EnvelopeError`].
    pub fn verify(
        &self,
        payload_type: &'static str,
        trusted: &BTreeMap<KeyId, PublicKey>,
    ) -> Result<(Vec<u8>, Vec<KeyId>), EnvelopeError> {
        if self.payload_type != payload_type {
            return Err(EnvelopeError::Type { wanted: payload_type, found: shown(&self.payload_type) });
        }
        let payload = self.payload().ok_or(EnvelopeError::Malformed(None))?;
        let message = encoded(&self.payload_type, &payload);
        let mut by = Vec::new();
        for signature in self.signatures.iter().take(MAX_SIGNATURES) {
            let Some(key) = KeyId::from_hex(&signature.keyid) else { continue };
            let Some(public) = trusted.get(&key) else { continue };
            let bytes = decode(&signature.sig).unwrap_or_default();
            if !public.verifies(&message, &bytes) {
                return Err(EnvelopeError::Wrong { key });
            }
            if !by.contains(&key) {
                by.push(key);
            }
        }
        if by.is_empty() {
            let keys =
                self.signatures.iter().take(MAX_SIGNATURES).map(|s| s.keyid.chars().take(12).collect());
            return Err(EnvelopeError::Untrusted { keys: keys.collect() });
        }
        Ok((payload, by))
    }
}

/// A foreign text, short and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(80).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "http://example.com/HelloWorld";

    fn trust(keys: &[&SecretKey]) -> BTreeMap<KeyId, PublicKey> {
        keys.iter().map(|key| (key.public().id(), key.public())).collect()
    }

    #[test]
    fn encoding_is_the_protocols() {
        // The example of the protocol's text.
        assert_eq!(encoded(TYPE, b"hello world"), b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn only_what_a_trusted_key_signed() {
        let (alice, bob) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let envelope = Envelope::sign(TYPE, b"hello", &alice);
        let again = Envelope::from_bytes(&envelope.to_bytes()).expect("an envelope");
        assert_eq!(again, envelope);
        let (payload, by) = again.verify(TYPE, &trust(&[&alice, &bob])).expect("trusted");
        assert_eq!((payload.as_slice(), by), (&b"hello"[..], vec![alice.public().id()]));
        assert!(matches!(again.verify(TYPE, &trust(&[&bob])), Err(EnvelopeError::Untrusted { .. })));
        assert!(matches!(again.verify("other", &trust(&[&alice])), Err(EnvelopeError::Type { .. })));
        let mut changed = envelope.clone();
        changed.payload = STANDARD.encode(b"hallo");
        assert!(matches!(changed.verify(TYPE, &trust(&[&alice])), Err(EnvelopeError::Wrong { .. })));
        let mut unsigned = envelope.clone();
        unsigned.signatures.clear();
        assert!(matches!(unsigned.verify(TYPE, &trust(&[&alice])), Err(EnvelopeError::Untrusted { .. })));
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let alice = SecretKey::from_seed(&[1; 32]);
        let bytes = Envelope::sign(TYPE, b"hello world, this is signed", &alice).to_bytes();
        let trusted = trust(&[&alice]);
        for at in 0..bytes.len() - 1 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let read =
                Envelope::from_bytes(&changed).ok().and_then(|envelope| envelope.verify(TYPE, &trusted).ok());
            assert!(read.is_none_or(|(payload, _)| payload == b"hello world, this is signed"), "byte {at}");
        }
    }
}
