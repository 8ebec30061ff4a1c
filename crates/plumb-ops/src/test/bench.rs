//! Carrying out checks against a set that runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use plumb_model::InstanceName;
use plumb_model::check::{Checks, MachinePort, Probe, RunProbe};
use plumb_model::outcome::{CheckPlace, CheckResult, Verdict};
use plumb_target::{Checked, Local, Program, ProgramEnd, Target as _, run_program};

use super::job::Job;
use super::outside;
use crate::cancel::Cancel;
use crate::error::{OpsError, io};
use crate::progress::Progress;
use crate::{Plumb, clock};

/// Checks that are carried out at once: a set is not a target for load, and each may be a program on this host.
const WORKERS: usize = 4;

/// How long a guest may be silent beyond the time that it gives a check itself.
const GUEST_MARGIN: Duration = Duration::from_secs(30);

/// Pause before another try: a server that is just busy has done something else until then.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How soon an interruption is seen.
const TICK: Duration = Duration::from_millis(100);

/// Largest file of a check that is laid out; as large as all of them may be when they are kept.
const FILE_LIMIT: u64 = 256 * 1024 * 1024;

/// One try.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Attempt {
    pub(super) failure: Option<String>,
    pub(super) output: String,
    pub(super) left_out_bytes: u64,
}

impl Attempt {
    pub(super) fn failed(reason: String) -> Self {
        Attempt { failure: Some(reason), ..Attempt::default() }
    }
}

/// A set that runs, and what is needed to check it.
pub(super) struct Bench<'b, 'p> {
    pub(super) plumb: &'b Plumb<'p>,
    pub(super) target: &'b Local,
    pub(super) cancel: &'b Cancel,
    pub(super) checks: &'b Checks,
    /// Folder below which programs work.
    pub(super) work: &'b Path,
    /// What programs get to know.
    pub(super) environment: BTreeMap<String, String>,
}

impl Bench<'_, '_> {
    /// Carries out all jobs, some at a time; the results in the order of the jobs.
    pub(super) fn run(&self, jobs: &[Job<'_>]) -> Result<Vec<CheckResult>, OpsError> {
        let next = AtomicUsize::new(0);
        let (sender, receiver) = channel();
        let mut results: Vec<Option<Result<CheckResult, OpsError>>> = jobs.iter().map(|_| None).collect();
        std::thread::scope(|scope| {
            for _ in 0..WORKERS.min(jobs.len()) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = jobs.get(number).filter(|_| !self.cancel.is_set()) else { return };
                        // Nobody listens any more only if this very function panicked.
                        let _ = sender.send((number, self.job(job)));
                    }
                });
            }
            drop(sender);
            let mut is_cut = false;
            loop {
                match receiver.recv_timeout(TICK) {
                    Ok((number, result)) => results[number] = Some(result),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) if self.cancel.is_set() && !is_cut => {
                        is_cut = true;
                        // Whoever waits for an answer of the set gets none; what fails here is told by the teardown
                        // that follows.
                        let _ = self.target.teardown(Duration::ZERO);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        });
        results.into_iter().map(|result| result.unwrap_or(Err(OpsError::Interrupted))).collect()
    }

    /// One check at one place, with its tries.
    fn job(&self, job: &Job<'_>) -> Result<CheckResult, OpsError> {
        let (check, place) = (job.name.clone(), job.place.clone());
        self.plumb.report(Progress::CheckBegan { check: check.clone(), place: place.clone() });
        let (started_ms, start) = (clock::now_ms(), Instant::now());
        let mut tries = 0;
        let attempt = loop {
            tries += 1;
            let attempt = self.attempt(job)?;
            if attempt.failure.is_none() || tries > job.check.retry {
                break attempt;
            }
            self.rest();
            if self.cancel.is_set() {
                return Err(OpsError::Interrupted);
            }
        };
        let verdict = match attempt.failure {
            None => Verdict::Passed,
            Some(reason) => Verdict::Failed { reason },
        };
        self.plumb.report(Progress::CheckEnded {
            check: check.clone(),
            place: place.clone(),
            verdict: verdict.clone(),
        });
        Ok(CheckResult {
            check,
            place,
            verdict,
            tries,
            started_ms,
            duration_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            output: attempt.output,
            left_out_bytes: attempt.left_out_bytes,
        })
    }

    fn rest(&self) {
        let end = Instant::now() + RETRY_PAUSE;
        while Instant::now() < end && !self.cancel.is_set() {
            #[expect(clippy::disallowed_methods, reason = "nothing tells that a server has recovered")]
            std::thread::sleep(TICK);
        }
    }

    fn attempt(&self, job: &Job<'_>) -> Result<Attempt, OpsError> {
        let limit = Duration::from_millis(job.check.timeout_ms);
        match (&job.check.probe, &job.place) {
            (Probe::Http(http), CheckPlace::Outside(instance)) => {
                let address = self.forward(job, instance, &http.at)?;
                Ok(outside::http(address, http, limit))
            }
            (Probe::Tcp(at), CheckPlace::Outside(instance)) => {
                let address = self.forward(job, instance, at)?;
                let seen = self.target.observe()?;
                let seen = seen.iter().find(|seen| seen.name == instance.as_str());
                let status = seen.and_then(|seen| seen.guest.as_ref()?.status.as_ref());
                let activity = status.and_then(|status| status.activity.as_ref());
                Ok(outside::tcp(address, at.port, activity, limit))
            }
            (Probe::Exec(_), CheckPlace::Inside(instance)) => self.inside(job, instance, limit),
            (Probe::Run(run), _) => self.program(job, run, limit),
            (_, place) => Err(self.broken(job, format!("it has no meaning at {place}"))),
        }
    }

    fn forward(
        &self,
        job: &Job<'_>,
        instance: &InstanceName,
        at: &MachinePort,
    ) -> Result<std::net::SocketAddr, OpsError> {
        let address = self.target.forward(instance.as_str(), at.port)?;
        address.ok_or_else(|| self.broken(job, format!("port {} of {instance} is not published", at.port)))
    }

    fn inside(&self, job: &Job<'_>, instance: &InstanceName, limit: Duration) -> Result<Attempt, OpsError> {
        let goes_on = || !self.cancel.is_set();
        let checked =
            self.target.check(instance.as_str(), job.name.as_str(), limit + GUEST_MARGIN, &goes_on)?;
        Ok(match checked {
            Checked::Answered(answer) => Attempt {
                failure: answer.failure,
                output: answer.output,
                left_out_bytes: answer.left_out_bytes,
            },
            Checked::Lost => Attempt::failed(format!("{instance} went away before it answered")),
            Checked::Silent => Attempt::failed(format!("{instance} gave no answer")),
            Checked::Cancelled => return Err(OpsError::Interrupted),
        })
    }

    /// A program in a folder that holds the files of the release's checks and nothing else.
    fn program(&self, job: &Job<'_>, run: &RunProbe, limit: Duration) -> Result<Attempt, OpsError> {
        let argv = run.argv().ok_or_else(|| self.broken(job, "its command is no command line".to_owned()))?;
        let folder = self.work.join(job.name.as_str());
        self.lay_out(&folder)?;
        let mut environment = self.environment.clone();
        for name in ["HOME", "TMPDIR"] {
            environment.insert(name.to_owned(), folder.display().to_string());
        }
        let program = Program { argv: &argv, folder: &folder, environment: &environment, limit };
        let outcome = run_program(&program, &|| !self.cancel.is_set());
        let failure = match outcome.end {
            ProgramEnd::Exited(0) => None,
            ProgramEnd::Exited(status) => Some(format!("exited with status {status}")),
            ProgramEnd::Killed(signal) => Some(format!("was killed by signal {signal}")),
            ProgramEnd::Late => Some(format!("took longer than {} ms", limit.as_millis())),
            ProgramEnd::NotStarted(reason) => Some(format!("cannot run `{}`: {reason}", argv[0])),
            ProgramEnd::Cancelled => return Err(OpsError::Interrupted),
        };
        Ok(Attempt { failure, output: outcome.output, left_out_bytes: outcome.left_out_bytes })
    }

    /// Every byte is verified before anything of it runs.
    fn lay_out(&self, folder: &Path) -> Result<(), OpsError> {
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(io("remove", folder))?;
        }
        fs::create_dir_all(folder).map_err(io("make", folder))?;
        for (path, file) in &self.checks.files {
            let bytes = self.plumb.store.read_bytes(&file.digest, FILE_LIMIT)?;
            let place = folder.join(path.as_str());
            if let Some(above) = place.parent() {
                fs::create_dir_all(above).map_err(io("make", above))?;
            }
            fs::write(&place, bytes).map_err(io("write", &place))?;
            let mode = if file.executable { 0o755 } else { 0o644 };
            fs::set_permissions(&place, fs::Permissions::from_mode(mode)).map_err(io("change", &place))?;
        }
        Ok(())
    }

    fn broken(&self, job: &Job<'_>, reason: String) -> OpsError {
        OpsError::CheckBroken { check: job.name.clone(), reason }
    }
}
