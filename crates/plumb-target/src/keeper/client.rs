//! Our side of `keeper.sock`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::TargetError;
use crate::keeper::request::{MAX_REPLY_BYTES, Reply, Request};
use crate::layout::RunDir;
use crate::socket;

/// How long an answer may take. The longest request waits one second on purpose.
const REPLY_LIMIT: Duration = Duration::from_secs(10);

/// One open conversation.
#[derive(Debug)]
pub(crate) struct Client {
    dir: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    pub fn open(run: &RunDir) -> Result<Client, TargetError> {
        let keeper = |source| TargetError::Keeper { dir: run.0.clone(), source };
        let stream = socket::connect(&run.keeper_socket()).map_err(keeper)?;
        stream.set_read_timeout(Some(REPLY_LIMIT)).map_err(keeper)?;
        stream.set_write_timeout(Some(REPLY_LIMIT)).map_err(keeper)?;
        Ok(Client { dir: run.0.clone(), stream: BufReader::new(stream) })
    }

    /// One request, one answer, whatever it says.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, TargetError> {
        let line =
            self.exchange(request).map_err(|source| TargetError::Keeper { dir: self.dir.clone(), source })?;
        serde_json::from_slice(&line)
            .map_err(|source| TargetError::KeeperAnswer { dir: self.dir.clone(), source })
    }

    /// A request whose only good answer is "done".
    pub fn tell(&mut self, request: &Request) -> Result<(), TargetError> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            Reply::PortTaken { address, reason, holder } => {
                Err(TargetError::Publish { address, reason, holder })
            }
            Reply::Refused { reason } => Err(TargetError::KeeperRefused { reason }),
            other => Err(TargetError::KeeperRefused { reason: format!("unexpected answer {other:?}") }),
        }
    }

    fn exchange(&mut self, request: &Request) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(request)?;
        bytes.push(b'\n');
        self.stream.get_mut().write_all(&bytes)?;
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_REPLY_BYTES).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }
}
