"""`lineitem` outside Kho: its definition, and its rows as one CSV file that every contender reads.

The file is what Kho gives out by `COPY`. That it is what Kho was loaded with is not taken on trust:
`load` compares sums of every column of what others make of the file with those of the table.
"""

import sys
from pathlib import Path

import settings

# Name and SQL type; none may be NULL.
COLUMNS = {
    "l_orderkey": "bigint",
    "l_partkey": "bigint",
    "l_suppkey": "bigint",
    "l_linenumber": "integer",
    "l_quantity": "numeric(15, 2)",
    "l_extendedprice": "numeric(15, 2)",
    "l_discount": "numeric(15, 2)",
    "l_tax": "numeric(15, 2)",
    "l_returnflag": "text",
    "l_linestatus": "text",
    "l_shipdate": "date",
    "l_commitdate": "date",
    "l_receiptdate": "date",
    "l_shipinstruct": "text",
    "l_shipmode": "text",
    "l_comment": "text",
}
CHUNK_BYTES = 1 << 20


def definition(name: str) -> str:
    columns = ", ".join(f"{column} {kind} NOT NULL" for column, kind in COLUMNS.items())
    return f"CREATE TABLE {name} ({columns})"


def arrow_schema():
    """As PyArrow reads the file and delta-rs writes it."""
    import pyarrow

    types = {"bigint": pyarrow.int64(), "integer": pyarrow.int32(), "date": pyarrow.date32(),
             "numeric(15, 2)": pyarrow.decimal128(15, 2), "text": pyarrow.string()}
    return pyarrow.schema([pyarrow.field(name, types[kind], nullable=False)
                           for name, kind in COLUMNS.items()])


def kinds() -> dict[str, str]:
    """The kind of each column, as `check` wants it."""
    names = {"bigint": "whole", "integer": "whole", "date": "date", "text": "string",
             "numeric(15, 2)": "decimal"}
    return {name: names[kind] for name, kind in COLUMNS.items()}


def csv_file() -> Path:
    """The file, made when it is first asked for."""
    path = settings.WORK / "lineitem.csv"
    if not path.exists():
        print("writing lineitem.csv", file=sys.stderr, flush=True)
        unfinished = path.with_suffix(".part")
        statement = f"COPY (SELECT {', '.join(COLUMNS)} FROM lineitem) TO STDOUT (FORMAT csv)"
        with settings.kho() as connection, unfinished.open("wb") as file:
            with connection.cursor().copy(statement) as copy:
                for piece in copy:
                    file.write(piece)
        unfinished.rename(path)
    return path


def copy_in(connection, table: str) -> int:
    """Copies the file into a table; gives the rows that the server says it took."""
    cursor = connection.cursor()
    with csv_file().open("rb", buffering=0) as file:
        with cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
            while piece := file.read(CHUNK_BYTES):
                copy.write(piece)
    return cursor.rowcount


def in_postgres():
    """A connection to a PostgreSQL that has `lineitem`, and has nothing left to do for it."""
    connection = settings.postgres()
    if connection.execute("SELECT to_regclass('lineitem') IS NULL").fetchone()[0]:
        print("loading lineitem into PostgreSQL", file=sys.stderr, flush=True)
        connection.execute(definition("lineitem"))
        copy_in(connection, "lineitem")
        connection.execute("VACUUM (ANALYZE) lineitem")
        connection.execute("CHECKPOINT")
    return connection
