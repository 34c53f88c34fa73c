// node-postgres: a pool over TLS, parameters, prepared statements, cursors, a batch in one block.

const assert = require('assert');
const fs = require('fs');
const { Client, Pool, types } = require('pg');
const Cursor = require('pg-cursor');

// A date has no time and no zone: it stays as it is written.
types.setTypeParser(types.builtins.DATE, (text) => text);

const options = {
  host: '127.0.0.1',
  port: Number(process.env.KHO_PG_PORT),
  database: 'kho',
  user: 'admin',
  password: 'admin',
  ssl: { ca: fs.readFileSync(process.env.KHO_CERTIFICATE, 'utf8'), rejectUnauthorized: true },
};

const ROW = {
  id: '9007199254740993', small: -5, whole: 7, ok: true, name: "Phú Hội's \"100%\"\n",
  price: '12345678901234.5678', share: 0.1, day: '2026-11-01', at: new Date('2026-11-01T01:30:00Z'),
  raw: Buffer.from([0, 255, 39]), code: 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
  words: ['một', null, 'a,"b"'], numbers: [1, null, 3], more: { k: [1, null, 'ă'] },
};

async function values(pool) {
  await pool.query(
    'CREATE TABLE city.t (id bigint, small smallint, whole integer, ok boolean, name text,' +
    ' price numeric(20, 4), share double precision, day date, at timestamptz, raw bytea,' +
    ' code uuid, words text[], numbers integer[], more json)');
  const names = Object.keys(ROW);
  const places = names.map((_, index) => `$${index + 1}`).join(', ');
  const insert = `INSERT INTO city.t (${names.join(', ')}) VALUES (${places})`;
  const taken = await pool.query(insert, Object.values(ROW));
  assert.deepStrictEqual([taken.command, taken.rowCount], ['INSERT', 1]);
  await pool.query(insert, names.map(() => null));
  const { rows } = await pool.query('SELECT * FROM city.t ORDER BY id NULLS LAST');
  assert.deepStrictEqual({ ...rows[0] }, ROW);
  assert.deepStrictEqual({ ...rows[1] }, Object.fromEntries(names.map((name) => [name, null])));
  const found = await pool.query(
    'SELECT name FROM city.t WHERE at = $1 AND code = $2 AND id = ANY($3) AND price > $4',
    [ROW.at, ROW.code, [1, ROW.id], 1.5]);
  assert.strictEqual(found.rows[0].name, ROW.name);
}

async function prepared(pool) {
  const client = await pool.connect();
  for (const id of [1, 2, 3]) {
    const query = { name: 'one-row', text: 'SELECT $1::integer + 1 AS next', values: [id] };
    assert.strictEqual((await client.query(query)).rows[0].next, id + 1);
  }
  const array = await client.query({ text: 'SELECT 1 AS a, 2 AS a', rowMode: 'array' });
  assert.deepStrictEqual(array.rows, [[1, 2]]);
  const several = await client.query('SELECT 1 AS x; SELECT 2 AS y');
  assert.deepStrictEqual(several.map((it) => it.rows.length), [1, 1]);
  client.release();
}

async function cursors(pool) {
  const client = await pool.connect();
  const cursor = client.query(
    new Cursor('SELECT x FROM generate_series(1, 1000) AS g (x) WHERE x <= $1', [1000]));
  let sum = 0;
  for (let rows = await cursor.read(100); rows.length > 0; rows = await cursor.read(100)) {
    sum += rows.reduce((total, row) => total + Number(row.x), 0);
  }
  assert.strictEqual(sum, 500500);
  await cursor.close();
  const early = client.query(new Cursor('SELECT x FROM generate_series(1, 1000000) AS g (x)'));
  assert.strictEqual((await early.read(10)).length, 10);
  await early.close();
  assert.strictEqual((await client.query('SELECT 1 AS one')).rows[0].one, 1);
  client.release();
}

async function transactions(pool) {
  const client = await pool.connect();
  await client.query('CREATE TABLE city.move (id integer, name text)');
  await client.query('BEGIN');
  for (let id = 0; id < 20; id += 1) {
    await client.query('INSERT INTO city.move VALUES ($1, $2)', [id, `n${id}`]);
  }
  await client.query('UPDATE city.move SET name = $1 WHERE id = $2', ['changed', 7]);
  const inside = await client.query('SELECT count(*)::integer AS n FROM city.move');
  assert.strictEqual(inside.rows[0].n, 20);
  assert.strictEqual((await pool.query('SELECT count(*)::integer AS n FROM city.move')).rows[0].n, 0);
  await client.query('COMMIT');
  await client.query('BEGIN');
  await client.query('DELETE FROM city.move');
  await client.query('ROLLBACK');
  const { rows } = await client.query("SELECT id FROM city.move WHERE name = 'changed'");
  assert.deepStrictEqual(rows.map((row) => row.id), [7]);
  const back = await client.query("INSERT INTO city.move VALUES (99, 'x') RETURNING id, name");
  assert.deepStrictEqual({ ...back.rows[0] }, { id: 99, name: 'x' });
  client.release();
}

async function failures(pool) {
  for (const [text, code] of [
    ['SELECT * FROM city.missing', '42P01'],
    ['SELECT 1 / 0', '22012'],
    ['SELEC', '42601'],
    ["SELECT 'x'::integer", '22P02'],
  ]) {
    await assert.rejects(pool.query(text), (error) => error.code === code, text);
  }
  const stranger = new Client({ ...options, password: 'wrong' });
  await assert.rejects(stranger.connect(), (error) => error.code === '28P01');
  const plain = new Client({ ...options, ssl: false });
  await plain.connect();
  await plain.end();
}

async function main() {
  const pool = new Pool({ ...options, max: 4 });
  await pool.query('CREATE SCHEMA city');
  await values(pool);
  await prepared(pool);
  await cursors(pool);
  await transactions(pool);
  await failures(pool);
  const many = await Promise.all(
    Array.from({ length: 40 }, (_, index) => pool.query('SELECT $1::integer AS n', [index])));
  assert.deepStrictEqual(many.map((it) => it.rows[0].n), Array.from({ length: 40 }, (_, i) => i));
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
