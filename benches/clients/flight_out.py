"""How fast `SELECT * FROM lineitem` gets out over Flight: beside the same query with no wire at all, and
beside a server that sends the same batches from memory.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import check
import lineitem
import settings
from flight_sql import Client
from section import Section, ratio, thousands

SELECT = "SELECT * FROM tpch.lineitem"
KHO, IN_PROCESS, RAW = "Kho", "in process", "raw Flight"
# What no server that scans and sends can be faster than, where both need all processors there are.
BOTH = "in process and raw Flight at once"
# Of the rows per second with no wire, that are wanted at least.
WANTED = 0.9


def measure() -> Section:
    settings.settle()
    section = Section(
        "`SELECT * FROM lineitem` out over Flight",
        how=[f"Without TLS, to pyarrow's client, which keeps no batch; the best of {settings.RUNS} runs "
             "after one that is not timed. The client runs on the same processors as the servers.",
             "In process: the same engine and files, each batch dropped as it comes. Raw Flight: "
             "pyarrow's server, with the batches that Kho sent in memory. Both at once: as long as the "
             "two take that begin together.",
             f"At least {WANTED} of the rows per second in process are wanted."],
        head=["what", "rows", "seconds", "rows/s", "MB/s of Arrow", "Kho / it"])
    kho = Client()
    ticket = kho.ticket(SELECT)
    table = kho.read(ticket)
    size = table.nbytes
    if not same(section, table):
        return section
    file = settings.WORK / "lineitem.arrow"
    write(table, file)
    del table
    with in_process() as scan, raw(file) as port:
        bare = Client(f"grpc://127.0.0.1:{port}", login=False)
        anything = ticket
        ways = {
            KHO: lambda: timed(lambda: kho.drain(kho.ticket(SELECT))),
            IN_PROCESS: lambda: scan(SELECT),
            RAW: lambda: timed(lambda: bare.drain(anything)),
            BOTH: lambda: timed(lambda: at_once(lambda: scan(SELECT)[0],
                                                lambda: bare.drain(anything))),
        }
        counted = {name: run()[0] for name, run in ways.items()}
        for name in (IN_PROCESS, RAW, BOTH):
            if not section.expect(f"rows ({name})", counted[name], counted[KHO]):
                return section
        times = {name: [] for name in ways}
        for _ in range(settings.RUNS):
            for name, run in ways.items():
                times[name].append(run()[1])
                print(f"{name:34} {times[name][-1]:8.3f} s", file=sys.stderr, flush=True)
    file.unlink()
    rows = counted[KHO]
    best = {name: min(it) for name, it in times.items()}
    for name, seconds in best.items():
        section.rows.append([name, thousands(rows), f"{seconds:.3f}", thousands(rows / seconds),
                             f"{size / seconds / 1e6:.1f}",
                             "—" if name == KHO else ratio(seconds, best[KHO])])
    return section


def same(section: Section, table) -> bool:
    """Whether what came is what the table holds, by the sums of every column."""
    import duckdb

    columns = lineitem.kinds()
    wanted = check.kho()("lineitem", columns)
    connection = duckdb.connect(config={"threads": settings.THREADS})
    connection.register("came", table)
    found = connection.execute(check.question("came", columns, check.DUCKDB_SUMS)).fetchone()
    connection.close()
    return section.expect("rows, and the count, sum, least and greatest value of every column",
                          wanted, found)


def write(table, file: Path):
    import pyarrow

    with pyarrow.OSFile(str(file), "wb") as sink:
        with pyarrow.ipc.new_file(sink, table.schema) as writer:
            # As they came, batch by batch.
            for batch in table.to_batches():
                writer.write_batch(batch)


def timed(run) -> tuple[int, float]:
    begun = time.perf_counter()
    rows = run()
    return rows, time.perf_counter() - begun


def at_once(one, other) -> int:
    """Runs both, until both have ended; gives the rows, which must be as many."""
    with ThreadPoolExecutor(1) as beside:
        begun = beside.submit(one)
        rows = other()
        return rows if begun.result() == rows else -1


@contextmanager
def in_process():
    """Runs a query by the engine alone; gives rows and seconds."""
    program = [os.environ["BENCH_IN_PROCESS"], str(settings.DATA)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as engine:
        def scan(query: str) -> tuple[int, float]:
            engine.stdin.write(query + "\n")
            engine.stdin.flush()
            rows, _, seconds = engine.stdout.readline().split()
            return int(rows), float(seconds)

        try:
            yield scan
        finally:
            engine.stdin.close()


@contextmanager
def raw(file: Path):
    program = [sys.executable, str(Path(__file__).with_name("raw_flight.py")), str(file)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()
