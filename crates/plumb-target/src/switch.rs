//! The private network of a deployment, without IO: which frame goes to which port.
//!
//! Every port has one hardware address, assigned by us. A frame is forwarded only if its source is the address of the
//! port it came from, so no instance can take over the traffic of another, and the address table is the list of ports:
//! it cannot be flooded. Frames to unknown addresses go nowhere.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::frame::{HEADER_BYTES, MIN_FRAME_BYTES};

/// Bytes waiting for one port. Holds a full TCP window (6 MiB is Linux's largest, 4 MiB its usual reach); what does not
/// fit is dropped, as a real switch does, and TCP slows down.
pub(crate) const MAX_QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(())?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| ())?;
        }
        // A group address cannot be a source (IEEE 802.3, 3.2.3).
        if parts.next().is_some() || bytes[0] & 1 == 1 { Err(()) } else { Ok(Mac(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a port did so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counter {
    /// Frames taken from the port.
    pub received: u64,
    /// Frames queued for the port.
    pub sent: u64,
    /// Frames dropped because the port was slow or away.
    pub dropped: u64,
    /// Frames refused because of a foreign source address or a bad form.
    pub refused: u64,
}

/// One port: its address and the bytes that wait for it.
#[derive(Debug)]
pub(crate) struct Port {
    mac: Mac,
    up: bool,
    queue: Vec<u8>,
    head: usize,
    pub counter: Counter,
}

impl Port {
    /// Bytes to write next; empty if nothing waits.
    pub fn pending(&self) -> &[u8] {
        &self.queue[self.head..]
    }

    /// `count` bytes have been written.
    pub fn written(&mut self, count: usize) {
        self.head += count;
        if self.head == self.queue.len() {
            self.queue.clear();
            self.head = 0;
        }
    }

    fn push(&mut self, framed: &[u8]) {
        if !self.up || self.pending().len() + framed.len() > MAX_QUEUE_BYTES {
            self.counter.dropped += 1;
            return;
        }
        // Written bytes are given back once they are half of the queue: constant cost per byte.
        if self.head > 64 * 1024 && self.head * 2 > self.queue.len() {
            self.queue.drain(..self.head);
            self.head = 0;
        }
        self.queue.extend_from_slice(framed);
        self.counter.sent += 1;
    }
}

/// All ports by number.
#[derive(Debug, Default)]
pub(crate) struct Switch {
    ports: BTreeMap<u64, Port>,
}

impl Switch {
    pub fn add(&mut self, id: u64, mac: Mac) {
        let port = Port { mac, up: false, queue: Vec::new(), head: 0, counter: Counter::default() };
        self.ports.insert(id, port);
    }

    pub fn remove(&mut self, id: u64) {
        self.ports.remove(&id);
    }

    pub fn port(&mut self, id: u64) -> Option<&mut Port> {
        self.ports.get_mut(&id)
    }

    /// The link of a port came up or went away. What waited is gone with the link: half a frame may have been written.
    pub fn set_link(&mut self, id: u64, up: bool) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.up = up;
            port.queue = Vec::new();
            port.head = 0;
        }
    }

    /// Forwards one frame (with its length header) that arrived on port `from`.
    pub fn forward(&mut self, from: u64, framed: &[u8]) {
        let Some(port) = self.ports.get_mut(&from) else { return };
        let frame = &framed[HEADER_BYTES..];
        let (Some(destination), Some(source)) = (frame.first_chunk::<6>(), frame.get(6..12)) else {
            port.counter.refused += 1;
            return;
        };
        if frame.len() < MIN_FRAME_BYTES || source != port.mac.0 {
            port.counter.refused += 1;
            return;
        }
        port.counter.received += 1;
        let group = destination[0] & 1 == 1;
        for (id, port) in &mut self.ports {
            if *id != from && (group || port.mac.0 == *destination) {
                port.push(framed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::framed;

    const A: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
    const B: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
    const C: [u8; 6] = [0x52, 0x54, 0, 0, 0, 3];
    const ALL: [u8; 6] = [0xff; 6];

    fn three() -> Switch {
        let mut switch = Switch::default();
        for (id, mac) in [(1, A), (2, B), (3, C)] {
            switch.add(id, Mac(mac));
            switch.set_link(id, true);
        }
        switch
    }

    fn packet(to: [u8; 6], from: [u8; 6], size: usize) -> Vec<u8> {
        let mut frame = [to, from].concat();
        frame.resize(size, 9);
        framed(&frame)
    }

    fn check(packets: &[(u64, Vec<u8>)], expected: [usize; 3]) -> Switch {
        let mut switch = three();
        for (from, packet) in packets {
            switch.forward(*from, packet);
        }
        let waiting = [1, 2, 3].map(|id| switch.port(id).unwrap().pending().len());
        assert_eq!(waiting, expected);
        switch
    }

    #[test]
    fn unicast_broadcast_and_unknown() {
        check(&[(1, packet(B, A, 60))], [0, 64, 0]);
        check(&[(1, packet(ALL, A, 60))], [0, 64, 64]);
        check(&[(1, packet([2; 6], A, 60))], [0, 0, 0]);
        check(&[(1, packet(A, A, 60))], [0, 0, 0]);
    }

    #[test]
    fn a_foreign_source_is_refused() {
        let mut switch = check(&[(1, packet(C, B, 60)), (1, packet(C, A, 13)), (1, framed(&[]))], [0, 0, 0]);
        assert_eq!(switch.port(1).unwrap().counter.refused, 3);
    }

    #[test]
    fn a_slow_port_drops_and_harms_nobody() {
        let mut switch = three();
        for _ in 0..3000 {
            switch.forward(1, &packet(B, A, 1514));
        }
        switch.forward(1, &packet(C, A, 60));
        let slow = switch.port(2).unwrap();
        assert!(slow.pending().len() <= MAX_QUEUE_BYTES);
        assert_eq!(slow.counter.sent + slow.counter.dropped, 3000);
        assert!(slow.counter.dropped > 0);
        assert_eq!(switch.port(3).unwrap().pending().len(), 64);
    }

    #[test]
    fn queued_bytes_keep_their_order() {
        let mut switch = three();
        let (mut put, mut got) = (Vec::new(), Vec::new());
        for round in 0..500_usize {
            let packet = packet(B, A, 60 + round * 3);
            switch.forward(1, &packet);
            put.extend_from_slice(&packet);
            let port = switch.port(2).unwrap();
            let count = port.pending().len().min(round * 2);
            got.extend_from_slice(&port.pending()[..count]);
            port.written(count);
        }
        got.extend_from_slice(switch.port(2).unwrap().pending());
        assert!(put == got);
    }

    #[test]
    fn a_lost_link_forgets_what_waited() {
        let mut switch = check(&[(1, packet(B, A, 60))], [0, 64, 0]);
        switch.set_link(2, false);
        switch.forward(1, &packet(B, A, 60));
        assert_eq!(switch.port(2).unwrap().pending().len(), 0);
        assert_eq!(switch.port(2).unwrap().counter.dropped, 1);
    }

    #[test]
    fn addresses() {
        assert_eq!("52:54:00:aB:cd:ef".parse::<Mac>().unwrap().to_string(), "52:54:00:ab:cd:ef");
        for bad in ["", "52:54:00:ab:cd", "52:54:00:ab:cd:ef:00", "53:54:00:ab:cd:ef", "5:254:00:ab:cd:ef"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
