"""What the ledger costs: point queries of 16 clients, with the ledger on and with it off.

Off is `kho-without-ledger`, the same engine and wire over the same files with a ledger that keeps
nothing: no server of Kho's can be told to have none.
"""

import os
import statistics
import subprocess
import sys

import clients
import settings
from section import Section, milliseconds, ratio, thousands

CLIENTS = 16
# On, off, off, on: what drifts on the machine meanwhile weighs on both.
ROUNDS = 2
# Queries per second with the ledger, of those without, that are wanted at least.
WANTED = 0.8


def measure() -> Section:
    rows = settings.whole("BENCH_POINT_ROWS", clients.DEFAULT_ROWS)
    seconds = settings.whole("BENCH_CLIENT_S", clients.DEFAULT_SECONDS)
    section = Section(
        "Cost of the ledger",
        how=[f"`SELECT * FROM t WHERE id = $1`, prepared, by random keys of {rows:,} rows; pgbench "
             f"with {CLIENTS} clients, {2 * ROUNDS} times {seconds} s each in turns, the middle.",
             "Without the ledger: the same engine over the same files, its records thrown away.",
             f"At least {WANTED} of the queries per second are wanted."],
        head=["clients", "with queries/s", "without queries/s", "with / without", "with p99 ms",
              "without p99 ms"])
    clients.fill_once(settings.PORT, rows)
    settings.settle()
    script = settings.WORK / "ledger-point.sql"
    script.write_text(clients.SCRIPT.format(rows=rows))
    with without_ledger() as bare:
        port = bare.stdout.readline().strip().rsplit(":", 1)[-1]
        try:
            ports = {"with": settings.PORT, "without": port}
            found = {name: clients.answers(it, rows) for name, it in ports.items()}
            if not section.expect("the answers to keys, and the sums of all rows",
                                  found["without"], found["with"]):
                return section
            measured = {name: [] for name in ports}
            for number in range(ROUNDS):
                for name in ("with", "without", "without", "with"):
                    work = f"{name}-{number}-{len(measured[name])}"
                    measured[name].append(
                        clients.run(ports[name], script, CLIENTS, seconds, work))
        finally:
            bare.terminate()
    rate = {it: statistics.median(rate for rate, _ in all_) for it, all_ in measured.items()}
    slow = {it: statistics.median(slow for _, slow in all_) for it, all_ in measured.items()}
    print(f"{CLIENTS} clients: {rate['with']:.0f}/s with the ledger, {rate['without']:.0f}/s "
          "without", file=sys.stderr, flush=True)
    section.rows.append([
        str(CLIENTS), thousands(rate["with"]), thousands(rate["without"]),
        ratio(rate["with"], rate["without"]), milliseconds(slow["with"]),
        milliseconds(slow["without"])])
    return section


def without_ledger() -> subprocess.Popen:
    program = os.environ["BENCH_WITHOUT_LEDGER"]
    return subprocess.Popen([program, str(settings.DATA)], stdout=subprocess.PIPE, text=True)
