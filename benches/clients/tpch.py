"""TPC-H against one engine, or the comparison of what several engines answered and took.

    tpch.py run ENGINE OUTPUT.json    the 22 queries: answers, and the best of KHO_BENCH_RUNS times
    tpch.py compare REFERENCE.json OTHER.json …    answers first; then the table of times

Every engine reads the same Delta tables: those Kho wrote. Kho itself is asked over the wire.
The engines get KHO_BENCH_THREADS threads each. A time runs from sending the text of a query to
having every value of its answer. The answers must agree before any time is printed: a query that
answers nothing is infinitely fast.
"""

import datetime
import decimal
import json
import math
import os
import re
import sys
import time
from pathlib import Path

QUERIES = Path(__file__).parent.parent / "tpch"
TABLES = ("region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem")
THREADS = int(os.environ.get("KHO_BENCH_THREADS", "2"))
RUNS = int(os.environ.get("KHO_BENCH_RUNS", "3"))
SCALE = float(os.environ.get("KHO_BENCH_SCALE", "1"))

# Sums of the same decimals agree exactly; averages and quotients differ in their last digits: some
# engines give them six decimals, some compute them in floating point. Relative, or absolute.
TOLERANCE = 1e-6


def query(number: int) -> str:
    text = (QUERIES / f"q{number}.sql").read_text()
    # Q11's fraction is 0.0001 / scale factor, by the specification.
    return text.replace(":fraction", f"{0.0001 / SCALE:.10f}")


def folders() -> dict[str, str]:
    """The folder of each table, found by its first column."""
    from deltalake import DeltaTable

    first = {"r_regionkey": "region", "n_nationkey": "nation", "s_suppkey": "supplier",
             "c_custkey": "customer", "p_partkey": "part", "ps_partkey": "partsupp",
             "o_orderkey": "orders", "l_orderkey": "lineitem"}
    found = {}
    for log in (Path(os.environ["KHO_DATA"]) / "tables").rglob("_delta_log"):
        name = first.get(DeltaTable(str(log.parent)).schema().fields[0].name)
        if name:
            found[name] = str(log.parent)
    missing = set(TABLES) - set(found)
    if missing:
        raise SystemExit(f"no Delta table found for {sorted(missing)}")
    return found


def kho():
    import psycopg

    port = os.environ["KHO_PG_PORT"]
    connection = psycopg.connect(
        f"host=127.0.0.1 port={port} dbname=kho user=admin password=admin", autocommit=True)
    connection.execute("SET search_path = tpch")
    return lambda text: connection.execute(text).fetchall(), "Kho over the PostgreSQL wire"


def duckdb():
    import duckdb
    import duckdb_extension_delta

    connection = duckdb.connect(config={"threads": THREADS})
    extensions = Path(duckdb_extension_delta.__file__).parent / "extensions"
    connection.execute(f"LOAD '{extensions}/v{duckdb.__version__}/delta.duckdb_extension'")
    for name, folder in folders().items():
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM delta_scan('{folder}')")
    version = f"DuckDB {duckdb.__version__}, delta extension"
    return lambda text: connection.execute(text).fetchall(), version


def chdb():
    import chdb
    from chdb import session
    from deltalake import DeltaTable

    clickhouse = session.Session()
    clickhouse.query("CREATE DATABASE tpch ENGINE = Memory")
    how = "deltaLakeLocal"
    for name, folder in folders().items():
        source = f"deltaLakeLocal('{folder}')"
        try:
            clickhouse.query(f"SELECT count() FROM {source}")
        except Exception:  # noqa: BLE001 - a build of chDB without Delta: its live files instead
            files = DeltaTable(folder).file_uris()
            source = "file('{" + ",".join(files) + "}', Parquet)"
            how = "the live files"
        clickhouse.query(f"CREATE VIEW tpch.{name} AS SELECT * FROM {source}")
    clickhouse.query("USE tpch")
    settings = f" SETTINGS max_threads = {THREADS}, join_use_nulls = 1, joined_subquery_requires_alias = 0"

    def run(text):
        # ClickHouse divides decimals to the scale of the first: Q8's share would have two digits.
        text = text.replace("/ sum(volume)", "/ toFloat64(sum(volume))")
        answer = str(clickhouse.query(text + settings, "JSONCompactStrings"))
        return [tuple(row) for row in json.loads(answer)["data"]]

    return run, f"chDB {chdb.__version__}, {how}"


def datafusion():
    import datafusion
    from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext
    from deltalake import DeltaTable

    config = SessionConfig().with_target_partitions(THREADS)
    config = config.set("datafusion.execution.parquet.pushdown_filters", "false")
    context = SessionContext(config, RuntimeEnvBuilder())
    for name, folder in folders().items():
        context.register_table(name, DeltaTable(folder))

    def run(text):
        batches = context.sql(text).collect()
        return [tuple(row.values()) for batch in batches for row in batch.to_pylist()]

    return run, f"DataFusion {datafusion.__version__}, delta-rs table provider"


ENGINES = {"kho": kho, "duckdb": duckdb, "chdb": chdb, "datafusion": datafusion}


def plain(value):
    """A value as JSON can hold it: numbers as text without loss, dates in ISO form."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()[:10]
    raise TypeError(f"{type(value)}: {value!r}")


def run(engine: str, output: str):
    execute, version = ENGINES[engine]()
    results = {}
    for number in range(1, 23):
        text = query(number)
        times = []
        try:
            rows = execute(text)
            for _ in range(RUNS):
                begun = time.perf_counter()
                rows = execute(text)
                times.append(time.perf_counter() - begun)
            rows = [[plain(value) for value in row] for row in rows]
            results[number] = {"rows": rows, "seconds": min(times)}
            print(f"{engine:10} Q{number:<2} {min(times):8.3f} s {len(rows):>6} rows", flush=True)
        except Exception as error:  # noqa: BLE001 - a query an engine cannot do is a finding
            results[number] = {"error": str(error).splitlines()[0][:300]}
            print(f"{engine:10} Q{number:<2} failed: {results[number]['error']}", flush=True)
    Path(output).write_text(json.dumps({"engine": engine, "version": version, "results": results}))


NUMBER = re.compile(r"-?\d+(\.\d*)?(e[-+]?\d+)?")


def same_value(left, right) -> bool:
    if left == right:
        return True
    if left is None or right is None:
        return False
    left, right = str(left).strip(), str(right).strip()
    if left == right:
        return True
    if NUMBER.fullmatch(left) and NUMBER.fullmatch(right):
        return math.isclose(float(left), float(right), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return False


def same_rows(left, right) -> str:
    """Empty when equal, else what differs first."""
    if len(left) != len(right):
        return f"{len(right)} rows instead of {len(left)}"
    for index, (one, other) in enumerate(zip(left, right)):
        if len(one) != len(other) or not all(map(same_value, one, other)):
            return f"row {index + 1}: {other} instead of {one}"
    return ""


def compare(paths: list[str]) -> int:
    runs = [json.loads(Path(path).read_text()) for path in paths]
    reference, others = runs[0], runs[1:]
    wrong = 0
    agreed = {run["engine"]: set() for run in runs}
    for number in map(str, range(1, 23)):
        right = reference["results"][number]
        if "error" in right:
            print(f"Q{number}: the reference {reference['engine']} failed: {right['error']}")
            wrong += 1
            continue
        if not right["rows"] and SCALE >= 1:
            print(f"Q{number}: the reference answers nothing")
            wrong += 1
            continue
        agreed[reference["engine"]].add(number)
        for other in others:
            answer = other["results"][number]
            difference = answer.get("error") or same_rows(right["rows"], answer["rows"])
            if difference:
                print(f"Q{number}: {other['engine']} differs: {difference}")
                wrong += other["engine"] == "kho"
            else:
                agreed[other["engine"]].add(number)
    table(runs, agreed)
    return 1 if wrong else 0


def table(runs, agreed):
    ours = next((run for run in runs if run["engine"] == "kho"), runs[0])
    peers = [run for run in runs if run is not ours]
    for run in runs:
        print(f"{run['engine']}: {run['version']}; answers agree on {len(agreed[run['engine']])} of 22")
    print(f"scale {SCALE:g}, {THREADS} threads each, best of {RUNS} after a first run, seconds\n")
    names = [ours["engine"]] + [peer["engine"] for peer in peers]
    print("| query | " + " | ".join(names) + " | "
          + " | ".join(f"{names[0]} / {name}" for name in names[1:]) + " |")
    print("| --- " * (2 * len(names)) + "|")

    def seconds(run, number):
        return run["results"][number]["seconds"] if number in agreed[run["engine"]] else None

    def shown(value, digits=3):
        return "—" if value is None else f"{value:.{digits}f}"

    for number in map(str, range(1, 23)):
        mine = seconds(ours, number)
        theirs = [seconds(peer, number) for peer in peers]
        ratios = [mine / it if mine and it else None for it in theirs]
        cells = [f"Q{number}", shown(mine), *map(shown, theirs), *(shown(it, 2) for it in ratios)]
        print("| " + " | ".join(cells) + " |")

    # Sums and means only over queries that both answered, so that no one gains by failing.
    def common(peer):
        return sorted(agreed[ours["engine"]] & agreed[peer["engine"]], key=int)

    def total(run, numbers):
        return sum(seconds(run, number) for number in numbers)

    everyone = sorted(set.intersection(*agreed.values()), key=int)
    sums = [total(run, everyone) for run in (ours, *peers)]
    print(f"| sum of {len(everyone)} | " + " | ".join(map(shown, sums)) + " | "
          + " | ".join(shown(sums[0] / it if it else None, 2) for it in sums[1:]) + " |")
    means = [math.exp(sum(math.log(seconds(run, n)) for n in everyone) / len(everyone))
             if everyone else None for run in (ours, *peers)]
    ratios = []
    for peer in peers:
        both = common(peer)
        logs = [math.log(seconds(ours, n) / seconds(peer, n)) for n in both]
        ratios.append(math.exp(sum(logs) / len(logs)) if logs else None)
    print("| geometric mean | " + " | ".join(map(shown, means)) + " | "
          + " | ".join(shown(it, 2) for it in ratios) + " |")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", engine, output] if engine in ENGINES:
            run(engine, output)
        case ["compare", *paths] if len(paths) > 1:
            sys.exit(compare(paths))
        case _:
            sys.exit(__doc__)
