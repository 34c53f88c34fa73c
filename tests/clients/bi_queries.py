"""The queries of bi_queries.sql: each is answered, over both protocols, and some answers are checked.

They are what Power BI (Npgsql), DBeaver (pgjdbc), Metabase, Superset and others send before a person
sees anything; one that fails leaves their user without tables.
"""

from pathlib import Path

import psycopg

from connection import dsn


def queries():
    text = (Path(__file__).parent / "bi_queries.sql").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [query for query in "\n".join(lines).split(";\n") if query.strip()]


def only(found, part):
    matching = [rows for query, rows in found.items() if part in query]
    assert len(matching) == 1, (part, len(matching))
    return matching[0]


def main():
    with psycopg.connect(dsn("admin"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA city")
        connection.execute(
            "CREATE TABLE city.t (id bigint NOT NULL, name varchar(20), price numeric(10, 2) DEFAULT 0,"
            " tags text[], CONSTRAINT positive CHECK (price >= 0))")
        connection.execute("CREATE VIEW city.v AS SELECT id FROM city.t")
        connection.execute("COMMENT ON TABLE city.t IS 'Bảng'")
        found = {}
        for query in queries():
            try:
                cursor = connection.execute(query)
                found[query] = cursor.fetchall() if cursor.description else []
                if ";" not in query:
                    connection.execute(query, binary=True)
            except psycopg.Error as error:
                raise AssertionError(f"{error}\n{query}") from error

    types = only(found, "JOIN pg_proc ON pg_proc.oid = a.typreceive")
    assert {row[0] for row in types} == {"pg_catalog"}, types
    tables = only(found, "TABLE_TYPE from INFORMATION_SCHEMA.tables")
    assert ("city", "t", "BASE TABLE") in tables and ("city", "v", "VIEW") in tables, tables
    columns = [row[0] for row in only(found, "case when (data_type like '%unsigned%')")]
    assert columns == ["id", "name", "price", "tags"], columns
    listed = only(found, "(d.classoid = 'pg_class'::regclass)) LEFT")
    assert [row[:4] for row in listed] == [
        ("city", "t", "TABLE", "Bảng"), ("city", "v", "VIEW", None)], listed
    rights = [row[1:] for row in only(found, "has_any_column_privilege") if row[1] == "city"]
    assert ("city", "t", True, True, True, True) in rights, rights


if __name__ == "__main__":
    main()
