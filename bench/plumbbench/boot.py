"""`plumb up` of `hello` to HTTP 200 beside bare QEMU, and what each machine of `shop` takes from start to ready."""

import json
import os
import re
import time

from . import measure
from .bare import BareMachine, SameImage
from .bench import HELLO_PORT

NAME = "boot"
# Against the hand-made machine: an init that supervises, verifies and reports should cost next to nothing.
TARGET_RATIO = 1.1
# A general-purpose Debian 12 to HTTP 200 on q35 (its first boot), and its QEMU's CPU; measured once, see README.md.
BASELINE_S = 61.3
BASELINE_TIMES = 28
# Four machines under emulation take a minute or two.
SHOP_ROUNDS = 2
# The guest's console says when it reached what, in seconds since its kernel began.
MILESTONES = [
    ("init", r"plumb: up$"),
    ("modules", r"kernel modules loaded"),
    ("root", r"root mounted"),
    ("service", r"service \S+ starting"),
    ("ready", r"plumb: ready$"),
]
TIMING = re.compile(r"^\s*([0-9.]+) s\s+(\S+) ready$", re.MULTILINE)


def measure_all(bench):
    """Interleaved rounds of `hello`; then `shop`."""
    bench.report.section("warm `plumb up` of hello to HTTP 200, and the lower bounds")
    bench.prepare(bench.hello)
    contenders = {"plumb up hello": lambda: up_hello(bench)}
    up_hello(bench, keep=True)
    contenders["bare QEMU, image of hello, no Plumb"] = SameImage(bench).boot
    contenders |= {name: machine.boot for name, machine in BareMachine.build(bench).items()}
    bench.down()
    results = {name: [] for name in contenders}
    for _ in range(bench.rounds):
        for name, contender in contenders.items():
            results[name].append(contender())
    for name, rounds in results.items():
        bench.report.times(name, [r["wall_s"] for r in rounds], [r["qemu_cpu_s"] for r in rounds],
                           max(r["qemu_rss_kib"] for r in rounds), extra(rounds))
    verdicts(bench, results)
    phases(bench, results["plumb up hello"])
    shop(bench)


def phases(bench, rounds):
    """What `plumb up --timings` says of the parts, medians over the rounds."""
    parts = {}
    for step in (step for one in rounds for step in one["steps"]):
        parts.setdefault(step["what"], []).append(step["took_us"] / 1000)
    for what, took_ms in parts.items():
        bench.report.figure(f"phase: {what}", measure.spread(took_ms)["median"], "ms")


def extra(rounds):
    """The guest's own time line and what the host side of Plumb used, of the median round."""
    middle = sorted(rounds, key=lambda r: r["wall_s"])[len(rounds) // 2]
    parts = [f"{name} {at:.2f}" for name, at in middle.get("guest_s", {}).items()]
    text = "cpu and rss of QEMU"
    if parts:
        text += "; guest clock: " + ", ".join(parts)
    if "cli_cpu_s" in middle:
        text += f"; CLI cpu {middle['cli_cpu_s']:.2f} s, returned after {middle['cli_wall_s']:.2f} s"
        text += f"; keeper cpu {middle['keeper_cpu_s']:.2f} s"
    return text


def verdicts(bench, results):
    """The ratios to the lower bounds; that of QEMU's CPU is the steadier one on a busy machine."""
    names = list(results)
    for lower in names[1:]:
        wall, cpu = (ratio(results[names[0]], results[lower], key) for key in ("wall_s", "qemu_cpu_s"))
        bench.report.figure(f"ratio to {lower.removeprefix('bare QEMU, ')}", wall, "x", f"QEMU's CPU: {cpu:.2f} x")
    lower = names[-1]
    wall = ratio(results[names[0]], results[lower], "wall_s")
    bench.report.check(f"warm `plumb up` of hello / {lower}", wall, TARGET_RATIO)
    bench.report.check("the same by QEMU's CPU", cpu, TARGET_RATIO)
    ours = measure.spread([r["wall_s"] for r in results[names[0]]])["median"]
    bench.report.check_at_least("general-purpose baseline (recorded) / warm `plumb up`", BASELINE_S / ours, BASELINE_TIMES)


def ratio(ours, theirs, key):
    """Of the medians."""
    return measure.spread([r[key] for r in ours])["median"] / measure.spread([r[key] for r in theirs])["median"]


def up_hello(bench, keep=False):
    """One `plumb up`: clocked from the start of the command to the first HTTP 200."""
    bench.down()
    begin = time.monotonic()
    command = bench.spawn_plumb("up", str(bench.hello), "--offline", "--quiet", "--timings", "--json")
    bench.children.append(command)

    usage = []

    def alive():
        if command.returncode is None and (ended := poll4(command)):
            usage.append((time.monotonic() - begin, ended))
            if command.returncode != 0:
                raise measure.BenchError("`plumb up` failed:\n" + measure.read(bench.scratch / "spawned"))

    answered = measure.until_http_200(HELLO_PORT, alive)
    result = {"wall_s": answered - begin} | of_instance(bench, "hello", "web-1")
    while not usage:
        alive()
        time.sleep(0.002)
    bench.children.remove(command)
    result["cli_wall_s"], ended = usage[0]
    result["cli_cpu_s"] = ended.ru_utime + ended.ru_stime
    result["keeper_cpu_s"] = keeper_cpu_s(bench, "hello")
    result["guest_s"] = milestones(bench, "hello", "web-1")
    said = json.loads(measure.read(bench.scratch / "spawned"))
    result["steps"] = said["timings"]["instances"][0]["steps"]
    if not keep:
        bench.down()
    return result


def poll4(process):
    """The resource usage of `process` if it has ended."""
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if pid == 0:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage


def of_instance(bench, deployment, instance):
    """CPU and memory of an instance's QEMU up to now."""
    pid = int((bench.instance_folder(deployment, instance) / "pid").read_text())
    return {"qemu_cpu_s": measure.process_cpu_s(pid), "qemu_rss_kib": measure.process_rss_kib(pid)}


def keeper_cpu_s(bench, deployment):
    """CPU of the process that keeps the deployment up."""
    said = (bench.home / "run" / deployment / "keeper.log").read_text()
    pids = re.findall(r"keeper (\d+) of", said)
    return measure.process_cpu_s(int(pids[-1])) if pids else 0.0


def milestones(bench, deployment, instance):
    """When the guest reached what, on its own clock."""
    console = measure.read(bench.instance_folder(deployment, instance) / "console.log").replace("\r", "")
    found = {}
    for name, pattern in MILESTONES:
        lines = [line for line in console.splitlines() if re.search(pattern, line)]
        at = re.match(r"\[\s*([0-9.]+)\]", lines[0]) if lines else None
        if at:
            found[name] = float(at.group(1))
    return found


def shop(bench):
    """Four machines: from the start of each QEMU to `ready`, as `plumb up --timings` and the consoles tell."""
    bench.report.section("start to ready of each machine of shop, first start (empty volume)")
    bench.prepare(bench.shop)
    rounds = 1 if bench.options.quick else min(bench.rounds, SHOP_ROUNDS)
    walls, machines, lines = [], {}, {}
    for _ in range(rounds):
        bench.down()
        began_unix = time.time()
        cost = up_shop(bench)
        walls.append(cost.wall_s)
        for ready_s, name in TIMING.findall(cost.stdout + cost.stderr):
            record = json.loads((bench.instance_folder("shop", name) / "instance.json").read_text())
            started = record["started_unix_ms"] / 1000 - began_unix
            machines.setdefault(name, []).append(float(ready_s) - started)
            lines[name] = milestones(bench, "shop", name)
    for name, times in sorted(machines.items()):
        note = "guest clock: " + ", ".join(f"{what} {at:.2f}" for what, at in lines[name].items())
        bench.report.times(f"{name}: QEMU started to ready", times, note=note)
    bench.report.times("plumb up shop, warm, until it returns", walls)
    bench.down()


def up_shop(bench):
    """`plumb up --timings`; not quiet, as the timings are what is wanted."""
    command = [bench.plumb_path, "up", bench.shop, "--offline", "--timings"]
    return measure.run(command, env={"PLUMB_HOME": str(bench.home)}, scratch=bench.scratch)
