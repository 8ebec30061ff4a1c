"""`plumb affected` over fleets that were never built: releases with real documents, a real state, a million instances."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from . import measure

NAME = "affected"
# What an answer may take, from the start of the process to its end, with its JSON written.
TARGET_S = 0.05
APPS = 500
# Releases of each application, instances of all. First the curve over releases, then over instances.
RELEASES = [(1, 1_000_000), (2, 1_000_000), (5, 1_000_000), (10, 1_000_000)]
INSTANCES = [(10, 10_000), (10, 100_000)]
QUICK = [(1, 10_000), (2, 10_000)]
# Found in a few releases, in most of them, in every machine of all of them; and a file, and nothing.
QUERIES = [
    ("a package that few releases have", ["lib0900"]),
    ("a package below a version", ["source300 < 1.5"]),
    ("a file by its path", ["--file", "/lib/lib0900.so"]),
    ("nothing", ["lib9999"]),
    ("a library below a version, in most releases", ["lib0003 < 1.5"]),
    ("a library that every machine has", ["lib0003"]),
]
FULL = "in 5,000 releases with 1,000,000 instances"


def measure_all(bench):
    """One store that grows; the state is another one for each number of instances."""
    report = bench.report
    report.section("affected: searching a fleet")
    fleets = QUICK if bench.options.quick else RELEASES + INSTANCES
    # Not in the scratch folder of the other sections: it may be large.
    fast = Path("/dev/shm")
    home = Path(tempfile.mkdtemp(prefix="plumb-fleet-", dir=fast if fast.is_dir() else bench.folder))
    try:
        seen = 0
        for releases, instances in fleets:
            make(bench, home, releases, instances)
            added = releases * APPS - seen
            if added > 0:
                cost = bench.plumb("affected", "lib0900", "--json", home=home)
                size = (home / "store/search.db").stat().st_size
                report.costs(f"index: {added:,} releases added", [cost], f"index then {size / 1e6:,.1f} MB")
                seen += added
            ask_all(bench, home, f"{releases * APPS:,} releases, {instances:,} instances")
        if not bench.options.quick:
            one_more(bench, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def make(bench, home, releases, instances):
    """Adds releases; writes the state anew."""
    for path in home.glob("state.db*"):
        path.unlink()
    measure.run([os.environ["XTASK"], "fleet", home, str(APPS), str(releases), str(instances)], scratch=bench.scratch)


def ask_all(bench, home, where):
    """Every question in every round, so that all see the same load."""
    costs = {name: [] for name, _ in QUERIES}
    answers = {}
    for number in range(bench.rounds + 1):
        for name, query in QUERIES:
            cost = bench.plumb("affected", *query, "--json", home=home)
            answers[name] = cost.stdout
            if number > 0:  # the first one warms the disk cache
                costs[name].append(cost)
    for name, _ in QUERIES:
        answer = json.loads(answers[name])
        found = f"{len(answer['releases']):,} releases, {len(answer['deployments']):,} deployments, {answer['instances']:,} instances"
        bench.report.costs(f"{where}: {name}", costs[name], f"{found}; {len(answers[name]) / 1e3:,.0f} kB of JSON")
        if where.startswith("5,000 releases, 1,000,000"):
            least = min(c.wall_s for c in costs[name])
            bench.report.check(f"{name}, {FULL}, least wall s", least, TARGET_S)


def one_more(bench, home):
    """What one release more costs the index: the application that is made last has it."""
    make_more = [os.environ["XTASK"], "fleet", home, str(APPS + 1), "1", "100"]
    measure.run(make_more, scratch=bench.scratch)
    cost = bench.plumb("affected", "lib9999", "--json", home=home)
    bench.report.costs("index: one release added to 5,000", [cost])
    (home / "store/search.db").unlink()
    cost = bench.plumb("affected", "lib9999", "--json", home=home)
    bench.report.costs("index made again, 5,001 releases", [cost])
