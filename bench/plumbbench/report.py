"""What was measured: rows and verdicts, as a table and as JSON."""

import json
import os
import platform
import time
from pathlib import Path

from .measure import spread


class Report:
    """Collects rows; prints each section as soon as it is whole, so that a long run shows where it is."""

    def __init__(self):
        self.begun = time.gmtime()
        self.rows = []
        self.checks = []
        self.notes = []
        self.section_name = ""

    def section(self, name):
        """Begins a section; says the load, because figures of a busy machine mean little without it."""
        self.section_name = name
        print(f"\n## {name}  (load {os.getloadavg()[0]:.1f})", flush=True)

    def costs(self, name, costs, note=""):
        """A row of wall, CPU and RSS from some rounds."""
        self.times(name, [c.wall_s for c in costs], [c.cpu_s for c in costs], max(c.rss_kib for c in costs), note)

    def times(self, name, walls, cpus=None, rss_kib=None, note=""):
        """A row of seconds."""
        row = {"section": self.section_name, "name": name, "wall_s": spread(walls), "load": os.getloadavg()[0]}
        wall = row["wall_s"]
        text = f"{name:<46} {wall['median']:8.2f} s  [{wall['min']:.2f} .. {wall['max']:.2f}] n={wall['rounds']}"
        if cpus:
            row["cpu_s"] = spread(cpus)
            text += f"  cpu {row['cpu_s']['median']:.2f} s"
        if rss_kib:
            row["peak_rss_kib"] = rss_kib
            text += f"  rss {rss_kib / 1024:.0f} MiB"
        self.add(row, text, note)

    def figure(self, name, value, unit, note=""):
        """A row with one number."""
        row = {"section": self.section_name, "name": name, "value": value, "unit": unit}
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
        self.add(row, f"{name:<46} {shown:>14} {unit}", note)

    def add(self, row, text, note):
        """Keeps and prints a row."""
        if note:
            row["note"] = note
            text += f"  ({note})"
        self.rows.append(row)
        print(text, flush=True)

    def note(self, text):
        """Something that a reader of the figures must know."""
        self.notes.append(text)
        print(f"note: {text}", flush=True)

    def check(self, name, value, limit):
        """A verdict: `value` should not be over `limit`."""
        verdict = "PASS" if value <= limit else "MISS"
        self.checks.append({"name": name, "value": value, "limit": limit, "verdict": verdict})
        print(f"{verdict}: {name}: {value:.3f}, target at most {limit:g}", flush=True)

    def median(self, name):
        """The median wall time of a row of this section; None if it was not measured."""
        for row in self.rows:
            if row["section"] == self.section_name and row["name"] == name:
                return row["wall_s"]["median"]
        return None

    def conditions(self):
        """The machine and its state."""
        model = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        memory_kib = int(open("/proc/meminfo").readline().split()[1])
        return {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", self.begun),
            "cpu": model[0] if model else platform.machine(),
            "cpus": os.cpu_count(),
            "memory_gib": round(memory_kib / 2**20, 1),
            "kernel": platform.release(),
            "load": [round(load, 2) for load in os.getloadavg()],
        }

    def print_conditions(self):
        """One line about the machine."""
        c = self.conditions()
        print(f"{c['date']}  {c['cpus']} x {c['cpu']}, {c['memory_gib']} GiB, Linux {c['kernel']}, load {c['load']}", flush=True)

    def write(self, folder: Path):
        """Writes the JSON and returns its path."""
        path = folder / (time.strftime("%Y%m%dT%H%M%SZ", self.begun) + ".json")
        whole = {"format": 1, "conditions": self.conditions(), "rows": self.rows, "checks": self.checks, "notes": self.notes}
        path.write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n")
        return path
