"""Whether DuckDB, polars and delta-rs find in each table the rows and sums that Kho finds.

For every column: how many values are not NULL, the least, the greatest, and the sum: of numbers
themselves, of the days of dates, of the bytes of text. All must be equal.
"""

import re
import sys

import settings

# As PostgreSQL spells them, and Kho.
WIRE_SUMS = {"whole": "sum({})", "decimal": "sum({})", "date": "sum({} - DATE '1970-01-01')",
             "string": "sum(octet_length({}))"}


DUCKDB_SUMS = {"whole": "sum({})", "decimal": "sum({})",
               "date": "sum({} - DATE '1970-01-01')", "string": "sum(strlen({}))"}


def check(loaded: str) -> dict:
    """`loaded` is what the loader printed; gives what to say of the tables, and what is wrong."""
    from deltalake import DeltaTable

    rows_sent = sent(loaded)
    wrong = []
    lines = []
    folders = settings.folders()
    readers = {"Kho": kho(), "DuckDB": duckdb(folders), "polars": polars(folders),
               "delta-rs": delta_rs(folders)}
    for name in settings.TABLES:
        fields = DeltaTable(folders[name]).schema().fields
        columns = {field.name: kind(field.type.type) for field in fields}
        found = {reader: profile(name, columns) for reader, profile in readers.items()}
        first = found["Kho"]
        if first[0] != rows_sent.get(name) or not first[0]:
            wrong.append(f"{name}: {first[0]} rows, but {rows_sent.get(name)} were loaded")
        titles = titles_of(columns)
        for reader, profile in found.items():
            if len(profile) != len(titles):
                wrong.append(f"{name}: {reader} gives {len(profile)} values, not {len(titles)}")
            for title, wanted, value in zip(titles, first, profile):
                if wanted != value:
                    wrong.append(f"{name}: {reader} finds {value!r}, Kho {wanted!r}: {title}")
        lines.append(f"{name} {first[0]}")
        print(f"check {name:10} {first[0]:>10} rows, {len(columns)} columns", file=sys.stderr)
    return {"rows": lines, "wrong": wrong, "load": loaded}


def sent(loaded: str) -> dict[str, int]:
    """The rows of each table, as the loader counted them."""
    return {name: int(rows) for name, rows in re.findall(r"^load (\w+) +(\d+) rows", loaded, re.M)}


def kind(delta_type: str) -> str:
    if delta_type in ("integer", "long"):
        return "whole"
    if delta_type.startswith("decimal("):
        return "decimal"
    if delta_type in ("date", "string"):
        return delta_type
    raise SystemExit(f"no table of TPC-H has a column of type {delta_type}")


def titles_of(columns: dict[str, str]) -> list[str]:
    """What each value is that `question` asks for."""
    return ["rows"] + [f"{measure} of {column}" for column in columns
                       for measure in ("count", "sum", "least", "greatest")]


def question(table: str, columns: dict[str, str], sums: dict[str, str]) -> str:
    parts = ["count(*)"]
    for name, kind in columns.items():
        parts += [f"count({name})", sums[kind].format(name), f"min({name})", f"max({name})"]
    # Every part has its own name: some engines insist.
    named = ", ".join(f"{part} AS c{index}" for index, part in enumerate(parts))
    return f"SELECT {named} FROM {table}"


def kho():
    connection = settings.kho()
    return lambda table, columns: connection.execute(
        question(table, columns, WIRE_SUMS)).fetchone()


def duckdb(folders):
    connection = settings.duckdb()

    def profile(table, columns):
        source = f"delta_scan('{folders[table]}')"
        return connection.execute(question(source, columns, DUCKDB_SUMS)).fetchone()

    return profile


def delta_rs(folders):
    import pyarrow
    from deltalake import DeltaTable, QueryBuilder

    sums = {"whole": "sum({})", "decimal": "sum({})", "date": "sum(arrow_cast({}, 'Int32'))",
            "string": "sum(octet_length({}))"}

    def profile(table, columns):
        builder = QueryBuilder().register(table, DeltaTable(folders[table]))
        answer = pyarrow.table(builder.execute(question(table, columns, sums)).read_all())
        return [column[0].as_py() for column in answer.columns]

    return profile


def polars(folders):
    import polars
    from polars import col

    sums = {
        # A sum of 32 bits stays one in polars.
        "whole": lambda name: col(name).cast(polars.Int64).sum(),
        "decimal": lambda name: col(name).sum(),
        "date": lambda name: col(name).to_physical().cast(polars.Int64).sum(),
        "string": lambda name: col(name).str.len_bytes().cast(polars.Int64).sum(),
    }

    def profile(table, columns):
        parts = [polars.len()]
        for name, kind in columns.items():
            parts += [col(name).count(), sums[kind](name), col(name).min(), col(name).max()]
        named = [part.alias(f"c{index}") for index, part in enumerate(parts)]
        return polars.scan_delta(folders[table]).select(named).collect().row(0)

    return profile
