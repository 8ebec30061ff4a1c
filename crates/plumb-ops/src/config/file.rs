//! Configuration in images: templates, links to where they are filled in, and what the guest is told about both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use plumb_guest_proto::{
    CONFIG_PATH, ConfigFile, MachineSpec, SETTINGS_PATH, ServiceSettings, TEMPLATE_PATH,
};
use plumb_image::assemble::Assembled;
use plumb_model::MachineName;
use plumb_model::config::ConfigName;
use plumb_model::definition::{ConfigTemplate, check_template, has_secret, secret_files};
use plumb_store::Store;

use crate::build::Job;
use crate::error::{OpsError, io};
use crate::project::{AppFile, AppFileKind, DEFINITION, Project, digest_of};

/// Largest template: what the guest reads at once.
const MAX_TEMPLATE_BYTES: u64 = 1024 * 1024;

/// The templates of a machine and the links at their places. `first` is the number of the first of them among the user's
/// content.
pub(crate) fn files(
    project: &Project,
    machine: &MachineName,
    templates: &[ConfigTemplate],
    first: usize,
) -> Result<Vec<AppFile>, OpsError> {
    let mut files = Vec::new();
    for (number, template) in templates.iter().enumerate() {
        let path = project.folder.join(&template.source);
        let metadata = fs::metadata(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                OpsError::NoSource { machine: machine.clone(), path: path.clone() }
            }
            _ => OpsError::Io { action: "read", path: path.clone(), source },
        })?;
        if !metadata.is_file() {
            return Err(OpsError::NotAFile { path });
        }
        let mut file = fs::File::open(&path).map_err(io("read", &path))?;
        let (digest, size) = digest_of(&mut file).map_err(io("read", &path))?;
        let of_root = |target: String, kind, mode| AppFile {
            content: first + number,
            target,
            kind,
            mode,
            owner: None,
            group: None,
        };
        let kind = AppFileKind::File { source: Some(path), digest, size };
        files.push(of_root(format!("{TEMPLATE_PATH}{}", template.target), kind, 0o444));
        let link = AppFileKind::Symlink { target: format!("{CONFIG_PATH}{}", template.target) };
        files.push(of_root(template.target.clone(), link, 0o777));
    }
    Ok(files)
}

/// What every machine refers to, in environments and templates.
///
/// # Errors
/// [`OpsError::Definition`] if a template names what is not there, or something in `[config]` is named by nothing.
pub(crate) fn used(project: &Project) -> Result<BTreeMap<MachineName, BTreeSet<ConfigName>>, OpsError> {
    let definition = &project.definition;
    let mut all = BTreeMap::new();
    for (name, machine) in &definition.machines {
        let mut names = machine.environment_names();
        for template in &machine.config {
            let text = project.text_file(&template.source)?;
            let path = project.folder.join(&template.source);
            if text.len() as u64 > MAX_TEMPLATE_BYTES {
                return Err(OpsError::TooLarge { path, limit_bytes: MAX_TEMPLATE_BYTES });
            }
            let path = path.display().to_string();
            names.extend(check_template(&text, &path, &definition.config).map_err(OpsError::Definition)?);
        }
        all.insert(name.clone(), names);
    }
    let used: BTreeSet<ConfigName> = all.values().flatten().cloned().collect();
    let path = project.folder.join(DEFINITION).display().to_string();
    definition.refuse_unused((&project.text, &path), &used).map_err(OpsError::Definition)?;
    Ok(all)
}

/// Tells the guest what it fills in.
pub(crate) fn add_specs(
    spec: &mut MachineSpec,
    job: &Job<'_>,
    assembled: &Assembled,
    store: &Store,
) -> Result<(), OpsError> {
    for template in &job.machine.config {
        let no_account = |account: &str| OpsError::NoAccount {
            machine: job.name.clone(),
            what: format!("configuration `{}`", template.target),
            account: account.to_owned(),
        };
        let user = template.owner.as_deref().unwrap_or("root");
        let user = assembled.accounts.users.get(user).ok_or_else(|| no_account(user))?;
        let gid = match template.group.as_deref() {
            Some(group) => assembled.accounts.groups.get(group).ok_or_else(|| no_account(group))?.gid,
            None => user.gid,
        };
        let mode = match template.mode {
            Some(mode) => mode,
            None if has_secret(&kept_text(store, &job.files, template)?) => 0o400,
            None => 0o444,
        };
        spec.config.push(ConfigFile { path: template.target.clone(), mode, uid: user.uid, gid });
    }
    for (name, settings) in settings(job) {
        let mut runs = spec.services.iter_mut().chain(&mut spec.checks);
        if let Some(service) = runs.find(|service| service.name == name) {
            service.environment_files.push((format!("{SETTINGS_PATH}/{name}.env"), false));
        }
        spec.settings.insert(name, settings);
    }
    Ok(())
}

/// The text of a template, which is an object of the store by now, as it is when an image is built again.
fn kept_text(store: &Store, files: &[AppFile], template: &ConfigTemplate) -> Result<String, OpsError> {
    let target = format!("{TEMPLATE_PATH}{}", template.target);
    let found = files.iter().find_map(|file| match &file.kind {
        AppFileKind::File { digest, .. } if file.target == target => Some(*digest),
        _ => None,
    });
    let Some(digest) = found else { return Ok(String::new()) };
    let bytes = store.read_bytes(&digest, MAX_TEMPLATE_BYTES)?;
    String::from_utf8(bytes).map_err(|_| OpsError::NotUtf8 { path: target.into() })
}

/// Services and tasks whose environment refers to configuration.
fn settings(job: &Job<'_>) -> Vec<(String, ServiceSettings)> {
    let services =
        job.machine.services.iter().map(|(name, service)| (name.to_string(), service.settings.clone()));
    let errands = job.errands().into_iter().map(|(name, errand)| (name, errand.settings));
    let referring = services.chain(errands).filter(|(_, environment)| !environment.is_empty());
    referring
        .map(|(name, environment)| {
            let secret_files = secret_files(&environment).into_iter().collect();
            (name, ServiceSettings { environment, secret_files })
        })
        .collect()
}

/// What systemd reads for a service: the environment that the guest wrote. Which secrets are set is known at boot, and
/// said then.
pub(crate) fn drop_in(service: &str) -> String {
    format!(
        "# Written by Plumb from the definition.\n[Service]\nEnvironmentFile={SETTINGS_PATH}/{service}.env\n"
    )
}
