"""pyarrow's Flight client: tables by their path, loads with a number, and clients that go away."""

import json
import os
import subprocess
import sys

import pyarrow
from pyarrow import flight

from connection import certificate, flight_location

TABLE = flight.FlightDescriptor.for_path("s", "t")


class Client:
    """A client that is logged in, and what the server said last in its headers."""

    def __init__(self, role, tls=False):
        told = self.told = {}

        class Factory(flight.ClientMiddlewareFactory):
            def start_call(self, info):
                return Middleware()

        class Middleware(flight.ClientMiddleware):
            def received_headers(self, headers):
                told.update(headers)

        options = {"tls_root_certs": certificate()} if tls else {}
        self.client = flight.FlightClient(flight_location(tls), middleware=[Factory()], **options)
        self.bearer = self.client.authenticate_basic_token(role, role)

    def options(self, *headers):
        return flight.FlightCallOptions(headers=[self.bearer, *headers])

    def put(self, descriptor, table, *headers):
        """Loads a table; gives what the server answers with."""
        writer, reader = self.client.do_put(descriptor, table.schema, self.options(*headers))
        with writer:
            writer.write_table(table)
            writer.done_writing()
            return json.loads(reader.read().to_pybytes())

    def run(self, statement):
        """A statement over Flight SQL, by hand: its command is a message within another."""
        name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
        command = field(1, name) + field(2, field(1, statement.encode()))
        descriptor = flight.FlightDescriptor.for_command(command)
        info = self.client.get_flight_info(descriptor, self.options())
        return self.client.do_get(info.endpoints[0].ticket, self.options()).read_all()

    def count(self):
        return self.run("SELECT count(*) FROM s.t").column(0)[0].as_py()


def field(number, data):
    """A field of bytes, as protobuf writes it."""
    length, out = len(data), bytes([number << 3 | 2])
    while length > 0x7F:
        out, length = out + bytes([length & 0x7F | 0x80]), length >> 7
    return out + bytes([length]) + data


def refused(work, said):
    try:
        work()
    except (flight.FlightError, pyarrow.ArrowException, OSError) as error:
        assert said in str(error), (said, str(error))
        return
    raise AssertionError(f"it is not refused: {said}")


def main():
    admin = Client("admin", tls=True)
    for statement in (
        "CREATE SCHEMA s",
        "CREATE TABLE s.t (id bigint, name text)",
        "CREATE TABLE s.hidden (id bigint)",
        "CREATE ROLE an LOGIN PASSWORD 'an'",
        "GRANT USAGE ON SCHEMA s TO an",
        "GRANT SELECT ON s.t TO an",
    ):
        admin.run(statement)
    loading(admin)
    reading(admin, Client("an"))
    going_away(admin)


def loading(admin):
    rows = pyarrow.table({"name": ["Huế", "Hội An"], "id": [1, 2]})
    said = admin.put(TABLE, rows)
    assert (said["rows"], said["version"]) == (2, 1), said
    assert admin.told["kho-version"] == ["1"] and admin.told["kho-rows"] == ["2"], admin.told
    assert int(admin.told["kho-duration-ms"][0]) >= 0
    admin.put(flight.FlightDescriptor.for_path("s.t"), rows)
    load = [(b"kho-load-stream", b"clinic"), (b"kho-load-sequence", b"1")]
    first, again = admin.put(TABLE, rows, *load), admin.put(TABLE, rows, *load)
    assert first["version"] == again["version"] == 3, (first, again)
    late = [(b"kho-load-stream", b"clinic"), (b"kho-load-sequence", b"3")]
    refused(lambda: admin.put(TABLE, rows, *late), "out of turn")
    refused(lambda: admin.put(TABLE, rows, late[1]), "are set together")
    assert admin.count() == 6


def reading(admin, an):
    client, options = an.client, an.options()
    info = client.get_flight_info(TABLE, options)
    assert info.schema.names == ["id", "name"], info.schema
    found = client.do_get(info.endpoints[0].ticket, options).read_all()
    assert found.num_rows == 6, found
    assert client.get_schema(TABLE, options).schema.names == ["id", "name"]
    listed = list(client.list_flights(options=options))
    assert [it.descriptor.path for it in listed] == [[b"s", b"t"]], listed
    assert listed[0].schema.names == ["id", "name"]
    listed = sorted(it.descriptor.path for it in admin.client.list_flights(options=admin.options()))
    assert listed == [[b"s", b"hidden"], [b"s", b"t"]], listed
    hidden = flight.FlightDescriptor.for_path("s", "hidden")
    refused(lambda: client.get_flight_info(hidden, options), "does not exist")
    refused(lambda: an.put(hidden, pyarrow.table({"id": [1]})), "does not exist")
    refused(lambda: an.put(TABLE, pyarrow.table({"id": [1]})), "permission denied")
    nothing = flight.FlightDescriptor.for_path("a", "b", "c")
    refused(lambda: client.get_flight_info(nothing, options), "names no table")


def going_away(admin):
    """Clients that die in mid-stream have loaded nothing, and keep nobody from the table."""
    before = admin.count()
    dying = [subprocess.Popen([sys.executable, __file__, "dies"]) for _ in range(4)]
    assert [it.wait() for it in dying] == [7] * len(dying)
    admin.put(TABLE, pyarrow.table({"id": [1]}))
    assert admin.count() == before + 1


def die():
    """Sends some batches, which have come to the server, and is gone."""
    table = pyarrow.table({"id": list(range(100_000)), "name": ["x"] * 100_000})
    client = Client("admin")
    writer, _ = client.client.do_put(TABLE, table.schema, client.options())
    for _ in range(20):
        writer.write_table(table)
    os._exit(7)


die() if sys.argv[1:] == ["dies"] else main()
