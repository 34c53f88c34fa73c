"""delta-rs compacts a table between a write of Kho and its commit: no row may double or come back.

Two OPTIMIZEs of delta-rs itself, from one version, once both committed and doubled every row.
"""

import psycopg
from deltalake import DeltaTable

from connection import dsn
from delta import tables


def count(connection):
    return connection.execute("SELECT count(*), count(DISTINCT id) FROM s.t").fetchone()


def compact():
    metrics = DeltaTable(tables()[frozenset(("id", "kept"))]).optimize.compact()
    assert metrics["numFilesAdded"] == 1 and metrics["numFilesRemoved"] > 1, metrics


def refused(connection, statement):
    """Holds `statement` in a block while another program compacts; its commit must not pass."""
    connection.execute("BEGIN")
    connection.execute(statement)
    compact()
    try:
        connection.execute("COMMIT")
    except psycopg.errors.SerializationFailure:
        return True
    return False


def main():
    with psycopg.connect(dsn("admin"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA s")
        connection.execute("CREATE TABLE s.t (id integer, kept boolean)")
        for start in (0, 10, 20):
            connection.execute(
                "INSERT INTO s.t SELECT x, true FROM generate_series(%s::integer, %s::integer) AS g (x)"
                % (start, start + 9)
            )
        assert count(connection) == (30, 30)

        assert refused(connection, "DELETE FROM s.t WHERE id < 5"), "a DELETE over moved rows"
        assert count(connection) == (30, 30)

        connection.execute("DELETE FROM s.t WHERE id < 5")
        assert count(connection) == (25, 25)

        # Rows that are only added go with a compaction, or are refused; they are never lost.
        connection.execute("INSERT INTO s.t VALUES (100, true)")
        added = not refused(connection, "INSERT INTO s.t VALUES (101, true)")
        assert count(connection) == (26 + added, 26 + added)


main()
