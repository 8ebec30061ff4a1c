//! Real sockets: servers that answer, close early or are not there, behind one published port.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use plumb_guest_proto::{GuestMessage, Status, encode_line};

use super::*;
use crate::layout::InstanceDir;

/// Longest wait for something that takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

struct World {
    backends: Arc<Backends>,
    dir: tempfile::TempDir,
    guests: Vec<UnixStream>,
}

impl World {
    fn new() -> World {
        World { backends: Arc::default(), dir: tempfile::tempdir().unwrap(), guests: Vec::new() }
    }

    /// An instance that says it is ready, with its port 80 at `port`.
    fn instance(&mut self, name: &str, port: u16) {
        let dir = InstanceDir(self.dir.path().join(name));
        std::fs::create_dir(dir.path()).unwrap();
        let listener = UnixListener::bind(dir.control_socket()).unwrap();
        self.backends.hub.attach(name, "boot", dir).unwrap();
        let (mut guest, _) = listener.accept().unwrap();
        let status = GuestMessage::Status(Status { ready: true, ..Status::default() });
        guest.write_all(&encode_line(&status).unwrap()).unwrap();
        self.guests.push(guest);
        let end = Instant::now() + LIMIT;
        while !self.backends.hub.is_ready(name) {
            assert!(Instant::now() < end);
            self.backends.hub.wait_change(HOLD_TICK);
        }
        let attachment = Attachment { mac: String::new(), boot: "boot".into(), forwards: vec![(80, port)] };
        lock(&self.backends.attachments).insert(name.to_owned(), attachment);
    }

    fn publish(&self, names: &[&str]) -> (Proxy, SocketAddr) {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let publication = Publication {
            address: free.ip(),
            host_port: free.port(),
            guest_port: 80,
            instances: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        (Proxy::open(&publication, &self.backends).unwrap(), free)
    }
}

/// A server that handles each connection with `handle`.
fn server(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || handle(stream));
        }
    });
    port
}

/// Answers with its name and everything it was sent, after the client's end of stream.
fn echo(name: &'static str) -> u16 {
    server(move |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(name.as_bytes()).unwrap();
        stream.write_all(&all).unwrap();
    })
}

fn ask(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let request = request.to_vec();
    let sender = std::thread::spawn(move || {
        writer.write_all(&request).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    sender.join().unwrap();
    answer
}

#[test]
fn connections_take_turns_and_half_close_works() {
    let mut world = World::new();
    world.instance("web-1", echo("one:"));
    world.instance("web-2", echo("two:"));
    let (_proxy, address) = world.publish(&["web-1", "web-2"]);
    let mut answers: Vec<Vec<u8>> = (0..4).map(|_| ask(address, b"hi")).collect();
    answers.sort();
    assert_eq!(answers, [b"one:hi", b"one:hi", b"two:hi", b"two:hi"]);
}

#[test]
fn a_backend_that_closes_early_is_passed_over_with_the_same_bytes() {
    let mut world = World::new();
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    world.instance("web-1", refused);
    world.instance(
        "web-2",
        server(|mut stream| {
            let mut some = [0; 10];
            stream.read_exact(&mut some).unwrap();
        }),
    );
    world.instance("web-3", echo("three:"));
    let (_proxy, address) = world.publish(&["web-1", "web-2", "web-3"]);
    let request = [b"GET /", &vec![b'x'; 40_000][..]].concat();
    for _ in 0..3 {
        assert!(ask(address, &request) == [b"three:", &request[..]].concat());
    }
}

#[test]
fn what_may_have_been_done_is_not_asked_again() {
    let mut world = World::new();
    let seen = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&seen);
    let port = server(move |mut stream| {
        let mut some = [0; 10];
        stream.read_exact(&mut some).unwrap();
        counter.fetch_add(1, Ordering::SeqCst);
    });
    world.instance("web-1", port);
    world.instance("web-2", port);
    let (_proxy, address) = world.publish(&["web-1", "web-2"]);
    assert_eq!(ask(address, b"POST /orders HTTP/1.1"), b"");
    assert_eq!(seen.load(Ordering::SeqCst), 1, "one order");
}

#[test]
fn large_bodies_and_many_connections() {
    let mut world = World::new();
    world.instance("web-1", echo("one:"));
    let (proxy, address) = world.publish(&["web-1"]);
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    assert!(ask(address, &body) == [b"one:", &body[..]].concat());

    let mut open: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (index, stream) in open.iter_mut().enumerate() {
        stream.write_all(format!("{index}").as_bytes()).unwrap();
    }
    for (index, stream) in open.iter_mut().enumerate().rev() {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("one:{index}"));
    }
    let end = Instant::now() + LIMIT;
    while proxy.connections() > 0 {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
}

#[test]
fn a_connection_is_held_until_an_instance_is_ready() {
    let mut world = World::new();
    let (_proxy, address) = world.publish(&["web-1"]);
    let early = std::thread::spawn(move || ask(address, b"early"));
    world.instance("web-1", echo("one:"));
    assert_eq!(early.join().unwrap(), b"one:early");
}
