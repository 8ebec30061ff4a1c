"""`plumb build`: nothing to do, one application file changed, one package updated, everything to do; its peers beside."""

import re
import shutil
import time

from . import measure, peer
from .hardware import Hardware
from .measure import spread

NAME = "build"
# The fastest peer is what counts: it runs twice.
PEER_ROUNDS = {"mmdebstrap": 2}
# The package that is updated: one that security fixes often.
UPDATED = "libssl3"
# Targets: seconds, and how many times faster than the fastest peer.
NOOP_S, CHANGED_S, UPDATE_S = 0.020, 0.100, 1.0
COLD_TIMES, CHANGED_TIMES = 20, 300
RSS_MIB = 200


def measure_all(bench):
    """All of `hello`."""
    bench.report.section("build of hello")
    bench.prepare(bench.hello)
    machine = Hardware(bench)
    mirror, peers = (None, []) if bench.options.no_builders else peer.find(bench)
    try:
        rows = rounds(bench, peers)
    finally:
        if mirror:
            mirror.close()
    tell(bench, rows)
    theirs = [(one.name, rows[one.name]) for one in peers if rows[one.name]]
    judge(bench, rows, theirs)
    stages(bench, rows, machine)


def rounds(bench, peers):
    """Everything in turns, so that a busy minute hits all alike. Returns costs by name."""
    rows = {name: [] for name in ("noop", "changed", "update", "cold", "disk")}
    rows.update({one.name: [] for one in peers})
    old, new = locks(bench)
    for number in range(bench.rounds):
        rows["noop"].append(bench.plumb("build", bench.hello))
        rows["changed"].append(changed(bench, number))
        rows["update"].append(update(bench, bench.scratch / "update", old, new))
        rows["cold"].append(cold_build(bench, bench.scratch / "cold"))
        rows["disk"].append(cold_build(bench, bench.folder / "cold"))
        for one in peers:
            if number < PEER_ROUNDS.get(one.program, 1):
                rows[one.name].append(one.build())
    return rows


def tell(bench, rows):
    """The rows of the table."""
    where = "on tmpfs" if str(bench.scratch).startswith("/dev/shm") else "on disk: no /dev/shm"
    report = bench.report
    report.costs("no-op build", rows.pop("noop"), "on disk")
    report.costs("rebuild, one app file changed", rows.pop("changed"), "on disk")
    report.costs("lock and rebuild, one package updated", rows.pop("update"), f"{UPDATED}, downloaded; {where}")
    report.costs("cold build, packages in the store", rows.pop("cold"), where)
    report.costs("cold build, packages in the store, on disk", rows.pop("disk"), "as a user has it")
    for name, costs in rows.items():
        report.costs(name, costs, "on tmpfs")
    return rows


def changed(bench, number):
    """Changes the page and builds."""
    page = bench.hello / "www/index.html"
    page.write_text(page.read_text() + f"<!-- {time.time_ns()} {number} -->\n")
    return bench.plumb("build", bench.hello)


def cold_build(bench, home):
    """One build in a new home."""
    shutil.rmtree(home, ignore_errors=True)
    try:
        bench.cold_home(bench.hello, home)
        return bench.plumb("build", bench.hello, home=home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def locks(bench):
    """The lock as it was before one package was updated, and as it is. Both versions are in the store afterwards."""
    lock = bench.hello / "plumb.lock"
    new = lock.read_text()
    name, version, file, size, digest = older(bench)
    block = next(b for b in re.findall(r"\[\[package\]\]\n(?:[^\[\n].*\n)*", new) if f'name = "{name}"\n' in b)
    changed_block = block
    for key, value in {"version": f'"{version}"', "suite": '"bookworm"', "file": f'"{file}"', "size": size,
                       "digest": f'"sha256:{digest}"'}.items():
        changed_block = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", changed_block)
    old = new.replace(block, changed_block)
    if old == new:
        raise measure.BenchError(f"the lock of hello has no `{name}` from bookworm-security: nothing to update")
    lock.write_text(old)
    bench.plumb("build", bench.hello, offline=False)
    lock.write_text(new)
    bench.plumb("build", bench.hello)
    return old, new


def older(bench):
    """The package as bookworm's main has it: name, version, file, size, SHA-256."""
    for record in (bench.home / "store/entries/archive").iterdir():
        for digest in re.findall(r"\b[0-9a-f]{64}\b", record.read_text()):
            path = bench.object_path(digest)
            if not path.exists() or path.stat().st_size < 10_000_000:
                continue
            stanza = find_stanza(path)
            if stanza:
                return UPDATED, *(stanza[key] for key in ("Version", "Filename", "Size", "SHA256"))
    raise measure.BenchError(f"no index of the store has `{UPDATED}`")


def find_stanza(path):
    """The fields of the package in an index; line by line, because what this program takes counts for those it starts."""
    fields = {}
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line == f"Package: {UPDATED}\n" or (fields and line != "\n"):
                key, _, value = line.partition(": ")
                fields[key] = value.strip()
            elif fields:
                break
    return fields


def update(bench, home, old, new):
    """In a home that has the old image: `plumb lock --update=PACKAGE` and `plumb build`. The new package is downloaded but
    was never taken apart."""
    lock = bench.hello / "plumb.lock"
    shutil.rmtree(home, ignore_errors=True)
    try:
        lock.write_text(old)
        bench.cold_home(bench.hello, home, also=new)
        bench.plumb("build", bench.hello, home=home)
        bench.plumb("lock", bench.hello, "--dry-run", f"--update={UPDATED}", home=home)  # makes the catalogs
        locked = bench.plumb("lock", bench.hello, f"--update={UPDATED}", home=home)
        if UPDATED not in locked.stdout:
            raise measure.BenchError(f"`plumb lock --update={UPDATED}` changed nothing")
        built = bench.plumb("build", bench.hello, home=home)
    finally:
        lock.write_text(new)
        shutil.rmtree(home, ignore_errors=True)
    return measure.Cost(
        locked.wall_s + built.wall_s, locked.cpu_s + built.cpu_s, max(locked.rss_kib, built.rss_kib)
    )


def judge(bench, rows, theirs):
    """Verdicts. `rows` has lost what was told; the report has the figures."""
    report = bench.report
    least = lambda name: report.row(name)["wall_s"]["min"]  # noqa: E731
    report.check("no-op build, least wall s", least("no-op build"), NOOP_S)
    report.check("one app file changed, least wall s", least("rebuild, one app file changed"), CHANGED_S)
    report.check("one package updated, least wall s", least("lock and rebuild, one package updated"), UPDATE_S)
    rss = max(row.get("peak_rss_kib", 0) for row in report.rows if row["name"] in OURS) / 1024
    report.check("peak memory of any build, MiB", rss, RSS_MIB)
    if not theirs:
        return
    for unit, cost in (("wall", "wall_s"), ("CPU", "cpu_s")):
        name, fastest = min(((n, spread([getattr(c, cost) for c in costs])["min"]) for n, costs in theirs), key=lambda x: x[1])
        program = name.split()[0]
        for ours, times in (("cold build, packages in the store", COLD_TIMES), ("rebuild, one app file changed", CHANGED_TIMES)):
            ratio = fastest / report.row(ours)[cost]["min"]
            report.check_at_least(f"{program} / {ours}, least {unit} s of each", ratio, times)


OURS = [
    "no-op build", "rebuild, one app file changed", "lock and rebuild, one package updated",
    "cold build, packages in the store", "cold build, packages in the store, on disk",
]


def stages(bench, rows, machine):
    """How far each stage is from what the hardware allows, by least CPU seconds."""
    report = bench.report
    cpu = lambda name: report.row(name)["cpu_s"]["min"]  # noqa: E731
    built = bench.plumb_json("build", bench.hello)[0]
    lock = (bench.hello / "plumb.lock").read_text()
    digests = re.findall(r'digest = "sha256:([0-9a-f]{64})"', lock)
    rebuild, cold = cpu("rebuild, one app file changed"), cpu("cold build, packages in the store")
    unxz = machine.unxz([path for path in map(bench.object_path, digests) if path.exists()])
    if unxz:
        packed, unpacked, unxz_s = unxz
        made = built["kernel_bytes"] + built["initrd_bytes"]
        note = f"{packed / 1e6:.1f} MB of xz to {unpacked / 1e6:.1f} MB in {unxz_s:.2f} s by itself, written; kernel made, hashed, written"
        floor = unxz_s + (unpacked + made) / machine.write + made / machine.hash
        report.stage("unpack packages, make kernel", cold - rebuild, floor, note)
    root = built["root_bytes"]
    floor = 2 * root / machine.hash + root / machine.write + root / machine.copy
    report.stage("assemble, write root, hash twice", rebuild, floor, f"{root / 1e6:.1f} MB copied, SHA-256 of it, dm-verity of it")
    report.stage("find that nothing changed", cpu("no-op build"), machine.process_s, "start and end of a process")
