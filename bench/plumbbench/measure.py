"""Runs a command and says what it cost; waits for an HTTP answer; sums up rounds."""

import os
import selectors
import socket
import statistics
import subprocess
import time
from dataclasses import dataclass, field

# A new connection every 50 ms: QEMU's user network accepts a connection before the guest is up and then resends with
# growing pauses, so that one patient connection would round results up to whole seconds.
POLL_S = 0.05
CONNECTION_LIFE_S = 0.8
HTTP_LIMIT_S = 240


# Put before each command that is measured (`--realtime`).
REALTIME = []


class BenchError(Exception):
    """Something that was to be measured did not work."""


@dataclass
class Cost:
    """Wall and CPU seconds, and the peak RSS (KiB) of the largest single process."""

    wall_s: float
    cpu_s: float
    rss_kib: int
    stdout: str = field(default="", repr=False)
    stderr: str = field(default="", repr=False)


def run(command, *, cwd=None, env=None, scratch):
    """Runs `command` to its end and returns its `Cost`. Output goes through files, so that no pipe can stall it."""
    full_env = dict(os.environ, LC_ALL="C.UTF-8", **(env or {}))
    out, err = scratch / "stdout", scratch / "stderr"
    with open(out, "wb") as out_file, open(err, "wb") as err_file:
        begin = time.monotonic()
        process = subprocess.Popen(
            [*REALTIME, *command], cwd=cwd, env=full_env, stdin=subprocess.DEVNULL, stdout=out_file, stderr=err_file
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = time.monotonic() - begin
    cost = Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, read(out), read(err))
    if process.returncode != 0:
        raise BenchError(f"`{' '.join(map(str, command))}` failed ({process.returncode}):\n{cost.stdout[-2000:]}{cost.stderr[-4000:]}")
    return cost


def read(path):
    """The text of a file, whatever bytes are in it."""
    return path.read_text(encoding="utf-8", errors="replace")


def until_http_200(port, alive):
    """Blocks until `127.0.0.1:port` answers a GET with 200; returns the monotonic time of the answer.

    `alive()` is asked now and then; what it raises ends the wait."""
    poller = selectors.DefaultSelector()
    deadline = time.monotonic() + HTTP_LIMIT_S
    next_try = 0.0
    try:
        while True:
            now = time.monotonic()
            if now > deadline:
                raise BenchError(f"no HTTP 200 from port {port} within {HTTP_LIMIT_S} s")
            if now >= next_try:
                alive()
                drop_old(poller, now)
                connect(poller, port, now)
                next_try = now + POLL_S
            for key, _ in poller.select(max(0.0, next_try - time.monotonic())):
                if answered_200(poller, key):
                    return time.monotonic()
    finally:
        for key in list(poller.get_map().values()):
            key.fileobj.close()
        poller.close()


def connect(poller, port, now):
    """Begins one more connection."""
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", port))
    poller.register(connection, selectors.EVENT_WRITE, now)


def answered_200(poller, key):
    """Takes one connection a step further: sends the request, or reads the head of the answer."""
    connection = key.fileobj
    try:
        if key.events == selectors.EVENT_WRITE:
            connection.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            poller.modify(connection, selectors.EVENT_READ, key.data)
            return False
        head = connection.recv(64)
    except OSError:
        head = b""
    if head.split(b" ")[1:2] == [b"200"]:
        return True
    poller.unregister(connection)
    connection.close()
    return False


def drop_old(poller, now):
    """Closes connections that got no answer in time."""
    for key in list(poller.get_map().values()):
        if now - key.data > CONNECTION_LIFE_S:
            poller.unregister(key.fileobj)
            key.fileobj.close()


def process_cpu_s(pid):
    """CPU seconds that a running process has used, all threads."""
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def process_rss_kib(pid):
    """Peak resident memory of a running process."""
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


def process_memory_kib(pid):
    """What a running process takes now (proc_pid_smaps_rollup(5)): `Rss`, `Pss`, `Private_Clean`, …"""
    lines = [line.split() for line in open(f"/proc/{pid}/smaps_rollup")]
    return {line[0].rstrip(":"): int(line[1]) for line in lines if line[-1] == "kB"}


def available_memory_kib():
    """What new processes can have without swapping (proc_meminfo(5))."""
    line = next(line for line in open("/proc/meminfo") if line.startswith("MemAvailable:"))
    return int(line.split()[1])


def spread(values):
    """Median, least and greatest of some rounds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": len(values)}
