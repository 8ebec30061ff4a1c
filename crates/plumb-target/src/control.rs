//! The control channel of each guest: one thread per instance reads what the guest says.
//!
//! QEMU listens on `control.sock`; whoever connects first has the guest's port `plumb.control`.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use plumb_guest_proto::{
    CheckAnswer, GuestMessage, HostMessage, LineReader, QuiesceAnswer, QuiescePhase, encode_line,
};

use crate::clock::{pause, unix_ms};
use crate::error::TargetError;
use crate::fabric::lock;
use crate::file;
use crate::journal::{Journal, LogLine, bound_console};
use crate::keeper::request::{CheckState, QuiesceState};
use crate::layout::InstanceDir;
use crate::record::{GuestRecord, make_plain};
use crate::socket;

/// How long a read may block before the thread looks whether it is still wanted.
const READ_TICK: Duration = Duration::from_millis(250);

/// How long the first question to a guest may block the thread that listens to it alone; a guest that does not read is stuck.
const WRITE_LIMIT: Duration = Duration::from_secs(1);

/// Pause between two tries to connect: short at first, as a start is waited for.
const FIRST_RETRY: Duration = Duration::from_millis(20);

/// Longest such pause.
const LAST_RETRY: Duration = Duration::from_millis(500);

/// A guest that was asked for its status and has said nothing is asked again after this, then after twice as long…
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// … up to this: QEMU keeps what a guest does not read, and the socket holds only some hundred questions.
const LAST_ASK_AGAIN: Duration = Duration::from_secs(60);

/// Lines that are not understood are told once per so many, so that a hostile guest cannot fill our log.
const COMPLAIN_EVERY: u64 = 10_000;

/// Checks of one guest that are not over or whose outcome nobody has fetched. A command has a handful at once; the oldest
/// goes when there are more, so that one that was killed leaves nothing for ever.
const MAX_ASKED: usize = 64;

#[derive(Debug)]
struct Guest {
    boot: String,
    record: GuestRecord,
    channel: Option<UnixStream>,
    stop: Arc<AtomicBool>,
    dir: InstanceDir,
    saved: u64,
    /// Checks that were asked for, with what came of them.
    asked: BTreeMap<u64, Option<CheckAnswer>>,
    /// The freeze that was asked for last, with what the guest said of it last.
    frozen: Option<(u64, Option<QuiesceAnswer>)>,
}

/// All guests.
#[derive(Debug)]
pub(crate) struct Hub {
    guests: Mutex<BTreeMap<String, Guest>>,
    changed: Condvar,
    next_run: AtomicU64,
}

impl Default for Hub {
    fn default() -> Self {
        Hub {
            guests: Mutex::default(),
            changed: Condvar::default(),
            // A keeper that took the place of a dead one must not take an answer to that one's question for its own.
            next_run: AtomicU64::new(unix_ms().saturating_mul(1000)),
        }
    }
}

impl Hub {
    /// Starts to listen to an instance. The same boot again changes nothing.
    pub fn attach(self: &Arc<Self>, name: &str, boot: &str, dir: InstanceDir) -> io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        {
            let mut guests = lock(&self.guests);
            if guests.get(name).is_some_and(|guest| guest.boot == boot) {
                return Ok(());
            }
            let guest = Guest {
                boot: boot.to_owned(),
                record: GuestRecord::default(),
                channel: None,
                stop: Arc::clone(&stop),
                dir: dir.clone(),
                saved: 0,
                asked: BTreeMap::new(),
                frozen: None,
            };
            if let Some(old) = guests.insert(name.to_owned(), guest) {
                old.stop.store(true, Ordering::Release);
            }
        }
        let listener = Listener { hub: Arc::clone(self), name: name.to_owned(), dir, stop };
        std::thread::Builder::new().name(format!("guest {name}")).spawn(move || listener.run())?;
        Ok(())
    }

    /// Forgets an instance.
    pub fn detach(&self, name: &str) {
        if let Some(guest) = lock(&self.guests).remove(name) {
            guest.stop.store(true, Ordering::Release);
        }
        self.changed.notify_all();
    }

    /// All records.
    pub fn records(&self) -> BTreeMap<String, GuestRecord> {
        lock(&self.guests).iter().map(|(name, guest)| (name.clone(), guest.record.clone())).collect()
    }

    /// Whether connections should go to this instance.
    pub fn is_ready(&self, name: &str) -> bool {
        lock(&self.guests).get(name).is_some_and(|guest| guest.record.is_ready())
    }

    /// The record as soon as it is newer than `seen`, or what there is after `limit`.
    pub fn watch(&self, name: &str, seen: u64, limit: Duration) -> Option<GuestRecord> {
        let guests = lock(&self.guests);
        let (guests, _) = self
            .changed
            .wait_timeout_while(guests, limit, |guests| {
                guests.get(name).is_none_or(|guest| guest.record.sequence <= seen)
            })
            .unwrap_or_else(PoisonError::into_inner);
        guests.get(name).map(|guest| guest.record.clone())
    }

    /// Waits until something changes, at most `limit`.
    pub fn wait_change(&self, limit: Duration) {
        // The answer does not matter: the caller looks again either way.
        drop(self.changed.wait_timeout(lock(&self.guests), limit));
    }

    /// Asks every guest how it is. What they answer (memory in use, mostly) is nothing that they would tell by themselves.
    pub fn ask_all(&self) {
        let Ok(line) = encode_line(&HostMessage::Status) else { return };
        for guest in lock(&self.guests).values() {
            if let Some(channel) = &guest.channel {
                // A channel that is full or gone is seen by its reader; the next round asks again.
                tell(channel, &line);
            }
        }
    }

    /// Asks a guest to shut down. `false` if it cannot be told.
    pub fn shutdown(&self, name: &str) -> Result<bool, TargetError> {
        let line = encode_line(&HostMessage::Shutdown).map_err(TargetError::Message)?;
        let mut guests = lock(&self.guests);
        let Some(guest) = guests.get_mut(name) else { return Ok(false) };
        // From now on no new connection goes there, even if the guest is slow to say so.
        guest.record.stopping = true;
        guest.record.sequence += 1;
        let told = guest.channel.as_ref().is_some_and(|channel| tell(channel, &line));
        drop(guests);
        self.changed.notify_all();
        Ok(told)
    }

    /// Has a check run. `None` if the guest cannot be told.
    pub fn check(&self, name: &str, check: &str) -> Result<Option<u64>, TargetError> {
        let run = self.next_run.fetch_add(1, Ordering::Relaxed);
        let line =
            encode_line(&HostMessage::Check { run, name: check.to_owned() }).map_err(TargetError::Message)?;
        let mut guests = lock(&self.guests);
        let Some(guest) = guests.get_mut(name) else { return Ok(None) };
        let told = guest.channel.as_ref().is_some_and(|channel| tell(channel, &line));
        if !told {
            return Ok(None);
        }
        guest.asked.insert(run, None);
        while guest.asked.len() > MAX_ASKED {
            guest.asked.pop_first();
        }
        Ok(Some(run))
    }

    /// What became of a check, after `limit` at the latest.
    pub fn answer(&self, name: &str, run: u64, limit: Duration) -> CheckState {
        let is_open = |guest: &Guest| guest.channel.is_some() && guest.asked.get(&run) == Some(&None);
        let (mut guests, _) = self
            .changed
            .wait_timeout_while(lock(&self.guests), limit, |guests| guests.get(name).is_some_and(is_open))
            .unwrap_or_else(PoisonError::into_inner);
        let Some(guest) = guests.get_mut(name) else { return CheckState::Lost };
        if is_open(guest) {
            return CheckState::Running;
        }
        match guest.asked.remove(&run).flatten() {
            Some(answer) => CheckState::Over { answer },
            None => CheckState::Lost,
        }
    }

    /// Has volumes held still. `None` if the guest cannot be told.
    pub fn freeze(&self, name: &str, volumes: Vec<String>, hold_ms: u64) -> Result<Option<u64>, TargetError> {
        let run = self.next_run.fetch_add(1, Ordering::Relaxed);
        let line =
            encode_line(&HostMessage::Freeze { run, volumes, hold_ms }).map_err(TargetError::Message)?;
        let mut guests = lock(&self.guests);
        let Some(guest) = guests.get_mut(name) else { return Ok(None) };
        let told = guest.channel.as_ref().is_some_and(|channel| tell(channel, &line));
        if told {
            guest.frozen = Some((run, None));
        }
        Ok(told.then_some(run))
    }

    /// Lets volumes go on. `false` if the guest cannot be told; it does so by itself then.
    pub fn thaw(&self, name: &str, run: u64) -> Result<bool, TargetError> {
        let line = encode_line(&HostMessage::Thaw { run }).map_err(TargetError::Message)?;
        let mut guests = lock(&self.guests);
        let channel = guests.get_mut(name).and_then(|guest| guest.channel.as_ref());
        Ok(channel.is_some_and(|channel| tell(channel, &line)))
    }

    /// How far a freeze is, after `limit` at the latest.
    pub fn quiesced(&self, name: &str, (run, phase): (u64, QuiescePhase), limit: Duration) -> QuiesceState {
        let is_open = |guest: &Guest| match &guest.frozen {
            Some((known, said)) if *known == run => {
                guest.channel.is_some() && said.as_ref().is_none_or(|answer| answer.phase < phase)
            }
            _ => false,
        };
        let (guests, _) = self
            .changed
            .wait_timeout_while(lock(&self.guests), limit, |guests| guests.get(name).is_some_and(is_open))
            .unwrap_or_else(PoisonError::into_inner);
        match guests.get(name) {
            Some(guest) if is_open(guest) => QuiesceState::Running,
            Some(Guest { frozen: Some((known, Some(answer))), .. })
                if *known == run && answer.phase >= phase =>
            {
                QuiesceState::Over { answer: answer.clone() }
            }
            _ => QuiesceState::Lost,
        }
    }

    /// Writes changed records to `status.json` and keeps consoles short. Returns what failed.
    pub fn save(&self) -> Vec<TargetError> {
        let mut changed = Vec::new();
        for guest in lock(&self.guests).values_mut() {
            if guest.saved != guest.record.sequence {
                guest.saved = guest.record.sequence;
                changed.push((guest.dir.clone(), guest.record.clone()));
            }
        }
        changed.iter().filter_map(|(dir, record)| file::write_json(&dir.status(), record).err()).collect()
    }

    /// Keeps the files that QEMU appends to short.
    pub fn bound_consoles(&self) -> Vec<io::Error> {
        let dirs: Vec<InstanceDir> = lock(&self.guests).values().map(|guest| guest.dir.clone()).collect();
        dirs.iter()
            .flat_map(|dir| [dir.console_log(), dir.qemu_log()])
            .filter_map(|path| bound_console(&path).err())
            .collect()
    }

    /// Changes the record of a boot that is still the current one.
    fn change(&self, name: &str, stop: &Arc<AtomicBool>, change: impl FnOnce(&mut Guest)) {
        let mut guests = lock(&self.guests);
        if let Some(guest) = guests.get_mut(name)
            && Arc::ptr_eq(&guest.stop, stop)
        {
            change(guest);
        }
        drop(guests);
        self.changed.notify_all();
    }
}

/// Writes a message to a guest. `false` if it has no room for one: then it has left hundreds unread, and nobody waits for it,
/// because all other guests, and whoever asks about them, would wait, too.
fn tell(channel: &UnixStream, line: &[u8]) -> bool {
    use rustix::net::{SendFlags, send};
    // What is shorter than half of a socket's buffer goes whole or not at all.
    send(channel, line, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok_and(|sent| sent == line.len())
}

struct Listener {
    hub: Arc<Hub>,
    name: String,
    dir: InstanceDir,
    stop: Arc<AtomicBool>,
}

impl Listener {
    fn run(&self) {
        let mut wait = FIRST_RETRY;
        while !self.stop.load(Ordering::Acquire) {
            match socket::connect(&self.dir.control_socket()) {
                Ok(stream) => {
                    wait = FIRST_RETRY;
                    if let Err(error) = self.converse(stream) {
                        eprintln!("control channel of `{}` lost: {error}", self.name);
                    }
                }
                // No listener yet, or the instance is gone.
                Err(_) => wait = (wait * 2).min(LAST_RETRY),
            }
            pause(wait);
        }
    }

    fn converse(&self, mut stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(READ_TICK))?;
        stream.set_write_timeout(Some(WRITE_LIMIT))?;
        let channel = stream.try_clone()?;
        self.hub.change(&self.name, &self.stop, |guest| {
            guest.channel = Some(channel);
            guest.record.set_connected(true);
        });
        let result = self.read(&mut stream);
        self.hub.change(&self.name, &self.stop, |guest| {
            guest.channel = None;
            guest.record.set_connected(false);
        });
        result
    }

    fn read(&self, stream: &mut UnixStream) -> io::Result<()> {
        let ask = encode_line(&HostMessage::Status).map_err(io::Error::other)?;
        let mut journal = Journal::open(&self.dir.log()).map_err(io::Error::other)?;
        let mut reader = LineReader::new();
        let (mut heard, mut refused) = (false, 0_u64);
        let (mut ask_at, mut patience) = (Instant::now(), ASK_AGAIN);
        while !self.stop.load(Ordering::Acquire) {
            if !heard && Instant::now() >= ask_at {
                stream.write_all(&ask)?;
                ask_at += patience;
                patience = (patience * 2).min(LAST_ASK_AGAIN);
            }
            match reader.fill(stream) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            while let Some(message) = reader.next_message::<GuestMessage>() {
                match message {
                    Ok(message) => {
                        heard |= matches!(message, GuestMessage::Status(_));
                        self.take(message, &mut journal)?;
                    }
                    Err(error) => {
                        if refused.is_multiple_of(COMPLAIN_EVERY) {
                            eprintln!("control channel of `{}`: {error}", self.name);
                        }
                        refused += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&self, mut message: GuestMessage, journal: &mut Journal) -> io::Result<()> {
        make_plain(&mut message);
        if let GuestMessage::Log { uptime_ms, service, line } = message {
            return journal.write(&LogLine { t_ms: unix_ms(), uptime_ms, service, line });
        }
        self.hub.change(&self.name, &self.stop, |guest| match message {
            // What nobody asked for is nothing.
            GuestMessage::Checked(answer) => {
                if let Some(asked) = guest.asked.get_mut(&answer.run) {
                    *asked = Some(answer);
                }
            }
            GuestMessage::Quiesced(answer) => {
                if let Some((run, said)) = &mut guest.frozen
                    && *run == answer.run
                {
                    *said = Some(answer);
                }
            }
            message => guest.record.take(message, unix_ms()),
        });
        Ok(())
    }
}

#[cfg(test)]
mod hostile_tests;

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    use plumb_guest_proto::{Event, Status};

    use super::*;

    /// Longest wait for something that takes milliseconds.
    const LIMIT: Duration = Duration::from_secs(20);

    struct FakeGuest {
        reader: BufReader<UnixStream>,
        writer: UnixStream,
    }

    impl FakeGuest {
        fn accept(listener: &UnixListener) -> FakeGuest {
            let (writer, _) = listener.accept().unwrap();
            writer.set_read_timeout(Some(LIMIT)).unwrap();
            FakeGuest { reader: BufReader::new(writer.try_clone().unwrap()), writer }
        }

        fn hear(&mut self) -> HostMessage {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            serde_json::from_str(&line).unwrap()
        }

        fn say(&mut self, message: &GuestMessage) {
            self.writer.write_all(&encode_line(message).unwrap()).unwrap();
        }
    }

    fn until(hub: &Hub, condition: impl Fn(&GuestRecord) -> bool) -> GuestRecord {
        let end = Instant::now() + LIMIT;
        let mut seen = 0;
        loop {
            let record = hub.watch("web-1", seen, LIMIT).unwrap();
            if condition(&record) {
                return record;
            }
            seen = record.sequence;
            assert!(Instant::now() < end, "{record:?}");
        }
    }

    #[test]
    fn a_guest_is_heard_logged_and_told() {
        let temp = tempfile::tempdir().unwrap();
        let dir = InstanceDir(temp.path().to_owned());
        let listener = UnixListener::bind(dir.control_socket()).unwrap();
        let hub = Arc::new(Hub::default());
        hub.attach("web-1", "boot-1", dir.clone()).unwrap();
        let mut guest = FakeGuest::accept(&listener);
        assert_eq!(guest.hear(), HostMessage::Status);
        guest.writer.write_all(b"nonsense\n").unwrap();
        guest.say(&GuestMessage::Log { uptime_ms: 5, service: "web".into(), line: "hi\u{1b}[2J".into() });
        guest.say(&GuestMessage::Event { uptime_ms: 6, event: Event::Ready });
        guest.say(&GuestMessage::Status(Status { ready: true, ..Status::default() }));
        let record = until(&hub, GuestRecord::is_ready);
        assert_eq!(record.events[0].event, Event::Ready);
        assert!(hub.is_ready("web-1"));
        assert!(
            std::fs::read_to_string(dir.log())
                .unwrap()
                .contains("\"service\":\"web\",\"line\":\"hi\u{fffd}[2J\"")
        );
        assert!(hub.save().is_empty());
        assert_eq!(file::read_json::<GuestRecord>(&dir.status()).unwrap().unwrap(), record);

        assert!(hub.shutdown("web-1").unwrap());
        assert!(!hub.is_ready("web-1"));
        assert_eq!(guest.hear(), HostMessage::Shutdown);

        drop(guest);
        until(&hub, |record| !record.connected);
        let mut again = FakeGuest::accept(&listener);
        assert_eq!(again.hear(), HostMessage::Status);
        hub.detach("web-1");
        assert!(hub.watch("web-1", 0, Duration::ZERO).is_none());
        assert!(!hub.shutdown("web-1").unwrap());
    }

    #[test]
    fn checks_are_asked_for_and_answered() {
        let temp = tempfile::tempdir().unwrap();
        let dir = InstanceDir(temp.path().to_owned());
        let listener = UnixListener::bind(dir.control_socket()).unwrap();
        let hub = Arc::new(Hub::default());
        assert_eq!(hub.check("web-1", "page").unwrap(), None);
        hub.attach("web-1", "boot-1", dir).unwrap();
        let mut guest = FakeGuest::accept(&listener);
        assert_eq!(guest.hear(), HostMessage::Status);
        let run = hub.check("web-1", "page").unwrap().unwrap();
        assert_eq!(guest.hear(), HostMessage::Check { run, name: "page".into() });
        assert_eq!(hub.answer("web-1", run, Duration::ZERO), CheckState::Running);
        let answer = |run: u64, output: &str| CheckAnswer {
            run,
            name: "page".into(),
            failure: None,
            duration_ms: 5,
            output: output.into(),
            left_out_bytes: 0,
        };
        // Whoever answers what was not asked is not heard.
        guest.say(&GuestMessage::Checked(answer(run + 1, "lie")));
        guest.say(&GuestMessage::Checked(answer(run, "a\nb\u{1b}")));
        assert_eq!(hub.answer("web-1", run, LIMIT), CheckState::Over { answer: answer(run, "a\nb\u{fffd}") });
        assert_eq!(hub.answer("web-1", run, LIMIT), CheckState::Lost, "an outcome is given out once");
        assert_eq!(hub.answer("web-1", run + 1, LIMIT), CheckState::Lost);
        let open = hub.check("web-1", "page").unwrap().unwrap();
        drop(guest);
        assert_eq!(hub.answer("web-1", open, LIMIT), CheckState::Lost, "the guest has gone");
        assert_eq!(hub.answer("db-1", open, LIMIT), CheckState::Lost);
    }

    #[test]
    fn a_freeze_is_followed_to_its_end() {
        let temp = tempfile::tempdir().unwrap();
        let dir = InstanceDir(temp.path().to_owned());
        let listener = UnixListener::bind(dir.control_socket()).unwrap();
        let hub = Arc::new(Hub::default());
        hub.attach("db-1", "boot-1", dir).unwrap();
        let mut guest = FakeGuest::accept(&listener);
        assert_eq!(guest.hear(), HostMessage::Status);
        let run = hub.freeze("db-1", vec!["data".into()], 5).unwrap().unwrap();
        assert_eq!(guest.hear(), HostMessage::Freeze { run, volumes: vec!["data".into()], hold_ms: 5 });
        let frozen = |run, phase| hub.quiesced("db-1", (run, phase), Duration::ZERO);
        assert_eq!(frozen(run, QuiescePhase::Frozen), QuiesceState::Running);
        let said = |run, phase| QuiesceAnswer { run, phase, failure: None, frozen_ms: 3, after: None };
        // What nobody asked for is nothing.
        guest.say(&GuestMessage::Quiesced(said(run + 1, QuiescePhase::Thawed)));
        guest.say(&GuestMessage::Quiesced(said(run, QuiescePhase::Frozen)));
        let heard = hub.quiesced("db-1", (run, QuiescePhase::Frozen), LIMIT);
        assert_eq!(heard, QuiesceState::Over { answer: said(run, QuiescePhase::Frozen) });
        assert_eq!(frozen(run, QuiescePhase::Thawed), QuiesceState::Running);
        assert!(hub.thaw("db-1", run).unwrap());
        assert_eq!(guest.hear(), HostMessage::Thaw { run });
        assert_eq!(frozen(run + 1, QuiescePhase::Frozen), QuiesceState::Lost);
        drop(guest);
        assert_eq!(hub.quiesced("db-1", (run, QuiescePhase::Thawed), LIMIT), QuiesceState::Lost);
        assert_eq!(hub.freeze("web-1", vec![], 5).unwrap(), None);
    }

    #[test]
    fn another_boot_starts_from_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = InstanceDir(temp.path().to_owned());
        let listener = UnixListener::bind(dir.control_socket()).unwrap();
        let hub = Arc::new(Hub::default());
        hub.attach("web-1", "boot-1", dir.clone()).unwrap();
        let mut guest = FakeGuest::accept(&listener);
        guest.say(&GuestMessage::Event { uptime_ms: 6, event: Event::Fatal { message: "x".into() } });
        until(&hub, |record| record.fatal.is_some());
        hub.attach("web-1", "boot-1", dir.clone()).unwrap();
        assert!(hub.records()["web-1"].fatal.is_some());
        hub.attach("web-1", "boot-2", dir).unwrap();
        assert!(hub.records()["web-1"].fatal.is_none());
    }
}
