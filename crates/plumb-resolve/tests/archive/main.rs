//! The resolver against the real bookworm archive, with apt as the judge.
//!
//! For at least 200 packages: our closure passes the independent check, and `apt-get install` of exactly our set
//! wants nothing more and removes nothing. What we cannot solve, apt cannot either.
//!
//! `PLUMB_TEST_ARCHIVE` names a folder with the indices (`*_Packages`); without it they are fetched once with the
//! host's apt from `PLUMB_TEST_MIRROR` (default `http://deb.debian.org/debian`; security from the same address with
//! `-security` behind it) and kept under `target/test-cache/apt`.

mod apt;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use plumb_resolve::{Request, Resolution, ResolveError, RootRequest, Source, Universe, check, resolve};

use crate::apt::{Apt, Index};

/// How many names are taken from the sorted list, at equal distances.
const SPREAD: usize = 190;

/// Every so many names of the sorted list, for the sweep that needs apt only for what is unsolvable.
const SWEEP_STEP: usize = 40;

/// What cannot be on one machine.
const CONTRADICTIONS: [&[&str]; 4] = [
    &["exim4-daemon-light", "postfix"],
    &["systemd-sysv", "sysvinit-core"],
    &["rsyslog", "inetutils-syslogd"],
    &["cron", "systemd-cron"],
];

/// Simulations at the same time: apt is one process each and waits for nothing but the processor.
const THREADS: usize = 2;

/// What machines are really made of.
const SERVERS: [&str; 30] = [
    "nginx",
    "nginx-light",
    "postgresql-15",
    "postgresql",
    "python3-flask",
    "gunicorn",
    "python3-psycopg2",
    "apache2",
    "mariadb-server",
    "redis-server",
    "haproxy",
    "openssh-server",
    "nodejs",
    "php-fpm",
    "tomcat10",
    "default-jre-headless",
    "rabbitmq-server",
    "memcached",
    "bind9",
    "postfix",
    "exim4",
    "dovecot-imapd",
    "squid",
    "varnish",
    "prometheus",
    "prometheus-node-exporter",
    "samba",
    "slapd",
    "vsftpd",
    "linux-image-cloud-amd64",
];

fn universe(indices: &[Index]) -> Universe {
    let start = Instant::now();
    let sources: Vec<Source> = indices
        .iter()
        .map(|index| Source::from_text(index.name.clone(), index.text.clone()).expect(&index.name))
        .collect();
    let parsed = start.elapsed();
    let universe = Universe::new(sources);
    eprintln!("{} packages: parse {parsed:.0?}, universe {:.0?}", universe.len(), start.elapsed() - parsed);
    universe
}

fn request(roots: &[&str]) -> Request {
    let root =
        |relation: &&str| RootRequest { relation: (*relation).into(), asked_by: "test/machine".into() };
    Request { roots: roots.iter().map(root).collect(), ..Request::default() }
}

fn checked<'u>(universe: &'u Universe, request: &Request) -> Result<Resolution<'u>, String> {
    match resolve(universe, request) {
        Ok(resolution) => {
            let records: Vec<_> = resolution.packages.iter().map(|chosen| chosen.record).collect();
            assert_eq!(
                check(&records, &request.roots, &request.without, &resolution.waived),
                [],
                "{request:?}"
            );
            Ok(resolution)
        }
        Err(ResolveError::Unsolvable(explanation)) => Err(explanation.to_string()),
        Err(error) => panic!("{request:?}: {error}"),
    }
}

/// `name=version` of each package of a set.
fn exact(resolution: &Resolution<'_>) -> BTreeSet<String> {
    resolution.packages.iter().map(|c| format!("{}={}", c.record.name, c.record.version)).collect()
}

/// The names that are judged: evenly spread over the archive, and what machines are really made of.
fn subjects(universe: &Universe) -> Vec<&str> {
    let names: Vec<&str> = universe.package_names().collect();
    let spread = (0..SPREAD).map(|i| names[i * names.len() / SPREAD]);
    let subjects: BTreeSet<&str> = spread.chain(SERVERS).collect();
    subjects.into_iter().collect()
}

/// Does `work` for each of `subjects` on [`THREADS`] threads and returns what it complains about.
fn complaints(subjects: &[&str], work: impl Fn(&str) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let complaints = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(subject) = subjects.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(subject) {
                        complaints.lock().expect("no thread panicked").push(format!("{subject}: {error}"));
                    }
                }
            });
        }
    });
    complaints.into_inner().expect("no thread panicked")
}

#[test]
fn apt_agrees() {
    let indices = apt::indices();
    let universe = universe(&indices);
    let whole = Apt::new(&indices);
    for roots in [&["nginx"][..], &["postgresql-15", "nginx", "python3"], &["python3-flask", "gunicorn"]] {
        let resolution = checked(&universe, &request(roots)).expect("solvable");
        assert_eq!(exact(&resolution), whole.install(roots), "{roots:?}");
    }

    let subjects = subjects(&universe);
    assert!(subjects.len() >= 200);
    let answers: BTreeMap<&str, Result<BTreeSet<String>, String>> = subjects
        .iter()
        .map(|&subject| {
            (subject, checked(&universe, &request(&[subject])).map(|resolution| exact(&resolution)))
        })
        .collect();
    let union: BTreeSet<String> = answers.values().flatten().flatten().cloned().collect();
    let narrow = Apt::of_set(&indices, &union);
    let complaints = complaints(&subjects, |subject| match &answers[subject] {
        Ok(set) => narrow.judge_set(set),
        Err(explanation) => whole.judge_unsolvable(&[subject], explanation),
    });
    let unsolvable: Vec<_> =
        answers.iter().filter(|(_, answer)| answer.is_err()).map(|(name, _)| name).collect();
    eprintln!("{} subjects, {} packages, unsolvable: {unsolvable:?}", subjects.len(), union.len());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    what_we_cannot_solve_apt_cannot_either(&universe, &whole);
}

fn what_we_cannot_solve_apt_cannot_either(universe: &Universe, whole: &Apt) {
    for roots in CONTRADICTIONS {
        let explanation = checked(universe, &request(roots)).expect_err("a contradiction");
        eprintln!("{explanation}");
        whole.judge_unsolvable(roots, &explanation).expect("apt agrees");
    }
    let (mut solved, mut unsolvable) = (0, Vec::new());
    for name in universe.package_names().step_by(SWEEP_STEP) {
        match checked(universe, &request(&[name])) {
            Ok(_) => solved += 1,
            Err(explanation) => {
                whole.judge_unsolvable(&[name], &explanation).expect("apt agrees");
                unsolvable.push(name);
            }
        }
    }
    eprintln!("sweep: {solved} hold together, unsolvable for both: {unsolvable:?}");
}

#[test]
fn a_lock_of_a_real_machine_does_not_change() {
    let universe = universe(&apt::indices());
    let mut request = request(&["postgresql-15", "nginx", "python3-flask", "mariadb-server", "default-jre"]);
    let first = checked(&universe, &request).expect("solvable");
    request.keep = first.packages.iter().map(|c| (c.record.name.clone(), c.record.version.clone())).collect();
    let again = checked(&universe, &request).expect("solvable");
    assert_eq!(exact(&first), exact(&again));
    assert_eq!(again.notes, []);

    request.roots.push(RootRequest { relation: "haproxy".into(), asked_by: "test/machine".into() });
    let more = exact(&checked(&universe, &request).expect("solvable"));
    assert!(more.is_superset(&exact(&first)), "a further root changes nothing that was there");
}

/// Prints what the resolver costs; nothing is asserted about the clock.
#[test]
fn cost_of_real_machines() {
    let universe = universe(&apt::indices());
    for roots in [&["nginx"][..], &["postgresql-15", "nginx", "python3"], &["gnome"]] {
        let request = request(roots);
        let start = Instant::now();
        let resolution = resolve(&universe, &request).expect("solvable");
        eprintln!("{roots:?}: {} packages in {:.1?}", resolution.packages.len(), start.elapsed());
    }
}
