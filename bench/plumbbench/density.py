"""What the 2nd to Nth instance of one image costs in memory and disk, and how many fit in 16 GiB."""

import os
import shutil

from . import measure
from .bench import HELLO_PORT

NAME = "density"
# Few enough for two processors to bring up within minutes under emulation.
COUNTS = [1, 4, 12]
QUICK_COUNTS = [1, 4]
HOST_MIB = 16 * 1024
# Of one machine (docs/definition.md).
MOST_INSTANCES = 50


def measure_all(bench):
    """The same application with ever more instances; the cost of one more is the slope."""
    bench.report.section("density: instances of hello")
    # More emulated processors than real ones, all before all other work, would leave no time to QEMU's own threads.
    realtime, measure.REALTIME = measure.REALTIME, []
    seen = {}
    for count in QUICK_COUNTS if bench.options.quick else COUNTS:
        seen[count] = with_instances(bench, count)
        show(bench.report, count, seen[count])
    measure.REALTIME = realtime
    least, most = min(seen), max(seen)
    slope = {key: (seen[most][key] - seen[least][key]) / (most - least) for key in seen[most]}
    report = bench.report
    report.figure("one more instance: memory of the host", slope["pss_kib"] / 1024, "MiB", "proportional set size")
    report.figure("one more instance: its own share of that", slope["private_kib"] / 1024, "MiB", "private pages")
    report.figure("one more instance: disk", slope["disk_kib"] / 1024, "MiB", "initramfs with its spec, logs")
    first = seen[least]["pss_kib"] / least
    fit = 1 + int((HOST_MIB * 1024 - first) / slope["pss_kib"])
    report.figure("instances in 16 GiB, extrapolated", fit, "", f"line through {least} and {most}; all memory for them")
    if bench.options.fill:
        fill(bench, fit)


def fill(bench, count):
    """Starts them all: a line through two points is not proof."""
    available_mib = measure.available_memory_kib() // 1024
    if available_mib < HOST_MIB + 1024:
        bench.report.note(f"{available_mib} MiB of memory are free: {count} instances were not started")
        return
    seen = with_instances(bench, count)
    show(bench.report, count, seen)
    bench.report.figure("instances in 16 GiB, started and ready", seen["ready"], "", f"of {count}")
    each = seen["pss_kib"] / 1024 / count
    bench.report.figure("the same: memory of the host for each", each, "MiB", "proportional set size")


def with_instances(bench, count):
    """Brings up `count` instances and adds up what they take while idle."""
    folder = bench.folder / "work" / "density"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bench.hello, folder)
    definition = folder / "plumb.toml"
    text = definition.read_text().replace('app = "hello"', 'app = "density"')
    # They start at once, and each waits for two processors.
    text = text.replace('ready.http = ":80/"', 'ready.http = ":80/", ready.timeout = "20min"')
    definition.write_text(with_machines(text, count))
    (folder / "plumb.lock").unlink(missing_ok=True)
    bench.prepare(folder)
    bench.down()
    bench.plumb("up", folder)
    measure.until_http_200(HELLO_PORT, lambda: None)
    seen = {"pss_kib": 0, "private_kib": 0, "rss_kib": 0, "guest_kib": 0, "disk_kib": 0, "ready": 0}
    for instance in bench.plumb_json("ps", "density")[0]["instances"]:
        memory = measure.process_memory_kib(instance["pid"])
        seen["pss_kib"] += memory["Pss"]
        seen["rss_kib"] += memory["Rss"]
        seen["private_kib"] += memory["Private_Clean"] + memory["Private_Dirty"]
        seen["guest_kib"] += instance["memory_used_kib"]
        seen["ready"] += instance["state"] == "ready"
        seen["disk_kib"] += disk_kib(bench.instance_folder("density", instance["name"]))
    bench.down()
    return seen


def with_machines(text, count):
    """The definition with so many instances, in as many equal machines as that takes; one of them is published."""
    head, machine = text.split("[machine.web]\n")
    unpublished = "".join(line for line in machine.splitlines(True) if not line.startswith("publish"))
    parts = [head]
    for number, first in enumerate(range(0, count, MOST_INSTANCES)):
        name, body = (f"web{number}", unpublished) if number else ("web", machine)
        parts.append(f"[machine.{name}]\ninstances = {min(MOST_INSTANCES, count - first)}\n{body}\n")
    return "".join(parts)


def disk_kib(folder):
    """What a folder takes on the disk."""
    blocks = sum(os.lstat(os.path.join(at, name)).st_blocks for at, _, names in os.walk(folder) for name in names)
    return blocks // 2


def show(report, count, seen):
    """One row per number of instances."""
    note = f"RSS {seen['rss_kib'] / 1024:.0f}, private {seen['private_kib'] / 1024:.0f}"
    note += f", used inside {seen['guest_kib'] / 1024:.0f}, disk {seen['disk_kib'] / 1024:.1f} MiB"
    report.figure(f"{count} instances: memory of all their QEMUs", seen["pss_kib"] / 1024, "MiB", note)
