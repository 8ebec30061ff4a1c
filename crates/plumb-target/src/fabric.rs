//! The private network with its IO: one thread that moves frames between the sockets of the instances.
//!
//! QEMU listens, we connect: so a new keeper finds every instance again, and a restarted QEMU is found by the same
//! path.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

use crate::frame::FrameReader;
use crate::socket;
use crate::switch::{Counter, Mac, Switch};

/// First pause between two tries to connect to an instance: QEMU listens a few milliseconds after its start.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// Longest pause between two tries. An instance that is gone costs one failed connect per second.
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Reads from one port before the others get their turn: fairness against few system calls.
const READS_PER_TURN: usize = 4;

/// How long the loop sleeps at most while some link is down.
const TICK: Duration = Duration::from_millis(25);

/// How long a question to the network thread may take; it answers between two frames.
const VIEW_LIMIT: Duration = Duration::from_secs(2);

/// Events taken from the kernel at once: more ports than one host runs instances.
const EVENTS: usize = 256;

/// Number of the wake-up event; ports count from 1.
const WAKE: u64 = 0;

#[derive(Debug)]
enum Order {
    Attach { name: String, mac: Mac, path: PathBuf },
    Detach { name: String },
    View { answer: Sender<BTreeMap<String, PortView>> },
    Quit,
}

/// What a port looks like from outside.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortView {
    pub connected: bool,
    pub counter: Counter,
}

/// Handle of the running network.
#[derive(Debug)]
pub(crate) struct Fabric {
    orders: Arc<Mutex<Vec<Order>>>,
    wake: OwnedFd,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Fabric {
    /// Starts the thread.
    pub fn start() -> io::Result<Fabric> {
        let orders = Arc::new(Mutex::new(Vec::new()));
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut worker = Worker::new(Arc::clone(&orders), wake.try_clone()?)?;
        let thread = std::thread::Builder::new().name("network".into()).spawn(move || worker.run())?;
        Ok(Fabric { orders, wake, thread: Mutex::new(Some(thread)) })
    }

    /// Connects an instance; one with the same name is replaced.
    pub fn attach(&self, name: &str, mac: Mac, path: PathBuf) {
        self.order(Order::Attach { name: name.to_owned(), mac, path });
    }

    /// Disconnects an instance.
    pub fn detach(&self, name: &str) {
        self.order(Order::Detach { name: name.to_owned() });
    }

    /// Ports by instance; empty if the network has ended.
    pub fn views(&self) -> BTreeMap<String, PortView> {
        let (answer, question) = channel();
        self.order(Order::View { answer });
        question.recv_timeout(VIEW_LIMIT).unwrap_or_default()
    }

    fn order(&self, order: Order) {
        lock(&self.orders).push(order);
        // A full counter means that a wake-up is already pending.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        self.order(Order::Quit);
        if let Some(thread) = lock(&self.thread).take() {
            // A panic of the thread has been printed; there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

/// A panic elsewhere leaves plain data behind, never a broken invariant: go on with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Link {
    stream: UnixStream,
    reader: FrameReader,
    wants_write: bool,
}

#[derive(Debug)]
struct Member {
    name: String,
    path: PathBuf,
    link: Option<Link>,
    retry_at: Instant,
    pause: Duration,
}

#[derive(Debug)]
struct Worker {
    orders: Arc<Mutex<Vec<Order>>>,
    wake: OwnedFd,
    epoll: OwnedFd,
    switch: Switch,
    members: BTreeMap<u64, Member>,
    next_id: u64,
}

impl Worker {
    fn new(orders: Arc<Mutex<Vec<Order>>>, wake: OwnedFd) -> io::Result<Worker> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        Ok(Worker { orders, wake, epoll, switch: Switch::default(), members: BTreeMap::new(), next_id: 1 })
    }

    fn run(&mut self) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            let timeout = self.timeout();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => {
                    eprintln!("the network ends: epoll: {error}");
                    return;
                }
            }
            for event in events.drain(..) {
                let (id, flags) = (event.data.u64(), event.flags);
                if id == WAKE {
                    if self.orders() {
                        return;
                    }
                } else if let Err(error) = self.serve(id, flags) {
                    self.lose(id, &error);
                }
            }
            self.flush_all();
            self.reconnect();
        }
    }

    fn timeout(&self) -> Option<Timespec> {
        let waiting = self.members.values().any(|member| member.link.is_none());
        waiting.then(|| Timespec { tv_sec: 0, tv_nsec: i64::from(TICK.subsec_nanos()) })
    }

    fn orders(&mut self) -> bool {
        let mut count = [0; 8];
        // Nothing to read means that another wake-up took these orders already.
        let _ = rustix::io::read(&self.wake, &mut count);
        let orders = std::mem::take(&mut *lock(&self.orders));
        for order in orders {
            match order {
                Order::Attach { name, mac, path } => self.attach(name, mac, path),
                Order::Detach { name } => self.detach(&name),
                // Who asked may have stopped waiting.
                Order::View { answer } => drop(answer.send(self.views())),
                Order::Quit => return true,
            }
        }
        false
    }

    fn attach(&mut self, name: String, mac: Mac, path: PathBuf) {
        self.detach(&name);
        let id = self.next_id;
        self.next_id += 1;
        self.switch.add(id, mac);
        let member = Member { name, path, link: None, retry_at: Instant::now(), pause: FIRST_RETRY };
        self.members.insert(id, member);
    }

    fn detach(&mut self, name: &str) {
        let found = self.members.iter().find(|(_, member)| member.name == name).map(|(id, _)| *id);
        if let Some(id) = found {
            self.members.remove(&id);
            self.switch.remove(id);
        }
    }

    /// Moves what can be moved on one port.
    fn serve(&mut self, id: u64, flags: EventFlags) -> io::Result<()> {
        let Some(link) = self.members.get_mut(&id).and_then(|member| member.link.as_mut()) else {
            return Ok(());
        };
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            for _ in 0..READS_PER_TURN {
                match link.reader.fill(&mut link.stream) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                }
                while let Some(frame) = link.reader.next().map_err(io::Error::other)? {
                    self.switch.forward(id, frame);
                }
            }
        }
        Ok(())
    }

    fn flush_all(&mut self) {
        let mut lost = Vec::new();
        for (id, member) in &mut self.members {
            let (Some(link), Some(port)) = (member.link.as_mut(), self.switch.port(*id)) else { continue };
            while !port.pending().is_empty() {
                match link.stream.write(port.pending()) {
                    Ok(count) => port.written(count),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        lost.push((*id, error));
                        break;
                    }
                }
            }
            let wants_write = !port.pending().is_empty();
            if wants_write != link.wants_write {
                link.wants_write = wants_write;
                let flags = if wants_write { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
                if let Err(error) = epoll::modify(&self.epoll, &link.stream, EventData::new_u64(*id), flags) {
                    lost.push((*id, error.into()));
                }
            }
        }
        for (id, error) in lost {
            self.lose(id, &error);
        }
    }

    fn lose(&mut self, id: u64, error: &io::Error) {
        if let Some(member) = self.members.get_mut(&id)
            && member.link.take().is_some()
        {
            eprintln!("network link of `{}` lost: {error}", member.name);
            member.pause = FIRST_RETRY;
            member.retry_at = Instant::now() + FIRST_RETRY;
            self.switch.set_link(id, false);
        }
    }

    fn reconnect(&mut self) {
        let now = Instant::now();
        for (id, member) in &mut self.members {
            if member.link.is_some() || member.retry_at > now {
                continue;
            }
            let connected = socket::connect(&member.path).and_then(|stream| {
                stream.set_nonblocking(true)?;
                epoll::add(&self.epoll, &stream, EventData::new_u64(*id), EventFlags::IN)?;
                Ok(stream)
            });
            match connected {
                Ok(stream) => {
                    member.link = Some(Link { stream, reader: FrameReader::new(), wants_write: false });
                    self.switch.set_link(*id, true);
                }
                // No listener yet, or the instance is gone: the next try comes later and later.
                Err(_) => {
                    member.retry_at = now + member.pause;
                    member.pause = (member.pause * 2).min(LAST_RETRY);
                }
            }
        }
    }

    fn views(&mut self) -> BTreeMap<String, PortView> {
        let mut views = BTreeMap::new();
        for (id, member) in &self.members {
            let counter = self.switch.port(*id).map_or(Counter::default(), |port| port.counter);
            views.insert(member.name.clone(), PortView { connected: member.link.is_some(), counter });
        }
        views
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::frame::framed;

    /// Longest wait for something that takes milliseconds.
    const LIMIT: Duration = Duration::from_secs(20);

    fn accept(listener: &UnixListener) -> UnixStream {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn wait(fabric: &Fabric, condition: impl Fn(&BTreeMap<String, PortView>) -> bool) {
        let end = Instant::now() + LIMIT;
        while !condition(&fabric.views()) {
            assert!(Instant::now() < end, "{:?}", fabric.views());
            std::thread::yield_now();
        }
    }

    #[test]
    fn frames_cross_and_links_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let (path_a, path_b) = (dir.path().join("a"), dir.path().join("b"));
        let (listen_a, listen_b) =
            (UnixListener::bind(&path_a).unwrap(), UnixListener::bind(&path_b).unwrap());
        let fabric = Fabric::start().unwrap();
        fabric.attach("a", Mac([2, 0, 0, 0, 0, 1]), path_a);
        fabric.attach("b", Mac([2, 0, 0, 0, 0, 2]), path_b);
        let (mut a, mut b) = (accept(&listen_a), accept(&listen_b));
        let both =
            |views: &BTreeMap<String, PortView>| views.values().filter(|view| view.connected).count() == 2;
        wait(&fabric, both);

        let packet = framed(&[&[2, 0, 0, 0, 0, 2][..], &[2, 0, 0, 0, 0, 1], &[5; 1500]].concat());
        let total: Vec<u8> = packet.repeat(1000);
        a.write_all(&total).unwrap();
        let mut got = vec![0; total.len()];
        b.read_exact(&mut got).unwrap();
        assert!(got == total);

        drop(b);
        let mut b = accept(&listen_b);
        wait(&fabric, both);
        a.write_all(&packet).unwrap();
        let mut got = vec![0; packet.len()];
        b.read_exact(&mut got).unwrap();
        assert!(got == packet);

        a.write_all(&[0xff; 8]).unwrap();
        assert_eq!(a.read(&mut [0; 8]).unwrap(), 0, "a hostile link is closed");
        fabric.detach("b");
        assert_eq!(b.read(&mut [0; 8]).unwrap(), 0);
    }
}
