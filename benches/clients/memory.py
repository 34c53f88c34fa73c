"""How much memory Kho held at most, part by part."""

from pathlib import Path

from section import Section


def section(marks: str) -> Section:
    """`marks` has a line for each reading: a part, and VmHWM in kB; a part may have several."""
    highest: dict[str, int] = {}
    for line in Path(marks).read_text().splitlines():
        part, kilobytes = line.split()
        highest[part] = max(highest.get(part, 0), int(kilobytes))
    made = Section(
        "Memory of the Kho server",
        how=["The high-water mark of resident memory (VmHWM), set back before each part where "
             "the system lets us; `tpch-load` is `COPY` of the eight tables, `tpch` the 22 "
             "queries. Pages of the file cache are not in it."],
        head=["part", "MiB at most"],
        rows=[[part, f"{kilobytes / 1024:,.0f}"] for part, kilobytes in highest.items()])
    if not highest:
        made.wrong.append("no reading was taken")
    return made
