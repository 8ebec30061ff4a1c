//! Channels: named pointers from a stage to a release, moved by signed promotions.
//!
//! ```text
//!  channels/shop/prod/1   ◄── 2   ◄── 3        each names the digest of the one before
//!                shop@4       shop@6  shop@4   the last one is where the channel points to
//! ```

use plumb_model::definition::ChannelPolicy;
use plumb_model::release::{Release, ReleaseName, ReleaseRef};
use plumb_model::{AppName, ChannelName, Digest, Document as _};
use plumb_trust::Statement;
use plumb_trust::policy::{self, Facts, Standing};
use plumb_trust::statement::{self, Predicate, Promotion};
use serde::Serialize;

use crate::error::OpsError;
use crate::trust::{Said, Trust, TrustError};
use crate::{Plumb, clock};

/// Where a channel points to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChannelView {
    /// Application.
    pub app: AppName,
    /// Channel.
    pub channel: ChannelName,
    /// Its newest promotion.
    #[serde(flatten)]
    pub promotion: PromotionView,
    /// Somebody who is trusted now signed it.
    pub trusted: bool,
}

/// One promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromotionView {
    /// Its number in the channel.
    pub sequence: u64,
    /// The release.
    pub release: ReleaseName,
    /// What the channel held before.
    pub replaces: Option<ReleaseName>,
    /// Who.
    pub by: Vec<String>,
    /// When, RFC 3339.
    pub at: String,
    /// Why.
    pub reason: String,
    /// The statements that met the policy.
    pub evidence: Vec<Digest>,
}

/// What promoting did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromoteOutcome {
    /// Channel.
    pub channel: ChannelName,
    /// The release it points to.
    pub release: ReleaseName,
    /// What it pointed to before.
    pub replaces: Option<ReleaseName>,
    /// It moved, or would move.
    pub changed: bool,
    /// How the release stands with what the channel asks for.
    pub policy: Vec<Standing>,
}

/// What a promotion is to do.
#[derive(Debug, Clone)]
pub struct Promote<'a> {
    /// Channel.
    pub channel: &'a ChannelName,
    /// Why.
    pub reason: &'a str,
    /// Only say what would be.
    pub dry_run: bool,
}

impl Plumb<'_> {
    /// The promotions of a channel, oldest first, each verified and following the one before.
    pub(crate) fn history(
        &self,
        app: &AppName,
        channel: &ChannelName,
        trust: &Trust,
    ) -> Result<Vec<Statement>, OpsError> {
        let mut history: Vec<Statement> = Vec::new();
        for sequence in self.store.promotions(app, channel)? {
            let broken = || TrustError::History { app: app.clone(), channel: channel.clone(), sequence };
            let bytes = self.store.promotion(app, channel, sequence)?.ok_or_else(broken)?;
            let next = next_promotion(&history, &bytes, (app, channel), trust)?;
            if sequence != history.len() as u64 + 1 {
                return Err(broken().into());
            }
            history.push(next);
        }
        Ok(history)
    }

    /// The channels of an application, or of all.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn channels(&self, app: Option<&AppName>) -> Result<Vec<ChannelView>, OpsError> {
        let apps = match app {
            Some(app) => vec![app.clone()],
            None => self.store.apps()?,
        };
        let mut views = Vec::new();
        for app in apps {
            let channels = self.store.channels(&app)?;
            if channels.is_empty() {
                continue;
            }
            let trust = self.trust(&app)?;
            for channel in channels {
                let history = self.history(&app, &channel, &trust)?;
                if let Some(view) = history.last().and_then(|newest| promotion_view(newest, &trust)) {
                    let trusted = is_trusted(history.last(), &trust);
                    views.push(ChannelView { app: app.clone(), channel, promotion: view, trusted });
                }
            }
        }
        Ok(views)
    }

    /// Everything that a channel pointed to, newest first.
    ///
    /// # Errors
    /// [`TrustError::NoChannel`] and others.
    pub fn channel_history(
        &self,
        app: &AppName,
        channel: &ChannelName,
    ) -> Result<Vec<PromotionView>, OpsError> {
        let history = match self.trust_if_any(app)? {
            Some(trust) => {
                let history = self.history(app, channel, &trust)?;
                history.iter().rev().filter_map(|step| promotion_view(step, &trust)).collect()
            }
            None => Vec::new(),
        };
        if history.is_empty() { Err(self.no_channel(app, channel)?) } else { Ok(history) }
    }

    /// Drops what was promoted here to a channel. What a remote has of it comes back with the next pull.
    ///
    /// # Errors
    /// [`TrustError::NoChannel`] and others.
    pub fn forget_channel(&self, app: &AppName, channel: &ChannelName) -> Result<(), OpsError> {
        if self.store.promotions(app, channel)?.is_empty() {
            return Err(self.no_channel(app, channel)?);
        }
        Ok(self.store.forget_channel(app, channel)?)
    }

    fn no_channel(&self, app: &AppName, channel: &ChannelName) -> Result<OpsError, OpsError> {
        let known = self.store.channels(app)?;
        Ok(TrustError::NoChannel { app: app.clone(), channel: channel.clone(), known }.into())
    }

    /// The release that is meant. A channel must have been moved there by somebody who is trusted now.
    ///
    /// # Errors
    /// [`TrustError::NoChannel`], [`TrustError::Promotion`] and others.
    pub fn named(&self, wanted: &ReleaseRef) -> Result<ReleaseName, OpsError> {
        let (app, channel) = match wanted {
            ReleaseRef::Release(name) => return Ok(name.clone()),
            ReleaseRef::Channel { app, channel } => (app, channel),
        };
        let Some(trust) = self.trust_if_any(app)? else { return Err(self.no_channel(app, channel)?) };
        let history = self.history(app, channel, &trust)?;
        let Some(newest) = history.last() else { return Err(self.no_channel(app, channel)?) };
        let sequence = history.len() as u64;
        // With the keys of today, and about the release as it is here.
        let bytes = self.store.promotion(app, channel, sequence)?.unwrap_or_default();
        let name = release_of(newest).ok_or_else(|| TrustError::History {
            app: app.clone(),
            channel: channel.clone(),
            sequence,
        })?;
        let release = self.read_release(&name)?;
        let about = statement::Subject::new(name.to_string(), &release.digest());
        statement::verify(&bytes, &about, &trust.root().signers()).map_err(|source| {
            TrustError::Promotion { app: app.clone(), channel: channel.clone(), sequence, source }
        })?;
        Ok(name)
    }

    /// Points a channel to a release that has what the channel asks for. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`TrustError::Policy`] and others.
    pub fn promote(&self, name: &ReleaseName, wanted: &Promote<'_>) -> Result<PromoteOutcome, OpsError> {
        let release = self.read_release(name)?;
        let trust = self.trust(&name.app)?;
        let said = self.signed(&release, &trust)?;
        let history = self.history(&name.app, wanted.channel, &trust)?;
        let standing = self.standing((&release, &said), wanted.channel, &history)?;
        let outcome = outcome(name, wanted.channel, &history, standing, &trust);
        if wanted.dry_run || !outcome.changed {
            return Ok(outcome);
        }
        let missing = outcome.policy.iter().filter_map(|s| Some((s.requirement.clone(), s.missing.clone()?)));
        let missing: Vec<(String, String)> = missing.collect();
        if !missing.is_empty() {
            let channel = wanted.channel.clone();
            return Err(TrustError::Policy { release: name.clone(), channel, missing }.into());
        }
        self.move_channel(&release, wanted, (&history, &outcome), &trust)?;
        Ok(outcome)
    }

    /// Points a channel back to the release that it held before, or to `to`, which it must have held. Evidence is not
    /// asked for again: going back must be possible when it is needed.
    ///
    /// # Errors
    /// [`TrustError::NothingBefore`] and others.
    pub fn demote(
        &self,
        app: &AppName,
        to: Option<&ReleaseName>,
        wanted: &Promote<'_>,
    ) -> Result<PromoteOutcome, OpsError> {
        let trust = self.trust(app)?;
        let history = self.history(app, wanted.channel, &trust)?;
        let Some(now) = history.last().and_then(release_of) else {
            return Err(self.no_channel(app, wanted.channel)?);
        };
        let mut held = history.iter().rev().filter_map(release_of).filter(|release| *release != now);
        let found = match to {
            Some(to) => held.find(|release| release == to),
            // Back from where it came: going back twice goes further, it does not swing.
            None => held.find(|release| release.number < now.number),
        };
        let nothing = || TrustError::NothingBefore { app: app.clone(), channel: wanted.channel.clone() };
        let name = found.ok_or_else(nothing)?;
        let release = self.read_release(&name)?;
        self.signed(&release, &trust)?;
        let outcome = outcome(&name, wanted.channel, &history, Vec::new(), &trust);
        if !wanted.dry_run {
            self.move_channel(&release, wanted, (&history, &outcome), &trust)?;
        }
        Ok(outcome)
    }

    fn move_channel(
        &self,
        release: &Release,
        wanted: &Promote<'_>,
        (history, outcome): (&[Statement], &PromoteOutcome),
        trust: &Trust,
    ) -> Result<(), OpsError> {
        let sequence = history.len() as u64 + 1;
        let promotion = Promotion {
            channel: wanted.channel.clone(),
            sequence,
            previous: history.last().map(|before| before.digest),
            replaces: outcome.replaces.clone(),
            reason: wanted.reason.to_owned(),
            evidence: outcome.policy.iter().flat_map(|standing| standing.evidence.clone()).collect(),
            promoted_on: plumb_trust::time::text(clock::now_s()),
        };
        let bytes = self.envelope(release, &Predicate::Promotion(promotion), trust)?;
        Ok(self.store.add_promotion(&release.app, wanted.channel, sequence, &bytes)?)
    }

    /// How a release stands with what a channel asks for: by the definition of the release that the channel holds, and by
    /// its own. Who loosens a policy cannot use that in the same step.
    pub(crate) fn standing(
        &self,
        (release, said): (&Release, &Said),
        channel: &ChannelName,
        history: &[Statement],
    ) -> Result<Vec<Standing>, OpsError> {
        let facts = Facts { statements: &said.statements, names: &said.names, now_s: clock::now_s() };
        let held = history.last().and_then(release_of);
        let mut policies: Vec<ChannelPolicy> = Vec::new();
        let held = match held.filter(|held| *held != release.name()) {
            Some(held) => Some(self.read_release(&held)?),
            None => None,
        };
        for of in held.iter().chain([release]) {
            policies.extend(self.definition_of(of)?.channels.remove(channel));
        }
        let mut all: Vec<Standing> = Vec::new();
        for standing in policies.iter().flat_map(|policy| policy::check(policy, &facts)) {
            if !all.contains(&standing) {
                all.push(standing);
            }
        }
        Ok(all)
    }
}

/// The promotion after `history`: signed by somebody who is or was trusted, and following the one before.
///
/// # Errors
/// [`TrustError::Promotion`], [`TrustError::History`].
pub(crate) fn next_promotion(
    history: &[Statement],
    bytes: &[u8],
    (app, channel): (&AppName, &ChannelName),
    trust: &Trust,
) -> Result<Statement, TrustError> {
    let sequence = history.len() as u64 + 1;
    let statement = statement::open(bytes, &trust.ever).map_err(|source| TrustError::Promotion {
        app: app.clone(),
        channel: channel.clone(),
        sequence,
        source,
    })?;
    let follows = match &statement.predicate {
        Predicate::Promotion(promotion) => {
            promotion.channel == *channel
                && promotion.sequence == sequence
                && promotion.previous == history.last().map(|before| before.digest)
                && release_of(&statement).is_some_and(|release| release.app == *app)
        }
        _ => false,
    };
    if follows {
        Ok(statement)
    } else {
        Err(TrustError::History { app: app.clone(), channel: channel.clone(), sequence })
    }
}

fn outcome(
    name: &ReleaseName,
    channel: &ChannelName,
    history: &[Statement],
    policy: Vec<Standing>,
    trust: &Trust,
) -> PromoteOutcome {
    let replaces = history.last().and_then(release_of);
    // One that was moved there by somebody who is trusted no more is moved there again.
    let changed = replaces.as_ref() != Some(name) || !is_trusted(history.last(), trust);
    PromoteOutcome { channel: channel.clone(), release: name.clone(), replaces, changed, policy }
}

fn is_trusted(newest: Option<&Statement>, trust: &Trust) -> bool {
    let signers = trust.root().signers();
    newest.is_some_and(|newest| newest.by.iter().any(|key| signers.contains_key(key)))
}

/// The release that a statement is about.
fn release_of(statement: &Statement) -> Option<ReleaseName> {
    statement.subject.first()?.name.parse().ok()
}

fn promotion_view(statement: &Statement, trust: &Trust) -> Option<PromotionView> {
    let Predicate::Promotion(promotion) = &statement.predicate else { return None };
    let name =
        |key| trust.ever_names.get(key).map_or_else(|| plumb_trust::KeyId::short(key), ToString::to_string);
    Some(PromotionView {
        sequence: promotion.sequence,
        release: release_of(statement)?,
        replaces: promotion.replaces.clone(),
        by: statement.by.iter().map(name).collect(),
        at: promotion.promoted_on.clone(),
        reason: promotion.reason.clone(),
        evidence: promotion.evidence.clone(),
    })
}
