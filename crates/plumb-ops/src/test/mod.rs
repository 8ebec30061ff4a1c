//! Testing a release: it runs as a deployment of its own that nobody else sees, its checks are carried out from outside and
//! inside, and all of it goes again.
//!
//! ```text
//!  release ─► checks ─┬─► jobs: check × place                      job.rs, pure
//!                     └─► ports of this host, moved                job.rs, pure
//!  lock ─► mark in the state ─► plan, execute ─► readiness ─► jobs side by side ─► logs ─► outcome ─► away with it
//!            └── whoever finds the mark and a free lock knows: that test has died, and takes all of it away
//! ```

mod bench;
mod compile;
mod job;
mod outside;
mod say;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use plumb_model::check::{Checks, MachinePort};
use plumb_model::config::{ConfigName, Settings};
use plumb_model::outcome::{CheckResult, TestHost, TestOutcome, Verdict};
use plumb_model::release::{Release, ReleaseName};
use plumb_model::{CheckName, DeploymentName, Digest, Document as _, InstanceName};
use plumb_plan::PlanKind;
use plumb_plan::lease::Origin;
use plumb_target::{Target as _, TargetError, free_ports};
use plumb_trust::statement::{self, Predicate, Resource, TestResult};
use serde::Serialize;

use self::bench::Bench;
use crate::cancel::Cancel;
use crate::deploy::{Endpoint, Locked, Start, endpoints};
use crate::error::{OpsError, io};
use crate::progress::Progress;
use crate::project::Project;
use crate::trust::TrustError;
use crate::{Plumb, clock};

/// Tests of one application at once on one host. Each is a whole set of machines.
const MAX_TESTS: u32 = 50;

/// Other ports are tried so often: one that was free may be taken until it is opened.
const PORT_TRIES: usize = 5;

/// Largest list of checks that is read: 200 checks and 10,000 files, 150 bytes each, with room.
const CHECKS_LIMIT: u64 = 16 * 1024 * 1024;

/// What is to be tested, and how.
#[derive(Debug, Clone, Default)]
pub struct TestOptions {
    /// Only these checks; empty is all.
    pub only: Vec<CheckName>,
    /// Let the set run on afterwards.
    pub keep: bool,
    /// Values of settings that have no default. Secrets are random.
    pub set: Vec<(ConfigName, String)>,
    /// Where programs of `run` checks are looked for: `PATH`.
    pub path: Option<String>,
}

/// Whether a test became evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// It did, by a statement of this digest.
    Signed {
        /// Digest of its envelope.
        statement: Digest,
    },
    /// It did not.
    None {
        /// Why not.
        why: String,
    },
}

/// What came of a test.
#[derive(Debug, Clone, Serialize)]
pub struct Tested {
    /// Every check holds.
    pub passed: bool,
    /// The outcome as an object of the store.
    pub object: Digest,
    /// What was said about the release because of it.
    pub evidence: Evidence,
    /// The outcome.
    pub outcome: TestOutcome,
    /// The deployment, if it was to run on.
    pub kept: Option<DeploymentName>,
    /// Where its ports are, if it runs on.
    pub published: Vec<Endpoint>,
}

impl Tested {
    /// How many checks failed, and how many were not tried.
    #[must_use]
    pub fn troubles(&self) -> (usize, usize) {
        let count = |is: &dyn Fn(&Verdict) -> bool| {
            self.outcome.results.iter().filter(|result| is(&result.verdict)).count()
        };
        (
            count(&|verdict| matches!(verdict, Verdict::Failed { .. })),
            count(&|verdict| matches!(verdict, Verdict::Skipped { .. })),
        )
    }
}

/// A set that was started, or why it did not become ready.
struct Started {
    release: Release,
    failure: Option<OpsError>,
}

impl Plumb<'_> {
    /// The release that `start` means: of a folder it is made first, unless nothing has changed.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn released(&self, start: &Start, note: &str) -> Result<ReleaseName, OpsError> {
        match start {
            Start::Folder(folder) => Ok(self.make_release(&Project::load(folder)?, note, true)?.0.name()),
            Start::Release(name) => self.named(name),
        }
    }

    /// Runs the checks of a release against the very release, in a deployment of its own that goes afterwards. What an
    /// earlier test left that was killed goes first.
    ///
    /// # Errors
    /// [`OpsError`] if it could not be tested; a check that fails is in the value.
    pub fn test(
        &self,
        name: &ReleaseName,
        options: &TestOptions,
        cancel: &Cancel,
    ) -> Result<Tested, OpsError> {
        self.sweep_tests()?;
        let release = self.read_release(name)?;
        let checks = self.checks_of(&release)?;
        if let Some(check) = options.only.iter().find(|check| !checks.checks.contains_key(*check)) {
            let known = checks.checks.keys().cloned().collect();
            return Err(OpsError::NoCheck { release: name.clone(), check: check.clone(), known });
        }
        self.insist_signed(&release)?;
        self.check_images(&release)?;
        let mut locked = self.begin_test(&release, cancel)?;
        let room = self.room_to_keep(&locked, &release, options);
        let tested = room.and_then(|()| self.tested(&mut locked, &release, &checks, options));
        let is_kept = options.keep && tested.is_ok();
        let ended =
            if is_kept { self.keep_test(&mut locked, &release) } else { self.throw_away(&mut locked) };
        if let (Err(_), Err(error)) = (&tested, &ended) {
            // The first error is told; this one is mended by the next command that looks.
            let trouble = Some(error.to_string());
            self.report(Progress::TestRemoved { deployment: locked.name.clone(), trouble });
        }
        let mut tested = tested?;
        ended?;
        if is_kept {
            tested.kept = Some(locked.name.clone());
        } else {
            tested.published.clear();
        }
        Ok(tested)
    }

    /// The checks of a release; none if it was made before there were any.
    pub(crate) fn checks_of(&self, release: &Release) -> Result<Checks, OpsError> {
        let Some(digest) = release.checks else {
            return Ok(Checks { format: Checks::FORMAT, ..Checks::default() });
        };
        let bytes = self.store.read_bytes(&digest, CHECKS_LIMIT)?;
        let checks = Checks::from_bytes(&bytes)
            .map_err(|source| OpsError::Document { name: digest.to_string(), source })?;
        // A check of a machine that is not there would be carried out nowhere and never fail.
        for machine in job::machines(&checks) {
            if !release.content.machines.contains_key(machine) {
                let known = release.content.machines.keys().map(ToString::to_string).collect();
                let subject = release.name().to_string();
                return Err(OpsError::NoMachine { subject, machine: machine.clone(), known });
            }
        }
        Ok(checks)
    }

    /// A deployment that only this test knows, marked before anything of it is there.
    fn begin_test(&self, release: &Release, cancel: &Cancel) -> Result<Locked, OpsError> {
        let (qemu, accelerator) = self.engine()?;
        for number in 1..=MAX_TESTS {
            let name = job::deployment(&release.app, number).map_err(plumb_plan::PlanError::Name)?;
            let target = self.bare_target(&name).with_engine(qemu.clone(), accelerator.clone());
            let mut locked = match self.lock_deployment(&name, target) {
                Err(OpsError::Store(plumb_store::Error::Busy { .. })) => continue,
                locked => locked?,
            };
            if locked.state.add_test(&name, &release.app, clock::now_ms())? {
                locked.cancel = cancel.clone();
                return Ok(locked);
            }
        }
        Err(OpsError::TooManyTests { app: release.app.clone(), limit: MAX_TESTS })
    }

    /// From the start of the set to the outcome.
    fn tested(
        &self,
        locked: &mut Locked,
        release: &Release,
        checks: &Checks,
        options: &TestOptions,
    ) -> Result<Tested, OpsError> {
        let started_ms = clock::now_ms();
        let jobs = job::jobs(release, checks, &options.only).map_err(plumb_plan::PlanError::Name)?;
        let told = self.configure_test(locked, release, &options.set)?;
        let started = self.start_set(locked, (release, &told), &job::ports(checks))?;
        let mut results = self.readiness(locked, release, started.failure.as_ref())?;
        if started.failure.is_some() {
            let reason = "the set did not become ready";
            results.extend(jobs.iter().map(|job| job::skipped(job, reason, clock::now_ms())));
        } else {
            let work = self.work(&locked.name);
            let bench = Bench {
                plumb: self,
                target: &locked.target,
                cancel: &locked.cancel,
                checks,
                work: &work,
                environment: self.told(locked, &started.release, options)?,
            };
            let found = bench.run(&jobs);
            self.remove_work(&locked.name)?;
            results.extend(found?);
        }
        let ended_ms = clock::now_ms();
        let logs = self.logs_of(locked, release)?;
        let (qemu, accelerator) = self.engine()?;
        let outcome = TestOutcome {
            format: TestOutcome::FORMAT,
            release: release.name(),
            digest: release.digest(),
            only: options.only.clone(),
            host: TestHost {
                accelerator: accelerator.kind.to_string(),
                qemu: format!("{}.{}", qemu.version.0, qemu.version.1),
                plumb: env!("CARGO_PKG_VERSION").to_owned(),
            },
            started_ms,
            ended_ms,
            results,
            logs,
        };
        let (object, evidence) = self.record(release, &outcome)?;
        Ok(Tested {
            passed: outcome.is_passed(),
            object,
            evidence,
            outcome,
            kept: None,
            published: endpoints(&started.release),
        })
    }

    /// Keeps the outcome, and makes evidence of one that is complete.
    fn record(&self, release: &Release, outcome: &TestOutcome) -> Result<(Digest, Evidence), OpsError> {
        let object = self.store.put_bytes(&outcome.to_bytes())?;
        self.store.sync()?;
        if !outcome.is_complete() {
            return Ok((object, Evidence::None { why: "only some of the checks were asked for".to_owned() }));
        }
        let names = |is: bool| -> Vec<String> {
            let these = outcome.results.iter().filter(|result| (result.verdict == Verdict::Passed) == is);
            these.map(|result| format!("{} {}", result.check, result.place)).collect()
        };
        let result =
            if outcome.is_passed() { statement::Verdict::Passed } else { statement::Verdict::Failed };
        let ended_s = i64::try_from(outcome.ended_ms / 1000).unwrap_or(i64::MAX);
        let predicate = Predicate::Tests(TestResult {
            result,
            configuration: vec![Resource::new("outcome.json", &object)],
            passed_tests: names(true),
            failed_tests: names(false),
            finished_on: plumb_trust::time::text(ended_s),
        });
        match self.vouch(release, &predicate) {
            Ok(statement) => Ok((object, Evidence::Signed { statement })),
            // Who is not trusted may test as well; it counts for nobody else.
            Err(OpsError::Trust(error @ (TrustError::NotTrusted { .. } | TrustError::WhichKey { .. }))) => {
                Ok((object, Evidence::None { why: error.to_string() }))
            }
            Err(error) => Err(error),
        }
    }

    /// Starts the set with its ports moved to free ones of this host, and waits until it is ready.
    fn start_set(
        &self,
        locked: &mut Locked,
        (release, told): (&Release, &Settings),
        wanted: &BTreeSet<MachinePort>,
    ) -> Result<Started, OpsError> {
        let count = job::port_count(release, wanted);
        let mut tries = 0;
        loop {
            tries += 1;
            let free = free_ports(count).map_err(io("find free ports for", &self.home.run(&locked.name)))?;
            let moved = job::moved(release, wanted, &free);
            let plan = self.plan(locked, (&moved, told), PlanKind::Up)?;
            match self.execute(locked, &plan) {
                Ok(()) => return Ok(Started { release: moved, failure: None }),
                Err(OpsError::Target(TargetError::Publish { .. })) if tries < PORT_TRIES => {}
                Err(failure @ OpsError::NotReady { .. }) => {
                    return Ok(Started { release: moved, failure: Some(failure) });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Readiness of every instance as the first check of each.
    fn readiness(
        &self,
        locked: &Locked,
        release: &Release,
        failure: Option<&OpsError>,
    ) -> Result<Vec<CheckResult>, OpsError> {
        let seen = locked.target.observe()?;
        let now = clock::now_ms();
        let result = |(_, instance)| {
            let observed = seen.iter().find(|observed| observed.name == InstanceName::as_str(&instance));
            job::readiness(&instance, observed, failure, now)
        };
        Ok(plumb_plan::instances(release, plumb_plan::Side::Blue)?.into_iter().map(result).collect())
    }

    /// What programs of checks get to know.
    fn told(
        &self,
        locked: &Locked,
        moved: &Release,
        options: &TestOptions,
    ) -> Result<BTreeMap<String, String>, OpsError> {
        let mut environment = job::environment(moved);
        for (instance, port) in job::instance_ports(moved).map_err(plumb_plan::PlanError::Name)? {
            if let Some(address) = locked.target.forward(instance.as_str(), port)? {
                environment.insert(job::variable(instance.as_str(), port), address.to_string());
            }
        }
        environment.insert("LANG".to_owned(), "C.UTF-8".to_owned());
        environment.extend(options.path.clone().map(|path| ("PATH".to_owned(), path)));
        Ok(environment)
    }

    /// Where programs of checks work.
    fn work(&self, name: &DeploymentName) -> PathBuf {
        self.home.run(name).join("checks")
    }

    fn remove_work(&self, name: &DeploymentName) -> Result<(), OpsError> {
        let work = self.work(name);
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &work)(error)),
            _ => Ok(()),
        }
    }

    /// Refuses a test that is to be kept and is more than its owner may have, before anything of it is there.
    fn room_to_keep(
        &self,
        locked: &Locked,
        release: &Release,
        options: &TestOptions,
    ) -> Result<(), OpsError> {
        if !options.keep {
            return Ok(());
        }
        let wanted = self.wanted_lease(&locked.state, &locked.name, (release, Origin::Folder))?;
        self.insist_on_quota(&locked.state, &locked.name, &wanted)
    }

    /// From now on it is a deployment like any other: it has an owner, and ends as what was made from a folder does.
    fn keep_test(&self, locked: &mut Locked, release: &Release) -> Result<(), OpsError> {
        let mut wanted = self.wanted_lease(&locked.state, &locked.name, (release, Origin::Folder))?;
        wanted.lease.purpose = format!("a test of {} that was kept", release.name());
        if let Err(error) = self.reserve(locked, &wanted) {
            // Somebody took the room meanwhile: nothing stays that belongs to nobody.
            self.throw_away(locked)?;
            return Err(error);
        }
        Ok(locked.state.keep_test(&locked.name)?)
    }

    /// Away with the deployment of a test and with its data. The same again goes on where it stopped.
    fn throw_away(&self, locked: &mut Locked) -> Result<(), OpsError> {
        let name = locked.name.clone();
        // No time to shut down in order: nothing of it is needed any more.
        locked.target.teardown(Duration::ZERO)?;
        self.remove_work(&name)?;
        for volume in locked.target.volumes()? {
            locked.target.remove_volume(&volume.name)?;
        }
        self.remove_empty(&self.home.volumes(&name))?;
        self.remove_empty(&self.home.run(&name))?;
        Ok(locked.state.forget_deployment(&name)?)
    }

    /// Takes away what tests left that were killed.
    pub(crate) fn sweep_tests(&self) -> Result<(), OpsError> {
        for name in self.state()?.tests()? {
            let mut locked = match self.lock_deployment(&name, self.bare_target(&name)) {
                // Its test is alive.
                Err(OpsError::Store(plumb_store::Error::Busy { .. })) => continue,
                locked => locked?,
            };
            // It may have ended, or been kept, since we looked.
            if locked.state.tests()?.contains(&name) {
                // What cannot go now is told, and keeps nobody from his work; the next command tries again.
                let trouble = self.throw_away(&mut locked).err().map(|error| error.to_string());
                self.report(Progress::TestRemoved { deployment: name, trouble });
            }
        }
        Ok(())
    }
}
