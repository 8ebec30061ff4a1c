//! OpenPGP keys made for a test, good ones and bad ones.

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
    SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, Signature, SignatureConfig, SignatureType, Subpacket, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Duration, KeyDetails, Password, SigningKey, Tag, Timestamp};

/// When the keys of the tests were made: 2023-11-14.
pub const MADE: i64 = 1_700_000_000;

/// What is special about a key.
#[derive(Clone)]
pub struct KeySpec {
    pub lifetime_s: u32,
    pub subkey_lifetime_s: u32,
    pub revoked: bool,
    pub subkey_revoked: bool,
    pub subkey_signs: bool,
    pub bound_back: bool,
    pub binding_hash: HashAlgorithm,
    /// RSA signs weak digests, EdDSA does not.
    pub rsa: bool,
}

impl Default for KeySpec {
    fn default() -> KeySpec {
        KeySpec {
            lifetime_s: 0,
            subkey_lifetime_s: 0,
            revoked: false,
            subkey_revoked: false,
            subkey_signs: true,
            bound_back: true,
            binding_hash: HashAlgorithm::Sha256,
            rsa: false,
        }
    }
}

/// A key with a signing subkey, as Debian's archive keys have one.
pub struct TestKey {
    secret: SignedSecretKey,
}

fn password() -> Password {
    Password::empty()
}

fn at(unix_s: i64) -> Timestamp {
    Timestamp::from_secs(u32::try_from(unix_s).unwrap())
}

/// The settings of a signature of type `typ` by `key`.
fn config(key: &impl KeyDetails, typ: SignatureType, hash: HashAlgorithm, unix_s: i64) -> SignatureConfig {
    let mut config = SignatureConfig::v4(typ, key.algorithm(), hash);
    config.hashed_subpackets = vec![
        Subpacket::regular(SubpacketData::SignatureCreationTime(at(unix_s))).unwrap(),
        Subpacket::regular(SubpacketData::IssuerFingerprint(key.fingerprint())).unwrap(),
    ];
    config
}

fn flags(sign: bool) -> Subpacket {
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(sign);
    Subpacket::regular(SubpacketData::KeyFlags(flags)).unwrap()
}

fn lifetime(seconds: u32) -> Subpacket {
    Subpacket::regular(SubpacketData::KeyExpirationTime(Duration::from_secs(seconds))).unwrap()
}

impl TestKey {
    pub fn new() -> TestKey {
        TestKey::with(&KeySpec::default())
    }

    pub fn with(spec: &KeySpec) -> TestKey {
        let key_type = || if spec.rsa { KeyType::Rsa(2048) } else { KeyType::Ed25519Legacy };
        let subkey = SubkeyParamsBuilder::default()
            .key_type(key_type())
            .can_sign(true)
            .created_at(at(MADE))
            .build()
            .unwrap();
        let mut params = SecretKeyParamsBuilder::default();
        params
            .key_type(key_type())
            .can_certify(true)
            .can_sign(true)
            .created_at(at(MADE))
            .primary_user_id("Archive of a test <test@example.org>".into())
            .subkeys(vec![subkey]);
        let secret = params.build().unwrap().generate(rand::thread_rng()).unwrap();
        let mut key = TestKey { secret };
        key.bind(spec);
        key
    }

    /// Replaces the self-signatures, which rPGP dates to now, by ones of [`MADE`] as the spec wants them.
    fn bind(&mut self, spec: &KeySpec) {
        let primary = &self.secret.primary_key;
        let subkey = &self.secret.secret_subkeys[0].key;
        let (primary_public, subkey_public) = (primary.public_key().clone(), subkey.public_key().clone());
        let hash = HashAlgorithm::Sha256;

        let mut own = config(primary, SignatureType::CertPositive, hash, MADE);
        own.hashed_subpackets.extend([flags(true), lifetime(spec.lifetime_s)]);
        let user = self.secret.details.users[0].id.clone();
        let own = own.sign_certification(primary, &primary_public, &password(), Tag::UserId, &user).unwrap();

        let mut binding = config(primary, SignatureType::SubkeyBinding, spec.binding_hash, MADE);
        binding.hashed_subpackets.extend([flags(spec.subkey_signs), lifetime(spec.subkey_lifetime_s)]);
        if spec.bound_back {
            let back = config(subkey, SignatureType::KeyBinding, hash, MADE);
            let back =
                back.sign_primary_key_binding(subkey, &subkey_public, &password(), &primary_public).unwrap();
            let back = SubpacketData::EmbeddedSignature(Box::new(back));
            binding.hashed_subpackets.push(Subpacket::regular(back).unwrap());
        }
        let binding =
            binding.sign_subkey_binding(primary, &primary_public, &password(), &subkey_public).unwrap();
        let mut subkey_signatures = vec![binding];
        if spec.subkey_revoked {
            let revocation = config(primary, SignatureType::SubkeyRevocation, hash, MADE + 1000);
            subkey_signatures.push(
                revocation
                    .sign_subkey_binding(primary, &primary_public, &password(), &subkey_public)
                    .unwrap(),
            );
        }
        let mut revocations = Vec::new();
        if spec.revoked {
            let revocation = config(primary, SignatureType::KeyRevocation, hash, MADE + 1000);
            revocations.push(revocation.sign_key(primary, &password(), &primary_public).unwrap());
        }
        self.secret.details.users[0].signatures = vec![own];
        self.secret.details.revocation_signatures = revocations;
        self.secret.secret_subkeys[0].signatures = subkey_signatures;
    }

    /// The public part, in binary form.
    pub fn public(&self) -> Vec<u8> {
        SignedPublicKey::from(self.secret.clone()).to_bytes().unwrap()
    }

    pub fn public_armored(&self) -> Vec<u8> {
        SignedPublicKey::from(self.secret.clone()).to_armored_bytes(ArmorOptions::default()).unwrap()
    }

    /// `text` clear-signed by the subkey.
    pub fn sign(&self, text: &str, unix_s: i64) -> String {
        self.sign_with(text, unix_s, HashAlgorithm::Sha256)
    }

    pub fn sign_with(&self, text: &str, unix_s: i64, hash: HashAlgorithm) -> String {
        clear_sign(&self.secret.secret_subkeys[0].key, text, unix_s, hash)
    }

    /// `text` clear-signed by the primary key.
    pub fn sign_by_primary(&self, text: &str, unix_s: i64) -> String {
        clear_sign(&self.secret.primary_key, text, unix_s, HashAlgorithm::Sha512)
    }

    /// `text` with a signature by each of the keys.
    pub fn sign_by_all(keys: &[&TestKey], text: &str, unix_s: i64) -> String {
        let message = CleartextSignedMessage::new_many(text, |text| {
            let sign = |key: &&TestKey| -> Signature {
                let key = &key.secret.secret_subkeys[0].key;
                let config = config(key, SignatureType::Text, HashAlgorithm::Sha256, unix_s);
                config.sign(key, &password(), text.as_bytes()).unwrap()
            };
            Ok(keys.iter().map(sign).collect())
        });
        message.unwrap().to_armored_string(ArmorOptions::default()).unwrap()
    }
}

fn clear_sign(key: &impl SigningKey, text: &str, unix_s: i64, hash: HashAlgorithm) -> String {
    let config = config(key, SignatureType::Text, hash, unix_s);
    let message = CleartextSignedMessage::new(text, config, key, &password()).unwrap();
    message.to_armored_string(ArmorOptions::default()).unwrap()
}

impl TestKey {
    /// Of the primary key and of the subkey, as messages show them.
    pub fn fingerprints(&self) -> [String; 2] {
        let subkey = &self.secret.secret_subkeys[0].key;
        [self.secret.primary_key.fingerprint().to_string(), subkey.fingerprint().to_string()]
    }
}
