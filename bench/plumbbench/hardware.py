"""What this machine could do at best, measured in the same run: the floor under a stage.

Run as a program by itself: the peak memory of a parent counts for what it starts, so `bench/run` stays small.
"""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

BLOCK = 64 << 20
TRIES = 5


def best_s(work):
    """The least CPU seconds of some tries: other processes can only make it longer."""
    least = None
    for _ in range(TRIES):
        begin = time.process_time()
        work()
        took = time.process_time() - begin
        least = took if least is None else min(least, took)
    return least


def bandwidths(folder):
    """Bytes per second of one processor: hashing, copying, writing a file in `folder`."""
    data = os.urandom(1 << 20) * (BLOCK >> 20)
    target = bytearray(BLOCK)
    view = memoryview(data)
    path = Path(folder) / "written"

    def copy():
        target[:] = view

    found = {
        "hash": BLOCK / best_s(lambda: hashlib.sha256(data).digest()),
        "copy": BLOCK / best_s(copy),
        "write": BLOCK / best_s(lambda: path.write_bytes(data)),
    }
    path.unlink()
    return found


def xtask(bench):
    """The program of the repository's tasks, which runs parts of the product by themselves; None if it was not built."""
    path = os.environ.get("XTASK", bench.root / "target/release/xtask")
    return path if os.access(path, os.X_OK) else None


class Hardware:
    """Bandwidths of one processor, in bytes per second."""

    def __init__(self, bench):
        from . import measure

        self.bench = bench
        self.run = lambda command: measure.run(command, scratch=bench.scratch)
        found = json.loads(self.run([sys.executable, __file__, bench.scratch]).stdout)
        self.hash, self.copy, self.write = found["hash"], found["copy"], found["write"]
        self.process_s = min(self.run(["true"]).cpu_s for _ in range(TRIES))
        report = bench.report
        report.figure("SHA-256, one processor", self.hash / 1e6, "MB/s")
        report.figure("memory copy, one processor", self.copy / 1e6, "MB/s")
        report.figure("file written in /dev/shm, one processor", self.write / 1e6, "MB/s")

    def unxz(self, paths):
        """Bytes before and after, and CPU seconds, of decompressing `.deb` files with one thread of Plumb's own liblzma."""
        program = xtask(self.bench)
        if not program:
            self.bench.report.note("no xtask: run `cargo xtask bench` for the floor under unpacking")
            return None
        costs = [self.run([program, "unxz", *paths]) for _ in range(TRIES)]
        packed, unpacked = map(int, costs[0].stdout.split())
        return packed, unpacked, min(cost.cpu_s for cost in costs)


if __name__ == "__main__":
    print(json.dumps(bandwidths(sys.argv[1])))
