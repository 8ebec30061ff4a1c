//! Leases: whatever people, clocks and `reap` do in whichever order, nothing goes that may not.

use plumb_plan::lease::{
    BACKWARDS_MS, ClockCheck, Counted, DAY_MS, Due, Excess, FORWARDS_MS, GRACE_MS, Lease, Life, Origin,
    Quota, Usage, check_clock, due,
};
use proptest::prelude::*;

const NOW: u64 = 1_000 * DAY_MS;

#[test]
fn defaults_stop_what_is_tried_and_delete_only_what_is_of_dev() {
    let first = |origin| {
        let lease = Lease::first("ann", origin, NOW);
        (lease.run_for_ms.map(|time| time / DAY_MS), lease.keep_for_ms.map(|time| time / DAY_MS))
    };
    assert_eq!(first(Origin::Folder), (Some(7), None));
    assert_eq!(first(Origin::Channel("dev")), (Some(7), Some(30)));
    assert_eq!(first(Origin::Channel("prod")), (None, None));
    assert_eq!(first(Origin::Release), (None, None));
}

#[test]
fn from_the_first_notice_to_the_end() {
    let mut lease = Lease::first("ann", Origin::Channel("dev"), NOW);
    let end = NOW + 7 * DAY_MS;
    assert_eq!(due(&lease, Life::Runs, NOW + 4 * DAY_MS), Due::Nothing);
    assert_eq!(due(&lease, Life::Runs, NOW + 5 * DAY_MS), Due::StopsSoon { at_ms: end });
    assert_eq!(due(&lease, Life::Runs, end), Due::Stop { since_ms: end });
    assert_eq!(due(&lease, Life::Stopped, end), Due::RecordStopped);
    lease.stopped_ms = Some(end);
    let keep = end + 30 * DAY_MS;
    assert_eq!(due(&lease, Life::Stopped, keep - 3 * DAY_MS), Due::Nothing);
    assert_eq!(due(&lease, Life::Stopped, keep - DAY_MS), Due::GoesSoon { at_ms: keep + GRACE_MS });
    assert_eq!(due(&lease, Life::Stopped, keep), Due::Notice { since_ms: keep });
    lease.noticed_ms = Some(keep + 5);
    assert_eq!(due(&lease, Life::Stopped, keep + 6), Due::GoesSoon { at_ms: keep + 5 + GRACE_MS });
    let gone = Due::Delete { since_ms: keep, noticed_ms: keep + 5 };
    assert_eq!(due(&lease, Life::Stopped, keep + 5 + GRACE_MS), gone);
    assert_eq!(due(&lease.renewed(keep + 6), Life::Stopped, keep + 5 + GRACE_MS), Due::Nothing);
}

#[test]
fn a_clock_is_believed_within_limits() {
    assert_eq!(check_clock(None, NOW), ClockCheck::Plausible);
    assert_eq!(check_clock(Some(NOW), NOW - BACKWARDS_MS), ClockCheck::Plausible);
    assert_eq!(
        check_clock(Some(NOW), NOW - BACKWARDS_MS - 1),
        ClockCheck::Backwards { by_ms: BACKWARDS_MS + 1 }
    );
    assert_eq!(check_clock(Some(NOW), NOW + FORWARDS_MS), ClockCheck::Plausible);
    assert_eq!(
        check_clock(Some(NOW), NOW + FORWARDS_MS + 1),
        ClockCheck::Forwards { by_ms: FORWARDS_MS + 1 }
    );
}

#[test]
fn an_excess_says_of_what_and_how_much() {
    let usage = |instances, memory_mib, disk_bytes| Usage { instances, memory_mib, disk_bytes };
    let quota = Quota { instances: Some(4), memory_mib: Some(1024), disk_bytes: None };
    let none = Usage::default();
    assert_eq!(quota.excess(usage(2, 512, 9), none, usage(2, 512, u64::MAX)), []);
    let over = quota.excess(usage(2, 512, 9), none, usage(3, 512, 9));
    assert_eq!(over, [Excess { what: Counted::Instances, limit: 4, would_be: 5 }]);
    assert_eq!(quota.excess(usage(9, 512, 0), usage(3, 0, 0), usage(3, 0, 0)), [], "it has them already");
    assert_eq!(Quota::default().excess(usage(u64::MAX, 1, 1), none, usage(u64::MAX, 1, 1)), []);
}

/// What happens.
#[derive(Debug, Clone)]
enum Step {
    Passes(u64),
    Reap,
    Up,
    Down,
    Renew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40 * DAY_MS).prop_map(Step::Passes),
        Just(Step::Reap),
        Just(Step::Reap),
        Just(Step::Up),
        Just(Step::Down),
        Just(Step::Renew),
    ]
}

fn time() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(prop_oneof![0..60 * DAY_MS, Just(u64::MAX)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// An independent account of what people did decides what may go.
    #[test]
    fn data_goes_only_after_its_time_its_notice_and_the_grace(
        (run, keep) in (time(), time()),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut now = NOW;
        let mut lease = Lease { run_for_ms: run, keep_for_ms: keep, ..Lease::first("ann", Origin::Release, now) };
        let mut life = Life::Runs;
        // When somebody last wanted it, when it stopped, and since when its end is on record.
        let (mut wanted, mut stopped, mut noticed) = (now, None, None);
        for step in steps {
            match step {
                Step::Passes(time) => now += time,
                Step::Renew => {
                    lease = lease.renewed(now);
                    (wanted, noticed) = (now, None);
                }
                Step::Up => {
                    lease = Lease { stopped_ms: None, ..lease.renewed(now) };
                    life = Life::Runs;
                    (wanted, stopped, noticed) = (now, None, None);
                }
                Step::Down => {
                    if life == Life::Runs {
                        stopped = Some(now);
                    }
                    life = Life::Stopped;
                }
                Step::Reap => match due(&lease, life, now) {
                    Due::Stop { since_ms } => {
                        prop_assert!(life == Life::Runs && since_ms <= now);
                        prop_assert!(now - wanted >= run.expect("a lease that ends"));
                        life = Life::Stopped;
                        stopped = Some(now);
                        lease.stopped_ms = Some(now);
                    }
                    Due::RecordStopped => lease.stopped_ms = Some(now),
                    Due::Notice { .. } => {
                        lease.noticed_ms = Some(now);
                        noticed = Some(now);
                    }
                    Due::Delete { .. } => {
                        prop_assert_eq!(life, Life::Stopped);
                        let keep = keep.expect("never deleted without an end");
                        prop_assert!(now - stopped.expect("it stopped") >= keep);
                        prop_assert!(now - noticed.expect("it was told") >= GRACE_MS);
                        prop_assert!(noticed.expect("told") >= wanted, "told after it was last wanted");
                        break;
                    }
                    Due::Nothing | Due::StopsSoon { .. } | Due::GoesSoon { .. } => {}
                },
            }
        }
    }

    /// A clock that is set ahead, however far, deletes nothing by one run of `reap`.
    #[test]
    fn no_jump_of_the_clock_deletes_at_once(jump in 0..u64::MAX / 2, keep in time()) {
        let lease = Lease { keep_for_ms: keep, stopped_ms: Some(NOW), ..Lease::first("ann", Origin::Release, NOW) };
        prop_assert!(!matches!(due(&lease, Life::Stopped, NOW + jump), Due::Delete { .. }), "not before a notice");
        let refused = check_clock(Some(NOW), NOW + jump) != ClockCheck::Plausible;
        prop_assert!(refused || jump <= FORWARDS_MS);
    }

    /// What is said to come comes at exactly that time.
    #[test]
    fn what_is_announced_comes_when_it_was_said(run in 0..60 * DAY_MS, ahead in 0..60 * DAY_MS) {
        let lease = Lease { run_for_ms: Some(run), ..Lease::first("ann", Origin::Release, NOW) };
        if let Due::StopsSoon { at_ms } = due(&lease, Life::Runs, NOW + ahead) {
            prop_assert_eq!(due(&lease, Life::Runs, at_ms), Due::Stop { since_ms: at_ms });
            let before = due(&lease, Life::Runs, at_ms - 1);
            prop_assert!(!matches!(before, Due::Stop { .. }), "not earlier");
        }
    }
}
