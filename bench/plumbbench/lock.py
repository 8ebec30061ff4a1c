"""`plumb lock` beside apt's own resolver."""

import shutil
import time

from . import measure
from .bench import MIRROR, SUITES

NAME = "lock"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
FRESH_S = 24 * 3600
# What `plumb lock` may take of apt's simulation of the same set.
TARGET_SHARE = 1 / 3

# What apt is asked for: the packages that the definitions name, machine by machine. Plumb chooses a kernel for each
# machine as well; apt is spared that, because the kernel's dependencies (initramfs-tools …) are not installed by Plumb.
WANTED = {
    "hello": [["nginx-light"]],
    "shop": [
        ["postgresql-15", "dash", "coreutils"],
        ["python3-flask", "gunicorn", "python3-psycopg2"],
        ["nginx-light"],
    ],
}


def measure_all(bench):
    """Interleaved rounds, everything warm: indices parsed from the disk cache, no network."""
    bench.report.section("lock, warm, offline")
    apt = Apt(bench) if shutil.which("apt-get") else None
    if apt is None:
        bench.report.note("peer missing: apt-get")
    folders = {"hello": bench.hello, "shop": bench.shop}
    for folder in folders.values():
        bench.prepare(folder)
    for name, folder in folders.items():
        ours, theirs = [], []
        for _ in range(bench.rounds):
            lock = folder / "plumb.lock"
            lock.unlink()
            ours.append(bench.plumb("lock", folder))
            if apt:
                theirs.append(apt.simulate(WANTED[name]))
        bench.report.costs(f"plumb lock {name}", ours)
        if apt:
            count = len(WANTED[name])
            bench.report.costs(f"apt-get -s {name}", theirs, f"{count} simulations" if count > 1 else "")
            for unit in ("wall_s", "cpu_s"):
                share = min(getattr(c, unit) for c in ours) / min(getattr(c, unit) for c in theirs)
                bench.report.check(f"plumb lock {name} / apt-get -s, least {unit} of each", share, TARGET_SHARE)
    bench.report.costs("plumb lock hello, new indices", [first_lock(bench) for _ in range(bench.rounds)],
                       "no catalogs yet: all stanzas parsed once")


def first_lock(bench):
    """Locks in a home that has indices but no catalogs of them."""
    home = bench.scratch / "first"
    lock = bench.hello / "plumb.lock"
    try:
        bench.cold_home(bench.hello, home)
        lock.unlink()
        return bench.plumb("lock", bench.hello, home=home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


class Apt:
    """An apt over a private root with the same three suites and nothing installed."""

    def __init__(self, bench):
        self.scratch = bench.scratch
        self.root = bench.folder / "apt"
        self.config = self.root / "apt.conf"
        stamp = self.root / "updated"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > FRESH_S:
            self.write_root()
            self.get(["update"])
            stamp.touch()
        self.simulate(WANTED["hello"])  # fills pkgcache.bin

    def write_root(self):
        """Writes the configuration. dpkg is switched off: a private apt must never reach the host's."""
        for folder in ("etc/preferences.d", "etc/auth.conf.d", "state/lists/partial", "cache/archives/partial", "log"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "state/status").touch()
        lines = [f"deb [signed-by={KEYRING}] {MIRROR}/{folder} {suite} main\n" for folder, suite in SUITES]
        (self.root / "etc/sources.list").write_text("".join(lines))
        settings = {
            "Dir": self.root, "Dir::Etc": self.root / "etc", "Dir::Etc::sourcelist": self.root / "etc/sources.list",
            "Dir::Etc::sourceparts": "/dev/null", "Dir::Etc::parts": "/dev/null", "Dir::Etc::trusted": "/dev/null",
            "Dir::Etc::trustedparts": "/dev/null", "Dir::State": self.root / "state",
            "Dir::State::status": self.root / "state/status", "Dir::Cache": self.root / "cache",
            "Dir::Log": self.root / "log", "Dir::Bin::methods": "/usr/lib/apt/methods", "Dir::Bin::dpkg": "/bin/false",
            "APT::Architecture": "amd64", "APT::Architectures": "amd64", "APT::Sandbox::User": "root",
            "Acquire::Languages": "none", "Acquire::GzipIndexes": "false", "Acquire::Retries": "3",
        }
        self.config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))

    def get(self, arguments):
        """Runs apt-get in the private root."""
        return measure.run(["apt-get", *arguments], env={"APT_CONFIG": str(self.config)}, scratch=self.scratch)

    def simulate(self, machines):
        """Resolves each machine by itself and returns the sum."""
        command = ["install", "-s", "--no-install-recommends", "--"]
        costs = [self.get(command + packages) for packages in machines]
        return measure.Cost(
            sum(c.wall_s for c in costs), sum(c.cpu_s for c in costs), max(c.rss_kib for c in costs)
        )
