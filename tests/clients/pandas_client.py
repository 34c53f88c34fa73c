"""pandas: to_sql in its ways, read_sql with parameters and in chunks, over SQLAlchemy."""

import datetime

import pandas
import sqlalchemy

from connection import url

FRAME = pandas.DataFrame({
    "id": range(1, 1001),
    "name": [f"tên {number}" if number % 7 else None for number in range(1, 1001)],
    "share": [number / 3 for number in range(1, 1001)],
    "ok": [number % 2 == 0 for number in range(1, 1001)],
    "day": [datetime.date(2026, 1, 1) + datetime.timedelta(number) for number in range(1, 1001)],
    "at": pandas.date_range("2026-11-01", periods=1000, freq="h", tz="UTC"),
})


def main():
    engine = sqlalchemy.create_engine(url("admin", "postgresql+psycopg"))
    with engine.begin() as connection:
        connection.execute(sqlalchemy.schema.CreateSchema("city"))
    written = FRAME.to_sql("t", engine, schema="city", index=False)
    # SQLAlchemy does not count the rows of many parameter sets; what was written is read below.
    assert written in (1000, -1), written
    FRAME.to_sql("many", engine, schema="city", index=False, method="multi", chunksize=100)
    with engine.connect() as connection:
        read = pandas.read_sql_table("t", connection, schema="city").sort_values("id", ignore_index=True)
        read["day"] = read["day"].dt.date
        pandas.testing.assert_frame_equal(read, FRAME, check_dtype=False, check_column_type=False)
        many = pandas.read_sql("SELECT count(*) AS n, sum(id) AS s FROM city.many", connection)
        assert (int(many["n"][0]), int(many["s"][0])) == (1000, 500_500)
        some = pandas.read_sql(
            sqlalchemy.text("SELECT id, name FROM city.t WHERE id < :most AND name = :name"),
            connection, params={"most": 100, "name": "tên 8"})
        assert some["id"].tolist() == [8], some
        plain = pandas.read_sql(
            "SELECT id FROM city.t WHERE day >= %(day)s AND ok = %(ok)s ORDER BY id", connection,
            params={"day": datetime.date(2028, 9, 24), "ok": True}, index_col="id")
        assert plain.index.tolist() == [998, 1000], plain
        chunks = list(pandas.read_sql("SELECT id FROM city.t", connection, chunksize=300))
        assert [len(chunk) for chunk in chunks] == [300, 300, 300, 100]
    with engine.connect().execution_options(stream_results=True) as connection:
        streamed = pandas.read_sql("SELECT id FROM city.t ORDER BY id", connection, chunksize=256)
        assert sum(len(chunk) for chunk in streamed) == 1000
    FRAME.head(10).to_sql("t", engine, schema="city", index=False, if_exists="append")
    FRAME.head(5).to_sql("many", engine, schema="city", index=True, if_exists="replace")
    try:
        FRAME.to_sql("t", engine, schema="city", if_exists="fail")
    except ValueError:
        pass
    else:
        raise AssertionError("an existing table was written over")
    with engine.connect() as connection:
        counts = pandas.read_sql(
            "SELECT (SELECT count(*) FROM city.t) AS t, (SELECT count(*) FROM city.many) AS many,"
            " (SELECT max(index) FROM city.many) AS last", connection)
        assert counts.iloc[0].tolist() == [1010, 5, 4], counts


if __name__ == "__main__":
    main()
