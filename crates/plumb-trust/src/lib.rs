//! Who vouched for what.
//!
//! ```text
//!  key          Ed25519; has a name in the trust of an application
//!  envelope     DSSE: bytes and who signed them
//!  statement    in-toto: what is said about a release (built from, tested, approved, promoted …)
//!  policy       what a channel asks for, against what was said
//!  tuf          root of trust of an application, and what a remote holds at a time (TUF specification 1.0.33)
//! ```
//!
//! Everything here is a function over bytes, keys and a given time. The crate opens no file, has no clock and no
//! randomness, and what it returns as a statement or as metadata was verified.
#![forbid(unsafe_code)]

pub mod envelope;
pub mod json;
pub mod key;
pub mod policy;
pub mod statement;
pub mod time;
pub mod tuf;

pub use envelope::{Envelope, EnvelopeError};
pub use key::{KeyError, KeyId, Passphrase, PublicKey, SecretKey};
pub use statement::{Predicate, Statement, StatementError, Subject};
