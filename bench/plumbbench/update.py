"""The walk-through of docs/guides/security-update.md with `shop`: every step as it is typed, and the time it takes.

nginx is the package that had a vulnerability: releases of before hold the version of bookworm, the fix comes from
bookworm-security. Its names are those of the package's own changelog; the feed says what Debian's tracker would say of them.
"""

import json
import shutil

from . import measure
from .store import Run

NAME = "update"
UPDATE = 6  # nginx, in the table of updates of `store`
CHANNEL = '\n[channel.prod]\nrequires = ["tests", "scan:patched"]\n'


def measure_all(bench):
    """One walk; with three machines it takes minutes under emulation."""
    bench.report.section("a vulnerability of nginx: from the advisory to the upgrade of a running `shop`")
    home = bench.folder / "update-home"
    shutil.rmtree(home, ignore_errors=True)
    walk = Walk(bench, home)
    try:
        walk.prepare()
        walk.all()
    finally:
        bench.plumb("down", "prod", "--volumes", home=home)
        shutil.rmtree(home, ignore_errors=True)


class Walk:
    """One deployment `prod` in a home of its own."""

    def __init__(self, bench, home):
        self.bench, self.home = bench, home
        self.total_s = 0

    def plumb(self, *words, offline=True):
        """Runs `plumb` in the home of the walk."""
        return self.bench.plumb(*words, home=self.home, offline=offline)

    def prepare(self):
        """A deployment of before the fix, and what the fix is called."""
        bench = self.bench
        definition = bench.shop / "plumb.toml"
        if "[channel.prod]" not in definition.read_text():
            definition.write_text(definition.read_text() + CHANNEL)
        run = Run(bench, self.home)
        lock, today = bench.shop / "plumb.lock", bench.shop / "today.lock"
        run.plumb("lock", bench.shop, "--update", offline=False)
        run.new = lock.read_text()
        today.write_text(run.new)
        lock.write_text(run.lock({UPDATE}))
        self.plumb("release", bench.shop, "-m", "before", offline=False)
        changes = json.loads(self.plumb("diff", lock, today, "--json", offline=False).stdout)["machines"]["web"]["packages"]
        change = next(one for one in changes if one["name"] == "nginx")
        if not change["fixes"]:
            raise measure.BenchError("the changelog of nginx names nothing that its update fixes")
        self.name = change["fixes"][0]
        self.feed = self.home / "tracker.json"
        entry = {"status": "resolved", "repositories": {"bookworm": change["before"]}, "fixed_version": change["after"], "urgency": "high"}
        self.feed.write_text(json.dumps({"nginx": {self.name: {"scope": "remote", "releases": {"bookworm": entry}}}}))
        self.plumb("up", "shop@1", "--name", "prod")
        bench.report.note(f"{self.name}: nginx {change['before']} -> {change['after']}; `prod` runs shop@1, {self.instances()} instances")

    def instances(self):
        """How many instances of `prod` are ready."""
        seen = json.loads(self.plumb("ps", "prod", "--json").stdout)[0]["instances"]
        return sum(one["state"] == "ready" for one in seen)

    def step(self, *words, offline=True):
        """One command of the guide."""
        cost = self.plumb(*words, offline=offline)
        shown = " ".join(str(word) for word in words).replace(str(self.bench.shop), ".").replace(str(self.feed), "FILE")
        self.total_s += cost.wall_s
        self.bench.report.costs(f"plumb {shown}", [cost])
        return cost

    def all(self):
        """The steps, and what is true in the end."""
        shop = self.bench.shop
        self.step("advisory", "add", "debian", self.feed)
        before = json.loads(self.plumb("affected", self.name, "--json").stdout)
        self.step("affected", self.name)
        self.step("lock", "--security", shop, offline=False)
        self.step("diff", shop, offline=False)
        self.step("release", shop, "-m", self.name)
        self.step("test", "shop@2")
        self.step("scan", "shop@2")
        self.step("promote", "shop@2", "prod", "-m", self.name)
        self.step("upgrade", "prod", "shop@prod")
        self.step("affected", self.name)
        after = json.loads(self.plumb("affected", self.name, "--json").stdout)
        if before["instances"] == 0 or after["instances"] != 0:
            raise measure.BenchError(f"{before['instances']} instances were affected before, {after['instances']} are after")
        self.bench.report.figure("all of it", self.total_s, "s", f"{before['instances']} affected instances before, none after; {self.instances()} ready")
