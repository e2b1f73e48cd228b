"""Migrations: from nothing to exactly the tables that the code knows, and back."""

import json
from collections.abc import Callable

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import create_async_engine

from activities.store import migrations, tables
from tests.activities.store.pool import Pool, a_spec, a_view

FUNCTIONS = text("SELECT proname FROM pg_proc WHERE proname LIKE 'corral_%' ORDER BY proname")


async def test_an_empty_database_gets_exactly_the_tables_that_the_code_knows(database_url: str) -> None:
    await migrations.upgrade(database_url)
    assert await _on(database_url, _differences) == []


async def test_migrating_twice_is_harmless(database_url: str) -> None:
    await migrations.upgrade(database_url)
    pool = Pool.at(database_url)
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    before = await pool.dump()
    await migrations.upgrade(database_url)
    assert await pool.dump() == before
    await pool.engine.dispose()


async def test_going_back_to_nothing_and_forth_again_works(database_url: str) -> None:
    await migrations.upgrade(database_url)
    await _on(database_url, lambda connection: command.downgrade(migrations.configuration(connection), "base"))
    assert await _on(database_url, _names) == ({"alembic_version"}, [])
    await migrations.upgrade(database_url)
    known = {"alembic_version", *tables.metadata.tables}
    functions = ["count_claim", "count_edit", "count_remnant", "count_removal", "mark_change", "sum", "sum_up"]
    assert await _on(database_url, _names) == (known, [f"corral_{name}" for name in functions])
    assert await _on(database_url, _differences) == []


async def test_what_runs_is_counted_the_same_after_migrating_with_it(database_url: str) -> None:
    await migrations.upgrade(database_url)
    pool = Pool.at(database_url)
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.arrive(a_spec("runs"), a_spec("done", gpus=4))
    await pool.runs("runs", "done")
    await pool.ends("done")
    before = await pool.dump(without={"ledger"})
    await pool.engine.dispose()
    await _on(database_url, lambda connection: command.downgrade(migrations.configuration(connection), "0003"))
    await migrations.upgrade(database_url)
    again = Pool.at(database_url)
    assert await again.findings() == {}
    for table in ("attempts", "allocations", "nodes"):
        after = (await again.dump())[table]
        assert sorted(map(_fields, after)) == sorted(map(_fields, before[table]))
    await again.ends("runs")
    assert await again.findings() == {}
    await again.engine.dispose()


def _fields(row: str) -> str:
    """A row whatever the order of its columns; without what migrating changes.

    That is its price, which nobody knew before a migration added it, and which transaction changed the row last.
    """
    fields = json.loads(row)
    fields.pop("cost_by_sku", None)
    fields.pop("changed", None)
    return json.dumps(fields, sort_keys=True)


def _differences(connection: Connection) -> list[object]:
    """What alembic would change, checks aside, which it does not compare."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    differences: list[object] = list(compare_metadata(context, tables.metadata))
    inspector = inspect(connection)
    for table in tables.metadata.tables.values():
        there = {check["name"] for check in inspector.get_check_constraints(table.name)}
        wanted = {constraint.name for constraint in table.constraints if constraint.name and "ck_" in str(constraint.name)}
        differences += [] if there == wanted else [(table.name, there ^ wanted)]
    return differences


def _names(connection: Connection) -> tuple[set[str], list[str]]:
    return set(inspect(connection).get_table_names()), list(connection.scalars(FUNCTIONS))


async def _on(url: str, work: Callable[[Connection], object]) -> object:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        answer = await connection.run_sync(work)
    await engine.dispose()
    return answer
