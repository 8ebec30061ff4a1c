//! A PostgreSQL server: Debian's postgresql, as a user without rights, in a folder that goes with it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{free_port, printed, wait_until};

/// Longest time until it answers on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The user of Debian's package: the server refuses to run as root, and as one that has no name.
const USER: &str = "postgres";

/// Where Debian has the programs of each version.
const PROGRAMS: &str = "/usr/lib/postgresql";

/// One that runs; it and its data end with this value. Its superuser is `plumb`.
pub struct Postgres {
    folder: tempfile::TempDir,
    programs: PathBuf,
    server: Option<Child>,
    /// Where it listens, on 127.0.0.1 and in [`Postgres::socket`].
    pub port: u16,
}

impl Postgres {
    /// Password of the superuser `plumb`, asked for on 127.0.0.1 but not on the socket. It has what has to be escaped.
    pub const PASSWORD: &str = "a:b\\c d";

    /// Starts one with TLS.
    ///
    /// # Errors
    /// If it is not installed or does not answer.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("plumb-postgres-").tempdir()?;
        // The server's user has to get through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let mut server = Postgres { folder, programs: programs()?, server: None, port: free_port()? };
        let password = server.folder.path().join("password");
        fs::write(&password, format!("{}\n", Self::PASSWORD))?;
        fs::create_dir(server.data())?;
        fs::create_dir(server.socket())?;
        server.certificate()?;
        if is_root()? {
            let owner = format!("{USER}:{USER}");
            printed(Command::new("chown").arg("-R").arg(owner).arg(server.folder.path()))?;
        }
        let mut initdb = server.program("initdb");
        initdb.args(["--username=plumb", "--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"]);
        initdb.args(["--encoding=UTF8", "--locale=C.UTF-8"]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(server.data());
        printed(&mut initdb)?;
        server.go()?;
        Ok(server)
    }

    /// Starts the server again after [`Postgres::kill`].
    ///
    /// # Errors
    /// If it does not answer.
    pub fn go(&mut self) -> Result<()> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.socket()).arg("-p").arg(self.port.to_string());
        for setting in [
            "listen_addresses=127.0.0.1".to_owned(),
            "max_connections=40".to_owned(),
            "shared_buffers=16MB".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", self.certificate_path().display()),
            format!("ssl_key_file={}", self.folder.path().join("server.key").display()),
        ] {
            command.arg("-c").arg(setting);
        }
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.server = Some(child.context("cannot start postgres")?);
        let ready = wait_until("postgres answers", LIMIT, &mut || self.sql("postgres", "SELECT 1").is_ok());
        ready.with_context(|| fs::read_to_string(self.folder.path().join("log")).unwrap_or_default())
    }

    /// Ends the server at once, as a crash does.
    ///
    /// # Errors
    /// If it stays.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        printed(self.program("pg_ctl").args(["stop", "-m", "immediate", "-s", "-D"]).arg(self.data()))?;
        server.wait()?;
        Ok(())
    }

    /// Stops all processes of the server where they are, or lets them go on.
    ///
    /// # Errors
    /// If there are none.
    pub fn freeze(&self, is_frozen: Frozen) -> Result<()> {
        let server = self.server.as_ref().context("it does not run")?.id();
        let signal = match is_frozen {
            Frozen::Yes => "-STOP",
            Frozen::No => "-CONT",
        };
        // The server first: then nobody new comes. One that went since it was listed needs no signal.
        printed(Command::new("kill").arg(signal).arg(server.to_string()))?;
        let listed = printed(Command::new("ps").args(["-o", "pid=", "--ppid", &server.to_string()]))?;
        for child in listed.split_whitespace() {
            let sent = printed(Command::new("kill").args([signal, child]));
            if sent.is_err() && Path::new("/proc").join(child).exists() {
                sent?;
            }
        }
        Ok(())
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// If there is one.
    pub fn database(&self, name: &str) -> Result<()> {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\"")).map(|_| ())
    }

    /// What the server answers to `sql`, as lines of columns separated by `|`.
    ///
    /// # Errors
    /// With what it said.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.program("psql");
        psql.arg("-h").arg(self.socket()).args(["-p", &self.port.to_string(), "-U", "plumb", "-d", database]);
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql]);
        printed(psql.stdin(Stdio::null()))
    }

    /// Address of a database by the socket.
    #[must_use]
    pub fn address(&self, database: &str) -> String {
        format!("postgresql://plumb@/{database}?host={}&port={}", self.socket().display(), self.port)
    }

    /// Address of a database by the network; it wants a password.
    #[must_use]
    pub fn network_address(&self, database: &str, query: &str) -> String {
        format!("postgresql://plumb@localhost:{}/{database}?{query}", self.port)
    }

    /// The folder of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The certificate of the server, of `localhost`, signed by itself.
    #[must_use]
    pub fn certificate_path(&self) -> PathBuf {
        self.folder.path().join("server.crt")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn certificate(&self) -> Result<()> {
        let key = self.folder.path().join("server.key");
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        openssl.args(["-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(self.certificate_path());
        printed(&mut openssl)?;
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
        fs::set_permissions(self.certificate_path(), fs::Permissions::from_mode(0o644))?;
        Ok(())
    }

    fn program(&self, name: &str) -> Command {
        let path = self.programs.join(name);
        let mut command = match is_root() {
            Ok(true) => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", USER, "--regid", USER, "--clear-groups"]).arg(path);
                command
            }
            _ => Command::new(path),
        };
        // The folder a test runs in may be closed to the server's user.
        command.current_dir("/").env("LC_ALL", "C.UTF-8").env_remove("PGPASSWORD");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It may be frozen, or gone already.
        let _ = self.freeze(Frozen::No);
        let _ = self.kill();
    }
}

/// Whether a server stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frozen {
    /// It does.
    Yes,
    /// It does not.
    No,
}

fn is_root() -> Result<bool> {
    Ok(printed(Command::new("id").arg("-u"))?.trim() == "0")
}

/// The programs of the newest version that is installed.
fn programs() -> Result<PathBuf> {
    let missing = "PostgreSQL is missing: `scripts/setup postgresql`";
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(Path::new(PROGRAMS))
        .context(missing)?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, programs)| programs.join("initdb").exists())
        .collect();
    versions.sort();
    let Some((_, programs)) = versions.pop() else { bail!(missing) };
    ensure!(programs.join("psql").exists(), missing);
    Ok(programs)
}
