//! A container image as the whole userland of a machine.
//!
//! ```text
//!  digest ─► [list ─►] manifest ─► config ─► service: command, environment, user, folder, stop signal
//!                              └─► layers ─ read, once per layer ever ─ merge ─► tree
//! ```

use std::collections::BTreeMap;
use std::fs;

use plumb_content::oci::{self, Blob, Config, Manifest};
use plumb_fetch::{Part, Piece, Repository};
use plumb_guest_proto::{KillMode, Ready, ServiceSpec, Writable};
use plumb_image::assemble::{AppFile, Assembled};
use plumb_image::deb::Limits;
use plumb_image::layer::{self, Change, Changes, UserlandInput};
use plumb_image::tree::Entry;
use plumb_image::unit;
use plumb_model::definition::{Machine, OciPlace, OciSource, Service};
use plumb_model::{Digest, MachineName, ServiceName};
use rayon::prelude::*;

use crate::Plumb;
use crate::build::Job;
use crate::content::error::ContentError;
use crate::contents::StoreObjects;
use crate::error::{OpsError, io};
use crate::lock::Transfer;
use crate::machine::{self, Specified, specify_with};
use crate::project::{AppFileKind, Project};

/// Kind of the store entries that name what a layer says; the number changes with its form.
const LAYERS: &str = "layer-1";

/// A list may name a list, but nobody does; more is a circle.
const LIST_STEPS: usize = 2;

/// A container image in the store.
pub(crate) struct Container {
    config: Config,
    layers: Vec<Blob>,
}

/// The port that tells when a container without a check of its own is ready: the first one that is published.
pub(crate) fn ready_port(machine: &Machine) -> Option<u16> {
    machine.publish.first().map(|publish| publish.guest_port)
}

fn failed<E>(machine: &MachineName) -> impl Fn(E) -> OpsError + use<'_, E>
where
    E: std::error::Error + Send + Sync + 'static,
{
    |error| OpsError::Content(ContentError::Container { machine: machine.clone(), source: Box::new(error) })
}

impl Plumb<'_> {
    /// Brings the container image of a machine into the store, if it has one.
    pub(crate) fn fetch_container(
        &self,
        project: &Project,
        name: &MachineName,
        machine: &Machine,
    ) -> Result<(), OpsError> {
        let Some(source) = &machine.oci else { return Ok(()) };
        let bring = |pieces: &[Piece]| self.bring(project, name, source, pieces);
        let piece = |part, item: String, blob: &Blob| Piece {
            part,
            item,
            digest: blob.digest,
            size: Some(blob.size),
        };
        let mut manifest = source.digest;
        bring(&[Piece {
            part: Part::Manifest,
            item: format!("manifest of {name}"),
            digest: manifest,
            size: None,
        }])?;
        for _ in 0..LIST_STEPS {
            let bytes = self.store.read_bytes(&manifest, oci::MANIFEST_BYTES)?;
            match Manifest::parse(&bytes).map_err(failed(name))? {
                Manifest::Index(next) => {
                    bring(&[piece(Part::Manifest, format!("manifest of {name}"), &next)])?;
                    manifest = next.digest;
                }
                Manifest::Image { config, layers } => {
                    let label = |number| format!("layer {} of {name}", number + 1);
                    let layers = layers.iter().enumerate().map(|(n, blob)| piece(Part::Blob, label(n), blob));
                    let config = piece(Part::Blob, format!("configuration of {name}"), &config);
                    return bring(&layers.chain([config]).collect::<Vec<_>>());
                }
            }
        }
        Err(OpsError::Content(ContentError::Container {
            machine: name.clone(),
            source: "its list names only lists".into(),
        }))
    }

    /// Every object a container image consists of, all of them in the store.
    pub(crate) fn container_objects(
        &self,
        name: &MachineName,
        source: &OciSource,
    ) -> Result<Vec<Digest>, OpsError> {
        let mut objects = vec![source.digest];
        for _ in 0..=LIST_STEPS {
            let manifest = objects[objects.len() - 1];
            let bytes = self.store.read_bytes(&manifest, oci::MANIFEST_BYTES)?;
            match Manifest::parse(&bytes).map_err(failed(name))? {
                Manifest::Index(next) => objects.push(next.digest),
                Manifest::Image { config, layers } => {
                    objects.extend(layers.iter().chain([&config]).map(|blob| blob.digest));
                    return Ok(objects);
                }
            }
        }
        Err(OpsError::Content(ContentError::Container {
            machine: name.clone(),
            source: "its list names only lists".into(),
        }))
    }

    fn bring(
        &self,
        project: &Project,
        machine: &MachineName,
        source: &OciSource,
        pieces: &[Piece],
    ) -> Result<(), OpsError> {
        let path = match &source.place {
            OciPlace::Registry { host, repository } => {
                let repository = Repository { host: host.clone(), name: repository.clone() };
                let (options, progress) = (self.fetch_options()?, Transfer(self.reporter));
                return Ok(plumb_fetch::fetch_pieces(&self.store, &repository, pieces, &options, &progress)?);
            }
            OciPlace::Layout { path } => project.folder.join(path),
        };
        for piece in pieces {
            let here = self.store.size(&piece.digest)?;
            if here.is_some_and(|size| piece.size.is_none_or(|wanted| wanted == size)) {
                continue;
            }
            // image-layout.md: blobs/<algorithm>/<hex>.
            let blob = path.join("blobs/sha256").join(piece.digest.hex());
            let mut file = fs::File::open(&blob).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    OpsError::NoSource { machine: machine.clone(), path: blob.clone() }
                }
                _ => io("read", &blob)(error),
            })?;
            let (digest, _) = self.store.put_reader(&mut file)?;
            if digest != piece.digest {
                return Err(OpsError::Content(ContentError::WrongBlob {
                    machine: machine.clone(),
                    path: blob,
                }));
            }
        }
        Ok(())
    }

    /// The container image of a machine; it was fetched before.
    pub(crate) fn container(&self, name: &MachineName, source: &OciSource) -> Result<Container, OpsError> {
        let mut manifest = source.digest;
        loop {
            let bytes = self.store.read_bytes(&manifest, oci::MANIFEST_BYTES)?;
            match Manifest::parse(&bytes).map_err(failed(name))? {
                Manifest::Index(next) => manifest = next.digest,
                Manifest::Image { config, layers } => {
                    let bytes = self.store.read_bytes(&config.digest, oci::CONFIG_BYTES)?;
                    return Ok(Container { config: Config::parse(&bytes).map_err(failed(name))?, layers });
                }
            }
        }
    }

    /// Layers, lowest first, each read once ever.
    fn layers(&self, name: &MachineName, container: &Container) -> Result<Vec<Changes>, OpsError> {
        container.layers.par_iter().with_max_len(1).map(|blob| self.layer(name, blob)).collect()
    }

    fn layer(&self, machine: &MachineName, blob: &Blob) -> Result<Changes, OpsError> {
        let key = blob.digest.hex();
        if let Some(known) =
            self.store.entry(LAYERS, &key)?.and_then(|value| self.description::<Changes>(&value))
        {
            let entries = known.changes.iter().filter_map(|change| match change {
                Change::Set(_, entry) => Some(entry),
                _ => None,
            });
            if self.are_whole(entries)? {
                return Ok(known);
            }
        }
        let mut file = self.store.open_object(&blob.digest)?;
        let name = blob.digest.short();
        let changes = layer::read(&mut file, &name, &Limits::default(), &StoreObjects(&self.store))
            .map_err(failed(machine))?;
        let bytes = serde_json::to_vec(&changes).map_err(failed(machine))?;
        let digest = self.store.put_bytes(&bytes)?;
        self.store.remember(LAYERS, &key, digest.to_string().as_bytes())?;
        Ok(changes)
    }

    /// The tree of the machine: the image's layers, and the user's files over them.
    pub(crate) fn container_tree(
        &self,
        name: &MachineName,
        container: &Container,
        app_files: Vec<AppFile>,
        (files, mounts): (&[crate::project::AppFile], Vec<String>),
    ) -> Result<Assembled, OpsError> {
        let tree = layer::merge(&self.layers(name, container)?).map_err(failed(name))?;
        let other = |file: &crate::project::AppFile| match &file.kind {
            AppFileKind::Symlink { target } => Some(Entry::symlink(target.clone())),
            AppFileKind::Directory => Some(Entry::directory(file.mode)),
            AppFileKind::File { .. } => None,
        };
        let others = files.iter().filter_map(|file| Some((file.target.as_str(), other(file)?))).collect();
        let input = UserlandInput { tree, app_files, mounts, others };
        layer::userland(input, &StoreObjects(&self.store)).map_err(failed(name))
    }

    /// What the machine runs: what the image says, and over it what the definition says.
    pub(crate) fn container_spec(
        &self,
        job: &Job<'_>,
        container: &Container,
        assembled: &Assembled,
    ) -> Result<Specified, OpsError> {
        let (app, name, machine) = (&job.lock.app, job.name, job.machine);
        let config = &container.config;
        let described = described(name, machine, config)?;
        let path = config.environment.get("PATH").map_or(unit::PATH, String::as_str);
        let find = |program: &str| {
            // As a shell and runc do: a path with a slash is below the working directory.
            let place = match program.contains('/') && !program.starts_with('/') {
                true => format!("{}/{program}", config.directory.trim_end_matches('/')),
                false => program.to_owned(),
            };
            unit::find_program_in(&assembled.tree, &place, path)
        };
        let objects = StoreObjects(&self.store);
        let mut specified = specify_with((app, name), &described, assembled, &objects, &find)?;
        specified.spec.writable = Writable::Root;
        for service in &mut specified.spec.services {
            let written = machine.services.iter().find(|(name, _)| name.as_str() == service.name);
            as_in_a_container(service, written.map(|(_, service)| service), config, assembled)
                .map_err(failed(name))?;
        }
        let errands = job.errands();
        let mut checks = machine::checks(name, &errands, assembled, &find)?;
        for check in &mut checks {
            let errand = errands.get(&check.name).cloned().unwrap_or_default();
            let (user, environment) = (errand.user, errand.environment);
            let written = Service { exec: Some(String::new()), user, environment, ..empty() };
            as_in_a_container(check, Some(&written), config, assembled).map_err(failed(name))?;
            check.working_directory = errand.directory.unwrap_or_else(|| config.directory.clone());
        }
        specified.spec.checks = checks;
        specified.notices.extend(notices(machine, config));
        Ok(specified)
    }
}

/// The machine with services that say everything; the image's own is called like the machine if none is written.
fn described(name: &MachineName, machine: &Machine, config: &Config) -> Result<Machine, OpsError> {
    let mut machine = machine.clone();
    if machine.services.is_empty()
        && let Ok(own) = name.as_str().parse::<ServiceName>()
    {
        let ready = ready_port(&machine).map(|port| Ready::Tcp { port });
        machine.services.insert(own, Service { ready, ..empty() });
    }
    for (service_name, service) in &mut machine.services {
        if service.exec.is_none() {
            let program = config.command.first().ok_or_else(|| {
                OpsError::Content(ContentError::NoCommand {
                    machine: name.clone(),
                    service: service_name.to_string(),
                })
            })?;
            service.exec = Some(quoted(program));
        }
        service.directory.get_or_insert_with(|| config.directory.clone());
        service.stop_signal = service.stop_signal.or(config.stop_signal);
    }
    Ok(machine)
}

fn empty() -> Service {
    Service {
        from: None,
        exec: None,
        user: None,
        group: None,
        prepare: None,
        environment: BTreeMap::new(),
        settings: BTreeMap::new(),
        directory: None,
        ready: None,
        ready_timeout_ms: None,
        stop_signal: None,
        restart: None,
        after: Vec::new(),
    }
}

/// One word of a command line as systemd.service(5) reads it.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$").replace('%', "%%");
    format!("\"{word}\"")
}

/// What a container runtime does otherwise than systemd.
fn as_in_a_container(
    service: &mut ServiceSpec,
    written: Option<&Service>,
    config: &Config,
    assembled: &Assembled,
) -> Result<(), oci::OciError> {
    if written.is_none_or(|written| written.exec.is_none())
        && let Some(command) = service.start.first_mut()
    {
        // `$` is expanded by PID 1 unless it is doubled; the image's arguments are what they are.
        command.argv.truncate(1);
        command.argv.extend(config.command.iter().skip(1).map(|word| word.replace('$', "$$")));
    }
    let mut home = service.environment.get("HOME").cloned().unwrap_or_else(|| "/".to_owned());
    if written.is_none_or(|written| written.user.is_none()) {
        let identity = identity(config, assembled)?;
        (service.uid, service.gid, service.groups) = (identity.uid, identity.gid, identity.groups);
        home = identity.home;
    }
    let mut environment =
        BTreeMap::from([("HOME".to_owned(), home), ("PATH".to_owned(), unit::PATH.to_owned())]);
    environment.extend(config.environment.clone());
    environment.extend(written.map(|written| written.environment.clone()).unwrap_or_default());
    service.environment = environment;
    // File capabilities and set-uid programs work, and the bounding set is a container's.
    service.no_new_privileges = false;
    service.capability_bounding = unit::ROOT_BOUNDING;
    // Only the main process is asked to stop; what is left of it is killed.
    service.kill_mode = KillMode::Mixed;
    Ok(())
}

fn identity(config: &Config, assembled: &Assembled) -> Result<oci::Identity, oci::OciError> {
    let accounts = &assembled.accounts;
    let line = |(name, user): (&String, &plumb_image::rule::account::User)| oci::User {
        name: name.clone(),
        uid: user.uid,
        gid: user.gid,
        home: user.home.clone(),
    };
    let passwd: Vec<oci::User> = accounts.users.iter().map(line).collect();
    let groups = accounts
        .groups
        .iter()
        .map(|(name, group)| (name.clone(), (group.gid, group.members.iter().cloned().collect())))
        .collect();
    oci::resolve_user(&config.user, &passwd, &groups)
}

fn notices(machine: &Machine, config: &Config) -> Vec<String> {
    let lost = config.volumes.iter().map(|path| {
        format!("the container image keeps data in `{path}`, which is lost when an instance stops")
    });
    let ports: Vec<String> = config.ports.iter().map(ToString::to_string).collect();
    let strange = machine
        .publish
        .iter()
        .filter(|publish| !config.ports.is_empty() && !config.ports.contains(&publish.guest_port));
    let strange = strange.map(|publish| {
        format!(
            "port {} is published, but the container image exposes {}",
            publish.guest_port,
            ports.join(", ")
        )
    });
    lost.chain(strange).collect()
}
