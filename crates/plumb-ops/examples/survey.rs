//! How many of the packages that servers are made of can be built without a choice of the user's?
//!
//! Every package of a list becomes a machine of its own: its closure is resolved, unpacked and assembled, and what
//! would stop the build is counted. `cargo xtask survey` runs it.
//!
//! usage: `survey LIST HOME [PACKAGE…]` (packages: only these, with all their lines)

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use plumb_ops::{Home, Options, Plumb, Progress, Project, Proxies, Rehearsal, Reporter};

/// Machines of one definition: below the limit of a definition, and few enough to keep their closures in memory.
const MACHINES: usize = 60;

struct Lines;

impl Reporter for Lines {
    fn report(&self, _progress: Progress) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(list), Some(home)) = (arguments.next(), arguments.next()) else {
        return Err("usage: survey LIST HOME [PACKAGE…]".into());
    };
    let only: Vec<String> = arguments.collect();
    let text = fs::read_to_string(list)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let all: BTreeSet<&str> = lines.flat_map(str::split_whitespace).collect();
    let names: Vec<&str> =
        if only.is_empty() { all.into_iter().collect() } else { only.iter().map(String::as_str).collect() };
    let home = PathBuf::from(home);
    #[expect(clippy::disallowed_methods, reason = "the door to the environment, as in the program")]
    let proxies = Proxies::from_environment(&|name| std::env::var(name).ok());
    let options = Options {
        offline: false,
        proxies,
        environment: plumb_ops::Environment::default(),
        program: std::env::current_exe()?,
        signer: None,
        user: "tester".parse()?,
        state: plumb_ops::StateOptions::default(),
        passphrase: |_| None,
        age_identity: None,
    };
    let plumb = Plumb::open(Home::new(home.clone()), options, &Lines)?;
    let mut results = BTreeMap::new();
    for (number, names) in names.chunks(MACHINES).enumerate() {
        rehearse(&plumb, &home.join(format!("survey/{number}")), names, &mut results)?;
        eprintln!("survey: {} of the list are done", results.len());
    }
    print(&results, !only.is_empty());
    Ok(())
}

/// One definition with a machine per package. Packages that cannot be locked together are split in halves.
fn rehearse(
    plumb: &Plumb<'_>,
    folder: &Path,
    names: &[&str],
    results: &mut BTreeMap<String, Rehearsal>,
) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    let mut text = "app = \"survey\"\n".to_owned();
    for (at, name) in names.iter().enumerate() {
        text.push_str(&format!("[machine.m{at}]\nmiddleware = [\"{name}\"]\n"));
    }
    fs::write(folder.join("plumb.toml"), text)?;
    match plumb.rehearse(&Project::load(folder)?) {
        Ok(machines) => {
            for (machine, rehearsal) in machines {
                let at: usize = machine.as_str().trim_start_matches('m').parse()?;
                results.insert(names[at].to_owned(), rehearsal);
            }
        }
        Err(error) if names.len() == 1 => {
            let failure = Some(format!("{error}").lines().take(3).collect::<Vec<_>>().join(" "));
            results.insert(names[0].to_owned(), Rehearsal { failure, ..Rehearsal::default() });
        }
        Err(_) => {
            let (first, second) = names.split_at(names.len() / 2);
            rehearse(plumb, &folder.join("a"), first, results)?;
            rehearse(plumb, &folder.join("b"), second, results)?;
        }
    }
    Ok(())
}

/// `chmod 0640 /etc/x` and `chmod 0600 /etc/y` are of one shape: the command and what kind of words follow.
fn shape(line: &str) -> String {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("");
    let rest: Vec<&str> = words.filter(|word| word.starts_with('-')).take(2).collect();
    format!("{first} {}", rest.join(" ")).trim().to_owned()
}

fn print(results: &BTreeMap<String, Rehearsal>, with_lines: bool) {
    let mut lines: BTreeMap<(String, String, String), BTreeSet<&str>> = BTreeMap::new();
    let mut stopped = BTreeMap::new();
    for (name, rehearsal) in results {
        let mut reasons = BTreeSet::new();
        for report in &rehearsal.uncovered {
            reasons.insert(format!("{} {}", report.package, report.script));
            for line in &report.unhandled {
                let key = (report.package.clone(), report.script.clone(), line.clone());
                lines.entry(key).or_default().insert(name);
            }
        }
        reasons.extend(rehearsal.missing.iter().take(if with_lines { 100 } else { 1 }).cloned());
        reasons.extend(rehearsal.failure.clone());
        if !reasons.is_empty() {
            stopped.insert(name, reasons);
        }
    }
    let mut shapes: BTreeMap<String, (BTreeSet<&str>, Vec<String>)> = BTreeMap::new();
    for ((package, script, line), closures) in &lines {
        let (all, examples) = shapes.entry(shape(line)).or_default();
        all.extend(closures);
        examples.push(format!("{package} {script}: {line}"));
    }
    let mut shapes: Vec<_> = shapes.into_iter().collect();
    shapes.sort_by_key(|(shape, (closures, _))| (usize::MAX - closures.len(), shape.clone()));
    for (shape, (closures, examples)) in shapes {
        println!("{:4} closures  {shape}", closures.len());
        for example in &examples {
            println!("       {example}");
        }
    }
    println!();
    for (name, reasons) in &stopped {
        println!("stopped: {name}: {}", reasons.iter().cloned().collect::<Vec<_>>().join("; "));
    }
    let count = |of: fn(&Rehearsal) -> bool| results.values().filter(|rehearsal| of(rehearsal)).count();
    println!();
    println!("{} packages of the list", results.len());
    println!(
        "{} have effects that no rule covers, and stop with a choice: `script.PACKAGE = \"skip\"`, a rule, `scripts = \"run\"`",
        count(|rehearsal| !rehearsal.uncovered.is_empty())
    );
    println!("{} have programs that cannot run", count(|rehearsal| !rehearsal.missing.is_empty()));
    println!("{} have no tree", count(|rehearsal| rehearsal.failure.is_some()));
    let good = results.len() - stopped.len();
    let share = |number: usize| 100.0 * number as f64 / results.len().max(1) as f64;
    println!("{good} build without a choice: {:.1} %", share(good));
    let made = |name: &&String| !stopped.contains_key(name) && !results[*name].left_out.is_empty();
    let with_notice = results.keys().filter(made).count();
    println!(
        "{with_notice} of these leave keys, passwords, names or databases to the instance, and say so; {} need nothing: {:.1} %",
        good - with_notice,
        share(good - with_notice)
    );
}
