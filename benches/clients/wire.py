"""A client that costs next to nothing: the bytes of the PostgreSQL protocol, and no values.

psycopg connects and logs in; then the socket is ours. An answer is read twice: once message by
message, to count the rows and to sum them, and then as often as it is timed, as so many bytes.
"""

import os
import socket
import struct
import zlib
from dataclasses import dataclass

BUFFER_BYTES = 1 << 20
# A server that sends nothing for this long has stopped.
SILENCE_S = 120
READY = b"Z\x00\x00\x00\x05I"
# How values are written.
TEXT, BINARY = 0, 1
DATA_ROW, COPY_DATA, COMPLETE, ERROR, READY_FOR_QUERY = b"DdCEZ"


@dataclass
class Answer:
    # Messages that hold data: DataRow or CopyData.
    messages: int = 0
    # Of their contents.
    data_bytes: int = 0
    # Of each message's contents, added up: the order of rows changes nothing.
    checksum: int = 0
    # Of all contents, one after the other.
    in_order: int = 0
    # Of everything up to ReadyForQuery.
    all_bytes: int = 0
    tag: str = ""
    error: str = ""

    def rows(self) -> int:
        """As the server counts them."""
        return int(self.tag.split()[-1])


class Wire:
    """One connection; nothing else may use it meanwhile."""

    def __init__(self, connection):
        # Kept, since the socket is closed with it.
        self.connection = connection
        self.socket = socket.socket(fileno=os.dup(connection.pgconn.socket))
        self.socket.setblocking(True)
        silence = struct.pack("ll", SILENCE_S, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, silence)
        self.buffer = bytearray(BUFFER_BYTES)

    def close(self):
        self.socket.close()
        self.connection.close()

    def count(self, request: bytes) -> Answer:
        """Sends a request and looks at every message of its answer."""
        self.socket.sendall(request)
        answer = Answer()
        filled = 0
        ready = False
        while not ready:
            received = self.receive(filled)
            answer.all_bytes += received
            filled += received
            at, ready = look(self.buffer, filled, answer)
            # What is left of a message that has not come whole.
            left = self.buffer[at:filled]
            self.buffer[:len(left)] = left
            filled = len(left)
            if filled == len(self.buffer):
                self.buffer.extend(bytes(len(self.buffer)))
        if answer.error:
            raise RuntimeError(answer.error)
        return answer

    def drain(self, request: bytes, all_bytes: int):
        """Sends a request and reads as many bytes as its answer had before."""
        self.socket.sendall(request)
        left = all_bytes
        last = 0
        while left > 0:
            last = self.receive(0)
            left -= last
        if left < 0 or (last >= len(READY) and self.buffer[last - len(READY):last] != READY):
            raise RuntimeError("the same request had another answer")

    def receive(self, filled: int) -> int:
        with memoryview(self.buffer) as view:
            received = self.socket.recv_into(view[filled:])
        if not received:
            raise RuntimeError("the server closed the connection")
        return received


def look(buffer: bytearray, filled: int, answer: Answer) -> tuple[int, bool]:
    """Goes through the whole messages; gives where they end, and whether the answer does."""
    at = 0
    length_of = struct.Struct(">I").unpack_from
    with memoryview(buffer) as view:
        while filled - at >= 5:
            kind = buffer[at]
            end = at + 1 + length_of(buffer, at + 1)[0]
            if end > filled:
                break
            if kind == DATA_ROW or kind == COPY_DATA:
                answer.messages += 1
                answer.data_bytes += end - at - 5
                answer.checksum += zlib.crc32(view[at + 5:end])
                answer.in_order = zlib.crc32(view[at + 5:end], answer.in_order)
            elif kind == COMPLETE:
                answer.tag = bytes(view[at + 5:end - 1]).decode()
            elif kind == ERROR:
                fields = bytes(view[at + 5:end]).split(b"\0")
                answer.error = next(it[1:] for it in fields if it.startswith(b"M")).decode()
            elif kind == READY_FOR_QUERY:
                return end, True
            at = end
    return at, False


def simple(text: str) -> bytes:
    """A request of the simple protocol."""
    return message(b"Q", text.encode() + b"\0")


def extended(text: str, format_code: int) -> bytes:
    """A request of the extended protocol, as drivers send it: every column in one format."""
    return b"".join([
        message(b"P", b"\0" + text.encode() + b"\0" + struct.pack(">h", 0)),
        message(b"B", b"\0\0" + struct.pack(">hhhh", 0, 0, 1, format_code)),
        message(b"D", b"P\0"),
        message(b"E", b"\0" + struct.pack(">i", 0)),
        message(b"S", b""),
    ])


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">i", len(body) + 4) + body
