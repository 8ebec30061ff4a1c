//! Keeping a deployment alive: what of it is not as it should be, what is to be done about that now, and what later.

use std::collections::BTreeMap;

use plumb_model::release::{Repair, Watch};
use plumb_model::{DeploymentName, Digest, InstanceName};
use serde::{Deserialize, Serialize};

use crate::boot::boot_spec;
use crate::planner::{PlanError, Wanted};
use crate::side::instances;

/// Pause before the second repair in a row, milliseconds; each further one is twice as long.
const FIRST_PAUSE_MS: u64 = 10_000;

/// Longest pause between two repairs, milliseconds: whoever mends the cause does not wait long for the effect.
const LONGEST_PAUSE_MS: u64 = 300_000;

/// Repairs further apart than this, milliseconds, are not in a row: what ran so long was well.
const CALM_MS: u64 = 600_000;

/// How one instance should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// [`crate::BootSpec::boot`].
    pub boot: Digest,
    /// Longest time from start to ready, milliseconds.
    pub ready_timeout_ms: u64,
    /// What is done if it is not well.
    pub watch: Watch,
}

/// How all instances of the wanted release should be.
///
/// # Errors
/// Those of [`boot_spec`].
pub fn expected(
    deployment: &DeploymentName,
    wanted: &Wanted<'_>,
) -> Result<BTreeMap<InstanceName, Expected>, PlanError> {
    let mut all = BTreeMap::new();
    for (machine, instance) in instances(wanted.release, wanted.side)? {
        let (boot, _) = boot_spec(deployment, (&machine, &instance), wanted, 0)?;
        let of = &wanted.release.content.machines[&machine];
        let one = Expected { boot: boot.boot, ready_timeout_ms: of.ready_timeout_ms, watch: of.watch };
        all.insert(instance, one);
    }
    Ok(all)
}

/// Whether the virtual machine of an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Runs,
    /// It has ended, since the host booted.
    Ended,
    /// It ended with the host.
    Stale,
}

/// How one instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Whether it runs.
    pub life: Life,
    /// [`crate::BootSpec::boot`] of what was started; `None` if that does not read.
    pub boot: Option<Digest>,
    /// It has been ready since it was started.
    pub was_ready: bool,
    /// Since when it runs and is not ready, milliseconds since 1970; `None` if it is ready.
    pub unready_since_ms: Option<u64>,
}

/// How an instance differs from what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deviation {
    /// Nothing of it is there.
    Missing,
    /// Its virtual machine has ended, and nobody asked for that.
    Ended,
    /// The host was started anew.
    HostRestarted,
    /// It was started in another way than the release says.
    Changed,
    /// It runs and is not ready.
    Unready,
    /// The release does not have it.
    Unwanted,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is started, or replaced, now.
    Repair,
    /// Not before this time, milliseconds since 1970.
    NotBefore(u64),
    /// Its owner is told, and nothing is done.
    Report,
    /// It was started again so often in a row that a person has to look. Whoever keeps it alive remembers that: time alone does not
    /// change it.
    GivenUp,
}

/// One instance that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Instance.
    pub instance: InstanceName,
    /// How it differs.
    pub deviation: Deviation,
    /// What is to be done.
    pub verdict: Verdict,
}

/// Everything that is not as it should be, by instance. `repairs` are the times of earlier repairs of each, ascending.
#[must_use]
pub fn judge(
    expected: &BTreeMap<InstanceName, Expected>,
    seen: &BTreeMap<InstanceName, Health>,
    repairs: &BTreeMap<InstanceName, Vec<u64>>,
    now_ms: u64,
) -> Vec<Case> {
    let mut cases = Vec::new();
    for (instance, wanted) in expected {
        let health = seen.get(instance);
        let Some(deviation) = deviation(wanted, health) else { continue };
        let earlier = repairs.get(instance).map_or(&[][..], Vec::as_slice);
        let mut at_ms = not_before(earlier, now_ms);
        let mut has_its_time = false;
        if let (Deviation::Unready, Some(health)) = (deviation, health) {
            let patience_ms =
                if health.was_ready { wanted.watch.unready_ms } else { wanted.ready_timeout_ms };
            let since_ms = health.unready_since_ms.unwrap_or(now_ms).min(now_ms);
            let until_ms = since_ms.saturating_add(patience_ms);
            has_its_time = until_ms > now_ms;
            at_ms = at_ms.max(until_ms);
        }
        // A start that ended with the host says nothing about the instance.
        let counts = deviation != Deviation::HostRestarted && !has_its_time;
        let verdict = match wanted.watch.repair {
            Repair::Report => Verdict::Report,
            Repair::Restart if counts && in_a_row(wanted, earlier, now_ms) >= wanted.watch.tries => {
                Verdict::GivenUp
            }
            Repair::Restart if at_ms > now_ms => Verdict::NotBefore(at_ms),
            Repair::Restart => Verdict::Repair,
        };
        cases.push(Case { instance: instance.clone(), deviation, verdict });
    }
    // Nothing starts what no release has: somebody has to look at that.
    let unwanted = seen.keys().filter(|instance| !expected.contains_key(*instance));
    cases.extend(unwanted.map(|instance| Case {
        instance: instance.clone(),
        deviation: Deviation::Unwanted,
        verdict: Verdict::Report,
    }));
    cases
}

fn deviation(wanted: &Expected, health: Option<&Health>) -> Option<Deviation> {
    let Some(health) = health else { return Some(Deviation::Missing) };
    match health.life {
        Life::Ended => Some(Deviation::Ended),
        Life::Stale => Some(Deviation::HostRestarted),
        Life::Runs if health.boot != Some(wanted.boot) => Some(Deviation::Changed),
        Life::Runs => health.unready_since_ms.map(|_| Deviation::Unready),
    }
}

/// How many of `earlier` repairs came one after the other without a time in which all was well. One that never got ready took the
/// time that it has for that, and was not well in it.
fn in_a_row(wanted: &Expected, earlier: &[u64], now_ms: u64) -> u32 {
    row(earlier, now_ms, CALM_MS.saturating_add(wanted.ready_timeout_ms.max(wanted.watch.unready_ms)))
}

/// The number of `earlier` repairs with no more than `calm_ms` between one and the next, or now.
fn row(earlier: &[u64], now_ms: u64, calm_ms: u64) -> u32 {
    let mut later_ms = now_ms;
    let mut row = 0_u32;
    for at_ms in earlier.iter().rev() {
        // A clock that was put back makes nobody wait for what it said.
        let at_ms = (*at_ms).min(later_ms);
        if later_ms - at_ms > calm_ms {
            break;
        }
        (row, later_ms) = (row + 1, at_ms);
    }
    row
}

/// When the next repair may be, after `earlier` ones: at once if it was well for long, else after a pause that doubles.
fn not_before(earlier: &[u64], now_ms: u64) -> u64 {
    let row = row(earlier, now_ms, CALM_MS);
    let (Some(last_ms), Some(doublings)) = (earlier.last(), row.checked_sub(1)) else { return now_ms };
    let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
    let pause_ms = FIRST_PAUSE_MS.saturating_mul(factor).min(LONGEST_PAUSE_MS);
    (*last_ms).min(now_ms).saturating_add(pause_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn expected(repair: Repair) -> BTreeMap<InstanceName, Expected> {
        let watch = Watch { repair, unready_ms: 60_000, tries: 3 };
        let one = Expected { boot: Digest::of(b"wanted"), ready_timeout_ms: 5_000, watch };
        [("web-1".parse().expect("a name"), one)].into()
    }

    fn health(life: Life, boot: &str, unready_since_ms: Option<u64>) -> Health {
        Health { life, boot: Some(Digest::of(boot.as_bytes())), was_ready: true, unready_since_ms }
    }

    fn judged(repair: Repair, health: Option<Health>, repairs: &[u64]) -> Option<(Deviation, Verdict)> {
        let name: InstanceName = "web-1".parse().expect("a name");
        let seen = health.into_iter().map(|health| (name.clone(), health)).collect();
        let repairs = [(name, repairs.to_vec())].into();
        let cases = judge(&expected(repair), &seen, &repairs, NOW);
        assert!(cases.len() <= 1);
        cases.first().map(|case| (case.deviation, case.verdict))
    }

    #[test]
    fn what_is_well_is_left_alone() {
        assert_eq!(judged(Repair::Restart, Some(health(Life::Runs, "wanted", None)), &[NOW - 1]), None);
    }

    #[test]
    fn what_is_not_well_is_repaired_or_told() {
        let cases = [
            (None, Deviation::Missing),
            (Some(health(Life::Ended, "wanted", None)), Deviation::Ended),
            (Some(health(Life::Stale, "wanted", None)), Deviation::HostRestarted),
            (Some(health(Life::Runs, "other", None)), Deviation::Changed),
            (Some(health(Life::Runs, "wanted", Some(NOW - 60_000))), Deviation::Unready),
        ];
        for (health, deviation) in cases {
            let restart = judged(Repair::Restart, health.clone(), &[]);
            assert_eq!(restart, Some((deviation, Verdict::Repair)), "{health:?}");
            assert_eq!(judged(Repair::Report, health, &[]), Some((deviation, Verdict::Report)));
        }
    }

    #[test]
    fn who_was_ready_gets_time_to_be_so_again_and_who_starts_has_its_own() {
        let waits = judged(Repair::Restart, Some(health(Life::Runs, "wanted", Some(NOW - 59_999))), &[]);
        assert_eq!(waits, Some((Deviation::Unready, Verdict::NotBefore(NOW + 1))));
        let starts = Health { was_ready: false, ..health(Life::Runs, "wanted", Some(NOW - 5_000)) };
        assert_eq!(judged(Repair::Restart, Some(starts), &[]), Some((Deviation::Unready, Verdict::Repair)));
        let future = judged(Repair::Restart, Some(health(Life::Runs, "wanted", Some(NOW + 99_999))), &[]);
        assert_eq!(future, Some((Deviation::Unready, Verdict::NotBefore(NOW + 60_000))), "a clock put back");
    }

    #[test]
    fn pauses_double_up_to_a_limit_and_are_forgotten_when_it_was_calm() {
        let after = |repairs: &[u64]| not_before(repairs, NOW).saturating_sub(NOW);
        assert_eq!(after(&[]), 0);
        assert_eq!(after(&[NOW]), 10_000);
        assert_eq!(after(&[NOW - 10_000, NOW]), 20_000);
        assert_eq!(after(&[NOW - 30_000, NOW - 20_000, NOW]), 40_000);
        assert_eq!(after(&vec![NOW; 80]), 300_000, "no number of them is too large");
        assert_eq!(after(&[NOW - 900_000, NOW]), 10_000, "the first was long before");
        assert_eq!(after(&[NOW - 600_001]), 0, "it was calm since");
        assert_eq!(after(&[NOW + 5_000_000]), 10_000, "a clock put back");
    }

    #[test]
    fn after_so_many_in_a_row_it_is_given_up() {
        let ended = |repairs: &[u64]| {
            judged(Repair::Restart, Some(health(Life::Ended, "wanted", None)), repairs).expect("a case").1
        };
        let row = [NOW - 900_000, NOW - 500_000, NOW - 400_000];
        assert_eq!(ended(&row), Verdict::GivenUp);
        assert_eq!(ended(&row[1..]), Verdict::Repair, "two of three");
        assert_eq!(ended(&[NOW - 2_000_000, row[1], row[2]]), Verdict::Repair, "it was well before");
        // The last start has its time, and a host that was started again begins anew.
        let starts = Health { was_ready: false, ..health(Life::Runs, "wanted", Some(NOW - 4_999)) };
        let judged = |health| judged(Repair::Restart, Some(health), &row).expect("a case").1;
        assert_eq!(judged(starts.clone()), Verdict::NotBefore(NOW + 1));
        assert_eq!(judged(Health { unready_since_ms: Some(NOW - 5_000), ..starts }), Verdict::GivenUp);
        assert_eq!(judged(health(Life::Stale, "wanted", None)), Verdict::Repair);
    }

    #[test]
    fn what_no_release_has_is_told() {
        let name: InstanceName = "old-1".parse().expect("a name");
        let seen = [(name.clone(), health(Life::Runs, "x", None))].into();
        let cases = judge(&BTreeMap::new(), &seen, &BTreeMap::new(), NOW);
        let case = Case { instance: name, deviation: Deviation::Unwanted, verdict: Verdict::Report };
        assert_eq!(cases, [case]);
    }
}
