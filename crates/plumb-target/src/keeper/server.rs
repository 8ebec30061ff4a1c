//! The keeper's state and how it answers.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::pause;
use crate::error::{At, TargetError};
use crate::fabric::{Fabric, lock};
use crate::file;
use crate::holder::holder;
use crate::keeper::request::{
    Attachment, FORMAT, KeeperStatus, LinkStatus, MAX_REQUEST_BYTES, Publication, PublishedStatus, Reply,
    Request,
};
use crate::layout::{RunDir, check_name};
use crate::proxy::{Backends, Proxy};
use crate::switch::Mac;

/// Conversations at once: a few commands and one watcher per instance that starts.
const MAX_CLIENTS: usize = 256;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a client may be silent before its conversation is ended. It opens a new one when it needs one.
const CLIENT_LIMIT: Duration = Duration::from_secs(60);

/// Longest wait of one `watch`; shorter than the client's patience.
const MAX_WATCH: Duration = Duration::from_secs(1);

/// `keeper.json`: everything wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Config {
    format: u32,
    attachments: BTreeMap<String, Attachment>,
    publications: Vec<Publication>,
}

#[derive(Debug)]
pub(super) struct Server {
    run: RunDir,
    fabric: Fabric,
    backends: Arc<Backends>,
    publications: Mutex<Vec<Publication>>,
    proxies: Mutex<BTreeMap<SocketAddr, Proxy>>,
    /// One change at a time, together with its record in `keeper.json`.
    changes: Mutex<()>,
    clients: AtomicUsize,
    quit: Mutex<bool>,
    quitting: Condvar,
}

impl Server {
    pub fn new(run: RunDir) -> Result<Server, TargetError> {
        Ok(Server {
            fabric: Fabric::start().at("start the network of", &run.0)?,
            run,
            backends: Arc::default(),
            publications: Mutex::default(),
            proxies: Mutex::default(),
            changes: Mutex::default(),
            clients: AtomicUsize::new(0),
            quit: Mutex::new(false),
            quitting: Condvar::new(),
        })
    }

    /// Takes up what a previous keeper was told. What cannot be taken up is said and tried again by [`Server::tick`]
    /// (ports) or told anew by the next command.
    pub fn restore(&self) {
        let config = match file::read_json::<Config>(&self.run.keeper_config()) {
            Ok(Some(config)) if config.format == FORMAT => config,
            Ok(Some(config)) => return eprintln!("keeper.json has format {}: starting empty", config.format),
            Ok(None) => return,
            Err(error) => return eprintln!("starting empty: {error}"),
        };
        for (name, attachment) in config.attachments {
            if let Err(error) = self.attach(&name, attachment) {
                eprintln!("cannot attach `{name}` again: {error}");
            }
        }
        *lock(&self.publications) = config.publications;
        self.reopen();
    }

    /// Regular work. `bound`: also look at the size of files that others write.
    pub fn tick(&self, bound: bool) {
        for error in self.backends.hub.save() {
            eprintln!("{error}");
        }
        if bound {
            self.backends.hub.ask_all();
            for error in self.backends.hub.bound_consoles() {
                eprintln!("cannot shorten a console: {error}");
            }
        }
        let _one = lock(&self.changes);
        self.reopen();
    }

    /// Opens wanted ports that are closed: after a restart another process may have held one for a while.
    fn reopen(&self) {
        let publications = lock(&self.publications).clone();
        let mut proxies = lock(&self.proxies);
        for publication in publications {
            let address = publication.socket_address();
            if let std::collections::btree_map::Entry::Vacant(slot) = proxies.entry(address)
                && let Ok(proxy) = Proxy::open(&publication, &self.backends)
            {
                slot.insert(proxy);
            }
        }
    }

    /// Waits for the order to quit, at most `limit`.
    pub fn wait_quit(&self, limit: Duration) -> bool {
        let waited = self.quitting.wait_timeout_while(lock(&self.quit), limit, |quit| !*quit);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Serves the door until the process ends.
    pub fn accept_all(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    eprintln!("cannot accept a command: {error}");
                    // Out of descriptors: give connections time to end instead of spinning.
                    pause(ACCEPT_PAUSE);
                    continue;
                }
            };
            if self.clients.fetch_add(1, Ordering::AcqRel) >= MAX_CLIENTS {
                self.clients.fetch_sub(1, Ordering::AcqRel);
                continue;
            }
            let server = Arc::clone(self);
            let thread = std::thread::Builder::new().name("command".into()).spawn(move || {
                // A client that goes away in the middle is not worth a line.
                drop(server.converse(stream));
                server.clients.fetch_sub(1, Ordering::AcqRel);
            });
            if let Err(error) = thread {
                self.clients.fetch_sub(1, Ordering::AcqRel);
                eprintln!("cannot serve a command: {error}");
            }
        }
    }

    fn converse(&self, stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(CLIENT_LIMIT))?;
        stream.set_write_timeout(Some(CLIENT_LIMIT))?;
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            (&mut reader).take(MAX_REQUEST_BYTES).read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            let request = serde_json::from_slice::<Request>(&line);
            let quit = matches!(request, Ok(Request::Quit));
            let reply = match request {
                Ok(request) => self.answer(request),
                Err(error) => Reply::Refused { reason: format!("the request is not understood: {error}") },
            };
            let mut bytes = serde_json::to_vec(&reply)?;
            bytes.push(b'\n');
            writer.write_all(&bytes)?;
            if quit {
                *lock(&self.quit) = true;
                self.quitting.notify_all();
            }
        }
    }

    fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Ping => Reply::Pong { format: FORMAT, pid: std::process::id() },
            Request::Status => Reply::Status { status: self.status() },
            Request::Watch { instance, seen, wait_ms } => {
                let limit = Duration::from_millis(wait_ms).min(MAX_WATCH);
                Reply::Guest { guest: self.backends.hub.watch(&instance, seen, limit) }
            }
            Request::Attach { instance, attachment } => {
                let _one = lock(&self.changes);
                done(self.attach(&instance, attachment).and_then(|()| self.save()))
            }
            Request::Detach { instance } => {
                let _one = lock(&self.changes);
                lock(&self.backends.attachments).remove(&instance);
                self.fabric.detach(&instance);
                self.backends.hub.detach(&instance);
                done(self.save())
            }
            Request::Publish { publications } => {
                let _one = lock(&self.changes);
                match self.publish(publications) {
                    Reply::Done => done(self.save()),
                    refused => refused,
                }
            }
            Request::ShutdownGuest { instance } => match self.backends.hub.shutdown(&instance) {
                Ok(true) => Reply::Done,
                Ok(false) => Reply::Refused { reason: format!("guest `{instance}` is not listening") },
                Err(error) => Reply::Refused { reason: error.to_string() },
            },
            Request::Check { instance, name } => match self.backends.hub.check(&instance, &name) {
                Ok(Some(run)) => Reply::Asked { run },
                Ok(None) => Reply::Refused { reason: format!("guest `{instance}` is not listening") },
                Err(error) => Reply::Refused { reason: error.to_string() },
            },
            Request::CheckAnswer { instance, run, wait_ms } => {
                let limit = Duration::from_millis(wait_ms).min(MAX_WATCH);
                Reply::Checked { state: self.backends.hub.answer(&instance, run, limit) }
            }
            Request::Freeze { instance, volumes, hold_ms } => {
                match self.backends.hub.freeze(&instance, volumes, hold_ms) {
                    Ok(Some(run)) => Reply::Asked { run },
                    Ok(None) => Reply::Refused { reason: format!("guest `{instance}` is not listening") },
                    Err(error) => Reply::Refused { reason: error.to_string() },
                }
            }
            Request::Thaw { instance, run } => match self.backends.hub.thaw(&instance, run) {
                Ok(true) => Reply::Done,
                Ok(false) => Reply::Refused { reason: format!("guest `{instance}` is not listening") },
                Err(error) => Reply::Refused { reason: error.to_string() },
            },
            Request::QuiesceAnswer { instance, run, phase, wait_ms } => {
                let limit = Duration::from_millis(wait_ms).min(MAX_WATCH);
                Reply::Quiesced { state: self.backends.hub.quiesced(&instance, (run, phase), limit) }
            }
            Request::Quit => Reply::Done,
        }
    }

    fn attach(&self, name: &str, attachment: Attachment) -> Result<(), TargetError> {
        check_name(name)?;
        let mac = attachment.mac.parse::<Mac>().map_err(|()| TargetError::Request {
            instance: name.to_owned(),
            reason: format!("`{}` is not the hardware address of one interface", attachment.mac),
        })?;
        let dir = self.run.instance(name);
        let known = lock(&self.backends.attachments).insert(name.to_owned(), attachment.clone());
        if known.as_ref() != Some(&attachment) {
            self.fabric.attach(name, mac, dir.net_socket());
        }
        self.backends.hub.attach(name, &attachment.boot, dir.clone()).at("listen to", dir.path())
    }

    fn publish(&self, publications: Vec<Publication>) -> Reply {
        let mut proxies = lock(&self.proxies);
        let mut opened = BTreeMap::new();
        for publication in &publications {
            let address = publication.socket_address();
            if proxies.contains_key(&address) || opened.contains_key(&address) {
                continue;
            }
            match Proxy::open(publication, &self.backends) {
                Ok(proxy) => opened.insert(address, proxy),
                Err(error) => {
                    let holder = holder(publication.host_port);
                    return Reply::PortTaken { address, reason: error.to_string(), holder };
                }
            };
        }
        proxies.append(&mut opened);
        proxies.retain(|address, _| publications.iter().any(|wanted| wanted.socket_address() == *address));
        for publication in &publications {
            if let Some(proxy) = proxies.get(&publication.socket_address()) {
                proxy.redirect(publication);
            }
        }
        *lock(&self.publications) = publications;
        Reply::Done
    }

    fn save(&self) -> Result<(), TargetError> {
        let config = Config {
            format: FORMAT,
            attachments: lock(&self.backends.attachments).clone(),
            publications: lock(&self.publications).clone(),
        };
        file::write_json(&self.run.keeper_config(), &config)
    }

    fn status(&self) -> KeeperStatus {
        let links = self.fabric.views().into_iter().map(|(name, view)| {
            let counter = view.counter;
            let link = LinkStatus {
                connected: view.connected,
                received: counter.received,
                sent: counter.sent,
                dropped: counter.dropped,
                refused: counter.refused,
            };
            (name, link)
        });
        let links = links.collect();
        let publications = lock(&self.publications).clone();
        let proxies = lock(&self.proxies);
        let published = publications.into_iter().map(|publication| {
            let proxy = proxies.get(&publication.socket_address());
            let connections = proxy.map_or(0, Proxy::connections);
            PublishedStatus { open: proxy.is_some(), connections, publication }
        });
        KeeperStatus { guests: self.backends.hub.records(), links, published: published.collect() }
    }
}

fn done(result: Result<(), TargetError>) -> Reply {
    match result {
        Ok(()) => Reply::Done,
        Err(error) => {
            // Only text crosses the socket, so the chain is written out here.
            let mut reason = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                reason.push_str(&format!(": {next}"));
                cause = next.source();
            }
            Reply::Refused { reason }
        }
    }
}
