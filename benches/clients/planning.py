"""What a query of nothing costs on tables with few and with many commits.

The tables are made one row a commit; then benches/run starts Kho again, so that the first query
opens each table, and the later ones find it open.
"""

import os
import statistics
import sys
import time

import settings
from section import Section, milliseconds, ratio

DEFAULT_COMMITS = "10 300 3000"
# Each of these is cheap; the median of many is steady.
ROUNDS = 50
ROUNDS_AFTER_A_COMMIT = 15


def sizes() -> list[int]:
    found = sorted({int(it) for it in (os.environ.get("BENCH_COMMITS") or DEFAULT_COMMITS).split()})
    if not found or found[0] < 1:
        raise SystemExit("BENCH_COMMITS must be numbers above 0")
    return found


def make():
    with settings.connect(settings.PORT) as connection:
        connection.execute("CREATE SCHEMA planning")
        tables = {"planning.other": 1} | {table(commits): commits for commits in sizes()}
        for name, commits in tables.items():
            connection.execute(f"CREATE TABLE {name} (id bigint NOT NULL, name text)")
            begun = time.perf_counter()
            for number in range(commits):
                connection.execute(f"INSERT INTO {name} VALUES ({number}, 'row {number}')")
            seconds = time.perf_counter() - begun
            print(f"{name}: {commits} commits, {seconds / commits * 1e3:.1f} ms each",
                  file=sys.stderr, flush=True)
    # As such a table is found an hour later: compacted, with its checkpoints.
    settings.settle()


def table(commits: int) -> str:
    return f"planning.after_{commits}"


def question(name: str) -> str:
    return f"SELECT count(*) FROM {name} WHERE id = -1"


def measure() -> Section:
    section = Section(
        "Planning against number of commits",
        how=["`SELECT count(*) FROM t WHERE id = -1` on tables made by single-row inserts and "
             "compacted by the server, in milliseconds: the first time after a start (one "
             f"reading); the median of {ROUNDS}, nothing written meanwhile; the median of "
             f"{ROUNDS_AFTER_A_COMMIT}, each after one more commit.",
             f"{sizes()} commits were asked for (`BENCH_COMMITS`).",
             "A ratio is to the table with the fewest: 1 is what is wanted."],
        head=["inserts", "versions kept", "first", "ratio", "open", "ratio", "after a commit",
              "ratio"])
    connection = settings.connect(settings.PORT)
    # What only the first query of a server or of a session pays is no table's cost.
    for _ in range(5):
        ask(connection, "planning.other")
    first = {it: ask(connection, table(it)) for it in sizes()}
    opened, written = ({it: [] for it in sizes()} for _ in range(2))
    for _ in range(ROUNDS):
        for commits, times in opened.items():
            times.append(ask(connection, table(commits)))
    for number in range(ROUNDS_AFTER_A_COMMIT):
        for commits, times in written.items():
            connection.execute(
                f"INSERT INTO {table(commits)} VALUES ({commits + number}, 'another row')")
            times.append(ask(connection, table(commits)))
    least = sizes()[0]
    middle = statistics.median
    for commits in sizes():
        name = table(commits)
        rows = connection.execute(f"SELECT count(*), count(DISTINCT id) FROM {name}").fetchone()
        if not section.expect(f"the rows after {commits} inserts and {ROUNDS_AFTER_A_COMMIT} more",
                              (commits + ROUNDS_AFTER_A_COMMIT,) * 2, rows):
            continue
        versions = connection.execute(
            f"SELECT count(*) FROM kho.table_history('{name}')").fetchone()[0]
        section.rows.append([
            f"{commits:,}", f"{versions:,}",
            milliseconds(first[commits]), ratio(first[commits], first[least]),
            milliseconds(middle(opened[commits])),
            ratio(middle(opened[commits]), middle(opened[least])),
            milliseconds(middle(written[commits])),
            ratio(middle(written[commits]), middle(written[least]))])
    return section


def ask(connection, name: str) -> float:
    begun = time.perf_counter()
    found = connection.execute(question(name)).fetchone()
    seconds = time.perf_counter() - begun
    if found != (0,):
        raise RuntimeError(f"{name} has {found} rows with id -1")
    return seconds
