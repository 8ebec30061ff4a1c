//! The password of a PostgreSQL server: from the environment or a file of the user's, as `psql` takes it.
//!
//! A file has one line per server: `host:port:database:user:password`; `*` is any, `\` takes the meaning from `:` and `\`.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::address::PostgresAddress;
use crate::database::DatabaseError;

/// Longest file of passwords that is read: thousands of servers.
const FILE_LIMIT_BYTES: u64 = 1024 * 1024;

/// A password; it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// From the environment.
    #[must_use]
    pub fn new(text: String) -> Self {
        Password(text)
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// Where a password may be, as the environment says.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// `PGPASSWORD`.
    pub password: Option<Password>,
    /// `PGPASSFILE`, or `.pgpass` in the user's folder.
    pub passfile: Option<PathBuf>,
}

impl Credentials {
    /// The password for a server, if there is one.
    ///
    /// # Errors
    /// If a file that the address names cannot be read, or others than its owner can.
    pub(crate) fn password(&self, address: &PostgresAddress) -> Result<Option<Password>, DatabaseError> {
        if let Some(path) = address.passfile() {
            return read(path)?.map_or_else(
                || Err(failed(path, "there is no such file")),
                |text| Ok(find(&text, &address.asked())),
            );
        }
        if let Some(password) = &self.password {
            return Ok(Some(password.clone()));
        }
        let Some(path) = &self.passfile else { return Ok(None) };
        Ok(read(path)?.and_then(|text| find(&text, &address.asked())))
    }
}

fn failed(path: &Path, reason: impl fmt::Display) -> DatabaseError {
    DatabaseError::Passwords { path: path.to_owned(), reason: reason.to_string() }
}

/// The text of a file that is its owner's only; nothing if there is none.
fn read(path: &Path) -> Result<Option<String>, DatabaseError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| failed(path, error))?,
    };
    let mode = file.metadata().map_err(|error| failed(path, error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(failed(path, "others than its owner may read it; `chmod 600` it"));
    }
    let mut text = String::new();
    file.take(FILE_LIMIT_BYTES).read_to_string(&mut text).map_err(|error| failed(path, error))?;
    Ok(Some(text))
}

/// The password on the first line that fits.
fn find(text: &str, asked: &[String; 4]) -> Option<Password> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let (password, wanted) = fields.split_last()?;
        let fits = wanted.len() == asked.len()
            && wanted.iter().zip(asked).all(|(wanted, asked)| wanted == "*" || wanted == asked);
        fits.then(|| Password(password.clone()))
    })
}

/// The five parts of a line. What follows the fourth `:` is the password.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let count = fields.len();
        let Some(field) = fields.last_mut() else { break };
        match character {
            '\\' => field.extend(characters.next()),
            ':' if count < 5 => fields.push(String::new()),
            other => field.push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn check(text: &str) -> Option<String> {
        let asked = ["db.example", "5432", "plumb", "ann"].map(str::to_owned);
        find(text, &asked).map(|password| password.0)
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let text = "# hosts\nother:*:*:*:no\ndb.example:5432:plumb:bob:no\n*:*:*:ann:first\n*:*:*:*:second\n";
        assert_eq!(check(text).as_deref(), Some("first"));
        assert_eq!(check("*:*:*:*:a\\:b\\\\c").as_deref(), Some("a:b\\c"));
        assert_eq!(check("*:*:*:*:a:b").as_deref(), Some("a:b"));
        assert_eq!(check("*:*:ann:x"), None, "too few parts");
        assert_eq!(check(""), None);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pgpass");
        std::fs::write(&path, "*:*:*:*:hunter2\n").expect("writes");
        let address: PostgresAddress = "postgresql://ann@localhost/plumb".parse().expect("an address");
        let credentials = Credentials { password: None, passfile: Some(path.clone()) };
        let mode = |bits| std::fs::set_permissions(&path, Permissions::from_mode(bits)).expect("sets");
        mode(0o644);
        let error = credentials.password(&address).expect_err("others may read it");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        mode(0o600);
        let password = credentials.password(&address).expect("reads").expect("is there");
        assert_eq!(password.reveal(), "hunter2");
        assert!(!format!("{password:?}{credentials:?}").contains("hunter2"));
        let named = format!("postgresql://ann@localhost/plumb?passfile={}/none", folder.path().display());
        assert!(credentials.password(&named.parse().expect("an address")).is_err(), "named and not there");
    }
}
