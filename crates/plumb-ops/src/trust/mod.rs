//! Who is believed: keys of this host, the trust of an application, and what was said about its releases.

mod error;
mod key;
mod provenance;
mod root;
mod vouch;

pub use error::TrustError;
pub use key::KeyView;
pub use root::{DraftView, TrustChange, TrustView, TrustedKey};
pub use vouch::{Said, SaidBy};

pub(crate) use key::{random, write_new};
pub(crate) use root::{FINGERPRINTS, Trust};
