//! Where instances run: the local QEMU target.
//!
//! Entry points: [`Target`] says what any target can do; [`Local`] does it with QEMU on this host; [`keeper`] is the one
//! process per deployment that holds what needs holding; [`accelerator::detect`] and [`Qemu::find`] look at the host.
//!
//! This crate holds no policy: which instance runs where, when and with what is decided by its caller.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
compile_error!("the local target needs Linux on x86-64");

pub mod accelerator;
mod clock;
mod command;
mod control;
mod driver;
mod error;
mod fabric;
mod file;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod holder;
mod identity;
mod initrd;
mod journal;
pub mod keeper;
mod kvm;
mod layout;
mod local;
mod program;
mod proxy;
mod qemu;
mod qmp;
mod record;
mod relay;
mod secret;
mod snapshot;
mod socket;
mod switch;
mod throwaway;
mod timing;
mod volume;

pub use accelerator::{Accelerator, AcceleratorKind};
pub use command::ROOT_SERIAL;
pub use driver::{
    ImagePaths, InstanceState, ObservedInstance, ObservedVolume, Progress, Readiness, StartInstance, Started,
    Stopped, Target, VolumeDisk,
};
pub use error::TargetError;
pub use file::plain_lines;
pub use identity::Usage;
pub use journal::LogLine;
pub use keeper::request::{KeeperStatus, LinkStatus, Publication, PublishedStatus};
pub use local::{Checked, Local, LocalPaths, PUBLISH_ADDRESS, Said, free_ports};
pub use program::{MAX_OUTPUT_BYTES, Program, ProgramEnd, ProgramOutcome, run as run_program};
pub use qemu::Qemu;
pub use record::{EventEntry, GuestRecord};
pub use secret::Secrets;
pub use snapshot::{FileSystem, Held, Manifest, SnapshotRequest, SnapshotVolume};
pub use socket::connect;
pub use throwaway::{Throwaway, run as run_throwaway};
pub use timing::{InstanceTimings, TimingStep};
