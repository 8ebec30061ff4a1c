//! Why something is in an image: the chain from the definition to it.

use plumb_debian::PackageName;
use plumb_image::inventory::Inventory;
use plumb_image::rule::{self, drop, script_only};
use plumb_image::tree::Kind;
use plumb_image::usage;
use plumb_model::MachineName;
use plumb_model::image::Image;
use plumb_resolve::{Dependencies, Link, RootRequest};
use serde::{Deserialize, Serialize};

use crate::Plumb;
use crate::contents::StoreObjects;
use crate::deploy::Start;
use crate::error::OpsError;
use crate::subject::roots;

/// Why one thing is in one machine, or is not.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    /// Machine.
    pub machine: MachineName,
    /// Package, file, or kernel module.
    pub what: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: WhyKind,
    /// The shortest way from the definition to it: each line is needed by the one before.
    pub chain: Vec<WhyLink>,
    /// Everything else that needs the last package of the chain.
    pub also: Vec<WhyLink>,
    /// Files of other packages that use it.
    pub used_by: Vec<WhyUse>,
}

/// What a thing of an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum WhyKind {
    /// A package.
    Package {
        /// Version.
        version: String,
        /// Layer.
        layer: String,
        /// Files of the image.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A path that a package brings.
    File {
        /// The real path, links followed.
        path: String,
        /// Bytes.
        bytes: u64,
        /// The package.
        package: String,
    },
    /// A path that a rule made.
    Made {
        /// The rule.
        rule: String,
        /// What it is for.
        purpose: String,
    },
    /// A path of the user's.
    App,
    /// A kernel module of the initramfs.
    Module {
        /// Bytes.
        bytes: u64,
    },
    /// The package of the kernel.
    Kernel {
        /// Kernel release.
        release: String,
    },
    /// Not in the image: the definition leaves the package out.
    Without,
    /// Not in the image: a rule leaves it out.
    Dropped {
        /// The rule.
        rule: String,
        /// Why.
        reason: String,
    },
}

/// One step of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyLink {
    /// Who needs: a line of the definition, a package or a module.
    pub by: String,
    /// By which relation.
    pub relation: String,
    /// What answers it.
    pub answer: String,
}

/// A file that uses another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhyUse {
    /// The file that uses.
    pub by: String,
    /// How.
    pub how: usage::How,
    /// The file that is used.
    pub path: String,
}

impl From<Link> for WhyLink {
    fn from(link: Link) -> Self {
        WhyLink { by: link.requirer.to_string(), relation: link.relation, answer: link.package.to_string() }
    }
}

/// What answers are read from, of one machine.
struct Scene<'a> {
    machine: &'a MachineName,
    image: &'a Image,
    inventory: Inventory,
    roots: Vec<RootRequest>,
    dependencies: Dependencies,
}

impl Plumb<'_> {
    /// Why `what` (a package, an absolute path, or a kernel module) is in the machines of a release or folder, or why it
    /// is not. One answer per machine that has something to say.
    ///
    /// # Errors
    /// [`OpsError::NotInside`] if nothing has.
    pub fn why(
        &self,
        start: &Start,
        machine: Option<&MachineName>,
        what: &str,
    ) -> Result<Vec<Why>, OpsError> {
        let subject = self.subject(start)?;
        if let Some(machine) = machine.filter(|machine| !subject.images.contains_key(*machine)) {
            return Err(OpsError::NoMachine {
                subject: subject.name,
                machine: machine.clone(),
                known: subject.images.keys().map(ToString::to_string).collect(),
            });
        }
        let mut answers = Vec::new();
        for (name, (_, image)) in &subject.images {
            if machine.is_some_and(|wanted| wanted != name) {
                continue;
            }
            let inventory = self.inventory(name, image)?;
            self.carve(name, (image, &inventory), &|_| true)?;
            let dependencies = self.dependencies(name, &inventory)?;
            let roots = subject.definition.machines.get(name).map(roots).unwrap_or_default();
            let scene = Scene { machine: name, image, inventory, roots, dependencies };
            let mut answer = scene.answer(what);
            if let Some(answer) = &mut answer {
                answer.used_by = self.users(&scene, answer)?;
            }
            answers.extend(answer);
        }
        let leads = answers.iter().any(|why| !matches!(why.kind, WhyKind::Dropped { .. } | WhyKind::Without));
        if leads {
            answers.retain(|why| !matches!(why.kind, WhyKind::Dropped { .. }));
        }
        if answers.is_empty() {
            return Err(OpsError::NotInside { subject: subject.name, what: what.to_owned() });
        }
        Ok(answers)
    }

    /// Files of other packages that use the thing.
    fn users(&self, scene: &Scene<'_>, why: &Why) -> Result<Vec<WhyUse>, OpsError> {
        let source = |path: &str| scene.inventory.entries.get(path).map(|(_, origin)| origin.source.as_str());
        let is_it = |path: &str| match &why.kind {
            WhyKind::Package { .. } => source(path) == Some(&why.what),
            WhyKind::File { path: real, .. } => path == real,
            WhyKind::Made { .. } => path == why.what,
            _ => false,
        };
        if !scene.inventory.entries.keys().any(|path| is_it(path)) {
            return Ok(Vec::new());
        }
        let failed = |source: std::io::Error| OpsError::Build {
            machine: scene.machine.clone(),
            source: Box::new(source),
        };
        let uses = usage::uses(&scene.inventory.tree(), &StoreObjects(&self.store)).map_err(failed)?;
        let found = uses.into_iter().filter(|one| is_it(&one.path));
        Ok(found.map(|one| WhyUse { by: one.by, how: one.how, path: one.path }).collect())
    }
}

impl Scene<'_> {
    fn answer(&self, what: &str) -> Option<Why> {
        if what.starts_with('/') {
            return self.path(what);
        }
        // Names of modules have underscores, which no package has.
        let Ok(name) = what.parse::<PackageName>() else { return self.module(what) };
        if let Some(package) = self.image.packages.get(&name) {
            let mine = self.inventory.entries.values().filter(|(_, origin)| origin.source == what);
            let sizes: Vec<u64> = mine
                .filter_map(|(entry, _)| match entry.kind {
                    Kind::File { size, .. } => Some(size),
                    _ => None,
                })
                .collect();
            let kind = WhyKind::Package {
                version: package.version.to_string(),
                layer: package.layer.clone(),
                files: sizes.len() as u64,
                bytes: sizes.iter().sum(),
            };
            return Some(self.with_chain(what, kind, &name));
        }
        if self.image.left_out.contains(&name) {
            let reason = script_only::reason(what).unwrap_or_default().to_owned();
            return Some(self.plain(what, WhyKind::Dropped { rule: "script-only".to_owned(), reason }));
        }
        if self.image.without.contains(&name) {
            return Some(self.plain(what, WhyKind::Without));
        }
        if what.strip_prefix("linux-image-").is_some_and(|rest| rest.starts_with(&self.image.kernel_release))
        {
            let kind = WhyKind::Kernel { release: self.image.kernel_release.clone() };
            return Some(self.plain(what, kind));
        }
        self.module(what)
    }

    fn path(&self, what: &str) -> Option<Why> {
        let Some(path) = self.inventory.tree().resolve(what) else {
            let module = what.strip_prefix("/plumb/modules/").and_then(|name| name.strip_suffix(".ko"));
            if let Some(why) = module.and_then(|name| self.module(name)) {
                return Some(why);
            }
            let (rule, reason) = drop::rule_of(what, self.inventory.init())?;
            let kind = WhyKind::Dropped { rule: rule.to_owned(), reason: reason.to_owned() };
            return Some(self.plain(what, kind));
        };
        let (entry, origin) = self.inventory.entries.get(&path)?;
        if let Some(rule) = origin.source.strip_prefix("rule:") {
            let purpose = rule::purpose(rule).unwrap_or_default().to_owned();
            return Some(self.plain(&path, WhyKind::Made { rule: rule.to_owned(), purpose }));
        }
        let Ok(package) = origin.source.parse::<PackageName>() else {
            return Some(self.plain(what, WhyKind::App));
        };
        if !self.image.packages.contains_key(&package) {
            return Some(self.plain(what, WhyKind::App));
        }
        let bytes = match entry.kind {
            Kind::File { size, .. } => size,
            _ => 0,
        };
        let kind = WhyKind::File { path, bytes, package: package.to_string() };
        Some(self.with_chain(what, kind, &package))
    }

    /// A module, and the modules it is needed by, up to one that Plumb asks for.
    fn module(&self, name: &str) -> Option<Why> {
        let name = name.replace('-', "_");
        let modules = &self.inventory.modules;
        let find = |name: &str| modules.iter().find(|module| module.name == name);
        let module = find(&name)?;
        let mut chain = Vec::new();
        let mut at = module;
        // Each step leads to another module of a finite list; a circle of soft dependencies ends with its length.
        for _ in 0..modules.len() {
            let by = at.needed_by.clone();
            let link = WhyLink {
                by: by.clone().unwrap_or_else(|| "every machine".to_owned()),
                relation: at.name.clone(),
                answer: at.name.clone(),
            };
            chain.push(link);
            match by.as_deref().and_then(find) {
                Some(next) => at = next,
                None => break,
            }
        }
        chain.reverse();
        let kind = WhyKind::Module { bytes: module.bytes };
        Some(Why { chain, ..self.plain(&name, kind) })
    }

    fn plain(&self, what: &str, kind: WhyKind) -> Why {
        let machine = self.machine.clone();
        Why { machine, what: what.to_owned(), kind, chain: Vec::new(), also: Vec::new(), used_by: Vec::new() }
    }

    fn with_chain(&self, what: &str, kind: WhyKind, package: &PackageName) -> Why {
        let chain = self.dependencies.chain(&self.roots, package);
        let also = self.dependencies.requirers(&self.roots, package);
        let also = also.into_iter().filter(|link| Some(link) != chain.last());
        let also = also.map(WhyLink::from).collect();
        Why { chain: chain.into_iter().map(WhyLink::from).collect(), also, ..self.plain(what, kind) }
    }
}

impl WhyLink {
    /// A line of the definition asks for it.
    #[must_use]
    pub fn is_asked_for(&self) -> bool {
        self.by.contains('=') || self.by.starts_with("volume.")
    }
}
