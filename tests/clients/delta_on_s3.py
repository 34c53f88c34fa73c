"""delta-rs, polars and DuckDB read the tables that Kho keeps in a bucket, with no help from Kho."""

import os
from pathlib import Path

import boto3
import duckdb
import duckdb_extension_httpfs
import polars
import psycopg
from deltalake import DeltaTable

from connection import dsn
from delta import done, with_delta

BUCKET, _, PREFIX = os.environ["KHO_DATA"].removeprefix("s3://").partition("/")
ENDPOINT = os.environ["S3_ENDPOINT"]
KEY, SECRET, REGION = "kho-tests", "anything", "us-east-1"
OPTIONS = {
    "AWS_ENDPOINT_URL": f"http://{ENDPOINT}",
    "AWS_ALLOW_HTTP": "true",
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": REGION,
}


def table():
    """Where the only table lies, found as a stranger would: by looking for a Delta log."""
    client = boto3.client("s3", endpoint_url=f"http://{ENDPOINT}", aws_access_key_id=KEY,
                          aws_secret_access_key=SECRET, region_name=REGION)
    listed = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/tables/")
    keys = [found["Key"] for found in listed["Contents"]]
    logs = {key.partition("_delta_log/")[0] for key in keys if "_delta_log/" in key}
    assert len(logs) == 1, logs
    return f"s3://{BUCKET}/{logs.pop()}"


def duck():
    connection = duckdb.connect()
    folder = Path(duckdb_extension_httpfs.__file__).parent / "extensions"
    connection.execute(f"LOAD '{folder / f'v{duckdb.__version__}' / 'httpfs.duckdb_extension'}'")
    with_delta(connection)
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{KEY}', SECRET '{SECRET}', REGION '{REGION}',"
        f" ENDPOINT '{ENDPOINT}', URL_STYLE 'path', USE_SSL false)"
    )
    return connection


def main():
    with psycopg.connect(dsn("admin"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA s")
        connection.execute("CREATE TABLE s.t (id bigint, name text)")
        connection.execute("INSERT INTO s.t SELECT x, 'tên ' || x FROM generate_series(1, 500) AS g (x)")
        connection.execute("UPDATE s.t SET name = 'Đổi' WHERE id % 100 = 0")
        connection.execute("DELETE FROM s.t WHERE id BETWEEN 50 AND 59")
        wanted = connection.execute("SELECT id, name FROM s.t ORDER BY id").fetchall()
        assert len(wanted) == 490
        place = table()

        read = DeltaTable(place, storage_options=OPTIONS)
        rows = read.to_pyarrow_table().sort_by("id").select(["id", "name"]).to_pylist()
        assert [tuple(row.values()) for row in rows] == wanted, "delta-rs reads otherwise"

        frame = polars.read_delta(place, storage_options=OPTIONS).sort("id").select("id", "name")
        assert frame.rows() == wanted, "polars reads otherwise"

        found = duck().execute(f"SELECT id, name FROM delta_scan('{place}') ORDER BY id").fetchall()
        assert found == wanted, "DuckDB reads otherwise"


if __name__ == "__main__":
    main()
    done()
