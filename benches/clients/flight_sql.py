"""Kho over Arrow Flight: ADBC's driver, and pyarrow's client with the one command it does not know."""

import settings

# Messages of a batch are larger than what gRPC takes by default.
MESSAGE_BYTES = 1 << 30


def location() -> str:
    return f"grpc://127.0.0.1:{settings.FLIGHT_PORT}"


def adbc():
    """A connection of ADBC's Flight SQL driver, without TLS."""
    import adbc_driver_flightsql.dbapi as flight_sql
    from adbc_driver_flightsql import DatabaseOptions

    options = {"username": "admin", "password": "admin",
               DatabaseOptions.WITH_MAX_MSG_SIZE.value: str(MESSAGE_BYTES)}
    return flight_sql.connect(location(), db_kwargs=options, autocommit=True)


class Client:
    """pyarrow's client, logged in; or one of a server that asks nobody who he is."""

    def __init__(self, address: str = "", login: bool = True):
        from pyarrow import flight

        self.client = flight.FlightClient(address or location())
        headers = [self.client.authenticate_basic_token("admin", "admin")] if login else []
        self.options = flight.FlightCallOptions(headers=headers)

    def ticket(self, query: str):
        """Of a query's one stream."""
        from pyarrow import flight

        name = b"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery"
        command = field(1, name) + field(2, field(1, query.encode()))
        descriptor = flight.FlightDescriptor.for_command(command)
        endpoint, = self.client.get_flight_info(descriptor, self.options).endpoints
        return endpoint.ticket

    def drain(self, ticket) -> int:
        """Reads a stream and keeps nothing of it; gives the rows."""
        rows = 0
        for chunk in self.client.do_get(ticket, self.options):
            rows += chunk.data.num_rows
        return rows

    def read(self, ticket):
        """The whole of a stream, as a table."""
        return self.client.do_get(ticket, self.options).read_all()

    def put(self, path: tuple[str, str], batches, schema):
        """Loads batches into a table of that name."""
        from pyarrow import flight

        descriptor = flight.FlightDescriptor.for_path(*path)
        writer, reader = self.client.do_put(descriptor, schema, self.options)
        with writer:
            for batch in batches:
                writer.write_batch(batch)
            writer.done_writing()
            if reader.read() is None:
                raise RuntimeError("the server said nothing of what it took")


def field(number: int, data: bytes) -> bytes:
    """A field of bytes, as protobuf writes it."""
    length, out = len(data), bytes([number << 3 | 2])
    while length > 0x7F:
        out, length = out + bytes([length & 0x7F | 0x80]), length >> 7
    return out + bytes([length]) + data
