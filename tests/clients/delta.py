"""Where Kho keeps its tables, found as a stranger would: by looking for Delta logs."""

import os
import sys
from pathlib import Path

import duckdb
import duckdb_extension_delta
from deltalake import DeltaTable


def tables() -> dict[frozenset, str]:
    """The folder of each table, by the names of its columns."""
    logs = (Path(os.environ["KHO_DATA"]) / "tables").rglob("_delta_log")
    folders = [str(log.parent) for log in logs]
    return {frozenset(f.name for f in DeltaTable(it).schema().fields): it for it in folders}


def with_delta(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Loads DuckDB's own delta extension from the wheel that carries it: no network needed."""
    folder = Path(duckdb_extension_delta.__file__).parent / "extensions"
    extension = folder / f"v{duckdb.__version__}" / "delta.duckdb_extension"
    connection.execute(f"LOAD '{extension}'")
    return connection


def done() -> None:
    """Ends a program whose checks have all passed.

    DuckDB's delta extension keeps threads that it does not end when the interpreter does, and the
    C++ runtime aborts the process over them now and then. What they do then is no answer of Kho's.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
