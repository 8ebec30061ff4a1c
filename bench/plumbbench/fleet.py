"""Twenty real machines upgraded together, and what a client of them sees meanwhile."""

import http.client
import shutil
import threading
import time

from .bench import HELLO_PORT

NAME = "fleet"
INSTANCES = 20
QUICK_INSTANCES = 4
# How an upgrade goes over them, and what of it the client may see: nothing, as long as one of them serves.
WAYS = [("a quarter at a time", "max_unavailable = {quarter}"), ("all but one", "max_unavailable = {most}")]
# A client that asks without pause would only take the processors from the machines.
PAUSE_S = 0.05
TIMEOUT_S = 60


class Client:
    """Asks again and again, each time with a new connection, until told to stop."""

    def __init__(self):
        self.answered, self.failed, self.longest_s = 0, [], 0.0
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.ask)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()

    def ask(self):
        """Counts answers, and keeps what failed."""
        while not self.done.wait(PAUSE_S):
            began = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", HELLO_PORT, timeout=TIMEOUT_S)
            try:
                connection.request("GET", "/")
                status = connection.getresponse().status
                if status == 200:
                    self.answered += 1
                else:
                    self.failed.append(f"status {status}")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
            finally:
                connection.close()
            self.longest_s = max(self.longest_s, time.monotonic() - began)


def measure_all(bench):
    """All instances from one release to the next, there by one way and on by the other."""
    count = QUICK_INSTANCES if bench.options.quick else INSTANCES
    bench.report.section(f"fleet: {count} instances of hello upgraded together")
    folder = bench.folder / "work" / "fleet"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bench.hello, folder)
    (folder / "plumb.lock").unlink(missing_ok=True)
    bench.down()
    bench.plumb("up", release(bench, folder, count, rolling(WAYS[0][1], count), "first"), "--name", "fleet")
    for name, way in WAYS:
        then = release(bench, folder, count, rolling(way, count), name)
        with Client() as client:
            cost = bench.plumb("upgrade", "fleet", then)
        seen = bench.plumb_json("ps", "fleet")[0]["instances"]
        arrived = sum(one["state"] == "ready" and one["release"] == then for one in seen)
        report = bench.report
        report.figure(f"{name}: all {count} upgraded", cost.wall_s, "s", f"{arrived} ready, of the new release")
        note = f"longest {client.longest_s:.1f} s" + (f"; {client.failed[0]}" if client.failed else "")
        report.figure(f"{name}: requests that failed", len(client.failed), "", f"of {client.answered + len(client.failed)}; {note}")
    bench.down()


def rolling(way, count):
    """The keys of a way, for so many instances."""
    return way.format(quarter=count // 4, most=count - 1)


def release(bench, folder, count, way, page):
    """One more release, with a page of its own; its name."""
    definition = folder / "plumb.toml"
    text = (bench.hello / "plumb.toml").read_text().replace('app = "hello"', 'app = "fleet"')
    # They start together, and each waits for two processors.
    text = text.replace('ready.http = ":80/"', 'ready.http = ":80/", ready.timeout = "20min"')
    keys = f"instances = {count}\nrolling = {{ {way} }}\n"
    definition.write_text(text.replace("[machine.web]\n", f"[machine.web]\n{keys}"))
    (folder / "www" / "index.html").write_text(f"<h1>{page}</h1>\n")
    bench.prepare(folder)
    bench.plumb("release", folder)
    newest = max(one["number"] for one in bench.plumb_json("log", "fleet"))
    return f"fleet@{newest}"
