"""What benches/run sets, the tables it loaded, and how the two servers are reached."""

import os
import time
from pathlib import Path

SCALE = float(os.environ["BENCH_SCALE"])
THREADS = int(os.environ["BENCH_THREADS"])
RUNS = int(os.environ["BENCH_RUNS"])
# The warehouse's root.
DATA = Path(os.environ["BENCH_DATA"])
# Where a part keeps its files; gone when benches/run ends.
WORK = DATA.parent
# Of the wire; the server need not run for anything but Kho's own turn.
PORT = os.environ["BENCH_KHO_PORT"]
FLIGHT_PORT = os.environ["BENCH_KHO_FLIGHT_PORT"]
# The server's process.
SERVER = os.environ.get("BENCH_KHO_PROCESS")
# Of the PostgreSQL beside it; there is one only where a part compares with it.
POSTGRES_PORT = os.environ.get("BENCH_POSTGRES_PORT")

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

# Kho gathers writes for a second before it compacts; a pause this long means that it is done.
QUIET_S = 3
QUIET_TIMEOUT_S = 600


def whole(name: str, default: int) -> int:
    """A variable that is a whole number above 0."""
    value = int(os.environ.get(name) or default)
    if value < 1:
        raise SystemExit(f"{name} must be above 0")
    return value


def folders() -> dict[str, str]:
    """The folder of each table of TPC-H, before another table looks like one of them."""
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


def address(port: str) -> str:
    return (f"host=127.0.0.1 port={port} dbname=kho user=admin password=admin sslmode=disable")


def connect(port: str):
    import psycopg

    # Never prepared behind our back: every run of every engine starts from the text.
    return psycopg.connect(address(port), autocommit=True, prepare_threshold=None)


def kho():
    """A connection to Kho, without TLS, as the loader's."""
    connection = connect(PORT)
    connection.execute("SET search_path = tpch")
    return connection


def postgres():
    """A connection to PostgreSQL, as Kho's."""
    if not POSTGRES_PORT:
        raise SystemExit("no PostgreSQL was started for this part")
    return connect(POSTGRES_PORT)


def postgres_version() -> str:
    with postgres() as connection:
        return connection.execute("SHOW server_version").fetchone()[0].split()[0]


def settle():
    """Waits until Kho maintains nothing: what is timed next is then not timed beside it."""
    running = "SELECT count(*) FROM kho.jobs WHERE state = 'running'"
    with connect(PORT) as connection:
        begun = quiet = time.monotonic()
        while time.monotonic() - quiet < QUIET_S:
            if connection.execute(running).fetchone()[0]:
                quiet = time.monotonic()
            if time.monotonic() - begun > QUIET_TIMEOUT_S:
                raise RuntimeError(f"Kho still maintains tables after {QUIET_TIMEOUT_S} s")
            time.sleep(0.1)


def duckdb():
    """A DuckDB with its delta extension."""
    import duckdb
    import duckdb_extension_delta

    connection = duckdb.connect(config={"threads": THREADS})
    extensions = Path(duckdb_extension_delta.__file__).parent / "extensions"
    connection.execute(f"LOAD '{extensions}/v{duckdb.__version__}/delta.duckdb_extension'")
    return connection
