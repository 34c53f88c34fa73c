"""Answers first, then times, in Markdown.

The answer that most peers give is held right, and Kho takes no part in that vote. A time is shown
only where the answer is right: a query that answers nothing is infinitely fast.
"""

import math
import os
import platform
from pathlib import Path

from answers import COLUMNS, difference
from settings import RUNS, SCALE, THREADS

# Over the PostgreSQL wire, whose types are looked at, and over Flight.
KHO = "kho"
OURS = (KHO, "kho-flight")
NUMBERS = [str(number) for number in range(1, 23)]
# Below this, a query may rightly find nothing.
SMALLEST_SCALE_WITH_ANSWERS = 0.1


def report(checked: dict, runs: list[dict]) -> int:
    """Prints everything; gives the exit code: 1 when Kho is wrong, or a peer is no use."""
    wrong = [f"- tables: {it}" for it in checked["wrong"]]
    notes = []
    kho = next(run for run in runs if run["engine"] == KHO)
    ours = [run for run in runs if run["engine"] in OURS]
    peers = [run for run in runs if run not in ours]
    for run in runs:
        run["right"] = set()
    for number in NUMBERS:
        right = agreed(number, peers)
        if right is None:
            wrong.append(f"- Q{number}: no two peers agree")
            continue
        if not right and SCALE >= SMALLEST_SCALE_WITH_ANSWERS:
            wrong.append(f"- Q{number}: the peers agree that there are no rows")
            continue
        for run in runs:
            result = run["results"][number]
            fault = result.get("error") or difference(right, result["rows"])
            if fault is None:
                run["right"].add(number)
            else:
                kind = "fails" if "error" in result else "differs"
                line = f"- Q{number}: {run['engine']} {kind}: {fault}"
                (wrong if run in ours else notes).append(line)
        wrong += wrong_types(number, kho["results"][number].get("types"))
    for run in runs:
        if not run["right"]:
            wrong.append(f"- {run['engine']} answers nothing rightly")

    print(f"# TPC-H at scale {SCALE:g}\n")
    print(f"{machine()}; {THREADS} threads each; the best of {RUNS} runs after one that is not "
          "timed, in seconds, all values fetched.\n")
    for run in runs:
        print(f"- {run['engine']}: {run['version']}: {len(run['right'])} of 22 answers right")
    print("\n## Load\n\n```\n" + checked["load"].strip() + "\n```\n")
    if not checked["wrong"]:
        print("DuckDB, polars and delta-rs find in every column of every table the count, sum, "
              "least and greatest value that Kho finds.\n")
    if wrong:
        print("## Wrong\n\n" + "\n".join(wrong) + "\n")
    if notes:
        print("## What peers cannot do\n\n" + "\n".join(notes) + "\n")
    print("## Times\n")
    times(ours, peers)
    return 1 if wrong else 0


def agreed(number: str, peers: list[dict]) -> list | None:
    """The answer most peers give; of several, the first peer's. One peer alone is believed."""
    # DataFusion has one vote, however it reads.
    voters = [run for run in peers if run["engine"] != "datafusion-files"] or peers
    answers = [run["results"][number].get("rows") for run in voters]
    given = [rows for rows in answers if rows is not None]
    if not given:
        return None
    votes = [sum(difference(rows, other) is None for other in given) for rows in given]
    most = max(votes)
    if len(voters) > 1 and most < 2:
        return None
    return given[votes.index(most)]


def wrong_types(number: str, types: list[str] | None) -> list[str]:
    wanted = ["numeric" if it == "quotient" else it for it in COLUMNS[int(number)]]
    if types is None or types == wanted:
        return []
    return [f"- Q{number}: kho gives columns of {' '.join(types)}, PostgreSQL of {' '.join(wanted)}"]


def machine() -> str:
    name = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [line.partition(":")[2].strip() for line in information.read_text().splitlines()
                 if line.startswith("model name")]
        name = names[0] if names else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {os.cpu_count()} processors, {memory:.0f} GiB"


def times(ours: list[dict], peers: list[dict]):
    runs = [*ours, *peers]
    pairs = [(run, peer) for run in ours for peer in peers]
    head = ["query", *(run["engine"] for run in runs),
            *(f"{run['engine']} / {peer['engine']}" for run, peer in pairs)]
    print("| " + " | ".join(head) + " |")
    print("| --- |" + " ---: |" * (len(head) - 1))

    def seconds(run, number):
        return min(run["results"][number]["seconds"])

    def shown(run, number):
        if number in run["right"]:
            return f"{seconds(run, number):.3f}"
        return "fails" if "error" in run["results"][number] else "wrong"

    for number in NUMBERS:
        ratios = [f"{seconds(run, number) / seconds(peer, number):.2f}"
                  if number in run["right"] & peer["right"] else "—" for run, peer in pairs]
        print(f"| Q{number} | " + " | ".join([shown(run, number) for run in runs] + ratios) + " |")

    # Of the queries that both answer rightly, so that no one gains by failing.
    def common(title, mean):
        everyone = sorted(set.intersection(*(run["right"] for run in runs)), key=int)
        cells = [f"{mean([seconds(run, n) for n in everyone]):.3f}" if everyone else "—"
                 for run in runs]
        for run, peer in pairs:
            both = sorted(run["right"] & peer["right"], key=int)
            its, theirs = ([seconds(it, n) for n in both] for it in (run, peer))
            cells.append(f"{mean(its) / mean(theirs):.2f}" if both else "—")
        print(f"| {title} | " + " | ".join(cells) + " |")

    common("sum", sum)
    common("geometric mean", geometric_mean)


def geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
