//! What is asked of the resolver, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use plumb_debian::{PackageName, PackageRecord, Version};

/// One thing that must be in the result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootRequest {
    /// A relation such as `nginx-light`, `postgresql-15 (>= 15.4)` or `a | b`.
    pub relation: String,
    /// Who asks, for messages: `shop/web`.
    pub asked_by: String,
}

/// Which versions of the previous lock may change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Update {
    /// None that need not.
    #[default]
    None,
    /// All: as if there were no previous lock.
    All,
    /// Those of the packages named.
    Packages(BTreeSet<PackageName>),
}

/// A dependency that is known to serve maintainer scripts only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiver {
    /// Whose dependency; `None`: of every package.
    pub requirer: Option<PackageName>,
    /// The name it asks for, as its first or any other alternative; one `*` stands for any characters.
    pub dependency: String,
}

impl Waiver {
    /// Whether the dependency on `dependency` that `requirer` has is meant.
    #[must_use]
    pub fn covers(&self, requirer: &PackageName, dependency: &PackageName) -> bool {
        let name = dependency.as_str();
        let fits = match self.dependency.split_once('*') {
            None => self.dependency == name,
            Some((head, tail)) => {
                name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
            }
        };
        fits && self.requirer.as_ref().is_none_or(|wanted| wanted == requirer)
    }
}

/// What is asked of the resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// What must be in the result.
    pub roots: Vec<RootRequest>,
    /// Packages, real or virtual, that are known not to be needed: they are never chosen, and a dependency that only
    /// they could answer counts as answered.
    pub without: BTreeSet<PackageName>,
    /// Dependencies that count as answered, because nothing but maintainer scripts would use what they name. A root is
    /// never waived: what is asked for is there.
    pub waive: Vec<Waiver>,
    /// The previous lock. Its versions and its choices among alternatives are kept where they still hold.
    pub keep: BTreeMap<PackageName, Version>,
    /// What of the previous lock may change.
    pub update: Update,
}

/// Who needs a package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Requirer {
    /// A root: [`RootRequest::asked_by`].
    Root(String),
    /// A package of the result.
    Package(PackageName),
}

impl fmt::Display for Requirer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(asked_by) => f.write_str(asked_by),
            Self::Package(name) => write!(f, "{name}"),
        }
    }
}

/// One package of a resolution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen<'u> {
    /// The package.
    pub record: &'u PackageRecord,
    /// Position of its source in the list that [`Universe::new`](crate::Universe::new) got.
    pub source: usize,
    /// Who needs it, and by which relation; sorted, never empty.
    pub required_by: Vec<(Requirer, String)>,
}

/// A dependency that nothing answers because [`Request::without`] or [`Request::waive`] says so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waived {
    /// Who has the dependency.
    pub requirer: Requirer,
    /// The relation.
    pub relation: String,
}

/// Something about a result that its user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The archives no longer have a version of the previous lock.
    Gone {
        /// The package.
        name: PackageName,
        /// The version that was locked.
        locked: Version,
        /// The version that took its place.
        chosen: Version,
    },
    /// A version of the previous lock is there, but no longer fits.
    Moved {
        /// The package.
        name: PackageName,
        /// The version that was locked.
        locked: Version,
        /// The version that took its place.
        chosen: Version,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { name, locked, chosen } => {
                write!(f, "`{name}` {locked} is no longer in the archives; {chosen} takes its place")
            }
            Self::Moved { name, locked, chosen } => {
                write!(f, "`{name}` {locked} no longer fits what is asked for; {chosen} takes its place")
            }
        }
    }
}

/// The exact packages that answer a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution<'u> {
    /// The packages, sorted by name.
    pub packages: Vec<Chosen<'u>>,
    /// The dependencies that are not answered because of [`Request::without`] or [`Request::waive`]; sorted.
    pub waived: Vec<Waived>,
    /// What the user should know; sorted by package.
    pub notes: Vec<Note>,
}
