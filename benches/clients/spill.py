"""A query of ten times the memory that the server may use: it sorts all of `lineitem`, beside
PostgreSQL with its defaults. benches/run starts Kho with that limit for this part alone.
"""

import os
import sys
import time

import lineitem
import settings
import wire
from section import Section, ratio

# In this order every row has a place of its own, and no file is in it.
SELECT = ("SELECT * FROM lineitem ORDER BY l_extendedprice DESC, l_orderkey DESC, l_linenumber")
TIMES = 10


def measure() -> Section:
    limit = settings.whole("BENCH_MEMORY_BYTES", 1)
    servers = {"Kho": wire.Wire(settings.kho()), "PostgreSQL": wire.Wire(lineitem.in_postgres())}
    settings.settle()
    request = wire.extended(SELECT, wire.BINARY)
    counted = {name: server.count(request) for name, server in servers.items()}
    kho, postgres = counted["Kho"], counted["PostgreSQL"]
    section = Section(
        "A query larger than memory",
        how=[f"`SELECT * FROM lineitem ORDER BY` three columns, over the wire, binary, "
             f"{kho.data_bytes / 1e6:,.1f} MB of values; Kho may use {limit / 1e6:,.0f} MB "
             f"(`limits.memory_bytes`), PostgreSQL {settings.postgres_version()} has its defaults. The "
             f"best of {settings.RUNS} runs after one that is not timed."],
        head=["server", "seconds", "Kho / it"])
    section.expect("rows, bytes, checksums and their order",
                   (postgres.rows(), postgres.data_bytes, postgres.checksum, postgres.in_order),
                   (kho.rows(), kho.data_bytes, kho.checksum, kho.in_order))
    section.expect(f"it is {TIMES} times the memory, at least", True,
                   kho.data_bytes >= TIMES * limit)
    if section.wrong:
        return section
    times = {name: [] for name in servers}
    for _ in range(settings.RUNS):
        for name, server in servers.items():
            begun = time.perf_counter()
            server.drain(request, counted[name].all_bytes)
            times[name].append(time.perf_counter() - begun)
            print(f"spill {name:10} {times[name][-1]:8.2f} s", file=sys.stderr, flush=True)
    best = {name: min(it) for name, it in times.items()}
    for name, seconds in best.items():
        section.rows.append([name, f"{seconds:.2f}",
                             "—" if name == "Kho" else ratio(best["Kho"], seconds)])
    for server in servers.values():
        server.close()
    return section


def memory_limit() -> int:
    """A tenth of what `SELECT * FROM lineitem` sends, for benches/run to start Kho with."""
    server = wire.Wire(settings.kho())
    sent = server.count(wire.extended("SELECT * FROM lineitem", wire.BINARY)).data_bytes
    server.close()
    return sent // TIMES


if __name__ == "__main__":
    os.write(1, f"{memory_limit()}\n".encode())
