"""Which workers can use the record: those of its version, those of older ones that it still takes, and nobody else."""

import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from activities.ports import Delivery
from activities.store import migrations
from activities.store.migrations import Unusable, newest, oldest_worker
from corral.api import EvacuationState, OperationKind, Outcome, Reason, SlaTier, State, StopPolicy
from corral.reservation import MissKind, ReservationState
from corral.rollout import RolloutState
from domain.pool.leases import Reach
from domain.pool.lifecycle import Leave
from domain.quota.accounting import IntervalKind
from tests.activities.store.pool import Pool

WORDS = json.loads((Path(__file__).parent / "words.json").read_text())
IN_THE_RECORD: tuple[type[StrEnum], ...] = (
    *(State, Outcome, Leave, Reason, IntervalKind, SlaTier, StopPolicy, Reach, Delivery),
    *(OperationKind, EvacuationState, RolloutState, ReservationState, MissKind),
)


@pytest.mark.parametrize("kind", IN_THE_RECORD, ids=lambda kind: kind.__name__)
def test_no_word_comes_into_the_record_without_a_version_that_says_who_can_read_it(kind: type[StrEnum]) -> None:
    assert WORDS[kind.__name__] == sorted(kind), "older workers cannot read it: docs/changing-workflows.md says what to do"
    assert oldest_worker() >= WORDS["since"], "the version that comes with the newest words has to say so"


def test_the_newest_version_is_the_one_that_migrations_lead_to() -> None:
    assert newest() == ScriptDirectory.from_config(migrations.configuration()).get_current_head()


def test_the_oldest_worker_that_can_is_no_newer_than_the_code() -> None:
    assert oldest_worker() <= newest()


async def test_a_database_without_tables_or_with_older_ones_is_to_be_migrated(database_url: str) -> None:
    pool = Pool.at(database_url)
    with pytest.raises(Unusable, match=f"has no tables of Corral, and this worker needs version {newest()}; bring it there"):
        await pool.store.require_usable()
    await migrations.upgrade(database_url)
    await _on(database_url, lambda connection: command.downgrade(migrations.configuration(connection), "0026"))
    with pytest.raises(Unusable, match="is of version 0026, and this worker needs"):
        await pool.store.require_usable()
    await pool.engine.dispose()


async def test_a_newer_record_is_used_as_long_as_it_takes_older_workers(database_url: str) -> None:
    await migrations.upgrade(database_url)
    pool = Pool.at(database_url)
    await pool.store.require_usable()
    await pool.sql("UPDATE alembic_version SET version_num = '9999'")
    await pool.store.require_usable()
    await pool.sql("UPDATE compatibility SET version = '9998'")
    with pytest.raises(Unusable, match=f"takes workers of version 9998 or newer, and this one is of {newest()}; start"):
        await pool.store.require_usable()
    await pool.engine.dispose()


async def test_older_code_does_not_migrate_a_newer_record(database_url: str) -> None:
    await migrations.upgrade(database_url)
    await _on(database_url, lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(Unusable, match=f"is of version 9999 already, and this code of {newest()}: nothing was changed"):
        await migrations.upgrade(database_url)


async def _on(url: str, work: Callable[[Connection], object]) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(work)
    await engine.dispose()
