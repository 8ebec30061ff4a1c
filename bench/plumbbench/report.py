"""What was measured: rows and verdicts, as a table and as JSON."""

import json
import os
import platform
import re
import time
from pathlib import Path

from .measure import spread


def cells(row):
    """A row of a Markdown table: name, wall, CPU, memory, note."""
    wall = row.get("wall_s")
    wall = f"{wall['median']:.3f} [{wall['min']:.3f} .. {wall['max']:.3f}] n={wall['rounds']}" if wall else ""
    cpu = f"{row['cpu_s']['median']:.3f}" if "cpu_s" in row else ""
    memory = f"{row['peak_rss_kib'] / 1024:.0f}" if "peak_rss_kib" in row else ""
    note = row.get("note", "")
    if "floor_s" in row:
        note = f"floor {row['floor_s']:.3f} s, {row['cpu_s']['median'] / row['floor_s']:.1f}x: {note}"
    if "value" in row:
        value = row["value"]
        note = f"{value:,} {row['unit']} {note}" if isinstance(value, int) else f"{value:,.2f} {row['unit']} {note}"
    return [row["name"], wall, cpu, memory, note.strip()]


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
        text = f"{name:<46} {wall['median']:8.3f} s  [{wall['min']:.3f} .. {wall['max']:.3f}] n={wall['rounds']}"
        if cpus:
            row["cpu_s"] = spread(cpus)
            text += f"  cpu {row['cpu_s']['median']:.3f} s"
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

    def stage(self, name, seconds, floor, note):
        """A row of CPU seconds beside what the hardware allows."""
        row = {"section": self.section_name, "name": f"stage: {name}", "cpu_s": spread([seconds]), "floor_s": floor}
        times = f"{seconds / floor:.1f}x the floor" if floor else ""
        self.add(row, f"{row['name']:<46} {seconds:8.3f} s of CPU, floor {floor:.3f} s: {times}", note)

    def check(self, name, value, limit):
        """A verdict: `value` should not be over `limit`."""
        self.judge(name, value, "at most", limit, value <= limit)

    def check_at_least(self, name, value, limit):
        """A verdict: `value` should not be below `limit`."""
        self.judge(name, value, "at least", limit, value >= limit)

    def judge(self, name, value, word, limit, good):
        """Keeps and prints a verdict."""
        verdict = "PASS" if good else "MISS"
        self.checks.append({
            "section": self.section_name, "name": name, "value": value, "target": f"{word} {limit:g}", "verdict": verdict,
        })
        print(f"{verdict}: {name}: {value:.3f}, target {word} {limit:g}", flush=True)

    def row(self, name):
        """A row of this section."""
        return next(row for row in self.rows if row["section"] == self.section_name and row["name"] == name)

    def median(self, name):
        """The median wall time of a row of this section; None if it was not measured."""
        for row in self.rows:
            if row["section"] == self.section_name and row["name"] == name:
                return row["wall_s"]["median"]
        return None

    def publish(self, path: Path, command):
        """Replaces the measured sections of a Markdown file; the others stay."""
        text = path.read_text() if path.exists() else "# Benchmarks\n"
        for name in dict.fromkeys(row["section"] for row in self.rows):
            title = f"## {name[0].upper()}{name[1:]}"
            body = f"{title}\n\n{self.markdown(name, command)}"
            parts = re.split(r"(?m)^(?=## )", text)
            old = [part for part in parts if part.split("\n", 1)[0] == title]
            text = text.replace(old[0], body + "\n") if old else f"{text.rstrip()}\n\n{body}"
        path.write_text(text.rstrip() + "\n")

    def markdown(self, section, command):
        """One section as tables."""
        c = self.conditions()
        lines = [
            f"`{command}`, {c['date'][:10]}, on {c['cpus']} x {c['cpu']}, {c['memory_gib']} GiB, Linux {c['kernel']}"
            f" (load while it ran: {min(self.loads(section)):.1f} to {max(self.loads(section)):.1f}).", "",
            "| what | wall s, median [least .. greatest] | CPU s, median | peak MiB | |", "|---|---|---|---|---|",
        ]
        for row in (row for row in self.rows if row["section"] == section):
            lines.append(f"| {' | '.join(cells(row))} |")
        verdicts = [check for check in self.checks if check.get("section") == section]
        if verdicts:
            lines += ["", "| verdict | target | value | |", "|---|---|---|---|"]
            lines += [f"| {v['verdict']} | {v['name']} | {v['value']:.3f} | {v['target']} |" for v in verdicts]
        lines += ["", *(f"Note: {note}" for note in self.notes)] if self.notes else []
        return "\n".join(lines) + "\n"

    def loads(self, section):
        """The loads at the rows of a section."""
        return [row["load"] for row in self.rows if row["section"] == section and "load" in row] or [0.0]

    def conditions(self):
        """The machine and its state."""
        model = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
        memory_kib = int(open("/proc/meminfo").readline().split()[1])
        return {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", self.begun),
            "cpu": model[0] if model else platform.machine(),
            "cpus": os.cpu_count(),
            "memory_gib": round(memory_kib / 2**20, 1),
            # The release number; what follows it names a build, not a speed.
            "kernel": ".".join(platform.release().split(".")[:2]),
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
