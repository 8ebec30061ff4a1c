//! Why a guest cannot go on.

use std::error::Error as _;
use std::io;

use plumb_guest_proto::RootDiskError;

/// Each of these ends the boot: it is said on the console and to the host, then the power goes off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// mount(2).
    #[error("cannot mount {what} on `{at}`")]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Where.
        at: String,
        #[source]
        source: io::Error,
    },
    /// Anything done with one file.
    #[error("cannot {action} `{path}`")]
    File {
        /// Verb: `read`, `write`, `make`.
        action: &'static str,
        /// Which file.
        path: String,
        #[source]
        source: io::Error,
    },
    /// finit_module(2).
    #[error("cannot load kernel module `{name}`")]
    Module {
        /// File name in the module folder.
        name: String,
        #[source]
        source: io::Error,
    },
    /// The command line names no root.
    #[error("the kernel command line has no `plumb.root=`")]
    NoRoot,
    /// The command line names a root that cannot be understood.
    #[error("the kernel command line is wrong")]
    BadRoot(#[from] RootDiskError),
    /// A device did not appear in time.
    #[error("no {what} `{name}` after {seconds} s")]
    DeviceMissing {
        /// Kind of device.
        what: &'static str,
        /// Serial or hardware address.
        name: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A device-mapper ioctl.
    #[error("cannot {step} the verified root on disk `{serial}`")]
    Verity {
        /// `create`, `load`, `start`.
        step: &'static str,
        /// Disk.
        serial: String,
        #[source]
        source: io::Error,
    },
    /// JSON that is not the document.
    #[error("`{path}` is not understood")]
    Document {
        /// Which file.
        path: &'static str,
        #[source]
        source: serde_json::Error,
    },
    /// Another format number.
    #[error("`{path}` has format {found}, this guest reads format {expected}")]
    Format {
        /// Which file.
        path: &'static str,
        /// The file's number.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// The image and the instance do not belong together.
    #[error("the image is machine `{image}`, the instance is of machine `{instance}`")]
    WrongMachine {
        /// Image's.
        image: String,
        /// Instance's.
        instance: String,
    },
    /// A document contradicts itself.
    #[error("`{path}`: {problem}")]
    Contradiction {
        /// Which file.
        path: &'static str,
        /// What is wrong, naming the object.
        problem: String,
    },
    /// A network ioctl.
    #[error("cannot {step} of network interface `{interface}`")]
    Network {
        /// What was to be done: `set the address`.
        step: &'static str,
        /// Interface name.
        interface: String,
        #[source]
        source: io::Error,
    },
    /// A volume is refused.
    #[error("volume `{name}`: {problem}")]
    Volume {
        /// Volume name.
        name: String,
        /// Why.
        problem: String,
    },
    /// A service of systemd did not become ready.
    #[error("`{service}` is not ready after {seconds} s: {answer}")]
    NotReady {
        /// Service name.
        service: String,
        /// How long was waited.
        seconds: u64,
        /// The last answer of its check.
        answer: String,
    },
    /// A system call without a file.
    #[error("cannot {action}")]
    System {
        /// What.
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// An [`Error::File`] for `map_err`.
    pub fn file(action: &'static str, path: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::File { action, path, source }
    }

    /// An [`Error::System`] for `map_err`.
    pub fn system(action: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::System { action, source }
    }

    /// The error and its causes in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_is_one_line() {
        let error = Error::file("read", "/x")(io::Error::from_raw_os_error(2));
        assert_eq!(error.chain(), "cannot read `/x`: No such file or directory (os error 2)");
    }
}
