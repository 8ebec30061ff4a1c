//! Configuration and secrets of deployments.
//!
//! ```text
//!  definition ─► file.rs     templates and links in images, what the guest fills in
//!  plumb config, secret ─► change.rs ─► Configuration (state) ─► settings ─► plan ─► instance
//!                             └─ seal.rs: age files (state), opened when an instance starts ─┘
//! ```

mod change;
mod edit;
mod error;
mod file;
mod seal;
mod view;

pub(crate) use change::Opened;
pub use change::{Apply, ConfigChange, ConfigOutcome, SecretValue, read_settings};
pub use edit::Sheet;
pub use error::ConfigError;
pub(crate) use file::{add_specs, drop_in, files, used};
pub use view::{
    ConfigDifference, ConfigEntry, ConfigView, RecipientView, Resealed, SettingOrigin, SettingView,
};
