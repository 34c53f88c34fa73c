"""An S3 service for one run of tests: moto, on a port the system chose, which it prints.

It also hands out keys, as the metadata service of a machine and that of a container do.

moto looks whether an object is there and puts it in two steps; a lock around every request that
writes makes put-if-absent one step, as it is in a real service. Everything is in memory.
"""

import json
from threading import Lock

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server


class Quiet(MotoRequestHandler):
    """Writes no log: the tests read what the service prints."""

    def log_request(self, *_):
        pass


TOKEN = "token-of-the-tests"
ROLES = "/latest/meta-data/iam/security-credentials/"
KEYS = {"AccessKeyId": "of-a-role", "SecretAccessKey": "of-a-role", "Token": "of-a-role",
        "Expiration": "2999-01-01T00:00:00Z"}


def identity(environ):
    """What the metadata services answer; None for a request that is not for them."""
    asked = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if asked == ("PUT", "/latest/api/token"):
        return TOKEN
    if environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN") == TOKEN:
        return {ROLES: "kho", ROLES + "kho": json.dumps(KEYS)}.get(asked[1])
    if asked[1] == "/container" and environ.get("HTTP_AUTHORIZATION") == TOKEN:
        return json.dumps(KEYS)
    return None


def main():
    moto = DomainDispatcherApplication(create_backend_app)
    lock = Lock()

    def one_writer(environ, start_response):
        answer = identity(environ)
        if answer is not None:
            start_response("200 OK", [("Content-Type", "application/json")])
            return [answer.encode()]
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return moto(environ, start_response)
        with lock:
            return moto(environ, start_response)

    server = make_server("127.0.0.1", 0, one_writer, threaded=True, request_handler=Quiet)
    print(f"ready {server.host}:{server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
