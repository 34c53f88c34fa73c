"""How fast `lineitem` gets in: from a CSV file, and from a table.

Into Kho and PostgreSQL over the wire, by the same client; into a Delta table by delta-rs in
process. Every load goes into a new table; at the end each contender's last table is compared with
the one that was loaded first, column by column.
"""

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import check
import lineitem
import settings
from section import Section, ratio, thousands

COLUMNS = ", ".join(lineitem.COLUMNS)
FROM_CSV, FROM_TABLE = "from CSV", "from a table"
KHO, POSTGRES, DELTA_RS = "Kho", "PostgreSQL", "delta-rs"


@dataclass
class Load:
    way: str
    contender: str
    times: list[float]

    def rate(self, rows: int) -> float:
        return rows / min(self.times)


def measure() -> Section:
    import deltalake

    # Before the tables of this part look like it.
    source = settings.folders()["lineitem"]
    size = lineitem.csv_file().stat().st_size
    lineitem.in_postgres().close()
    settings.settle()
    with settings.kho() as connection:
        connection.execute("CREATE SCHEMA load")
        rows = connection.execute("SELECT count(*) FROM lineitem").fetchone()[0]
    ways = {
        (FROM_CSV, KHO): lambda: over_the_wire(settings.kho, "load.copied", copy),
        (FROM_CSV, POSTGRES): lambda: over_the_wire(settings.postgres, "copied", copy),
        (FROM_CSV, DELTA_RS): lambda: delta_rs("copied", read_csv),
        (FROM_TABLE, KHO): lambda: over_the_wire(settings.kho, "load.inserted", insert),
        (FROM_TABLE, POSTGRES): lambda: over_the_wire(settings.postgres, "inserted", insert),
        (FROM_TABLE, DELTA_RS): lambda: delta_rs("inserted", lambda: read_table(source)),
    }
    loads = [Load(way, contender, []) for way, contender in ways]
    for _ in range(settings.RUNS):
        for load, run in zip(loads, ways.values()):
            # What the last one left to the system to write is not this one's to wait for.
            os.sync()
            load.times.append(run())
            print(f"{load.way:13} {load.contender:10} {load.times[-1]:8.2f} s",
                  file=sys.stderr, flush=True)
            if load.contender == KHO:
                settings.settle()
    section = Section(
        "Load of `lineitem`",
        how=[f"{rows:,} rows; the file has {size / 1e6:,.1f} MB. The best of {settings.RUNS} "
             "loads, each into a new table, until it is committed.",
             f"PostgreSQL {settings.postgres_version()} with its defaults (fsync on), over the "
             "wire by the same client as Kho: `COPY … FROM STDIN (FORMAT csv)` and "
             "`INSERT … SELECT`.",
             f"delta-rs (`deltalake` {deltalake.__version__}) in process: `read_csv` of PyArrow "
             "and `write_deltalake`; a scan of Kho's table by its own engine and "
             "`write_deltalake`. It does not sync what it wrote; Kho and PostgreSQL do.",
             "A ratio is of rates: above 1 Kho is faster."],
        head=["load", "contender", "seconds", "rows/s", "MB/s of CSV", "Kho / it"])
    right = compare(section)
    ours = {load.way: load.rate(rows) for load in loads
            if load.contender == KHO and (load.way, KHO) in right}
    for load in loads:
        # A time of rows that are not there is none.
        if (load.way, load.contender) not in right:
            continue
        rate = load.rate(rows)
        best = min(load.times)
        section.rows.append([
            load.way, load.contender, f"{best:.2f}", thousands(rate),
            f"{size / best / 1e6:.1f}" if load.way == FROM_CSV else "—",
            "—" if load.contender == KHO or load.way not in ours else ratio(ours[load.way], rate)])
    return section


def over_the_wire(connect, table: str, fill: Callable) -> float:
    with connect() as connection:
        connection.execute(f"DROP TABLE IF EXISTS {table}")
        connection.execute(lineitem.definition(table))
        if connect is settings.postgres:
            # It would vacuum the table while another is timed.
            connection.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        begun = time.perf_counter()
        fill(connection, table)
        seconds = time.perf_counter() - begun
        if connect is settings.postgres:
            # And write its pages.
            connection.execute("CHECKPOINT")
    return seconds


def copy(connection, table: str):
    lineitem.copy_in(connection, table)


def insert(connection, table: str):
    connection.execute(f"INSERT INTO {table} SELECT {COLUMNS} FROM lineitem")


def delta_rs(name: str, read) -> float:
    from deltalake import write_deltalake

    folder = settings.WORK / "delta-rs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun = time.perf_counter()
    write_deltalake(str(folder), read())
    return time.perf_counter() - begun


def read_csv():
    """All at once: PyArrow's streaming reader parses with one thread only."""
    import pyarrow
    from pyarrow import csv

    pyarrow.set_cpu_count(settings.THREADS)
    schema = lineitem.arrow_schema()
    return csv.read_csv(
        lineitem.csv_file(),
        read_options=csv.ReadOptions(column_names=schema.names),
        convert_options=csv.ConvertOptions(
            column_types={field.name: field.type for field in schema}, strings_can_be_null=False))


def read_table(folder: str):
    """As a stream, which is how much of it fits into memory."""
    from deltalake import DeltaTable, QueryBuilder

    builder = QueryBuilder().register("lineitem", DeltaTable(folder))
    return builder.execute(f"SELECT {COLUMNS} FROM lineitem")


def compare(section: Section) -> set[tuple[str, str]]:
    """Every table against the one that Kho was loaded with at first; gives the loads that hold."""
    right = set()
    columns = lineitem.kinds()
    kho = check.kho()
    wanted = tuple(kho("lineitem", columns))
    sent = check.sent((settings.WORK / "load.txt").read_text())
    section.expect("rows that `tpch-load` sent", sent["lineitem"], wanted[0])
    postgres = settings.postgres()
    folders = {name: str(settings.WORK / "delta-rs" / name) for name in ("copied", "inserted")}
    delta = check.delta_rs(folders)
    for way, name in zip((FROM_CSV, FROM_TABLE), folders):
        found = {
            KHO: kho(f"load.{name}", columns),
            POSTGRES: postgres.execute(check.question(name, columns, check.WIRE_SUMS)).fetchone(),
            DELTA_RS: delta(name, columns),
        }
        for contender, profile in found.items():
            different = [f"{title} is {value!r} instead of {expected!r}"
                         for title, value, expected
                         in zip(check.titles_of(columns), profile, wanted, strict=True)
                         if value != expected]
            if different:
                section.wrong.append(f"`{name}` by {contender}: {different[0]}")
            else:
                right.add((way, contender))
    if not section.wrong:
        section.same.append("rows, and the count, sum, least and greatest value of every column, "
                            "of all six loaded tables and of the one they were made from")
    # What is kept no part needs again.
    with postgres:
        postgres.execute("DROP TABLE copied, inserted")
    shutil.rmtree(settings.WORK / "delta-rs")
    return right
