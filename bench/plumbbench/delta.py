"""What travels between two images of `hello`: Plumb's delta beside what others would send, over real security updates."""

import filecmp
import re
import shutil
import subprocess

from . import measure, size
from .hardware import xtask

NAME = "delta"
PARTS = ("kernel", "initrd", "root")
# What is updated: packages as the lock names them. The older version is whatever else the archive still has.
CASES = {
    "openssl": ["libssl3"],
    "libc6": ["libc6"],
    "nginx": ["nginx", "nginx-common", "nginx-light"],
    "kernel": [r"linux-image-6\.1\.0-\d+-cloud-amd64"],
}
# Suites in which an older version is looked for, in this order.
SUITES = ("bookworm", "bookworm-security", "bookworm-updates")
FULL_TIMES, APPLY_MB_S = 50, 300
ZSTD = ["zstd", "-q", "-19", "--long=28", "--single-thread"]


def measure_all(bench):
    """Every case, every peer, in one run."""
    bench.report.section("delta between two images of hello")
    bench.prepare(bench.hello)
    if not xtask(bench):
        bench.report.note("no xtask: run `cargo xtask bench` for the deltas")
        return
    totals, peers = {}, find(bench)
    for case, old, new in cases(bench):
        folder = bench.scratch / "delta"
        try:
            one_case(bench, Case(case, old, new, folder), peers, totals)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    judge(bench, totals, [name for name, _ in peers])


class Case:
    """An old and a new image: digests and files of their parts, and the same as trees and as one file."""

    def __init__(self, name, old, new, folder):
        self.name, self.folder = name, folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.parts = {"old": old, "new": new}
        for age, parts in self.parts.items():
            lines = [f"web/{part} {digest} {path}\n" for part, (digest, path) in parts.items()]
            (folder / f"{age}.list").write_text("".join(lines))
            with open(folder / f"{age}.bin", "wb") as whole:
                for _, path in parts.values():
                    with open(path, "rb") as part:
                        shutil.copyfileobj(part, whole)

    def path(self, name):
        """A file of this case."""
        return self.folder / name

    def tree(self, age):
        """The image as a tree: kernel and initramfs as files, and what is in the root."""
        tree = self.path(f"{age}.tree")
        if not tree.exists():
            tree.mkdir()
            parts = self.parts[age]
            for part in ("kernel", "initrd"):
                shutil.copyfile(parts[part][1], tree / part)
            command = ["fsck.erofs", f"--extract={tree / 'root'}", "--no-preserve", parts["root"][1]]
            subprocess.run(command, check=True, capture_output=True)
        return tree


def one_case(bench, case, peers, totals):
    """One case: ours, checked, then the peers'."""
    report, delta, made = bench.report, case.path("delta"), case.path("made")
    made.mkdir()
    run = lambda *words: measure.run([xtask(bench), "delta", *words], scratch=bench.scratch)  # noqa: E731
    created = [run("create", delta, case.path("old.list"), case.path("new.list")) for _ in range(bench.rounds)]
    applied = [run("apply", delta, case.path("old.list"), made) for _ in range(bench.rounds)]
    amount = int(applied[0].stdout.split()[1])
    for part, (digest, path) in case.parts["new"].items():
        same = digest == case.parts["old"][part][0]
        if not same and not filecmp.cmp(path, made / digest.removeprefix("sha256:"), shallow=False):
            raise measure.BenchError(f"the delta of {case.name} does not make the {part}")
    rate = amount / 1e6 / min(cost.cpu_s for cost in applied)
    report.costs(f"{case.name}: create", created)
    report.costs(f"{case.name}: apply and verify", applied, f"{amount / 1e6:.1f} MB of image made, {rate:.0f} MB/s of CPU")
    row = totals.setdefault("plumb", {"bytes": 0, "cpu_s": 0, "made": 0, "apply_s": 0})
    row["bytes"] += delta.stat().st_size
    row["cpu_s"] += min(cost.cpu_s for cost in created)
    row["made"] += amount
    row["apply_s"] += min(cost.cpu_s for cost in applied)
    tell(report, case, "plumb", delta.stat().st_size, delta.stat().st_size, "")
    for name, peer in peers:
        number, cost = peer(bench, case)
        row = totals.setdefault(name, {"bytes": 0, "cpu_s": 0})
        row["bytes"] += number
        row["cpu_s"] += cost
        tell(report, case, name, number, delta.stat().st_size, f"made in {cost:.2f} s of CPU")
    full = full_size(bench, case)
    tell(report, case, "all of it, zstd -19", full, delta.stat().st_size, "")
    if case.name == "application":
        report.check_at_least("application: all of it, zstd -19 / plumb's delta", full / delta.stat().st_size, FULL_TIMES)


def tell(report, case, name, number, ours, note):
    """A row of bytes."""
    times = f"{number / ours:.2f} x" if name != "plumb" else ""
    report.figure(f"{case.name}: {name}", number, "B", "; ".join(part for part in (times, note) if part))


def judge(bench, totals, peers):
    """Sums and verdicts."""
    report, ours = bench.report, totals["plumb"]
    for name, row in totals.items():
        report.figure(f"all cases: {name}", row["bytes"], "B", f"made in {row['cpu_s']:.2f} s of CPU")
    for name in peers:
        report.check_at_least(f"all cases: {name} / plumb, bytes", totals[name]["bytes"] / ours["bytes"], 1)
    if "ostree static delta" in totals:
        report.check("all cases: CPU to create, plumb / ostree", ours["cpu_s"] / totals["ostree static delta"]["cpu_s"], 1)
    report.check_at_least("MB/s applied and verified per core, all cases", ours["made"] / 1e6 / ours["apply_s"], APPLY_MB_S)


def cases(bench):
    """(name, parts of the old image, parts of the new one) of every case."""
    lock = bench.hello / "plumb.lock"
    new_lock, new = lock.read_text(), image(bench)
    page = bench.hello / "www/index.html"
    text = page.read_text()
    try:
        page.write_text(text.replace("<title>", "<title>Changed: ", 1))
        changed = image(bench)
    finally:
        page.write_text(text)
    yield "application", new, changed
    for case, packages in CASES.items():
        try:
            lock.write_text(older_lock(bench, new_lock, packages))
            old = image(bench, offline=False)
        finally:
            lock.write_text(new_lock)
        yield case, old, new


def image(bench, offline=True):
    """Digest and file of each part of the image that the lock of `hello` makes now."""
    bench.plumb("build", bench.hello, offline=offline)
    release = bench.plumb_json("release", bench.hello)["release"]
    parts = bench.plumb_json("show", release)["images"]["web"]
    return {part: (parts[part]["digest"], bench.object_path(parts[part]["digest"])) for part in PARTS}


def older_lock(bench, lock, patterns):
    """The lock with another version of some packages."""
    for pattern in patterns:
        blocks = re.findall(r"\[\[package\]\]\n(?:[^\[\n].*\n)*", lock)
        block, name = next((b, m[1]) for b in blocks if (m := re.search(rf'(?m)^name = "({pattern})"$', b)))
        version = re.search(r'(?m)^version = "(.*)"$', block)[1]
        suite, fields = other_version(bench, pattern, version)
        values = {"name": f'"{fields["Package"]}"', "version": f'"{fields["Version"]}"', "suite": f'"{suite}"',
                  "file": f'"{fields["Filename"]}"', "size": fields["Size"], "digest": f'"sha256:{fields["SHA256"]}"'}
        changed = block
        for key, value in values.items():
            changed = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", changed)
        lock = lock.replace(block, changed).replace(f'kernel = "{name}"', f'kernel = "{fields["Package"]}"')
    return lock


def other_version(bench, pattern, version):
    """Suite and stanza of another version of a package: the first suite that has one, its last one."""
    records = [path.read_text() for path in (bench.home / "store/entries/archive").iterdir()]
    for suite in SUITES:
        record = next((record for record in records if f'"suite":"{suite}"' in record), "")
        for digest in re.findall(r'"packages":"(sha256:[0-9a-f]{64})"', record):
            others = [one for one in stanzas(bench.object_path(digest), pattern) if one["Version"] != version]
            if others:
                return suite, others[-1]
    raise measure.BenchError(f"the archive has one version of `{pattern}` only")


def stanzas(path, pattern):
    """The fields of all packages of that name; line by line, because what this program takes counts for those it starts."""
    found, wanted = [], re.compile(f"Package: {pattern}\n")
    with open(path, encoding="utf-8", errors="replace") as lines:
        fields = None
        for line in lines:
            if wanted.fullmatch(line):
                found.append(fields := {})
            if line == "\n":
                fields = None
            elif fields is not None and not line.startswith(" "):
                key, _, value = line.partition(": ")
                fields[key] = value.strip()
    return found


def find(bench):
    """(name, function) of the peers that are installed; each returns bytes and CPU seconds."""
    peers = {
        "ostree static delta": (("ostree", "fsck.erofs"), ostree),
        "casync": (("casync",), casync),
        "zchunk": (("zck", "zck_delta_size"), zchunk),
        "zstd --patch-from": (("zstd",), zstd_patch),
        "xdelta3": (("xdelta3",), xdelta),
    }
    found = []
    for name, (programs, peer) in peers.items():
        missing = [program for program in programs if not shutil.which(program)]
        if missing:
            bench.report.note(f"{name} is left out: `{missing[0]}` is missing")
        else:
            found.append((name, peer))
    return found


def ostree(bench, case):
    """One self-contained static delta; the commits before it are not counted. Its bsdiff needs more stack than usual."""
    repo = case.path("ostree")
    run = lambda *words: measure.run(["ostree", f"--repo={repo}", *words], scratch=bench.scratch)  # noqa: E731
    run("init", "--mode=bare-user-only")
    for age in ("old", "new"):
        run("commit", "-b", "web", f"--tree=dir={case.tree(age)}", "--owner-uid=0", "--owner-gid=0", "--no-xattrs",
            "--canonical-permissions", "--timestamp=@1700000000", "-s", age)
    delta = case.path("ostree.delta")
    command = f"ulimit -s unlimited; exec ostree --repo={repo} static-delta generate web --inline --min-fallback-size=0 --filename={delta}"
    cost = measure.run(["bash", "-c", command], scratch=bench.scratch)
    return delta.stat().st_size, cost.cpu_s


def casync(bench, case):
    """New chunks and the index, of the image as one file or as a tree, whichever is less."""
    found = []
    for kind, of in (("caibx", lambda age: case.path(f"{age}.bin")), ("caidx", case.tree)):
        store, known, cpu_s = case.path(f"{kind}.store"), set(), 0
        for age in ("old", "new"):
            index = case.path(f"{age}.{kind}")
            cost = measure.run(["casync", "make", "--compression=zstd", f"--store={store}", index, of(age)], scratch=bench.scratch)
            chunks = {path for path in store.rglob("*") if path.is_file()}
            amount, cpu_s = sum(path.stat().st_size for path in chunks - known) + index.stat().st_size, cost.cpu_s
            known = chunks
        found.append((amount, cpu_s))
        if not shutil.which("fsck.erofs"):
            break
    return min(found)


def zchunk(bench, case):
    """What `zck_delta_size` says a download would be, header and all."""
    cost = None
    for age in ("old", "new"):
        cost = measure.run(["zck", "-o", case.path(f"{age}.zck"), case.path(f"{age}.bin")], scratch=bench.scratch)
    told = measure.run(["zck_delta_size", case.path("old.zck"), case.path("new.zck")], scratch=bench.scratch).stdout
    return int(re.search(r"download (\d+) of", told)[1]), cost.cpu_s


def zstd_patch(bench, case):
    """The whole image against the whole old one."""
    out = case.path("patch.zst")
    command = [*ZSTD, f"--patch-from={case.path('old.bin')}", case.path("new.bin"), "-o", out]
    cost = measure.run(command, scratch=bench.scratch)
    return out.stat().st_size, cost.cpu_s


def xdelta(bench, case):
    """The whole image against the whole old one, which it may see all of."""
    out = case.path("xdelta")
    window = case.path("old.bin").stat().st_size
    command = ["xdelta3", "-e", "-9", "-S", "lzma", "-B", str(window), "-s", case.path("old.bin"), case.path("new.bin"), out]
    cost = measure.run(command, scratch=bench.scratch)
    return out.stat().st_size, cost.cpu_s


def full_size(bench, case):
    """All parts of the new image by themselves, `zstd -19`; kept, as it takes half a minute."""
    return sum(size.kept_zstd_size(bench, digest) for digest, _ in case.parts["new"].values())
