"""64 clients of Flight and 64 of the PostgreSQL wire at once: how long the slowest in a hundred of each
waits, and how long it does alone.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import clients
import settings
from section import Section, milliseconds, ratio, thousands

CLIENTS = 64
DEFAULT_SECONDS = 120
# The time that 99 in 100 keep, to that of the same clients alone, that is wanted at most.
WANTED = 3
PG, FLIGHT = "PostgreSQL wire", "Flight"


def measure() -> Section:
    rows = settings.whole("BENCH_POINT_ROWS", clients.DEFAULT_ROWS)
    seconds = settings.whole("BENCH_TOGETHER_S", DEFAULT_SECONDS)
    section = Section(
        "Both wires at once",
        how=[f"`SELECT * FROM t WHERE id = $1`, prepared, by keys of {rows:,} rows with a primary key; "
             f"{CLIENTS} clients of pgbench and {CLIENTS} of Arrow's Rust client (which binds, asks where "
             f"the rows are, and fetches them: three calls), {seconds} s alone and {seconds} s together, "
             "on the same processors as the server.",
             "Every answer over Flight is looked at; an error of any client fails the part.",
             f"A p99 of {WANTED} times that alone is wanted at most."],
        head=["wire", "alone queries/s", "together queries/s", "alone p99 ms", "together p99 ms",
              "together / alone"])
    clients.fill_once(settings.PORT, rows)
    settings.settle()
    script = settings.WORK / "together.sql"
    script.write_text(clients.SCRIPT.format(rows=rows))
    run = {
        PG: lambda when: clients.run(settings.PORT, script, CLIENTS, seconds, when),
        FLIGHT: lambda when: over_flight(rows, seconds),
    }
    alone = {name: it("-alone") for name, it in run.items()}
    with ThreadPoolExecutor(len(run)) as both:
        begun = {name: both.submit(it, "-together") for name, it in run.items()}
        together = {name: it.result() for name, it in begun.items()}
    for name in run:
        (rate, slow), (rate_together, slow_together) = alone[name], together[name]
        print(f"{name}: {rate:.0f}/s alone, {rate_together:.0f}/s together; p99 {slow * 1e3:.1f} and "
              f"{slow_together * 1e3:.1f} ms", file=sys.stderr, flush=True)
        section.rows.append([name, thousands(rate), thousands(rate_together), milliseconds(slow),
                             milliseconds(slow_together), ratio(slow_together, slow)])
    return section


def over_flight(rows: int, seconds: int) -> tuple[float, float]:
    """Queries per second, and the time that 99 in 100 keep, in seconds."""
    command = [os.environ["BENCH_FLIGHT_CLIENTS"], settings.FLIGHT_PORT, str(CLIENTS), str(seconds),
               str(rows)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 120)
    if ended.returncode:
        raise RuntimeError(f"Flight's clients: {ended.stderr.strip()[-300:]}")
    queries, took, slow = ended.stdout.split()
    return int(queries) / float(took), float(slow)
