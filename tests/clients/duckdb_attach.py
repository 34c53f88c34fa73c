"""DuckDB's ATTACH (TYPE postgres): its catalog, scans, joins with its own tables, writes."""

from pathlib import Path

import duckdb
import duckdb_extension_postgres_scanner as scanner
import psycopg

from connection import dsn


def attached(**options):
    connection = duckdb.connect(config=options)
    folder = Path(scanner.__file__).parent / "extensions" / f"v{duckdb.__version__}"
    connection.execute(f"LOAD '{folder / 'postgres_scanner.duckdb_extension'}'")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"ATTACH '{dsn('admin')}' AS kho (TYPE postgres)")
    return connection


def main():
    with psycopg.connect(dsn("admin"), autocommit=True) as kho:
        kho.execute("CREATE SCHEMA city")
        kho.execute(
            "CREATE TABLE city.t (id bigint NOT NULL, small smallint, name text, price numeric(20, 4),"
            " share double precision, day date, at timestamptz, shown timestamp, ok boolean,"
            " raw bytea, code uuid, numbers integer[], brief varchar(10))")
        kho.execute(
            "INSERT INTO city.t SELECT x, x % 100, 'tên ' || x, x * 1.25, x / 3.0::double precision,"
            " DATE '2026-01-01' + x::integer, (DATE '2026-01-01' + x::integer)::timestamptz,"
            " (DATE '2026-01-01' + x::integer)::timestamp, x % 2 = 0, '\\x00ff'::bytea,"
            " 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, ARRAY[x::integer, NULL], 'ngắn'"
            " FROM generate_series(1, 5000) AS g (x)")
        kho.execute("INSERT INTO city.t (id) VALUES (0)")
        kho.execute("CREATE VIEW city.v AS SELECT id, name FROM city.t WHERE id < 10")
        wanted = kho.execute("SELECT * FROM city.t ORDER BY id").fetchall()
    duck = attached()
    names = duck.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'kho'")
    assert ("t",) in names.fetchall()
    found = duck.execute("SELECT * FROM kho.city.t ORDER BY id").fetchall()
    assert len(found) == len(wanted) == 5001
    for expected, row in zip(wanted, found, strict=True):
        assert expected == row, (expected, row)
    assert duck.execute("SELECT count(*) FROM kho.city.v").fetchone() == (10,)
    some = duck.execute("SELECT count(*) FROM kho.city.t WHERE id BETWEEN 100 AND 199 AND ok")
    assert some.fetchone() == (50,)
    duck.execute("CREATE TABLE mine AS SELECT 7 AS id, 'bảy' AS word")
    joined = duck.execute("SELECT word, name FROM mine JOIN kho.city.t USING (id)").fetchall()
    assert joined == [("bảy", "tên 7")], joined
    own = duck.execute("SELECT n FROM postgres_query('kho', 'SELECT count(*) AS n FROM city.t')")
    assert own.fetchone() == (5001,)

    # Writes go by COPY in a transaction of DuckDB's.
    duck.execute("INSERT INTO kho.city.t (id, name) VALUES (9001, 'a'), (9002, 'b')")
    duck.execute("CREATE TABLE kho.city.made AS SELECT range AS id, 'w' || range AS word FROM range(1000)")
    assert duck.execute("SELECT count(*), max(word) FROM kho.city.made").fetchone() == (1000, "w999")
    # DuckDB's own UPDATE and DELETE name rows by their address, which Kho does not have: they are
    # refused, and such a statement is handed over as it is.
    for statement in ["UPDATE kho.city.t SET name = 'x' WHERE id = 9001",
                      "DELETE FROM kho.city.t WHERE id = 9002"]:
        try:
            duck.execute(statement)
        except duckdb.Error as error:
            assert 'system column "ctid" is not supported' in str(error), error
        else:
            raise AssertionError(f"{statement} was taken")
    for statement in ["UPDATE city.t SET name = ''c'' WHERE id = 9001",
                      "DELETE FROM city.t WHERE id = 9002"]:
        duck.execute(f"CALL postgres_execute('kho', '{statement}')")
    duck.execute("BEGIN")
    duck.execute("INSERT INTO kho.city.made VALUES (5000, 'undone')")
    duck.execute("INSERT INTO kho.city.made VALUES (5001, 'undone')")
    assert duck.execute("SELECT count(*) FROM kho.city.made WHERE id >= 5000").fetchone() == (2,)
    duck.execute("ROLLBACK")
    duck.execute("DROP TABLE kho.city.made")
    with psycopg.connect(dsn("admin")) as kho:
        rows = kho.execute("SELECT id, name FROM city.t WHERE id > 9000").fetchall()
        assert rows == [(9001, "c")], rows


if __name__ == "__main__":
    main()
