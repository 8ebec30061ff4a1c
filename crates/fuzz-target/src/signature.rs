//! Signed release files and OpenPGP keys.
//!
//! `data/example.gpg` is a key whose secret half was thrown away after it signed `data/release`, so no other text may
//! ever be believed, whatever is done to the message around it.

use std::sync::LazyLock;

use plumb_fetch::Keyring;

const KEY: &[u8] = include_bytes!("../data/example.gpg");
const TEXT: &str = include_str!("../data/release");

/// 2026: after the signature was made.
const NOW_UNIX_S: i64 = 1_767_225_600;

static KEYS: LazyLock<Keyring> =
    LazyLock::new(|| Keyring::debian().and_then(|keys| keys.with("example", KEY)).expect("good keys"));

pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = KEYS.signed_text("http://example.org/InRelease", data, NOW_UNIX_S) {
        assert_eq!(text.trim_end(), TEXT.trim_end(), "a text that nobody signed is believed");
    }
    // Whether it is a keyring does not matter; reading it must end well.
    let _ = Keyring::empty().with("foreign", data);
}
