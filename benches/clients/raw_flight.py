"""A Flight server that does nothing but send the batches of an Arrow file: the limit of the protocol.

    raw_flight.py FILE

Prints the port when it serves; ends when it is killed.
"""

import sys

import pyarrow
from pyarrow import flight


class Server(flight.FlightServerBase):
    def __init__(self, table):
        super().__init__("grpc://127.0.0.1:0")
        self.table = table

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(self.table)


if __name__ == "__main__":
    with pyarrow.OSFile(sys.argv[1]) as file:
        # Read, not mapped: it is to be in memory.
        server = Server(pyarrow.ipc.open_file(file).read_all())
    print(server.port, flush=True)
    server.serve()
