//! What is said on `keeper.sock`: one JSON object per line, one answer per request.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use plumb_guest_proto::{CheckAnswer, QuiesceAnswer, QuiescePhase};
use serde::{Deserialize, Serialize};

use crate::record::GuestRecord;

/// Version of this conversation and of `keeper.json`. A keeper of another version is asked to quit and replaced.
pub(crate) const FORMAT: u32 = 1;

/// Longest request: the published ports of a deployment, 100 bytes each.
pub(crate) const MAX_REQUEST_BYTES: u64 = 256 * 1024;

/// Longest answer: 200 records of 64 KiB.
pub(crate) const MAX_REPLY_BYTES: u64 = 16 * 1024 * 1024;

/// One port of the host that leads to a port of some instances.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Publication {
    /// Host address to listen on.
    pub address: IpAddr,
    /// Host port to listen on.
    pub host_port: u16,
    /// Port inside the instances.
    pub guest_port: u16,
    /// Instances that serve it, in order; only ready ones get connections.
    pub instances: Vec<String>,
}

impl Publication {
    /// Where the host listens.
    #[must_use]
    pub fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.host_port)
    }
}

/// How an instance is reached. Part of `keeper.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    /// Hardware address of the private interface.
    pub mac: String,
    /// Changes with every start; another value means that what is known about the guest is over.
    pub boot: String,
    /// Guest port and the port on 127.0.0.1 that QEMU forwards to it. Not a map: a JSON key inside a tagged enum stays
    /// a string.
    pub forwards: Vec<(u16, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub(crate) enum Request {
    Ping,
    Status,
    /// Answers as soon as the record has a higher sequence than `seen`, or after `wait_ms`.
    Watch {
        instance: String,
        seen: u64,
        wait_ms: u64,
    },
    Attach {
        instance: String,
        attachment: Attachment,
    },
    Detach {
        instance: String,
    },
    /// The whole list; what is not in it is closed. On an error nothing has changed.
    Publish {
        publications: Vec<Publication>,
    },
    ShutdownGuest {
        instance: String,
    },
    /// Have a check run that the image declares; the answer is the number under which its outcome is asked for.
    Check {
        instance: String,
        name: String,
    },
    /// What became of it, as soon as that is known or after `wait_ms`. An outcome is given out once.
    CheckAnswer {
        instance: String,
        run: u64,
        wait_ms: u64,
    },
    /// Have volumes held still; the answer is the number under which the rest is asked for.
    Freeze {
        instance: String,
        volumes: Vec<String>,
        hold_ms: u64,
    },
    Thaw {
        instance: String,
        run: u64,
    },
    /// What the guest said of this freeze, as soon as it is as far as `phase` or after `wait_ms`.
    QuiesceAnswer {
        instance: String,
        run: u64,
        phase: QuiescePhase,
        wait_ms: u64,
    },
    Quit,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub(crate) enum Reply {
    Done,
    Pong { format: u32, pid: u32 },
    Status { status: KeeperStatus },
    Guest { guest: Option<GuestRecord> },
    Asked { run: u64 },
    Checked { state: CheckState },
    Quiesced { state: QuiesceState },
    PortTaken { address: SocketAddr, reason: String, holder: Option<String> },
    Refused { reason: String },
}

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum CheckState {
    /// The guest has not answered yet.
    Running,
    /// It answered.
    Over { answer: CheckAnswer },
    /// It will not answer: the channel was closed, or nobody asked under this number.
    Lost,
}

/// What became of a freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub(crate) enum QuiesceState {
    /// The guest is not that far.
    Running,
    /// It is, or will not be.
    Over { answer: QuiesceAnswer },
    /// It will not answer: the channel was closed, or nobody asked under this number.
    Lost,
}

/// Everything a keeper knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperStatus {
    /// What the guests said.
    pub guests: BTreeMap<String, GuestRecord>,
    /// Links of the private network.
    pub links: BTreeMap<String, LinkStatus>,
    /// Published ports.
    pub published: Vec<PublishedStatus>,
}

/// One link of the private network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Connected to QEMU now.
    pub connected: bool,
    /// Frames taken from the instance.
    pub received: u64,
    /// Frames given to the instance.
    pub sent: u64,
    /// Frames dropped because the instance was slow or away.
    pub dropped: u64,
    /// Frames refused: a foreign source address or a bad form.
    pub refused: u64,
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedStatus {
    /// The wish.
    pub publication: Publication,
    /// It is open now.
    pub open: bool,
    /// Connections served at this moment.
    pub connections: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_wire() {
        let attachment =
            Attachment { mac: "52:54:00:00:00:01".into(), boot: "1".into(), forwards: vec![(80, 40_000)] };
        let publications = vec![Publication {
            address: [127, 0, 0, 1].into(),
            host_port: 8080,
            guest_port: 80,
            instances: vec!["web-1".into()],
        }];
        for request in [
            Request::Ping,
            Request::Watch { instance: "web-1".into(), seen: 1, wait_ms: 2 },
            Request::Attach { instance: "web-1".into(), attachment },
            Request::Publish { publications },
        ] {
            let line = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request, "{line}");
        }
        let guests = [("web-1".to_owned(), GuestRecord::default())].into();
        let reply = Reply::Status { status: KeeperStatus { guests, ..KeeperStatus::default() } };
        let line = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply, "{line}");
    }
}
