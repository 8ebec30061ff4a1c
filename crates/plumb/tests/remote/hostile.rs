//! Remotes that lie: found out, named, and nothing of them stays.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use plumb_model::Digest;
use serde_json::Value;
use testkit::copy_tree;

use super::base::{self, Home, base, text_of};
use super::server::{Files, empty};

/// A copy of the good remote.
fn copy(name: &str) -> Result<PathBuf> {
    let base = base()?;
    let remote = empty(base.world.folder().join(name))?;
    copy_tree(&base.remote, &remote)?;
    Ok(remote)
}

fn index(remote: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&base::index(remote)?.context("an index")?.1)?)
}

/// Where the blob of a part of the index lies.
fn blob(remote: &Path, part: &Value) -> Result<PathBuf> {
    let hex = part["digest"].as_str().context("a digest")?.trim_start_matches("sha256:");
    Ok(remote.join("blobs").join(&hex[..2]).join(&hex[2..]))
}

/// Replaces text in the index, which stays in its canonical form and is signed again.
fn edit(remote: &Path, from: &str, to: &str) -> Result<()> {
    let text = base::index(remote)?.context("an index")?.1;
    ensure!(text.contains(from), "{text}");
    base::resign(remote, &text.replacen(from, to, 1))
}

/// A pull from there is refused with exit code 3 and these words; one from a good remote then works.
fn check(remote: &Path, words: &str) -> Result<()> {
    let (base, home) = (base()?, Home::new("victim")?);
    let refused = home.run(&["clone", text_of(remote), "hello"])?;
    ensure!(
        refused.code == 3 && refused.stderr.contains(words),
        "{words}: {}\n{}",
        refused.code,
        refused.stderr
    );
    ensure!(home.releases().is_empty());
    home.ok(&["clone", text_of(&base.remote), "hello"])?;
    home.verify("hello@3")
}

#[test]
fn a_remote_that_lies_is_found_out() -> Result<()> {
    // A byte of the first block, of the middle, and of the header of the full bundle.
    for (place, words) in [(12, "header is damaged"), (9_000_000, "of the delta is damaged")] {
        let remote = copy("srv-hostile")?;
        let path = blob(&remote, &index(&remote)?["releases"]["1"]["bundles"][0]["delta"])?;
        let mut bytes = fs::read(&path)?;
        bytes[place] ^= 1;
        fs::write(&path, bytes)?;
        check(&remote, words)?;
    }
    // Cut short, longer than it says, gone.
    for (length, words) in [(Some(-5), "wrong size"), (Some(5), "wrong size"), (None, "is not there")] {
        let remote = copy("srv-hostile")?;
        let path = blob(&remote, &index(&remote)?["releases"]["1"]["bundles"][0]["delta"])?;
        match length {
            Some(more) => {
                let file = fs::File::options().write(true).open(&path)?;
                file.set_len(file.metadata()?.len().saturating_add_signed(more))?;
            }
            None => fs::remove_file(&path)?,
        }
        check(&remote, words)?;
    }
    // Another release's document, another's bundle, and something that is neither.
    let remote = copy("srv-hostile")?;
    let known = index(&remote)?;
    let document = |number: &str| known["releases"][number]["document"].to_string();
    edit(&remote, &document("3"), &document("1"))?;
    check(&remote, "it is hello@1")?;
    let remote = copy("srv-hostile")?;
    let delta = |number: &str| known["releases"][number]["bundles"][0]["delta"].to_string();
    edit(&remote, &delta("3"), &delta("2"))?;
    check(&remote, "of `hello@3` lacks")?;
    let remote = copy("srv-hostile")?;
    edit(&remote, &delta("1"), &document("1"))?;
    check(&remote, "this is not a delta")?;
    // An index that leads in a circle, and one that is of no canonical form.
    let remote = copy("srv-hostile")?;
    let first = format!("\"bundles\":[{{\"delta\":{}", delta("1"));
    edit(&remote, &first, &first.replace("{\"delta\"", "{\"base\":3,\"delta\""))?;
    check(&remote, "nothing that")?;
    let remote = copy("srv-hostile")?;
    edit(&remote, "{\"format\":1", "{ \"format\":1")?;
    check(&remote, "index.json of")?;
    let remote = copy("srv-hostile")?;
    edit(&remote, "\"app\":\"hello\"", "\"app\":\"../../x\"")?;
    check(&remote, "index.json of")
}

#[test]
fn a_damaged_base_here_is_told_from_a_damaged_bundle_there() -> Result<()> {
    let (base, home) = (base()?, Home::new("base-damaged")?);
    home.ok(&["clone", text_of(&base.remote), "hello", "--remote", "good"])?;
    home.ok(&["pull", "hello@1"])?;
    fs::remove_file(home.0.join("store/releases/hello/3"))?;
    let shown = home.json(&["show", "hello@1"])?;
    // What comes next starts from the root of hello@1 and of hello@2; all roots that are here get a wrong byte.
    let root = shown["images"]["web"]["root"]["digest"].as_str().context("a digest")?;
    let hex = root.trim_start_matches("sha256:");
    let path = home.0.join("store/objects").join(&hex[..2]).join(&hex[2..]);
    let mut bytes = fs::read(&path)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&path)?;
    fs::write(&path, &bytes)?;
    for entry in
        fs::read_dir(home.0.join("store/objects"))?.flatten().flat_map(|fan| fs::read_dir(fan.path()))
    {
        // Other releases' roots are of the same length; they are made again from the damaged one.
        for object in entry.flatten().filter(|object| object.path() != path) {
            if object.metadata()?.len() == bytes.len() as u64 {
                fs::remove_file(object.path())?;
            }
        }
    }
    home.ok(&["pull", "hello@3"])?;
    home.verify("hello@3")?;
    ensure!(Digest::of(&bytes).hex() != hex);
    Ok(())
}

#[test]
fn what_has_no_end_is_not_read_to_its_end() -> Result<()> {
    let base = base()?;
    for (name, words) in [("plumb.json", "allowed here"), ("timestamp.json", "allowed here")] {
        let server = Files::start(&base.remote, Some(name))?;
        let home = Home::new("endless")?;
        let refused = home.run(&["clone", &format!("http://127.0.0.1:{}", server.port), "hello"])?;
        ensure!(refused.code == 3 && refused.stderr.contains(words), "{name}: {}", refused.stderr);
    }
    Ok(())
}
