"""asyncpg: binary values only, types looked up in pg_catalog, a pool that resets connections."""

import asyncio
import datetime
import decimal
import ssl
import uuid

import asyncpg

from connection import CERTIFICATE, DATABASE, HOST, PORT

ROW = (
    7, "Huế", decimal.Decimal("12.50"), datetime.date(2026, 11, 1),
    datetime.datetime(2026, 11, 1, 1, 30, tzinfo=datetime.timezone.utc),
    datetime.datetime(2026, 11, 1, 8, 30, 0, 5), True, b"\x01\x02",
    uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), ["một", None, "hai"], 1.25,
)


async def main():
    options = {"host": HOST, "port": PORT, "user": "admin", "password": "admin",
               "database": DATABASE, "ssl": ssl.create_default_context(cafile=CERTIFICATE)}
    connection = await asyncpg.connect(**options)
    await connection.execute("CREATE SCHEMA s")
    await connection.execute(
        "CREATE TABLE s.t (id integer, name text, amount numeric(10, 2), day date, at timestamptz,"
        " shown timestamp, ok boolean, raw bytea, code uuid, words text[], score real)"
    )
    places = ", ".join(f"${number}" for number in range(1, len(ROW) + 1))
    done = await connection.execute(f"INSERT INTO s.t VALUES ({places})", *ROW)
    assert done == "INSERT 0 1", done
    await connection.execute(f"INSERT INTO s.t VALUES ({places})", *([None] * len(ROW)))
    found = await connection.fetch("SELECT * FROM s.t ORDER BY id NULLS LAST")
    assert tuple(found[0]) == ROW, tuple(found[0])
    assert tuple(found[1]) == (None,) * len(ROW)
    assert await connection.fetchval("SELECT count(*) FROM s.t WHERE id = $1", 7) == 1
    assert await connection.fetchval("SELECT sum(id) FROM s.t") == 7

    statement = await connection.prepare("SELECT name FROM s.t WHERE id = $1")
    assert await statement.fetchval(7) == "Huế"
    # A list's type is told by what it is compared with.
    listed = await connection.fetch("SELECT name FROM s.t WHERE id = ANY($1)", [7, 8, None])
    assert [row["name"] for row in listed] == ["Huế"], listed

    # It asks what each parameter is, and takes no other.
    for query, given, expected in [
        ("SELECT name FROM s.t WHERE name = $1 OR $1 = '*'", ("Huế",), "Huế"),
        ("SELECT count(*) FROM s.t WHERE name LIKE $1 OR code::text LIKE $1", ("a0ee%",), 1),
        ("SELECT id FROM s.t ORDER BY id LIMIT $1 OFFSET $2", (1, 0), 7),
        ("SELECT $1", ("x",), "x"),
        ("SELECT left(name, $1) FROM s.t WHERE id = 7", (1,), "H"),
        ("SELECT substring(name, $1, $2) FROM s.t WHERE id = 7", (1, 2), "Hu"),
        ("SELECT lpad(name, $1, '0') FROM s.t WHERE id = 7", (4,), "0Huế"),
        ("SELECT repeat('a', $1)", (3,), "aaa"),
        ("SELECT round(amount, $1) FROM s.t WHERE id = 7", (1,), decimal.Decimal("12.5")),
        ("SELECT power($1, 2)", (1.5,), 2.25),
        ("SELECT abs($1)", (-1.5,), 1.5),
        ("SELECT sum(x) FROM generate_series(1, $1) AS g (x)", (3,), 6),
        ("SELECT coalesce(id, $1) FROM s.t WHERE name IS NULL", (5,), 5),
        ("SELECT $1::numeric(5, 2)", (decimal.Decimal("1.005"),), decimal.Decimal("1.01")),
    ]:
        found = await connection.fetchval(query, *given)
        assert found == expected, (query, found)
    await connection.execute("UPDATE s.t SET score = $1 WHERE id = $2", 1.25, 7)
    assert await connection.fetch("EXPLAIN SELECT $1::integer", 1)

    try:
        await connection.fetch("SELECT 1 / 0")
    except asyncpg.DivisionByZeroError:
        pass
    else:
        raise AssertionError("no error")

    async with connection.transaction():
        cursor = await connection.cursor("SELECT x FROM generate_series(1, 100) AS g (x)")
        assert len(await cursor.fetch(30)) == 30
        assert (await cursor.fetchrow())["x"] == 31

    async with connection.transaction():
        # Nested, a transaction is a savepoint.
        try:
            async with connection.transaction():
                await connection.fetch("SELECT 1 / 0")
        except asyncpg.DivisionByZeroError:
            pass
        total = 0
        async for row in connection.cursor("SELECT x FROM generate_series(1, 500) AS g (x)"):
            total += row["x"]
        assert total == 125_250
    await connection.executemany("INSERT INTO s.t (id, name) VALUES ($1, $2)",
                                 [(number, "nhiều") for number in range(100, 110)])
    assert await connection.fetchval("SELECT count(*) FROM s.t WHERE name = 'nhiều'") == 10

    records = [(number, f"w{number}") for number in range(1000)]
    await connection.execute("CREATE TABLE s.c (id integer, word text)")
    copied = await connection.copy_records_to_table("c", schema_name="s", records=records)
    assert copied == "COPY 1000", copied
    assert await connection.fetchval("SELECT count(DISTINCT word) FROM s.c") == 1000
    await connection.close()

    # A pool resets each connection it takes back: RESET ALL, CLOSE ALL, UNLISTEN, …
    async with asyncpg.create_pool(**options, min_size=1, max_size=2) as pool:
        async with pool.acquire() as one:
            await one.execute("SET application_name = 'borrowed'")
        async with pool.acquire() as one:
            assert await one.fetchval("SHOW application_name") != "borrowed"
        totals = await asyncio.gather(*[pool.fetchval("SELECT count(*) FROM s.c")] * 1,
                                      pool.fetchval("SELECT max(id) FROM s.c"))
        assert totals == [1000, 999], totals


if __name__ == "__main__":
    asyncio.run(main())
