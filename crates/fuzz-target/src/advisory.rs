//! Feeds of advisories, and what people search for.

use plumb_search::advisory::{self, Advisory, Form, MAX_RECORD_BYTES, Tally, Verdict};
use plumb_search::{FileQuery, Query};

/// Versions that every claim is asked about.
const VERSIONS: [&str; 4] = ["0", "1.2.3-1~deb12u1", "1:2.0rc1", "99"];

pub(crate) fn run(data: &[u8]) {
    feed(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(query) = text.parse::<Query>() {
        assert_eq!(query.to_string().parse(), Ok(query), "written and read again");
    }
    if let Ok(query) = text.parse::<FileQuery>() {
        assert_eq!(query.to_string().parse(), Ok(query), "written and read again");
    }
}

fn feed(data: &[u8]) {
    let Some(form) = advisory::form_of(data).filter(|form| *form != Form::OsvZip) else { return };
    let mut count = 0;
    let mut sink = |statement: &Advisory| {
        count += 1;
        check(statement);
        Ok(())
    };
    if let Ok(tally) = advisory::read(form, &mut &*data, Tally::default(), &mut sink) {
        assert_eq!(tally.advisories, count);
    }
}

/// What becomes a word of an answer is printable and short, and judging never says something else the second time.
fn check(statement: &Advisory) {
    let words = [statement.name.as_str(), &statement.package, statement.suite.as_deref().unwrap_or("x")];
    for word in words.into_iter().chain(statement.aliases.iter().map(|alias| alias.as_str())) {
        assert!(
            (1..=256).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic()),
            "{word:?}"
        );
    }
    assert!(!statement.note.chars().any(char::is_control) && statement.note.len() as u64 <= MAX_RECORD_BYTES);
    assert!(statement.note.chars().count() <= 400, "{}", statement.note);
    let kept = serde_json::to_string(&statement.claim).expect("a claim is written");
    let again = serde_json::from_str(&kept).expect("and read");
    assert_eq!(statement.claim, again);
    for version in VERSIONS {
        let verdict = statement.claim.judge(statement.ecosystem, version);
        if let Verdict::Affected { fixed: Some(fixed) } = verdict {
            let order = statement.ecosystem.compare(version, &fixed);
            assert!(order.is_some_and(|order| order.is_lt()), "{version} is not below its fix {fixed}");
        }
    }
}
