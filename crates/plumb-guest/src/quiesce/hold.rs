//! The thread that freezes file systems and lets them go.
//!
//! It is a thread of its own because whoever writes to a frozen file system stands still until it goes on: PID 1 may make
//! a directory for a service at any moment, and must never be the one who has to let go. It is no process of its own,
//! which something could kill while nobody else knows that a file system is frozen.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::uptime_ms;

/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)`, linux/fs.h.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;

/// What the thread says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// All are frozen, and what that took in milliseconds; or none is, and why.
    Frozen(Result<u64, String>),
    /// None is frozen any more; why what was copied meanwhile is not consistent, and how long they stood still.
    Thawed {
        /// They were not held until they were told to go on.
        failure: Option<String>,
        /// Milliseconds.
        frozen_ms: u64,
    },
}

/// What is done to a file system; the tests have another.
pub trait Gate: Send + 'static {
    /// Writes everything out while others may still write, which makes the standstill short.
    fn write_out(&self, root: &File) -> std::io::Result<()>;
    /// Writes everything out and lets nothing more be written.
    fn freeze(&self, root: &File) -> std::io::Result<()>;
    /// Lets it go on; an error if it was not frozen.
    fn thaw(&self, root: &File) -> std::io::Result<()>;
}

/// The kernel's.
#[derive(Debug, Clone, Copy)]
pub struct Kernel;

impl Gate for Kernel {
    fn write_out(&self, root: &File) -> std::io::Result<()> {
        Ok(rustix::fs::syncfs(root)?)
    }

    fn freeze(&self, root: &File) -> std::io::Result<()> {
        control(root, FIFREEZE)
    }

    fn thaw(&self, root: &File) -> std::io::Result<()> {
        control(root, FITHAW)
    }
}

fn control(root: &File, code: libc::c_ulong) -> std::io::Result<()> {
    // SAFETY: neither FIFREEZE nor FITHAW reads or writes its argument (fs/ioctl.c, ioctl_fsfreeze, ioctl_fsthaw).
    match unsafe { libc::ioctl(root.as_raw_fd(), code as _, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Lets a file system go on that somebody may have left frozen. One that is not frozen stays as it is.
pub fn thaw_left(mount: &Path) {
    if let Ok(root) = File::open(mount) {
        // EINVAL is the good answer: it was not frozen.
        let _ = Kernel.thaw(&root);
    }
}

/// Our end of the thread.
#[derive(Debug)]
pub struct Hold {
    let_go: Option<PipeWriter>,
    wake: PipeReader,
    news: Receiver<News>,
}

impl Hold {
    /// Freezes what is mounted there, until it is told otherwise or `hold_ms` are over.
    ///
    /// # Errors
    /// What keeps the thread from beginning; then nothing is frozen.
    pub fn begin(gate: impl Gate, mounts: Vec<String>, hold_ms: u64) -> std::io::Result<Hold> {
        let (asked, let_go) = std::io::pipe()?;
        let (wake, waker) = std::io::pipe()?;
        let (sender, news) = channel();
        let voice = Voice { sender, waker };
        std::thread::Builder::new()
            .name("freeze".to_owned())
            .spawn(move || hold(&gate, &mounts, hold_ms, &asked, voice))?;
        Ok(Hold { let_go: Some(let_go), wake, news })
    }

    /// Readable when there is news.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// What the thread has said since the last time; called when [`Hold::fd`] is readable.
    pub fn news(&mut self) -> Vec<News> {
        let mut bytes = [0; 8];
        // One byte stands for one word; a thread that has ended has said them all.
        let _ = self.wake.read(&mut bytes);
        self.news.try_iter().collect()
    }

    /// Tells it to let go, because the copy is complete.
    pub fn thaw(&mut self) {
        if let Some(mut pipe) = self.let_go.take() {
            // A thread that is gone has let go by itself, and says so.
            let _ = pipe.write_all(b"t");
        }
    }
}

struct Voice {
    sender: Sender<News>,
    waker: PipeWriter,
}

impl Voice {
    fn say(&mut self, news: News) {
        // Nobody listens any more when the machine goes down; the file systems go on all the same.
        let _ = self.sender.send(news);
        let _ = self.waker.write_all(b"n");
    }
}

fn hold(gate: &impl Gate, mounts: &[String], hold_ms: u64, asked: &PipeReader, mut voice: Voice) {
    let mut roots = Vec::new();
    for mount in mounts {
        match File::open(mount) {
            Ok(root) => roots.push((mount, root)),
            Err(error) => return voice.say(News::Frozen(Err(format!("cannot open `{mount}`: {error}")))),
        }
    }
    for (mount, root) in &roots {
        if let Err(error) = gate.write_out(root) {
            return voice.say(News::Frozen(Err(format!("cannot write out `{mount}`: {error}"))));
        }
    }
    // From here on somebody may have to wait.
    let began = uptime_ms();
    let deadline = began + hold_ms;
    let mut frozen = Vec::new();
    let mut failure = None;
    for (mount, root) in &roots {
        match gate.freeze(root) {
            Ok(()) => frozen.push((*mount, root)),
            Err(error) => {
                failure = Some(format!("cannot freeze `{mount}`: {error}"));
                break;
            }
        }
        if uptime_ms() >= deadline {
            failure = Some(format!("writing everything out took longer than {hold_ms} ms"));
            break;
        }
    }
    if let Some(failure) = failure {
        let _ = thaw_all(gate, &frozen);
        return voice.say(News::Frozen(Err(failure)));
    }
    voice.say(News::Frozen(Ok(uptime_ms() - began)));
    let failure = match wait(asked, deadline) {
        Word::LetGo => None,
        Word::Nobody => Some("the machine was told to stop meanwhile".to_owned()),
        Word::Late => Some(format!("it went on by itself after {hold_ms} ms")),
    };
    let thawed = thaw_all(gate, &frozen);
    voice.say(News::Thawed { failure: failure.or(thawed.err()), frozen_ms: uptime_ms() - began });
}

enum Word {
    LetGo,
    Nobody,
    Late,
}

fn wait(asked: &PipeReader, deadline: u64) -> Word {
    loop {
        let left = deadline.saturating_sub(uptime_ms());
        if left == 0 {
            return Word::Late;
        }
        let timeout = Timespec {
            tv_sec: (left / 1000).cast_signed(),
            tv_nsec: ((left % 1000) * 1_000_000).cast_signed(),
        };
        let mut polled = [PollFd::new(asked, PollFlags::IN)];
        // Interrupted or not: the next round knows what time it is.
        if poll(&mut polled, Some(&timeout)).is_ok_and(|count| count > 0) {
            let mut byte = [0];
            return match (&*asked).read(&mut byte) {
                Ok(1) => Word::LetGo,
                _ => Word::Nobody,
            };
        }
    }
}

/// All of them, whatever happens to one. An error names the first that was not frozen any more.
fn thaw_all(gate: &impl Gate, frozen: &[(&String, &File)]) -> Result<(), String> {
    let mut failure = None;
    for (mount, root) in frozen {
        if let Err(error) = gate.thaw(root) {
            failure.get_or_insert(format!("`{mount}` was not frozen any more: {error}"));
        }
    }
    failure.map_or(Ok(()), Err)
}
