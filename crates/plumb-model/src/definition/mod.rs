//! The definition: what the user writes in `plumb.toml`, checked.
//!
//! ```text
//! app, fence                              Definition
//! [base]                                  Base
//! [config]                                Schema     read in config.rs
//! [channel.NAME]                          ChannelPolicy  read in channel.rs
//! [machine.NAME]                          Machine    read in machine.rs
//!   app.TARGET                            AppContent read in content.rs
//!   config.TARGET                         ConfigTemplate  read in config.rs
//!   volume.NAME                           Volume
//!   service.NAME                          Service    read in service.rs
//!   script.PACKAGE                        ScriptChoice  read in script.rs
//!   publish = ["HOST:GUEST"]              Publish
//! [check.NAME]                            Check      read in probe.rs
//! [lease]                                 LeasePolicy    read in lease.rs
//! [snapshots]                             SnapshotPolicy  read in snapshot.rs
//! [upgrade]                               UpgradePolicy  read in upgrade.rs
//! ```
//!
//! Reading goes on after an error, so that all of them are told at once. What concerns one machine is checked where
//! it is read; what concerns several (`needs`, published ports, names) is checked in check.rs.

mod channel;
mod check;
mod config;
mod content;
mod diagnostic;
mod lease;
mod machine;
mod oci;
mod operate;
mod probe;
mod script;
mod service;
mod snapshot;
mod table;
mod upgrade;
mod value;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use plumb_debian::PackageName;
use serde::{Serialize, Serializer};
use toml::de::DeTable;

use crate::check::Check;
use crate::config::Schema;
use crate::release::{Rolling, SnapshotPolicy, Task, UpgradePolicy, Watch};
use crate::{AppName, ChannelName, CheckName, Digest, MachineName, ServiceName, TaskName, VolumeName};
use diagnostic::{Report, quoted};
use machine::Draft;
use table::{Field, Table};

pub use channel::{ChannelPolicy, Requirement};
pub use config::{ConfigTemplate, check_template, has_secret, secret_files};
pub use diagnostic::{DefinitionErrors, Diagnostic};
pub use lease::{LeasePolicy, LeaseTerms, LeaseTime};
pub use snapshot::VolumeSnapshot;

/// Largest definition that is read. One of a hundred machines has some 30 KiB; a file beyond this is not a definition.
pub const MAX_DEFINITION_BYTES: usize = 1024 * 1024;

/// Most machines of one application. Far more than anyone oversees in one file; keeps every check quick.
pub const MAX_MACHINES: usize = 100;

/// Syntax errors that are shown. One missing quote causes many after it that tell nothing new.
const MAX_SYNTAX_ERRORS: usize = 5;

/// Where Debian's packages come from unless the definition says otherwise.
const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

/// Debian stable as of the examples and tests.
const DEFAULT_SUITE: &str = "bookworm";

/// A whole `plumb.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Definition {
    /// The application.
    pub app: AppName,
    /// What all machines are made from.
    pub base: Base,
    /// The machines; at least one.
    pub machines: BTreeMap<MachineName, Machine>,
    /// How far back a rollback is safe for the data.
    pub fence: Option<Fence>,
    /// What channels ask of a release.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub channels: BTreeMap<ChannelName, ChannelPolicy>,
    /// What a test of a release checks.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<CheckName, Check>,
    /// What a deployment can set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config: Schema,
    /// How its data is kept before it is changed.
    #[serde(skip_serializing_if = "SnapshotPolicy::is_default")]
    pub snapshots: SnapshotPolicy,
    /// What first leases are made from.
    #[serde(skip_serializing_if = "LeasePolicy::is_empty")]
    pub lease: LeasePolicy,
    /// How a release takes the place of another one.
    #[serde(skip_serializing_if = "UpgradePolicy::is_default")]
    pub upgrade: UpgradePolicy,
}

/// The release below which a rollback is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// `fence = "this"`: the release that is made from this definition.
    This,
    /// `fence = 2`: release 2 of the application; from 1.
    Release(u64),
}

/// `"this"` or the number, as in the definition.
impl Serialize for Fence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Fence::This => serializer.serialize_str("this"),
            Fence::Release(number) => serializer.serialize_u64(*number),
        }
    }
}

/// `[base]`: the archive and the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Base {
    /// Debian suite by code name; its updates and security belong to it.
    pub suite: String,
    /// URL of the archive, without `/` at the end.
    pub mirror: String,
    /// URL of the security archive, without `/` at the end; `None` if the definition does not name one.
    pub security_mirror: Option<String>,
    /// Kernel package of every machine.
    pub kernel: PackageName,
    /// Archive components: `main`, `contrib`, …
    pub components: Vec<String>,
    /// URL of the index of Python projects, without `/` at the end; `None` is PyPI's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pypi: Option<String>,
}

/// `[machine.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Debian relations, each a package with or without a version, like `postgresql-15 (>= 15.4)`.
    pub middleware: Vec<String>,
    /// More packages for the os layer, written like `middleware`.
    pub os: Vec<String>,
    /// Packages that must not be in the image although something depends on them.
    pub without: Vec<PackageName>,
    /// Absolute paths, as shell patterns, that rules would leave out and that are kept with all below them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// A container image instead of packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciSource>,
    /// What to do about a package's maintainer scripts where no rule covers them.
    pub script: BTreeMap<PackageName, ScriptChoice>,
    /// What takes the place of the packages' maintainer scripts.
    #[serde(skip_serializing_if = "Scripts::is_rules")]
    pub scripts: Scripts,
    /// Who is PID 1.
    #[serde(skip_serializing_if = "Init::is_plumb")]
    pub init: Init,
    /// The kernel is locked down: not even root reads or changes it.
    #[serde(skip_serializing_if = "std::clone::Clone::clone")]
    pub lockdown: bool,
    /// The user's own files, in the order of their targets; no target twice.
    pub app: Vec<AppContent>,
    /// Files that are filled in at boot, in the order of their targets; no target twice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<ConfigTemplate>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Virtual processors.
    pub cpus: u32,
    /// Volumes; every instance has its own.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Services.
    pub services: BTreeMap<ServiceName, Service>,
    /// Machines that must be ready before this one starts. Every name exists and there is no circle.
    pub needs: Vec<MachineName>,
    /// Number of instances, 1 to 50.
    pub instances: u32,
    /// Ports of the host that lead to this machine's instances.
    pub publish: Vec<Publish>,
    /// How instances are replaced.
    #[serde(skip_serializing_if = "Rolling::is_default")]
    pub rolling: Rolling,
    /// What is done about an instance that is not well.
    #[serde(skip_serializing_if = "Watch::is_default")]
    pub watch: Watch,
    /// What an upgrade carries out once.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<TaskName, TaskCommand>,
}

/// `task.NAME`: what an upgrade carries out once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TaskCommand {
    /// Command line, words quoted as in a shell; no shell reads it.
    pub exec: String,
    /// User it runs as; `None` is root.
    pub user: Option<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Environment variables that refer to configuration: templates, which are filled in at boot.
    pub settings: BTreeMap<String, String>,
    /// Working directory.
    pub directory: Option<String>,
    /// When, and how long it may take.
    pub task: Task,
}

/// `oci`: a container image as the whole userland of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OciSource {
    /// Digest of its manifest, or of a list of manifests.
    pub digest: Digest,
    /// Where it is; says nothing about what it is.
    pub place: OciPlace,
}

/// Where a container image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OciPlace {
    /// In a registry.
    Registry {
        /// `docker.io`, `127.0.0.1:5000`.
        host: String,
        /// `library/nginx`.
        repository: String,
    },
    /// In a folder of the form OCI image layout.
    Layout {
        /// Path from the definition's directory.
        path: String,
    },
}

/// `script.PACKAGE`: the user's answer to effects of a package's maintainer scripts that no rule covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScriptChoice {
    /// `"skip"`: they are not needed in this machine.
    Skip,
    /// `{ rule = "…" }`: commands that are evaluated in their place, never run.
    Rule(String),
    /// `{ rule-file = "…" }`: the same, in a file; path from the definition's directory.
    RuleFile(String),
}

/// `scripts`: who does what maintainer scripts would do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scripts {
    /// `"rules"`: Plumb's rules; no script is run.
    #[default]
    Rules,
    /// `"run"`: the scripts themselves, in a build VM.
    Run,
}

impl Scripts {
    /// Is this the default?
    #[must_use]
    pub fn is_rules(&self) -> bool {
        *self == Scripts::Rules
    }
}

/// `init`: who is PID 1 and runs the services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// `"plumb"`: Plumb's own, which runs what the definition names and nothing else.
    #[default]
    Plumb,
    /// `"systemd"`: systemd from the archive, which runs the packages' units as they are.
    Systemd,
}

impl Init {
    /// Is this the default?
    #[must_use]
    pub fn is_plumb(&self) -> bool {
        *self == Init::Plumb
    }
}

/// A file or directory of the user's, put into the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppContent {
    /// Absolute path in the image, without `/` at the end.
    pub target: String,
    /// Where it comes from.
    pub source: Source,
    /// Owning user of everything in it; `None` is root.
    pub owner: Option<String>,
    /// Owning group of everything in it; `None` is root.
    pub group: Option<String>,
    /// Permission bits of files, at most `0o7777`; `None` keeps whether the source is executable.
    pub mode: Option<u32>,
}

/// Where content of the user's comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Source {
    /// A file or folder: its path from the definition's directory, without `..` and without `/` at the end.
    Path(String),
    /// A file or archive by URL.
    Url(UrlSource),
    /// A folder with `package.json`, `package-lock.json` and sources.
    Npm(NpmSource),
    /// A file of Python requirements with hashes.
    Pip(PipSource),
}

/// Python requirements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PipSource {
    /// Path of the file from the definition's directory.
    pub requirements: String,
}

/// A program for Node.js with its locked packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NpmSource {
    /// Path of the folder from the definition's directory.
    pub folder: String,
    /// Packages whose install scripts are known not to matter.
    pub skip_scripts: Vec<String>,
}

/// A file or archive by URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UrlSource {
    /// `http`, `https` or `file`.
    pub url: String,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Folders that are taken from the start of an archive's paths.
    pub strip: usize,
    /// An archive is unpacked; otherwise it is one file.
    pub unpack: bool,
}

/// `volume.NAME`: a disk that outlives its instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Size in bytes, a multiple of 1 MiB.
    pub size_bytes: u64,
    /// Absolute mount point; no other volume's mount lies in it.
    pub mount: String,
    /// Owning user of the volume's root directory when it is formatted; `None` is root.
    pub owner: Option<String>,
    /// How it is kept from changing while it is copied.
    #[serde(skip_serializing_if = "VolumeSnapshot::is_default")]
    pub snapshot: VolumeSnapshot,
}

/// `service.NAME`. Exactly one of `from` and `exec` is there; neither in a machine of a container image whose own
/// command is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The package's systemd unit, without `.service`; the service's own name if the definition names neither.
    pub from: Option<String>,
    /// Command line, words quoted as in a shell. The first word may be a bare program name.
    pub exec: Option<String>,
    /// User it runs as; `None` is the unit's, or root.
    pub user: Option<String>,
    /// Group it runs as; `None` is the unit's, or the user's own.
    pub group: Option<String>,
    /// Command line that is run before every start and must be idempotent.
    pub prepare: Option<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Environment variables that refer to configuration: templates, which are filled in at boot.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Working directory.
    pub directory: Option<String>,
    /// When it counts as ready; `None` is as soon as it has started.
    pub ready: Option<plumb_guest_proto::Ready>,
    /// How long readiness may take, in milliseconds.
    pub ready_timeout_ms: Option<u64>,
    /// Signal that asks it to stop (signal(7)); `None` is the unit's, or SIGTERM.
    pub stop_signal: Option<i32>,
    /// When it is started again.
    pub restart: Option<plumb_guest_proto::Restart>,
    /// Services of the same machine that must be ready first. Every name exists and there is no circle.
    pub after: Vec<ServiceName>,
}

/// A port of the host that leads to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Publish {
    /// Address of the host that is listened on.
    pub address: Ipv4Addr,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the instance.
    pub guest_port: u16,
}

impl Definition {
    /// Reads and checks a definition. `file_name` is only for messages.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn parse(text: &str, file_name: &str) -> Result<Definition, DefinitionErrors> {
        let mut report = Report::new(text, file_name);
        if text.len() > MAX_DEFINITION_BYTES {
            report.add(
                &(0..0),
                format!("the file has {} bytes, a definition at most {MAX_DEFINITION_BYTES}", text.len()),
            );
            return Err(report.into_errors());
        }
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
            report.add(&error.span().unwrap_or(text.len()..text.len()), error.message());
        }
        if !report.is_empty() {
            return Err(report.into_errors());
        }
        match read(&Table::root(table.get_ref()), &mut report) {
            Some(definition) if report.is_empty() => Ok(definition),
            _ => Err(report.into_errors()),
        }
    }
}

fn read(root: &Table<'_>, report: &mut Report<'_>) -> Option<Definition> {
    const KEYS: [&str; 10] =
        ["app", "base", "channel", "check", "config", "fence", "lease", "machine", "snapshots", "upgrade"];
    root.allow(&KEYS, report);
    let app = root.required("app", "\"shop\"", report).and_then(|field| field.parsed("\"shop\"", report));
    let fence = root.get("fence").and_then(|field| read_fence(&field, report));
    let base = read_base(root.get("base").as_ref(), report);
    let channels = channel::read(root, report);
    let config = config::read_schema(root, report);
    let mut drafts = read_machines(root, report);
    check::machines(&drafts, report);
    let probes = probe::read_all(root, report);
    check::probes(&probes, &drafts, report);
    config::check_environments(root, &config, report);
    if !config.is_empty() {
        drafts.values_mut().for_each(|draft| config::split(&mut draft.machine));
    }
    let upgrade = upgrade::read_policy(root, report);
    if upgrade.blue_green.is_some() {
        check::second_set(&drafts, report);
    }
    let machines: BTreeMap<_, _> = drafts.into_iter().map(|(name, draft)| (name, draft.machine)).collect();
    let checks = probes.into_iter().map(|(name, draft)| (name, draft.check)).collect();
    let snapshots = snapshot::read_policy(root, report);
    let lease = lease::read(root, report);
    operate::check_reverse(root, fence.as_ref(), &machines, report);
    upgrade::check_twice(root, &upgrade, &machines, report);
    Some(Definition {
        app: app?,
        base: base?,
        machines,
        fence,
        channels,
        checks,
        config,
        snapshots,
        lease,
        upgrade,
    })
}

fn read_fence(field: &Field<'_>, report: &mut Report<'_>) -> Option<Fence> {
    if !field.is_text() {
        // Release numbers are file names in the store, so more than 15 digits would only be a typing error.
        return field.integer(1..=999_999_999_999_999, report).map(Fence::Release);
    }
    match field.text("\"this\"", report)? {
        "this" => Some(Fence::This),
        other => {
            report
                .add(
                    &field.span,
                    format!("`fence` is {}, but must be `\"this\"` or a release's number", quoted(other)),
                )
                .hint("`fence = \"this\"` refuses a rollback below the release made from this definition.");
            None
        }
    }
}

fn read_machines(root: &Table<'_>, report: &mut Report<'_>) -> BTreeMap<MachineName, Draft> {
    let example = "[machine.web]";
    let Some(field) = root.get("machine") else {
        report
            .add(&root.at, "the definition names no machine")
            .hint("Add `[machine.web]` with `middleware = [\"nginx-light\"]` below it.");
        return BTreeMap::new();
    };
    let Some(table) = field.table(example, report) else { return BTreeMap::new() };
    let fields = table.fields();
    if fields.is_empty() {
        report.add(&field.key, "the definition names no machine").hint("Add `[machine.web]`.");
    }
    if fields.len() > MAX_MACHINES {
        report.add(&field.key, format!("{} machines, but at most {MAX_MACHINES} are possible", fields.len()));
        return BTreeMap::new();
    }
    let mut drafts = BTreeMap::new();
    for field in fields {
        let name = field.parsed_name::<MachineName>(report);
        let table = field.table(example, report);
        if let (Some(name), Some(table)) = (name, table) {
            drafts.insert(name, machine::read(&table, report));
        }
    }
    drafts
}

fn read_base(field: Option<&Field<'_>>, report: &mut Report<'_>) -> Option<Base> {
    let default_kernel = "linux-image-cloud-amd64".parse().ok();
    let Some(field) = field else {
        return Some(Base {
            suite: DEFAULT_SUITE.to_owned(),
            mirror: DEFAULT_MIRROR.to_owned(),
            security_mirror: None,
            kernel: default_kernel?,
            components: vec!["main".to_owned()],
            pypi: None,
        });
    };
    let table = field.table("[base]", report)?;
    table.allow(&["components", "kernel", "mirror", "pypi", "security_mirror", "suite"], report);
    let suite = table.get("suite").and_then(|field| read_archive_word(&field, report));
    let mirror = table.get("mirror").and_then(|field| read_mirror(&field, report));
    let security_mirror = table.get("security_mirror").and_then(|field| read_mirror(&field, report));
    let pypi = table.get("pypi").and_then(|field| read_mirror(&field, report));
    let kernel = match table.get("kernel") {
        Some(field) => field.parsed("\"linux-image-cloud-amd64\"", report),
        None => default_kernel,
    };
    let components = match table.get("components") {
        Some(field) => {
            let items = field.list("[\"main\"]", report);
            if items.is_empty() {
                report
                    .add(&field.span, "`components` in `[base]` is empty")
                    .hint("Write `components = [\"main\"]`.");
            }
            items.iter().filter_map(|item| read_archive_word(item, report)).collect()
        }
        None => vec!["main".to_owned()],
    };
    Some(Base {
        suite: suite.unwrap_or_else(|| DEFAULT_SUITE.to_owned()),
        mirror: mirror.unwrap_or_else(|| DEFAULT_MIRROR.to_owned()),
        security_mirror,
        kernel: kernel?,
        components,
        pypi,
    })
}

/// A suite or component: it becomes part of a URL, so only what Debian's are made of.
fn read_archive_word(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text("\"bookworm\"", report)?;
    let is_plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !text.is_empty() && is_plain {
        return Some(text.to_owned());
    }
    report
        .add(&field.span, format!("{}: {} is not made of a-z, 0-9 and `-`", field.what(), quoted(text)))
        .suggest(text, ["bookworm", "trixie", "forky", "main", "contrib", "non-free", "non-free-firmware"]);
    None
}

fn read_mirror(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let text = field.text("\"http://deb.debian.org/debian\"", report)?;
    let rest = ["http://", "https://", "file://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let is_plain = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'"' | b'\\'));
    if rest.is_some_and(|rest| !rest.trim_end_matches('/').is_empty()) && is_plain {
        return Some(text.trim_end_matches('/').to_owned());
    }
    report
        .add(&field.span, format!("{}: {} is not the URL of an archive", field.what(), quoted(text)))
        .hint(format!("Write it like `\"{DEFAULT_MIRROR}\"`."));
    None
}

#[cfg(test)]
mod tests;
