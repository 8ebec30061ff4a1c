//! The newest state of all sources.

use plumb_model::Digest;
use plumb_store::Store;

use crate::http::Validators;
use crate::record::Record;
use crate::source::{ArchiveSource, Snapshot, SourceSnapshot};
use crate::transfer::Session;
use crate::{Error, FetchOptions, Progress, Result, index, limit, suite};

/// A source as it is now, and what is to be remembered about it if that changed.
struct Fresh {
    snapshot: SourceSnapshot,
    changed: Option<Record>,
}

/// Brings the verified indices of all `sources` into the store and says which they are. Sources are asked in parallel;
/// an index that is in the store already is not fetched again. Offline, the last accepted state is used, also when its
/// `Valid-Until` has passed: nothing newer can be had, and the user said so.
///
/// # Errors
/// The first source that fails, by their order. Then nothing is remembered of any.
pub fn refresh(
    store: &Store,
    sources: &[ArchiveSource],
    options: &FetchOptions,
    progress: &dyn Progress,
) -> Result<Snapshot> {
    for source in sources {
        check_source(source)?;
    }
    let session = Session::new(store, options, progress);
    let workers = options.connections.clamp(1, limit::CONNECTIONS_MAX);
    let fresh = session.each(sources.len(), workers, &|number| {
        let source = &sources[number];
        if options.offline { remembered(&session, source) } else { ask(&session, source) }
    })?;
    if fresh.iter().any(|fresh| fresh.changed.is_some()) {
        store.sync()?;
    }
    for record in fresh.iter().filter_map(|fresh| fresh.changed.as_ref()) {
        record.save(store)?;
    }
    Ok(Snapshot { sources: fresh.into_iter().map(|fresh| fresh.snapshot).collect() })
}

/// Suites and components become parts of URLs and of messages.
fn check_source(source: &ArchiveSource) -> Result<()> {
    let plain = |part: &String| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+/".contains(&byte);
        !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('/') && !part.contains("..")
    };
    match std::iter::once(&source.suite).chain(&source.components).find(|part| !plain(part)) {
        Some(part) => Err(Error::BadUrl {
            url: source.uri.clone(),
            reason: format!("`{part}` is no suite or component"),
        }),
        None => Ok(()),
    }
}

/// The last accepted state, if all of it is in the store.
fn remembered(session: &Session<'_>, source: &ArchiveSource) -> Result<Fresh> {
    let missing =
        |what: &str| Error::Offline { what: format!("{what} of `{}` `{}`", source.uri, source.suite) };
    let record = Record::load(session.store, source)?.ok_or_else(|| missing("the state"))?;
    let snapshot = record
        .snapshot(source, &session.options.architecture)
        .map_err(|component| missing(&format!("the index of component `{component}`")))?;
    for index in &snapshot.indices {
        if session.store.size(&index.packages)? != Some(index.size) {
            return Err(missing(&format!("the index of component `{}`", index.component)));
        }
    }
    Ok(Fresh { snapshot, changed: None })
}

/// The state on the server. If the archive changes between `InRelease` and an index, both are read once more.
fn ask(session: &Session<'_>, source: &ArchiveSource) -> Result<Fresh> {
    let previous = Record::load(session.store, source)?;
    match ask_once(session, source, previous.as_ref(), true) {
        Err(error) if error.is_stale_index() => ask_once(session, source, previous.as_ref(), false),
        other => other,
    }
}

fn ask_once(
    session: &Session<'_>,
    source: &ArchiveSource,
    previous: Option<&Record>,
    conditional: bool,
) -> Result<Fresh> {
    let options = session.options;
    let base = format!("{}/dists/{}", source.uri.trim_end_matches('/'), source.suite);
    let url = format!("{base}/InRelease");
    let known = previous.filter(|_| conditional);
    let (bytes, validators) = in_release(session, source, &url, known)?;
    // Nothing of these bytes is looked at, and nothing of them is kept, before this line.
    let text = options.keyring.signed_text(&url, &bytes, options.now_unix_s)?;
    let accepted = previous.map(|record| record.date_unix_s);
    let release = suite::check(&url, &text, source, accepted, options.now_unix_s)?;

    let mut record = Record::new(source, suite::date_unix_s(&release), Digest::of(&bytes), validators);
    if let Some(previous) = previous {
        record.keep_indices_of(previous);
    }
    for component in &source.components {
        suite::check_offer(&url, &release, component, &options.architecture)?;
        let index = index::fetch(session, source, &base, &release, component)?;
        record.set_index(&options.architecture, index);
    }
    session.store.put_bytes(&bytes)?;
    let snapshot = record
        .snapshot(source, &options.architecture)
        .map_err(|component| Error::Offline { what: format!("the index of component `{component}`") })?;
    let changed = (previous != Some(&record)).then_some(record);
    Ok(Fresh { snapshot, changed })
}

/// The bytes of `InRelease`, from the server or, if it says that they are still the same, from the store.
fn in_release(
    session: &Session<'_>,
    source: &ArchiveSource,
    url: &str,
    known: Option<&Record>,
) -> Result<(Vec<u8>, Validators)> {
    let item = format!("{} InRelease", source.suite);
    if let Some(known) = known.filter(|known| session.store.contains(&known.in_release)) {
        if let Some(found) = session.read(url, &item, &known.validators)? {
            session.progress.finish(&item);
            return Ok(found);
        }
        match session.store.read_bytes(&known.in_release, limit::IN_RELEASE_BYTES) {
            Ok(bytes) => {
                session.progress.finish(&item);
                return Ok((bytes, known.validators.clone()));
            }
            // It is fetched again.
            Err(plumb_store::Error::Damaged { .. } | plumb_store::Error::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let found = session.read(url, &item, &Validators::default())?;
    session.progress.finish(&item);
    // A server that answers "not modified" to a question without a condition.
    found.ok_or_else(|| Error::Status { url: url.to_owned(), status: 304 })
}
