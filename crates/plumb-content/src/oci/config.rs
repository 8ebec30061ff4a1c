//! What a container image runs, and as whom.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::OciError;

/// The parts of an image configuration (image-spec, config.md) that a machine acts on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `Entrypoint` and `Cmd`, in this order: program and arguments.
    pub command: Vec<String>,
    /// `Env`.
    pub environment: BTreeMap<String, String>,
    /// `WorkingDir`; `/` if absent.
    pub directory: String,
    /// `User`: empty, or `user[:group]`, names or numbers.
    pub user: String,
    /// `ExposedPorts` of TCP, sorted.
    pub ports: Vec<u16>,
    /// `Volumes`, sorted.
    pub volumes: Vec<String>,
    /// `StopSignal` by number (signal(7)).
    pub stop_signal: Option<i32>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Raw {
    config: Option<RawConfig>,
}

/// Docker writes `null` for what is not set.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct RawConfig {
    user: Option<String>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
}

impl RawConfig {
    /// No program, variable or folder can have a NUL byte in its name; execve(2) would cut it there.
    fn without_nul(&self) -> Result<(), OciError> {
        let lists = [&self.env, &self.entrypoint, &self.cmd].into_iter().flatten().flatten();
        match lists
            .chain([&self.user, &self.working_dir].into_iter().flatten())
            .find(|text| text.contains('\0'))
        {
            Some(text) => Err(OciError::Malformed {
                what: "configuration",
                message: format!("{text:?} has a NUL byte"),
            }),
            None => Ok(()),
        }
    }
}

/// Signals by their number on Linux for amd64 (signal(7)).
const SIGNALS: [(&str, i32); 15] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ABRT", 6),
    ("KILL", 9),
    ("USR1", 10),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("STOP", 19),
    ("WINCH", 28),
    ("PWR", 30),
    ("SYS", 31),
];

impl Config {
    /// Reads an image configuration.
    ///
    /// # Errors
    /// [`OciError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Config, OciError> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| OciError::Malformed { what: "configuration", message: error.to_string() })?;
        let raw = raw.config.unwrap_or_default();
        raw.without_nul()?;
        let mut command = raw.entrypoint.unwrap_or_default();
        command.extend(raw.cmd.unwrap_or_default());
        let pair = |line: String| {
            let (name, value) = line.split_once('=')?;
            (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        };
        let mut ports: Vec<u16> =
            raw.exposed_ports.unwrap_or_default().keys().filter_map(|key| port(key)).collect();
        ports.sort_unstable();
        // Relative ones are below the root, as container engines take them.
        let directory = format!("/{}", raw.working_dir.unwrap_or_default().trim_start_matches('/'));
        Ok(Config {
            command,
            environment: raw.env.unwrap_or_default().into_iter().filter_map(pair).collect(),
            directory,
            user: raw.user.unwrap_or_default(),
            ports,
            volumes: raw.volumes.unwrap_or_default().into_keys().collect(),
            stop_signal: raw.stop_signal.as_deref().and_then(signal),
        })
    }
}

/// `80/tcp` or `80`.
fn port(text: &str) -> Option<u16> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    number.parse().ok().filter(|_| protocol == "tcp")
}

/// `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`.
fn signal(text: &str) -> Option<i32> {
    let name = text.trim().to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    if let Some(more) = name.strip_prefix("RTMIN") {
        let more = more.strip_prefix('+').unwrap_or("0").parse::<i32>().ok()?;
        return (0..=30).contains(&more).then_some(34 + more);
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// A line of passwd(5) or group(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
}

/// Who a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    /// `HOME`.
    pub home: String,
}

/// Resolves `user[:group]` by the image's own accounts, as container runtimes do: a number needs no line; without a
/// group the user's own is taken, with the groups that list it; `0` if there is no such line.
///
/// # Errors
/// [`OciError::User`] for a name that has no line.
pub fn resolve_user(
    spec: &str,
    passwd: &[User],
    groups: &BTreeMap<String, (u32, Vec<String>)>,
) -> Result<Identity, OciError> {
    let unknown = || OciError::User { user: spec.to_owned() };
    let (user, group) = spec.split_once(':').map_or((spec, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let line = passwd.iter().find(|line| line.name == user);
    let line = line.or_else(|| passwd.iter().find(|line| user.parse() == Ok(line.uid)));
    let uid = match line {
        Some(line) => line.uid,
        None => user.parse().map_err(|_| unknown())?,
    };
    let home =
        line.map(|line| line.home.clone()).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".to_owned());
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        let known = groups.get(group).map(|(gid, _)| *gid);
        let gid = known.or_else(|| group.parse().ok()).ok_or_else(unknown)?;
        return Ok(Identity { uid, gid, groups: Vec::new(), home });
    }
    let gid = line.map_or(0, |line| line.gid);
    let listed = |members: &Vec<String>| line.is_some_and(|line| members.contains(&line.name));
    let mut more: Vec<u32> =
        groups.values().filter(|(_, members)| listed(members)).map(|(gid, _)| *gid).collect();
    more.sort_unstable();
    more.dedup();
    more.retain(|other| *other != gid);
    Ok(Identity { uid, gid, groups: more, home })
}
