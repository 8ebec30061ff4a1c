//! What was said, between two stores: statements about releases and promotions of channels, as documents of a remote.
//!
//! ```text
//!  release-7.json       {"format":1,"app":"shop","envelopes":["{\"payload\":…}\n", …]}   in the order of their digests
//!  channel-prod.json    the same, in the order of the promotions
//! ```
//!
//! Statements of both sides are joined. A channel that is longer on one side is taken from there; one that was moved
//! differently on both is left to a person.

use std::collections::{BTreeMap, BTreeSet};

use plumb_model::release::{Release, ReleaseName};
use plumb_model::{AppName, ChannelName, Digest, Document};
use plumb_trust::{Predicate, Subject, statement};
use serde::{Deserialize, Serialize};

use super::Place;
use super::index::Index;
use super::signed::{Documents, Look, Wanted};
use crate::Plumb;
use crate::channel::next_promotion;
use crate::error::OpsError;
use crate::trust::TrustError;

/// Most statements about one release that are taken: thousands of approvals and test runs.
const MAX_STATEMENTS: usize = 10_000;

/// Most promotions of a channel that are taken: one an hour for ten years.
const MAX_PROMOTIONS: usize = 100_000;

/// Signed envelopes, each as the exact text that its digest is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    format: u32,
    app: AppName,
    envelopes: Vec<String>,
}

impl Document for Words {
    const WHAT: &'static str = "document of statements";
    const FORMAT: u32 = 1;

    fn format(&self) -> u32 {
        self.format
    }
}

fn document(app: &AppName, envelopes: Vec<Vec<u8>>) -> Vec<u8> {
    // Envelopes are JSON that was read before it was kept.
    let envelopes = envelopes.into_iter().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
    Words { format: Words::FORMAT, app: app.clone(), envelopes }.to_bytes()
}

fn release_name(number: u64) -> String {
    format!("release-{number}.json")
}

fn channel_name(channel: &ChannelName) -> String {
    format!("channel-{channel}.json")
}

impl Plumb<'_> {
    /// All documents of an application as they are to be on a remote: its index, and the words of both sides.
    pub(super) fn documents(
        &self,
        place: &Place,
        look: &Look,
        app: &AppName,
        index: &Index,
    ) -> Result<Documents, OpsError> {
        let mut documents = Documents::new();
        documents.insert("index.json".to_owned(), look.or_new("index.json", index.to_bytes()));
        for number in index.releases.keys() {
            let name = release_name(*number);
            let mut all = self.said_here(app, *number)?;
            let here = look.or_new(&name, document(app, all.values().cloned().collect()));
            let wanted = match (all.is_empty(), look.document(&name)) {
                (true, Some(_)) => Wanted::AsItIs,
                (_, None) => here,
                _ if matches!(here, Wanted::AsItIs) => here,
                _ => {
                    let there = self.words(place, look, app, &name)?;
                    all.extend(there.into_iter().map(|bytes| (Digest::of(&bytes), bytes)));
                    look.or_new(&name, document(app, all.into_values().collect()))
                }
            };
            documents.insert(name, wanted);
        }
        for channel in self.all_channels(look, app)? {
            let name = channel_name(&channel);
            let here = self.promotions(app, &channel)?;
            if let Wanted::AsItIs = look.or_new(&name, document(app, here.clone())) {
                documents.insert(name, Wanted::AsItIs);
                continue;
            }
            let there = self.words(place, look, app, &name)?;
            if !here.starts_with(&there) && !there.starts_with(&here) {
                return Err(diverged(place, app, &channel));
            }
            let longer = if here.len() >= there.len() { here } else { there };
            let wanted = look.or_new(&name, document(app, longer));
            documents.insert(name, wanted);
        }
        Ok(documents)
    }

    /// What was said here about a release, and a remote does not have.
    pub(super) fn unsaid(
        &self,
        place: &Place,
        look: &Look,
        app: &AppName,
        number: u64,
    ) -> Result<BTreeMap<Digest, Vec<u8>>, OpsError> {
        let mut here = self.said_here(app, number)?;
        if here.is_empty() {
            return Ok(here);
        }
        let name = release_name(number);
        if let Wanted::AsItIs = look.or_new(&name, document(app, here.values().cloned().collect())) {
            return Ok(BTreeMap::new());
        }
        for bytes in self.words(place, look, app, &name)? {
            here.remove(&Digest::of(&bytes));
        }
        Ok(here)
    }

    /// What was said here about a release, in the order of the digests.
    pub(super) fn said_here(
        &self,
        app: &AppName,
        number: u64,
    ) -> Result<BTreeMap<Digest, Vec<u8>>, OpsError> {
        let mut all = BTreeMap::new();
        for digest in self.store.statements(app, number)? {
            if let Some(bytes) = self.store.statement(app, number, &digest)? {
                all.insert(digest, bytes);
            }
        }
        Ok(all)
    }

    fn all_channels(&self, look: &Look, app: &AppName) -> Result<BTreeSet<ChannelName>, OpsError> {
        let mut channels: BTreeSet<ChannelName> = self.store.channels(app)?.into_iter().collect();
        channels.extend(look.documents().filter_map(|name| {
            name.strip_prefix("channel-")?.strip_suffix(".json")?.parse::<ChannelName>().ok()
        }));
        Ok(channels)
    }

    fn promotions(&self, app: &AppName, channel: &ChannelName) -> Result<Vec<Vec<u8>>, OpsError> {
        let mut all = Vec::new();
        for sequence in self.store.promotions(app, channel)? {
            all.extend(self.store.promotion(app, channel, sequence)?);
        }
        Ok(all)
    }

    /// The envelopes of a document; none if it is not there.
    fn words(&self, place: &Place, look: &Look, app: &AppName, name: &str) -> Result<Vec<Vec<u8>>, OpsError> {
        let Some(bytes) = self.read_document(place, look, name)? else { return Ok(Vec::new()) };
        let words = Words::from_bytes(&bytes).map_err(|error| wrong(place, name, error.to_string()))?;
        if words.app != *app {
            return Err(wrong(place, name, format!("it is that of application `{}`", words.app)));
        }
        if words.envelopes.len() > MAX_PROMOTIONS {
            return Err(wrong(place, name, format!("more than {MAX_PROMOTIONS} statements")));
        }
        Ok(words.envelopes.into_iter().map(String::into_bytes).collect())
    }

    /// What was said there about a release, by whomever.
    pub(super) fn words_about(
        &self,
        place: &Place,
        look: &Look,
        name: &ReleaseName,
    ) -> Result<Vec<Vec<u8>>, OpsError> {
        self.words(place, look, &name.app, &release_name(name.number))
    }

    /// Everything that a channel pointed to there, unverified.
    pub(super) fn moves_of(
        &self,
        place: &Place,
        look: &Look,
        app: &AppName,
        channel: &ChannelName,
    ) -> Result<Vec<Vec<u8>>, OpsError> {
        self.words(place, look, app, &channel_name(channel))
    }

    /// What was said there about a release by keys that are trusted, as envelopes; one of them, or one that is here, signs
    /// it.
    ///
    /// # Errors
    /// [`TrustError::Unsigned`].
    pub(super) fn believed(
        &self,
        place: &Place,
        look: &Look,
        release: &Release,
    ) -> Result<Vec<Vec<u8>>, OpsError> {
        let name = release_name(release.number);
        let envelopes = self.words(place, look, &release.app, &name)?;
        if envelopes.len() > MAX_STATEMENTS {
            return Err(wrong(place, &name, format!("more than {MAX_STATEMENTS} statements")));
        }
        let keys = look.trusted().root().signers();
        let about = Subject::new(release.name().to_string(), &release.digest());
        let (mut believed, mut signed, mut why) = (Vec::new(), false, None);
        for bytes in envelopes {
            match statement::verify(&bytes, &about, &keys) {
                Ok(statement) => {
                    signed |= matches!(statement.predicate, Predicate::Provenance(_));
                    believed.push(bytes);
                }
                // By somebody who is trusted no more, or of a kind that is not known here: it says nothing here.
                Err(error) => why = Some(error.to_string()),
            }
        }
        if signed || self.said(release)?.is_signed() {
            return Ok(believed);
        }
        Err(TrustError::Unsigned { release: release.name(), why }.into())
    }

    /// Keeps statements about a release; those that are here already stay.
    pub(super) fn add_statements(&self, release: &Release, words: &[Vec<u8>]) -> Result<(), OpsError> {
        for bytes in words {
            self.store.add_statement(&release.app, release.number, bytes)?;
        }
        Ok(())
    }

    /// Takes what was said about all releases that are here and there, and where channels point to. Returns names of the
    /// channels that moved.
    pub(super) fn take_words(
        &self,
        place: &Place,
        look: &Look,
        app: &AppName,
    ) -> Result<Vec<ChannelName>, OpsError> {
        for number in self.store.releases(app)? {
            let here = document(app, self.said_here(app, number)?.into_values().collect());
            let differs = matches!(look.or_new(&release_name(number), here), Wanted::Bytes(_));
            if differs && look.index.releases.contains_key(&number) {
                let release = self.read_release(&ReleaseName { app: app.clone(), number })?;
                let words = self.believed(place, look, &release)?;
                self.add_statements(&release, &words)?;
            }
        }
        let trust = self.trust(app)?;
        let mut moved = Vec::new();
        for channel in self.all_channels(look, app)? {
            let here = self.promotions(app, &channel)?;
            let name = channel_name(&channel);
            if let Wanted::AsItIs = look.or_new(&name, document(app, here.clone())) {
                continue;
            }
            let there = self.words(place, look, app, &name)?;
            if here.starts_with(&there) {
                continue;
            }
            if !there.starts_with(&here) {
                return Err(diverged(place, app, &channel));
            }
            let mut history = self.history(app, &channel, &trust)?;
            for bytes in &there[here.len()..] {
                let next = next_promotion(&history, bytes, (app, &channel), &trust)?;
                history.push(next);
                match self.store.add_promotion(app, &channel, history.len() as u64, bytes) {
                    // Somebody pulled or promoted meanwhile.
                    Err(plumb_store::Error::ChannelMoved { .. }) => {
                        return Err(diverged(place, app, &channel));
                    }
                    other => other?,
                }
            }
            moved.push(channel);
        }
        Ok(moved)
    }

    /// The release that a channel of a remote points to.
    pub(super) fn channel_there(
        &self,
        place: &Place,
        look: &Look,
        (app, channel): (&AppName, &ChannelName),
    ) -> Result<ReleaseName, OpsError> {
        let name = channel_name(channel);
        let envelopes = self.words(place, look, app, &name)?;
        let Some(newest) = envelopes.last() else {
            let known = self.all_channels(look, app)?.into_iter().collect();
            return Err(TrustError::NoChannel { app: app.clone(), channel: channel.clone(), known }.into());
        };
        // The whole chain is looked at when it is taken.
        let sequence = envelopes.len() as u64;
        let statement = statement::open(newest, &look.trusted().root().signers()).map_err(|source| {
            TrustError::Promotion { app: app.clone(), channel: channel.clone(), sequence, source }
        })?;
        let release = statement.subject.first().and_then(|subject| subject.name.parse().ok());
        release.ok_or_else(|| wrong(place, &name, "a promotion of no release".to_owned()))
    }
}

fn wrong(place: &Place, name: &str, why: String) -> OpsError {
    TrustError::Word { remote: place.remote.shown(), name: name.to_owned(), why }.into()
}

fn diverged(place: &Place, app: &AppName, channel: &ChannelName) -> OpsError {
    TrustError::Diverged { remote: place.remote.shown(), app: app.clone(), channel: channel.clone() }.into()
}
