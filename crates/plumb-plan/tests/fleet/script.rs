//! Stories of an operator, as text: what is done, what goes wrong, and what came of it beside, in the repository.
//!
//! ```text
//!  machine db 1 volume              machine NAME INSTANCES [needs OTHER]… [publish] [volume] [away N] [canary N MS] [report]
//!  task api migrate before          before, after, reverse
//!  release 1                        of the machines so far; `release 2 web api` changes the images of these
//!  fence 2                          of the release after it
//!  failed-instance stop             of all releases after it
//!  blue-green 5 60                  of all releases after it: watched so many seconds, kept so many; `blue-green no`
//!  never-ready web-2 2 | unsettled web-1 2 | task-fails migrate 2
//!  go 2 | down | crash web-1 | hang web-1 | watch 60 | show
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::expect_file;
use plumb_model::release::{
    BlueGreen, Canary, Content, FailedInstance, Publish, Release, ReleaseMachine, Repair, Rolling, Task,
    VolumeSize, Watch, When,
};
use plumb_model::{Digest, MachineName};

use super::host::{Host, Trouble};

/// A machine without anything.
pub fn plain(image: &str, instances: u32) -> ReleaseMachine {
    ReleaseMachine {
        image: Digest::of(image.as_bytes()),
        instances,
        memory_mib: 128,
        cpus: 1,
        needs: Vec::new(),
        publish: Vec::new(),
        volumes: BTreeMap::new(),
        ready_timeout_ms: 60_000,
        rolling: Rolling::default(),
        watch: Watch::default(),
        tasks: BTreeMap::new(),
        config: std::collections::BTreeSet::new(),
    }
}

/// A release of these machines.
pub fn release(number: u64, fence: u64, machines: &BTreeMap<MachineName, ReleaseMachine>) -> Release {
    Release {
        format: 1,
        app: "shop".parse().expect("a name"),
        number,
        previous: None,
        created_s: 0,
        note: String::new(),
        definition: Digest::of(b""),
        lock: Digest::of(b""),
        checks: None,
        content: Content {
            fence,
            machines: machines.clone(),
            config: BTreeMap::new(),
            snapshots: plumb_model::release::SnapshotPolicy::default(),
            upgrade: plumb_model::release::UpgradePolicy::default(),
        },
    }
}

#[derive(Default)]
struct Story {
    machines: BTreeMap<MachineName, ReleaseMachine>,
    fence: u64,
    failed: FailedInstance,
    blue_green: Option<BlueGreen>,
}

impl Story {
    fn machine(&mut self, words: &[&str]) {
        let mut made = plain(words[0], words[1].parse().expect("a number"));
        let mut words_left = words[2..].iter();
        while let Some(word) = words_left.next() {
            let mut next = || words_left.next().expect("a word");
            match *word {
                "needs" => made.needs.push(next().parse().expect("a name")),
                "publish" => made.publish.push(Publish {
                    address: [127, 0, 0, 1].into(),
                    host_port: 8080,
                    guest_port: 80,
                }),
                "volume" => {
                    made.volumes.insert(
                        "data".parse().expect("a name"),
                        VolumeSize { size_bytes: 1 << 30, snapshot: plumb_model::release::Quiesce::Freeze },
                    );
                }
                "away" => made.rolling.max_unavailable = next().parse().expect("a number"),
                "canary" => {
                    let instances = next().parse().expect("a number");
                    made.rolling.canary = Some(Canary { instances, for_ms: next().parse().expect("ms") });
                }
                "report" => made.watch.repair = Repair::Report,
                other => panic!("`{other}` is nothing of a machine"),
            }
        }
        self.machines.insert(words[0].parse().expect("a name"), made);
    }

    fn line(&mut self, host: &mut Host, words: &[&str]) {
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let name = |at: usize| words[at].parse().expect("a name");
        match words[0] {
            "machine" => self.machine(&words[1..]),
            "task" => {
                let when = match words[3] {
                    "before" => When::Before,
                    "after" => When::After,
                    "reverse" => When::Reverse,
                    other => panic!("`{other}` is no time of a task"),
                };
                let machine = self.machines.get_mut(&name(1)).expect("the machine");
                machine.tasks.insert(words[2].parse().expect("a name"), Task { when, timeout_ms: 60_000 });
            }
            "fence" => self.fence = number(1),
            "failed-instance" => {
                let all = [FailedInstance::Undo, FailedInstance::Stop, FailedInstance::Continue];
                self.failed = all.into_iter().find(|one| one.as_str() == words[1]).expect("a policy");
            }
            "blue-green" => {
                self.blue_green = (words[1] != "no")
                    .then(|| BlueGreen { watch_ms: number(1) * 1000, keep_ms: number(2) * 1000 });
            }
            "release" => {
                for changed in &words[2..] {
                    let machine = self.machines.get_mut(&changed.parse().expect("a name")).expect("there");
                    machine.image = Digest::of(format!("{changed} {}", words[1]).as_bytes());
                }
                let mut made = release(number(1), self.fence, &self.machines);
                made.content.upgrade.failed_instance = self.failed;
                made.content.upgrade.blue_green = self.blue_green;
                host.releases.insert(number(1), made);
                self.fence = 0;
            }
            "never-ready" => {
                host.troubles.push(Trouble::NeverReady(words[1].parse().expect("a name"), number(2)))
            }
            "unsettled" => {
                host.troubles.push(Trouble::Unsettled(words[1].parse().expect("a name"), number(2)))
            }
            "task-fails" => host.troubles.push(Trouble::Task(words[1].to_owned(), number(2))),
            // How it ends is in what happened.
            "go" => drop(host.go(number(1))),
            "down" => drop(host.down()),
            "crash" => host.crash(words[1]),
            "hang" => host.hang(words[1]),
            "watch" => host.watch(number(1) * 1000),
            "show" => {
                let shown = host.shown();
                host.trace.push(shown.trim_end().to_owned());
            }
            other => panic!("`{other}` is no command"),
        }
    }
}

/// Carries a script out and compares what happened with the file beside it.
fn tell(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fleet/scripts");
    let script = std::fs::read_to_string(folder.join(format!("{name}.script"))).expect("the script");
    let mut story = Story::default();
    let mut host = Host::new("shop-prod");
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !matches!(words[0], "machine" | "task" | "fence") {
            host.trace.push(format!("> {line}"));
        }
        story.line(&mut host, &words);
    }
    expect_file![folder.join(format!("{name}.expected"))].assert_eq(&(host.trace.join("\n") + "\n"));
}

#[test]
fn a_life_of_a_shop() {
    tell("shop");
}

#[test]
fn upgrades_that_fail() {
    tell("failures");
}

#[test]
fn what_follows_a_failed_instance() {
    tell("policy");
}

#[test]
fn data_that_is_turned_back() {
    tell("reverse");
}

#[test]
fn failed_upgrades_past_a_fence() {
    tell("fence");
}

#[test]
fn two_sets_beside_each_other() {
    tell("blue-green");
}

#[test]
fn what_is_watched() {
    tell("watch");
}
