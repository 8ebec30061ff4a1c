//! Two people and a remote that cannot be believed: what one says reaches the other, and nothing that was replayed, mixed or
//! changed does.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use plumb_model::{AppName, Digest};
use plumb_trust::key::SecretKey;
use plumb_trust::tuf::{Fresh, Published, Trusted, publish};
use serde_json::Value;
use testkit::{Output, World, copy_example, copy_tree};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Port of the application; always the same, so that it is packed only once on one machine.
const PORT: u16 = 38732;

/// A report of this size is not taken.
const TOO_LARGE_BYTES: u64 = 256 * 1024 * 1024 + 1;

/// Exit code where a signature or a digest does not hold.
const VERIFICATION: i32 = 3;

fn text(path: &Path) -> &str {
    path.to_str().expect("test folders are UTF-8")
}

fn refused(output: &Output, code: i32, why: &str) -> Result<()> {
    ensure!(
        output.code == code && output.stderr.contains(why),
        "{} {}{}",
        output.code,
        output.stdout,
        output.stderr
    );
    Ok(())
}

/// Alice, who made `hello@1` and trusts bob; bob, who has cloned it; and the remote between them, a folder.
struct Team {
    alice: World,
    bob: World,
    remote: PathBuf,
}

impl Team {
    fn new(name: &str) -> Result<Team> {
        let alice = World::new(&format!("{name}-alice"), PLUMB)?;
        let bob = World::new(&format!("{name}-bob"), PLUMB)?;
        let remote = alice.folder().join("remote");
        alice.ok(&["key", "new", "alice", "--open"])?;
        bob.ok(&["key", "new", "bob", "--open"])?;
        let folder = copy_example(&alice, "hello", "app", PORT)?;
        let definition = folder.join("plumb.toml");
        let channel = "\n[channel.prod]\nrequires = [\"approval\"]\n";
        fs::write(&definition, fs::read_to_string(&definition)? + channel)?;
        alice.ok(&["release", text(&folder)])?;
        alice.share()?;
        let key = bob.ok(&["key", "show", "bob"])?.stdout;
        alice.ok(&["trust", "add", "hello", "bob", key.trim()])?;
        alice.ok(&["remote", "add", "origin", text(&remote)])?;
        alice.ok(&["push", "hello"])?;
        alice.share()?;
        let fingerprint = alice.json(&["trust", "hello"])?["fingerprint"].clone();
        let fingerprint = fingerprint.as_str().context("a fingerprint")?;
        let wrong = fingerprint.replace(&fingerprint[7..9], "00");
        refused(
            &bob.run(&["clone", text(&remote), "hello", "--trust", &wrong])?,
            VERIFICATION,
            "another root of trust",
        )?;
        ensure!(bob.json(&["trust"])? == Value::Array(Vec::new()), "nothing of it stays");
        let cloned = bob.ok(&["clone", text(&remote), "hello", "--trust", fingerprint])?;
        ensure!(cloned.stderr.contains(fingerprint), "{}", cloned.stderr);
        Ok(Team { alice, bob, remote })
    }

    fn metadata(&self) -> PathBuf {
        self.remote.join("apps/hello/metadata")
    }

    /// Name of the newest root that the remote shows.
    fn newest_root(&self) -> Result<String> {
        let roots = fs::read_dir(self.metadata())?.filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".root.json")?.parse::<u64>().ok()
        });
        Ok(format!("{}.root.json", roots.max().context("a root")?))
    }

    fn end(self) -> Result<()> {
        self.alice.end()?;
        self.bob.end()
    }
}

/// One team for all of it: what is pushed first is made once.
#[test]
fn a_team_believes_each_other_and_no_remote() -> Result<()> {
    let team = Team::new("team")?;
    every_changed_file_of_a_remote_is_found(&team)?;
    a_remote_cannot_go_back_or_mix(&team)?;
    what_one_says_reaches_the_other(&team)?;
    a_key_that_was_taken_out_stays_out(&team)?;
    a_remote_cannot_stand_still(&team)?;
    a_release_that_is_gone_stops_no_push(&team)?;
    team.end()
}

fn what_one_says_reaches_the_other(team: &Team) -> Result<()> {
    let Team { alice, bob, .. } = team;
    refused(&alice.run(&["promote", "hello@1", "prod"])?, 1, "approval: 0 of 1 approved")?;
    bob.ok(&["approve", "hello@1", "-m", "looked at it"])?;
    bob.ok(&["push", "hello"])?;
    alice.ok(&["pull", "hello"])?;
    alice.ok(&["promote", "hello@1", "prod", "-m", "for everybody"])?;
    refused(&bob.run(&["pull", "hello@prod"])?, 1, "has no channel `prod`")?;
    alice.ok(&["push", "hello"])?;
    let pulled = bob.json(&["pull", "hello@prod"])?;
    assert_eq!((&pulled["release"], &pulled["channels"][0]), (&Value::from("hello@1"), &Value::from("prod")));
    let history = bob.json(&["channel", "hello", "prod"])?;
    assert_eq!(
        (&history[0]["by"][0], &history[0]["reason"]),
        (&Value::from("alice"), &Value::from("for everybody"))
    );

    reports_travel(team)?;

    // Both move a channel. The second learns it, drops hers, and goes on from his.
    bob.ok(&["promote", "hello@1", "dev", "-m", "his"])?;
    bob.ok(&["push", "hello"])?;
    alice.ok(&["promote", "hello@1", "dev", "-m", "hers"])?;
    refused(&alice.run(&["push", "hello"])?, 1, "channel `dev` of `hello` was moved here, and otherwise on")?;
    refused(&alice.run(&["pull", "hello"])?, 1, "channel `dev` of `hello` was moved here, and otherwise on")?;
    alice.ok(&["channel", "hello", "dev", "--forget"])?;
    alice.ok(&["pull", "hello"])?;
    assert_eq!(alice.json(&["channel", "hello", "dev"])?[0]["reason"], "his");

    Ok(())
}

/// What is attached to evidence travels with it, and is what was attached.
fn reports_travel(team: &Team) -> Result<()> {
    let Team { alice, bob, .. } = team;
    let report = bob.folder().join("report.txt");
    fs::write(&report, "nothing was found\n")?;
    bob.ok(&["evidence", "add", "hello@1", "pentest", "--attach", text(&report), "-m", "looked everywhere"])?;
    let pushed = bob.json(&["push", "hello"])?;
    assert_eq!(
        (&pushed["reports"]["files"], &pushed["reports"]["absent"]),
        (&1.into(), &0.into()),
        "{pushed}"
    );
    assert_eq!(bob.json(&["push", "hello"])?["reports"]["files"], 0, "it is there");
    let digest = Digest::of(b"nothing was found\n");
    let hex = digest.hex();

    // What an earlier push did not send, a later one does.
    let blob = team.remote.join("blobs").join(&hex[..2]).join(&hex[2..]);
    fs::remove_file(&blob)?;
    assert_eq!(bob.json(&["push", "hello"])?["reports"]["files"], 1, "it is sent again");
    ensure!(blob.exists(), "it is there again");

    // Too large, it is left there. Changed on the way, it is refused; gone, it is told; and either is mended by the next pull.
    fs::File::create(&blob)?.set_len(TOO_LARGE_BYTES)?;
    let without = alice.json(&["pull", "hello"])?;
    assert_eq!(without["reports"]["absent"], 1, "{without}");
    fs::write(&blob, "everything is wrong\n")?;
    refused(&alice.run(&["pull", "hello"])?, VERIFICATION, "report.txt")?;
    fs::remove_file(&blob)?;
    let without = alice.json(&["pull", "hello"])?;
    assert_eq!(
        (&without["reports"]["files"], &without["reports"]["absent"]),
        (&0.into(), &1.into()),
        "{without}"
    );
    fs::copy(&report, &blob)?;
    assert_eq!(alice.json(&["pull", "hello"])?["reports"]["files"], 1);
    assert_eq!(fs::read(alice.object(&digest.to_string()))?, b"nothing was found\n");
    alice.ok(&["gc", "--older-than", "0"])?;
    assert_eq!(alice.json(&["pull", "hello"])?["reports"]["files"], 0, "what evidence refers to is needed");
    Ok(())
}

fn a_key_that_was_taken_out_stays_out(team: &Team) -> Result<()> {
    let Team { alice, bob, .. } = team;
    let before = team.alice.folder().join("before");
    copy_tree(&team.metadata(), &before)?;
    // The remote says so, and he can neither say nor publish anything more.
    alice.ok(&["trust", "remove", "hello", "bob"])?;
    alice.ok(&["push", "hello"])?;
    bob.ok(&["pull", "hello"])?;
    assert_eq!(bob.json(&["trust", "hello"])?["keys"].as_array().map(Vec::len), Some(1));
    refused(&bob.run(&["approve", "hello@1"])?, 1, "no key on this host may sign for `hello`")?;
    refused(&bob.run(&["push", "hello"])?, 0, "has it already")?;
    let evidence = bob.json(&["evidence", "hello@1"])?;
    let approvals =
        evidence["statements"].as_array().context("a list")?.iter().filter(|s| s["kind"] == "approval");
    assert_eq!(approvals.count(), 0, "his approval counts no more: {evidence}");

    // A remote that shows the time when he was trusted: the newest root is hidden.
    let after = team.alice.folder().join("after");
    copy_tree(&team.metadata(), &after)?;
    let newest = team.newest_root()?;
    fs::remove_file(team.metadata().join(&newest))?;
    for reader in [alice, bob] {
        refused(&reader.run(&["pull", "hello"])?, VERIFICATION, "hello")?;
    }
    fs::copy(before.join("timestamp.json"), team.metadata().join("timestamp.json"))?;
    for reader in [alice, bob] {
        refused(&reader.run(&["pull", "hello"])?, VERIFICATION, "hello")?;
    }
    for name in ["timestamp.json", newest.as_str()] {
        fs::copy(after.join(name), team.metadata().join(name))?;
    }
    bob.ok(&["pull", "hello"])?;
    Ok(())
}

/// Whoever holds the files back shows what was signed last for ever; the end of its time tells.
fn a_remote_cannot_stand_still(team: &Team) -> Result<()> {
    let key = SecretKey::from_pem(&fs::read_to_string(team.alice.home().join("keys/alice.pem"))?, None)?;
    let read = |name: &str| fs::read(team.metadata().join(name)).with_context(|| name.to_owned());
    let there = || -> Result<Trusted> {
        let mut trusted = Trusted::new(&read(&team.newest_root()?)?, &"hello".parse::<AppName>()?)?;
        trusted.timestamp(&read("timestamp.json")?, i64::MIN)?;
        let snapshot = trusted.snapshot_version().context("a timestamp")?;
        trusted.snapshot(&read(&format!("{snapshot}.snapshot.json"))?, i64::MIN)?;
        let targets = trusted.targets_version().context("a snapshot")?;
        trusted.targets(&read(&format!("{targets}.targets.json"))?, i64::MIN)?;
        Ok(trusted)
    };
    let put = |published: Published| -> Result<()> {
        let timestamp = ("timestamp.json".to_owned(), published.timestamp);
        for (name, bytes) in published.files.into_iter().chain([timestamp]) {
            fs::write(team.metadata().join(name), bytes)?;
        }
        Ok(())
    };
    let now_s = testkit::now_s();
    let good = Fresh { long_s: now_s + 3600, short_s: now_s + 3600, skip: 0 };
    for fresh in [Fresh { short_s: now_s - 1, ..good }, Fresh { long_s: now_s - 1, ..good }] {
        let seen = there()?;
        let documents = seen.documents().context("documents")?.targets.clone();
        put(publish((seen.root(), &seen), documents, std::slice::from_ref(&key), fresh)?)?;
        refused(&team.bob.run(&["pull", "hello"])?, VERIFICATION, "expired")?;
        refused(&team.bob.run(&["pull", "hello", "--dry-run"])?, VERIFICATION, "expired")?;
    }
    // The owner signs it anew.
    team.alice.ok(&["push", "hello"])?;
    team.bob.ok(&["pull", "hello"])?;
    Ok(())
}

/// The collector may take a release, document and all; what was said about it stays, and stops nothing.
fn a_release_that_is_gone_stops_no_push(team: &Team) -> Result<()> {
    let Team { alice, .. } = team;
    let report = alice.folder().join("late.txt");
    fs::write(&report, "too late\n")?;
    alice.ok(&["evidence", "add", "hello@1", "pentest", "--attach", text(&report), "-m", "late"])?;
    let folder = alice.folder().join("app");
    let page = folder.join("www/index.html");
    fs::write(&page, fs::read_to_string(&page)? + "<p>again\n")?;
    alice.ok(&["release", text(&folder)])?;
    fs::remove_file(alice.home().join("store/releases/hello/1"))?;
    alice.ok(&["push", "hello"])?;
    Ok(())
}

fn a_remote_cannot_go_back_or_mix(team: &Team) -> Result<()> {
    let Team { alice, bob, .. } = team;
    let old = team.alice.folder().join("old");
    copy_tree(&team.metadata(), &old)?;
    alice.ok(&["promote", "hello@1", "early"])?;
    alice.ok(&["push", "hello"])?;
    bob.ok(&["pull", "hello"])?;
    let new = team.alice.folder().join("new");
    copy_tree(&team.metadata(), &new)?;
    let put = |name: &str, from: &Path| fs::copy(from, team.metadata().join(name)).map(drop);

    // All of it as it was before.
    put("timestamp.json", &old.join("timestamp.json"))?;
    refused(&bob.run(&["pull", "hello"])?, VERIFICATION, "it is replayed or was lost")?;
    // One file as it was before.
    put("timestamp.json", &new.join("timestamp.json"))?;
    put("2.snapshot.json", &old.join("1.snapshot.json"))?;
    refused(&bob.run(&["pull", "hello"])?, VERIFICATION, "files of different times are mixed")?;
    put("2.snapshot.json", &new.join("2.snapshot.json"))?;
    put("2.targets.json", &old.join("1.targets.json"))?;
    refused(&bob.run(&["pull", "hello"])?, VERIFICATION, "files of different times are mixed")?;
    // Gone.
    fs::remove_file(team.metadata().join("2.targets.json"))?;
    refused(&bob.run(&["pull", "hello"])?, VERIFICATION, "lacks `2.targets.json`")?;
    put("2.targets.json", &new.join("2.targets.json"))?;
    fs::remove_file(team.metadata().join("timestamp.json"))?;
    refused(&bob.run(&["pull", "hello"])?, VERIFICATION, "lacks `timestamp.json`")?;
    put("timestamp.json", &new.join("timestamp.json"))?;
    bob.ok(&["pull", "hello"])?;

    // A push that was killed before its last file: the next one passes its versions over.
    put("3.targets.json", &old.join("1.targets.json"))?;
    alice.ok(&["promote", "hello@1", "test"])?;
    alice.ok(&["push", "hello"])?;
    ensure!(team.metadata().join("4.targets.json").exists(), "version 3 is taken");
    bob.ok(&["pull", "hello"])?;
    assert_eq!(bob.json(&["channel", "hello"])?.as_array().map(Vec::len), Some(2));
    Ok(())
}

fn every_changed_file_of_a_remote_is_found(team: &Team) -> Result<()> {
    let away = World::new("changed-away", PLUMB)?;
    let clone = || away.run(&["clone", text(&team.remote), "hello"]);
    let mut files = Vec::new();
    walk(&team.remote, &mut files)?;
    let mut tried = 0;
    for path in files.iter().filter(|path| !path.ends_with("plumb.json") && !path.ends_with("lock")) {
        let before = fs::read(path)?;
        for at in [0, before.len() / 2, before.len() - 1] {
            let mut after = before.clone();
            after[at] ^= 1;
            // A newline at the end, or a space, may be another: what is read is the same then.
            fs::write(path, &after)?;
            let output = clone()?;
            if output.code == 0 {
                let same =
                    serde_json::from_slice::<Value>(&after).ok() == serde_json::from_slice(&before).ok();
                ensure!(same, "byte {at} of {} was changed, and nobody saw it", path.display());
                away.end()?;
                fs::create_dir_all(away.folder())?;
            } else {
                ensure!(
                    output.code == VERIFICATION,
                    "{} {at}: {} {}",
                    path.display(),
                    output.code,
                    output.stderr
                );
                let releases = away.home().join("store/releases/hello");
                ensure!(
                    !releases.exists() || fs::read_dir(releases)?.next().is_none(),
                    "half a release is here"
                );
            }
            tried += 1;
        }
        fs::write(path, &before)?;
    }
    ensure!(tried >= 20, "{tried} changes in {files:?}");
    let whole = clone()?;
    ensure!(whole.code == 0, "{}", whole.stderr);
    away.end()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, files)? } else { files.push(path) }
    }
    files.sort();
    Ok(())
}
