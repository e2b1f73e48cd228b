"""A worker that has run for long remembers nothing of the work that has come and gone."""

import gc
from collections.abc import Iterator
from datetime import timedelta
from types import FunctionType, ModuleType

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.testing import ActivityEnvironment

from activities.advice import Advisor
from activities.ports import Beat, Phase
from corral.api import ReplicaGroup, Target, WorkloadTerms
from domain.quota.headroom import CONTROL_WINDOW
from tests.activities.fakes import Crew, FakeProvider, FakeWorkloads
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view

ROOM, MANY = 8, 12

PASSED_OVER = type | ModuleType | FunctionType | AsyncEngine | FakeProvider | FakeWorkloads
"""The program itself, what the test made up, and the statements of SQL, of which each is known with its first values."""


@pytest.fixture
async def crew(pool: Pool) -> Crew:
    """One node of eight devices."""
    await pool.gets(a_view(gpus=ROOM))
    crew = Crew(pool)
    crew.provider.nodes = [a_view(gpus=ROOM)]
    return crew


async def compares(crew: Crew) -> None:
    """The provider's whole state is compared with the record."""
    crew.provider.events = [Beat(crew.pool.clock.now())]
    await ActivityEnvironment().run(crew.inventory.watch, PROVIDER, 30.0)


def everything_in(root: object) -> Iterator[object]:
    """Whatever an object holds, directly or not."""
    seen, found = {id(root)}, [root]
    while found:
        each = found.pop()
        yield each
        for held in gc.get_referents(each):
            if id(held) not in seen and not isinstance(held, PASSED_OVER):
                seen.add(id(held))
                found.append(held)


def names(part: str, *roots: object) -> set[str]:
    return {each[:200] for root in roots for each in everything_in(root) if isinstance(each, str) and part in each}


def all_terms() -> list[WorkloadTerms]:
    """What anybody asks for who is in the memory of this process."""
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, WorkloadTerms)]


@pytest.mark.parametrize("targets", [(), (Target(skus=("h100",)), Target(skus=("a100",), after_seconds=60))])
async def test_of_work_that_has_ended(crew: Crew, targets: tuple[Target, ...]) -> None:
    pool, advisor = crew.pool, Advisor(crew.pool.store)
    memories = (pool.store, advisor, crew.inventory)
    from_before = all_terms()
    await pool.store.round([a_spec("lasting", gpus=1)], advisor.decide, "admission")
    await crew.placement.bind(await pool.key("lasting"))
    for number in range(MANY):
        spec, behind = (a_spec(f"{name}-{number}", gpus=ROOM - 1, targets=targets) for name in ("has-run", "has-waited"))
        await pool.store.round([spec], advisor.decide, "admission")
        await crew.placement.bind(await pool.key(spec.id))
        await pool.store.round([behind], advisor.decide, "admission")
        pool.clock.move(30)
        await pool.store.round([], advisor.decide, "planner")
        await crew.observer.note(crew.provider.becomes(f"{spec.id}.1", Phase.SUCCEEDED), PROVIDER)
        await pool.adjusts("cancel", behind.id)
    assert names("has-run", *memories)
    pool.clock.move((CONTROL_WINDOW + timedelta(seconds=1)).total_seconds())
    for _ in range(2):
        await compares(crew)
        await pool.store.round([], advisor.decide, "planner")
    assert names("lasting", *memories)
    assert names("has-waited", *memories) == set()
    assert names("has-run", *memories) == set()
    groups = [each for root in memories for each in everything_in(root) if isinstance(each, ReplicaGroup)]
    assert len(groups) < MANY
    assert len(all_terms()) - len(from_before) < MANY


async def test_of_an_attempt_that_is_said_to_run_after_its_end(crew: Crew) -> None:
    for id in ("early", "late"):
        await crew.pool.arrive(a_spec(id, gpus=1))
        await crew.placement.bind(await crew.pool.key(id))
    runs = crew.provider.attempts["early.1"]
    await crew.observer.note(crew.provider.becomes("early.1", Phase.SUCCEEDED), PROVIDER)
    await crew.observer.note(runs, PROVIDER)
    assert crew.observer.known_at(PROVIDER) == {"early.1", "late.1"}
    await compares(crew)
    assert crew.observer.known_at(PROVIDER) == {"late.1"}
