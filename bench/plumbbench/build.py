"""`plumb build`: nothing to do, everything to do, one application file changed; mmdebstrap beside the second."""

import http.server
import os
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from . import measure
from .bench import MIRROR, SUITES

NAME = "build"
FRESH_S = 24 * 3600
# A bootable root that serves nginx, made the general way (no init system: no boot; no udev: no network).
PEER_PACKAGES = "nginx-light,systemd,systemd-sysv,udev,iproute2,ifupdown,linux-image-cloud-amd64"
PEER_ROUNDS = 2


def measure_all(bench):
    """All of `hello`."""
    bench.report.section("build of hello")
    bench.prepare(bench.hello)
    bench.report.costs("no-op build", [bench.plumb("build", bench.hello) for _ in range(bench.rounds)])
    bench.report.costs("rebuild, one app file changed", [changed(bench, n) for n in range(bench.rounds)])
    cold(bench)


def changed(bench, number):
    """Changes the page and builds."""
    page = bench.hello / "www/index.html"
    page.write_text(page.read_text() + f"<!-- {time.time_ns()} {number} -->\n")
    return bench.plumb("build", bench.hello)


def cold(bench):
    """From `.deb` files to an image, kernel and initramfs included; beside mmdebstrap on the same tmpfs."""
    peer = None if bench.options.quick else find_peer(bench)
    on_tmpfs, on_disk, theirs = [], [], []
    for number in range(bench.rounds):
        on_tmpfs.append(cold_build(bench, bench.scratch / f"cold-{number}"))
        on_disk.append(cold_build(bench, bench.folder / "cold"))
        if peer and number < PEER_ROUNDS:
            theirs.append(peer.build())
    where = "on tmpfs" if str(bench.scratch).startswith("/dev/shm") else "on disk: no /dev/shm"
    bench.report.costs("cold build, packages in the store", on_tmpfs, where)
    bench.report.costs("cold build, packages in the store, on disk", on_disk, "as a user has it")
    if theirs:
        bench.report.costs("mmdebstrap --variant=essential to tar", theirs, f"{where}; {peer.size()}")
        ours = measure.spread([c.wall_s for c in on_tmpfs])["median"]
        peers = measure.spread([c.wall_s for c in theirs])["median"]
        bench.report.figure("mmdebstrap / cold build on tmpfs", peers / ours, "x")


def cold_build(bench, home):
    """One build in a new home."""
    shutil.rmtree(home, ignore_errors=True)
    try:
        bench.cold_home(bench.hello, home)
        return bench.plumb("build", bench.hello, home=home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def find_peer(bench):
    """mmdebstrap with a local mirror, or None and a word why."""
    if not shutil.which("mmdebstrap"):
        bench.report.note("peer missing: mmdebstrap (`apt-get install mmdebstrap`), no figure beside the cold build")
        return None
    return Mmdebstrap(bench)


class Mmdebstrap:
    """mmdebstrap on `copy://`: a folder that holds the part of the mirror that it asks for."""

    def __init__(self, bench):
        self.bench = bench
        self.mirror = bench.folder / "mirror"
        stamp = self.mirror / "complete"
        if not stamp.exists() or time.time() - stamp.stat().st_mtime > FRESH_S:
            self.fill()
            stamp.touch()

    def fill(self):
        """Runs once over a server that keeps what it is asked for."""
        print("(filling the local mirror for mmdebstrap: one run that is not measured)", flush=True)
        for release in self.mirror.glob("*/dists/*/InRelease"):
            release.unlink()
        server = CachingServer(self.mirror)
        try:
            self.run(f"http://127.0.0.1:{server.port}")
        finally:
            server.close()

    def build(self):
        """One measured run."""
        return self.run(f"copy://{self.mirror}")

    def run(self, base):
        """Makes the tar on tmpfs."""
        sources = [f"deb {base}/{folder} {suite} main" for folder, suite in SUITES]
        target = self.bench.scratch / "mmdebstrap.tar"
        target.unlink(missing_ok=True)
        command = ["mmdebstrap", "--variant=essential", f"--include={PEER_PACKAGES}", "bookworm", target, *sources]
        return measure.run(command, env={"TMPDIR": str(self.bench.scratch)}, scratch=self.bench.scratch)

    def size(self):
        """How large what it made is."""
        return f"tar of {os.path.getsize(self.bench.scratch / 'mmdebstrap.tar') / 1e6:.0f} MB"


class CachingServer:
    """A mirror on 127.0.0.1 that fetches what it does not have and keeps it under the same path."""

    def __init__(self, folder):
        class Handler(http.server.BaseHTTPRequestHandler):
            """Answers from `folder`."""

            def do_GET(self):
                """One file of the mirror."""
                answer(self, folder)

            def log_message(self, *_):
                """Says nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        """Ends the server."""
        self.server.shutdown()
        self.server.server_close()


def answer(handler, folder):
    """Sends one file, fetching it first if it is not kept. Only our own apt asks."""
    name = os.path.normpath(urllib.parse.unquote(handler.path)).lstrip("/")
    kept = folder / name
    try:
        if not kept.is_file():
            with urllib.request.urlopen(MIRROR + handler.path, timeout=120) as response:
                data = response.read()
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_name(f"{kept.name}.{threading.get_ident()}")
            part.write_bytes(data)
            part.rename(kept)
        data = kept.read_bytes()
    except (OSError, urllib.error.URLError):
        handler.send_error(404)
        return
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
