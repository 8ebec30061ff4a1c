//! What a collection keeps when something is wrong, or young.

use std::fs;
use std::path::PathBuf;

use plumb_model::Digest;
use plumb_model::release::{Release, ReleaseName};

use super::world_tests::{Counter, World, check, make, noise};
use super::{Documents, Mode, Policy, Reason};
use crate::Plumb;

const WEEK_S: i64 = 7 * 86_400;

pub(crate) fn policy(newest: usize, young_s: i64) -> Policy {
    Policy { newest, young_s, documents: Documents::Keep }
}

/// A world with three releases.
pub(crate) fn three() -> (World, Plumb<'static>) {
    let world = World::new();
    let plumb = world.open(&Counter::new(None)).unwrap();
    (1..=3).for_each(|number| make(&plumb, number).unwrap());
    (world, plumb)
}

pub(crate) fn name(number: u64) -> ReleaseName {
    ReleaseName { app: "tiny".parse().unwrap(), number }
}

/// The manifest of the image of the release's only machine.
pub(crate) fn manifest(release: &Release) -> Digest {
    release.content.machines.values().next().unwrap().image
}

/// The files that an object lies in.
pub(crate) fn files(plumb: &Plumb<'_>, digest: &Digest) -> Vec<PathBuf> {
    let hex = digest.hex();
    let at = |place: &str| plumb.store.root().join(place).join(&hex[..2]).join(&hex[2..]);
    ["objects", "folded"].map(at).into_iter().filter(|path| path.exists()).collect()
}

/// Loses an object; gives back its bytes.
pub(crate) fn lose(plumb: &Plumb<'_>, digest: &Digest) -> Vec<u8> {
    let bytes = plumb.store.read_bytes(digest, 1 << 20).unwrap();
    files(plumb, digest).iter().for_each(|path| fs::remove_file(path).unwrap());
    bytes
}

#[test]
fn what_a_lost_document_leads_to_stays() {
    let (_world, plumb) = three();
    let release = plumb.read_release(&name(3)).unwrap();
    let image = plumb.image(&manifest(&release)).unwrap();
    let old = plumb.read_release(&name(1)).unwrap();
    let first = manifest(&old);
    let package = plumb.lock_of(&release).unwrap().packages[0].digest;
    let inventory = image.inventory.as_ref().unwrap().digest;
    for lost in [release.lock, image.recipe, inventory, first, manifest(&release)] {
        let draft = plumb.store.put_bytes(&noise(77, 9000)).unwrap();
        let bytes = lose(&plumb, &lost);
        let outcome = plumb.collect(&policy(1, 0), Mode::Do).unwrap();
        let problem = format!("object `{lost}` is not in the store");
        assert_eq!(outcome.problems, [problem.as_str()]);
        assert!(outcome.releases.iter().take(2).all(|row| row.reasons == [Reason::Damage].into()));
        assert!(plumb.store.contains(&package) && plumb.store.contains(&draft));
        assert!(!plumb.is_collected(&name(1)).unwrap());
        plumb.store.put_bytes(&bytes).unwrap();
    }
    check(&plumb, &[1, 2, 3].into(), "nothing of it is lost");
    let outcome = plumb.collect(&policy(1, 0), Mode::Do).unwrap();
    assert!(outcome.problems.is_empty());
    assert!(!plumb.store.contains(&Digest::of(&noise(77, 9000))));
    assert!(plumb.is_collected(&name(2)).unwrap() && plumb.store.contains(&package));
}

#[test]
fn a_dry_run_leaves_damage_where_it_is() {
    let (world, plumb) = three();
    plumb.collect(&policy(3, 0), Mode::Do).unwrap();
    let release = plumb.read_release(&name(3)).unwrap();
    let image = plumb.image(&manifest(&release)).unwrap();
    // One plain, one folded.
    for digest in [manifest(&release), image.recipe] {
        let path = files(&plumb, &digest).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let before = world.files();
    let outcome = plumb.collect(&policy(1, 0), Mode::DryRun).unwrap();
    assert_eq!(outcome.problems.len(), 1, "{:?}", outcome.problems);
    assert_eq!(world.files(), before);
    assert!(fs::read_dir(plumb.store.root().join("damaged")).unwrap().next().is_none());
}

#[test]
fn a_young_root_keeps_what_it_is_folded_to() {
    let (_world, plumb) = three();
    plumb.collect(&policy(2, 0), Mode::Do).unwrap();
    let release = plumb.read_release(&name(2)).unwrap();
    let image = plumb.image(&manifest(&release)).unwrap();
    assert!(plumb.store.bases(&image.root.digest).unwrap().contains(&Digest::of(&noise(5, 30_000))));
    plumb.collect(&policy(1, WEEK_S), Mode::Do).unwrap();
    assert!(plumb.is_collected(&name(2)).unwrap());
    plumb.store.verify(&image.root.digest).unwrap();
    for _ in 0..2 {
        let found = plumb.check_store(Mode::Do).unwrap();
        assert!(found.damages.is_empty(), "{:#?}", found.damages);
    }
    // It goes with its age.
    plumb.collect(&policy(1, 0), Mode::Do).unwrap();
    assert!(!plumb.store.contains(&image.root.digest));
    assert!(!plumb.store.contains(&Digest::of(&noise(5, 30_000))));
    check(&plumb, &[1, 2, 3].into(), "the rest is whole");
}

#[test]
fn the_newest_number_is_never_given_again() {
    let (_world, plumb) = three();
    let remove = Policy { newest: 0, young_s: 0, documents: Documents::Remove };
    plumb.collect(&remove, Mode::Do).unwrap();
    assert_eq!(plumb.store.releases(&"tiny".parse().unwrap()).unwrap(), [3]);
    check(&plumb, &[3].into(), "the newest");
}

#[test]
fn a_release_document_that_is_damaged() {
    let (_world, plumb) = three();
    plumb.store.put_entry(super::root::PINS, "tiny.1", b"tiny@1").unwrap();
    let path = plumb.store.root().join("releases/tiny/1");
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"{}").unwrap();
    // What it needs is not known; and it is not forgotten that it was pinned.
    let outcome = plumb.collect(&policy(1, 0), Mode::Do).unwrap();
    assert_eq!(outcome.problems, ["`tiny@1` in the store is damaged"]);
    assert_eq!(outcome.releases.len(), 3);
    assert!(!plumb.is_collected(&name(2)).unwrap());
    assert_eq!(plumb.pinned().unwrap(), [name(1)]);
    // Where it would go anyway it goes.
    plumb.unpin(&name(1)).unwrap();
    let remove = Policy { newest: 1, young_s: 0, documents: Documents::Remove };
    let outcome = plumb.collect(&remove, Mode::Do).unwrap();
    assert!(outcome.problems.is_empty(), "{:?}", outcome.problems);
    assert_eq!(plumb.store.releases(&"tiny".parse().unwrap()).unwrap(), [3]);
}
