"""Victims that do not stop, and providers that do not answer: nobody waits for ever, nothing runs twice, and people see why.

In each pool the simulated provider has one fault, and the worker dies right after it has written down that a step took too
long. What happens in the pools is told at the same time: nearly all of it is waiting.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from corral.api import Reason, State
from domain.pool.lifecycle import SUSPECT
from tests.end_to_end.faulty_worker import died_after, dying_after
from tests.end_to_end.leaving import (
    a_victim,
    an_urgent,
    is_in_order,
    page_with,
    says,
    until_simulated,
    until_state,
    whole_node,
)
from tests.end_to_end.loads import behaving
from tests.end_to_end.pools import QUEUES, LivePool, deaths_are_ordered, eventually, running_pool
from tests.servers import PostgresServer

SPEED = 40
"""How much faster than the wall's the time runs."""
STOP_SECONDS = 800
"""Twenty of the wall's: longer than it takes to start another worker, so that no step is too slow for that reason."""
GRACE = 20
BRIEFLY_BESIDE = 3_000
"""For so long there is work on the other node, until after it is clear that the first one does not come free."""


@asynccontextmanager
async def a_pool(postgres: PostgresServer, temporal: str, fault: str, step: str) -> AsyncIterator[LivePool]:
    """A pool whose simulated provider has this fault with all attempts, and whose worker dies after this step."""
    chosen: dict[str, Any] = {"speed": SPEED, "faults": f", {fault}: 1", "stop_seconds": STOP_SECONDS}
    async with running_pool(postgres, temporal, fault, **chosen) as pool:
        await pool.start_worker(*dying_after(step))
        pool.remember_launches()
        await pool.corral.apply_queues(QUEUES)
        yield pool


async def health(pool: LivePool, node: str) -> tuple[str, str]:
    (found,) = [each for each in await pool.corral.nodes() if each.id == node]
    return found.health, found.reason


async def node_of(pool: LivePool, attempt: str) -> str:
    node: str = await pool.value("SELECT node_id FROM allocations WHERE attempt_id = $1", attempt)
    return node


async def ran(pool: LivePool, workload: str) -> list[tuple[str, str | None, bool]]:
    """The attempts of a workload: on which node, how each ended, and whether it was ever sent to the provider."""
    return [
        (await node_of(pool, row["id"]), row["outcome"], row["bound_at"] is not None) for row in await pool.attempts(workload)
    ]


async def a_stubborn_victim(postgres: PostgresServer, temporal: str) -> None:
    async with a_pool(postgres, temporal, "stubborn", "forced") as pool:
        await pool.corral.submit(a_victim("victim-forced", grace=GRACE))
        await until_state(pool, "victim-forced", State.RUNNING)
        await pool.corral.submit(an_urgent("urgent-stubborn"))
        await died_after(pool, "forced")
        await until_state(pool, "urgent-stubborn", State.SUCCEEDED)
        (first, *_) = await pool.attempts("victim-forced")
        assert (first["outcome"], first["reason"]) == ("preempted", "released")
        assert (first["ended_at"] - first["stop_at"]).total_seconds() >= GRACE + STOP_SECONDS, "no grace was cut short"
        given_up = [step for step in SUSPECT if await says(pool, "victim-forced", step)]
        assert len(await pool.attempts("urgent-stubborn")) == 1 + len(given_up), "another one only where a worker came too late"
        await is_in_order(pool)


async def two_nodes_taken(pool: LivePool, fault: str) -> None:
    """A victim runs on one of two nodes, on the other work that ends by itself; and one more comes."""
    victim, beside = f"victim-{fault}", f"beside-{fault}"
    brief = behaving(BRIEFLY_BESIDE)
    await pool.corral.submit(whole_node(beside, "v100", preemptible=False, parameters=brief))
    await pool.corral.submit(a_victim(victim, "v100", grace=GRACE, runtime_seconds=6_000))
    for id in (beside, victim):
        await until_state(pool, id, State.RUNNING)
    await pool.corral.submit(an_urgent(f"urgent-{fault}", "v100"))


async def a_victim_that_is_stuck(postgres: PostgresServer, temporal: str) -> None:
    async with a_pool(postgres, temporal, "stuck", "stuck") as pool:
        await two_nodes_taken(pool, "stuck")
        node = await node_of(pool, "victim-stuck.1")
        await died_after(pool, "stuck")
        await until_state(pool, "urgent-stuck", State.WAITING)

        why = await pool.corral.explain("victim-stuck")
        assert why is not None
        assert why.reason is Reason.DOES_NOT_STOP
        assert why.message.startswith("it was stopped by force and is still there")
        kind, reason = await health(pool, node)
        assert kind == "suspect"
        assert reason.startswith("attempt victim-stuck.1 does not leave: it was stopped by force")
        page = await eventually(lambda: page_with(pool, "victim-stuck", "on its way out: stuck"), "the page says so")
        assert "DoesNotStop: it was stopped by force" in page

        await until_state(pool, "urgent-stuck", State.SUCCEEDED)
        first, second = await ran(pool, "urgent-stuck")
        assert first == (node, "expired", False)
        assert (second[1:], second[0] != node) == (("finished", True), True)
        assert (await pool.simulated_now())["victim-stuck.1"] == "stopping", "it is still there all the while"
        await is_in_order(pool)

        await until_state(pool, "victim-stuck", State.SUCCEEDED)
        assert await health(pool, node) == ("ready", "")
        await is_in_order(pool)


async def a_provider_that_is_silent(postgres: PostgresServer, temporal: str) -> None:
    async with a_pool(postgres, temporal, "silent", "silent") as pool:
        await two_nodes_taken(pool, "silent")
        node = await node_of(pool, "victim-silent.1")
        await died_after(pool, "silent")

        await eventually(lambda: is_kept(pool, "victim-silent"), "the victim's notice is taken back")
        assert (await health(pool, node))[0] == "suspect"
        await until_state(pool, "urgent-silent", State.SUCCEEDED)
        first, second = await ran(pool, "urgent-silent")
        assert first == (node, "expired", False)
        assert (second[1:], second[0] != node) == (("finished", True), True)
        await until_simulated(pool, "victim-silent.1", "running")
        await is_in_order(pool)

        await until_state(pool, "victim-silent", State.SUCCEEDED)
        assert len(await pool.attempts("victim-silent")) == 1
        assert await health(pool, node) == ("ready", "")
        await is_in_order(pool)


async def is_kept(pool: LivePool, workload: str) -> bool:
    return bool(await pool.rows("SELECT 1 FROM events WHERE workload_id = $1 AND message LIKE '%is taken back%'", workload))


STORIES: Mapping[str, Callable[[PostgresServer, str], Coroutine[Any, Any, None]]] = {
    "stubborn": a_stubborn_victim,
    "stuck": a_victim_that_is_stuck,
    "silent": a_provider_that_is_silent,
}


@pytest.fixture(scope="module")
async def told(postgres: PostgresServer, temporal: str) -> AsyncIterator[Mapping[str, asyncio.Task[None]]]:
    """All stories, each of which has begun."""
    with deaths_are_ordered():
        told = {fault: asyncio.create_task(story(postgres, temporal)) for fault, story in STORIES.items()}
        yield told
        for story in told.values():
            story.cancel()
        await asyncio.gather(*told.values(), return_exceptions=True)


async def test_a_stubborn_victim_is_stopped_by_force_and_its_beneficiary_runs(told: Mapping[str, asyncio.Task[None]]) -> None:
    await told["stubborn"]


async def test_whoever_waited_for_a_victim_that_is_stuck_runs_elsewhere(told: Mapping[str, asyncio.Task[None]]) -> None:
    await told["stuck"]


async def test_whoever_waited_for_a_provider_that_is_silent_runs_elsewhere_and_the_victim_on(
    told: Mapping[str, asyncio.Task[None]],
) -> None:
    await told["silent"]
