//! Small files of /proc, /sys, /run and the image: read with a limit, written whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::error::Error;
use crate::limit;

/// The whole content, at most `limit` bytes.
pub fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
    }
    Ok(bytes)
}

/// The content as far as `limit` bytes go.
pub fn read_head(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A small text without the white space around it; invalid UTF-8 is replaced.
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = read_bounded(path.as_ref(), limit::SMALL_FILE_BYTES)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Creates or overwrites the file.
///
/// # Errors
/// [`Error::File`] naming the path.
pub fn write(path: &str, content: &str) -> Result<(), Error> {
    let result = File::create(path).and_then(|mut file| file.write_all(content.as_bytes()));
    result.map_err(Error::file("write", path))
}

/// Makes the directory if it is not there.
///
/// # Errors
/// [`Error::File`] naming the path.
pub fn make_directory(path: &str) -> Result<(), Error> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::file("make", path)(error)),
        _ => Ok(()),
    }
}
