"""The worker dies right after each step of changes, reservations, evacuations and growth, and each step is done once.

The stories are told at the same time: at each death all of them have just come to a step, and nobody has heard of any.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from corral.api import (
    Acknowledgement,
    Autoscale,
    Checkpoint,
    DeliveryState,
    Demand,
    EvacuationOrder,
    EvacuationStatus,
    OperationChange,
    PlaceKind,
    QuotaSpec,
    ReplicaGroup,
    Resize,
    Retarget,
    State,
    Target,
)
from corral.client import Corral
from corral.policy import Growth
from corral.reservation import ReservationAnswer, ReservationSpec, ReservationState
from corral.wire import Steering
from tests.end_to_end.faulty_worker import died_after, dying_after
from tests.end_to_end.leaving import FOR_EVER, ends, is_in_order, until_state, whole_node
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import QUEUES, WITHOUT_PROMISES, LivePool, deaths_are_ordered, eventually, running_pool
from tests.patience import PATIENCE_SECONDS
from tests.servers import PostgresServer

KEY = "asked-once"
LONG_GRACE = 80_000
"""Thirteen minutes of the wall's: what has to leave is there until the test is over."""

CHANGES: Mapping[str, Callable[[Corral, str], Awaitable[Acknowledgement]]] = {
    "hold": lambda corral, id: corral.hold(id, key=KEY),
    "release": lambda corral, id: corral.release(id, key=KEY),
    "resize": lambda corral, id: corral.resize(id, Resize(count=2), key=KEY),
    "reprioritize": lambda corral, id: corral.reprioritize(id, 7, key=KEY),
    "retarget": lambda corral, id: corral.retarget(id, Retarget(targets=(Target(skus=("a100", "t4")),)), key=KEY),
    "extend": lambda corral, id: corral.extend(id, 600, key=KEY),
    "demand": lambda corral, id: corral.demand(id, Demand(value=20), key=KEY),
    "cancel": lambda corral, id: corral.cancel(id, key=KEY),
}
"""Each change of work that waits; that it is saved is a step of preemption."""

DEATHS = (
    (*(f"asked-{verb}" for verb in CHANGES), "reserved", "evacuate-cordon", "planned-ask"),
    ("opened", "evacuate-tell", "provision"),
    ("extended", "evacuate-note", "taken"),
    ("given-up", "evacuation-pause", "planned-give-back"),
    ("closed", "evacuation-resume", "deprovision"),
    ("asked-expire", "evacuation-abort", "given-back"),
    ("refused",),
)
"""The steps that come together, death by death."""

ALSO = OperationChange(who="ben", reason="a test asks for it")
LATE = 300_000
RULES = Growth(
    dollars_per_hour=1.0,
    up_window_seconds=5,
    down_window_seconds=60,
    give_up_seconds=LATE,
    back_off_seconds=LATE,
    longest_back_off_seconds=LATE,
)
"""Of the fleet's growth; nothing that comes late for a worker's death is given up, and nothing that failed tried again."""


@dataclass
class Told:
    """What the stories came to, beside what is in the record."""

    pool: LivePool
    changed: dict[str, Acknowledgement] = field(default_factory=dict)
    longer: list[ReservationAnswer] = field(default_factory=list)
    emptied: EvacuationStatus | None = None


@pytest.fixture(scope="module")
async def told(postgres: PostgresServer, temporal: str) -> AsyncIterator[Told]:
    """A pool in which the worker has died after each step of all stories."""
    with deaths_are_ordered():
        async with running_pool(postgres, temporal, "stepwise", also={"growth_seconds": 0.5}) as pool:
            await pool.start_worker(*dying_after(*("+".join(steps) for steps in DEATHS)))
            pool.remember_launches()
            cells = next(queue for queue in QUEUES.queues if queue.name == "cells")
            more = tuple(QuotaSpec(sku=sku, nominal=100) for sku in ("gh200", "gb300"))
            closed = next(queue for queue in QUEUES.queues if queue.name == "closed")
            wider = cells.model_copy(update={"quotas": (*cells.quotas, *more)})
            await pool.corral.apply_queues(QUEUES.model_copy(update={"queues": (wider, closed)}))
            await pool.corral.apply_policy(WITHOUT_PROMISES.model_copy(update={"growth": RULES}))
            told = Told(pool)
            async with asyncio.TaskGroup() as stories:
                for story in (work_is_changed, a_window_is_kept, another_window_closes, a_node_is_emptied, the_fleet_grows):
                    stories.create_task(story(told))
            yield told


async def work_is_changed(told: Told) -> None:
    """Work that waits takes each of the changes, all of them at once; other work runs for longer than it may."""
    async with asyncio.TaskGroup() as changes:
        for verb in CHANGES:
            changes.create_task(one_is_changed(told, verb))
    await died_after(told.pool, "closed")
    limited = a_workload("runs-asked-expire", parameters=behaving(FOR_EVER), maximum_runtime_seconds=50)
    await told.pool.corral.submit(limited)
    await until_state(told.pool, limited.id, State.FAILED)


async def one_is_changed(told: Told, verb: str) -> None:
    pool, workload = told.pool, f"waits-asked-{verb}"
    endpoint = {"autoscale": Autoscale(target=10, most=3), "groups": (ReplicaGroup(minimum=1),)}
    more: dict[str, Any] = endpoint if verb == "demand" else {}
    await pool.corral.submit(a_workload(workload, queue="closed", maximum_runtime_seconds=60, **more))
    await until_state(pool, workload, State.WAITING)
    if verb == "release":
        await pool.corral.hold(workload, key="before")
    told.changed[verb] = await CHANGES[verb](pool.corral, workload)


def a_window(pool: LivePool, id: str, opens_in: int, seconds: int) -> ReservationSpec:
    """A whole node that nobody else wants."""
    start = pool.settings.clock().now() + timedelta(seconds=opens_in)
    given = {"id": id, "start": start, "seconds": seconds, "sku": "t4", "accelerators": 2, "queues": ("cells",)}
    return ReservationSpec.model_validate(given)


async def a_window_is_kept(told: Told) -> None:
    """A window opens, ends later than it had to, and is given up.

    It is written down when the first death is over: the round in which it opens answers nobody, and work that others change
    until then may need an answer of that round.
    """
    pool, corral = told.pool, told.pool.corral
    await died_after(pool, "reserved")
    spec = a_window(pool, "stepwise-kept", 1, 80_000)
    await corral.reserve(spec)
    await died_after(pool, "opened")
    told.longer.append(await corral.extend_reservation(spec.id, 600, key=KEY))
    told.longer.append(await corral.extend_reservation(spec.id, 600, key=KEY))
    await corral.cancel_reservation(spec.id, key=KEY)


async def another_window_closes(told: Told) -> None:
    """A window that is written down long before it opens, however slow the worker is, comes to its end."""
    spec = a_window(told.pool, "stepwise-short", 6_000, 200)
    await told.pool.corral.reserve(spec)
    await died_after(told.pool, "closed")


async def a_node_is_emptied(told: Told) -> None:
    """A node whose work does not leave is being emptied; that is paused, goes on, and is aborted."""
    pool = told.pool
    stubborn: dict[str, Any] = {"parameters": behaving(FOR_EVER, ignore_notice="true")}
    stubborn |= {"checkpoint": Checkpoint(grace_seconds=LONG_GRACE)}
    await pool.corral.submit(whole_node("stepwise-stays", "v100", **stubborn))
    await until_state(pool, "stepwise-stays", State.RUNNING)
    node = await pool.value("SELECT node_id FROM allocations WHERE attempt_id = 'stepwise-stays.1'")
    order = EvacuationOrder(
        id="stepwise-emptied", kind=PlaceKind.NODE, place=node, reason="new firmware", who="ada", deadline_seconds=LONG_GRACE
    )
    await pool.corral.evacuate(order)
    await died_after(pool, "evacuate-note")
    for verb in (Steering.PAUSE, Steering.RESUME, Steering.ABORT):
        await pool.corral.steer_operation(order.id, verb, ALSO, key=KEY)
    told.emptied = await pool.corral.evacuated(order.id)


async def the_fleet_grows(told: Told) -> None:
    """Nodes are ordered for a gang and given back after it; and ordered for work for which there are none."""
    pool = told.pool
    gang = (ReplicaGroup(count=2, accelerators=4),)
    await pool.corral.submit(whole_node("stepwise-gang", "gh200", groups=gang, parameters=behaving(FOR_EVER)))
    await died_after(pool, "taken")
    await until_state(pool, "stepwise-gang", State.RUNNING)
    await pool.corral.cancel("stepwise-gang", key=KEY)
    await died_after(pool, "given-back")
    await pool.corral.submit(whole_node("stepwise-in-vain", "gb300", parameters=behaving(10)))
    await died_after(pool, "refused")
    await pool.corral.cancel("stepwise-in-vain", key=KEY)


@pytest.mark.parametrize("verb", CHANGES)
async def test_a_change_is_done_once_and_answered_twice(told: Told, verb: str) -> None:
    workload = f"waits-asked-{verb}"
    assert await CHANGES[verb](told.pool.corral, workload) == told.changed[verb]
    done = await told.pool.rows("SELECT key FROM operations WHERE about = $1", f"{workload}:{verb}")
    assert [row["key"] for row in done] == [f"{workload}:{verb}:{verb}/{KEY}"]


async def test_work_whose_time_is_over_is_stopped_once(told: Told) -> None:
    (attempt,) = await told.pool.attempts("runs-asked-expire")
    assert (attempt["outcome"], attempt["notice"]) == ("out-of-time", 1)


async def test_a_window_is_extended_once_and_given_up(told: Told) -> None:
    first, second = told.longer
    assert first == second
    (window,) = await told.pool.rows("SELECT * FROM reservations WHERE id = 'stepwise-kept'")
    assert (window["state"], window["windows"]) == (ReservationState.CANCELLED, 1)
    assert window["closes_at"] == window["opens_at"] + timedelta(seconds=80_600) == first.closes_at


async def test_a_window_that_is_over_keeps_nothing(told: Told) -> None:
    (window,) = await told.pool.rows("SELECT state, windows FROM reservations WHERE id = 'stepwise-short'")
    assert (window["state"], window["windows"]) == (ReservationState.ENDED, 1)

    async def is_free() -> bool:
        return not any(node.kept_for for node in await told.pool.corral.nodes())

    await eventually(is_free, "nothing is kept any more")


async def test_a_node_is_given_back_and_notice_given_once(told: Told) -> None:
    status = told.emptied
    assert status is not None
    assert ([note.state for note in status.trail], status.told) == (["moving", "paused", "moving", "aborted"], 1)
    (node,) = [each for each in await told.pool.corral.nodes() if each.id == status.order.place]
    assert node.health == "ready"
    (attempt,) = await told.pool.attempts("stepwise-stays")
    assert attempt["notice"] == 1


async def test_nodes_are_ordered_once_and_all_given_back(told: Told) -> None:
    burst, scarce = (f"{told.pool.simulator}/{name}-1" for name in ("burst", "scarce"))
    with closing(sqlite3.connect(told.pool.directory / f"{told.pool.simulator}.sqlite", timeout=PATIENCE_SECONDS)) as file:
        ordered = [subject for (subject,) in file.execute("SELECT subject FROM change WHERE kind = 'ordered'")]
    assert ordered == [burst]
    orders = {order.id: order for order in await told.pool.corral.provisionings()}
    assert {id: order.state for id, order in orders.items()} == {burst: DeliveryState.ARRIVED, scarce: DeliveryState.FAILED}
    assert orders[burst].arrived == 2
    assert not any(node.sku == "gh200" for node in await told.pool.corral.nodes())


async def test_in_the_end_all_is_in_order(told: Told) -> None:
    await is_in_order(told.pool)
    await ends(told.pool, "stepwise-stays", 1)
