//! Bills of materials, judged by the libraries of those who wrote the standards.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testkit::{World, printed};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

const VALIDATORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/validators.txt");
const VALIDATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/validate.py");

const DEFINITION: &str = r#"
app = "shop"

[machine.web]
middleware    = ["nginx-light", "libstdc++6"]
service.nginx = { ready.http = ":80/" }

[machine.api]
middleware  = ["python3"]
app         = { "/srv/venv" = { pip = "requirements.txt" } }
service.api = { exec = "/srv/venv/bin/gunicorn app:app", user = "api" }
"#;

#[test]
fn bills_are_valid_and_whole() -> Result<()> {
    let world = World::new("sbom", PLUMB)?;
    let folder = world.folder().join("shop");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("plumb.toml"), DEFINITION)?;
    fs::write(folder.join("requirements.txt"), include_str!("data/requirements.txt"))?;
    let shop = folder.to_str().context("UTF-8")?;
    world.ok(&["release", shop])?;
    world.share()?;
    let bill = |form: &str| Ok::<_, anyhow::Error>(world.ok(&["sbom", "shop@1", "--format", form])?.stdout);
    let (cyclonedx, spdx) = (bill("cyclonedx")?, bill("spdx")?);
    assert_eq!(
        (&cyclonedx, &spdx),
        (&bill("cyclonedx")?, &bill("spdx")?),
        "the same release, the same bytes"
    );

    // By the standards' own libraries.
    let place = |name: &str| world.folder().join(name).display().to_string();
    let (one, other) = (place("shop.cdx.json"), place("shop.spdx.json"));
    fs::write(&one, &cyclonedx)?;
    fs::write(&other, &spdx)?;
    printed(Command::new("python3").args(["-m", "venv", &place("venv")]))?;
    printed(Command::new(place("venv/bin/pip")).args(["install", "--quiet", "--requirement", VALIDATORS]))?;
    let problems = printed(Command::new(place("venv/bin/python")).args([VALIDATE, &one, &other]))?;
    ensure!(problems.is_empty(), "{problems}");

    // Everything of the lock is in it, machine by machine, with its digest; and the wheels.
    let lock: toml::Table = fs::read_to_string(folder.join("plumb.lock"))?.parse()?;
    let bill: Value = serde_json::from_str(&cyclonedx)?;
    let components = bill["components"].as_array().context("components")?;
    for machine in ["web", "api"] {
        let of_machine = |one: &&Value| one["properties"][0]["value"] == machine;
        let found = components.iter().filter(of_machine).filter_map(|one| one["name"].as_str());
        let found: BTreeSet<&str> = found.collect();
        let locked = &lock["machine"][machine];
        let names = locked["packages"].as_array().context("packages")?.iter().filter_map(toml::Value::as_str);
        let missing: Vec<&str> = names.filter(|name| !found.contains(name)).collect();
        ensure!(missing.is_empty(), "{machine} lacks {missing:?}");
        ensure!(found.contains(locked["kernel"].as_str().context("kernel")?), "{machine} has no kernel");
    }
    let gunicorn = components.iter().find(|one| one["name"] == "gunicorn").context("gunicorn")?;
    ensure!(
        gunicorn["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:pypi/gunicorn@")),
        "{gunicorn}"
    );
    let library = components.iter().find(|one| one["name"] == "libstdc++6").context("libstdc++6")?;
    let purl = library["purl"].as_str().context("a purl")?;
    ensure!(
        purl.starts_with("pkg:deb/debian/libstdc%2B%2B6@") && purl.ends_with("&upstream=gcc-12"),
        "{purl}"
    );
    let edges = bill["dependencies"].as_array().context("dependencies")?;
    let own = edges.iter().find(|edge| edge["ref"] == library["bom-ref"]).context("its edges")?;
    ensure!(own["dependsOn"].to_string().contains("/libc6@"), "{own}");
    world.end()?;
    Ok(())
}
