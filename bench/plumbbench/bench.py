"""What all sections share: the folders, the `plumb` under test, the two applications, and cleaning up."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from . import measure

HELLO_PORT = 28080
SHOP_PORT = 28081
BARE_PORT = 28090
MIRROR = "http://deb.debian.org"
# (folder of the mirror, suite): what a definition with `suite = "bookworm"` means.
SUITES = [("debian", "bookworm"), ("debian", "bookworm-updates"), ("debian-security", "bookworm-security")]


class Bench:
    """One run. Use as a context manager: it leaves no virtual machine and no temporary file behind."""

    def __init__(self, root, plumb, options, report):
        self.root = root
        self.plumb_path = plumb
        self.options = options
        self.report = report
        self.folder = root / "target/bench"
        self.home = self.folder / "home"
        self.children = []

    def __enter__(self):
        self.home.mkdir(parents=True, exist_ok=True)
        fast = Path("/dev/shm")
        self.scratch = Path(tempfile.mkdtemp(prefix="plumb-bench-", dir=fast if fast.is_dir() else self.folder))
        self.hello = self.application("hello", "hello", HELLO_PORT)
        self.shop = self.application("shop/v1", "shop", SHOP_PORT)
        self.down()
        return self

    def __exit__(self, *_):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave machines behind
        for child in self.children:
            child.kill()
            child.wait()
        try:
            self.down()
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    @property
    def rounds(self):
        """How often a thing is measured."""
        return self.options.rounds

    def application(self, example, name, port):
        """A fresh copy of an example with a port of ours; its lock of the last run is kept."""
        target = self.folder / "work" / name
        lock = target / "plumb.lock"
        kept = lock.read_bytes() if lock.exists() else None
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.root / "examples" / example, target)
        definition = target / "plumb.toml"
        definition.write_text(definition.read_text().replace('"8080:80"', f'"{port}:80"'))
        if kept is not None:
            lock.write_bytes(kept)
        return target

    def plumb(self, *arguments, home=None, offline=True):
        """Runs `plumb` and returns its cost."""
        command = [self.plumb_path, *arguments, "--quiet"] + (["--offline"] if offline else [])
        return measure.run(command, env={"PLUMB_HOME": str(home or self.home)}, scratch=self.scratch)

    def plumb_json(self, *arguments):
        """What `plumb … --json` says."""
        return json.loads(self.plumb(*arguments, "--json").stdout)

    def spawn_plumb(self, *arguments):
        """Starts `plumb` beside us; its text goes to `scratch/spawned`."""
        env = dict(os.environ, PLUMB_HOME=str(self.home), LC_ALL="C.UTF-8")
        with open(self.scratch / "spawned", "wb") as out:
            return subprocess.Popen(
                [*measure.REALTIME, self.plumb_path, *arguments], env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def down(self):
        """Stops what runs in our home; the benchmark's volumes hold nothing of worth."""
        deployments = json.loads(self.plumb("ps", "--all", "--json").stdout)
        for deployment in deployments:
            self.plumb("down", deployment["name"], "--volumes")

    def prepare(self, folder):
        """Everything that `folder` needs is in the store and built; the only step that uses the network."""
        self.plumb("build", folder, offline=False)

    def object_path(self, digest):
        """Where the store keeps the object `sha256:<hex>`."""
        hex_digits = digest.removeprefix("sha256:")
        return self.home / "store/objects" / hex_digits[:2] / hex_digits[2:]

    def instance_folder(self, deployment, instance):
        """The run folder of an instance."""
        return self.home / "run" / deployment / "instances" / instance

    def cold_home(self, application, target, also=""):
        """A home that holds what `application` downloaded and nothing made from it. `also` is one more lock."""
        store = self.home / "store"
        shutil.copytree(store / "entries/archive", target / "store/entries/archive")
        for name in ("objects", "releases", "locks", "partial", "damaged", "tmp"):
            (target / "store" / name).mkdir(mode=0o700)
        shutil.copy(store / "format", target / "store/format")
        texts = [(application / "plumb.lock").read_text(), also]
        texts += [path.read_text() for path in (store / "entries/archive").iterdir()]
        for digest in sorted(set(re.findall(r"\b[0-9a-f]{64}\b", "".join(texts)))):
            source = self.object_path(digest)
            if source.exists():
                copy = target / "store/objects" / digest[:2] / digest[2:]
                copy.parent.mkdir(mode=0o700, exist_ok=True)
                shutil.copy(source, copy)
        return target
