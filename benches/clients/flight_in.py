"""How fast `lineitem` gets in from memory: by Flight into Kho, by delta-rs into a Delta table, and by
DuckDB into a Parquet file.

Each gets the same batches of Arrow, and writes a new table; at the end what each has written last is
compared with what it was given, column by column.
"""

import os
import shutil
import sys
import time

import check
import lineitem
import settings
from flight_sql import Client
from section import Section, ratio, thousands

KHO, DELTA_RS, DELTA_RS_ZSTD = "Kho", "delta-rs", "delta-rs, zstd"
# By which an engine knows the tables that delta-rs wrote.
IN_ENGINE = {DELTA_RS: "delta_rs", DELTA_RS_ZSTD: "delta_rs_zstd"}
DUCKDB, DUCKDB_ZSTD = "DuckDB", "DuckDB, zstd"
# Of the rows per second of delta-rs, that are wanted at least.
WANTED = 1.0
BATCH_ROWS = 65_536


def measure() -> Section:
    import deltalake
    import duckdb

    client = Client()
    schema = lineitem.arrow_schema()
    with settings.kho() as connection:
        connection.execute("CREATE SCHEMA flight_in")
    table = client.read(client.ticket(f"SELECT {', '.join(lineitem.COLUMNS)} FROM tpch.lineitem"))
    table = table.cast(schema).combine_chunks()
    settings.settle()
    ways = {
        KHO: lambda: by_flight(client, table),
        DELTA_RS: lambda: by_delta_rs(table, None),
        DELTA_RS_ZSTD: lambda: by_delta_rs(table, "ZSTD"),
        DUCKDB: lambda: by_duckdb(table, "snappy"),
        DUCKDB_ZSTD: lambda: by_duckdb(table, "zstd"),
    }
    times = {name: [] for name in ways}
    for _ in range(settings.RUNS):
        for name, run in ways.items():
            # What the last one left to the system to write is not this one's to wait for.
            os.sync()
            times[name].append(run())
            print(f"{name:15} {times[name][-1]:8.2f} s", file=sys.stderr, flush=True)
            if name == KHO:
                settings.settle()
    section = Section(
        "`lineitem` in over Flight",
        how=[f"{table.num_rows:,} rows, {table.nbytes / 1e6:,.1f} MB of Arrow in the client's memory, in "
             f"batches of {BATCH_ROWS:,}; the best of {settings.RUNS} loads, each into a new table, until "
             "it is committed.",
             "Kho: `DoPut` of pyarrow's client without TLS; it compresses with zstd and syncs what it "
             "wrote.",
             f"delta-rs (`deltalake` {deltalake.__version__}) in process: `write_deltalake`, as it comes "
             "(snappy), and with zstd. "
             f"DuckDB {duckdb.__version__} in process: `COPY … TO` a Parquet file, likewise. Neither "
             "syncs.",
             f"At least {WANTED} of the rows per second of delta-rs are wanted: above 1 Kho is faster."],
        head=["what", "seconds", "rows/s", "MB/s of Arrow", "MB written", "Kho / it"])
    right = compare(section, table)
    best = {name: min(it) for name, it in times.items()}
    for name, seconds in best.items():
        if name not in right:
            continue
        shown = "—" if name == KHO or KHO not in right else ratio(seconds, best[KHO])
        section.rows.append([name, f"{seconds:.2f}", thousands(table.num_rows / seconds),
                             f"{table.nbytes / seconds / 1e6:.1f}", f"{written(name) / 1e6:.1f}", shown])
    shutil.rmtree(settings.WORK / "flight-in")
    return section


def by_flight(client: Client, table) -> float:
    with settings.kho() as connection:
        connection.execute("DROP TABLE IF EXISTS flight_in.lineitem")
        connection.execute(lineitem.definition("flight_in.lineitem"))
    begun = time.perf_counter()
    client.put(("flight_in", "lineitem"), table.to_batches(BATCH_ROWS), table.schema)
    return time.perf_counter() - begun


def folder(name: str):
    made = settings.WORK / "flight-in" / name.replace(", ", "-")
    made.parent.mkdir(exist_ok=True)
    return made


def by_delta_rs(table, compression) -> float:
    import pyarrow
    from deltalake import WriterProperties, write_deltalake

    name = DELTA_RS_ZSTD if compression else DELTA_RS
    shutil.rmtree(folder(name), ignore_errors=True)
    batches = pyarrow.RecordBatchReader.from_batches(table.schema, table.to_batches(BATCH_ROWS))
    properties = WriterProperties(compression=compression) if compression else None
    begun = time.perf_counter()
    write_deltalake(str(folder(name)), batches, writer_properties=properties)
    return time.perf_counter() - begun


def by_duckdb(table, compression) -> float:
    import duckdb
    import pyarrow

    name = DUCKDB_ZSTD if compression == "zstd" else DUCKDB
    folder(name).mkdir(exist_ok=True)
    connection = duckdb.connect(config={"threads": settings.THREADS})
    batches = pyarrow.Table.from_batches(table.to_batches(BATCH_ROWS))
    connection.register("came", batches)
    begun = time.perf_counter()
    connection.execute(f"COPY came TO '{folder(name)}/lineitem.parquet' "
                       f"(FORMAT parquet, COMPRESSION {compression})")
    seconds = time.perf_counter() - begun
    connection.close()
    return seconds


def written(name: str) -> int:
    if name != KHO:
        return sum(it.stat().st_size for it in folder(name).rglob("*.parquet"))
    return sum(it.stat().st_size for it in newest_folder().rglob("*.parquet"))


def newest_folder():
    """Of Kho's own table, which was made last: Kho names folders by id and not by table."""
    logs = (settings.DATA / "tables").rglob("_delta_log/00000000000000000000.json")
    return max(logs, key=lambda it: it.stat().st_mtime).parent.parent


def compare(section: Section, table) -> set[str]:
    """Every table against what it was made of; gives those that hold."""
    import duckdb

    columns = lineitem.kinds()
    connection = duckdb.connect(config={"threads": settings.THREADS})
    connection.register("sent", table)

    def by(source: str):
        return connection.execute(check.question(source, columns, check.DUCKDB_SUMS)).fetchone()

    wanted = by("sent")
    delta = check.delta_rs({called: str(folder(name)) for name, called in IN_ENGINE.items()})
    found = {
        KHO: check.kho()("flight_in.lineitem", columns),
        **{name: tuple(delta(called, columns)) for name, called in IN_ENGINE.items()},
        **{name: by(f"'{folder(name)}/lineitem.parquet'") for name in (DUCKDB, DUCKDB_ZSTD)},
    }
    return {name for name, profile in found.items()
            if section.expect(f"rows, and the count, sum, least and greatest value of every column "
                              f"({name})", wanted, profile)}
