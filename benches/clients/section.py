"""A section of the report: what a part measured, in Markdown, or why it could not.

A part is a function that gives a `Section`. What is wrong is told before any time, and makes
benches/run end with an error; so does a part that fails.
"""

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from report import machine
from settings import THREADS


@dataclass
class Section:
    title: str
    # How it was measured: sentences.
    how: list[str] = field(default_factory=list)
    # What was compared before the times, and was the same.
    same: list[str] = field(default_factory=list)
    # What was not.
    wrong: list[str] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)

    def expect(self, what: str, wanted, found) -> bool:
        """Notes whether two findings are the same. If not, no time of them may be shown."""
        if wanted == found:
            self.same.append(what)
        else:
            self.wrong.append(f"{what}: {shortened(found)} instead of {shortened(wanted)}")
        return wanted == found

    def markdown(self) -> str:
        lines = [f"# {self.title}", "", f"{machine()}; {THREADS} threads each.", "",
                 *([" ".join(self.how), ""] if self.how else [])]
        if self.same:
            lines += ["The same: " + "; ".join(self.same) + ".", ""]
        if self.wrong:
            lines += ["Wrong:", "", *(f"- {it}" for it in self.wrong), ""]
        if self.rows:
            lines += [row(self.head), "| --- |" + " ---: |" * (len(self.head) - 1)]
            lines += [row(cells) for cells in self.rows] + [""]
        return "\n".join(lines)


def row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def shortened(value) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "…"


def write(name: str, part: Callable[[], Section], path: str) -> int:
    """Runs a part and writes its section; gives the exit code."""
    try:
        section = part()
    except Exception as error:  # noqa: BLE001 - the other parts still have something to say
        traceback.print_exc()
        message = " ".join(str(error).split())[:300]
        failed = f"{type(error).__name__}: {message}"
        section = Section(title=name.capitalize(), wrong=[f"the part failed: {failed}"])
    Path(path).write_text(section.markdown())
    for line in section.wrong:
        print(f"wrong: {line}", file=sys.stderr)
    return 1 if section.wrong else 0


def thousands(value: float) -> str:
    return f"{value:,.0f}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def ratio(ours: float, theirs: float) -> str:
    quotient = ours / theirs
    return f"{quotient:.2f}" if quotient >= 0.1 else f"{quotient:.2g}"
