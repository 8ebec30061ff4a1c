//! What the deployment has set, brought to the services: filled-in files, environments, and files of secrets.
//!
//! ```text
//!  initramfs /plumb/secret/NAME ─► memory ─┐   /run/plumb/config/PATH        filled-in files; the image links there
//!  instance spec: values ──────────────────┼─► /run/plumb/settings/X.env     environment of service X, for PID 1 only
//!  image: templates, machine spec ─────────┘   /run/plumb/secrets/X/NAME     for service X's user only
//! ```
//! All of it lies in ramfs, which is never written to a disk. With systemd the secrets are `/run/plumb/secrets/NAME`, from
//! where units load them as credentials (systemd.exec(5) `LoadCredential=`). Which ones is said at boot, in
//! `/run/systemd/system/UNIT.d`, and not in the image: a unit that is to load what is not there does not start.

use std::collections::BTreeMap;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Component, Path};

use plumb_guest_proto::template::{self, Reference};
use plumb_guest_proto::{
    CONFIG_PATH, ConfigFile, Init, MACHINE_SPEC_PATH, MAX_SECRET_BYTES, MachineSpec, SECRET_PATH,
    SECRETS_PATH, SETTINGS_PATH, ServiceSettings, TEMPLATE_PATH,
};
use rustix::mount::MountFlags;

use crate::error::Error;
use crate::service::is_safe_name;
use crate::{file, limit, mount};

/// Files in memory only: what is in ramfs is never swapped.
const PRIVATE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Where systemd looks for what is said about units at boot, systemd.unit(5).
const UNITS_PATH: &str = "/run/systemd/system";

/// Secrets by name.
pub type Secrets = BTreeMap<String, Vec<u8>>;

/// What this boot was told.
struct Told<'t> {
    values: &'t BTreeMap<String, String>,
    secrets: &'t Secrets,
}

/// Takes the secrets out of the initramfs: they are in memory of PID 1 afterwards, and nowhere else.
///
/// # Errors
/// [`Error::File`].
pub fn take_secrets() -> Result<Secrets, Error> {
    let failed = |action| Error::file(action, SECRET_PATH);
    let entries = match std::fs::read_dir(SECRET_PATH) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Secrets::new()),
        other => other.map_err(failed("read"))?,
    };
    let mut secrets = Secrets::new();
    for entry in entries {
        let path = entry.map_err(failed("read"))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let shown = path.display().to_string();
        let bytes =
            file::read_bounded(&path, MAX_SECRET_BYTES as u64).map_err(Error::file("read", shown.clone()))?;
        std::fs::remove_file(&path).map_err(Error::file("remove", shown))?;
        secrets.insert(name, bytes);
    }
    std::fs::remove_dir(SECRET_PATH).map_err(failed("remove"))?;
    Ok(secrets)
}

/// Brings all of it to where the services look for it.
///
/// # Errors
/// [`Error::Mount`], [`Error::File`], [`Error::Contradiction`].
pub fn apply(
    machine: &MachineSpec,
    values: &BTreeMap<String, String>,
    secrets: &Secrets,
) -> Result<(), Error> {
    if machine.config.is_empty() && machine.settings.is_empty() {
        return Ok(());
    }
    let told = Told { values, secrets };
    for (folder, mode) in
        [(CONFIG_PATH, "mode=0755"), (SETTINGS_PATH, "mode=0700"), (SECRETS_PATH, "mode=0711")]
    {
        file::make_directory(folder)?;
        mount::file_system("ramfs", "ramfs", folder, PRIVATE, mode)?;
    }
    for config in &machine.config {
        fill_file(config, &told)?;
    }
    for (service, settings) in &machine.settings {
        let place = Place::of(machine, service);
        let text = environment(settings, &told, &place.shown).map_err(contradiction(service))?;
        write(&format!("{SETTINGS_PATH}/{service}.env"), text.as_bytes(), (0, 0, 0o600))?;
        place.put(settings, &told)?;
    }
    Ok(())
}

fn contradiction(service: &str) -> impl Fn(String) -> Error {
    move |problem| Error::Contradiction {
        path: MACHINE_SPEC_PATH,
        problem: format!("service `{service}` {problem}"),
    }
}

/// Where a service finds its secrets.
struct Place {
    /// The folder that it is told.
    shown: String,
    /// The folder that is written.
    folder: String,
    /// Owner of folder and files; nobody but root if systemd hands them out.
    owner: Option<(u32, u32)>,
    /// What tells systemd to hand them out.
    drop_in: Option<String>,
}

impl Place {
    fn of(machine: &MachineSpec, service: &str) -> Place {
        if let Init::Systemd(units) = &machine.init {
            let unit = units.iter().find(|unit| unit.name == service);
            let unit = unit.map_or_else(|| format!("{service}.service"), |unit| unit.unit.clone());
            return Place {
                shown: format!("/run/credentials/{unit}"),
                folder: SECRETS_PATH.to_owned(),
                owner: None,
                drop_in: Some(format!("{UNITS_PATH}/{unit}.d/60-plumb-{service}.conf")),
            };
        }
        let folder = format!("{SECRETS_PATH}/{service}");
        let spec = machine.services.iter().chain(&machine.checks).find(|spec| spec.name == service);
        let owner = spec.map(|spec| (spec.uid, spec.gid));
        Place { shown: folder.clone(), folder, owner, drop_in: None }
    }

    fn put(&self, settings: &ServiceSettings, told: &Told<'_>) -> Result<(), Error> {
        let (uid, gid) = self.owner.unwrap_or((0, 0));
        if self.owner.is_some() && !settings.secret_files.is_empty() {
            file::make_directory(&self.folder)?;
            own(&self.folder, (uid, gid, 0o500))?;
        }
        for name in &settings.secret_files {
            let Some(secret) = told.secrets.get(name) else { continue };
            let path = format!("{}/{name}", self.folder);
            // Two units may load the same one.
            if self.owner.is_some() || !Path::new(&path).exists() {
                write(&path, secret, (uid, gid, 0o400))?;
            }
        }
        match &self.drop_in {
            Some(path) => self.load_credentials(path, settings, told),
            None => Ok(()),
        }
    }

    /// Has systemd hand out those that are set.
    fn load_credentials(&self, path: &str, settings: &ServiceSettings, told: &Told<'_>) -> Result<(), Error> {
        let set = settings.secret_files.iter().filter(|name| told.secrets.contains_key(*name));
        let lines: String =
            set.map(|name| format!("LoadCredential={name}:{}/{name}\n", self.folder)).collect();
        if lines.is_empty() {
            return Ok(());
        }
        if let Some(folder) = Path::new(path).parent() {
            std::fs::create_dir_all(folder).map_err(Error::file("make", folder.display().to_string()))?;
        }
        write(path, format!("[Service]\n{lines}").as_bytes(), (0, 0, 0o644))
    }
}

/// The assignments of `EnvironmentFile=`, systemd.exec(5). A variable that refers to something that is not set is left out.
fn environment(settings: &ServiceSettings, told: &Told<'_>, folder: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut assign = |name: &str, value: &str| {
        text.push_str(name);
        text.push_str("=\"");
        for c in value.chars() {
            if matches!(c, '"' | '\\' | '$' | '`') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push_str("\"\n");
    };
    for (name, template) in &settings.environment {
        if let Some(value) = told.fill(template, Some(folder))? {
            assign(name, &value);
        }
    }
    if !settings.secret_files.is_empty() {
        assign("CREDENTIALS_DIRECTORY", folder);
    }
    Ok(text)
}

impl Told<'_> {
    /// The text, or nothing if something that it refers to is not set. `folder`: where the secrets of the service are.
    fn fill(&self, template: &str, folder: Option<&str>) -> Result<Option<String>, String> {
        let problem = std::cell::RefCell::new(None);
        let filled = template::fill(template, &|reference| match self.value(reference, folder) {
            Ok(value) => value,
            Err(text) => {
                problem.replace(Some(text));
                None
            }
        });
        match (problem.into_inner(), filled) {
            (Some(problem), _) => Err(problem),
            (None, filled) => Ok(filled.ok()),
        }
    }

    fn value(&self, reference: &Reference<'_>, folder: Option<&str>) -> Result<Option<String>, String> {
        let Reference { kind, name, .. } = *reference;
        match (kind, folder) {
            (template::CONFIG, _) => Ok(self.values.get(name).cloned()),
            (template::SECRET, _) => {
                match self.secrets.get(name).map(|secret| String::from_utf8(secret.clone())) {
                    Some(Err(_)) => Err(format!("refers to the secret `{name}` as text, and it is none")),
                    Some(Ok(text)) => Ok(Some(text)),
                    None => Ok(None),
                }
            }
            (template::SECRET_FILE, Some(folder)) => {
                Ok(self.secrets.contains_key(name).then(|| format!("{folder}/{name}")))
            }
            _ => Err(format!("refers to `{{{kind}.{name}}}`")),
        }
    }

    /// As [`Told::fill`] for a file, where what is not set is nothing.
    fn fill_file(&self, template: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(template.len());
        for part in template::parts(template) {
            match part {
                template::Part::Text(text) => filled.push_str(text),
                template::Part::Reference(reference) => {
                    filled.push_str(&self.value(&reference, None)?.unwrap_or_default());
                }
            }
        }
        Ok(filled)
    }
}

fn fill_file(config: &ConfigFile, told: &Told<'_>) -> Result<(), Error> {
    let source = format!("{TEMPLATE_PATH}{}", config.path);
    let bytes = file::read_bounded(Path::new(&source), limit::DOCUMENT_BYTES)
        .map_err(Error::file("read", source.clone()))?;
    let failed = |problem| Error::Contradiction { path: MACHINE_SPEC_PATH, problem };
    let template =
        String::from_utf8(bytes).map_err(|_| failed(format!("template `{source}` is not text")))?;
    let text =
        told.fill_file(&template).map_err(|problem| failed(format!("template `{source}` {problem}")))?;
    let target = format!("{CONFIG_PATH}{}", config.path);
    if let Some(folder) = Path::new(&target).parent() {
        std::fs::create_dir_all(folder).map_err(Error::file("make", folder.display().to_string()))?;
    }
    write(&target, text.as_bytes(), (config.uid, config.gid, config.mode))
}

/// A new file that nobody else could ever read.
fn write(path: &str, bytes: &[u8], (uid, gid, mode): (u32, u32, u32)) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(path).map_err(Error::file("make", path))?;
    file.write_all(bytes).map_err(Error::file("write", path))?;
    own(path, (uid, gid, mode))
}

fn own(path: &str, (uid, gid, mode): (u32, u32, u32)) -> Result<(), Error> {
    // A change of owner clears set-id bits, so the mode comes after it.
    chown(path, Some(uid), Some(gid)).map_err(Error::file("give away", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::file("open", path))
}

/// Checks what the types cannot say.
///
/// # Errors
/// What is wrong, naming the object.
pub fn check(machine: &MachineSpec) -> Result<(), String> {
    for config in &machine.config {
        let mut components = Path::new(&config.path).components();
        let is_plain = components.next() == Some(Component::RootDir)
            && components.clone().next().is_some()
            && components.all(|component| matches!(component, Component::Normal(_)));
        if !is_plain || config.mode > 0o7777 {
            return Err(format!(
                "file of configuration `{}`, mode {:o}",
                config.path.escape_debug(),
                config.mode
            ));
        }
    }
    for (service, settings) in &machine.settings {
        if let Some(name) =
            [service].into_iter().chain(&settings.secret_files).find(|name| !is_file_name(name))
        {
            return Err(format!("`{}` in the settings of a service is not a name", name.escape_debug()));
        }
    }
    Ok(())
}

/// Names of settings have `_`, which names of services do not.
fn is_file_name(name: &str) -> bool {
    is_safe_name(&name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> (BTreeMap<String, String>, Secrets) {
        let values =
            [("level".to_owned(), "a\"b\\c$d`e\nf".to_owned()), ("port".to_owned(), "80".to_owned())];
        (values.into(), [("pw".to_owned(), b"hush".to_vec()), ("bin".to_owned(), vec![0xff])].into())
    }

    fn settings(variables: &[(&str, &str)]) -> ServiceSettings {
        ServiceSettings {
            environment: variables
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
            secret_files: vec!["pw".to_owned()],
        }
    }

    #[test]
    fn environments() {
        let (values, secrets) = told();
        let told = Told { values: &values, secrets: &secrets };
        let given = settings(&[
            ("FILE", "{secret-file.pw}"),
            ("LEVEL", "{config.level}"),
            ("NONE", "x{config.none}"),
            ("URL", "http://h:{config.port}/{secret.pw}"),
        ]);
        let text = environment(&given, &told, "/s").expect("text");
        let read = crate::service::read_environment(&text);
        let read: Vec<(&str, &str)> =
            read.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            read,
            [
                ("FILE", "/s/pw"),
                ("LEVEL", "a\"b\\c$d`e\nf"),
                ("URL", "http://h:80/hush"),
                ("CREDENTIALS_DIRECTORY", "/s")
            ]
        );
        for bad in ["{secret.bin}", "{other.x}"] {
            assert!(environment(&settings(&[("A", bad)]), &told, "/s").is_err(), "{bad}");
        }
    }

    #[test]
    fn files() {
        let (values, secrets) = told();
        let told = Told { values: &values, secrets: &secrets };
        let filled = told.fill_file("listen {config.port}; { x {config.none}} {secret.pw}").expect("text");
        assert_eq!(filled, "listen 80; { x } hush");
        assert!(told.fill_file("{secret-file.pw}").is_err());
    }
}
