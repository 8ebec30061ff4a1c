//! A folder with a definition, its lock and the user's own files.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use plumb_model::definition::{AppContent, Definition, Init, Machine, Scripts, Source};
use plumb_model::lock::{Lock, LockInputs, MachineInputs};
use plumb_model::{Digest, MachineName};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config;
use crate::error::{OpsError, io};

/// Name of the definition in its folder.
pub const DEFINITION: &str = "plumb.toml";
/// Name of the lock in its folder.
pub const LOCK: &str = "plumb.lock";

/// Longest definition or lock that is read: a thousand times what people write.
const TEXT_LIMIT: u64 = 16 * 1024 * 1024;

/// Most files one machine may take from the user's folder: beyond that somebody pointed at the wrong folder.
const FILE_LIMIT: usize = 200_000;

/// A definition that was read and found good.
#[derive(Debug)]
pub struct Project {
    /// Its folder.
    pub folder: PathBuf,
    /// The definition's text.
    pub text: String,
    /// The definition.
    pub definition: Definition,
    /// Where the lock lies, if not beside the definition.
    lock_elsewhere: Option<PathBuf>,
}

/// One file, folder or link of the user, for a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFile {
    /// Number of the entry of `app` that it comes from; of two files with one target, the later entry's stays.
    #[serde(skip)]
    pub content: usize,
    /// Absolute path in the machine.
    pub target: String,
    /// What it is.
    pub kind: AppFileKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner by name; root if absent.
    pub owner: Option<String>,
    /// Group by name; root if absent.
    pub group: Option<String>,
}

/// What a file of the user is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppFileKind {
    /// A regular file, to be read from `source`.
    File {
        /// Where it lies, or `None` for an object of the store; not part of what is hashed.
        #[serde(skip)]
        source: Option<PathBuf>,
        /// Its contents.
        digest: Digest,
        /// Bytes.
        size: u64,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink {
        /// As written.
        target: String,
    },
}

impl Project {
    /// Reads and checks the definition in `folder`.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn load(folder: &Path) -> Result<Self, OpsError> {
        let path = folder.join(DEFINITION);
        let text = match read_text(&path) {
            Err(OpsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(OpsError::NoDefinition { folder: folder.to_owned() });
            }
            other => other?,
        };
        let definition =
            Definition::parse(&text, &path.display().to_string()).map_err(OpsError::Definition)?;
        Ok(Project { text, ..Project::new(folder.to_owned(), definition) })
    }

    /// One that is in no file.
    pub(crate) fn new(folder: PathBuf, definition: Definition) -> Self {
        Project { folder, text: String::new(), definition, lock_elsewhere: None }
    }

    /// The same with another lock, which is only read.
    pub(crate) fn with_lock(self, path: PathBuf) -> Self {
        Project { lock_elsewhere: Some(path), ..self }
    }

    /// Where the lock lies.
    #[must_use]
    pub fn lock_path(&self) -> PathBuf {
        self.lock_elsewhere.clone().unwrap_or_else(|| self.folder.join(LOCK))
    }

    /// The lock, if there is one.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn lock(&self) -> Result<Option<Lock>, OpsError> {
        let path = self.lock_path();
        let text = match read_text(&path) {
            Err(OpsError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        Lock::parse(&text).map(Some).map_err(|source| OpsError::Lock { path, source })
    }

    /// What the lock depends on.
    #[must_use]
    pub fn lock_inputs(&self) -> LockInputs {
        let base = &self.definition.base;
        let mut archive = vec![base.mirror.clone(), base.suite.clone()];
        archive.extend(base.security_mirror.clone());
        archive.extend(base.components.iter().cloned());
        archive.extend(base.pypi.clone());
        let machines = self.definition.machines.iter().map(|(name, machine)| {
            let mut os = machine.os.clone();
            if !machine.volumes.is_empty() {
                // PID 1 formats, checks and grows volumes with the file system's own tools.
                os.push("e2fsprogs".to_owned());
            }
            let runs_systemd = machine.init == Init::Systemd;
            if runs_systemd {
                os.push("systemd".to_owned());
            }
            let inputs = MachineInputs {
                middleware: machine.middleware.clone(),
                os,
                without: machine.without.clone(),
                requirements: self.requirements(machine),
                runs_scripts: machine.scripts == Scripts::Run,
                runs_systemd,
            };
            (name.clone(), inputs)
        });
        LockInputs {
            app: self.definition.app.clone(),
            archive,
            kernel: base.kernel.clone(),
            machines: machines.collect(),
        }
    }

    /// Python requirements of a machine by target. A file that cannot be read is told by who needs it.
    fn requirements(&self, machine: &Machine) -> Vec<(String, Digest)> {
        let digest = |path: &str| {
            let text = read_text(&self.folder.join(path)).unwrap_or_default();
            Digest::of(text.as_bytes())
        };
        let requirements = machine.app.iter().filter_map(|content| match &content.source {
            Source::Pip(source) => Some((content.target.clone(), digest(&source.requirements))),
            _ => None,
        });
        requirements.collect()
    }

    /// A text file of the user's; `path` is from the definition's folder.
    pub(crate) fn text_file(&self, path: &str) -> Result<String, OpsError> {
        read_text(&self.folder.join(path))
    }

    /// The user's files for one machine, in order of their targets.
    ///
    /// # Errors
    /// [`OpsError`].
    pub fn app_files(&self, machine: &MachineName) -> Result<Vec<AppFile>, OpsError> {
        let Some(definition) = self.definition.machines.get(machine) else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        for (number, content) in definition.app.iter().enumerate() {
            let (source, left_out) = match &content.source {
                Source::Path(source) => (source, &[".git"][..]),
                // What npm put there is for this host; what the lock names is put there anew.
                Source::Npm(source) => (&source.folder, &[".git", "node_modules"][..]),
                Source::Url(_) | Source::Pip(_) => continue,
            };
            let found = self.collect((source, left_out), content, machine)?;
            files.extend(found.into_iter().map(|file| AppFile { content: number, ..file }));
        }
        files.extend(config::files(self, machine, &definition.config, definition.app.len())?);
        files.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(files)
    }

    fn collect(
        &self,
        (source, left_out): (&str, &[&str]),
        content: &AppContent,
        machine: &MachineName,
    ) -> Result<Vec<AppFile>, OpsError> {
        let start = self.folder.join(source);
        let target = content.target.trim_end_matches('/').to_owned();
        let mut files = Vec::new();
        let mut left = vec![(start, target)];
        while let Some((path, target)) = left.pop() {
            if files.len() >= FILE_LIMIT {
                return Err(OpsError::TooManyFiles { machine: machine.clone(), limit: FILE_LIMIT });
            }
            let metadata = fs::symlink_metadata(&path).map_err(|source| match source.kind() {
                std::io::ErrorKind::NotFound => {
                    OpsError::NoSource { machine: machine.clone(), path: path.clone() }
                }
                _ => OpsError::Io { action: "read", path: path.clone(), source },
            })?;
            if metadata.is_dir() {
                for entry in fs::read_dir(&path).map_err(io("read", &path))? {
                    let entry = entry.map_err(io("read", &path))?;
                    let name = entry.file_name();
                    let name = name.to_str().ok_or_else(|| OpsError::NotUtf8 { path: entry.path() })?;
                    if !left_out.contains(&name) {
                        left.push((entry.path(), format!("{target}/{name}")));
                    }
                }
            }
            files.push(app_file(content, &path, target, &metadata)?);
        }
        Ok(files)
    }
}

/// Ownership and permission bits of the user's checkout do not reach the image, except "may be executed": they differ
/// between machines and between people.
fn app_file(
    content: &AppContent,
    path: &Path,
    target: String,
    metadata: &fs::Metadata,
) -> Result<AppFile, OpsError> {
    let executable = metadata.permissions().mode() & 0o100 != 0;
    let (kind, mode) = if metadata.is_dir() {
        (AppFileKind::Directory, 0o755)
    } else if metadata.is_symlink() {
        let link = fs::read_link(path).map_err(io("read", path))?;
        let target = link.to_str().ok_or_else(|| OpsError::NotUtf8 { path: path.to_owned() })?;
        (AppFileKind::Symlink { target: target.to_owned() }, 0o777)
    } else if metadata.is_file() {
        let mut file = fs::File::open(path).map_err(io("read", path))?;
        let (digest, size) = digest_of(&mut file).map_err(io("read", path))?;
        let mode = content.mode.unwrap_or(if executable { 0o755 } else { 0o644 });
        (AppFileKind::File { source: Some(path.to_owned()), digest, size }, mode)
    } else {
        return Err(OpsError::NotAFile { path: path.to_owned() });
    };
    Ok(AppFile { content: 0, target, kind, mode, owner: content.owner.clone(), group: content.group.clone() })
}

pub(crate) fn read_text(path: &Path) -> Result<String, OpsError> {
    let file = fs::File::open(path).map_err(io("read", path))?;
    let mut bytes = Vec::new();
    file.take(TEXT_LIMIT + 1).read_to_end(&mut bytes).map_err(io("read", path))?;
    if bytes.len() as u64 > TEXT_LIMIT {
        return Err(OpsError::TooLarge { path: path.to_owned(), limit_bytes: TEXT_LIMIT });
    }
    String::from_utf8(bytes).map_err(|_| OpsError::NotUtf8 { path: path.to_owned() })
}

/// Digest and length of everything `reader` gives.
pub(crate) fn digest_of(reader: &mut dyn Read) -> std::io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        let count = reader.read(&mut buffer)?;
        if count == 0 {
            return Ok((Digest::from_bytes(hasher.finalize().into()), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}
