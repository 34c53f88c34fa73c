"""What CREATE INDEX promises: files with bloom filters for its columns, and no others.

The file that is there when the index is made is left as it is; what is written or compacted later
is searched by it. DuckDB reads the footers.
"""

from pathlib import Path

import duckdb
import psycopg

from connection import dsn
from delta import done, tables


def filtered(columns):
    """For each file of the table, the columns that it has bloom filters for."""
    folder = tables()[frozenset(columns)]
    rows = duckdb.sql(
        "SELECT file_name, path_in_schema, bloom_filter_offset IS NOT NULL"
        f" FROM parquet_metadata('{folder}/*.parquet')").fetchall()
    found = {}
    for file, column, has_filter in rows:
        found.setdefault(Path(file).name, set())
        if has_filter:
            found[Path(file).name].add(column)
    return found


def main():
    columns = ("a", "b", "c")
    with psycopg.connect(dsn("admin"), autocommit=True) as connection:
        seen = {}

        def newest(statement):
            """The filters of the files that a statement writes."""
            connection.execute(statement)
            now = filtered(columns)
            new = [now[file] for file in now if file not in seen]
            seen.update(now)
            return new

        connection.execute("CREATE SCHEMA s")
        connection.execute("CREATE TABLE s.t (a integer, b text, c timestamptz)")
        rows = "SELECT x, 'hàng ' || x, TIMESTAMPTZ '2026-01-01' FROM generate_series(1, 100) AS g (x)"
        assert newest(f"INSERT INTO s.t {rows}") == [set()]
        assert newest("CREATE INDEX by_b ON s.t (b, c)") == []
        assert newest(f"INSERT INTO s.t {rows}") == [{"b", "c"}]
        # It takes in the file from before the index.
        assert newest("CALL kho.compact_table('s.t')") == [{"b", "c"}]
        updated = newest("UPDATE s.t SET a = 0 WHERE b = 'hàng 1'")
        assert updated and all(it == {"b", "c"} for it in updated), updated
        assert newest("ALTER TABLE s.t ALTER a SET DEFAULT 1") == []
        with connection.transaction():
            connection.execute("INSERT INTO s.t VALUES (1, 'x', NULL)")
            connection.execute("INSERT INTO s.t VALUES (2, 'x', NULL)")
        # The block's rows were put together for its commit.
        assert newest("SELECT 1") == [{"b", "c"}]
        assert connection.execute("SELECT count(*) FROM s.t WHERE b = 'x'").fetchone() == (2,)
        connection.execute("DROP INDEX s.by_b")
        assert newest(f"INSERT INTO s.t {rows}") == [set()]
        counted = "SELECT count(*), count(*) FILTER (WHERE b = 'hàng 7') FROM s.t"
        assert connection.execute(counted).fetchone() == (302, 3)


if __name__ == "__main__":
    main()
    done()
