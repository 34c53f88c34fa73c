"""SQLAlchemy 2: Core, ORM, reflection, streamed results, over psycopg and psycopg2."""

import datetime
import decimal
import sys
import uuid

import sqlalchemy as sa
from sqlalchemy import orm

from connection import url

SCHEMA = "city"


class Base(orm.DeclarativeBase):
    metadata = sa.MetaData(schema=SCHEMA)


class Ward(Base):
    __tablename__ = "ward"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True, autoincrement=False)
    name: orm.Mapped[str] = orm.mapped_column(sa.String(40))
    area: orm.Mapped[decimal.Decimal | None] = orm.mapped_column(sa.Numeric(10, 3))


readings = sa.Table(
    "reading", Base.metadata,
    sa.Column("id", sa.BigInteger, nullable=False),
    sa.Column("ward", sa.Integer),
    sa.Column("at", sa.DateTime(timezone=True)),
    sa.Column("shown", sa.DateTime),
    sa.Column("day", sa.Date),
    sa.Column("value", sa.Double),
    sa.Column("exact", sa.Numeric(20, 4)),
    sa.Column("good", sa.Boolean),
    sa.Column("raw", sa.LargeBinary),
    sa.Column("code", sa.Uuid),
    sa.Column("tags", sa.ARRAY(sa.Text)),
    sa.Column("more", sa.JSON),
    sa.Column("small", sa.SmallInteger),
    sa.Column("name", sa.Text),
)

ROW = {
    "id": 1, "ward": 3, "at": datetime.datetime(2026, 11, 1, 1, 30, tzinfo=datetime.timezone.utc),
    "shown": datetime.datetime(2026, 11, 1, 8, 30, 0, 250), "day": datetime.date(2026, 11, 1),
    "value": 0.1, "exact": decimal.Decimal("12345.6789"), "good": True, "raw": b"\x00\xff'\\",
    "code": uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), "tags": ["một", None, 'a "b"'],
    "more": {"k": [1, None, "ă"]}, "small": -5, "name": "Phú Hội's 100% :colon %(x)s",
}


def core(engine):
    with engine.begin() as connection:
        counting = {"preserve_rowcount": True}
        done = connection.execute(sa.insert(readings), [ROW], execution_options=counting)
        assert done.rowcount == 1, done.rowcount
    nothing = dict.fromkeys(ROW) | {"id": 2}
    with engine.begin() as connection:
        connection.execute(sa.insert(readings), [nothing | {"id": number} for number in range(2, 502)])
    with engine.connect() as connection:
        found = connection.execute(sa.select(readings).order_by(readings.c.id).limit(2)).mappings()
        first, second = found.all()
        assert dict(first) == ROW, dict(first)
        assert dict(second) == nothing, dict(second)
        count = sa.select(sa.func.count()).select_from(readings)
        assert connection.scalar(count) == 501
        assert connection.scalar(count.where(readings.c.id.in_([1, 2, 9999]))) == 2
        assert connection.scalar(count.where(readings.c.name.ilike("phú%"))) == 1
        assert connection.scalar(count.where(readings.c.at >= ROW["at"])) == 1
        assert connection.scalar(count.where(readings.c.code == ROW["code"])) == 1
        assert connection.scalar(count.where(readings.c.exact > decimal.Decimal("1.5"))) == 1
        assert connection.scalar(sa.text("SELECT :a || 'x'"), {"a": "y"}) == "yx"
    with engine.connect() as connection:
        streamed = connection.execution_options(stream_results=True, max_row_buffer=100)
        rows = streamed.execute(sa.select(readings.c.id).order_by(readings.c.id))
        assert [row.id for row in rows.yield_per(64)] == list(range(1, 502))
    with engine.begin() as connection:
        changed = sa.update(readings).where(readings.c.id == 2).values(name="đổi", value=1.5)
        assert connection.execute(changed).rowcount == 1
    with engine.begin() as connection:
        assert connection.execute(sa.delete(readings).where(readings.c.id > 400)).rowcount == 101


def mapped(engine):
    with orm.Session(engine) as session:
        session.add_all([Ward(id=1, name="Phú Hội", area=decimal.Decimal("1.500")),
                         Ward(id=2, name="Vỹ Dạ"), Ward(id=3, name="Thuận Hòa")])
        session.commit()
        ward = session.get(Ward, 1)
        assert (ward.name, ward.area) == ("Phú Hội", decimal.Decimal("1.500"))
        ward.name = "Phú Nhuận"
        session.commit()
        names = session.scalars(sa.select(Ward.name).order_by(Ward.id)).all()
        assert names == ["Phú Nhuận", "Vỹ Dạ", "Thuận Hòa"], names
        joined = sa.select(Ward.name, sa.func.count()).join(
            readings, readings.c.ward == Ward.id).group_by(Ward.name)
        assert session.execute(joined).all() == [("Thuận Hòa", 1)]
        session.add(Ward(id=9, name="undone"))
        session.flush()
        assert session.get(Ward, 9) is not None
        session.rollback()
        assert session.get(Ward, 9) is None
        session.delete(session.get(Ward, 2))
        session.commit()
        assert session.scalar(sa.select(sa.func.count()).select_from(Ward)) == 2


def reflected(engine):
    inspector = sa.inspect(engine)
    assert SCHEMA in inspector.get_schema_names()
    assert sorted(inspector.get_table_names(schema=SCHEMA)) == ["reading", "ward"]
    assert inspector.get_view_names(schema=SCHEMA) == ["names"]
    assert "ward" in inspector.get_view_definition("names", schema=SCHEMA)
    assert inspector.has_table("ward", schema=SCHEMA)
    assert not inspector.has_table("missing", schema=SCHEMA)
    assert inspector.get_pk_constraint("ward", schema=SCHEMA)["constrained_columns"] == ["id"]
    assert inspector.get_foreign_keys("ward", schema=SCHEMA) == []
    assert inspector.get_check_constraints("reading", schema=SCHEMA) == []
    inspector.get_indexes("ward", schema=SCHEMA)
    inspector.get_unique_constraints("ward", schema=SCHEMA)
    assert inspector.get_table_comment("ward", schema=SCHEMA)["text"] == "Các phường"
    metadata = sa.MetaData(schema=SCHEMA)
    metadata.reflect(engine, views=True)
    table = metadata.tables[f"{SCHEMA}.reading"]
    for column in readings.columns:
        found = table.columns[column.name]
        ours, theirs = (it.type.compile(engine.dialect) for it in (column, found))
        assert ours == theirs, (column.name, ours, theirs)
        assert found.nullable == column.nullable, column.name
    assert [c.name for c in metadata.tables[f"{SCHEMA}.ward"].primary_key] == ["id"]
    with engine.connect() as connection:
        assert connection.execute(sa.select(table.c.id).where(table.c.id == 1)).scalar() == 1


def failures(engine):
    for statement, expected in [
        ("SELECT * FROM city.missing", sa.exc.ProgrammingError),
        ("SELECT 1 / 0", sa.exc.DataError),
        ("INSERT INTO city.ward VALUES (1, 'twice', NULL)", sa.exc.IntegrityError),
        ("INSERT INTO city.ward VALUES (NULL, 'none', NULL)", sa.exc.IntegrityError),
    ]:
        with engine.connect() as connection:
            try:
                connection.execute(sa.text(statement))
                connection.commit()
            except expected:
                continue
            raise AssertionError(f"{statement} did not fail")


def main(driver):
    engine = sa.create_engine(url("admin", f"postgresql+{driver}"), pool_size=3, pool_pre_ping=True)
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE VIEW city.names AS SELECT name FROM city.ward"))
    with engine.begin() as connection:
        connection.execute(sa.text("COMMENT ON TABLE city.ward IS 'Các phường'"))
    Base.metadata.create_all(engine)  # finds that all of it is there
    core(engine)
    mapped(engine)
    reflected(engine)
    failures(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP VIEW city.names"))
    Base.metadata.drop_all(engine)
    assert sa.inspect(engine).get_table_names(schema=SCHEMA) == []
    engine.dispose()


if __name__ == "__main__":
    for name in sys.argv[1:] or ["psycopg", "psycopg2", "asyncpg"][:2]:
        main(name)
