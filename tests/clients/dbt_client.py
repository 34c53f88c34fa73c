"""dbt with its PostgreSQL adapter: the starter project that `dbt init` makes; seed, run, test."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from connection import CERTIFICATE, DATABASE, HOST, PORT, dsn

PROFILES = f"""
city:
  target: dev
  outputs:
    dev:
      type: postgres
      host: {HOST}
      port: {PORT}
      user: admin
      password: admin
      dbname: {DATABASE}
      schema: analytics
      threads: 2
      sslmode: verify-full
      sslrootcert: {CERTIFICATE}
"""

# The files of `dbt init`, less its comments.
FILES = {
    "dbt_project.yml": """
name: 'city'
version: '1.0.0'
profile: 'city'
model-paths: ["models"]
seed-paths: ["seeds"]
test-paths: ["tests"]
macro-paths: ["macros"]
snapshot-paths: ["snapshots"]
clean-targets: ["target", "dbt_packages"]
models:
  city:
    example:
      +materialized: view
""",
    "models/example/my_first_dbt_model.sql": """
{{ config(materialized='table') }}
with source_data as (
    select 1 as id
    union all
    select null as id
)
select *
from source_data
""",
    "models/example/my_second_dbt_model.sql": """
select *
from {{ ref('my_first_dbt_model') }}
where id = 1
""",
    "models/example/wards.sql": """
{{ config(materialized='table') }}
select w.id, w.name, count(r.ward) as readings, max(r.taken) as latest
from {{ ref('ward') }} w left join {{ ref('reading') }} r on r.ward = w.id
group by w.id, w.name
""",
    "models/example/schema.yml": """
version: 2
models:
  - name: my_first_dbt_model
    description: "A starter dbt model"
    columns:
      - name: id
        description: "The primary key for this table"
        data_tests:
          - unique
          - not_null:
              config:
                severity: warn
  - name: my_second_dbt_model
    description: "A starter dbt model"
    columns:
      - name: id
        data_tests:
          - unique
          - not_null
  - name: wards
    columns:
      - name: name
        data_tests:
          - accepted_values:
              arguments:
                values: ['Phú Hội', 'Vỹ Dạ']
""",
    "seeds/ward.csv": "id,name\n1,Phú Hội\n2,Vỹ Dạ\n",
    "seeds/reading.csv": "ward,value,taken\n1,0.5,2026-11-01\n1,1.25,2026-11-02\n",
    "tests/no_reading_is_negative.sql": "select * from {{ ref('reading') }} where value < 0\n",
}


def dbt(folder, *arguments):
    environment = dict(os.environ, DBT_SEND_ANONYMOUS_USAGE_STATS="false", DO_NOT_TRACK="1",
                       DBT_PROFILES_DIR=str(folder), NO_COLOR="1")
    program = Path(sys.executable).parent / "dbt"
    done = subprocess.run([program, *arguments, "--project-dir", folder], cwd=folder,
                          env=environment, capture_output=True, text=True, timeout=200)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"dbt {' '.join(arguments)} failed"
    return done.stdout


def main():
    with tempfile.TemporaryDirectory(prefix="kho-dbt-") as name:
        folder = Path(name)
        (folder / "profiles.yml").write_text(PROFILES)
        for path, text in FILES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
        for path in ("macros", "snapshots"):
            (folder / path).mkdir()
        dbt(folder, "debug")
        # Twice: what is there is replaced.
        for _ in range(2):
            assert "PASS=2" in dbt(folder, "seed")
            assert "PASS=3" in dbt(folder, "run")
            dbt(folder, "test")
        dbt(folder, "seed", "--full-refresh")
        dbt(folder, "docs", "generate", "--no-compile")
    with psycopg.connect(dsn("admin")) as connection:
        found = connection.execute("SELECT id, name, readings FROM analytics.wards ORDER BY id")
        assert found.fetchall() == [(1, "Phú Hội", 2), (2, "Vỹ Dạ", 0)]
        view = connection.execute("SELECT id FROM analytics.my_second_dbt_model").fetchall()
        assert view == [(1,)], view


if __name__ == "__main__":
    main()
