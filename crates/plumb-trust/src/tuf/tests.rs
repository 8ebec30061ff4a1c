use std::collections::BTreeMap;

use proptest::prelude::*;

use plumb_model::SignerName;

use super::*;
use crate::key::SecretKey;

const DAY_S: i64 = 86_400;
const NOW_S: i64 = 1_796_040_000;
const FRESH: Fresh = Fresh { long_s: NOW_S + 365 * DAY_S, short_s: NOW_S + 90 * DAY_S, skip: 0 };

fn app() -> AppName {
    "shop".parse().expect("a name")
}

fn name(text: &str) -> SignerName {
    text.parse().expect("a name")
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn first(owner: &SecretKey) -> Vec<u8> {
    let mut draft = Draft::first(&app(), &name("owner"), &owner.public(), NOW_S + 365 * DAY_S);
    draft.sign(owner).expect("signed");
    draft.to_bytes().expect("bytes")
}

fn documents(text: &str) -> BTreeMap<String, Target> {
    BTreeMap::from([("releases/1".to_owned(), Target::of(text.as_bytes()))])
}

/// Takes in all that was published.
fn accept(trusted: &mut Trusted, published: &Published, now_s: i64) -> Result<(), TufError> {
    trusted.timestamp(&published.timestamp, now_s)?;
    trusted.snapshot(&published.files[1].1, now_s)?;
    trusted.targets(&published.files[0].1, now_s)
}

fn published(trusted: &Trusted, text: &str, keys: &[SecretKey]) -> Published {
    publish((trusted.root(), trusted), documents(text), keys, FRESH).expect("published")
}

#[test]
fn what_is_published_is_accepted() {
    let mut here = Trusted::new(&first(&key(1)), &app()).expect("a root");
    let one = published(&here, "one", &[key(1)]);
    assert_eq!(one.files[0].0, "1.targets.json");
    accept(&mut here, &one, NOW_S).expect("good");
    let target = &here.documents().expect("documents").targets["releases/1"];
    assert_eq!(target.digest(), Some(plumb_model::Digest::of(b"one")));
    let two = published(&here, "two", &[key(1)]);
    assert_eq!(two.files[1].0, "2.snapshot.json");
    accept(&mut here, &two, NOW_S).expect("good");
    // A client that was away for both, and one that remembers the first.
    let mut away = Trusted::new(&first(&key(1)), &app()).expect("a root");
    away.remember(&one.timestamp, &one.files[1].1).expect("remembered");
    accept(&mut away, &two, NOW_S).expect("good");
}

#[test]
fn replay_freeze_and_mixing_are_refused() {
    let mut here = Trusted::new(&first(&key(1)), &app()).expect("a root");
    let one = published(&here, "one", &[key(1)]);
    accept(&mut here, &one, NOW_S).expect("good");
    let two = published(&here, "two", &[key(1)]);
    accept(&mut here, &two, NOW_S).expect("good");
    let error = accept(&mut here, &one, NOW_S).expect_err("replayed");
    assert!(matches!(error, TufError::Rollback { role: Role::Timestamp, found: 1, known: 2 }), "{error}");
    let error = accept(&mut here, &two, FRESH.short_s).expect_err("frozen");
    assert!(matches!(error, TufError::Expired { role: Role::Timestamp, .. }), "{error}");
    let mut mixed = two.clone();
    mixed.files[0] = one.files[0].clone();
    let error = accept(&mut here, &mixed, NOW_S).expect_err("mixed");
    assert!(matches!(error, TufError::Mixed { role: Role::Targets, parent: Role::Snapshot }), "{error}");
    mixed.files[1] = one.files[1].clone();
    let error = accept(&mut here, &mixed, NOW_S).expect_err("mixed");
    assert!(matches!(error, TufError::Mixed { role: Role::Snapshot, .. }), "{error}");
    // Everything expires, the root too.
    let error = accept(&mut here, &two, NOW_S + 366 * DAY_S).expect_err("expired");
    assert!(matches!(error, TufError::Expired { role: Role::Root, .. }), "{error}");
}

#[test]
fn the_same_version_cannot_say_two_things() {
    let mut here = Trusted::new(&first(&key(1)), &app()).expect("a root");
    let other = published(&here, "other", &[key(1)]);
    let one = published(&here, "one", &[key(1)]);
    accept(&mut here, &one, NOW_S).expect("good");
    assert!(matches!(here.timestamp(&other.timestamp, NOW_S), Err(TufError::Mixed { .. })));
}

#[test]
fn versions_may_be_passed_over() {
    let mut here = Trusted::new(&first(&key(1)), &app()).expect("a root");
    let one = published(&here, "one", &[key(1)]);
    accept(&mut here, &one, NOW_S).expect("good");
    let three = publish((here.root(), &here), documents("three"), &[key(1)], Fresh { skip: 1, ..FRESH })
        .expect("published");
    assert_eq!((three.files[0].0.as_str(), three.files[1].0.as_str()), ("3.targets.json", "3.snapshot.json"));
    accept(&mut here, &three, NOW_S).expect("good");
}

#[test]
fn others_cannot_sign() {
    let mut here = Trusted::new(&first(&key(1)), &app()).expect("a root");
    let error = publish((here.root(), &here), documents("x"), &[key(2)], FRESH).expect_err("not allowed");
    assert!(matches!(error, TufError::Threshold { role: Role::Targets, found: 0, threshold: 1 }));
    let there = Trusted::new(&first(&key(2)), &app()).expect("a root");
    let theirs = published(&there, "x", &[key(2)]);
    let error = accept(&mut here, &theirs, NOW_S).expect_err("not ours");
    assert!(matches!(error, TufError::Threshold { role: Role::Timestamp, found: 0, .. }));
    let other: AppName = "other".parse().expect("a name");
    let error = Trusted::new(&first(&key(1)), &other).expect_err("another application");
    assert!(matches!(error, TufError::App { .. }));
}

#[test]
fn keys_are_rotated_by_a_chain() {
    let old = first(&key(1));
    let mut here = Trusted::new(&old, &app()).expect("a root");
    let one = published(&here, "one", &[key(1)]);
    accept(&mut here, &one, NOW_S).expect("good");
    let mut draft = Draft::after(here.root(), NOW_S + 365 * DAY_S);
    draft.add(&name("new"), &key(2).public(), &Role::ALL);
    draft.remove(&key(1).public().id());
    draft.sign(&key(2)).expect("signed");
    let error = here.next_root(&draft.to_bytes().expect("bytes")).expect_err("the old key did not sign");
    assert!(matches!(error, TufError::Threshold { role: Role::Root, found: 0, threshold: 1 }));
    draft.sign(&key(1)).expect("signed");
    here.next_root(&draft.to_bytes().expect("bytes")).expect("the chain holds");
    assert_eq!(here.root().version, 2);
    assert_eq!(here.root().key_named(&name("new")), Some(key(2).public().id()));
    assert!(matches!(here.timestamp(&one.timestamp, NOW_S), Err(TufError::Threshold { .. })));
    let two = published(&here, "two", &[key(2)]);
    accept(&mut here, &two, NOW_S).expect("good");
    // A version may not be left out, and not come again.
    let again = here.next_root(&draft.to_bytes().expect("bytes")).expect_err("no version 3");
    assert!(matches!(again, TufError::Threshold { .. } | TufError::Version { .. }));
}

#[test]
fn two_of_three_must_sign() {
    let mut here = Trusted::new(&first(&key(1)), &app()).expect("a root");
    let mut draft = Draft::after(here.root(), NOW_S + 365 * DAY_S);
    draft.add(&name("b"), &key(2).public(), &[Role::Root]);
    draft.add(&name("c"), &key(3).public(), &[Role::Root]);
    draft.threshold(Role::Root, 2);
    draft.sign(&key(1)).expect("signed");
    let error = here.next_root(&draft.to_bytes().expect("bytes")).expect_err("one of two");
    assert!(matches!(error, TufError::Threshold { found: 1, threshold: 2, .. }));
    // The file goes to a colleague, who signs and sends it back.
    let mut received = Draft::from_bytes(&draft.to_bytes().expect("bytes")).expect("a draft");
    received.sign(&key(2)).expect("signed");
    assert_eq!(received.signed_by().len(), 2);
    here.next_root(&received.to_bytes().expect("bytes")).expect("two of three");
    let mut alone = Draft::after(here.root(), NOW_S + 365 * DAY_S);
    alone.threshold(Role::Root, 4);
    assert!(matches!(alone.sign(&key(1)), Err(TufError::Malformed { .. })), "four of three");
}

#[test]
fn a_signature_counts_once() {
    let mut here = Trusted::new(&first(&key(1)), &app()).expect("a root");
    let mut draft = Draft::after(here.root(), NOW_S + 365 * DAY_S);
    draft.add(&name("b"), &key(2).public(), &[Role::Root]);
    draft.threshold(Role::Root, 2);
    draft.sign(&key(1)).expect("signed");
    let text = String::from_utf8(draft.to_bytes().expect("bytes")).expect("text");
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let again = value["signatures"][0].clone();
    value["signatures"].as_array_mut().expect("a list").push(again);
    let error = here.next_root(value.to_string().as_bytes()).expect_err("the same key twice");
    assert!(matches!(error, TufError::Threshold { found: 1, threshold: 2, .. }));
}

proptest! {
    /// No changed byte of any file is taken for something else.
    #[test]
    fn changed_bytes_change_nothing(at in any::<prop::sample::Index>(), bit in 0_u8..8, which in 0_usize..4) {
        let root = first(&key(1));
        let mut here = Trusted::new(&root, &app()).expect("a root");
        let good = published(&here, "one", &[key(1)]);
        let mut files = [root, good.timestamp, good.files[1].1.clone(), good.files[0].1.clone()];
        let place = at.index(files[which].len());
        files[which][place] ^= 1 << bit;
        let read = Trusted::new(&files[0], &app());
        if which == 0 {
            if let Ok(read) = read {
                prop_assert_eq!(read.root(), here.root());
            }
        } else {
            let outcome = here.timestamp(&files[1], NOW_S)
                .and_then(|_| here.snapshot(&files[2], NOW_S))
                .and_then(|()| here.targets(&files[3], NOW_S));
            if outcome.is_ok() {
                prop_assert_eq!(&here.documents().expect("documents").targets, &documents("one"));
            }
        }
    }
}
