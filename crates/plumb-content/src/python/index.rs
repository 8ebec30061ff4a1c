//! What an index says about a project: JSON (PEP 691) or HTML (PEP 503), and which file is taken.

use plumb_model::Digest;
use serde::Deserialize;

use super::marker::Environment;
use super::requirement::Requirement;
use super::tag::Tags;
use super::version::PyVersion;
use super::{PythonError, normalize};

/// One file that an index offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// `flask-3.0.3-py3-none-any.whl`.
    pub file: String,
    /// Absolute URL, without fragment.
    pub url: String,
    /// Its SHA-256, if the index tells it.
    pub sha256: Option<Digest>,
    /// Its size in bytes, if the index tells it.
    pub size: Option<u64>,
    /// `Requires-Python`.
    pub requires_python: Option<String>,
}

/// Everything that an index offers of a project.
pub type Listing = Vec<Candidate>;

#[derive(Deserialize)]
struct Json {
    files: Vec<JsonFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct JsonFile {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    requires_python: Option<String>,
    #[serde(default)]
    size: Option<u64>,
}

/// Reads the answer of an index to `url`.
///
/// # Errors
/// [`PythonError::Index`].
pub fn parse_listing(project: &str, url: &str, body: &str) -> Result<Listing, PythonError> {
    if body.trim_start().starts_with('{') {
        let json: Json = serde_json::from_str(body).map_err(|error| PythonError::Index {
            project: project.to_owned(),
            message: error.to_string(),
        })?;
        let candidate = |file: JsonFile| Candidate {
            url: absolute(url, &file.url),
            sha256: file.hashes.get("sha256").and_then(|hex| Digest::from_hex(hex).ok()),
            file: file.filename,
            size: file.size,
            requires_python: file.requires_python,
        };
        return Ok(json.files.into_iter().map(candidate).collect());
    }
    Ok(body.split("<a ").skip(1).filter_map(|anchor| html(url, anchor)).collect())
}

/// ` href="…#sha256=…" data-requires-python="…">flask-3.0.3-py3-none-any.whl</a>`.
fn html(base: &str, anchor: &str) -> Option<Candidate> {
    let (attributes, text) = anchor.split_once('>')?;
    let attribute = |name: &str| {
        let rest = attributes.split_once(&format!("{name}="))?.1;
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        rest[1..].split(quote).next().map(unescape)
    };
    let href = attribute("href")?;
    let (url, fragment) = href.split_once('#').unwrap_or((&href, ""));
    Some(Candidate {
        file: unescape(text.split('<').next()?.trim()),
        url: absolute(base, url),
        sha256: fragment.strip_prefix("sha256=").and_then(|hex| Digest::from_hex(hex).ok()),
        size: None,
        requires_python: attribute("data-requires-python"),
    })
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

/// RFC 3986, section 5.2, for what indices write.
fn absolute(base: &str, url: &str) -> String {
    let url = url.split('#').next().unwrap_or(url);
    if url.contains("://") {
        return url.to_owned();
    }
    let scheme = base.find("://").map_or(0, |at| at + 3);
    let host = base[scheme..].find('/').map_or(base.len(), |at| scheme + at);
    if url.starts_with('/') {
        return format!("{}{url}", &base[..host]);
    }
    let folder = base
        .rfind('/')
        .filter(|at| *at >= host)
        .map_or_else(|| format!("{base}/"), |at| base[..=at].to_owned());
    let (mut folder, mut rest) = (folder, url);
    while let Some(up) = rest.strip_prefix("../") {
        let parent = folder[..folder.len() - 1].rfind('/').filter(|at| *at >= host);
        folder.truncate(parent.map_or(host, |at| at) + 1);
        rest = up;
    }
    format!("{folder}{rest}")
}

/// The wheel that pip would take: the best tag, then the highest build number.
///
/// # Errors
/// [`PythonError`], naming what is missing.
pub fn choose<'l>(
    wanted: &Requirement,
    listing: &'l [Candidate],
    tags: &Tags,
    environment: &Environment,
    glibc: u32,
) -> Result<&'l Candidate, PythonError> {
    let (project, version) = (wanted.project.clone(), wanted.version.to_string());
    let of_version: Vec<&Candidate> = listing.iter().filter(|file| is_of(&file.file, wanted)).collect();
    if of_version.is_empty() {
        return Err(PythonError::NoVersion { project, version });
    }
    if !of_version.iter().any(|file| file.file.ends_with(".whl")) {
        return Err(PythonError::OnlySource { project, version });
    }
    let python = |file: &&&Candidate| {
        let spec = file.requires_python.as_deref().unwrap_or_default();
        admits(spec, environment.full_version())
    };
    let ranked = of_version.iter().filter(python).filter_map(|file| {
        let (build, compressed) = wheel_tags(&file.file)?;
        Some((tags.rank(compressed)?, std::cmp::Reverse(build), *file))
    });
    let mut ranked: Vec<_> = ranked.collect();
    ranked.sort_by(|a, b| (a.0, &a.1, &a.2.file).cmp(&(b.0, &b.1, &b.2.file)));
    if ranked.is_empty() {
        let python = environment.python_version().to_owned();
        return Err(PythonError::NoWheel { project, version, python, glibc: format!("2.{glibc}") });
    }
    let named = |file: &&Candidate| file.sha256.is_some_and(|digest| wanted.hashes.contains(&digest));
    let found = ranked.iter().map(|(_, _, file)| *file).find(named);
    found.ok_or(PythonError::NoHash { project, version })
}

fn is_of(file: &str, wanted: &Requirement) -> bool {
    let is_version = |text: &str| text.parse::<PyVersion>().is_ok_and(|version| version == wanted.version);
    if let Some(stem) = file.strip_suffix(".whl") {
        let mut parts = stem.split('-');
        return parts.next().is_some_and(|name| normalize(name) == wanted.project)
            && parts.next().is_some_and(is_version);
    }
    let stem = [".tar.gz", ".zip", ".tar.bz2"].iter().find_map(|end| file.strip_suffix(end));
    stem.and_then(|stem| stem.rsplit_once('-'))
        .is_some_and(|(name, version)| normalize(name) == wanted.project && is_version(version))
}

/// Build number and tags of `name-version[-build]-python-abi-platform.whl` (PEP 427).
fn wheel_tags(file: &str) -> Option<((u64, String), &str)> {
    let stem = file.strip_suffix(".whl")?;
    let dashes: Vec<usize> = stem.match_indices('-').map(|(at, _)| at).collect();
    let tags = &stem[dashes.get(dashes.len().checked_sub(3)?)? + 1..];
    let build = match dashes.len() {
        4 => (0, String::new()),
        5 => {
            let build = &stem[dashes[1] + 1..dashes[2]];
            let digits = build.bytes().take_while(u8::is_ascii_digit).count();
            (build[..digits].parse().ok()?, build[digits..].to_owned())
        }
        _ => return None,
    };
    Some((build, tags))
}

/// Whether a list of specifiers (`>=3.8,<4`) admits a version; one that is not understood admits all, as pip takes it.
fn admits(specifiers: &str, version: &str) -> bool {
    let Ok(version) = version.parse::<PyVersion>() else { return true };
    specifiers.split(',').map(str::trim).filter(|one| !one.is_empty()).all(|one| {
        let length = one.bytes().take_while(|b| matches!(b, b'<' | b'>' | b'=' | b'!' | b'~')).count();
        version.satisfies(&one[..length], one[length..].trim()).unwrap_or(true)
    })
}
