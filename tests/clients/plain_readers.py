"""DuckDB and delta-rs read tables after failures as Kho does.

The file that KHO_TABLES names holds a list: a table's folder, its columns, its rows.
"""

import json
import os

import duckdb
from deltalake import DeltaTable

from delta import done, with_delta


def sort_key(row):
    return [(value is not None, value or 0) for value in row]


def main():
    with open(os.environ["KHO_TABLES"], encoding="utf-8") as file:
        tables = json.load(file)
    assert tables
    duck = with_delta(duckdb.connect())
    for table in tables:
        wanted = sorted((tuple(row) for row in table["rows"]), key=sort_key)
        names = ", ".join(table["names"])
        question = f"SELECT {names} FROM delta_scan('{table['folder']}')"
        found = sorted(duck.execute(question).fetchall(), key=sort_key)
        assert found == wanted, ("DuckDB", table["folder"], found, wanted)
        arrow = DeltaTable(table["folder"]).to_pyarrow_table().select(table["names"])
        found = sorted((tuple(row.values()) for row in arrow.to_pylist()), key=sort_key)
        assert found == wanted, ("delta-rs", table["folder"], found, wanted)


if __name__ == "__main__":
    main()
    done()
