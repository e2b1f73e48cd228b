"""Submitting twice is submitting once."""

import asyncio

import pytest

from corral.api import State
from corral.client import Conflict
from tests.end_to_end.loads import a_workload
from tests.end_to_end.pools import LivePool


async def test_the_same_spec_is_the_same_workload_also_when_it_has_ended(pool: LivePool) -> None:
    spec = a_workload("again")
    assert (await pool.corral.submit(spec)).created
    assert not (await pool.corral.submit(spec)).created
    await pool.corral.wait("again")
    assert not (await pool.corral.submit(spec)).created
    assert len(await pool.attempts("again")) == 1


async def test_another_spec_under_the_same_id_is_a_conflict_also_when_it_has_ended(pool: LivePool) -> None:
    await pool.corral.submit(a_workload("taken"))
    with pytest.raises(Conflict, match="'taken' belongs to a workload with another spec"):
        await pool.corral.submit(a_workload("taken", priority=5))
    await pool.corral.wait("taken")
    with pytest.raises(Conflict, match="another spec"):
        await pool.corral.submit(a_workload("taken", priority=5))
    assert (await pool.corral.status("taken")).priority == 0


async def test_fifty_at_once_are_one(pool: LivePool) -> None:
    spec = a_workload("popular")
    answers = await asyncio.gather(*(pool.corral.submit(spec) for _ in range(50)))
    assert [answer.created for answer in answers].count(True) == 1
    assert (await pool.corral.wait("popular")).state is State.SUCCEEDED
    assert len(await pool.attempts("popular")) == 1
    runs = [run async for run in pool.temporal.list_workflows('WorkflowId = "workload/popular"')]
    assert len(runs) <= 1  # what is listed may lag behind, but never shows what is not there
