"""DuckDB and delta-rs read the sealed ledger, and its lines are JSON that says what was done."""

import os

import duckdb
from deltalake import DeltaTable

from delta import done, with_delta


def main():
    folder = os.environ["KHO_SEALED"]
    duck = with_delta(duckdb.connect())
    found = duck.execute(
        "SELECT count(*), count(DISTINCT sequence), max(sequence) + 1, "
        "count(*) FILTER (WHERE event = 'begin' AND (line->>'role') = 'admin') "
        f"FROM delta_scan('{folder}')").fetchone()
    count, distinct, after, admin = found
    assert count == distinct == after > 0 and admin > 0, found
    table = DeltaTable(folder).to_pyarrow_table()
    assert table.num_rows == count
    assert table.column_names == ["server", "sequence", "time", "id", "event", "line"]


if __name__ == "__main__":
    main()
    done()
