//! What was seen of a running image: memory, processes, ports, time to ready. Kept by image, so that a footprint can
//! tell it when nothing runs.

use plumb_guest_proto::{Event, Listening};
use plumb_model::Digest;
use plumb_target::ObservedInstance;
use serde::{Deserialize, Serialize};

use crate::error::OpsError;
use crate::{Plumb, clock};

/// Kind of the store entries that name what was measured of an image.
const MEASURED: &str = "measured-1";

/// One look at a ready instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// The instance, with its deployment: `shop/web-1`.
    pub instance: String,
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// How long it had been ready.
    pub uptime_ms: u64,
    /// Memory it had, KiB.
    pub memory_total_kib: u64,
    /// Memory in use (MemTotal less MemAvailable), KiB.
    pub memory_used_kib: u64,
    /// Processes, if the guest said so.
    pub processes: Option<u32>,
    /// Open ports, if the guest said so.
    pub listening: Vec<Listening>,
    /// From the start of the kernel to ready, milliseconds.
    pub ready_ms: Option<u64>,
}

impl Measured {
    /// What a ready instance says; `None` while it says nothing.
    pub(crate) fn of(deployment: &str, instance: &ObservedInstance) -> Option<Self> {
        let guest = instance.guest.as_ref().filter(|_| instance.is_ready())?;
        let status = guest.status.as_ref()?;
        let ready = guest.events.iter().find(|entry| entry.event == Event::Ready);
        Some(Measured {
            instance: format!("{deployment}/{}", instance.name),
            at_ms: clock::now_ms(),
            uptime_ms: status.uptime_ms,
            memory_total_kib: status.memory_total_kib,
            memory_used_kib: status.memory_total_kib.saturating_sub(status.memory_available_kib),
            processes: status.activity.as_ref().map(|activity| activity.processes),
            listening: status
                .activity
                .as_ref()
                .map(|activity| activity.listening.clone())
                .unwrap_or_default(),
            ready_ms: ready.map(|entry| entry.uptime_ms),
        })
    }
}

impl Plumb<'_> {
    /// Keeps what ready instances say, by their image. A failure is no reason to fail what it is a by-product of.
    pub(crate) fn remember_measured(&self, deployment: &str, seen: &[ObservedInstance]) {
        for instance in seen {
            let image = instance.image.as_ref().and_then(|image| image.parse::<Digest>().ok());
            if let (Some(image), Some(measured)) = (image, Measured::of(deployment, instance))
                && let Ok(bytes) = serde_json::to_vec(&measured)
            {
                let _ = self.store.remember(MEASURED, &image.hex(), &bytes);
            }
        }
    }

    /// What was seen last of an image.
    pub(crate) fn measured(&self, image: &Digest) -> Result<Option<Measured>, OpsError> {
        let entry = self.store.entry(MEASURED, &image.hex())?;
        Ok(entry.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }
}
