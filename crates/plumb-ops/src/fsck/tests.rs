//! What is looked at, and what is left alone.

use std::fs;

use plumb_model::{AppName, Digest};

use super::{DamageKind, Outcome};
use crate::collect::Mode;
use crate::collect::tests::{files, lose, manifest, name, policy, three};
use crate::collect::world_tests::{check, noise};

#[test]
fn a_dry_run_changes_nothing() {
    let (world, plumb) = three();
    plumb.collect(&policy(3, 0), Mode::Do).unwrap();
    let release = plumb.read_release(&name(3)).unwrap();
    let image = plumb.image(&manifest(&release)).unwrap();
    // Documents plain and folded, a root that is folded to a file, that file.
    let page = Digest::of(&noise(103, 12_000));
    let spoilt = [manifest(&release), image.recipe, release.lock, image.root.digest, page];
    for digest in &spoilt {
        let path = files(&plumb, digest).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    fs::write(plumb.store.root().join("format.123"), b"1\n").unwrap();
    let before = world.files();
    for _ in 0..2 {
        let found = plumb.check_store(Mode::DryRun).unwrap();
        for digest in &spoilt {
            let what = format!("object {digest}");
            assert!(found.damages.iter().any(|damage| damage.what == what), "{what}: {:#?}", found.damages);
        }
        assert!(!found.is_good());
        assert_eq!(world.files(), before);
        assert!(fs::read_dir(plumb.store.root().join("damaged")).unwrap().next().is_none());
        assert!(plumb.store.root().join("format.123").exists());
    }
}

#[test]
fn what_a_release_that_cannot_be_read_may_need_stays() {
    let (_world, plumb) = three();
    plumb.collect(&policy(3, 0), Mode::Do).unwrap();
    let release = plumb.read_release(&name(3)).unwrap();
    let root = plumb.image(&manifest(&release)).unwrap().root.digest;
    // A root that is folded to a file, that file, and the document that says who needs them.
    lose(&plumb, &Digest::of(&noise(103, 12_000)));
    let document = plumb.store.root().join("releases/tiny/3");
    let bytes = fs::read(&document).unwrap();
    fs::remove_file(&document).unwrap();
    fs::write(&document, b"{}").unwrap();
    let before = files(&plumb, &root);
    let outcome = || {
        let found = plumb.check_store(Mode::Do).unwrap();
        let of_root = |damage: &&super::Damage| damage.what == format!("object {root}");
        let damage = found.damages.iter().find(of_root).unwrap();
        (damage.outcome.clone(), damage.reason.clone())
    };
    let (left, reason) = outcome();
    assert_eq!(left, Outcome::Left);
    assert!(reason.ends_with("; release tiny@3 cannot be read, and may need it"), "{reason}");
    assert!(!before.is_empty() && files(&plumb, &root) == before);
    // Without that release nobody needs it.
    fs::remove_file(&document).unwrap();
    assert_eq!(outcome().0, Outcome::Repaired("moved away; no release needs it".to_owned()));
    assert!(files(&plumb, &root).is_empty());
    fs::write(&document, bytes).unwrap();
}

#[test]
fn what_a_collected_release_needs_is_missed() {
    let (_world, plumb) = three();
    let old = plumb.read_release(&name(1)).unwrap();
    let image = plumb.image(&manifest(&old)).unwrap();
    plumb.collect(&policy(1, 0), Mode::Do).unwrap();
    assert!(plumb.is_collected(&name(1)).unwrap());
    let package = plumb.lock_of(&old).unwrap().packages[0].digest;
    let page = Digest::of(&noise(101, 12_000));
    // One by one, and one that leads to another.
    for lost in [vec![image.recipe], vec![package], vec![page], vec![manifest(&old), image.recipe, page]] {
        let bytes: Vec<Vec<u8>> = lost.iter().map(|digest| lose(&plumb, digest)).collect();
        let found = plumb.check_store(Mode::Do).unwrap();
        let first = &found.damages[0];
        assert_eq!((first.kind, &first.outcome), (DamageKind::Missing, &Outcome::Left), "{first:#?}");
        assert_eq!(first.what, format!("object {}", lost[0]));
        assert_eq!(first.needed_by[0], name(1));
        for bytes in bytes {
            plumb.store.put_bytes(&bytes).unwrap();
        }
    }
    check(&plumb, &[1, 2, 3].into(), "all is there again");
}

#[test]
fn packages_that_never_were_there_are_not_missed() {
    let (_world, plumb) = three();
    let package = plumb.lock_of(&plumb.read_release(&name(1)).unwrap()).unwrap().packages[0].digest;
    lose(&plumb, &package);
    plumb.collect(&policy(1, 0), Mode::Do).unwrap();
    assert!(plumb.is_collected(&name(1)).unwrap());
    let found = plumb.check_store(Mode::Do).unwrap();
    assert!(found.damages.iter().all(|damage| damage.kind == DamageKind::Entry), "{:#?}", found.damages);
    // The note is still one about this release.
    plumb.collect(&policy(1, 0), Mode::Do).unwrap();
    assert!(plumb.is_collected(&name(1)).unwrap());
}

#[test]
fn trust_and_channels_are_looked_at() {
    let (_world, plumb) = three();
    let app: AppName = "tiny".parse().unwrap();
    let elsewhere: AppName = "elsewhere".parse().unwrap();
    plumb.store.add_promotion(&app, &"prod".parse().unwrap(), 1, b"{}").unwrap();
    plumb.store.add_root(&elsewhere, 1, b"{}").unwrap();
    let found = plumb.check_store(Mode::Do).unwrap();
    let damages: Vec<(DamageKind, &str)> =
        found.damages.iter().map(|damage| (damage.kind, damage.what.as_str())).collect();
    assert_eq!(
        damages,
        [(DamageKind::Record, "trust of elsewhere"), (DamageKind::Record, "channel prod of tiny")]
    );
    // With trust of its own the promotion is still none.
    plumb.trust_or_begin(&app).unwrap();
    let found = plumb.check_store(Mode::Do).unwrap();
    assert_eq!(found.damages.len(), 2, "{:#?}", found.damages);
    assert!(!found.is_good());
}
