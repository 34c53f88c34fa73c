"""How the client programs find the Kho that the test started: over TLS, its certificate checked."""

import os

HOST = "127.0.0.1"
PORT = int(os.environ["KHO_PG_PORT"])
DATABASE = "kho"
CERTIFICATE = os.environ["KHO_CERTIFICATE"]


def dsn(role: str) -> str:
    """A role's password is its name, in every test."""
    return (f"host={HOST} port={PORT} dbname={DATABASE} user={role} password={role}"
            f" sslmode=verify-full sslrootcert={CERTIFICATE}")


def url(role: str, driver: str) -> str:
    """The same as SQLAlchemy and others write it."""
    return (f"{driver}://{role}:{role}@{HOST}:{PORT}/{DATABASE}"
            f"?sslmode=verify-full&sslrootcert={CERTIFICATE}")

FLIGHT_PORT = int(os.environ.get("KHO_FLIGHT_PORT", "0"))


def flight_location(tls: bool) -> str:
    """Where Arrow Flight is served, as pyarrow and ADBC write it."""
    return f"grpc+{'tls' if tls else 'tcp'}://{HOST}:{FLIGHT_PORT}"


def certificate() -> str:
    with open(CERTIFICATE, encoding="ascii") as file:
        return file.read()
