//! Signed documents. The first byte says which way: an envelope as it comes; a statement that a trusted key signed; a root as
//! it comes; timestamp, snapshot and targets that a trusted key signed; a key as text.

use std::collections::BTreeMap;

use plumb_trust::tuf::{Draft, Trusted};
use plumb_trust::{Envelope, KeyId, Passphrase, PublicKey, SecretKey, json, statement};
use serde_json::{Value, json};

/// When it is, seconds since 1970: nothing that is signed here has expired.
const NOW_S: i64 = 1_796_040_000;

pub(crate) fn run(data: &[u8]) {
    let Some((&way, data)) = data.split_first() else { return };
    let key = SecretKey::from_seed(&[1; 32]);
    match way % 5 {
        0 => envelope(data, &key),
        1 => said(data, &key),
        2 => root(data),
        3 => drop(metadata(data, &key)),
        _ => keys(data),
    }
}

fn trusted(key: &SecretKey) -> BTreeMap<KeyId, PublicKey> {
    BTreeMap::from([(key.public().id(), key.public())])
}

/// Nobody can make the signature of a key by changing bytes.
fn envelope(data: &[u8], key: &SecretKey) {
    let Ok(envelope) = Envelope::from_bytes(data) else { return };
    let again = Envelope::from_bytes(&envelope.to_bytes()).expect("what is written is read");
    assert_eq!(again, envelope);
    if let Ok((payload, by)) = envelope.verify(statement::PAYLOAD_TYPE, &trusted(key)) {
        assert_eq!(by, [key.public().id()]);
        // The only envelopes of this key are those that `said` makes of the corpus.
        assert!(serde_json::from_slice::<Value>(&payload).is_ok());
    }
}

fn said(data: &[u8], key: &SecretKey) {
    let bytes = Envelope::sign(statement::PAYLOAD_TYPE, data, key).to_bytes();
    let Ok(statement) = statement::open(&bytes, &trusted(key)) else { return };
    assert_eq!(statement.by, [key.public().id()]);
    let again = statement::sign(statement.subject.clone(), &statement.predicate, key).expect("it has a form");
    let again = statement::open(&again.to_bytes(), &trusted(key)).expect("what is signed is read");
    assert_eq!((again.subject, again.predicate), (statement.subject, statement.predicate));
}

fn root(data: &[u8]) {
    let app = "shop".parse().expect("a name");
    if let Ok(trusted) = Trusted::new(data, &app) {
        assert_eq!(trusted.root().app, app);
        assert!(!trusted.root().signers().is_empty() || trusted.root().names.is_empty());
    }
    if let Ok(draft) = Draft::from_bytes(data) {
        let again =
            Draft::from_bytes(&draft.to_bytes().expect("it has a form")).expect("what is written is read");
        assert_eq!(again.root, draft.root);
    }
}

/// The bytes are up to three JSON documents, one per line: timestamp, snapshot, targets. Were they all accepted?
fn metadata(data: &[u8], key: &SecretKey) -> bool {
    let app = "shop".parse().expect("a name");
    let mut draft = Draft::first(&app, &"alice".parse().expect("a name"), &key.public(), NOW_S + 86_400);
    draft.sign(key).expect("signed");
    let mut here = Trusted::new(&draft.to_bytes().expect("bytes"), &app).expect("a root");
    let mut files = data.split(|byte| *byte == b'\n').map(|line| signed(line, key));
    let mut next = || files.next().flatten();
    let Some(timestamp) = next() else { return false };
    if here.timestamp(&timestamp, NOW_S).is_err() {
        return false;
    }
    assert!(
        here.clone().timestamp(&timestamp, NOW_S).is_ok_and(|changed| !changed),
        "the same again is no news"
    );
    let (Some(snapshot), Some(targets)) = (next(), next()) else { return false };
    here.snapshot(&snapshot, NOW_S).is_ok()
        && here.targets(&targets, NOW_S).is_ok()
        && here.documents().is_some()
}

/// A document with a good signature; its canonical form is read as itself.
fn signed(line: &[u8], key: &SecretKey) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let bytes = json::canonical(&value)?;
    let signature = hex::encode(key.sign(&bytes));
    let keyid = key.public().id();
    Some(
        json!({"signed": value, "signatures": [{"keyid": keyid, "sig": signature}]}).to_string().into_bytes(),
    )
}

fn keys(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    // A sealed key names its own work, which can be seconds; only that it is read is looked at here.
    let _ = SecretKey::from_pem(text, None);
    // Whatever it is, the same is shown of it.
    assert_eq!(format!("{:?}", Passphrase::new(text.to_owned())), "Passphrase(…)");
}

#[cfg(test)]
mod tests {
    /// The corpus reaches the end of `metadata`: otherwise nothing behind a digest would be looked at.
    #[test]
    fn the_corpus_has_good_metadata() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/trust/metadata");
        let data = std::fs::read(path).expect("the corpus");
        let key = plumb_trust::SecretKey::from_seed(&[1; 32]);
        assert!(super::metadata(&data[1..], &key));
    }
}
