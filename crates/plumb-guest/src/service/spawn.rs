//! One process of a service: everything is prepared before the fork, so that the child only makes system calls.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use plumb_guest_proto::{Command, Limit, ServiceSpec};

use super::expand;
use crate::limit;

/// A child whose execve is not known yet.
#[derive(Debug)]
pub struct Child {
    /// Process id.
    pub pid: u32,
    /// Ends without a byte when execve succeeded, otherwise holds the failed step; read it with [`verdict`].
    pub exec: File,
}

/// What a child gets besides its command.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The service.
    pub spec: &'a ServiceSpec,
    /// Its whole environment.
    pub environment: &'a BTreeMap<String, String>,
    /// `cgroup.procs` of its control group.
    pub door: &'a File,
    /// `/dev/null`.
    pub input: BorrowedFd<'a>,
    /// Where both outputs go.
    pub output: BorrowedFd<'a>,
}

/// What the child does before execve, in this order; the number goes over the pipe when one fails.
const STEPS: [&str; 14] = [
    "run",
    "join the control group for",
    "start a session for",
    "set up the standard files for",
    "set the limits for",
    "set the OOM score for",
    "set the priority for",
    "drop capabilities for",
    "set the groups for",
    "set the group for",
    "set the user for",
    "raise ambient capabilities for",
    "forbid new privileges for",
    "enter the working directory for",
];

const RUN: u8 = 0;
const CGROUP: u8 = 1;
const SESSION: u8 = 2;
const STANDARD: u8 = 3;
const LIMITS: u8 = 4;
const OOM: u8 = 5;
const NICE: u8 = 6;
const BOUNDING: u8 = 7;
const GROUPS: u8 = 8;
const GID: u8 = 9;
const UID: u8 = 10;
const AMBIENT: u8 = 11;
const PRIVILEGES: u8 = 12;
const DIRECTORY: u8 = 13;

/// Capability numbers above this do not exist in any kernel yet (a u64 holds them all).
const LAST_CAPABILITY: i32 = 63;

const RESOURCES: [(&str, libc::__rlimit_resource_t); 15] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

/// Whether [`ServiceSpec::limits`] may have this key.
pub fn is_known_limit(name: &str) -> bool {
    RESOURCES.iter().any(|(known, _)| *known == name)
}

/// Everything the child needs, in the form the system calls want.
struct Prepared {
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    directory: CString,
    limits: Vec<(libc::__rlimit_resource_t, libc::rlimit)>,
    oom_score: Vec<u8>,
    nice: i32,
    umask: u32,
    groups: Vec<libc::gid_t>,
    gid: u32,
    uid: u32,
    bounding: u64,
    ambient: u64,
    no_new_privileges: bool,
    door: RawFd,
    input: RawFd,
    output: RawFd,
    /// Owns what `argv` and `envp` point to.
    _strings: Vec<CString>,
}

/// Starts a command of the service.
///
/// # Errors
/// A sentence naming the program.
pub fn start(command: &Command, around: &Surroundings) -> Result<Child, String> {
    let program = command.argv.first().map_or("", String::as_str);
    let failed = |error: io::Error| format!("cannot run `{program}`: {error}");
    let prepared = prepare(command, around).map_err(failed)?;
    let (reader, writer) = io::pipe().map_err(failed)?;
    // SAFETY: a second thread may hold a file system still (see `quiesce`), so the child only makes system calls (see
    // `child`) and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: `prepared` is complete and lives until execve or _exit.
        unsafe { child(&prepared, writer.as_raw_fd()) }
    }
    let Ok(pid) = u32::try_from(pid) else { return Err(failed(io::Error::last_os_error())) };
    let exec = File::from(std::os::fd::OwnedFd::from(reader));
    rustix::io::ioctl_fionbio(&exec, true).map_err(|errno| failed(errno.into()))?;
    Ok(Child { pid, exec })
}

/// What the pipe of a child says: nothing yet, running, or why not.
pub fn verdict(exec: &mut File, program: &str) -> Option<Result<(), String>> {
    let mut bytes = [0; 5];
    match exec.read(&mut bytes) {
        Ok(0) => Some(Ok(())),
        Ok(_) => {
            let step = STEPS.get(usize::from(bytes[0])).copied().unwrap_or(STEPS[0]);
            let errno = i32::from_ne_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            Some(Err(format!("cannot {step} `{program}`: {}", io::Error::from_raw_os_error(errno))))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        Err(error) => Some(Err(format!("cannot run `{program}`: {error}"))),
    }
}

fn prepare(command: &Command, around: &Surroundings) -> io::Result<Prepared> {
    let spec = around.spec;
    let mut strings = Vec::new();
    for word in expand::arguments(&command.argv, around.environment) {
        strings.push(CString::new(word)?);
    }
    let words = strings.len();
    for (name, value) in around.environment {
        strings.push(CString::new(format!("{name}={value}"))?);
    }
    let pointers = |strings: &[CString]| {
        let mut list: Vec<*const libc::c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        list.push(ptr::null());
        list
    };
    if words == 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let privileged = command.privileged;
    Ok(Prepared {
        argv: pointers(&strings[..words]),
        envp: pointers(&strings[words..]),
        directory: CString::new(spec.working_directory.as_str())?,
        limits: limits(&spec.limits),
        oom_score: spec.oom_score_adjust.to_string().into_bytes(),
        nice: spec.nice,
        umask: spec.umask,
        groups: if privileged { vec![] } else { spec.groups.clone() },
        gid: if privileged { 0 } else { spec.gid },
        uid: if privileged { 0 } else { spec.uid },
        bounding: if privileged { u64::MAX } else { spec.capability_bounding },
        ambient: if privileged { 0 } else { spec.capability_ambient },
        no_new_privileges: spec.no_new_privileges && !privileged,
        door: around.door.as_raw_fd(),
        input: around.input.as_raw_fd(),
        output: around.output.as_raw_fd(),
        _strings: strings,
    })
}

fn limits(wanted: &BTreeMap<String, Limit>) -> Vec<(libc::__rlimit_resource_t, libc::rlimit)> {
    let mut limits = Vec::new();
    for (name, resource) in RESOURCES {
        let given = wanted.get(name).copied();
        let number = |value: Option<u64>| match value {
            None if name == "nofile" => limit::OPEN_FILES_MAX,
            Some(value) if name == "nofile" => value.min(limit::OPEN_FILES_MAX),
            None => libc::RLIM_INFINITY,
            Some(value) => value,
        };
        if let Some(Limit { soft, hard }) = given {
            let rlim_max = number(hard);
            limits.push((resource, libc::rlimit { rlim_cur: number(soft).min(rlim_max), rlim_max }));
        } else if name == "nofile" {
            let (rlim_cur, rlim_max) = limit::OPEN_FILES;
            limits.push((resource, libc::rlimit { rlim_cur, rlim_max }));
        }
    }
    limits
}

/// The child's side.
///
/// # Safety
/// Call only in a forked child; the pointers of `prepared` must be valid.
unsafe fn child(prepared: &Prepared, pipe: RawFd) -> ! {
    // SAFETY: as the caller promises.
    let step = unsafe { set_up(prepared) };
    // SAFETY: __errno_location points to this thread's errno; write and _exit are async-signal-safe, and the buffer
    // is on the stack.
    unsafe {
        let errno = (*libc::__errno_location()).to_ne_bytes();
        let message = [step, errno[0], errno[1], errno[2], errno[3]];
        // Should this fail the parent sees a child that ended with 127, which is a failure too.
        libc::write(pipe, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

/// Returns the step that failed, with errno set; does not return if execve succeeds.
///
/// # Safety
/// Call only in a forked child; the pointers of `prepared` must be valid.
unsafe fn set_up(prepared: &Prepared) -> u8 {
    // SAFETY: only async-signal-safe system calls on descriptors and buffers that `prepared` keeps valid.
    unsafe {
        if libc::write(prepared.door, c"0".as_ptr().cast(), 1) != 1 {
            return CGROUP;
        }
        if libc::setsid() < 0 {
            return SESSION;
        }
        for (fd, target) in [(prepared.input, 0), (prepared.output, 1), (prepared.output, 2)] {
            if libc::dup2(fd, target) < 0 {
                return STANDARD;
            }
        }
        // All our descriptors are close-on-exec; this is for one that a library forgot.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::umask(prepared.umask);
        for (resource, limit) in &prepared.limits {
            if libc::setrlimit(*resource, limit) < 0 {
                return LIMITS;
            }
        }
        if !set_oom_score(&prepared.oom_score) {
            return OOM;
        }
        if prepared.nice != 0 && libc::setpriority(libc::PRIO_PROCESS, 0, prepared.nice) < 0 {
            return NICE;
        }
        if let Err(step) = set_user(prepared) {
            return step;
        }
        if prepared.no_new_privileges && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            return PRIVILEGES;
        }
        if libc::chdir(prepared.directory.as_ptr()) < 0 {
            return DIRECTORY;
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::execve(prepared.argv[0], prepared.argv.as_ptr(), prepared.envp.as_ptr());
    }
    RUN
}

/// # Safety
/// Call only in a forked child.
unsafe fn set_oom_score(score: &[u8]) -> bool {
    if score == b"0" {
        return true;
    }
    // SAFETY: a constant path and a buffer that lives through the calls.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        fd >= 0 && libc::write(fd, score.as_ptr().cast(), score.len()) >= 0
    }
}

/// capset(2): the structures of version 3.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Capabilities, groups and user, in the order that capabilities(7) demands.
///
/// # Safety
/// Call only in a forked child.
unsafe fn set_user(prepared: &Prepared) -> Result<(), u8> {
    // SAFETY: integers, and buffers that live through each call.
    unsafe {
        for number in 0..=LAST_CAPABILITY {
            let keeps = prepared.bounding & (1 << number) != 0;
            if !keeps && libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) < 0 && errno() != libc::EINVAL {
                return Err(BOUNDING);
            }
        }
        let keeps_some = prepared.uid != 0 && prepared.ambient != 0;
        if keeps_some && libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 {
            return Err(AMBIENT);
        }
        if libc::setgroups(prepared.groups.len(), prepared.groups.as_ptr()) < 0 {
            return Err(GROUPS);
        }
        if libc::setresgid(prepared.gid, prepared.gid, prepared.gid) < 0 {
            return Err(GID);
        }
        if libc::setresuid(prepared.uid, prepared.uid, prepared.uid) < 0 {
            return Err(UID);
        }
        if keeps_some { raise_ambient(prepared.ambient) } else { Ok(()) }
    }
}

/// # Safety
/// Call only in a forked child.
unsafe fn raise_ambient(wanted: u64) -> Result<(), u8> {
    let header = CapabilityHeader { version: 0x2008_0522, pid: 0 };
    let half = |bits: u32| CapabilityData { effective: bits, permitted: bits, inheritable: bits };
    let data = [half((wanted & 0xffff_ffff) as u32), half((wanted >> 32) as u32)];
    // SAFETY: the two structures have the layout of version 3 and live through the call; prctl takes integers.
    unsafe {
        if libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) < 0 {
            return Err(AMBIENT);
        }
        for number in 0..=LAST_CAPABILITY {
            let wants = wanted & (1 << number) != 0;
            if wants && libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0) < 0 {
                return Err(AMBIENT);
            }
        }
    }
    Ok(())
}

fn errno() -> i32 {
    // SAFETY: __errno_location always points to this thread's errno.
    unsafe { *libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_have_defaults_and_bounds() {
        let find = |limits: &[(libc::__rlimit_resource_t, libc::rlimit)], wanted| {
            limits.iter().find(|(resource, _)| *resource == wanted).map(|(_, l)| (l.rlim_cur, l.rlim_max))
        };
        assert_eq!(find(&limits(&BTreeMap::new()), libc::RLIMIT_NOFILE), Some(limit::OPEN_FILES));
        let wanted = BTreeMap::from([
            ("nofile".to_owned(), Limit { soft: None, hard: None }),
            ("core".to_owned(), Limit { soft: None, hard: Some(5) }),
        ]);
        let found = limits(&wanted);
        assert_eq!(find(&found, libc::RLIMIT_NOFILE), Some((limit::OPEN_FILES_MAX, limit::OPEN_FILES_MAX)));
        assert_eq!(find(&found, libc::RLIMIT_CORE), Some((5, 5)));
    }

    /// Starts `argv` as nobody; returns its output and what the pipe said.
    fn start_as_nobody(argv: &[&str], door: &File) -> (String, Result<(), String>) {
        let argv: Vec<String> = argv.iter().map(|s| (*s).to_owned()).collect();
        let command = Command { argv: argv.clone(), ignore_failure: false, privileged: false };
        let mut spec =
            ServiceSpec { uid: 65534, gid: 65534, no_new_privileges: true, ..crate::service::test_spec() };
        // Below whatever the host allows.
        spec.limits.insert("nofile".to_owned(), Limit { soft: Some(64), hard: Some(64) });
        let environment = BTreeMap::from([("WORDS".to_owned(), "a b".to_owned())]);
        let null = File::options().read(true).write(true).open("/dev/null").expect("null");
        let (mut reader, writer) = io::pipe().expect("pipe");
        let around = Surroundings {
            spec: &spec,
            environment: &environment,
            door,
            input: std::os::fd::AsFd::as_fd(&null),
            output: std::os::fd::AsFd::as_fd(&writer),
        };
        let mut child = start(&command, &around).expect("forked");
        drop(writer);
        let mut output = String::new();
        reader.read_to_string(&mut output).expect("output");
        let said =
            crate::clock::wait_for(10_000, 1, || verdict(&mut child.exec, &argv[0])).expect("a verdict");
        let mut status = 0;
        // SAFETY: `status` lives through the call; the child is ours and waited for only here.
        unsafe { libc::waitpid(i32::try_from(child.pid).expect("pid"), &raw mut status, 0) };
        (output, said)
    }

    #[test]
    fn a_child_drops_everything_or_says_which_step_failed() {
        let door = tempfile();
        let (output, said) = start_as_nobody(
            &["/bin/sh", "-c", "id -u; echo $1 $2; grep CapBnd /proc/self/status", "x", "$WORDS"],
            &door,
        );
        // SAFETY: geteuid takes nothing and always succeeds.
        if unsafe { libc::geteuid() } == 0 {
            assert_eq!((output.as_str(), said), ("65534\na b\nCapBnd:\t0000000000000000\n", Ok(())));
            let (_, said) = start_as_nobody(&["/nonexistent"], &door);
            assert_eq!(
                said,
                Err("cannot run `/nonexistent`: No such file or directory (os error 2)".to_owned())
            );
        } else {
            assert!(said.is_err_and(|e| e.starts_with("cannot drop capabilities for `/bin/sh`")));
        }
        let closed = File::open("/dev/null").expect("null");
        let (_, said) = start_as_nobody(&["/bin/true"], &closed);
        assert!(
            said.is_err_and(|e| e.starts_with("cannot join the control group for `/bin/true`: Bad file"))
        );
    }

    /// Stands for `cgroup.procs`.
    fn tempfile() -> File {
        let path = std::env::temp_dir().join(format!("plumb-guest-door-{}", std::process::id()));
        let file = File::create(&path).expect("temporary file");
        std::fs::remove_file(&path).expect("removed");
        file
    }
}
