//! The oracle of the rules: the packages of a lock, configured by mmdebstrap with their maintainer scripts really run,
//! beside the tree that our rules made of the same packages without running any.
//!
//! ```text
//!  definition ─► lock ─► image ─► inventory ───────────────┐
//!      └─ scripts = "run" ─► lock ─► .deb files ─► mmdebstrap ─► tar ─► differences ─► named rules
//! ```
//!
//! Every difference in a file, mode, owner, link, content or capability must have a rule with a reason ([`rule`]), and a
//! rule that explains nothing fails the test as well. The second lock only adds what scripts need (`Essential` packages,
//! debconf, …); of these nothing is in the image.

mod difference;
mod rule;
mod theirs;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use plumb_image::inventory::Inventory;
use plumb_model::image::Image;
use plumb_model::lock::Lock;
use plumb_model::{Digest, Document as _};
use testkit::World;

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Machines: a web server, those whose packages do much at installation (accounts, PAM, keys, databases, capabilities), those
/// whose effects are rules of their own (debconf's settings, a script in Perl, switches of modules, types of files, secrets),
/// and packages that every Debian system has, which images of servers mostly leave out.
const SETS: [(&str, &str); 7] = [
    ("web", "\"nginx-light\""),
    ("ssh", "\"openssh-server\""),
    ("dns", "\"bind9\""),
    ("db", "\"postgresql-15\""),
    ("mail", "\"exim4-daemon-light\", \"krb5-config\", \"libpaper1\", \"lighttpd\""),
    (
        "more",
        "\"postfix\", \"nbd-server\", \"librsvg2-common\", \"libxml-libxml-perl\", \"shadowsocks-libev\", \"libapache2-mod-php8.2\", \"apache2\"",
    ),
    ("os", OS),
];

/// Those whose scripts a rule covers as a whole are among them.
const OS: &str = r#""base-files", "base-passwd", "bash", "dash", "debianutils", "passwd", "login", "libc-bin", "dpkg", "ucf",
    "tzdata", "libpam-runtime", "ca-certificates", "python3", "procps", "adduser", "iproute2", "libglib2.0-0", "mawk",
    "mysql-common", "kmod""#;

fn definition(scripts: &str) -> String {
    SETS.iter().fold("app = \"oracle\"\n".to_owned(), |text, (name, packages)| {
        format!("{text}\n[machine.{name}]\nmiddleware = [{packages}]\n{scripts}")
    })
}

fn lock(world: &World, name: &str, scripts: &str) -> Result<(String, Lock)> {
    let folder = world.folder().join(name);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("plumb.toml"), definition(scripts))?;
    let shown = folder.to_str().context("UTF-8")?.to_owned();
    world.ok(&["lock", &shown])?;
    let lock = Lock::parse(&fs::read_to_string(folder.join("plumb.lock"))?)?;
    Ok((shown, lock))
}

fn object(world: &World, digest: &Digest) -> Result<Vec<u8>> {
    let path = world.object(&digest.hex());
    fs::read(&path).with_context(|| path.display().to_string())
}

/// What our rules made, by machine.
fn ours(world: &World, folder: &str) -> Result<BTreeMap<String, Inventory>> {
    let images = world.json(&["build", folder])?;
    let mut inventories = BTreeMap::new();
    for image in images.as_array().context("a list of images")? {
        let digest: Digest = image["image"].as_str().context("a digest")?.parse()?;
        let manifest = Image::from_bytes(&object(world, &digest)?)?;
        let part = manifest.inventory.context("an image has an inventory")?;
        let inventory = Inventory::from_bytes(&object(world, &part.digest)?)?;
        inventories.insert(manifest.machine.to_string(), inventory);
    }
    Ok(inventories)
}

#[test]
fn rules_do_what_maintainer_scripts_do() -> Result<()> {
    let world = World::new("oracle", PLUMB)?;
    let (folder, locked) = lock(&world, "rules", "")?;
    let (_, full) = lock(&world, "scripts", "scripts = \"run\"\n")?;
    let mut inventories = ours(&world, &folder)?;
    world.share()?;
    let mut used = BTreeSet::new();
    let mut unexplained = Vec::new();
    let mut all_theirs = theirs::of_all(&world, &full)?;
    for (name, machine) in &full.machines {
        assert_eq!(locked.machines[name].packages, machine.packages, "the locks speak of other packages");
        let theirs = all_theirs.remove(name).context("mmdebstrap made every machine")?;
        let inventory = inventories.remove(name.as_str()).context("every machine has an image")?;
        let ours = tree::ours(&inventory, &|digest| object(&world, digest))?;
        ensure!(ours.nodes.len() > 50 && theirs.nodes.len() > 1000, "nothing to compare for `{name}`");
        for found in difference::between(&ours, &theirs) {
            match rule::explain(&found, &theirs, machine) {
                Some(rule) => _ = used.insert(rule),
                None => unexplained.push(format!("{name}: {found}")),
            }
        }
    }
    let idle = rule::idle(&used);
    ensure!(
        unexplained.is_empty() && idle.is_empty(),
        "{} differences that no rule explains:\n{}\nrules that explain nothing: {idle:?}",
        unexplained.len(),
        unexplained.join("\n"),
    );
    world.end()
}

/// A folder for downloads that tests keep.
fn cache() -> Result<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-cache/oracle");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}
