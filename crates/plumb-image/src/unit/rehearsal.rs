//! Rehearsals: commands before a start that only test the configuration which the service itself reads right after.
//!
//! An administrator who edits a file on a running system is helped by them. The files of an image never change, and
//! the service refuses a wrong configuration itself with the same words: the rehearsal is a second start that is thrown
//! away, a third of the time from power to ready of nginx under emulation.

use plumb_guest_proto::Command;

/// Program, and the option that makes it read its configuration, say what is wrong with it, and end. Only programs that
/// read and judge it in the same way without the option, and that leave nothing behind with it.
const REHEARSALS: &[(&str, &str)] = &[
    ("nginx", "-t"),
    ("haproxy", "-c"),
    ("sshd", "-t"),
    ("lighttpd", "-tt"),
    ("bird", "-p"),
    ("freeradius", "-Cx"),
];

/// Whether `command` only rehearses `start`, which must be the very same program without the option.
pub(super) fn is_rehearsal(command: &Command, start: &[Command]) -> bool {
    let [program, arguments @ ..] = &command.argv[..] else { return false };
    let name = program.rsplit('/').next().unwrap_or(program);
    REHEARSALS.iter().any(|(known, option)| {
        let has = |arguments: &[String]| arguments.iter().any(|argument| argument == option);
        let starts = |start: &Command| start.argv.first() == Some(program) && !has(&start.argv);
        *known == name && has(arguments) && start.iter().any(starts)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(line: &str) -> Command {
        let argv = line.split(' ').map(str::to_owned).collect();
        Command { argv, ignore_failure: false, privileged: false }
    }

    fn check(before: &str, start: &str, expected: bool) {
        assert_eq!(is_rehearsal(&command(before), &[command(start)]), expected, "{before} / {start}");
    }

    #[test]
    fn only_the_same_program_with_the_option_is_one() {
        check("/usr/sbin/nginx -t -q", "/usr/sbin/nginx -g x", true);
        check("/usr/sbin/haproxy -Ws -f f -c -q", "/usr/sbin/haproxy -Ws -f f", true);
        check("/usr/sbin/sshd -t", "/usr/sbin/sshd -D", true);
        // It makes something, it is another program, it is not known, or the start itself would be a rehearsal.
        check("/usr/sbin/nginx -q", "/usr/sbin/nginx", false);
        check("/usr/sbin/nginx -t", "/opt/nginx", false);
        check("/usr/sbin/squid -z", "/usr/sbin/squid", false);
        check("/usr/bin/own -t", "/usr/bin/own", false);
        check("/usr/sbin/nginx -t", "/usr/sbin/nginx -t", false);
    }
}
