//! Who may sign, and what counts as a signature.

use expect_test::{Expect, expect};
use pgp::crypto::hash::HashAlgorithm;
use plumb_fetch::Keyring;

use crate::key::{KeySpec, MADE, TestKey};
use crate::mirror::NOW;

const TEXT: &str = "Suite: stable\n- dash\n\nend\n";

/// The outcome of checking `message` with the public part of `key`: the text, or the message of the error.
fn outcome(key: &TestKey, message: &str) -> Result<String, String> {
    let keyring = Keyring::empty().with("test", &key.public()).unwrap();
    let names = names(key);
    keyring.signed_text("http://m/InRelease", message.as_bytes(), NOW).map_err(|error| {
        names.iter().fold(error.to_string(), |text, (name, shown)| text.replace(name, shown))
    })
}

/// The fingerprints in a message differ from run to run.
fn names(key: &TestKey) -> Vec<(String, &'static str)> {
    key.fingerprints().into_iter().zip(["<primary>", "<subkey>"]).collect()
}

fn check_refused(spec: &KeySpec, expect: &Expect) {
    let key = TestKey::with(spec);
    let refused = outcome(&key, &key.sign(TEXT, NOW - 100)).unwrap_err();
    expect.assert_eq(
        refused.trim_start_matches("`http://m/InRelease` has no valid signature by a trusted key: "),
    );
}

#[test]
fn a_good_signature_gives_its_text() {
    let key = TestKey::new();
    assert_eq!(outcome(&key, &key.sign(TEXT, NOW - 100)).unwrap().trim_end(), TEXT.trim_end());
    assert_eq!(outcome(&key, &key.sign_by_primary(TEXT, NOW - 100)).unwrap().trim_end(), TEXT.trim_end());
    let armored = Keyring::empty().with("armored", &key.public_armored()).unwrap();
    armored.signed_text("x", key.sign(TEXT, NOW).as_bytes(), NOW).unwrap();
    // One trusted signature among others is enough: archives sign with the keys of two releases.
    let other = TestKey::new();
    let both = TestKey::sign_by_all(&[&other, &key], TEXT, NOW - 100);
    assert_eq!(outcome(&key, &both).unwrap().trim_end(), TEXT.trim_end());
    assert_eq!(outcome(&other, &both).unwrap().trim_end(), TEXT.trim_end());
}

#[test]
fn a_changed_text_is_refused() {
    let key = TestKey::new();
    let message = key.sign(TEXT, NOW - 100);
    let refused = outcome(&key, &message.replace("stable", "unstable")).unwrap_err();
    expect!["`http://m/InRelease` has no valid signature by a trusted key: the signature by key <subkey> does not fit the text"].assert_eq(&refused);
    for bad in ["", "Suite: stable\n", &message[..message.len() / 2], &format!("Evil: yes\n{message}")] {
        let refused = outcome(&key, bad).unwrap_err();
        assert_eq!(refused, "`http://m/InRelease` is not signed text (OpenPGP, RFC 9580 section 7)", "{bad}");
    }
    assert!(outcome(&key, &format!("{message}Evil: yes\n")).is_err());
}

#[test]
fn an_unknown_key_is_refused() {
    let key = TestKey::new();
    let other = TestKey::new();
    let keyring = Keyring::empty().with("test", &key.public()).unwrap();
    let error = keyring.signed_text("x", other.sign(TEXT, NOW).as_bytes(), NOW).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "`x` has no valid signature by a trusted key: key {} is not trusted",
            other.fingerprints()[1]
        )
    );
    assert!(Keyring::empty().signed_text("x", key.sign(TEXT, NOW).as_bytes(), NOW).is_err());
    assert!(Keyring::debian().unwrap().signed_text("x", key.sign(TEXT, NOW).as_bytes(), NOW).is_err());
}

#[test]
fn weak_digests_are_refused() {
    let key = TestKey::with(&KeySpec { rsa: true, ..KeySpec::default() });
    for (hash, name) in [(HashAlgorithm::Sha1, "SHA1"), (HashAlgorithm::Sha224, "SHA224")] {
        let refused = outcome(&key, &key.sign_with(TEXT, NOW, hash)).unwrap_err();
        assert!(refused.ends_with(&format!("a signature uses {name}, which is not safe")), "{refused}");
    }
    check_refused(
        &KeySpec { rsa: true, binding_hash: HashAlgorithm::Sha224, ..KeySpec::default() },
        &expect!["key <subkey> is not bound to a trusted key"],
    );
}

#[test]
fn keys_that_may_not_sign_are_refused() {
    let good = KeySpec::default;
    let lifetime_s = 1000;
    check_refused(&KeySpec { revoked: true, ..good() }, &expect!["key <subkey> was revoked"]);
    check_refused(&KeySpec { subkey_revoked: true, ..good() }, &expect!["key <subkey> was revoked"]);
    check_refused(&KeySpec { lifetime_s, ..good() }, &expect!["key <subkey> was expired when it signed"]);
    check_refused(
        &KeySpec { subkey_lifetime_s: lifetime_s, ..good() },
        &expect!["key <subkey> was expired when it signed"],
    );
    check_refused(
        &KeySpec { subkey_signs: false, ..good() },
        &expect!["key <subkey> is not made for signing"],
    );
    check_refused(
        &KeySpec { bound_back: false, ..good() },
        &expect!["key <subkey> does not bind itself to its primary key"],
    );
}

#[test]
fn a_signature_made_before_its_key_expired_counts() {
    let key = TestKey::with(&KeySpec { lifetime_s: 1000, subkey_lifetime_s: 1000, ..KeySpec::default() });
    assert!(outcome(&key, &key.sign(TEXT, MADE + 999)).is_ok());
    assert!(outcome(&key, &key.sign(TEXT, MADE + 1000)).is_err());
    assert!(outcome(&key, &key.sign(TEXT, MADE - 1)).is_err(), "signed before the key was made");
    let future = outcome(&TestKey::new(), &key.sign(TEXT, NOW + 15 * 3600)).unwrap_err();
    assert!(future.ends_with("a signature is from the future"), "{future}");
}

#[test]
fn keyrings_that_are_none_are_refused() {
    for bad in [b"".as_slice(), b"hello", b"\x99\x00"] {
        let error = Keyring::empty().with("mirror.gpg", bad).unwrap_err().to_string();
        assert_eq!(error, "cannot read the keyring `mirror.gpg`");
    }
}
