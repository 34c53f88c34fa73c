"""Point queries of 1, 16 and 64 clients, beside PostgreSQL: rate, and the slowest in a hundred.

The clients are PostgreSQL's own pgbench: prepared statements, one query after the other in each.
"""

import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import settings
from section import Section, milliseconds, ratio, thousands

CLIENTS = (1, 16, 64)
DEFAULT_ROWS = 1_000_000
DEFAULT_SECONDS = 10
SCRIPT = "\\set id random(1, {rows})\nSELECT * FROM point.account WHERE id = :id;\n"
# Compared one by one before anything is timed; some are not there.
COMPARED = 200
KHO, POSTGRES = "Kho", "PostgreSQL"


def measure() -> Section:
    rows = settings.whole("BENCH_POINT_ROWS", DEFAULT_ROWS)
    seconds = settings.whole("BENCH_CLIENT_S", DEFAULT_SECONDS)
    section = Section(
        "Concurrent point queries",
        how=[f"`SELECT * FROM t WHERE id = $1`, prepared, by random keys of {rows:,} rows "
             f"(`BENCH_POINT_ROWS`) with a primary key; pgbench, {seconds} s each, on the same "
             "processors as the servers.",
             f"PostgreSQL {settings.postgres_version()} with its defaults, after a vacuum.",
             "A ratio of queries per second is better above 1, one of p99 below."],
        head=["clients", "Kho queries/s", "PostgreSQL queries/s", "Kho / PostgreSQL",
              "Kho p99 ms", "PostgreSQL p99 ms", "Kho / PostgreSQL"])
    ports = {KHO: settings.PORT, POSTGRES: settings.POSTGRES_PORT}
    for name, port in ports.items():
        fill_once(port, rows)
        print(f"{name}: {rows} rows", file=sys.stderr, flush=True)
    with settings.postgres() as postgres:
        postgres.execute("VACUUM (ANALYZE) point.account")
        postgres.execute("CHECKPOINT")
    settings.settle()
    found = {name: answers(port, rows) for name, port in ports.items()}
    if not section.expect(f"the answers to {COMPARED} keys, and the sums of all rows",
                          found[POSTGRES], found[KHO]):
        return section
    script = settings.WORK / "point.sql"
    script.write_text(SCRIPT.format(rows=rows))
    for clients in CLIENTS:
        measured = {name: run(port, script, clients, seconds) for name, port in ports.items()}
        (rate, slow), (their_rate, their_slow) = measured[KHO], measured[POSTGRES]
        print(f"{clients} clients: {rate:.0f}/s, PostgreSQL {their_rate:.0f}/s",
              file=sys.stderr, flush=True)
        section.rows.append([
            str(clients), thousands(rate), thousands(their_rate), ratio(rate, their_rate),
            milliseconds(slow), milliseconds(their_slow), ratio(slow, their_slow)])
    return section


def fill_once(port: str, rows: int):
    """The table, where no part has made it yet."""
    with settings.connect(port) as connection:
        there = connection.execute("SELECT count(*) FROM information_schema.tables "
                                   "WHERE table_schema = 'point'").fetchone()[0]
    if not there:
        fill(port, rows)


def fill(port: str, rows: int):
    with settings.connect(port) as connection:
        connection.execute("CREATE SCHEMA point")
        connection.execute("CREATE TABLE point.account (id bigint PRIMARY KEY, name text NOT NULL, "
                           "balance numeric(15, 2), opened date)")
        connection.execute(
            "INSERT INTO point.account SELECT x, 'account ' || x, "
            "CAST(x % 100000 AS numeric(15, 2)) / 4, DATE '2000-01-01' + CAST(x % 9000 AS integer) "
            f"FROM generate_series(1, {rows}) AS g (x)")


def answers(port: str, rows: int) -> list:
    keys = random.Random(5).choices(range(1, rows + rows // 10 + 2), k=COMPARED)
    with settings.connect(port) as connection:
        cursor = connection.cursor()
        found = [cursor.execute("SELECT * FROM point.account WHERE id = %s", [key],
                                prepare=True).fetchall() for key in keys]
        sums = cursor.execute("SELECT count(*), count(DISTINCT id), sum(balance), min(opened), "
                              "max(opened), sum(octet_length(name)) FROM point.account")
        return [sums.fetchone(), *found]


def run(port: str, script: Path, clients: int, seconds: int,
        work: str = "") -> tuple[float, float]:
    """Queries per second, and the time that 99 in 100 keep, in seconds."""
    folder = settings.WORK / f"pgbench-{port}-{clients}{work}"
    folder.mkdir()
    command = [
        os.environ["BENCH_PGBENCH"], "--no-vacuum", "--protocol=prepared", f"--file={script}",
        f"--client={clients}", f"--jobs={min(clients, settings.THREADS)}", f"--time={seconds}",
        "--log", f"--log-prefix={folder}/log", settings.address(port)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False,
                           timeout=seconds + 120)
    # pgbench says 2 when a client gave up: then the rate is not of as many clients.
    if ended.returncode:
        raise RuntimeError(f"pgbench with {clients} clients: {ended.stderr.strip()[-300:]}")
    # The third column is the time of one query in microseconds.
    times = sorted(int(line.split()[2]) for log in folder.iterdir()
                   for line in log.read_text().splitlines())
    rate = re.search(r"^tps = ([\d.]+)", ended.stdout, re.M)
    if not times or not rate:
        raise RuntimeError(f"pgbench with {clients} clients ran no query")
    return float(rate[1]), times[math.ceil(len(times) * 0.99) - 1] / 1e6
