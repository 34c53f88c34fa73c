"""TPC-H against one engine, or the comparison of what several engines answered and took.

    tpch.py run ENGINE OUTPUT.json               the 22 queries: answers, types and times
    tpch.py check LOAD.txt OUTPUT.json           do other readers find the rows and sums Kho finds?
    tpch.py report CHECK.json RUN.json RUN.json …    answers first; then the table of times

Every engine reads the same Delta tables: those Kho wrote. Kho itself is asked over the wire. A time
runs from sending the text of a query to having every value of its answer as a Python object.
"""

import json
import re
import sys
import time
from pathlib import Path

import settings
from answers import COLUMNS, settled
from check import check
from engines import ENGINES
from report import report

QUERIES = Path(__file__).parent.parent / "tpch"


def query(number: int) -> str:
    text = (QUERIES / f"q{number}.sql").read_text()
    # Q11's fraction is 0.0001 / scale factor, by the specification.
    return text.replace(":fraction", f"{0.0001 / settings.SCALE:.10f}")


def run(name: str, output: str):
    engine = ENGINES[name]()
    results = {}
    for number in range(1, 23):
        text = query(number)
        result = results[number] = {}
        try:
            # The first run warms the file cache and whatever the engine keeps; it is not timed.
            answer = engine.execute(text)
            result["rows"] = settled(COLUMNS[number], answer)
            result["types"] = engine.types()
            times = result["seconds"] = []
            for _ in range(settings.RUNS):
                begun = time.perf_counter()
                answer = engine.execute(text)
                times.append(time.perf_counter() - begun)
                if settled(COLUMNS[number], answer) != result["rows"]:
                    raise ValueError("another run of the same query gave another answer")
            shown = f"{min(times):8.3f} s {len(answer):>6} rows"
        except Exception as error:  # noqa: BLE001 - a query an engine cannot do is a finding
            message = re.sub(r"\s+", " ", str(error))[:300] or type(error).__name__
            result.clear()
            result["error"] = message
            shown = f"failed: {message}"
        print(f"{name:10} Q{number:<2} {shown}", file=sys.stderr, flush=True)
    write(output, {"engine": name, "version": engine.version, "results": results})
    if all("error" in result for result in results.values()):
        raise SystemExit(f"{name} answers no query")


def write(path: str, value):
    Path(path).write_text(json.dumps(value))


def read(path: str):
    return json.loads(Path(path).read_text())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["run", name, output] if name in ENGINES:
            run(name, output)
        case ["check", loaded, output]:
            write(output, check(Path(loaded).read_text()))
        case ["report", checked, *runs] if len(runs) > 1:
            sys.exit(report(read(checked), [read(path) for path in runs]))
        case _:
            sys.exit(__doc__)
