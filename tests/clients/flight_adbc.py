"""ADBC's Flight SQL driver: queries, parameters, bulk loads in every mode, metadata, transactions; pandas
and polars through it."""

import datetime
import decimal

import adbc_driver_flightsql.dbapi as flight_sql
import adbc_driver_manager
import pandas
import polars
import pyarrow
from adbc_driver_flightsql import DatabaseOptions

from connection import certificate, flight_location

ROWS = pyarrow.table({
    "id": pyarrow.array([1, 2, 3], pyarrow.int64()),
    "name": ["Nguyễn Thị Hồng Đào", "", None],
    "amount": pyarrow.array([decimal.Decimal("1.10"), None, decimal.Decimal("-2.00")],
                            pyarrow.decimal128(9, 2)),
    "born": pyarrow.array([datetime.date(2026, 11, 1), None, None], pyarrow.date32()),
})


def connect(role, tls=False, autocommit=True):
    options = {"username": role, "password": role}
    if tls:
        options[DatabaseOptions.TLS_ROOT_CERTS.value] = certificate()
    options[DatabaseOptions.WITH_MAX_MSG_SIZE.value] = str(256 * 1024 * 1024)
    return flight_sql.connect(flight_location(tls), db_kwargs=options, autocommit=autocommit)


def refused(work, *said):
    """What `work` is refused with, which has one of these texts: the driver tells no SQLSTATE."""
    try:
        work()
    except adbc_driver_manager.Error as error:
        assert any(it in str(error) for it in said), (said, str(error), error.details)
        return str(error)
    raise AssertionError(f"it is not refused: {said}")


def value(connection, query, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchone()[0]


def main():
    with connect("admin", tls=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA s")
            cursor.execute("CREATE SCHEMA hidden")
            cursor.execute("CREATE TABLE hidden.t (id bigint)")
            cursor.execute("CREATE ROLE an LOGIN PASSWORD 'an'")
            cursor.execute("GRANT USAGE ON SCHEMA s TO an")
        modes(connection)
        queries(connection)
        parameters(connection)
        frames(connection)
        metadata(connection)
    transactions()


def modes(connection):
    """`adbc_ingest`, the four modes of it, and what is refused."""
    with connection.cursor() as cursor:
        def ingest(mode, table="t", data=ROWS, **options):
            return cursor.adbc_ingest(table, data, mode=mode, db_schema_name="s", **options)

        assert ingest("create") == 3
        refused(lambda: ingest("create"), "already exists")
        assert ingest("append") == 3
        assert value(connection, "SELECT count(*) FROM s.t") == 6
        assert ingest("replace", data=ROWS.slice(0, 2)) == 2
        assert value(connection, "SELECT count(*) FROM s.t") == 2
        assert ingest("create_append") == 3
        assert ingest("create_append", table="u") == 3
        refused(lambda: ingest("append", table="nowhere"), "does not exist")
        shuffled = ROWS.select(["born", "id"])
        assert ingest("append", data=shuffled) == 3
        said = refused(lambda: ingest("append", data=ROWS.rename_columns(["id", "x", "y", "z"])),
                       "does not exist")
        assert "\"x\"" in said, said
        wrong = pyarrow.table({"id": pyarrow.array([True])})
        said = refused(lambda: ingest("append", data=wrong), "is of type bigint")
        assert "Boolean" in said, said
        refused(lambda: ingest("create", table="temporary", temporary=True), "not supported")
        refused(lambda: ingest("append", catalog_name="other"), "does not exist")
        assert ingest("append", catalog_name="kho") == 3
        encoded = pyarrow.table({
            "id": pyarrow.array([7], pyarrow.int32()),
            "name": pyarrow.array(["Huế"]).dictionary_encode(),
        })
        assert ingest("append", data=encoded) == 1
        views = pyarrow.table({"name": pyarrow.array(["a string that is long enough"],
                                                     pyarrow.string_view())})
        assert ingest("append", data=views) == 1
        assert value(connection, "SELECT max(length(name)) FROM s.t") == 28
        # A batch of no rows; of no batch at all the driver sends nothing, not even for which table.
        none = pyarrow.RecordBatch.from_pylist([], schema=ROWS.schema)
        assert ingest("append", data=none) == 0
        # A reader, batch by batch, and one that breaks off, which leaves nothing.
        big = pyarrow.table({"id": range(200_000)})
        assert ingest("create", table="big",
                      data=big.to_reader(max_chunksize=10_000)) == 200_000
        broken = pyarrow.RecordBatchReader.from_batches(big.schema, breaking(big))
        try:
            ingest("append", table="big", data=broken)
        except Exception:
            pass
        else:
            raise AssertionError("a broken stream is a load")
        assert value(connection, "SELECT count(*) FROM s.big") == 200_000
        # One batch is one message; the driver itself sends no large one unless it is told to.
        large = pyarrow.table({"id": pyarrow.array(range(4_000_000)),
                               "x": pyarrow.array(["0123456789"] * 4_000_000)})
        assert ingest("create", table="large", data=large) == 4_000_000
        assert value(connection, "SELECT sum(id) FROM s.large") == 7_999_998_000_000
    with connect("an") as an, an.cursor() as cursor:
        for mode in ("append", "replace", "create_append"):
            # A table that one may not see is none.
            refused(lambda: cursor.adbc_ingest("t", ROWS, mode=mode, db_schema_name="s"),
                    "does not exist", "permission denied")


def breaking(table):
    for index, batch in enumerate(table.to_batches(max_chunksize=10_000)):
        if index == 10:
            raise ValueError("the source is gone")
        yield batch


def queries(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, name, amount, born FROM s.u ORDER BY id")
        assert cursor.fetch_arrow_table().to_pylist() == ROWS.to_pylist()
        cursor.execute("SELECT name FROM s.u WHERE id = $1", [1])
        assert cursor.fetchall() == [("Nguyễn Thị Hồng Đào",)]
        cursor.execute("CREATE TABLE s.p (id bigint, name text)")
        cursor.executemany("INSERT INTO s.p VALUES ($1, $2)", [(1, "a"), (2, None)])
        assert value(connection, "SELECT count(*) FROM s.p") == 2
        refused(lambda: cursor.execute("SELECT * FROM s.nowhere"), "does not exist")


def parameters(connection):
    """Values as Python has them: what a type of the table cannot hold is no less what it is."""
    decimals, day = decimal.Decimal, datetime.date(2020, 1, 1)
    morning = datetime.datetime(2020, 1, 1, 5)
    with connection.cursor() as cursor:
        def rows(query, given=None):
            cursor.execute(query, given)
            return [tuple(row) for row in cursor.fetchall()]

        cursor.execute("CREATE TABLE s.w (i int, d date, t text, vc varchar, n numeric(10,2), r real)")
        cursor.executemany("INSERT INTO s.w VALUES ($1, $2, $3, $4, $5, $6)",
                           [(1, day, "a", "x", decimals("1.00"), 0.5),
                            (2, datetime.date(2020, 1, 2), "b", "a", decimals("1.01"), 0.1)])
        for query, given, expected in [
            # One parameter in several places.
            ("SELECT i FROM s.w WHERE t = $1 OR $1 = '*' ORDER BY i", ["*"], [1, 2]),
            ("SELECT i FROM s.w WHERE t = $1 OR vc = $1 ORDER BY i", ["a"], [1, 2]),
            ("SELECT i FROM s.w WHERE t LIKE $1 OR vc LIKE $1 ORDER BY i", ["x%"], [1]),
            ("SELECT i FROM s.w WHERE $1 = '' OR t = $1", ["a"], [1]),
            ("SELECT i FROM s.w WHERE t = $1 OR i::text = $1", ["2"], [2]),
            ("SELECT i FROM s.w WHERE r = $1 OR n = $1", [0.5], [1]),
            ("SELECT i FROM s.w WHERE $1 IS NULL OR i = $1 ORDER BY i", [None], [1, 2]),
            # Nothing is rounded or cut before it is compared.
            ("SELECT i FROM s.w WHERE i > $1", [1.5], [2]),
            ("SELECT i FROM s.w WHERE i BETWEEN $1 AND $2", [0.6, 1.4], [1]),
            ("SELECT i FROM s.w WHERE i = $1", [2 ** 40], []),
            ("SELECT i FROM s.w WHERE i = ANY($1)", [[1, 2 ** 40]], [1]),
            ("SELECT i FROM s.w WHERE n > $1", [decimals("1.005")], [2]),
            ("SELECT i FROM s.w WHERE r = $1", [0.5], [1]),
            ("SELECT i FROM s.w WHERE d = $1", [day], [1]),
            ("SELECT i FROM s.w WHERE d = $1", [morning], []),
            ("SELECT i FROM s.w WHERE d < $1", [morning], [1]),
            ("SELECT i * $1 FROM s.w ORDER BY i", [1.5], [1.5, 3.0]),
            ("SELECT i * $1 FROM s.w ORDER BY i", [2], [2, 4]),
            ("SELECT $1::numeric(5,2)", [decimals("1.005")], [decimals("1.01")]),
            ("SELECT i FROM s.w ORDER BY i LIMIT $1", [1], [1]),
            ("SELECT i FROM s.w ORDER BY i LIMIT $1 OFFSET $2", [1, 1], [2]),
            # Where nothing tells the type, the value does.
            ("SELECT $1", [5], [5]),
            ("SELECT $1", ["x"], ["x"]),
            ("SELECT $1", [morning], [morning]),
            ("SELECT DISTINCT $1 FROM s.w", [1.5], [1.5]),
            ("SELECT array[$1, $2]", ["a", "b"], [["a", "b"]]),
            ("SELECT array[$1, $2]", [1, 2], [[1, 2]]),
            ("SELECT $1 UNION ALL SELECT $2 ORDER BY 1", ["a", "b"], ["a", "b"]),
            ("SELECT * FROM (VALUES ($1)) AS v", ["a"], ["a"]),
            ("SELECT substring(t, $1, $2) FROM s.w WHERE i = 1", [1, 1], ["a"]),
            ("SELECT left(t, $1) FROM s.w WHERE i = 1", [1], ["a"]),
            ("SELECT lpad(t, $1, '0') FROM s.w WHERE i = 1", [3], ["00a"]),
            ("SELECT repeat('a', $1)", [3], ["aaa"]),
            ("SELECT round(n, $1) FROM s.w WHERE i = 2", [1], [decimals("1.0")]),
            ("SELECT power($1, 2)", [1.5], [2.25]),
            ("SELECT abs($1)", [-3], [3]),
            ("SELECT abs($1)", [-1.5], [1.5]),
            ("SELECT date_trunc('day', $1)", [morning], [datetime.datetime(2020, 1, 1)]),
            ("SELECT extract(year FROM $1)", [morning], [2020]),
            ("SELECT to_char($1, 'YYYY')", [morning], ["2020"]),
            ("SELECT x FROM generate_series(1, $1) AS g (x)", [3], [1, 2, 3]),
            ("SELECT sum($1) FROM s.w", [1.5], [3.0]),
            ("SELECT max($1) FROM s.w", [3], [3]),
        ]:
            found = rows(query, given)
            assert [row[0] for row in found] == expected, (query, given, found)
        assert rows("SELECT i, $1 FROM s.w ORDER BY i", [1.5]) == [(1, 1.5), (2, 1.5)]
        assert rows("SELECT $1 AS k, count(*) FROM s.w GROUP BY 1", ["x"]) == [("x", 2)]
        assert rows("EXPLAIN SELECT $1::int", [1])
        # What is stored is assigned, and rounded for that.
        cursor.execute("CREATE TABLE s.rr (k int, r real, n numeric(10,2), i int, d date)")
        cursor.executemany("INSERT INTO s.rr (k, r) VALUES ($1, $2)", [(1, 0.1), (2, 0.2)])
        cursor.execute("INSERT INTO s.rr VALUES ($1, $2, $3, $4, $5)",
                       [3, 1, decimals("1.005"), 1.5, morning])
        cursor.execute("UPDATE s.rr SET r = $1, n = $2 WHERE k = $3", [0.25, 2.345, 1])
        assert rows("SELECT * FROM s.rr ORDER BY k") == [
            (1, 0.25, decimals("2.35"), None, None),
            (2, float(pyarrow.scalar(0.2, pyarrow.float32()).as_py()), None, None, None),
            (3, 1.0, decimals("1.01"), 2, day),
        ]
        refused(lambda: cursor.execute("INSERT INTO s.rr (i) VALUES ($1)", [2 ** 40]), "")
    # No row of parameters is no run.
    with connection.cursor() as cursor:
        found = run_for(cursor, "SELECT i FROM s.w WHERE i = $1", [])
        assert found.to_pydict() == {"i": []}, found
        found = run_for(cursor, "SELECT i * $1 AS x FROM s.w WHERE i = $1", [1, 2, 2 ** 40])
        assert found.to_pydict() == {"x": [1, 4]}, found


def run_for(cursor, query, numbers):
    """What a prepared query gives for each of these numbers, which come as a stream."""
    schema = pyarrow.schema([("1", pyarrow.int64())])
    batch = pyarrow.RecordBatch.from_pydict({"1": numbers}, schema=schema)
    statement = cursor.adbc_statement
    statement.set_sql_query(query)
    statement.prepare()
    statement.bind_stream(pyarrow.RecordBatchReader.from_batches(schema, [batch]))
    stream, _ = statement.execute_query()
    return pyarrow.RecordBatchReader._import_from_c(stream.address).read_all()


def frames(connection):
    """pandas and polars, both ways."""
    frame = pandas.read_sql("SELECT id, name FROM s.u ORDER BY id", connection)
    assert frame["id"].tolist() == [1, 2, 3]
    frame.to_sql("from_pandas", connection, schema="s", index=False)
    frame.to_sql("from_pandas", connection, schema="s", index=False, if_exists="append")
    assert value(connection, "SELECT count(*) FROM s.from_pandas") == 6
    frame.to_sql("from_pandas", connection, schema="s", index=False, if_exists="replace")
    assert value(connection, "SELECT count(*) FROM s.from_pandas") == 3
    frame = polars.read_database("SELECT id, name FROM s.u ORDER BY id", connection)
    assert frame["id"].to_list() == [1, 2, 3]
    for mode, count in (("fail", 3), ("append", 6), ("replace", 3)):
        written = frame.write_database("s.from_polars", connection, engine="adbc",
                                       if_table_exists=mode)
        assert written == 3, written
        assert value(connection, "SELECT count(*) FROM s.from_polars") == count, mode


def metadata(connection):
    info = connection.adbc_get_info()
    assert info["vendor_name"] == "Kho", info
    assert info["vendor_version"] and info["vendor_arrow_version"], info
    schema = connection.adbc_get_table_schema("u", db_schema_filter="s")
    assert schema.equals(ROWS.schema), schema
    assert connection.adbc_get_table_types() == ["SYSTEM TABLE", "SYSTEM VIEW", "TABLE", "VIEW"]
    assert "hidden" in schemas(connection)
    with connect("an") as an:
        assert "hidden" not in schemas(an)
        assert objects(an, db_schema_filter="s") == {"s": []}
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE s.keyed (b integer, a integer, PRIMARY KEY (a, b))")
        cursor.execute("GRANT SELECT ON s.keyed TO an")
    with connect("an") as an:
        assert [it["table_name"] for it in objects(an, db_schema_filter="s")["s"]] == ["keyed"]
        found = objects(an, db_schema_filter="s", table_name_filter="key%")["s"][0]
        columns = [(it["column_name"], it["ordinal_position"]) for it in found["table_columns"]]
        assert columns == [("b", 1), ("a", 2)], columns


def objects(connection, **filters):
    found = connection.adbc_get_objects(depth="all", **filters).read_all().to_pylist()
    assert [it["catalog_name"] for it in found] == ["kho"], found
    return {it["db_schema_name"]: it["db_schema_tables"] for it in found[0]["catalog_db_schemas"]}


def schemas(connection):
    found = connection.adbc_get_objects(depth="db_schemas").read_all().to_pylist()
    return [it["db_schema_name"] for it in found[0]["catalog_db_schemas"]]


def transactions():
    """Statements of a transaction are its own. The driver does not say so of a load: that is a commit
    by itself."""
    with connect("admin", autocommit=False) as connection, connect("admin") as other:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO s.u (id) VALUES (4)")
            assert value(connection, "SELECT count(*) FROM s.u") == 4
            assert value(other, "SELECT count(*) FROM s.u") == 3
        connection.rollback()
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO s.u (id) VALUES (4)")
        connection.commit()
        assert value(other, "SELECT count(*) FROM s.u") == 4


main()
