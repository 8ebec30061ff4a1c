//! What is affected: over a fleet that is known by construction, and over real releases that run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use plumb_debian::Version;
use serde_json::{Value, json};
use testkit::World;
use testkit::fleet::{self, Fact, Fleet};

const PLUMB: &str = env!("CARGO_BIN_EXE_plumb");

/// Release and machine of everything that an answer names, with package and version.
fn told(answer: &Value) -> Result<BTreeSet<(String, String, String)>> {
    let mut all = BTreeSet::new();
    for release in answer["releases"].as_array().context("releases")? {
        for machine in release["machines"].as_array().context("machines")? {
            let found =
                machine["found"].as_u64().and_then(|at| answer["found"].get(usize::try_from(at).ok()?));
            let found = found.context("a number of something found")?;
            let package = format!("{} {}", text(&found["name"]), text(&found["version"]));
            all.insert((text(&release["release"]), text(&machine["machine"]), package));
        }
    }
    Ok(all)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What the facts say, one by one, with nothing but the order of versions.
fn by_hand(
    facts: &[Fact],
    name: &str,
    holds: &dyn Fn(&Version) -> bool,
) -> BTreeSet<(String, String, String)> {
    let meant = facts.iter().filter(|fact| {
        let (package, version, source) = &fact.package;
        (package == name || source == name) && holds(&version.parse().expect("a version"))
    });
    let told = |fact: &Fact| {
        let (package, version, _) = &fact.package;
        (fact.release.to_string(), fact.machine.to_string(), format!("{package} {version}"))
    };
    meant.map(told).collect()
}

#[test]
fn answers_are_those_of_brute_force() -> Result<()> {
    let world = World::new("affected-fleet", PLUMB)?;
    let facts = fleet::make(world.home(), Fleet { apps: 5, releases: 4, instances: 2000 })?;
    let version = |text: &str| text.parse::<Version>().expect("a version");
    let check = |name: &str, operator: &str, limit: &str| -> Result<()> {
        let holds = |found: &Version| match operator {
            "<" => *found < version(limit),
            "<=" => *found <= version(limit),
            "=" => *found == version(limit),
            ">=" => *found >= version(limit),
            ">" => *found > version(limit),
            _ => true,
        };
        let query = if operator.is_empty() { name.to_owned() } else { format!("{name} {operator} {limit}") };
        let answer = world.json(&["affected", &query])?;
        assert_eq!(told(&answer)?, by_hand(&facts, name, &holds), "{query}");
        assert_eq!(answer["affected"], !by_hand(&facts, name, &holds).is_empty(), "{query}");
        assert_eq!(answer["searched"], 20);
        Ok(())
    };
    let rare = facts.iter().map(|fact| fact.package.0.clone()).max().context("a package")?;
    for name in ["lib0003", "source001", rare.as_str(), "lib9999"] {
        check(name, "", "")?;
    }
    for (operator, limit) in [
        ("<", "1.3"),
        ("<=", "1.2-1~deb12u2"),
        ("=", "1.4-1~deb12u0"),
        (">=", "1.3-1~deb12u3"),
        (">", "1.3~"),
    ] {
        check("lib0000", operator, limit)?;
        check("source001", operator, limit)?;
        check(&rare, operator, limit)?;
    }

    // The index is derived: gone, or destroyed, it is made again and says the same.
    let index = world.home().join("store/search.db");
    let before = world.json(&["affected", "lib0003 < 1.3"])?;
    fs::remove_file(&index)?;
    assert_eq!(world.json(&["affected", "lib0003 < 1.3"])?, before);
    for end in ["-wal", "-shm"] {
        let path = world.home().join(format!("store/search.db{end}"));
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    let mut bytes = fs::read(&index)?;
    let half = bytes.len() / 2;
    bytes[200..half].fill(0xa5);
    fs::write(&index, bytes)?;
    assert_eq!(world.json(&["affected", "lib0003 < 1.3"])?, before);

    // A release that is gone is forgotten, one whose image cannot be read is told.
    fs::remove_file(world.home().join("store/releases/app-1/4"))?;
    let left: Vec<Fact> =
        facts.iter().filter(|fact| fact.release.to_string() != "app-1@4").cloned().collect();
    let answer = world.json(&["affected", "lib0003"])?;
    assert_eq!(told(&answer)?, by_hand(&left, "lib0003", &|_| true));
    deployments(&answer, &left)?;
    files(&world, &left)?;
    unread(&world)?;
    world.end()
}

/// What was not looked into may have anything.
fn unread(world: &World) -> Result<()> {
    let images = |number: u32| -> Result<BTreeSet<String>> {
        let release: Value =
            serde_json::from_slice(&fs::read(world.home().join(format!("store/releases/app-2/{number}")))?)?;
        let machines = release["content"]["machines"].as_object().context("machines")?;
        Ok(machines.values().map(|machine| text(&machine["image"])).collect())
    };
    let sure = world.ok(&["affected", "lib9999"])?;
    ensure!(sure.stdout.contains("nothing is affected; 19 releases searched"), "{sure:?}");
    let lost = images(1)?;
    for image in &lost {
        fs::remove_file(world.object(image))?;
    }
    fs::remove_file(world.home().join("store/search.db"))?;
    let (mut unread, mut searched) = (0, 19);
    for number in 1..=4 {
        let images = images(number)?;
        unread += u64::from(!images.is_disjoint(&lost));
        searched -= u64::from(images.is_subset(&lost));
    }
    let answer = world.json(&["affected", "lib9999"])?;
    assert_eq!(answer["unread"].as_array().map(|all| all.len() as u64), Some(unread), "{answer}");
    assert_eq!(answer["searched"], searched);
    let unsure = world.ok(&["affected", "lib9999"])?;
    ensure!(unsure.stdout.contains("nothing is known to be affected; "), "{unsure:?}");
    ensure!(unsure.stderr.contains("not looked into: app-2@1, "), "{unsure:?}");
    Ok(())
}

/// Every deployment runs the release of its round, with 100 instances.
fn deployments(answer: &Value, facts: &[Fact]) -> Result<()> {
    let with: BTreeSet<String> = facts
        .iter()
        .filter(|fact| fact.package.0 == "lib0003")
        .map(|fact| fact.release.to_string())
        .collect();
    let told = answer["deployments"].as_array().context("deployments")?;
    ensure!(told.iter().all(|one| with.contains(&text(&one["release"]))), "{told:?}");
    ensure!(told.len() == 20 - 1, "one of 20 runs what is gone: {}", told.len());
    assert_eq!(answer["instances"], 1900);
    assert_eq!(told[0]["seen"], false, "nothing runs here, so that the releases' word is all there is");
    Ok(())
}

/// A file by its name is in the releases whose packages have it, by the link of that name or by itself.
fn files(world: &World, facts: &[Fact]) -> Result<()> {
    let with: BTreeSet<String> = facts
        .iter()
        .filter(|fact| fact.package.0 == "lib0003")
        .map(|fact| fact.release.to_string())
        .collect();
    for query in ["lib0003.so", "/lib/lib0003.so"] {
        let answer = world.json(&["affected", "--file", query])?;
        let told = answer["releases"].as_array().context("releases")?;
        assert_eq!(told.iter().map(|one| text(&one["release"])).collect::<BTreeSet<_>>(), with, "{query}");
        let found = answer["found"].as_array().context("found")?;
        ensure!(found.iter().all(|one| text(&one["path"]).starts_with("/usr/lib/lib0003.so.")), "{found:?}");
        let by_content = world.json(&["affected", "--file", &text(&found[0]["digest"])])?;
        assert_eq!(by_content["found"][0], found[0]);
    }
    Ok(())
}

const FIRST: &str = r#"
app = "shop"

[machine.web]
middleware        = ["nginx-light", "memcached"]
service.nginx     = { ready.http = ":80/" }
service.memcached = { ready.tcp = 11211 }
"#;

const SECOND: &str = r#"
app = "shop"

[machine.web]
middleware    = ["nginx-light"]
service.nginx = { ready.http = ":80/" }
"#;

/// Written by hand, true to the form of Debian's tracker; about a package that really is there, and with no real names.
fn tracker(fixed: &str) -> Value {
    json!({
        "libevent": {
            "CVE-2099-1001": {"scope": "remote", "releases": {"bookworm": {
                "status": "open", "repositories": {"bookworm": "2.1.12-stable-8"}, "urgency": "high",
            }}},
            "CVE-2099-1002": {"scope": "remote", "releases": {"bookworm": {
                "status": "resolved", "repositories": {"bookworm": "2.1.12-stable-8"}, "fixed_version": fixed,
                "urgency": "low",
            }}},
        },
        "memcached": {"CVE-2099-1004": {"releases": {"bookworm": {
            "status": "undetermined", "repositories": {}, "urgency": "not yet assigned",
        }}}},
        "absent": {"CVE-2099-1003": {"releases": {"bookworm": {
            "status": "open", "repositories": {}, "urgency": "not yet assigned",
        }}}},
    })
}

#[test]
fn a_vulnerability_is_found_where_it_runs_and_gone_after_the_upgrade() -> Result<()> {
    let world = World::new("affected", PLUMB)?;
    let folder = world.folder().join("shop");
    fs::create_dir_all(&folder)?;
    let shop = folder.to_str().context("UTF-8")?;
    for definition in [FIRST, SECOND] {
        fs::write(folder.join("plumb.toml"), definition)?;
        world.ok(&["release", shop])?;
        world.share()?;
    }

    // By package and by source package, with the way that leads there, and the release that has it no longer.
    let answer = world.json(&["affected", "libevent-2.1-7"])?;
    assert_eq!(told(&answer)?.len(), 1);
    assert_eq!(answer["applications"][0]["free_since"], "shop@2");
    let via = answer["releases"][0]["machines"][0]["via"].as_u64().context("a way")?;
    let chain = &answer["chains"][usize::try_from(via)?];
    assert_eq!(text(&chain[0]["by"]), "middleware = [\"memcached\"]");
    assert_eq!(text(&chain[1]["answer"]), "libevent-2.1-7");
    assert_eq!(told(&world.json(&["affected", "libevent >= 2"])?)?, told(&answer)?);
    let none = world.ok(&["affected", "libevent < 2"])?;
    ensure!(none.stdout.contains("nothing is affected") && none.stdout.contains("2.1.12"), "{}", none.stdout);
    let file = world.json(&["affected", "--file", "/lib/x86_64-linux-gnu/libevent-2.1.so.7"])?;
    ensure!(text(&file["found"][0]["origin"]).starts_with("libevent-2.1-7 "), "{file}");
    assert_eq!(file["releases"][0]["release"], "shop@1");

    // The kernel is not in the list of packages, and is a package all the same.
    assert_eq!(world.json(&["affected", "linux"])?["releases"].as_array().map(Vec::len), Some(2));

    // What nobody knows is not what nobody has.
    let unknown = world.run(&["affected", "CVE-2099-1001"])?;
    assert_eq!(unknown.code, 1);
    ensure!(
        unknown.stderr.contains("is not known") && unknown.stderr.contains("advisory add"),
        "{}",
        unknown.stderr
    );
    let feed = world.folder().join("tracker.json");
    let version = text(&answer["found"][0]["source_version"]);
    fs::write(&feed, tracker(&version).to_string())?;
    world.ok(&["advisory", "add", "lab", feed.to_str().context("UTF-8")?])?;
    let answer = world.json(&["affected", "CVE-2099-1001", "--offline"])?;
    assert_eq!(told(&answer)?.len(), 1);
    assert_eq!(answer["found"][0]["because"][0]["urgency"], "high");
    assert_eq!(answer["feeds"][0]["name"], "lab");
    ensure!(answer["feeds"][0]["age_s"].as_i64().is_some_and(|age| (0..3600).contains(&age)), "{answer}");
    let clear = world.json(&["affected", "CVE-2099-1002"])?;
    assert_eq!((&clear["affected"], &clear["clear"][0]["name"]), (&false.into(), &"libevent-2.1-7".into()));
    let absent = world.ok(&["affected", "CVE-2099-1003"])?;
    ensure!(absent.stdout.contains("nothing is affected; "), "{}", absent.stdout);
    ensure!(absent.stdout.contains("which no release has"), "{}", absent.stdout);
    let undetermined = world.ok(&["affected", "CVE-2099-1004"])?;
    ensure!(undetermined.stdout.contains("nothing is known to be affected; "), "{}", undetermined.stdout);
    ensure!(undetermined.stderr.contains("not known for memcached "), "{}", undetermined.stderr);
    changelogs(&world)?;
    runs(&world)?;
    feeds(&world, &feed)?;
    world.end()
}

/// Without any feed, the packages' own changelogs say what they fixed.
fn changelogs(world: &World) -> Result<()> {
    let answer = world.json(&["affected", "CVE-2019-9511"])?;
    assert_eq!(answer["affected"], false, "nginx of bookworm has the fix");
    ensure!(answer["clear"].to_string().contains("changelogs"), "{answer}");
    // Packages as they were taken apart are gone after this; they themselves are not.
    world.ok(&["gc"])?;
    fs::remove_file(world.home().join("store/search.db"))?;
    assert_eq!(world.json(&["affected", "CVE-2019-9511"])?["clear"], answer["clear"], "the index is derived");
    Ok(())
}

fn runs(world: &World) -> Result<()> {
    world.ok(&["up", "shop@1"])?;
    let answer = world.json(&["affected", "CVE-2099-1001"])?;
    let deployment = &answer["deployments"][0];
    assert_eq!((&deployment["deployment"], &deployment["release"]), (&"shop".into(), &"shop@1".into()));
    assert_eq!((&deployment["instances"], &deployment["seen"]), (&1.into(), &true.into()));
    assert_eq!(deployment["upgrade"], "shop@2");
    let shown = world.ok(&["affected", "CVE-2099-1001"])?;
    ensure!(
        shown.stdout.contains("shop (1)") && shown.stderr.contains("plumb upgrade shop shop@2"),
        "{shown:?}"
    );
    let open = world.json(&["affected"])?;
    assert_eq!(open["deployments"][0]["counts"]["high"], 1, "{open}");
    let names: BTreeMap<String, &Value> = open["vulnerabilities"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| (text(&one["name"]), one))
        .collect();
    ensure!(names.contains_key("CVE-2099-1001") && !names.contains_key("CVE-2099-1002"), "{open}");

    world.ok(&["upgrade", "shop"])?;
    let answer = world.json(&["affected", "CVE-2099-1001"])?;
    assert_eq!(
        (&answer["affected"], &answer["instances"]),
        (&true.into(), &0.into()),
        "shop@1 is still there"
    );
    ensure!(answer["deployments"].as_array().is_some_and(Vec::is_empty), "{answer}");
    assert_eq!(world.json(&["affected"])?["deployments"][0]["counts"]["high"], Value::Null);
    Ok(())
}

/// A feed that cannot be read does not take the place of one that could.
fn feeds(world: &World, feed: &std::path::Path) -> Result<()> {
    let again = world.json(&["advisory", "update"])?;
    assert_eq!(again[0]["changed"], false);
    let good = fs::read(feed)?;
    fs::write(feed, &good[..good.len() / 2])?;
    let broken = world.run(&["advisory", "update", "lab"])?;
    ensure!(broken.code == 1 && broken.stderr.contains("cannot be used"), "{broken:?}");
    assert_eq!(world.json(&["affected", "CVE-2099-1001"])?["affected"], true);
    fs::write(feed, b"[]")?;
    ensure!(world.run(&["advisory", "update"])?.stderr.contains("says nothing"), "an empty one is no news");
    // The copy in the store is enough to make the index again, and neither is in the way of who keeps the store.
    world.ok(&["gc"])?;
    let checkup = world.ok(&["fsck"])?;
    ensure!(!format!("{checkup:?}").contains("search.db"), "{checkup:?}");
    fs::remove_file(world.home().join("store/search.db"))?;
    assert_eq!(world.json(&["affected", "CVE-2099-1001"])?["affected"], true);
    fs::write(feed, &good)?;
    lost_feed(world)?;
    world.ok(&["advisory", "rm", "lab"])?;
    assert_eq!(world.run(&["affected", "CVE-2099-1001"])?.code, 1);
    Ok(())
}

/// A copy that is lost or damaged is taken again, though where it is from nothing has changed.
fn lost_feed(world: &World) -> Result<()> {
    let port = serve(tracker("1:1").to_string())?;
    world.ok(&["advisory", "add", "web", &format!("http://127.0.0.1:{port}/tracker.json")])?;
    assert_eq!(world.json(&["advisory", "update"])?[1]["changed"], false);
    for name in ["lab", "web"] {
        for damage in [None, Some("{}")] {
            let feeds = world.json(&["advisory", "ls"])?;
            let mut feeds = feeds.as_array().into_iter().flatten();
            let feed = feeds.find(|one| one["name"] == name).context("the feed")?;
            let object = world.object(&text(&feed["digest"]));
            ensure!(object.exists(), "it lies in a file of its own: {}", object.display());
            fs::remove_file(&object)?;
            if let Some(text) = damage {
                fs::write(&object, text)?;
            }
            fs::remove_file(world.home().join("store/search.db"))?;
            let told = world.run(&["affected", "CVE-2099-1001"])?;
            let hint = format!("plumb advisory update {name}");
            ensure!(told.code == 0 && told.stderr.contains(&hint), "another feed knows it: {told:?}");
            assert_eq!(world.json(&["advisory", "update", name])?[0]["changed"], false);
            let answer = world.json(&["affected", "CVE-2099-1001"])?;
            assert_eq!(answer["unread_feeds"], json!([]), "{name} {damage:?}");
        }
    }
    world.ok(&["advisory", "rm", "web"])?;
    Ok(())
}

/// A web server with one file, which tells whoever has it that it has not changed.
fn serve(body: String) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let answer = move |stream: &TcpStream| -> Result<()> {
        let mut is_known = false;
        for line in BufReader::new(stream).lines() {
            let line = line?.to_ascii_lowercase();
            is_known |= line == "if-none-match: \"one\"";
            if line.is_empty() {
                break;
            }
        }
        let head = "ETag: \"one\"\r\nConnection: close";
        let mut stream = stream;
        if is_known {
            return Ok(write!(stream, "HTTP/1.1 304 Not Modified\r\n{head}\r\n\r\n")?);
        }
        Ok(write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{head}\r\n\r\n{body}", body.len())?)
    };
    thread::spawn(move || {
        // A client that goes away is no fault of the server.
        listener.incoming().flatten().for_each(|stream| drop(answer(&stream)));
    });
    Ok(port)
}
