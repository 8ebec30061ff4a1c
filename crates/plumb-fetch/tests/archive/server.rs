//! A real HTTP/1.1 server on this host, with the faults of real ones.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use plumb_model::Digest;

/// What goes wrong with a path.
#[derive(Clone)]
pub enum Fault {
    /// The connection breaks after so many bytes of the body, as often as said.
    Cut { after: usize, times: u32 },
    /// This status instead of the file, as often as said.
    Status { status: u16, times: u32 },
    /// Sent elsewhere.
    Redirect { to: String },
    /// Sent elsewhere once.
    RedirectOnce { to: String },
    /// Offsets are not understood: always the whole file.
    NoRange,
    /// The head promises so many bytes, whatever follows.
    Length { length: usize },
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// As in the request line: a path, or a whole URL if we are the proxy.
    pub target: String,
    pub range: Option<String>,
    pub condition: Option<String>,
    pub agent: Option<String>,
    pub proxy_authorization: Option<String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    faults: BTreeMap<String, Fault>,
    seen: Vec<Seen>,
    etags: bool,
}

/// Serves until the test ends.
pub struct Server {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn new(files: &BTreeMap<String, Vec<u8>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { files: files.clone(), ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                // A client may hang up at any time: that ends its connection, nothing else.
                std::thread::spawn(move || drop(serve(&stream.unwrap(), &shared)));
            }
        });
        Server { address, state }
    }

    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set_files(&self, files: &BTreeMap<String, Vec<u8>>) {
        self.state.lock().unwrap().files = files.clone();
    }

    pub fn put(&self, path: &str, bytes: &[u8]) {
        self.state.lock().unwrap().files.insert(path.into(), bytes.to_vec());
    }

    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().files.remove(path).unwrap();
    }

    pub fn fault(&self, path: &str, fault: Fault) {
        self.state.lock().unwrap().faults.insert(path.into(), fault);
    }

    pub fn heal(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    pub fn use_etags(&self) {
        self.state.lock().unwrap().etags = true;
    }

    /// The requests since the last call.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.state.lock().unwrap().seen)
    }

    /// The targets of the requests since the last call.
    pub fn targets(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.target).collect()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let field = |name: &str| {
            let fits = |line: &&String| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
            head.iter().find(fits).map(|line| line[name.len() + 1..].trim().to_owned())
        };
        let seen = Seen {
            target: head[0].split(' ').nth(1).unwrap().to_owned(),
            range: field("range"),
            condition: field("if-none-match"),
            agent: field("user-agent"),
            proxy_authorization: field("proxy-authorization"),
        };
        let answer = state.lock().unwrap().answer(&seen);
        let mut out = stream;
        out.write_all(&answer.bytes)?;
        if answer.hang_up {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

struct Answer {
    bytes: Vec<u8>,
    hang_up: bool,
}

fn answer(status: &str, fields: &str, body: &[u8]) -> Answer {
    let mut bytes =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Answer { bytes, hang_up: false }
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Answer {
        self.seen.push(seen.clone());
        let path = match seen.target.strip_prefix("http://") {
            Some(rest) => rest[rest.find('/').unwrap()..].to_owned(),
            None => seen.target.clone(),
        };
        let fault = self.fault_of(&path);
        match &fault {
            Some(Fault::Status { status, .. }) => return answer(&format!("{status} no"), "", b""),
            Some(Fault::Redirect { to } | Fault::RedirectOnce { to }) => {
                return answer("302 Found", &format!("Location: {to}\r\n"), b"");
            }
            _ => {}
        }
        let Some(file) = self.files.get(&path) else { return answer("404 Not Found", "", b"no such file") };
        let mut fields = String::new();
        if self.etags {
            let etag = format!("\"{}\"", Digest::of(file).short());
            if seen.condition.as_ref() == Some(&etag) {
                return Answer { bytes: b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(), hang_up: false };
            }
            fields = format!("ETag: {etag}\r\n");
        }
        let offset: Option<usize> = seen
            .range
            .as_ref()
            .map(|range| range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap());
        let mut whole = match (offset, &fault) {
            (Some(offset), fault) if !matches!(fault, Some(Fault::NoRange)) => {
                if offset >= file.len() {
                    return answer("416 Range Not Satisfiable", "", b"");
                }
                fields += &format!("Content-Range: bytes {offset}-{}/{}\r\n", file.len() - 1, file.len());
                answer("206 Partial Content", &fields, &file[offset..])
            }
            _ => answer("200 OK", &fields, file),
        };
        match fault {
            Some(Fault::Cut { after, .. }) => {
                let head = whole.bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
                whole.bytes.truncate(head + after);
                whole.hang_up = true;
            }
            Some(Fault::Length { length }) => {
                let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                whole.bytes = [text.as_bytes(), file].concat();
                whole.hang_up = true;
            }
            _ => {}
        }
        whole
    }

    /// The fault of a path, counting down those that heal.
    fn fault_of(&mut self, path: &str) -> Option<Fault> {
        let fault = self.faults.get_mut(path)?;
        let now = fault.clone();
        if let Fault::Cut { times, .. } | Fault::Status { times, .. } = fault {
            if *times == 0 {
                self.faults.remove(path);
                return None;
            }
            *times -= 1;
        }
        if matches!(now, Fault::RedirectOnce { .. }) {
            self.faults.remove(path);
        }
        Some(now)
    }
}
