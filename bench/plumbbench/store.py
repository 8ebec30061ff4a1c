"""What 20 successive releases of `shop` take in a store: before and after `plumb gc`, beside the files they hold."""

import json
import re
import shutil

from . import measure

NAME = "store"
RELEASES = 20
MOST_TIMES = 1.3
KERNEL = r"linux-image-6\.1\.0-\d+-cloud-amd64"
# Which release brings which security update; all others change the application. Packages of one source move together.
UPDATES = {
    3: r"libssl3|openssl",
    6: r"nginx|nginx-common|nginx-light",
    8: r"(lib)?python3\.11.*",
    11: r"linux-image-.*",
    13: r"libpq5|postgresql-.*15",
    15: r"libexpat1|liblzma5|libpcre2-8-0|libzstd1|libsasl2.*",
    17: r"(lib)?perl.*",
    19: r"libpam0g|tzdata|postgresql-(client-)?common",
}


def measure_all(bench):
    """20 releases in a home of their own, then `gc`, then what it costs to come back."""
    bench.report.section(f"store: {RELEASES} releases of shop")
    home = bench.folder / "store-home"
    shutil.rmtree(home, ignore_errors=True)
    run = Run(bench, home)
    try:
        run.all()
    finally:
        shutil.rmtree(home, ignore_errors=True)


class Run:
    """One run; `contents` are the distinct contents of files that the releases hold, by digest."""

    def __init__(self, bench, home):
        self.bench, self.home = bench, home
        self.contents, self.boot = {}, {}
        self.updated = []

    def plumb(self, *words, offline=True):
        """Runs `plumb` in this home."""
        return self.bench.plumb(*words, home=self.home, offline=offline)

    def json(self, *words):
        """What `plumb … --json` says."""
        return json.loads(self.plumb(*words, "--json").stdout)

    def all(self):
        """Everything."""
        report = self.bench.report
        for number in range(1, RELEASES + 1):
            self.release(number)
        files, boot = sum(self.contents.values()), sum(self.boot.values())
        report.figure("distinct contents of files in the roots", files, "B", f"{len(self.contents):,} contents")
        report.figure("kernels and initramfs besides", boot, "B")
        report.note("updates: " + ", ".join(self.updated))
        self.kinds("before gc", self.json("gc", "--dry-run")["kinds"])
        before = tree_bytes(self.home / "store")
        collected = self.plumb("gc", "--json")
        after = tree_bytes(self.home / "store")
        self.kinds("after gc", json.loads(collected.stdout)["kinds"])
        report.costs("plumb gc", [collected])
        report.costs("plumb gc, nothing to do", [self.plumb("gc") for _ in range(self.bench.rounds)])
        report.figure("store before gc", before, "B", f"{before / files:.2f} x the contents of files")
        report.figure("store after gc, all files", after, "B", f"{after / files:.2f} x the contents of files; "
                      f"{disk_bytes(self.home / 'store'):,} on disk; {after / (files + boot):.2f} x with kernels and initramfs")
        report.check("store after gc / distinct contents of files", after / files, MOST_TIMES)
        self.back()

    def release(self, number):
        """Makes one release and notes what it holds."""
        bench = self.bench
        if number == 1:
            self.plumb("lock", bench.shop, "--update", offline=False)
            self.new = (bench.shop / "plumb.lock").read_text()
            (bench.shop / "plumb.lock").write_text(self.lock(set(UPDATES)))
        elif number in UPDATES:
            left = {later for later in UPDATES if later > number}
            (bench.shop / "plumb.lock").write_text(self.lock(left))
        else:
            edit(bench, number)
        self.plumb("release", bench.shop, "-m", f"number {number}", offline=False)
        shown = self.json("show", f"shop@{number}")
        if shown["release"]["number"] != number:
            raise measure.BenchError(f"release {number} did not become one")
        for image in shown["images"].values():
            for part in ("kernel", "initrd"):
                self.boot[image[part]["digest"]] = image[part]["size"]
            for entry, _ in json.loads(self.object(image["inventory"]["digest"]).read_text())["entries"].values():
                content = isinstance(entry["kind"], dict) and entry["kind"].get("file")
                if content:
                    self.contents[content["digest"]] = content["size"]

    def object(self, digest):
        """Where a plain object lies."""
        digits = digest.removeprefix("sha256:")
        return self.home / "store/objects" / digits[:2] / digits[2:]

    def lock(self, old):
        """The lock with those updates not made yet whose numbers are in `old`."""
        text = self.new
        wanted = {number: re.compile(UPDATES[number]) for number in old}
        blocks = re.findall(r"\[\[package\]\]\n(?:[^\[\n].*\n)*", self.new)
        for block in blocks:
            name = re.search(r'name = "(.*)"', block).group(1)
            number = next((number for number, rule in wanted.items() if rule.fullmatch(name)), None)
            stanza = number and self.older(name)
            if not stanza or f'version = "{stanza["Version"]}"' in block:
                continue
            if number == min(UPDATES, key=lambda n: (not re.fullmatch(UPDATES[n], name), n)) and name not in self.updated:
                self.updated.append(name)
            changed = block
            if stanza["Package"] != name:  # the kernel's ABI number is in its name
                text = text.replace(f'kernel = "{name}"', f'kernel = "{stanza["Package"]}"')
            for key, value in {"name": f'"{stanza["Package"]}"', "version": f'"{stanza["Version"]}"', "suite": '"bookworm"', "file": f'"{stanza["Filename"]}"',
                               "size": stanza["Size"], "digest": f'"sha256:{stanza["SHA256"]}"'}.items():
                changed = re.sub(rf"(?m)^{key} = .*$", lambda _, key=key, value=value: f"{key} = {value}", changed)
            text = text.replace(block, changed)
        return text

    def older(self, name):
        """The stanza of bookworm's main for a package of the lock; of a kernel, that of the ABI before."""
        if not hasattr(self, "stanzas"):
            wanted = "|".join(map(re.escape, re.findall(r'name = "(.*)"', self.new))) + "|" + KERNEL
            self.stanzas = {}
            for record in sorted((self.home / "store/entries/archive").iterdir()):
                state = json.loads(record.read_text())
                if state["suite"] != "bookworm":
                    continue
                for index in state["indices"].values():
                    self.stanzas.update(stanzas(self.object(index["packages"]), re.compile(wanted)))
        if re.fullmatch(KERNEL, name):
            kernels = sorted((other for other in self.stanzas if re.fullmatch(KERNEL, other)), key=lambda other: int(other.split("-")[3]))
            return self.stanzas[kernels[-1]] if kernels else None
        return self.stanzas.get(name)

    def kinds(self, when, rows):
        """Rows by kind."""
        for row in rows:
            stay, gone = row["stay_bytes"], row["gone_bytes"]
            note = f"{row['stay_objects']} objects" + (f"; {gone:,} B of {row['gone_objects']} go" if gone else "")
            self.bench.report.figure(f"{when}: {row['kind']}", stay, "B", note)

    def back(self):
        """What it costs to use something again."""
        report = self.bench.report
        report.costs("verify shop@1, everything folded", [self.plumb("verify", "shop@1")])
        page = self.bench.shop / "api/static/shop.css"
        page.write_text(page.read_text() + "/* after gc */\n")
        report.costs("build after gc, one file of the application changed", [self.plumb("build", self.bench.shop)])
        page.write_text(page.read_text() + "/* once more */\n")
        report.costs("the same again", [self.plumb("build", self.bench.shop)])


def edit(bench, number):
    """A change as people make them: text, style, code; the second version of the shop half way."""
    if number == 10:
        for name in ("app.py", "migrate.py", "static/shop.css", "templates/shop.html"):
            shutil.copyfile(bench.root / "examples/shop/v2/api" / name, bench.shop / "api" / name)
        return
    name, comment = [("static/shop.css", "/* {} */\n"), ("app.py", "# {}\n"), ("templates/shop.html", "<!-- {} -->\n")][number % 3]
    path = bench.shop / "api" / name
    path.write_text(path.read_text() + comment.format(f"change {number}"))
    if number % 5 == 4:
        conf = bench.shop / "web/shop.conf"
        conf.write_text(conf.read_text() + f"# change {number}\n")


def stanzas(path, wanted):
    """Fields of the packages in an index whose names match, by name."""
    found, fields = {}, {}
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line != "\n":
                key, _, value = line.partition(": ")
                fields[key] = value.strip()
                continue
            if wanted.fullmatch(fields.get("Package", "")):
                found[fields["Package"]] = fields
            fields = {}
    return found


def tree_bytes(folder):
    """Bytes of all files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def disk_bytes(folder):
    """What the file system gives them."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if not path.is_dir())
