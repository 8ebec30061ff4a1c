//! A web server of static files, and a line that breaks.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Longest wait for bytes: packing a release takes a minute of one processor.
const LIMIT: Duration = Duration::from_secs(600);

/// How often it is looked whether a process has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Serves the files below a folder: whole, or a range of their bytes.
pub struct Files {
    /// Where it listens.
    pub port: u16,
}

impl Files {
    /// Starts it; it ends with the test. Whoever asks for `endless` gets a body without an end.
    pub fn start(root: &Path, endless: Option<&'static str>) -> Result<Files> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let root = root.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let root = root.clone();
                // A client that goes away is no fault of the server.
                std::thread::spawn(move || drop(serve(&stream, &root, endless)));
            }
        });
        Ok(Files { port })
    }
}

fn serve(stream: &TcpStream, root: &Path, endless: Option<&str>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).context("a path")?.to_owned();
    let mut range = None;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (start, end) = value.trim().split_once('-').context("a range")?;
            range = Some((start.parse::<u64>()?, end.parse::<u64>()?));
        }
    }
    let mut stream = stream;
    if endless.is_some_and(|end| path.ends_with(end)) {
        stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
        loop {
            stream.write_all(&[b' '; 65536])?;
        }
    }
    let file = root.join(path.trim_start_matches('/'));
    let Ok(mut file) = File::open(file) else {
        return Ok(
            stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?
        );
    };
    let size = file.metadata()?.len();
    let (start, end) = range.map_or((0, size), |(start, end)| (start, (end + 1).min(size)));
    let length = end.saturating_sub(start);
    let status = match range {
        Some(_) => {
            format!("206 Partial Content\r\nContent-Range: bytes {start}-{}/{size}", end.saturating_sub(1))
        }
        None => "200 OK".to_owned(),
    };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    file.seek(SeekFrom::Start(start))?;
    std::io::copy(&mut file.take(length), &mut stream)?;
    Ok(())
}

/// A line to a server on this host, which can be cut after so many bytes of a connection.
pub struct Line {
    /// Where it listens.
    pub port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// State of the generator of random numbers, and the most bytes of one connection; 0 is no limit.
    plan: Mutex<(u64, u64)>,
    total: Mutex<u64>,
    changed: Condvar,
    cuts: AtomicU64,
}

impl Line {
    /// A line to `target` that is never cut.
    pub fn start(target: u16) -> Result<Line> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let line = Line { port, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(other) = TcpStream::connect(("127.0.0.1", target)) else { continue };
                let budget = Arc::new(AtomicU64::new(shared.budget()));
                for (from, to) in [(&stream, &other), (&other, &stream)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let (shared, budget) = (Arc::clone(&shared), Arc::clone(&budget));
                    std::thread::spawn(move || carry(&from, &to, &shared, &budget));
                }
            }
        });
        Ok(line)
    }

    /// Cuts every connection after a random number of bytes, at most `most`; 0 for never. The same seed, the same cuts.
    pub fn cut(&self, seed: u64, most: u64) {
        *lock(&self.shared.plan) = (seed, most);
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Bytes carried so far.
    pub fn total(&self) -> u64 {
        *lock(&self.shared.total)
    }

    /// Waits until so many bytes were carried, then kills the process, unless it has ended before. Was it killed?
    pub fn kill_after(&self, bytes: u64, child: &mut std::process::Child) -> Result<bool> {
        let end = std::time::Instant::now() + LIMIT;
        let mut total = lock(&self.shared.total);
        while *total < bytes {
            ensure!(std::time::Instant::now() < end, "only {total} of {bytes} bytes came");
            // On a busy machine more may come before each kill than is waited for, and the last kill comes too late; or the
            // server is so slow that the command gives up. Either is an end like another: what must work comes after it.
            if child.try_wait()?.is_some() {
                return Ok(false);
            }
            let waited = self.shared.changed.wait_timeout(total, LOOK);
            total = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(total);
        child.kill()?;
        Ok(child.wait()?.code().is_none())
    }
}

impl Shared {
    fn budget(&self) -> u64 {
        let mut plan = lock(&self.plan);
        if plan.1 == 0 {
            return u64::MAX;
        }
        // Knuth's constants (MMIX).
        plan.0 = plan.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (plan.0 >> 33) % plan.1
    }
}

fn carry(mut from: &TcpStream, mut to: &TcpStream, shared: &Shared, budget: &AtomicU64) {
    let mut block = vec![0; 32 * 1024];
    while let Ok(count) = from.read(&mut block) {
        let left = budget.load(Ordering::SeqCst);
        let sent = (count as u64).min(left);
        budget.store(if left == u64::MAX { left } else { left - sent }, Ordering::SeqCst);
        let is_cut = sent < count as u64;
        if to.write_all(&block[..sent as usize]).is_err() || count == 0 || is_cut {
            if is_cut {
                shared.cuts.fetch_add(1, Ordering::SeqCst);
            }
            break;
        }
        *lock(&shared.total) += sent;
        shared.changed.notify_all();
    }
    // Both ends learn of it; one may have gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that ends with the test.
pub struct Process(pub std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder that is empty.
pub fn empty(path: PathBuf) -> Result<PathBuf> {
    if path.exists() {
        std::fs::remove_dir_all(&path)?;
    }
    std::fs::create_dir_all(&path)?;
    Ok(path)
}
