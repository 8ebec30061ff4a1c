//! The live tree of a long command: one line per phase, machine and instance. Without a terminal: plain lines.
//!
//! ```text
//! ✔ packages   41 chosen
//! ✔ download   12 files, 9.2 MB
//! ✔ build web  46.1 MB
//! ✔ shop@1
//! ⠋ db-1       postgres: starting
//! ```

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use plumb_guest_proto::{Event, ServiceState};
use plumb_model::outcome::Verdict;
use plumb_ops::{BuildStep, DataStep, InstanceStep, Progress, Reporter, StoreStep, Travel};
use serde::Serialize;

use super::{bytes, duration, service_state};
use crate::output::{err, out};

/// A phase of a command, for `--json`.
#[derive(Serialize)]
pub struct Finished {
    /// Milliseconds since the start of the command.
    at_ms: u64,
    what: String,
}

/// Draws [`Progress`] on standard error.
pub struct Live {
    mode: Mode,
    started: Instant,
    state: Mutex<State>,
}

enum Mode {
    Silent,
    Lines,
    Tree(MultiProgress),
}

#[derive(Default)]
struct State {
    bars: BTreeMap<String, ProgressBar>,
    download: Download,
    /// The release whose objects are being made, bytes done, bytes expected.
    applied: (String, u64, u64),
    timings: Vec<(Duration, String)>,
}

struct Download {
    what: &'static str,
    files: u64,
    open: u64,
    expected: u64,
    received: u64,
}

impl Default for Download {
    fn default() -> Self {
        Download { what: "download", files: 0, open: 0, expected: 0, received: 0 }
    }
}

impl Live {
    /// A tree on a terminal, lines elsewhere, nothing if `silent`.
    pub fn new(silent: bool) -> Self {
        let mode = if silent {
            Mode::Silent
        } else if std::io::stderr().is_terminal() {
            Mode::Tree(MultiProgress::new())
        } else {
            Mode::Lines
        };
        Live { mode, started: Instant::now(), state: Mutex::default() }
    }

    /// Ends all unfinished lines; what is finished stays on the screen.
    pub fn clear(&self) {
        let mut state = self.state();
        for (_, bar) in std::mem::take(&mut state.bars) {
            if !bar.is_finished() {
                bar.finish_and_clear();
            }
        }
    }

    /// Every finished phase, in order.
    pub fn timings(&self) -> Vec<Finished> {
        let state = self.state();
        let of = |(at, what): &(Duration, String)| Finished {
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            what: what.clone(),
        };
        state.timings.iter().map(of).collect()
    }

    /// Every finished phase with the time since the start of the command.
    pub fn print_timings(&self) {
        for (at, what) in &self.state().timings {
            out!("{:>9.3} s  {what}", at.as_secs_f64());
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Something goes on under this key.
    fn busy(&self, key: &str, message: &str) {
        let Mode::Tree(tree) = &self.mode else { return };
        let mut state = self.state();
        let bar = state.bars.entry(key.to_owned()).or_insert_with(|| {
            let bar = tree.add(ProgressBar::new_spinner().with_style(spinner()));
            bar.set_prefix(key.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.set_message(message.to_owned());
    }

    /// What goes on under this key has ended.
    fn done(&self, key: &str, mark: char, message: &str) {
        let at = self.started.elapsed();
        self.state().timings.push((at, format!("{key} {message}")));
        match &self.mode {
            Mode::Silent => {}
            Mode::Lines => err!("{mark} {key:<10} {message}"),
            Mode::Tree(tree) => {
                // Lines above the live ones: what is printed stays, whatever is printed later.
                let bar = self.state().bars.remove(key);
                let took = bar.map_or(Duration::ZERO, |bar| {
                    bar.finish_and_clear();
                    bar.elapsed()
                });
                let took = duration(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
                // A terminal that went away must not end the command.
                let _ = tree.println(format!("{mark} {key:<10} {message}  {took}"));
            }
        }
    }

    fn download(&self, change: impl FnOnce(&mut Download)) {
        let (all_done, what, text) = {
            let mut state = self.state();
            let download = &mut state.download;
            change(download);
            let text = format!(
                "{} files, {} of {}",
                download.files,
                bytes(download.received),
                bytes(download.expected)
            );
            (download.open == 0, download.what, text)
        };
        if all_done {
            let Mode::Tree(_) = &self.mode else { return };
        }
        self.busy(what, &text);
    }

    fn end_download(&self) {
        let download = std::mem::take(&mut self.state().download);
        if download.files > 0 {
            self.done(download.what, '✔', &format!("{} files, {}", download.files, bytes(download.received)));
        }
    }

    fn refreshing(&self) {
        self.state().download.what = "indices";
        self.busy("packages", "reading the archive's indices");
    }

    /// What a push or a pull does.
    fn travel(&self, travel: Travel) {
        match travel {
            Travel::Packing { release, from } => {
                let how = from.map_or_else(|| "as a whole".to_owned(), |from| format!("against {from}"));
                self.busy("pack", &format!("{release} {how}"));
            }
            Travel::Sending => {
                self.drop_line("pack");
                self.state().download.what = "upload";
            }
            Travel::Transferred => self.end_download(),
            Travel::Applying { release, bytes: expected } => {
                self.end_download();
                let mut state = self.state();
                state.applied = (release, 0, expected);
            }
            Travel::Applied { bytes } => self.applied(bytes),
            Travel::Trusts { app, root } => self.note(&format!(
                "trusts the keys of {app} ({root}) from now on; compare it with what their owner says"
            )),
            Travel::Pulled { release } => {
                self.end_download();
                self.drop_line("make");
                self.done("release", '✔', &release);
            }
        }
    }

    fn applied(&self, more: u64) {
        let text = {
            let mut state = self.state();
            let (release, done, expected) = &mut state.applied;
            *done += more;
            format!("{release}: {} of {}", bytes(*done), bytes(*expected))
        };
        self.busy("make", &text);
    }

    /// What went on under this key has ended, and nobody needs to be told.
    fn drop_line(&self, key: &str) {
        if let Some(bar) = self.state().bars.remove(key) {
            bar.finish_and_clear();
        }
    }

    fn instance(&self, name: &str, step: &InstanceStep) {
        match step {
            InstanceStep::Withdrawing => self.busy(name, "withdrawing from its ports"),
            InstanceStep::Stopping => self.busy(name, "stopping"),
            InstanceStep::Starting => self.busy(name, "starting"),
            InstanceStep::Awaiting => self.busy(name, "waiting until it is ready"),
            InstanceStep::Service { name: service, state } => {
                self.busy(name, &format!("{service}: {}", service_state(state)));
            }
            InstanceStep::Ready => self.done(name, '✔', "ready"),
            InstanceStep::Task(task) => self.busy(name, &format!("carrying out task {task}")),
            InstanceStep::Settling => self.busy(name, "looking whether it stays ready"),
            InstanceStep::Settled => self.done(name, '✔', "stayed ready"),
            InstanceStep::Failed => self.done(name, '✘', "not ready"),
            InstanceStep::Removed => self.done(name, '✔', "removed"),
        }
    }

    fn guest(&self, name: &str, event: &Event) {
        match event {
            Event::RootMounted => self.busy(name, "root verified and mounted"),
            Event::VolumeMounted { name: volume, formatted: true, size_bytes, .. } => {
                self.busy(name, &format!("volume {volume} formatted ({})", bytes(*size_bytes)));
            }
            Event::VolumeMounted { name: volume, .. } => self.busy(name, &format!("volume {volume} mounted")),
            Event::Service {
                name: service,
                state: state @ (ServiceState::Backoff { .. } | ServiceState::Failed { .. }),
            } => {
                self.note(&format!("{name}: {service} {}", service_state(state)));
            }
            Event::Service { name: service, state } => {
                self.busy(name, &format!("{service}: {}", service_state(state)));
            }
            Event::Fatal { message } => self.note(&format!("{name}: {message}")),
            Event::Booted { .. } | Event::ServiceTimes(_) | Event::Ready | Event::Stopping => {}
        }
    }

    fn note(&self, text: &str) {
        match &self.mode {
            Mode::Silent => {}
            Mode::Lines => err!("! {text}"),
            Mode::Tree(tree) => {
                // A terminal that went away must not end the command.
                let _ = tree.println(format!("! {text}"));
            }
        }
    }

    /// What is done with the data of a deployment.
    fn data(&self, step: DataStep) {
        match step {
            DataStep::Copying { snapshot, bytes: count } => {
                self.busy("data", &format!("copying for snapshot {snapshot}, {}", bytes(count)));
            }
            DataStep::Copied { snapshot, bytes: count, frozen_ms } => {
                let stood =
                    frozen_ms.map(|ms| format!("; volumes stood still for {ms} ms")).unwrap_or_default();
                self.done("data", '✔', &format!("snapshot {snapshot}, {}{stood}", bytes(count)));
            }
            DataStep::Late => {
                self.note("volumes stood still for too long; copying while instances are stopped")
            }
            DataStep::Restoring { snapshot, bytes: count } => {
                self.busy("data", &format!("restoring snapshot {snapshot}, {}", bytes(count)));
            }
            DataStep::Restored { snapshot } => self.done("data", '✔', &format!("as in snapshot {snapshot}")),
            DataStep::Moving { bytes: count } => self.busy("data", &bytes(count)),
            DataStep::Moved { bytes: count } => self.done("data", '✔', &bytes(count)),
        }
    }

    /// What is done with the store.
    fn store(&self, step: StoreStep) {
        let message = match step {
            StoreStep::Surveying => "looking what is needed".to_owned(),
            StoreStep::Checking { objects } => format!("hashing {objects} objects"),
            StoreStep::Folding { objects } => format!("folding what is not in use of {objects} objects"),
            StoreStep::Waiting => "waiting for other plumb commands to end".to_owned(),
        };
        self.busy("store", &message);
    }
}

impl Live {
    /// What is told of the index that `plumb affected` asks.
    fn search(&self, progress: Progress) {
        match progress {
            Progress::Indexing { done, of } if done < of => {
                self.busy("index", &format!("looking into releases, {done} of {of}"));
            }
            Progress::Indexing { of, .. } => {
                self.done(
                    "index",
                    '✔',
                    &format!("looked into {of} release{}", if of == 1 { "" } else { "s" }),
                );
            }
            Progress::ReadingFeed { feed } => self.busy(&feed, "reading"),
            Progress::FeedRead { feed, advisories } => {
                self.done(&feed, '✔', &format!("{advisories} advisories"));
            }
            Progress::Postponed { what } => self.done("later", '!', &what),
            _ => {}
        }
    }
}

/// What became of what a killed test left.
fn removed(deployment: &str, trouble: Option<String>) -> String {
    match trouble {
        None => format!("{deployment} was left by a test that was killed; it is gone now"),
        Some(trouble) => format!("{deployment} is still there ({trouble}); `plumb ps` takes it away"),
    }
}

impl Reporter for Live {
    fn report(&self, progress: Progress) {
        match progress {
            Progress::Store(step) => self.store(step),
            Progress::Refreshing => self.refreshing(),
            Progress::Resolving => {
                self.end_download();
                self.busy("packages", "choosing");
            }
            Progress::Locked { packages, changed } => {
                let how = if changed { "chosen" } else { "as locked" };
                self.done("packages", '✔', &format!("{packages} {how}"));
            }
            Progress::DownloadBegan { bytes, .. } => self.download(|download| {
                download.files += 1;
                download.open += 1;
                download.expected += bytes;
            }),
            Progress::Downloaded { bytes, .. } => self.download(|download| download.received += bytes),
            Progress::DownloadEnded { .. } => {
                self.download(|download| download.open = download.open.saturating_sub(1))
            }
            Progress::Building { machine, step } => {
                self.end_download();
                let what = match step {
                    BuildStep::Unpacking => "unpacking packages",
                    BuildStep::Scripts => "running maintainer scripts in a build VM",
                    BuildStep::Assembling => "assembling files",
                    BuildStep::Writing => "writing the image",
                };
                self.busy(&format!("build {machine}"), what);
            }
            Progress::Built { machine, bytes: size, cached, notices } => {
                let how = match (cached, notices) {
                    (true, _) => " (unchanged)".to_owned(),
                    (false, 0) => String::new(),
                    (false, count) => format!(", {count} notices (`plumb build` lists them)"),
                };
                self.done(&format!("build {machine}"), '✔', &format!("{}{how}", bytes(size)));
            }
            Progress::KeyMade { name, public } => {
                self.note(&format!("made the signing key `{name}` ({public}); `plumb key` lists keys"));
            }
            Progress::Released { release, changed } => {
                self.done("release", '✔', &format!("{release}{}", if changed { "" } else { " (unchanged)" }));
            }
            progress @ (Progress::Indexing { .. }
            | Progress::ReadingFeed { .. }
            | Progress::FeedRead { .. }
            | Progress::Postponed { .. }) => self.search(progress),
            Progress::Travel(travel) => self.travel(travel),
            Progress::Accelerator { kind, .. } if kind == "kvm" => {}
            Progress::Accelerator { kind, reason } => {
                self.note(&format!("virtual machines run under {kind}: {reason}"));
            }
            Progress::Planned { .. } => {}
            Progress::Instance { instance, step } => self.instance(instance.as_str(), &step),
            Progress::Guest { instance, event } => self.guest(instance.as_str(), &event),
            Progress::CheckBegan { check, place } => self.busy(&format!("check {check}"), &place.to_string()),
            Progress::CheckEnded { check, place, verdict } => {
                let (mark, how) = mark(&verdict);
                self.done(&format!("check {check}"), mark, &format!("{place}: {how}"));
            }
            Progress::TestRemoved { deployment, trouble } => {
                self.note(&removed(deployment.as_str(), trouble))
            }
            Progress::AwaitingRepair { holder } => self.note(&format!("waiting for a repair by {holder}")),
            Progress::Data(step) => self.data(step),
            Progress::Returning { from, to } => {
                self.note(&format!("{from} did not become healthy; going back to {to}"))
            }
        }
    }
}

fn mark(verdict: &Verdict) -> (char, &'static str) {
    match verdict {
        Verdict::Passed => ('✔', "passed"),
        Verdict::Failed { .. } => ('✘', "failed"),
        Verdict::Skipped { .. } => ('-', "not tried"),
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner:.cyan} {prefix:<10} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
