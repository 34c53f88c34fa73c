"""One part of benches/run beside TPC-H.

    part.py NAME SECTION.md          measures, and writes its section of the report
    part.py planning-make            makes the tables whose planning is timed after a new start
    part.py memory MARKS SECTION.md  the section about memory, from what benches/run noted
"""

import sys

import clients
import flight_in
import flight_out
import keys
import ledger
import load
import memory
import out
import planning
import policies
import spill
import together
from section import write

PARTS = {"load": load.measure, "out": out.measure, "planning": planning.measure,
         "keys": keys.measure, "clients": clients.measure, "ledger": ledger.measure,
         "policies": policies.measure, "flight-out": flight_out.measure,
         "flight-in": flight_in.measure, "together": together.measure, "spill": spill.measure}

if __name__ == "__main__":
    match sys.argv[1:]:
        case ["planning-make"]:
            planning.make()
        case ["memory", marks, output]:
            sys.exit(write("memory", lambda: memory.section(marks), output))
        case [name, output] if name in PARTS:
            sys.exit(write(name, PARTS[name], output))
        case _:
            sys.exit(__doc__)
