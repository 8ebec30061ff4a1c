"""The lower bounds: what QEMU needs for the same kernel and root when nothing of Plumb is around it.

`SameImage` boots exactly the image of `hello` (kernel, initramfs with Plumb's PID 1, verified root) with the options of
the running instance: what is left out is the host side (CLI, keeper, switch, readiness, published port).
`BareMachine` boots the same kernel and root with an init that only mounts and starts nginx (bare-init.c), on the fewest
devices: what a person would make by hand for the same machine type.
"""

import io
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

from . import measure
from .bench import BARE_PORT

# What nginx over a virtio network and an unverified EROFS root needs, over PCI out of the image's initramfs and over
# virtio-mmio out of the kernel package.
BARE_MODULES = [
    "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio", "virtio_pci", "virtio_blk",
    "failover", "net_failover", "virtio_net", "libcrc32c", "erofs",
]
MMIO_MODULES = [
    "virtio_ring", "virtio", "virtio_mmio", "virtio_blk", "failover", "net_failover", "virtio_net", "libcrc32c", "erofs",
]
# The machine, the kind of its devices, and what the kernel needs to be told, of research on hand-made machines: the
# fastest that QEMU 7.2 and Debian's kernel boot on.
HAND_MADE = ("microvm,acpi=on", "device", "nokaslr apparmor=0 audit=0 lsm=")
# Options of the instance that belong to Plumb's host side. Those with a value are dropped with it.
DROPPED = {"-pidfile", "-qmp", "-mon"}


def running_command(bench):
    """The command line of the running `web-1` of `hello`, as pairs and flags."""
    pid = int((bench.instance_folder("hello", "web-1") / "pid").read_text())
    return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0").split("\0")


def value_of(command, option):
    """The value of the first `option`."""
    return command[command.index(option) + 1]


def boot(bench, command):
    """Starts QEMU, waits for the page, ends QEMU."""
    log = open(bench.scratch / "bare.log", "wb")
    begin = time.monotonic()
    qemu = subprocess.Popen([*measure.REALTIME, *map(str, command)], cwd=bench.scratch, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    bench.children.append(qemu)

    def alive():
        if qemu.poll() is not None:
            said = measure.read(bench.scratch / "bare.log") + measure.read(bench.scratch / "bare-console")[-2000:]
            raise measure.BenchError(f"bare QEMU ended ({qemu.returncode}):\n{said}")

    try:
        answered = measure.until_http_200(BARE_PORT, alive)
        return {
            "wall_s": answered - begin,
            "qemu_cpu_s": measure.process_cpu_s(qemu.pid),
            "qemu_rss_kib": measure.process_rss_kib(qemu.pid),
        }
    finally:
        qemu.kill()
        qemu.wait()
        log.close()
        bench.children.remove(qemu)


class SameImage:
    """`hello`'s image without Plumb around it. `hello` must run when this is made."""

    def __init__(self, bench):
        self.bench = bench
        initrd = bench.scratch / "same.initrd"
        shutil.copy(bench.instance_folder("hello", "web-1") / "initrd", initrd)
        source = running_command(bench)
        self.command = [source[0]]
        options = iter(source[1:])
        for option in options:
            if option in ("-nodefaults", "-no-user-config", "-no-reboot", "-S"):
                self.command.append(option)
                continue
            value = self.rewrite(option, next(options), initrd)
            if value is not None:
                self.command += [option, value]

    def rewrite(self, option, value, initrd):
        """The value without Plumb's host side; None drops the option."""
        if option in DROPPED or (option == "-chardev" and "id=qmp" in value):
            return None
        if option == "-initrd":
            return str(initrd)
        if option == "-chardev" and "id=control" in value:
            return "null,id=control"
        if option == "-chardev" and "id=console" in value:
            return "file,id=console,path=bare-console"
        if option == "-netdev" and "id=private" in value:
            return "hubport,id=private,hubid=0"
        if option == "-netdev" and "id=publish" in value:
            return f"user,id=publish,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{BARE_PORT}-10.0.2.15:80"
        return value

    def boot(self):
        """One boot."""
        return boot(self.bench, self.command)


class BareMachine:
    """The same kernel and root with `bare-init.c`, on the instance's own machine type or on that of a hand-made machine.
    `hello` must run when this is made."""

    def __init__(self, bench, init, mmio=None):
        self.bench = bench
        source = running_command(bench)
        machine, bus, words = HAND_MADE if mmio else (value_of(source, "-machine"), "pci", "")
        initrd = bench.scratch / f"bare-{bus}.initrd"
        files = read_newc(Path(value_of(source, "-initrd")).read_bytes()) | (mmio or {})
        initrd.write_bytes(bare_initrd(files, init, MMIO_MODULES if mmio else BARE_MODULES))
        root = next(value for value in source if value.startswith("{") and '"disk0"' in value)
        timing = [word for word in value_of(source, "-append").split() if word.startswith(("no_timer", "noreplace", "tsc"))]
        cmdline = "console=ttyS0 quiet loglevel=1 panic=-1 cryptomgr.notests random.trust_cpu=on rdinit=/init"
        self.command = [
            source[0], "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", machine, "-accel", value_of(source, "-accel"),
            "-cpu", value_of(source, "-cpu"), "-m", value_of(source, "-m"), "-smp", value_of(source, "-smp"),
            "-kernel", value_of(source, "-kernel"), "-initrd", str(initrd),
            "-append", " ".join([cmdline, *timing, words]),
            "-blockdev", root, "-device", f"virtio-blk-{bus},drive=disk0",
            "-netdev", f"user,id=n,restrict=on,ipv6=off,hostfwd=tcp:127.0.0.1:{BARE_PORT}-10.0.2.15:80",
            "-device", f"virtio-net-{bus},netdev=n" + (",romfile=" if bus == "pci" else ""), "-serial", "file:bare-console",
        ]

    @classmethod
    def build(cls, bench):
        """Compiles the init for both machines, by name; empty, and a word why, if there is no C compiler."""
        compiler = shutil.which("cc")
        if not compiler:
            bench.report.note("no C compiler (`cc`): the hand-made lower bound is not measured")
            return {}
        init = bench.scratch / "bare-init"
        source = Path(__file__).parent.parent / "bare-init.c"
        measure.run([compiler, "-O2", "-static", "-s", "-o", init, source], scratch=bench.scratch)
        init = init.read_bytes()
        machines = {"bare QEMU, init that only starts nginx": cls(bench, init)}
        if module := mmio_module(bench):
            machines["bare QEMU, the same by hand on microvm"] = cls(bench, init, module)
        else:
            bench.report.note("no `virtio_mmio` found: the hand-made machine on `microvm` is not measured")
        return machines

    def boot(self):
        """One boot."""
        return boot(self.bench, self.command)


def mmio_module(bench):
    """`virtio_mmio.ko` of the kernel of `hello`, under the name it has in an initramfs; None if it cannot be had."""
    lock = (bench.hello / "plumb.lock").read_text()
    kernel = re.search(r'name = "linux-image-[^"]*"(?:\n.+)*?\n(?:digest|sha256) = "(?:sha256:)?([0-9a-f]{64})"', lock)
    if not kernel or not shutil.which("dpkg-deb"):
        return None
    tar = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", bench.object_path(kernel[1])], stdout=subprocess.PIPE, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as package:
        for entry in package:
            if entry.name.endswith("/virtio_mmio.ko"):
                return {"plumb/modules/virtio_mmio.ko": package.extractfile(entry).read()}
    return None


def read_newc(archive):
    """The regular files of a cpio archive in "newc" form (cpio(5)), up to its first trailer, by name."""
    files, at = {}, 0
    while archive[at : at + 6] == b"070701":
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        data_at = round4(at + 110 + name_size)
        if name == "TRAILER!!!":
            break
        if mode & 0o170000 == 0o100000:
            files[name] = archive[data_at : data_at + size]
        at = round4(data_at + size)
    return files


def bare_initrd(files, init, modules):
    """An initramfs of `init` and the modules that it needs."""
    out = bytearray()
    for folder in ("dev", "sysroot", "modules"):
        add_newc(out, folder, 0o040755, b"")
    add_newc(out, "init", 0o100755, init)
    names = [f"{module}.ko" for module in modules]
    add_newc(out, "modules/order", 0o100644, "\n".join(names).encode())
    for name in names:
        add_newc(out, f"modules/{name}", 0o100644, files[f"plumb/modules/{name}"])
    add_newc(out, "TRAILER!!!", 0, b"")
    return bytes(out)


def add_newc(out, name, mode, data):
    """Appends one file to a cpio archive. Inode numbers must differ, as the kernel looks for hard links by them."""
    fields = [len(out) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
    out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    out += bytes(round4(len(out)) - len(out))
    out += data
    out += bytes(round4(len(out)) - len(out))


def round4(number):
    """The next multiple of 4."""
    return (number + 3) & ~3
