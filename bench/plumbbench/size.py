"""How large `hello` is, and what it uses when idle, against a general-purpose installation that serves the same page."""

import json
import shutil
import subprocess

from .bench import HELLO_PORT
from . import measure

NAME = "size"
TARGET_SHARE = 1 / 10
# Debian 12 made with `mmdebstrap --variant=standard` and linux-image-cloud-amd64, nginx, openssh-server, cloud-init,
# netplan.io, cloud-guest-utils, sudo, with recommends; measured 2026-11-22 (see README.md).
BASELINE = {
    "bytes": 658_246_268,
    "bytes as tar, zstd -19": 179_903_210,
    "packages": 356,
    "files": 24_998,
    "memory_used_kib": 481_284 - 415_948,
    "kernel as Debian ships it": 14_186_432,
}


def measure_all(bench):
    """Bytes, packages, files; memory after a start."""
    report = bench.report
    report.section("size of hello")
    bench.prepare(bench.hello)
    built = bench.plumb_json("build", bench.hello)[0]
    report.figure("root", built["root_bytes"], "B")
    report.figure("initramfs", built["initrd_bytes"], "B")
    report.figure("kernel (vmlinux, not compressed)", built["kernel_bytes"], "B")
    report.figure("image (root + initramfs + kernel)", built["size_bytes"], "B", against("bytes", built["size_bytes"]))
    as_shipped = built["size_bytes"] - built["kernel_bytes"] + BASELINE["kernel as Debian ships it"]
    report.figure("image, kernel counted as Debian's bzImage", as_shipped, "B", against("bytes", as_shipped))
    report.figure("packages", built["packages"], "", against("packages", built["packages"]))
    report.figure("files", built["files"], "", against("files", built["files"]))
    idle(bench)
    compressed(bench)
    report.check("image bytes / general-purpose baseline", built["size_bytes"] / BASELINE["bytes"], TARGET_SHARE)
    report.check("the same, kernel as Debian's bzImage", as_shipped / BASELINE["bytes"], TARGET_SHARE)
    report.check("packages / general-purpose baseline", built["packages"] / BASELINE["packages"], TARGET_SHARE)


def against(key, value):
    """The baseline, and how many times smaller ours is."""
    return f"baseline {BASELINE[key]:,}: {BASELINE[key] / value:.1f}x less"


def idle(bench):
    """Starts `hello` and asks it."""
    bench.plumb("up", bench.hello)
    measure.until_http_200(HELLO_PORT, lambda: None)
    instance = bench.plumb_json("ps", "hello")[0]["instances"][0]
    used = instance["memory_used_kib"]
    bench.report.figure("guest memory used when idle", used, "KiB", against("memory_used_kib", used))
    bench.report.figure("QEMU's peak RSS on the host", measure.process_rss_kib(instance["pid"]), "KiB")
    bench.down()


def compressed(bench):
    """What a transfer would take: every part by itself with zstd -19. Kept by digest, as it takes half a minute."""
    if not shutil.which("zstd"):
        bench.report.note("zstd is missing (`apt-get install zstd`): no compressed sizes")
        return
    release = bench.plumb_json("release", bench.hello)["release"]
    image = bench.plumb_json("show", release)["images"]["web"]
    total = 0
    for part in ("kernel", "initrd", "root"):
        number = kept_zstd_size(bench, image[part]["digest"])
        bench.report.figure(f"{part}, zstd -19", number, "B")
        total += number
    key = "bytes as tar, zstd -19"
    bench.report.figure("image, zstd -19", total, "B", against(key, total))


def kept_zstd_size(bench, digest):
    """The bytes of an object after `zstd -19`; kept by digest, as a kernel takes half a minute."""
    kept_path = bench.folder / "zstd.json"
    kept = json.loads(kept_path.read_text()) if kept_path.exists() else {}
    if digest not in kept:
        kept[digest] = zstd_size(bench.object_path(digest))
        kept_path.write_text(json.dumps(kept, indent=1, sort_keys=True))
    return kept[digest]


def zstd_size(path):
    """The bytes of `path` after `zstd -19`."""
    with subprocess.Popen(["zstd", "-19", "-q", "-c", path], stdout=subprocess.PIPE) as zstd:
        size = sum(len(block) for block in iter(lambda: zstd.stdout.read(1 << 20), b""))
    if zstd.returncode != 0:
        raise measure.BenchError(f"`zstd -19 {path}` failed")
    return size
