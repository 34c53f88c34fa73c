"""Files that other programs wrote into a table of Kho's: statistics that pass over NaN, decimals that a
log has as floats, and names with characters that mean something in a URL. No row may be missed.
"""

import json
import os
import urllib.parse
from decimal import Decimal
from pathlib import Path

import psycopg
import pyarrow
import pyarrow.parquet
from deltalake import DeltaTable, write_deltalake

from connection import dsn
from delta import tables


def add(folder: str, name: str, rows: pyarrow.Table):
    """Writes a file under `name`, and a version of the table that has it."""
    path = Path(folder) / name
    pyarrow.parquet.write_table(rows, path)
    version = DeltaTable(folder).version() + 1
    action = {"path": urllib.parse.quote(name), "partitionValues": {},
              "size": os.path.getsize(path), "modificationTime": 1, "dataChange": True}
    log = Path(folder) / "_delta_log" / f"{version:020}.json"
    log.write_text(json.dumps({"add": action}) + "\n")


def floats(connection):
    connection.execute("CREATE TABLE s.f (id bigint, k text, d double precision)")
    connection.execute("CREATE TABLE s.keyed (id bigint PRIMARY KEY, k2 text, d double precision)")
    connection.execute("CREATE TABLE s.j (number double precision)")
    connection.execute("INSERT INTO s.j VALUES ('NaN'), (50)")
    for table, column in (("f", "k"), ("keyed", "k2")):
        folder = tables()[frozenset(("id", column, "d"))]
        for start, numbers in ((0, [100.0 + it for it in range(10)]), (10, [1.0, float("nan")] + [2.0] * 8)):
            ids = pyarrow.array(range(start, start + 10), pyarrow.int64())
            add(folder, f"from{start}.parquet",
                pyarrow.table({"id": ids, column: ["a"] * 10, "d": pyarrow.array(numbers)}))
        for question, wanted in (
            ("count(*) FROM s.{} AS t WHERE d > 50", 11),
            ("count(*) FROM s.{} AS t WHERE d = 'NaN'", 1),
            ("count(*) FROM s.{} AS t WHERE id = 11 AND d > 50", 1),
            ("count(*) FROM s.{} AS t WHERE NOT d <= 50", 11),
            ("count(*) FROM s.{} AS t WHERE d IN ('NaN', 101)", 2),
            ("count(*) FROM s.{} AS t JOIN s.j ON t.d = j.number", 1),
            ("count(*) FROM s.j JOIN s.{} AS t ON t.d = j.number WHERE t.id > 5", 1),
            ("max(id) FROM (SELECT id FROM s.{} AS t ORDER BY d DESC LIMIT 1) AS x", 11),
            ("max(id) FROM s.{} AS t WHERE d = (SELECT max(number) FROM s.j)", 11),
        ):
            found = connection.execute("SELECT " + question.format(table)).fetchone()[0]
            assert found == wanted, (table, question, found)
        gone = connection.execute(f"DELETE FROM s.{table} WHERE d > 50")
        assert gone.rowcount == 11, (table, gone.rowcount)


def decimals(connection):
    connection.execute("CREATE TABLE s.n (id bigint, n numeric(18, 3))")
    folder = tables()[frozenset(("id", "n"))]
    for place, part in enumerate(("001", "075", "149")):
        number = pyarrow.array([Decimal(f"123456789012345.{part}")], pyarrow.decimal128(18, 3))
        rows = pyarrow.table({"id": pyarrow.array([place], pyarrow.int64()), "n": number})
        write_deltalake(folder, rows, mode="append")
    for condition, wanted in (
        ("n = 123456789012345.001", [0]),
        ("n <= 123456789012345.001", [0]),
        ("n >= 123456789012345.149", [2]),
        ("n IN (123456789012345.075, 1)", [1]),
        ("n BETWEEN 123456789012345.070 AND 123456789012345.150", [1, 2]),
        ("n < 123456789012345.002 AND id < 5", [0]),
    ):
        found = connection.execute(f"SELECT id FROM s.n WHERE {condition} ORDER BY id").fetchall()
        assert [row[0] for row in found] == wanted, (condition, found)


def names(connection):
    connection.execute("CREATE TABLE s.p (id bigint PRIMARY KEY, named text)")
    connection.execute("INSERT INTO s.p VALUES (1, 'own')")
    folder = tables()[frozenset(("id", "named"))]
    for place, name in enumerate(("til~de.parquet", "pct%41.parquet", "ha#sh.parquet", "a space.parquet")):
        ids = pyarrow.array([400 + place], pyarrow.int64())
        add(folder, name, pyarrow.table({"id": ids, "named": [name]}))
    for place, name in enumerate(("til~de.parquet", "pct%41.parquet", "ha#sh.parquet", "a space.parquet")):
        for condition in (f"id = {400 + place}", f"id + 0 = {400 + place}"):
            found = connection.execute(f"SELECT named FROM s.p WHERE {condition}").fetchall()
            assert found == [(name,)], (condition, found)
    connection.execute("INSERT INTO s.p VALUES (500, 'own')")
    gone = connection.execute("DELETE FROM s.p WHERE id IN (400, 401, 402, 403)")
    assert gone.rowcount == 4, gone.rowcount
    found = connection.execute("SELECT id FROM s.p ORDER BY id").fetchall()
    assert found == [(1,), (500,)], found


def main():
    with psycopg.connect(dsn("admin"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA s")
        floats(connection)
        decimals(connection)
        names(connection)


main()
