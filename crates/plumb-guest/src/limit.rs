//! Every limit of the guest, each with the reason for its number.

/// A disk, a network card or the control port has to appear within this time after its driver was loaded. Probing
/// takes milliseconds; ten seconds forgive a starved emulator.
pub const DEVICE_WAIT_MS: u64 = 10_000;

/// Pause between two looks for a device: short against a boot, long against a look.
pub const DEVICE_POLL_MS: u64 = 5;

/// Largest document read from the image or the initramfs: far above any real one, far below the memory of a guest.
pub const DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Largest `EnvironmentFile=`, PID file or file below /proc and /sys that is read.
pub const SMALL_FILE_BYTES: u64 = 256 * 1024;

/// Console output that waits for a slow serial line; more is dropped and counted.
pub const CONSOLE_QUEUE_BYTES: usize = 128 * 1024;

/// Log messages that wait for the host; the oldest are dropped and counted. Covers the boot of a talkative service.
pub const LOG_QUEUE_BYTES: usize = 128 * 1024;

/// Events that wait for the host; the oldest are dropped, for the status tells the outcome.
pub const EVENT_QUEUE_LENGTH: usize = 256;

/// How long the last words may take to leave over the console and the control port before the power goes.
pub const LAST_WORDS_MS: u64 = 2_000;

/// While there is no control port it is looked for this often: nobody tells that it has come, and the host waits.
pub const CONTROL_PORT_MS: u64 = 250;

/// While no host is attached the control port is looked at this often. Only a safety net: SIGIO tells at once.
pub const CONTROL_PROBE_MS: u64 = 5_000;

/// Output read from one service per turn of the loop: a flood from one must not starve the others.
pub const OUTPUT_BYTES_PER_TURN: usize = 64 * 1024;

/// Messages of syslog(3) read per turn of the loop, for the same reason.
pub const SYSLOG_MESSAGES_PER_TURN: usize = 64;

/// Longest reason in a service state: a sentence. 200 services with such reasons still fit into one message.
pub const REASON_BYTES: usize = 240;

/// Checks of the host that run at once: it has a handful of workers, and each is a process in a small memory.
pub const TRIALS_AT_ONCE: usize = 8;

/// First pause between two readiness checks: a check that is refused costs less than a millisecond.
pub const CHECK_FIRST_MS: u64 = 10;

/// Longest pause between two readiness checks before the service is ready.
pub const CHECK_LAST_MS: u64 = 500;

/// Pause between two checks of a service that is ready: often enough for a host that shows the state to a person.
pub const CHECK_READY_MS: u64 = 5_000;

/// Pause between two checks of a service that was ready and is not any more.
pub const CHECK_LOST_MS: u64 = 1_000;

/// So many checks in a row must fail before a ready service counts as not ready: one slow answer is not an outage.
pub const CHECK_FAILURES: u32 = 3;

/// A network readiness check that has no answer after this time has failed.
pub const CHECK_TIMEOUT_MS: u64 = 2_000;

/// A readiness command may run this long: it may start an interpreter on an emulated processor.
pub const CHECK_EXEC_TIMEOUT_MS: u64 = 10_000;

/// Answer bytes looked at by an HTTP check; the status line stands in the first dozen.
pub const HTTP_ANSWER_BYTES: usize = 4096;

/// Shortest pause before a restart: `RestartSec=0` must not become a fork storm.
pub const RESTART_FIRST_MS: u64 = 100;

/// Longest pause before a restart: an operator who repaired the cause does not wait longer than this.
pub const RESTART_LAST_MS: u64 = 30_000;

/// A run that was ready for this long makes the next failure count as the first one.
pub const RESTART_RESET_MS: u64 = 60_000;

/// A run has to be ready for this long to count as a good one. A service without a readiness check is "ready" the
/// moment it runs, so ready alone proves nothing.
pub const GOOD_RUN_MS: u64 = 10_000;

/// So many starts may fail before the first good run; then the service has failed and the host can roll back. With
/// the default delay the five take about three seconds plus the runs themselves.
pub const FAILED_STARTS: u32 = 5;

/// First pause between two looks for a PID file: a daemon writes it a moment after its parent has ended.
pub const MAIN_FIRST_MS: u64 = 2;

/// Longest pause between two looks for a PID file, and the pause between two looks for the last process of a service.
pub const GROUP_POLL_MS: u64 = 50;

/// After SIGKILL a process is gone within this time, or it hangs in the kernel and is given up.
pub const KILL_WAIT_MS: u64 = 10_000;

/// A whole shutdown takes at most this long, whatever the services' own stop timeouts add up to.
pub const SHUTDOWN_MS: u64 = 120_000;

/// Tries to unmount a volume after all processes were killed, `GROUP_POLL_MS` apart.
pub const UNMOUNT_TRIES: u32 = 40;

/// Soft and hard limit of open files where a service names none: systemd's own defaults.
pub const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// The kernel's `fs.nr_open`: an infinite `LimitNOFILE=` means this.
pub const OPEN_FILES_MAX: u64 = 1_048_576;

/// Smallest disk that is worth formatting: ext4 with a journal needs 4 MiB.
pub const VOLUME_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Output of `mke2fs` and `e2fsck` kept for a message.
pub const TOOL_OUTPUT_BYTES: usize = 2048;

/// Most symbolic links followed and components walked when a directory is made.
pub const PATH_STEPS: usize = 64;

/// As much of a table of sockets as is read, 150 bytes a socket: room for 1,700, far above what a service listens on.
pub const SOCKET_TABLE_BYTES: u64 = 256 * 1024;

/// Longest line of a maintainer script's output that is kept.
pub const BUILD_LINE_BYTES: usize = 1024;

/// The end of a failed script's output that goes to the host: a screenful. Escaped as JSON it fits before the frames of
/// the answer disk.
pub const BUILD_OUTPUT_BYTES: usize = 8 * 1024;

/// How soon the end of a script is seen that left its output open.
pub const BUILD_POLL_MS: i64 = 50;

/// Buffer for file contents on their way to the answer disk.
pub const BUILD_COPY_BYTES: usize = 256 * 1024;

/// Longest extended attribute that is read: a capability set has 24 bytes (linux/capability.h).
pub const BUILD_ATTRIBUTE_BYTES: usize = 256;

/// Pause between two looks at the units of systemd. Only a safety net: its own messages in the journal tell of a change.
pub const LOOK_MS: u64 = 5_000;

/// After a message of systemd about a unit the units are looked at this much later: its messages come in groups.
pub const LOOK_SOON_MS: u64 = 20;

/// A look that has no answer after this time has failed: systemctl(1) itself waits longer for a busy PID 1.
pub const LOOK_TIMEOUT_MS: u64 = 15_000;

/// What `systemctl show` may write: 100 units with a dozen short lines each take a tenth of this.
pub const LOOK_BYTES: usize = 256 * 1024;

/// Pause before journalctl(1) or a look that failed is started again.
pub const AGAIN_MS: u64 = 1_000;

/// Entries of the journal taken per turn of the loop: a flood must not starve the host's questions.
pub const JOURNAL_READS_PER_TURN: usize = 64;
