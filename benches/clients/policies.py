"""What row policies and masks cost: TPC-H of a role that they hold, and the same filters and masks
written by hand into the queries of the owner, whom they do not hold.

Bytes read are those the server's process read while a query ran, by /proc; the least of the runs,
since the ledger and the maintenance read, too.
"""

import math
import re
import sys
import time
from pathlib import Path

import psycopg
import settings
from answers import COLUMNS, difference, settled
from section import Section, milliseconds, ratio
from tpch import query

READER, PASSWORD = "policied_reader", "half of the rows are enough"
# Policied time to that of the filter by hand, and bytes likewise, that are wanted at most.
WANTED, WANTED_BYTES = 1.05, 1.05
# Rows that stay, about half of each table, and two masks for each. The policy of lineitem and that
# of orders follow the order in the files, so that they can prune; customer's does not.
RULES = {
    "lineitem": ("l_orderkey <= {orders}",
                 {"l_comment": "left({}, 4) || '***'", "l_shipinstruct": "upper({})"}),
    "orders": ("o_orderkey <= {orders}",
               {"o_clerk": "'***'", "o_comment": "left({}, 24)"}),
    "customer": ("c_nationkey < 13",
                 {"c_phone": "left({}, 2) || '-***'", "c_name": "upper({})"}),
}
HAND, POLICIED = "by hand", "by policy"


def measure() -> Section:
    section = Section(
        "Cost of policies",
        how=["The 22 queries of TPC-H, where `lineitem`, `orders` and `customer` have a row policy "
             "that keeps about half of the rows, and two masks, against the same filters and masks "
             f"written into the queries; by turns, {settings.RUNS} times each, the fastest.",
             f"At most {WANTED} of the time by geometric mean, and {WANTED_BYTES} of the bytes read "
             "by all queries, are wanted."],
        head=["query", "by policy ms", "by hand ms", "policy / hand", "read by hand MB",
              "read: policy / hand"])
    with settings.kho() as owner:
        rules = set_rules(owner)
        hand = by_hand(owner, rules)
        settings.settle()
        with reader() as policied:
            times = compared(section, {HAND: (owner, hand), POLICIED: (policied, str)})
    if section.wrong:
        return section
    quotients = []
    for number, (seconds, read) in times.items():
        quotients.append(seconds[POLICIED] / seconds[HAND])
        section.rows.append([
            f"Q{number}", milliseconds(seconds[POLICIED]), milliseconds(seconds[HAND]),
            ratio(seconds[POLICIED], seconds[HAND]), megabytes(read[HAND]), ratio_of(read)])
    mean = math.exp(sum(map(math.log, quotients)) / len(quotients))
    read = {name: sum(read[name] or 0 for _, read in times.values()) for name in (HAND, POLICIED)}
    section.rows.append(["all", "", "", f"{mean:.3f}", megabytes(read[HAND]), ratio_of(read)])
    print(f"policies: {mean:.3f} of the time, {ratio_of(read)} of the bytes", file=sys.stderr)
    return section


def set_rules(owner) -> dict[str, tuple[str, dict[str, str]]]:
    """Makes the role, its policies and masks; gives the rules with their numbers."""
    last = owner.execute("SELECT max(o_orderkey) FROM orders").fetchone()[0]
    owner.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'")
    owner.execute(f"GRANT USAGE ON SCHEMA tpch TO {READER}")
    for table in settings.TABLES:
        owner.execute(f"GRANT SELECT ON {table} TO {READER}")
    rules = {}
    for table, (keep, masks) in RULES.items():
        rules[table] = keep.format(orders=last // 2), masks
        owner.execute(f"CREATE POLICY half ON {table} FOR SELECT USING ({rules[table][0]})")
        owner.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        for column, mask in masks.items():
            using = mask.format("value")
            owner.execute(f"CALL kho.set_mask(dataset => 'tpch.{table}', column => '{column}', "
                          f"using => $${using}$$, except_roles => 'admin')")
    return rules


def by_hand(owner, rules):
    """What makes of a query the one with the filters and masks in it."""
    views = []
    for table, (keep, masks) in rules.items():
        columns = owner.execute(f"SELECT * FROM {table} LIMIT 0").description
        items = [f"{masks[it.name].format(it.name)} AS {it.name}" if it.name in masks else it.name
                 for it in columns]
        views.append(f"{table} AS (SELECT {', '.join(items)} FROM tpch.{table} WHERE {keep})")

    def rewritten(text: str) -> str:
        used = [view for view in views if re.search(rf"\b{view.split()[0]}\b", text)]
        text = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
        own = re.match(r"\s*WITH\b", text)
        rest = text[own.end():] if own else text
        if not used:
            return text
        return f"WITH {', '.join(used)}{',' if own else ''} {rest}"

    return rewritten


def compared(section: Section, sides) -> dict[int, tuple[dict, dict]]:
    """The fastest time and the fewest bytes of each query and side, once the answers agree."""
    found = {}
    for number in range(1, 23):
        texts = {name: rewrite(query(number)) for name, (_, rewrite) in sides.items()}
        answers = {name: settled(COLUMNS[number], connection.execute(texts[name]).fetchall())
                   for name, (connection, _) in sides.items()}
        differs = difference(answers[HAND], answers[POLICIED])
        if differs:
            section.wrong.append(f"Q{number}: {differs}")
            continue
        seconds, read = {name: [] for name in sides}, {name: [] for name in sides}
        for turn in range(settings.RUNS):
            for name in list(sides)[::1 if turn % 2 else -1]:
                before, begun = bytes_read(), time.perf_counter()
                sides[name][0].execute(texts[name]).fetchall()
                seconds[name].append(time.perf_counter() - begun)
                read[name].append(None if before is None else bytes_read() - before)
        found[number] = ({name: min(all_) for name, all_ in seconds.items()},
                         {name: None if None in all_ else min(all_) for name, all_ in read.items()})
        print(f"policies Q{number}: {found[number][0]}", file=sys.stderr, flush=True)
    if not section.wrong:
        section.same.append("the answers of all queries")
    return found


def bytes_read() -> int | None:
    """Of the server, so far; None where the system does not say."""
    try:
        text = Path(f"/proc/{settings.SERVER}/io").read_text()
    except OSError:
        return None
    return int(re.search(r"^rchar: (\d+)$", text, re.MULTILINE).group(1))


def megabytes(read: int | None) -> str:
    return "unknown" if read is None else f"{read / 1e6:.1f}"


def ratio_of(read: dict) -> str:
    return ratio(read[POLICIED], read[HAND]) if read[HAND] else "unknown"


def reader():
    connection = psycopg.connect(
        f"host=127.0.0.1 port={settings.PORT} dbname=kho user={READER} sslmode=disable",
        password=PASSWORD, autocommit=True, prepare_threshold=None)
    connection.execute("SET search_path = tpch")
    return connection
