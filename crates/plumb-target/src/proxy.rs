//! Published ports: a listener on the host, connections spread over the instances that are ready.
//!
//! A connection that no instance accepts is held for a moment, so an instance that is being replaced is not seen from
//! outside. An instance that closes before it has answered one byte is passed over: the next one gets the same bytes.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::pause;
use crate::control::Hub;
use crate::fabric::lock;
use crate::keeper::request::{Attachment, Publication};
use crate::relay::{Outcome, relay};

/// Connections at once per published port; each costs a thread with 64 KiB of used stack and two buffers.
const MAX_CONNECTIONS: u64 = 1024;

/// How long a connection waits for an instance that is ready: longer than a service restart, shorter than the patience
/// of clients.
const HOLD: Duration = Duration::from_secs(10);

/// Pause between two looks for a ready instance while a connection is held.
const HOLD_TICK: Duration = Duration::from_millis(100);

/// How long a connect to QEMU on loopback may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// How often the listener looks whether it is still wanted.
const ACCEPT_TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Stack of a connection's thread; its buffers are on the heap.
const STACK_BYTES: usize = 128 * 1024;

/// Which instance answers on which port of 127.0.0.1, and who is ready.
#[derive(Debug, Default)]
pub(crate) struct Backends {
    pub hub: Arc<Hub>,
    pub attachments: Mutex<BTreeMap<String, Attachment>>,
}

impl Backends {
    /// Ready instances of a publication with their addresses, in order.
    fn ready(&self, publication: &Publication) -> Vec<(String, SocketAddr)> {
        let attachments = lock(&self.attachments);
        let reachable = publication.instances.iter().filter_map(|name| {
            let forwards = &attachments.get(name)?.forwards;
            let (_, port) = forwards.iter().find(|(guest, _)| *guest == publication.guest_port)?;
            self.hub.is_ready(name).then(|| (name.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, *port))))
        });
        reachable.collect()
    }
}

/// One published port that is open.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    listener: TcpListener,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    publication: Mutex<Publication>,
    backends: Arc<Backends>,
    turn: AtomicU64,
    connections: AtomicU64,
    stop: AtomicBool,
}

impl Proxy {
    /// Opens the port.
    pub fn open(publication: &Publication, backends: &Arc<Backends>) -> io::Result<Proxy> {
        let listener = TcpListener::bind(publication.socket_address())?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            publication: Mutex::new(publication.clone()),
            backends: Arc::clone(backends),
            turn: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let worker = Arc::clone(&shared);
        let name = format!("port {}", publication.host_port);
        let own = listener.try_clone()?;
        let thread = std::thread::Builder::new().name(name).spawn(move || accept_all(&own, &worker))?;
        Ok(Proxy { shared, listener, thread: Some(thread) })
    }

    /// Leads the same host port elsewhere from the next connection on.
    pub fn redirect(&self, publication: &Publication) {
        publication.clone_into(&mut lock(&self.shared.publication));
    }

    /// Connections at this moment.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    /// The port is free when this returns.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Wakes the thread; if that fails it wakes by itself a moment later.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::Acquire) {
        let mut waiting = [PollFd::new(listener, PollFlags::IN)];
        // An interrupted poll is followed by an accept that finds nothing.
        let _ = poll(&mut waiting, Some(&ACCEPT_TICK));
        match listener.accept() {
            Ok((client, _)) => start_connection(client, shared),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) if shared.stop.load(Ordering::Acquire) => return,
            Err(error) => {
                // Out of descriptors, or the client was gone: the listener itself stays good.
                eprintln!("cannot accept a connection: {error}");
                pause(HOLD_TICK);
            }
        }
    }
}

/// Counts a connection as long as it lives, whatever ends it.
struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

fn start_connection(client: TcpStream, shared: &Arc<Shared>) {
    shared.connections.fetch_add(1, Ordering::Relaxed);
    let counted = Counted(Arc::clone(shared));
    if shared.connections.load(Ordering::Relaxed) > MAX_CONNECTIONS {
        return;
    }
    let thread = std::thread::Builder::new().name("connection".into()).stack_size(STACK_BYTES);
    let started = thread.spawn(move || {
        if let Err(error) = serve(&client, &counted.0)
            && !matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
        {
            eprintln!("connection ended: {error}");
        }
    });
    if let Err(error) = started {
        eprintln!("cannot serve a connection: {error}");
    }
}

fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nonblocking(true)?;
    client.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(client, true)?;
    let end = Instant::now() + HOLD;
    let mut replay = Vec::new();
    let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
    while !shared.stop.load(Ordering::Acquire) {
        let publication = lock(&shared.publication).clone();
        let ready = shared.backends.ready(&publication);
        for step in 0..ready.len() as u64 {
            let index = (turn.wrapping_add(step) % ready.len() as u64) as usize;
            let Ok(backend) = TcpStream::connect_timeout(&ready[index].1, CONNECT_LIMIT) else { continue };
            match relay(client, &backend, &mut replay)? {
                Outcome::Done => return Ok(()),
                Outcome::NoAnswer if is_repeatable(&replay) => {}
                // It may have been done, and only its answer lost: to ask again could order twice.
                Outcome::NoAnswer => return client.shutdown(Shutdown::Both),
            }
        }
        if Instant::now() >= end || is_gone(client) {
            break;
        }
        shared.backends.hub.wait_change(HOLD_TICK);
    }
    // Nobody answers: an orderly end rather than a reset. The client may be gone already.
    let _ = client.shutdown(Shutdown::Both);
    Ok(())
}

/// Nothing was asked yet, or what was asked changes nothing (safe methods: RFC 9110, section 9.2.1).
fn is_repeatable(request: &[u8]) -> bool {
    request.is_empty()
        || [&b"GET "[..], b"HEAD ", b"OPTIONS "].iter().any(|method| request.starts_with(method))
}

/// The client has closed both directions or was reset; waiting on its behalf is pointless.
fn is_gone(client: &TcpStream) -> bool {
    let fd = client.as_fd();
    let mut state = [PollFd::new(&fd, PollFlags::empty())];
    poll(&mut state, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok()
        && state[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
