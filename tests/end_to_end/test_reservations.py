"""A reservation in a pool at work: lent before, taken back in time though the worker is killed, used, and given back."""

import os
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from corral.api import Checkpoint, Reason, ReplicaGroup, State, Target, WorkloadSpec
from corral.client import Conflict, Invalid, NotFound
from corral.reservation import Lending, Purpose, ReservationSpec, ReservationState
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import QUEUES, LivePool, eventually, oversubscribed, running_pool
from tests.servers import PostgresServer

SLOWLY = 20
AFTER_A_KILL = 1_200
"""A minute of the wall's: longer than it takes to start another worker on a machine with much to do."""
LONG_ENOUGH = 20_000
"""No window that is cancelled is over before, whatever else the machine has to do."""
FOR_EVER = 1e6


@pytest.fixture(scope="module")
async def pool(postgres: PostgresServer, temporal: str) -> AsyncIterator[LivePool]:
    """A pool whose worker may be killed."""
    async with running_pool(postgres, temporal, "reserved", speed=SLOWLY) as pool:
        await pool.start_worker()
        pool.remember_launches()
        await pool.corral.apply_queues(QUEUES)
        yield pool


def a_reservation(pool: LivePool, id: str, opens_in: float, **fields: object) -> ReservationSpec:
    start = pool.settings.clock().now() + timedelta(seconds=opens_in)
    return ReservationSpec.model_validate({"id": id, "start": start, "seconds": LONG_ENOUGH, **fields})


def on_l4(id: str, **more: Any) -> WorkloadSpec:
    given: dict[str, Any] = {
        "targets": (Target(skus=("l4",)),),
        "groups": (ReplicaGroup(accelerators=4),),
        "parameters": behaving(FOR_EVER),
    }
    return a_workload(id, **(given | more))


async def until_open(pool: LivePool, id: str) -> None:
    async def look() -> bool:
        return (await pool.corral.reservation(id)).state is ReservationState.OPEN

    await eventually(look, f"{id} is open")


async def test_what_is_lent_is_back_when_the_window_opens_and_is_lent_again_when_it_is_over(pool: LivePool) -> None:
    await pool.corral.submit(on_l4("lent-to", checkpoint=Checkpoint(grace_seconds=20)))
    await pool.until("lent-to", State.RUNNING)
    spec = a_reservation(pool, "evening", AFTER_A_KILL, accelerators=4, sku="l4", workloads=("evening-work",), seconds=800)
    assert (await pool.corral.reserve(spec)).state is ReservationState.PLANNED
    assert (await pool.corral.reserve(spec)).state is ReservationState.PLANNED, "twice is once"
    with pytest.raises(Conflict, match="id: 'evening' belongs to another reservation"):
        await pool.corral.reserve(spec.model_copy(update={"seconds": 500}))

    async def is_kept() -> bool:
        return bool((await pool.corral.reservation("evening")).kept)

    await eventually(is_kept, "a node is kept for it")
    assert (await pool.corral.status("lent-to")).state is State.RUNNING, "it is lent until it is needed"
    killed = pool.supervisor.pid("worker")
    os.kill(killed, signal.SIGKILL)
    await pool.supervisor.until_ready("worker", after=killed)

    await until_open(pool, "evening")
    evening = await pool.corral.reservation("evening")
    assert (evening.missing, evening.misses) == (0, ())
    told = await pool.corral.explain("lent-to")
    assert told is not None
    assert told.reason is Reason.KEPT_FOR_OTHERS
    assert "reservation evening from" in told.message
    assert await pool.audit() == []

    await pool.corral.submit(on_l4("evening-work", parameters=behaving(60)))
    await pool.until("evening-work", State.SUCCEEDED)
    assert (await pool.corral.status("lent-to")).state is State.WAITING, "the window is still open"
    await pool.until("lent-to", State.RUNNING)
    assert (await pool.corral.reservation("evening")).state is ReservationState.ENDED
    first, second = await pool.attempts("lent-to")
    assert (first["outcome"], second["outcome"]) == ("stopped", None)
    assert first["ended_at"] <= evening.opens_at
    assert second["held_at"] >= evening.closes_at
    assert await pool.audit() == []
    assert await oversubscribed(pool) == []
    await pool.corral.cancel("lent-to")


async def test_what_is_idle_in_an_open_window_is_lent_and_given_back_to_who_comes_for_it(pool: LivePool) -> None:
    given = {"accelerators": 4, "sku": "l4", "workloads": ("came-for-it",), "lent": Lending.UNTIL_WANTED}
    await pool.corral.reserve(a_reservation(pool, "on-loan", 0, **given))
    await until_open(pool, "on-loan")
    await pool.corral.submit(on_l4("a-guest", checkpoint=Checkpoint(grace_seconds=20)))
    await pool.until("a-guest", State.RUNNING)
    told = await pool.corral.explain("a-guest")
    assert told is not None
    assert told.reason is Reason.ON_LOAN
    await pool.corral.submit(on_l4("came-for-it", parameters=behaving(60)))
    await pool.until("came-for-it", State.SUCCEEDED)
    await pool.until("a-guest", State.RUNNING)
    first, second = await pool.attempts("a-guest")
    (own,) = await pool.attempts("came-for-it")
    assert (first["outcome"], second["outcome"]) == ("stopped", None)
    assert first["reason"].startswith("LoanEnds")
    assert first["ended_at"] <= own["bound_at"]
    assert second["held_at"] >= own["ended_at"]

    async def is_counted() -> bool:
        return (await pool.corral.reservation("on-loan")).lent_accelerator_seconds > 0

    await eventually(is_counted, "what is lent is counted")
    assert await pool.audit() == []
    await pool.corral.cancel("a-guest")
    await pool.corral.cancel_reservation("on-loan")


async def test_what_cannot_be_kept_is_a_miss_that_says_why(pool: LivePool) -> None:
    stays = on_l4("stays-put", preemptible=False, groups=(ReplicaGroup(accelerators=1),))
    await pool.corral.submit(stays)
    await pool.until("stays-put", State.RUNNING)
    await pool.corral.reserve(a_reservation(pool, "missed", 20, accelerators=4, sku="l4", queues=("tools",)))
    await until_open(pool, "missed")
    (miss,) = (await pool.corral.reservation("missed")).misses
    assert miss.missing == 4
    assert "may not be stopped" in miss.cause
    await pool.corral.cancel("stays-put")

    async def is_mended() -> bool:
        (miss,) = (await pool.corral.reservation("missed")).misses
        return miss.made_good_at is not None

    await eventually(is_mended, "what was missing has come")
    before = (await pool.corral.reservation("missed")).closes_at
    extended = await pool.corral.extend_reservation("missed", 600)
    assert extended.closes_at is not None
    assert before is not None
    assert extended.closes_at - before == timedelta(seconds=600)
    assert (await pool.corral.cancel_reservation("missed")).state is ReservationState.CANCELLED
    with pytest.raises(NotFound, match="no reservation 'missed' that is not over"):
        await pool.corral.extend_reservation("missed", 600)
    assert await pool.audit() == []


async def test_maintenance_empties_a_node_for_its_window(pool: LivePool) -> None:
    (node,) = [node.id for node in await pool.corral.nodes() if node.sku == "l4"]
    await pool.corral.submit(on_l4("evacuated", preemptible=False))
    await pool.until("evacuated", State.RUNNING)
    await pool.corral.reserve(a_reservation(pool, "upkeep", 400, purpose=Purpose.MAINTENANCE, nodes=(node,)))
    await until_open(pool, "upkeep")
    assert (await pool.corral.reservation("upkeep")).misses == ()
    (used,) = [each.used for each in await pool.corral.nodes() if each.id == node]
    assert used == 0
    await pool.corral.cancel_reservation("upkeep")
    await pool.until("evacuated", State.RUNNING)
    await pool.corral.cancel("evacuated")


async def test_a_reservation_whose_workflow_was_terminated_goes_on(pool: LivePool) -> None:
    await pool.corral.reserve(a_reservation(pool, "orphaned", 100, accelerators=4, sku="l4", queues=("tools",)))
    await pool.temporal.get_workflow_handle("reservation/orphaned").terminate("an operator did this")
    await until_open(pool, "orphaned")
    assert (await pool.corral.cancel_reservation("orphaned")).state is ReservationState.CANCELLED


async def test_one_whose_workflow_was_terminated_can_be_cancelled(pool: LivePool) -> None:
    await pool.corral.reserve(a_reservation(pool, "unwanted", 100_000, accelerators=4, sku="l4", queues=("tools",)))
    await pool.temporal.get_workflow_handle("reservation/unwanted").terminate("an operator did this")
    answer = await pool.corral.cancel_reservation("unwanted", "a test")
    assert answer.state is ReservationState.CANCELLED


async def test_what_makes_no_sense_is_refused_in_words_and_its_id_is_free(pool: LivePool) -> None:
    given = {"accelerators": 4, "sku": "l4", "queues": ("tools",)}
    spec = a_reservation(pool, "odd", 100_000, time_zone="Mars/Olympus", **given)
    with pytest.raises(Invalid, match="time_zone: 'Mars/Olympus' is not known"):
        await pool.corral.reserve(spec)
    with pytest.raises(Invalid, match="queues: 'tolls' is no queue"):
        await pool.corral.reserve(spec.model_copy(update={"time_zone": "UTC", "queues": ("tolls",)}))
    right = spec.model_copy(update={"time_zone": "Europe/Berlin"})
    assert (await pool.corral.reserve(right)).state is ReservationState.PLANNED
    assert (await pool.corral.cancel_reservation("odd", "a test")).state is ReservationState.CANCELLED
    with pytest.raises(NotFound, match="no reservation 'nobody'"):
        await pool.corral.reservation("nobody")
