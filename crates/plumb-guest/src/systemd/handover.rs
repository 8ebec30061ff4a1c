//! From PID 1 of the boot to systemd, and what the next one at the control port has to know.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use plumb_guest_proto::{GuestMessage, encode_line};

use crate::error::Error;
use crate::report::Reporter;
use crate::{file, limit};

/// Read by nobody but root: what waits for the host may be a service's output.
const FOLDER: &str = "/run/plumb/agent";
/// The message that says who this instance is.
const HELLO: &str = "/run/plumb/agent/hello.json";
/// What the host was not told yet, as the bytes of the control port.
const UNSENT: &str = "/run/plumb/agent/unsent";

/// systemd's own file, not `/sbin/init`, which another package has.
const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// Becomes systemd.
///
/// # Errors
/// [`Error::File`], [`Error::System`] if that fails; there is nothing to return otherwise.
pub fn hand_over(reporter: &mut Reporter, hello: &GuestMessage) -> Result<Infallible, Error> {
    file::make_directory(FOLDER)?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(FOLDER, private).map_err(Error::file("close", FOLDER))?;
    let hello = encode_line(hello).map_err(|e| Error::system("say who this is")(std::io::Error::other(e)))?;
    write(HELLO, &hello)?;
    reporter.say("systemd takes over");
    reporter.console.drain(limit::LAST_WORDS_MS);
    // Both ends of the port stay as they are: what is half sent is gone on with by the next one.
    write(UNSENT, &reporter.control.unsent())?;
    let failed = Command::new(SYSTEMD).env_clear().exec();
    Err(Error::file("start", SYSTEMD)(failed))
}

fn write(path: &str, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(Error::file("write", path))
}

/// Who this instance is.
///
/// # Errors
/// [`Error::File`], [`Error::Document`].
pub fn hello() -> Result<GuestMessage, Error> {
    let bytes =
        file::read_bounded(Path::new(HELLO), limit::SMALL_FILE_BYTES).map_err(Error::file("read", HELLO))?;
    serde_json::from_slice(&bytes).map_err(|source| Error::Document { path: HELLO, source })
}

/// What the host was not told; only the first time.
///
/// # Errors
/// [`Error::File`].
pub fn take_unsent() -> Result<Vec<u8>, Error> {
    let bytes = match file::read_bounded(Path::new(UNSENT), limit::DOCUMENT_BYTES) {
        // This agent was started again.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::file("read", UNSENT))?,
    };
    std::fs::remove_file(UNSENT).map_err(Error::file("remove", UNSENT))?;
    Ok(bytes)
}
