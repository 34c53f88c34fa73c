"""psqlODBC through pyodbc: the driver's defaults, catalog functions, prepared parameters, blocks."""

import datetime
import decimal
import uuid

import pyodbc

from connection import CERTIFICATE, DATABASE, HOST, PORT

ROW = (
    7, -5, "Phú Hội's {x} ? 100%", decimal.Decimal("12345678901234.5678"), 0.1,
    datetime.date(2026, 11, 1), datetime.datetime(2026, 11, 1, 8, 30, 0, 250000), True,
    b"\x00\xff'", "ngắn",
)


def connect(options="", **arguments):
    # The driver looks for the root certificate where libpq does, unless it is told.
    return pyodbc.connect(
        f"DRIVER={{PostgreSQL Unicode}};SERVER={HOST};PORT={PORT};DATABASE={DATABASE};UID=admin;"
        f"PWD=admin;SSLmode=verify-full;pqopt={{sslrootcert={CERTIFICATE}}};{options}",
        **arguments)


def values(connection):
    cursor = connection.cursor()
    cursor.execute(
        "CREATE TABLE city.t (id bigint NOT NULL, small smallint, name text,"
        " price numeric(20, 4), share double precision, day date, at timestamp, ok boolean,"
        " raw bytea, brief varchar(20))")
    insert = "INSERT INTO city.t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    for _ in range(8):
        assert cursor.execute(insert, ROW).rowcount == 1
        cursor.execute("DELETE FROM city.t")
    cursor.execute(insert, ROW)
    cursor.execute(insert, (8,) + (None,) * 9)
    found = cursor.execute("SELECT * FROM city.t ORDER BY id").fetchall()
    first = tuple(found[0])
    assert first[7] in (True, "1"), first  # a boolean is a character by the driver's default
    assert first[:7] + first[8:] == ROW[:7] + ROW[8:], first
    assert tuple(found[1]) == (8,) + (None,) * 9, found[1]
    assert [it[0] for it in cursor.description][:3] == ["id", "small", "name"]
    one = cursor.execute("SELECT name FROM city.t WHERE id = ? AND day = ?", 7, ROW[5]).fetchval()
    assert one == ROW[2]
    code = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
    cursor.execute("CREATE TABLE city.ids (code uuid, at timestamptz)")
    cursor.execute("INSERT INTO city.ids VALUES (?, ?)", code, ROW[6])
    assert uuid.UUID(cursor.execute("SELECT code FROM city.ids").fetchval()) == code
    cursor.execute("SELECT x FROM generate_series(1, 1000) AS g (x)")
    assert sum(row[0] for row in cursor.fetchmany(10)) == 55
    assert len(cursor.fetchall()) == 990


def catalogs(connection):
    cursor = connection.cursor()
    cursor.execute("CREATE VIEW city.v AS SELECT id FROM city.t")
    cursor.execute("CREATE TABLE city.keyed (a integer, b integer, PRIMARY KEY (b, a))")
    tables = [(it.table_name, it.table_type) for it in cursor.tables(schema="city")]
    assert tables == [("ids", "TABLE"), ("keyed", "TABLE"), ("t", "TABLE"), ("v", "VIEW")], tables
    columns = [(it.column_name, it.type_name) for it in cursor.columns(table="t", schema="city")]
    assert [name for name, _ in columns] == ["id", "small", "name", "price", "share", "day", "at",
                                             "ok", "raw", "brief"], columns
    assert dict(columns)["price"] == "numeric" and dict(columns)["at"] == "timestamp", columns
    assert [it.column_name for it in cursor.primaryKeys(table="keyed", schema="city")] == ["b", "a"]
    assert cursor.foreignKeys(table="t", schema="city").fetchall() == []
    cursor.statistics(table="keyed", schema="city").fetchall()
    cursor.rowIdColumns(table="keyed", schema="city").fetchall()
    assert {"int8", "text", "numeric"} <= {it.type_name for it in cursor.getTypeInfo()}
    cursor.procedures(schema="kho").fetchall()


def blocks():
    with connect() as connection:  # autocommit is off: pyodbc's default
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE city.m (id integer, name text)")
        cursor.execute("INSERT INTO city.m VALUES (0, 'with its table')")
        connection.commit()
        for number in range(1, 21):
            cursor.execute("INSERT INTO city.m VALUES (?, ?)", number, f"n{number}")
        assert cursor.execute("SELECT count(*) FROM city.m").fetchval() == 21
        connection.commit()
        cursor.execute("DELETE FROM city.m")
        connection.rollback()
        cursor.executemany("INSERT INTO city.m VALUES (?, ?)", [(n, "m") for n in range(100, 150)])
        connection.commit()
        assert cursor.execute("SELECT count(*) FROM city.m").fetchval() == 71
        # The driver keeps a block usable after an error, by a savepoint before each statement.
        try:
            cursor.execute("SELECT 1 / 0")
        except pyodbc.DataError as error:
            assert error.args[0] == "22012", error
        assert cursor.execute("SELECT count(*) FROM city.m").fetchval() == 71
        connection.rollback()


def declared():
    # What BI tools turn on for large results: the driver declares cursors of its own.
    with connect("UseDeclareFetch=1;Fetch=100;", autocommit=True) as connection:
        cursor = connection.cursor()
        rows = cursor.execute("SELECT x FROM generate_series(1, 1050) AS g (x)").fetchall()
        assert sum(row[0] for row in rows) == 551_775
    with connect("UseDeclareFetch=1;Fetch=100;") as connection:
        cursor = connection.cursor()
        rows = cursor.execute("SELECT x FROM generate_series(1, 1050) AS g (x)").fetchall()
        assert len(rows) == 1050
        connection.commit()


def failures(connection):
    for statement, code in [
        ("SELECT * FROM city.missing", "42P01"), ("SELECT 1 / 0", "22012"), ("SELEC", "42601"),
    ]:
        try:
            connection.execute(statement)
        except pyodbc.Error as error:
            assert error.args[0] in (code, "42S02"), (statement, error)
        else:
            raise AssertionError(f"{statement} did not fail")


def main():
    with connect(autocommit=True) as connection:
        assert connection.getinfo(pyodbc.SQL_DBMS_NAME) == "PostgreSQL"
        connection.execute("CREATE SCHEMA city")
        values(connection)
        catalogs(connection)
        failures(connection)
    declared()
    blocks()


if __name__ == "__main__":
    main()
