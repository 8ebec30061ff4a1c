//! Leases and quotas: what is due for a deployment, and what an owner may have. Times are milliseconds since 1970.
//!
//! A deployment has two ends. When its run lease ends it is stopped, as `down` does. From when it stopped its volumes are
//! kept for the time of the storage lease, then a notice is recorded, and only a grace period after that they go.
//!
//! ```text
//!   up ───── run_for ─────► stop ───── keep_for ─────► notice ── GRACE ──► volumes go
//!    ▲ `up`, `upgrade`, `lease renew`: from the beginning
//! ```

use plumb_model::definition::{LeaseTerms, LeaseTime};

/// Day, in milliseconds.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How long volumes stay at least after a notice was recorded: somebody is back from a week away. Longer than a clock may
/// jump unseen ([`FORWARDS_MS`]), so that no jump uses up all of it.
pub const GRACE_MS: u64 = 7 * DAY_MS;

/// How long before the end of a run lease people are told: whoever looks once a day sees it.
pub const NOTICE_MS: u64 = 2 * DAY_MS;

/// How far the clock may be behind what was seen last: servers of time and zones set by hand.
pub const BACKWARDS_MS: u64 = 60 * 60 * 1000;

/// How far the clock may be ahead of what was seen last before somebody has to say that it is right. Shorter than every
/// default, so that a wrong clock ends nothing by itself.
pub const FORWARDS_MS: u64 = 5 * DAY_MS;

/// Owner, purpose and ends of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Whose it is.
    pub owner: String,
    /// What it is for.
    pub purpose: String,
    /// How long it runs after it was last brought up or renewed; without, for ever.
    pub run_for_ms: Option<u64>,
    /// When it was last brought up or renewed.
    pub renewed_ms: u64,
    /// How long its volumes are kept after it stopped; without, for ever.
    pub keep_for_ms: Option<u64>,
    /// Since when it is known to be stopped.
    pub stopped_ms: Option<u64>,
    /// When it was recorded that its volumes are about to go.
    pub noticed_ms: Option<u64>,
}

/// Where a deployment comes from: what its first lease follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A folder: somebody tries something.
    Folder,
    /// A channel, by name.
    Channel(&'a str),
    /// A release by its number.
    Release,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// It will be stopped at this time; people are told.
    StopsSoon {
        /// When.
        at_ms: u64,
    },
    /// Its run lease has ended.
    Stop {
        /// When it ended.
        since_ms: u64,
    },
    /// It is stopped and nobody has recorded that yet; from then on its storage lease counts.
    RecordStopped,
    /// Its storage lease has ended, and that has to be recorded before anything goes.
    Notice {
        /// When it ended.
        since_ms: u64,
    },
    /// Its volumes will go at this time; people are told.
    GoesSoon {
        /// When.
        at_ms: u64,
    },
    /// Its volumes may go.
    Delete {
        /// When its storage lease ended.
        since_ms: u64,
        /// When that was recorded.
        noticed_ms: u64,
    },
}

/// What the clock is, beside what it was when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockCheck {
    /// It may be right.
    Plausible,
    /// It is behind.
    Backwards {
        /// By so much.
        by_ms: u64,
    },
    /// It is far ahead: it was set, or nobody looked for long.
    Forwards {
        /// By so much.
        by_ms: u64,
    },
}

impl Lease {
    /// The lease of a new deployment. A folder is stopped after a week and keeps its data; what comes from channel `dev` also
    /// loses it, a month later; everything else runs until somebody says otherwise.
    #[must_use]
    pub fn first(owner: &str, origin: Origin<'_>, now_ms: u64) -> Self {
        let (purpose, run_for_ms, keep_for_ms) = match origin {
            Origin::Folder => ("made from a folder".to_owned(), Some(7 * DAY_MS), None),
            Origin::Channel("dev") => ("channel dev".to_owned(), Some(7 * DAY_MS), Some(30 * DAY_MS)),
            Origin::Channel(name) => (format!("channel {name}"), None, None),
            Origin::Release => (String::new(), None, None),
        };
        let owner = owner.to_owned();
        Lease {
            owner,
            purpose,
            run_for_ms,
            renewed_ms: now_ms,
            keep_for_ms,
            stopped_ms: None,
            noticed_ms: None,
        }
    }

    /// The same with what a definition says.
    #[must_use]
    pub fn with(self, terms: &LeaseTerms) -> Self {
        let time = |said: Option<LeaseTime>, before| match said {
            None => before,
            Some(LeaseTime::ForEver) => None,
            Some(LeaseTime::Ms(time_ms)) => Some(time_ms),
        };
        Lease {
            run_for_ms: time(terms.run, self.run_for_ms),
            keep_for_ms: time(terms.keep, self.keep_for_ms),
            purpose: terms.purpose.clone().unwrap_or(self.purpose),
            ..self
        }
    }

    /// The same from the beginning.
    #[must_use]
    pub fn renewed(self, now_ms: u64) -> Self {
        Lease { renewed_ms: now_ms, stopped_ms: self.stopped_ms.map(|_| now_ms), noticed_ms: None, ..self }
    }

    /// When it is stopped.
    #[must_use]
    pub fn run_end_ms(&self) -> Option<u64> {
        self.run_for_ms.map(|time| self.renewed_ms.saturating_add(time))
    }

    /// When its volumes may be spoken of as going.
    #[must_use]
    pub fn keep_end_ms(&self) -> Option<u64> {
        Some(self.stopped_ms?.saturating_add(self.keep_for_ms?))
    }
}

/// What is due for a deployment that runs, or does not.
#[must_use]
pub fn due(lease: &Lease, life: Life, now_ms: u64) -> Due {
    match life {
        Life::Runs => match lease.run_end_ms() {
            Some(since_ms) if since_ms <= now_ms => Due::Stop { since_ms },
            Some(at_ms) if at_ms.saturating_sub(now_ms) <= NOTICE_MS => Due::StopsSoon { at_ms },
            _ => Due::Nothing,
        },
        Life::Stopped => match (lease.stopped_ms, lease.keep_end_ms(), lease.noticed_ms) {
            (None, ..) => Due::RecordStopped,
            (_, Some(since_ms), Some(noticed_ms)) if since_ms <= now_ms => {
                let at_ms = noticed_ms.saturating_add(GRACE_MS);
                if at_ms <= now_ms { Due::Delete { since_ms, noticed_ms } } else { Due::GoesSoon { at_ms } }
            }
            (_, Some(since_ms), _) if since_ms <= now_ms => Due::Notice { since_ms },
            (_, Some(at_ms), _) if at_ms.saturating_sub(now_ms) <= NOTICE_MS => {
                Due::GoesSoon { at_ms: at_ms.saturating_add(GRACE_MS) }
            }
            _ => Due::Nothing,
        },
    }
}

/// Whether a deployment runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It has a current release, or instances.
    Runs,
    /// It has neither.
    Stopped,
}

/// Whether the clock can be believed.
#[must_use]
pub fn check_clock(seen_ms: Option<u64>, now_ms: u64) -> ClockCheck {
    let Some(seen_ms) = seen_ms else { return ClockCheck::Plausible };
    if seen_ms.saturating_sub(now_ms) > BACKWARDS_MS {
        ClockCheck::Backwards { by_ms: seen_ms - now_ms }
    } else if now_ms.saturating_sub(seen_ms) > FORWARDS_MS {
        ClockCheck::Forwards { by_ms: now_ms - seen_ms }
    } else {
        ClockCheck::Plausible
    }
}

/// What deployments take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Instances.
    pub instances: u64,
    /// Memory of all of them, MiB.
    pub memory_mib: u64,
    /// Volumes of all of them, bytes.
    pub disk_bytes: u64,
}

/// What an owner may have; without a number, as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Instances.
    pub instances: Option<u64>,
    /// Memory, MiB.
    pub memory_mib: Option<u64>,
    /// Volumes, bytes.
    pub disk_bytes: Option<u64>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counted {
    /// Instances.
    Instances,
    /// MiB of memory.
    MemoryMib,
    /// Bytes of volumes.
    DiskBytes,
}

/// One thing of which an owner would have too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Excess {
    /// Of what.
    pub what: Counted,
    /// What he may have.
    pub limit: u64,
    /// What he would have.
    pub would_be: u64,
}

impl std::fmt::Display for Excess {
    /// `5 instances of 4 (1 too many)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Excess { what, limit, would_be } = self;
        let by = would_be.saturating_sub(*limit);
        match what {
            Counted::Instances => write!(f, "{would_be} instances of {limit} ({by} too many)"),
            Counted::MemoryMib => write!(f, "{would_be} MiB of memory of {limit} ({by} too much)"),
            Counted::DiskBytes => {
                let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                write!(f, "{} MiB of volumes of {} ({} too much)", mib(*would_be), limit >> 20, mib(by))
            }
        }
    }
}

impl std::ops::Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Usage {
            instances: self.instances.saturating_add(other.instances),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
        }
    }
}

impl Quota {
    /// What would be too much if an owner took `wanted` beside `others`. What is not more than `before`, which it had
    /// already, is no reason to refuse: a quota that was lowered keeps nobody from an upgrade.
    #[must_use]
    pub fn excess(&self, others: Usage, before: Usage, wanted: Usage) -> Vec<Excess> {
        let all = others + wanted;
        let rows = [
            (Counted::Instances, self.instances, all.instances, before.instances < wanted.instances),
            (Counted::MemoryMib, self.memory_mib, all.memory_mib, before.memory_mib < wanted.memory_mib),
            (Counted::DiskBytes, self.disk_bytes, all.disk_bytes, before.disk_bytes < wanted.disk_bytes),
        ];
        rows.into_iter()
            .filter_map(|(what, limit, would_be, grows)| {
                let limit = limit.filter(|limit| grows && would_be > *limit)?;
                Some(Excess { what, limit, would_be })
            })
            .collect()
    }
}
