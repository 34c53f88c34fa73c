"""What benches/run sets, and the tables it loaded."""

import os
from pathlib import Path

SCALE = float(os.environ["BENCH_SCALE"])
THREADS = int(os.environ["BENCH_THREADS"])
RUNS = int(os.environ["BENCH_RUNS"])
# The warehouse's root.
DATA = Path(os.environ["BENCH_DATA"])
# Of the wire; the server need not run for anything but Kho's own turn.
PORT = os.environ["BENCH_KHO_PORT"]

# The first column of each table: Kho names folders by id and not by table.
TABLES = {
    "region": "r_regionkey",
    "nation": "n_nationkey",
    "supplier": "s_suppkey",
    "customer": "c_custkey",
    "part": "p_partkey",
    "partsupp": "ps_partkey",
    "orders": "o_orderkey",
    "lineitem": "l_orderkey",
}


def folders() -> dict[str, str]:
    """The folder of each table."""
    from deltalake import DeltaTable

    names = {column: name for name, column in TABLES.items()}
    found = {}
    for log in (DATA / "tables").rglob("_delta_log"):
        name = names.get(DeltaTable(str(log.parent)).schema().fields[0].name)
        if name in found:
            raise SystemExit(f"two Delta tables look like {name}: {found[name]}, {log.parent}")
        if name:
            found[name] = str(log.parent)
    missing = TABLES.keys() - found.keys()
    if missing:
        raise SystemExit(f"no Delta table found for {sorted(missing)}")
    return found


def kho():
    """A connection to Kho, without TLS, as the loader's."""
    import psycopg

    # Never prepared behind our back: every run of every engine starts from the text.
    connection = psycopg.connect(
        f"host=127.0.0.1 port={PORT} dbname=kho user=admin password=admin sslmode=disable",
        autocommit=True, prepare_threshold=None)
    connection.execute("SET search_path = tpch")
    return connection


def duckdb():
    """A DuckDB with its delta extension."""
    import duckdb
    import duckdb_extension_delta

    connection = duckdb.connect(config={"threads": THREADS})
    extensions = Path(duckdb_extension_delta.__file__).parent / "extensions"
    connection.execute(f"LOAD '{extensions}/v{duckdb.__version__}/delta.duckdb_extension'")
    return connection
