//! Secrets on their way into an instance: never in a file, on a command line or in an environment of this host.

use std::collections::BTreeMap;
use std::fmt;

/// Secrets by name; nothing but their number is ever shown.
#[derive(Clone, Default)]
pub struct Secrets(BTreeMap<String, Vec<u8>>);

impl Secrets {
    /// Those of an instance.
    #[must_use]
    pub fn new(secrets: BTreeMap<String, Vec<u8>>) -> Self {
        Secrets(secrets)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        self.0.iter()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}
