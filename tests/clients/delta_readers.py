"""DuckDB, polars and delta-rs read the tables Kho wrote, with no help from Kho.

Each answer is compared with the answer of SQL over the wire. A table whose columns carry Parquet
field ids was once read by DuckDB as all NULL: hence every value is compared, not only counts.
"""

import psycopg
import duckdb
import polars
from deltalake import DeltaTable

from connection import dsn
from delta import done, tables, with_delta

COLUMNS = ("id", "name", "amount", "day", "moment", "ok", "raw", "numbers", "score")


def make(connection):
    connection.execute("CREATE SCHEMA s")
    connection.execute(
        "CREATE TABLE s.t (id bigint NOT NULL, name text, amount numeric(20, 4), day date,"
        " moment timestamptz, ok boolean, raw bytea, numbers integer[], score double precision)"
    )
    connection.execute(
        "INSERT INTO s.t SELECT x, 'tên ' || x, x * 1.25, DATE '2026-01-01' + x::integer,"
        " (DATE '2026-01-01' + x::integer)::timestamptz + INTERVAL '90 minutes', x % 2 = 0,"
        " decode(lpad(to_hex(x), 8, '0'), 'hex'), ARRAY[x::integer, NULL], x / 3.0::double precision"
        " FROM generate_series(1, 2000) AS g (x)"
    )
    connection.execute("INSERT INTO s.t (id) VALUES (0)")
    connection.execute("UPDATE s.t SET name = 'Đổi' WHERE id % 100 = 0")
    connection.execute("DELETE FROM s.t WHERE id BETWEEN 500 AND 599")
    connection.execute("CREATE TABLE s.shape (old integer, going integer, kept text)")
    connection.execute("INSERT INTO s.shape VALUES (1, 2, 'a')")
    connection.execute("ALTER TABLE s.shape ADD COLUMN added text")
    connection.execute("ALTER TABLE s.shape RENAME COLUMN old TO renamed")
    connection.execute("ALTER TABLE s.shape DROP COLUMN going")
    connection.execute("INSERT INTO s.shape VALUES (3, 'b', 'c')")


def same(left, right):
    return len(left) == len(right) and all(a == b for a, b in zip(left, right))


def main():
    with psycopg.connect(dsn("admin"), autocommit=True) as connection:
        make(connection)
        wanted = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM s.t ORDER BY id").fetchall()
        first = connection.execute("SELECT count(*) FROM s.t VERSION AS OF 1").fetchone()[0]
    assert len(wanted) == 1901
    folder = tables()[frozenset(COLUMNS)]

    duck = with_delta(duckdb.connect())
    duck.execute("SET TimeZone = 'UTC'")
    found = duck.execute(
        f"SELECT {', '.join(COLUMNS)} FROM delta_scan('{folder}') ORDER BY id").fetchall()
    for expected, row in zip(wanted, found, strict=True):
        assert same(expected, row), ("DuckDB", expected, row)

    frame = polars.read_delta(folder).sort("id").select(COLUMNS)
    for expected, row in zip(wanted, frame.rows(), strict=True):
        assert same(expected, row), ("polars", expected, row)

    table = DeltaTable(folder)
    rows = table.to_pyarrow_table().sort_by("id").select(list(COLUMNS)).to_pylist()
    for expected, row in zip(wanted, rows, strict=True):
        assert same(expected, tuple(row.values())), ("delta-rs", expected, row)
    assert table.metadata().configuration.get("delta.enableExpiredLogCleanup") == "false"

    old = DeltaTable(folder, version=1)
    assert old.to_pyarrow_table().num_rows == first == 2000, "an old version reads otherwise"

    shape = tables()[frozenset(("renamed", "kept", "added"))]
    question = f"SELECT renamed, kept, added FROM delta_scan('{shape}') ORDER BY renamed"
    assert duck.execute(question).fetchall() == [(1, "a", None), (3, "b", "c")]
    again = polars.read_delta(shape).sort("renamed").select("renamed", "kept", "added").rows()
    assert again == [(1, "a", None), (3, "b", "c")], again


if __name__ == "__main__":
    main()
    done()
