"""The engines: how each opens the tables, and how it is asked.

Each gets BENCH_THREADS threads, answers with Python objects, and keeps its own defaults otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass

from settings import THREADS, folders
import settings


@dataclass
class Engine:
    version: str
    # Gives every row, as Python objects.
    execute: Callable[[str], list[tuple]]
    # The types of the last answer's columns, where they must be PostgreSQL's.
    types: Callable[[], list[str] | None] = lambda: None


def kho():
    connection = settings.kho()
    cursor = connection.cursor()

    def types():
        known = connection.adapters.types
        return [known[column.type_code].name for column in cursor.description]

    return Engine("over the PostgreSQL wire, without TLS",
                  lambda text: cursor.execute(text).fetchall(), types)


def kho_flight():
    import flight_sql

    connection = flight_sql.adbc()
    with connection.cursor() as cursor:
        cursor.execute("SET search_path = tpch")

    def execute(text):
        with connection.cursor() as cursor:
            cursor.execute(text)
            return rows(cursor.fetch_arrow_table())

    return Engine("over Arrow Flight, by ADBC, without TLS", execute)


def duckdb():
    import duckdb

    connection = settings.duckdb()
    for name, folder in folders().items():
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM delta_scan('{folder}')")
    return Engine(f"{duckdb.__version__}, in process, delta_scan of its delta extension",
                  lambda text: connection.execute(text).fetchall())


def chdb():
    import chdb
    import pyarrow.ipc
    from chdb import session

    clickhouse = session.Session()
    clickhouse.query("CREATE DATABASE tpch ENGINE = Memory")
    for name, folder in folders().items():
        clickhouse.query(
            f"CREATE VIEW tpch.{name} AS SELECT * FROM deltaLakeLocal('{folder}')")
    clickhouse.query("USE tpch")
    # Threads, and what standard SQL says of outer joins and of sums over nothing.
    for setting in (f"max_threads = {THREADS}", "join_use_nulls = 1",
                    "aggregate_functions_null_for_empty = 1"):
        clickhouse.query(f"SET {setting}")

    def execute(text):
        # ClickHouse gives a quotient of decimals the digits of the dividend: Q8's would have four.
        text = text.replace("/ sum(volume)", "/ toFloat64(sum(volume))")
        answer = clickhouse.query(text, "Arrow").bytes()
        return rows(pyarrow.ipc.open_file(answer).read_all())

    return Engine(f"{chdb.__version__}, in process, deltaLakeLocal", execute)


def datafusion():
    import datafusion
    from datafusion import SessionConfig, SessionContext
    from deltalake import DeltaTable

    context = SessionContext(SessionConfig().with_target_partitions(THREADS))
    for name, folder in folders().items():
        context.register_table(name, DeltaTable(folder))
    return Engine(f"{datafusion.__version__}, in process, delta-rs's table provider",
                  lambda text: rows(context.sql(text).to_arrow_table()))


def datafusion_files():
    """What DataFusion can do where nobody reads the table's log at each query: the best case."""
    import os
    from urllib.parse import unquote, urlparse

    import datafusion
    from datafusion import SessionConfig, SessionContext
    from deltalake import DeltaTable

    context = SessionContext(SessionConfig().with_target_partitions(THREADS))
    for name, folder in folders().items():
        # Only the current version's files, in a folder of their own: DataFusion takes one path.
        files = settings.DATA.parent / "files" / name
        files.mkdir(parents=True)
        for uri in DeltaTable(folder).file_uris():
            path = unquote(urlparse(uri).path)
            os.link(path, files / os.path.basename(path))
        context.register_parquet(name, f"{files}/")
    return Engine(f"{datafusion.__version__}, in process, the Parquet files without their log",
                  lambda text: rows(context.sql(text).to_arrow_table()))


def rows(table) -> list[tuple]:
    # By position: a mapping would lose columns of one name.
    return list(zip(*(column.to_pylist() for column in table.columns)))


ENGINES = {"kho": kho, "kho-flight": kho_flight, "duckdb": duckdb, "chdb": chdb, "datafusion": datafusion,
           "datafusion-files": datafusion_files}
