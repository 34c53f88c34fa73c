"""What a primary key costs one insert, when the table is large and the key falls anywhere in it."""

import random
import statistics
import sys
import time

import psycopg

import settings
from section import Section, milliseconds, ratio

DEFAULT_ROWS = 10_000_000
ROUNDS = 30
# The first inserts open the table; they are not timed.
WARM_UP = 3
GOAL = 3
TABLES = {"keyed.keyed": "id bigint PRIMARY KEY", "keyed.plain": "id bigint NOT NULL"}
UNIQUE_VIOLATION = "23505"


def measure() -> Section:
    rows = settings.whole("BENCH_KEYED_ROWS", DEFAULT_ROWS)
    connection = settings.connect(settings.PORT)
    connection.execute("CREATE SCHEMA keyed")
    loaded = {}
    for name, column in TABLES.items():
        connection.execute(f"CREATE TABLE {name} ({column}, name text)")
        begun = time.perf_counter()
        # Even numbers, so that every odd one between is free.
        connection.execute(f"INSERT INTO {name} SELECT 2 * x, 'row ' || x "
                           f"FROM generate_series(1, {rows}) AS g (x)")
        loaded[name] = time.perf_counter() - begun
        print(f"{name}: {rows} rows in {loaded[name]:.1f} s", file=sys.stderr, flush=True)
    settings.settle()
    count = ROUNDS + WARM_UP
    # Of a seed, so that a run can be had again.
    numbers = random.Random(3).sample(range(rows), min(count, rows))
    times = {name: [] for name in TABLES}
    for number in numbers:
        for name in TABLES:
            begun = time.perf_counter()
            connection.execute(f"INSERT INTO {name} VALUES ({2 * number + 1}, 'one more')")
            times[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(it[WARM_UP:]) for name, it in times.items()}
    section = Section(
        "One insert into a keyed table",
        how=[f"{rows:,} rows (`BENCH_KEYED_ROWS`) loaded by `INSERT … SELECT`; then inserts of "
             "one row whose key lies anywhere between theirs, in turn into the table with a "
             f"primary key and the one without; the median of {ROUNDS} after {WARM_UP} that are "
             f"not timed. The goal is {GOAL} times at most."],
        head=["table", "load s", "one insert ms", "slowest ms", "to the unkeyed"])
    for name in TABLES:
        found = connection.execute(f"SELECT count(*), count(DISTINCT id) FROM {name}").fetchone()
        section.expect(f"rows of `{name}`", (rows + len(numbers),) * 2, found)
    for number in (2, 2 * rows, 2 * numbers[0] + 1):
        section.expect(f"a second {number} is refused", UNIQUE_VIOLATION,
                       refusal(connection, number))
    if section.wrong:
        return section
    for name, median in medians.items():
        section.rows.append([
            name.partition(".")[2], f"{loaded[name]:.1f}", milliseconds(median),
            milliseconds(max(times[name][WARM_UP:])), ratio(median, medians["keyed.plain"])])
    return section


def refusal(connection, number: int) -> str | None:
    """The SQLSTATE of an insert of a key that is there."""
    try:
        connection.execute(f"INSERT INTO keyed.keyed VALUES ({number}, 'twice')")
    except psycopg.Error as error:
        return error.sqlstate
    return None
