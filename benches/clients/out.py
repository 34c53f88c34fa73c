"""How fast `SELECT * FROM lineitem` gets out, beside PostgreSQL, to a client that keeps nothing."""

import sys
import time

import lineitem
import settings
import wire
from section import Section, ratio, thousands

SELECT = "SELECT * FROM lineitem"
REQUESTS = {
    "rows, text": wire.extended(SELECT, wire.TEXT),
    "rows, binary": wire.extended(SELECT, wire.BINARY),
    "`COPY`, text": wire.simple(f"COPY ({SELECT}) TO STDOUT"),
    "`COPY`, binary": wire.simple(f"COPY ({SELECT}) TO STDOUT (FORMAT binary)"),
}
# Where the head of the binary format lies among the messages is the server's own affair.
UNEVEN = "`COPY`, binary"


def measure() -> Section:
    servers = {"Kho": wire.Wire(settings.kho()), "PostgreSQL": wire.Wire(lineitem.in_postgres())}
    settings.settle()
    section = Section(
        "`SELECT * FROM lineitem` out",
        how=[f"Over the wire without TLS, to a client that reads bytes and makes no values of "
             f"them; the best of {settings.RUNS} runs after one that is not timed, in which it "
             "counts and sums the rows.",
             f"PostgreSQL {settings.postgres_version()} with its defaults, after a vacuum.",
             "A ratio is of rows per second: above 1 Kho is faster."],
        head=["what", "rows", "MB", "Kho rows/s", "PostgreSQL rows/s", "Kho MB/s",
              "PostgreSQL MB/s", "Kho / PostgreSQL"])
    for what, request in REQUESTS.items():
        # One that cannot do it takes no other's time away.
        try:
            counted = {name: server.count(request) for name, server in servers.items()}
        except RuntimeError as error:
            section.wrong.append(f"{what}: {error}")
            continue
        kho, postgres = counted["Kho"], counted["PostgreSQL"]
        if not section.expect(f"rows, bytes and checksums ({what})",
                              findings(what, postgres), findings(what, kho)):
            continue
        times = {name: [] for name in servers}
        for _ in range(settings.RUNS):
            for name, server in servers.items():
                begun = time.perf_counter()
                server.drain(request, counted[name].all_bytes)
                times[name].append(time.perf_counter() - begun)
                print(f"{what:15} {name:10} {times[name][-1]:8.2f} s", file=sys.stderr, flush=True)
        rates = {name: counted[name].rows() / min(it) for name, it in times.items()}
        volumes = {name: counted[name].data_bytes / min(it) / 1e6 for name, it in times.items()}
        section.rows.append([
            what, thousands(kho.rows()), f"{kho.data_bytes / 1e6:.1f}",
            thousands(rates["Kho"]), thousands(rates["PostgreSQL"]),
            f"{volumes['Kho']:.1f}", f"{volumes['PostgreSQL']:.1f}",
            ratio(rates["Kho"], rates["PostgreSQL"])])
    for server in servers.values():
        server.close()
    return section


def findings(what: str, answer: wire.Answer) -> tuple:
    """What both servers must send alike."""
    if what == UNEVEN:
        return answer.rows(), answer.data_bytes
    return answer.rows(), answer.messages, answer.data_bytes, answer.checksum
