//! Whether a signed text is signed by somebody we trust.
//!
//! rPGP checks the mathematics of one signature against one key. What makes a key trusted and fit for the purpose is
//! decided here (RFC 9580, sections 5.2 and 10.1):
//!
//! - the key is in the keyring, or is a subkey that a key of the keyring binds and that binds itself back;
//! - it may sign data, was not expired when it signed, and was never revoked. A revocation counts for the past as well:
//!   whoever stole a key can choose the date of a signature;
//! - no SHA-1, MD5 or RIPEMD-160 anywhere on the way;
//! - the signature itself is neither expired nor from the future.

use pgp::composed::{CleartextSignedMessage, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails as _, Tag};

use crate::{Error, Keyring, Result, limit};

/// Digests that still resist collisions.
const STRONG: [HashAlgorithm; 5] = [
    HashAlgorithm::Sha256,
    HashAlgorithm::Sha384,
    HashAlgorithm::Sha512,
    HashAlgorithm::Sha3_256,
    HashAlgorithm::Sha3_512,
];

impl Keyring {
    /// The text that a trusted key signed in the clear-signed message `bytes`, with `\n` line ends. `url` is for
    /// messages. Only the returned text may be believed: the message can hold more than what is signed.
    ///
    /// # Errors
    /// [`Error::NotSigned`] if it is no such message, [`Error::BadSignature`] with a reason per signature.
    pub fn signed_text(&self, url: &str, bytes: &[u8], now_unix_s: i64) -> Result<String> {
        let not_signed = |source| Error::NotSigned { url: url.to_owned(), source };
        let text = std::str::from_utf8(bytes).map_err(|error| not_signed(error.into()))?;
        let (message, _) =
            CleartextSignedMessage::from_string(text).map_err(|error| not_signed(error.into()))?;
        let signed = message.signed_text();
        let mut reasons = Vec::new();
        for signature in message.signatures() {
            match self.check(signature, signed.as_bytes(), now_unix_s) {
                Ok(()) => return Ok(signed.replace("\r\n", "\n")),
                Err(reason) => reasons.push(reason),
            }
        }
        if reasons.is_empty() {
            reasons.push("there is no signature".to_owned());
        }
        Err(Error::BadSignature { url: url.to_owned(), reasons })
    }

    /// Checks one signature; the error says why it does not count.
    fn check(&self, signature: &Signature, text: &[u8], now_unix_s: i64) -> std::result::Result<(), String> {
        if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
            return Err("a signature is not for a document".to_owned());
        }
        if !is_strong(signature) {
            let algorithm =
                signature.hash_alg().map_or_else(|| "an unknown digest".to_owned(), |hash| hash.to_string());
            return Err(format!("a signature uses {algorithm}, which is not safe"));
        }
        let created = created(signature).ok_or("a signature has no date")?;
        if created > now_unix_s + limit::CLOCK_SKEW_S {
            return Err("a signature is from the future".to_owned());
        }
        if ends(created, signature.signature_expiration_time()).is_some_and(|end| end <= now_unix_s) {
            return Err("a signature is expired".to_owned());
        }
        for certificate in self.certificates() {
            if claims(signature, &certificate.primary_key) {
                let name = certificate.primary_key.fingerprint();
                signature
                    .verify(&certificate.primary_key, text)
                    .map_err(|_| format!("the signature by key {name} does not fit the text"))?;
                return primary_may_sign(certificate, created)
                    .map_err(|reason| format!("key {name} {reason}"));
            }
            for subkey in &certificate.public_subkeys {
                if !claims(signature, &subkey.key) {
                    continue;
                }
                let name = subkey.key.fingerprint();
                signature
                    .verify(&subkey.key, text)
                    .map_err(|_| format!("the signature by key {name} does not fit the text"))?;
                return primary_is_good(certificate, created)
                    .and_then(|_| subkey_may_sign(certificate, subkey, created))
                    .map_err(|reason| format!("key {name} {reason}"));
            }
        }
        Err(format!("key {} is not trusted", issuer(signature)))
    }
}

fn is_strong(signature: &Signature) -> bool {
    signature.hash_alg().is_some_and(|hash| STRONG.contains(&hash))
}

/// Whether the signature says that `key` made it. Only a claim: it saves trying every key.
fn claims(signature: &Signature, key: &impl pgp::types::KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if !fingerprints.is_empty() {
        return fingerprints.contains(&&key.fingerprint());
    }
    signature.issuer_key_id().contains(&&key.legacy_key_id())
}

fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(ToString::to_string);
    let key_id = || signature.issuer_key_id().first().map(ToString::to_string);
    fingerprint.or_else(key_id).unwrap_or_else(|| "without a name".to_owned())
}

/// When the signature says it was made; only the signed part of the packet counts.
fn created(signature: &Signature) -> Option<i64> {
    signature.created().map(|time| i64::from(time.as_secs()))
}

/// The end of a period that starts at `start`. Zero and absent mean: none.
fn ends(start: i64, period: Option<pgp::types::Duration>) -> Option<i64> {
    period
        .map(|period| i64::from(period.as_secs()))
        .filter(|seconds| *seconds > 0)
        .map(|seconds| start + seconds)
}

/// The newest of the signatures that were made before `at` and that `valid` accepts.
fn newest<'a>(
    signatures: impl Iterator<Item = &'a Signature>,
    at: i64,
    valid: impl Fn(&Signature) -> bool,
) -> Option<&'a Signature> {
    signatures
        .filter(|signature| is_strong(signature) && created(signature).is_some_and(|time| time <= at))
        .filter(|signature| {
            ends(created(signature).unwrap_or(0), signature.signature_expiration_time())
                .is_none_or(|end| at < end)
        })
        .filter(|signature| valid(signature))
        .max_by_key(|signature| created(signature))
}

/// Whether the certificate was in force at `at`. Returns the self-signature that says so.
fn primary_is_good(certificate: &SignedPublicKey, at: i64) -> std::result::Result<&Signature, &'static str> {
    let key = &certificate.primary_key;
    let details = &certificate.details;
    // Weak digests count here: to revoke is the safe direction.
    if details.revocation_signatures.iter().any(|signature| signature.verify_key(key).is_ok()) {
        return Err("was revoked");
    }
    let direct = newest(details.direct_signatures.iter(), at, |signature| signature.verify_key(key).is_ok());
    let by_user = details.users.iter().filter_map(|user| {
        let valid = |signature: &Signature| {
            signature.typ() != Some(SignatureType::CertRevocation)
                && signature.verify_certification(key, Tag::UserId, &user.id).is_ok()
        };
        newest(user.signatures.iter(), at, valid)
    });
    let own = by_user
        .chain(direct)
        .max_by_key(|signature| created(signature))
        .ok_or("has no valid self-signature")?;
    let start = i64::from(key.created_at().as_secs());
    if start > at {
        return Err("did not exist yet when it signed");
    }
    if ends(start, own.key_expiration_time()).is_some_and(|end| end <= at) {
        return Err("was expired when it signed");
    }
    Ok(own)
}

fn primary_may_sign(certificate: &SignedPublicKey, at: i64) -> std::result::Result<(), &'static str> {
    let own = primary_is_good(certificate, at)?;
    if own.key_flags().sign() { Ok(()) } else { Err("is not made for signing") }
}

fn subkey_may_sign(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    at: i64,
) -> std::result::Result<(), &'static str> {
    let primary = &certificate.primary_key;
    let of_type = |typ| subkey.signatures.iter().filter(move |signature| signature.typ() == Some(typ));
    let binds = |signature: &Signature| signature.verify_subkey_binding(primary, &subkey.key).is_ok();
    if of_type(SignatureType::SubkeyRevocation).any(binds) {
        return Err("was revoked");
    }
    let binding =
        newest(of_type(SignatureType::SubkeyBinding), at, binds).ok_or("is not bound to a trusted key")?;
    if !binding.key_flags().sign() {
        return Err("is not made for signing");
    }
    // Without it, anybody could bind somebody else's signing key to their own certificate.
    let back = binding.embedded_signature().ok_or("does not bind itself to its primary key")?;
    if !is_strong(back) || back.verify_primary_key_binding(&subkey.key, primary).is_err() {
        return Err("does not bind itself to its primary key");
    }
    let start = i64::from(subkey.key.created_at().as_secs());
    if start > at {
        return Err("did not exist yet when it signed");
    }
    if ends(start, binding.key_expiration_time()).is_some_and(|end| end <= at) {
        return Err("was expired when it signed");
    }
    Ok(())
}
