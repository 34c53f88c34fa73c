"""How the client programs find the Kho that the test started."""

import os

HOST = "127.0.0.1"
PORT = int(os.environ["KHO_PG_PORT"])
DATABASE = "kho"


def dsn(role: str) -> str:
    """A role's password is its name, in every test."""
    return f"host={HOST} port={PORT} dbname={DATABASE} user={role} password={role}"
