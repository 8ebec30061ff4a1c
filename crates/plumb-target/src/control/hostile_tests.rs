//! Guests that lie, flood and go silent: whoever listens goes on, and what is kept of them stays small.

use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plumb_guest_proto::{CheckAnswer, Event, GuestMessage, ServiceState, ServiceStatus, Status, encode_line};

use super::Hub;
use crate::file;
use crate::keeper::request::CheckState;
use crate::layout::InstanceDir;
use crate::record::GuestRecord;

/// Longest wait for something that takes milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

/// What may be kept of one guest in memory and in its `status.json`, bytes: its newest events, each as long as a message may be.
const RECORD_LIMIT: usize = 16 * 1024 * 1024;

/// What its log may take, bytes: two files of 8 MiB, and a line.
const LOG_LIMIT: u64 = 17 * 1024 * 1024;

struct Machine {
    _folder: tempfile::TempDir,
    dir: InstanceDir,
    listener: UnixListener,
}

impl Machine {
    fn attach(hub: &Arc<Hub>, name: &str) -> (Machine, UnixStream) {
        let folder = tempfile::tempdir().unwrap();
        let dir = InstanceDir(folder.path().to_owned());
        let listener = UnixListener::bind(dir.control_socket()).unwrap();
        hub.attach(name, "boot-1", dir.clone()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        (Machine { _folder: folder, dir, listener }, stream)
    }

    fn log_bytes(&self) -> u64 {
        let files = std::fs::read_dir(&self.dir.0).unwrap().map(|entry| entry.unwrap());
        let logs = files.filter(|entry| entry.file_name().to_string_lossy().starts_with("log"));
        logs.map(|entry| entry.metadata().unwrap().len()).sum()
    }
}

fn until(hub: &Hub, name: &str, condition: impl Fn(&GuestRecord) -> bool) -> GuestRecord {
    let end = Instant::now() + LIMIT;
    let mut seen = 0;
    loop {
        let record = hub.watch(name, seen, LIMIT).unwrap();
        if condition(&record) {
            return record;
        }
        seen = record.sequence;
        assert!(Instant::now() < end, "{name}");
    }
}

fn status(ready: bool) -> GuestMessage {
    GuestMessage::Status(Status { ready, ..Status::default() })
}

fn say(stream: &mut UnixStream, message: &GuestMessage) {
    stream.write_all(&encode_line(message).unwrap()).unwrap();
}

/// Says everything that it should not.
fn lie(stream: &mut UnixStream) {
    // No message, no text, no end, too deep, and of a kind that there is not.
    stream.write_all(&vec![b'x'; 1 << 20]).unwrap();
    stream.write_all(b"\n\xff\xfe\x00\n\n{}\n{\"Surprise\":1}\n").unwrap();
    stream.write_all(&[vec![b'['; 50_000], b"\n".to_vec()].concat()).unwrap();
    // Names of others, and of nothing.
    let strange = |name: &str| ServiceStatus {
        name: name.to_owned(),
        state: ServiceState::Ready,
        pid: Some(1),
        restarts: u32::MAX,
    };
    let names = ["", "../../etc/passwd", "db-1", "\u{1b}[2J", &"n".repeat(10_000)];
    let services = names.iter().map(|name| strange(name)).collect();
    say(stream, &GuestMessage::Status(Status { services, ..Status::default() }));
    for number in 0..20_000_u64 {
        let (name, line) = (format!("{number}{}", "s".repeat(1000)), "l".repeat(2000));
        say(stream, &GuestMessage::Log { uptime_ms: u64::MAX, service: name.clone(), line });
        let event = Event::Service { name, state: ServiceState::Ready };
        say(stream, &GuestMessage::Event { uptime_ms: u64::MAX - number, event });
        // What it says of itself, it takes back.
        say(stream, &status(number.is_multiple_of(2)));
    }
}

#[test]
fn a_guest_that_lies_and_floods_hinders_nobody_and_stays_small() {
    let hub = Arc::new(Hub::default());
    let (liar, mut bad) = Machine::attach(&hub, "web-1");
    let (_honest, mut good) = Machine::attach(&hub, "web-2");
    let flood = std::thread::spawn(move || {
        lie(&mut bad);
        bad
    });
    // Meanwhile another one is heard, again and again.
    for round in 0..20 {
        let ready = round % 2 == 0;
        say(&mut good, &status(ready));
        until(&hub, "web-2", |record| record.is_ready() == ready);
    }
    let mut bad = flood.join().unwrap();
    say(&mut bad, &status(true));
    say(&mut bad, &GuestMessage::Event { uptime_ms: 1, event: Event::Fatal { message: "the end".into() } });
    let record = until(&hub, "web-1", |record| record.fatal.as_deref() == Some("the end"));
    assert!(serde_json::to_vec(&record).unwrap().len() < RECORD_LIMIT);
    assert!(hub.save().is_empty());
    assert!(file::read_json::<GuestRecord>(&liar.dir.status()).unwrap().is_some());
    assert!(liar.log_bytes() < LOG_LIMIT, "{}", liar.log_bytes());
    assert_eq!(hub.records().len(), 2, "it is one machine, whatever it calls itself");
    // It comes back, as often as it likes.
    for _ in 0..5 {
        drop(bad);
        bad = liar.listener.accept().unwrap().0;
    }
    say(&mut bad, &status(false));
    until(&hub, "web-1", |record| !record.is_ready());
}

#[test]
fn guests_that_read_nothing_keep_nobody_waiting() {
    let hub = Arc::new(Hub::default());
    let silent: Vec<_> = (1..=8).map(|number| Machine::attach(&hub, &format!("web-{number}"))).collect();
    for number in 1..=8 {
        until(&hub, &format!("web-{number}"), |record| record.connected);
    }
    // Far more than their sockets hold.
    let begun = Instant::now();
    for _ in 0..20_000 {
        hub.ask_all();
    }
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
    // What a command asks of one of them is refused at once; others are asked.
    assert_eq!(hub.check("web-1", "page").unwrap(), None);
    assert_eq!(hub.freeze("web-1", vec!["data".into()], 5).unwrap(), None);
    assert!(!hub.thaw("web-1", 1).unwrap());
    assert!(!hub.shutdown("web-1").unwrap());
    let (_other, mut well) = Machine::attach(&hub, "web-9");
    until(&hub, "web-9", |record| record.connected);
    let run = hub.check("web-9", "page").unwrap().unwrap();
    let answer = CheckAnswer {
        run,
        name: "page".into(),
        failure: None,
        duration_ms: 5,
        output: String::new(),
        left_out_bytes: 0,
    };
    say(&mut well, &GuestMessage::Checked(answer.clone()));
    assert_eq!(hub.answer("web-9", run, LIMIT), CheckState::Over { answer });
    drop(silent);
}
