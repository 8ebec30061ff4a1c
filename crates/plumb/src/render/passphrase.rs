//! Asking for passphrases: on the terminal, without echo, or from a file.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::PathBuf;

use plumb_model::SignerName;
use plumb_model::config::ConfigName;
use plumb_ops::Passphrase;
use rustix::termios::{self, LocalModes, OptionalActions};

use crate::output::err;

/// Longest passphrase that is read, bytes.
const LIMIT_BYTES: u64 = 4096;

/// The passphrase of a key that is to be opened: from the file that `PLUMB_PASSPHRASE_FILE` names, or the terminal.
pub fn known(name: &SignerName) -> Option<Passphrase> {
    from_file().or_else(|| ask(&format!("passphrase of key `{name}`: ")))
}

/// The passphrase for a new key. Without a terminal and a file, and for an empty one, there is none.
pub fn new(name: &SignerName) -> Option<Passphrase> {
    if let Some(passphrase) = from_file() {
        return Some(passphrase);
    }
    loop {
        let first = read_line(&format!("passphrase for key `{name}` (empty for none): "))?;
        if first.is_empty() {
            return None;
        }
        if read_line("once more: ")? == first {
            return Some(Passphrase::new(first));
        }
        err!("they differ");
    }
}

/// A secret of a deployment, typed twice. None without a terminal.
pub fn secret(name: &ConfigName) -> Option<String> {
    loop {
        let first = read_line(&format!("secret `{name}`: "))?;
        if read_line("once more: ")? == first {
            return Some(first);
        }
        err!("they differ");
    }
}

fn from_file() -> Option<Passphrase> {
    let path = crate::command::variable("PLUMB_PASSPHRASE_FILE").map(PathBuf::from)?;
    let mut text = String::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(LIMIT_BYTES).read_to_string(&mut text));
    if let Err(error) = read {
        err!("note: cannot read `{}`: {error}", path.display());
        return None;
    }
    Some(Passphrase::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

fn ask(prompt: &str) -> Option<Passphrase> {
    read_line(prompt).map(Passphrase::new)
}

/// A line from the terminal, not shown while it is typed; `None` without a terminal.
fn read_line(prompt: &str) -> Option<String> {
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    let before = termios::tcgetattr(&terminal).ok()?;
    let mut silent = before.clone();
    silent.local_modes &= !LocalModes::ECHO;
    termios::tcsetattr(&terminal, OptionalActions::Flush, &silent).ok()?;
    let line = prompt_line(&terminal, prompt);
    // The terminal must show what is typed again, whatever came of reading.
    let restored = termios::tcsetattr(&terminal, OptionalActions::Flush, &before);
    err!("");
    line.ok().filter(|_| restored.is_ok())
}

/// A line from the terminal, shown while it is typed; `None` without a terminal or an answer.
pub fn answer(prompt: &str) -> Option<String> {
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
    prompt_line(&terminal, prompt).ok()
}

fn prompt_line(terminal: &std::fs::File, prompt: &str) -> io::Result<String> {
    use std::io::Write as _;
    let mut writer = terminal;
    writer.write_all(prompt.as_bytes())?;
    let mut line = String::new();
    BufReader::new(terminal.take(LIMIT_BYTES)).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
