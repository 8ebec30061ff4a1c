//! A program of the image that is run to its end during boot, before any service: `mke2fs`, `e2fsck`.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::limit;

/// The end of such a program.
#[derive(Debug)]
pub struct Finished {
    /// Exit status; `None` after a signal.
    pub code: Option<i32>,
    /// The end of what it wrote, in one line.
    pub output: String,
}

/// The first of the paths that exists in the image.
pub fn find<'a>(paths: &[&'a str]) -> Option<&'a str> {
    paths.iter().copied().find(|path| Path::new(path).exists())
}

/// Runs the program with an empty environment and both outputs collected.
///
/// # Errors
/// What could not be done, as a sentence.
pub fn run(program: &str, arguments: &[&str]) -> Result<Finished, String> {
    let failed = |error: std::io::Error| format!("cannot run `{program}`: {error}");
    let (mut reader, writer) = std::io::pipe().map_err(failed)?;
    let second = writer.try_clone().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(writer).stderr(second);
    let mut child = command.spawn().map_err(failed)?;
    // The command holds our copies of the pipe's write end; without this the read would never end.
    drop(command);
    let mut tail = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        match reader.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => tail.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
        tail.drain(..tail.len().saturating_sub(limit::TOOL_OUTPUT_BYTES));
    }
    let status = child.wait().map_err(failed)?;
    let text = String::from_utf8_lossy(&tail);
    let output = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(Finished { code: status.code(), output })
}
