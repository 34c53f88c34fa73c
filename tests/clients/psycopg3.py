"""psycopg 3, as a program uses it: parameters, both formats, cursors, COPY, transactions."""

import datetime
import decimal
import uuid

import psycopg
from psycopg import errors

from connection import dsn

UTC = datetime.timezone.utc
ROWS = [
    (1, "Nguyễn Thị Hồng Đào", decimal.Decimal("1234567890.12"), datetime.date(2026, 11, 1),
     datetime.datetime(2026, 11, 1, 1, 30, tzinfo=UTC), True, b"\x00\xff",
     uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), [1, 2, None], 0.5),
    (2, "", decimal.Decimal("-0.01"), None, None, False, b"", None, [], float("nan")),
    (3, None, None, None, None, None, None, None, None, None),
]


def same(left, right):
    return left == right or (left != left and right != right)


def main():
    with psycopg.connect(dsn("admin"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA s")
        connection.execute(
            "CREATE TABLE s.t (id bigint, name text, amount numeric(20, 2), day date,"
            " at timestamptz, ok boolean, raw bytea, code uuid, numbers integer[],"
            " score double precision)"
        )
        insert = "INSERT INTO s.t VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        assert connection.execute(insert, ROWS[0]).rowcount == 1
        # executemany sends all rows before one Sync: they are one transaction.
        with connection.cursor() as cursor:
            cursor.executemany(insert, ROWS[1:])
            assert cursor.rowcount == 2
        for binary in (False, True):
            found = connection.execute("SELECT * FROM s.t ORDER BY id", binary=binary).fetchall()
            assert len(found) == 3
            for expected, row in zip(ROWS, found):
                assert all(same(a, b) for a, b in zip(expected, row)), (binary, expected, row)
        parameters(connection)
        failures(connection)
        copying(connection)
        portals(connection)
    transactions()


def parameters(connection):
    one = connection.execute("SELECT count(*) FROM s.t WHERE name = %s", ["' OR true --"])
    assert one.fetchone() == (0,)
    some = connection.execute("SELECT id FROM s.t WHERE id = ANY(%s) ORDER BY id", [[1, 3]])
    assert some.fetchall() == [(1,), (3,)]
    for _ in range(10):  # after five executions psycopg prepares the statement by name
        row = connection.execute("SELECT name FROM s.t WHERE id = %s", [1]).fetchone()
        assert row == ("Nguyễn Thị Hồng Đào",)
    for query, given, expected in [
        ("SELECT id FROM s.t WHERE name = %(a)s OR %(a)s = '*' ORDER BY id", {"a": "*"}, [1, 2, 3]),
        ("SELECT id FROM s.t WHERE id > %(a)s OR amount = %(a)s ORDER BY id", {"a": 1}, [2, 3]),
        ("SELECT id FROM s.t WHERE %(a)s::text IS NULL OR name = %(a)s ORDER BY id", {"a": None},
         [1, 2, 3]),
        ("SELECT id FROM s.t ORDER BY id LIMIT %s OFFSET %s", (1, 1), [2]),
        ("SELECT id FROM s.t ORDER BY id LIMIT %s", ("2",), [1, 2]),
        ("SELECT %s", ("x",), ["x"]),
        ("SELECT left(name, %s) FROM s.t WHERE id = 1", ("6",), ["Nguyễn"]),
        ("SELECT x FROM generate_series(1, %s) AS g (x)", (2,), [1, 2]),
    ]:
        found = [row[0] for row in connection.execute(query, given)]
        assert found == expected, (query, found)
    assert connection.execute("EXPLAIN SELECT %s::int", [1]).fetchone()
    updated = connection.execute("UPDATE s.t SET ok = %s WHERE id = %s", [True, 2])
    assert updated.rowcount == 1


def failures(connection):
    for statement, expected in [
        ("SELECT 1 / 0", errors.DivisionByZero),
        ("SELECT * FROM s.missing", errors.UndefinedTable),
        ("SELECT missing FROM s.t", errors.UndefinedColumn),
        ("SELECT 'x'::integer", errors.InvalidTextRepresentation),
        ("SELEC", errors.SyntaxError),
    ]:
        try:
            connection.execute(statement)
        except expected as error:
            assert error.diag.message_primary, error
        else:
            raise AssertionError(f"{statement} did not fail")
    assert connection.execute("SELECT 1").fetchone() == (1,)


def copying(connection):
    connection.execute("CREATE TABLE s.c (id integer, word text)")
    with connection.cursor() as cursor:
        with cursor.copy("COPY s.c FROM STDIN") as copy:
            for number in range(10_000):
                copy.write_row((number, None if number % 3 else f"từ {number}"))
        assert cursor.rowcount == 10_000
        with cursor.copy("COPY s.c FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            copy.write_row((-1, "nhị phân"))
        with cursor.copy("COPY (SELECT * FROM s.c WHERE id < 1 ORDER BY id) TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == [(-1, "nhị phân"), (0, "từ 0")]
    total = connection.execute("SELECT count(*), count(word) FROM s.c").fetchone()
    assert total == (10_001, 3_335), total
    try:
        with connection.cursor() as cursor, cursor.copy("COPY s.c FROM STDIN") as copy:
            copy.write("1\tone\n")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert connection.execute("SELECT count(*) FROM s.c").fetchone() == (10_001,)


def portals(connection):
    question = "SELECT x FROM generate_series(1, 1000) AS g (x)"
    with connection.cursor() as cursor:
        assert sum(row[0] for row in cursor.stream(question)) == 500_500
    # A cursor with a name is DECLARE and FETCH in SQL, described by the protocol.
    for binary in (False, True):
        with connection.transaction(), connection.cursor(name="pieces", binary=binary) as cursor:
            cursor.execute("SELECT x, 'w' || x AS word FROM generate_series(1, %s) AS g (x)" % 1000)
            assert [it.name for it in cursor.description] == ["x", "word"]
            assert cursor.fetchone() == (1, "w1")
            assert len(cursor.fetchmany(10)) == 10
            cursor.itersize = 100
            assert sum(row[0] for row in cursor) == 500_500 - sum(range(1, 12))
    with connection.transaction(), connection.cursor(name="some") as cursor:
        cursor.execute("SELECT id FROM s.c WHERE id < %s ORDER BY id", [5])
        cursor.scroll(2)
        assert cursor.fetchone() == (1,)
    held = connection.cursor(name="held", withhold=True)
    held.execute("SELECT x FROM generate_series(1, 1000) AS g (x)")
    assert held.fetchone() == (1,)
    connection.execute("SELECT 1")
    assert len(held.fetchall()) == 999
    held.close()
    assert connection.execute("SELECT 1").fetchone() == (1,)


def transactions():
    with psycopg.connect(dsn("admin")) as connection:
        connection.execute("INSERT INTO s.c VALUES (-5, 'kept')")
    with psycopg.connect(dsn("admin")) as connection:
        connection.execute("INSERT INTO s.c VALUES (-6, 'undone')")
        connection.rollback()
        found = connection.execute("SELECT id FROM s.c WHERE id < -1").fetchall()
        assert found == [(-5,)], found
        try:
            connection.execute("SELECT 1 / 0")
        except errors.DivisionByZero:
            pass
        try:
            connection.execute("SELECT 1")
        except errors.InFailedSqlTransaction:
            connection.rollback()
        else:
            raise AssertionError("a failed block went on")
        connection.execute("SELECT 1")
    savepoints()


def savepoints():
    with psycopg.connect(dsn("admin")) as connection:
        with connection.transaction():
            connection.execute("INSERT INTO s.c VALUES (-10, 'stays')")
            try:
                with connection.transaction():
                    connection.execute("INSERT INTO s.c VALUES (-11, 'goes')")
                    connection.execute("SELECT 1 / 0")
            except errors.DivisionByZero:
                pass
            with connection.transaction():
                connection.execute("INSERT INTO s.c VALUES (-12, 'stays')")
            with connection.transaction():
                connection.execute("INSERT INTO s.c VALUES (-13, 'goes')")
                raise psycopg.Rollback
        found = connection.execute("SELECT id FROM s.c WHERE id <= -10 ORDER BY id DESC").fetchall()
        assert found == [(-10,), (-12,)], found


if __name__ == "__main__":
    main()
