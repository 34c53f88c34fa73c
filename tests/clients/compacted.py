"""DuckDB and delta-rs read a table that Kho compacted while it was written."""

import os

import duckdb
from deltalake import DeltaTable

from delta import done, tables, with_delta


def main():
    wanted = int(os.environ["KHO_ROWS"])
    folder = tables()[frozenset(("id", "name"))]
    duck = with_delta(duckdb.connect())
    found = duck.execute(
        f"SELECT count(*), count(DISTINCT id), count(*) FILTER (name = 'hàng ' || id)"
        f" FROM delta_scan('{folder}')").fetchone()
    assert found == (wanted, wanted, wanted), found
    table = DeltaTable(folder)
    assert table.to_pyarrow_table().num_rows == wanted
    assert len(table.file_uris()) <= 20, table.file_uris()


main()


done()
