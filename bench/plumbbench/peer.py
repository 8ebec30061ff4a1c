"""The builders beside `plumb build`: each makes a root that could boot and serve nginx, from a mirror on this machine.

All get the same request. They run maintainer scripts and update-initramfs and keep dpkg's database, which Plumb does not.
Each runs in a mount namespace of its own with a tmpfs in it, so nothing is left behind.
"""

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

FRESH_S = 24 * 3600
# A bootable root that serves nginx, made the general way (no init system: no boot; no udev: no network).
PACKAGES = ["nginx-light", "systemd", "systemd-sysv", "udev", "iproute2", "ifupdown", "linux-image-cloud-amd64"]


class Peer:
    """One builder: `command(base)` is what is run with a mirror at `base`, in a shell whose folder is a fresh tmpfs."""

    name = ""
    program = ""
    # Whether the measured run reads the mirror's folder; otherwise our server on 127.0.0.1 answers from that folder.
    reads_folder = True

    def __init__(self, bench, mirror):
        self.bench = bench
        self.mirror = mirror

    def build(self):
        """One measured run, everything downloaded."""
        return self.run(self.mirror.folder_url(self) if self.reads_folder else self.mirror.url())

    def fill(self):
        """Runs over the server, which keeps what it is asked for."""
        return self.run(self.mirror.url())

    def run(self, base):
        """Runs the builder; what it makes is lost with the namespace."""
        place = self.bench.scratch / "peer"
        place.mkdir(exist_ok=True)
        script = 'mount -t tmpfs peer "$1" && cd "$1" && ' + self.command(base)
        return measure.run(["unshare", "--mount", "sh", "-ec", script, "sh", place], scratch=self.bench.scratch)


class Mmdebstrap(Peer):
    """The fastest: apt once, dpkg once."""

    name = "mmdebstrap --variant=essential, to a tar"
    program = "mmdebstrap"

    def command(self, base):
        sources = " ".join(f'"deb {base}/{folder} {suite} main"' for folder, suite in SUITES)
        return f'TMPDIR="$1" mmdebstrap --variant=essential --include={",".join(PACKAGES)} bookworm root.tar {sources}'


class Debootstrap(Peer):
    """Knows one suite, so no updates and no security fixes."""

    name = "debootstrap --variant=minbase, to a folder"
    program = "debootstrap"

    def command(self, base):
        return f'debootstrap --variant=minbase --include={",".join(PACKAGES)} bookworm "$1/root" {base}/debian'


class Mkosi(Peer):
    """Runs debootstrap, then apt. It has the address of the security archive built in, so a copy of it runs that asks our
    mirror instead; `--local-mirror` would be simpler, but with it version 14 writes two entries that apt refuses."""

    name = "mkosi -t directory"
    program = "mkosi"
    # With `file://` it leaves main out of sources.list.
    reads_folder = False

    def command(self, base):
        packages = " ".join(f"-p {package}" for package in PACKAGES)
        # No system bus and no systemd here: nspawn must neither register nor make a unit.
        wrapper = (
            "mkdir -p bin out /run/systemd/nspawn; mount -t tmpfs nspawn /run/systemd/nspawn; "
            'printf \'#!/bin/sh\\nexec /usr/bin/systemd-nspawn --keep-unit --register=no "$@"\\n\' >bin/systemd-nspawn; '
            "chmod 755 bin/systemd-nspawn; mkdir lib; cp -r /usr/lib/python3/dist-packages/mkosi lib; "
            f"sed -i s,https://security.debian.org/debian-security,{base}/debian-security, lib/mkosi/__init__.py; "
        )
        return (
            f'{wrapper}PATH="$1/bin:$PATH" PYTHONPATH="$1/lib" mkosi --force -d debian -r bookworm -t directory -O "$1/out" '
            f'--workspace-dir "$1" -m {base}/debian {packages} build'
        )


PEERS = [Mmdebstrap, Debootstrap, Mkosi]


def find(bench):
    """The peers that run here; a word about each that does not."""
    mirror = Mirror(bench.folder / "mirror")
    found = []
    for kind in PEERS:
        if not shutil.which(kind.program):
            bench.report.note(f"peer missing: {kind.program} (`apt-get install {kind.program}`)")
            continue
        peer = kind(bench, mirror)
        try:
            mirror.fill(peer)
        except measure.BenchError as error:
            bench.report.note(f"peer does not run here: {kind.program}: {str(error).strip()[-400:]}")
            continue
        found.append(peer)
    return mirror, found


class Mirror:
    """A folder with the part of Debian's mirror that the peers ask for, and a server in front of it."""

    def __init__(self, folder):
        self.folder = folder
        self.server = CachingServer(folder)

    def url(self):
        """The server."""
        return f"http://127.0.0.1:{self.server.port}"

    def folder_url(self, peer):
        """The folder, as the peer names it."""
        return f"{'copy' if peer.program == 'mmdebstrap' else 'file'}://{self.folder}"

    def fill(self, peer):
        """One run that is not measured, at most once a day."""
        stamp = self.folder / f"complete-{peer.program}"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < FRESH_S:
            return
        print(f"(filling the local mirror for {peer.program}: one run that is not measured)", flush=True)
        if not any(self.folder.glob("complete-*")):
            for release in self.folder.glob("*/dists/*/*Release*"):
                release.unlink()
        peer.fill()
        stamp.touch()

    def close(self):
        """Ends the server."""
        self.server.close()


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

        folder.mkdir(parents=True, exist_ok=True)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        """Ends the server."""
        self.server.shutdown()
        self.server.server_close()


def answer(handler, folder):
    """Sends one file, fetching it first if it is not kept. Only our own peers ask."""
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
