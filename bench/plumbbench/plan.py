"""Plans of whole fleets: what deciding costs, and how it grows. Nothing runs; all plans are held at once."""

import json

from . import measure

NAME = "plan"
# Applications, instances of each. First the target, then more applications, then wider ones: every instance is told the
# addresses of the others of its machine, so that the size of plans grows with the square of a machine's instances.
FLEETS = [(50, 20), (500, 20), (5000, 20), (500, 60), (500, 200)]
QUICK = [(50, 20), (500, 20)]
TARGET = (500, 20)
TARGET_S = 1.0
TARGET_MIB = 500


def measure_all(bench):
    """One process per fleet, all fleets in every round."""
    report = bench.report
    report.section("plan: the upgrade of a fleet")
    measure.run(["cargo", "build", "--release", "--locked", "--package", "plumb-plan", "--example", "scale"], cwd=bench.root, scratch=bench.scratch)
    program = bench.root / "target/release/examples/scale"
    fleets = QUICK if bench.options.quick else FLEETS
    rounds = {fleet: [] for fleet in fleets}
    for _ in range(bench.rounds):
        for fleet in fleets:
            cost = measure.run([program, *map(str, fleet)], scratch=bench.scratch)
            rounds[fleet].append(json.loads(cost.stdout))
    for (apps, instances), found in rounds.items():
        name = f"{apps:,} applications of {instances} instances"
        last = found[-1]
        note = (
            f"{last['instances']:,} instances, {last['actions']:,} steps; checked in {min(one['checked_s'] for one in found):.3f} s,"
            f" written in {min(one['written_s'] for one in found):.3f} s, {last['bytes'] / 1e6:,.1f} MB; {last['peak_mib']:,} MiB at most"
        )
        report.times(name, [one["planned_s"] for one in found], note=note)
        if (apps, instances) == TARGET:
            report.check(f"{name}, least s", min(one["planned_s"] for one in found), TARGET_S)
            report.check(f"{name}, most MiB", max(one["peak_mib"] for one in found), TARGET_MIB)
