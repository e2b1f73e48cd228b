"""Keeping: what is not over has a workflow, whoever has ended that; and a worker outlives the servers' absence."""

import logging
from typing import Any, cast

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.worker import Worker

from activities.store.migrations import Unusable
from activities.store.postgres import PostgresStore
from corral import wire
from corral.api import EvacuationOrder, OperationChange, PlaceKind
from corral.policy import Policy
from corral.reservation import ReservationSpec
from corral.rollout import Change, RolloutOrder
from corral.wire import Steering
from tests.activities.store.pool import POOL, Pool, a_spec, a_view, noon
from tests.ports import free_port
from tests.workflows.stage import RUNNER, connected
from worker import keeping
from worker.keeping import Keeper
from worker.settings import Settings, embedded_database_url

SINGLETONS = [wire.rounds_workflow_id(POOL), wire.growth_workflow_id(POOL)]
ENOUGH = OperationChange(who="ben", reason="not needed any more")


class Starts:
    """The part of a Temporal client that starts workflows, and remembers which."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def start_workflow(self, *_: object, id: str, **__: Any) -> None:
        self.ids.append(id)


def a_keeper(starts: Starts, store: PostgresStore) -> Keeper:
    return Keeper(cast(Client, starts), POOL, store, ())


def an_evacuation(id: str) -> EvacuationOrder:
    return EvacuationOrder(id=id, kind=PlaceKind.NODE, place="aws/n1", reason="storm", who="ada", at_once=1)


def a_reservation(id: str) -> ReservationSpec:
    return ReservationSpec(id=id, start=noon(3600), seconds=60, accelerators=1, sku="h100", queues=("research",))


async def has_ordered(pool: Pool) -> None:
    """An evacuation of a node on which work runs, and a roll-out: two of each, of which one is over."""
    await pool.gets(a_view())
    await pool.arrive(a_spec("training"))
    await pool.runs("training")
    await pool.store.record_policy("at first")
    for id in ("over", "storm"):
        await pool.store.evacuate(an_evacuation(id))
        change = Change(policy=Policy(name=id))
        order = RolloutOrder(id=f"{id}-roll-out", change=change, reason="better", who="ada", watch_seconds=600)
        await pool.store.begin_rollout(order)
    await pool.store.steer_evacuation("over", Steering.ABORT, ENOUGH, "enough")
    await pool.store.steer_rollout("over-roll-out", Steering.ABORT, ENOUGH, "enough")


async def test_operations_that_are_not_over_have_a_workflow(pool: Pool) -> None:
    await has_ordered(pool)
    starts = Starts()
    await a_keeper(starts, pool.store).look()
    under_way = [wire.evacuation_workflow_id("storm"), wire.rollout_workflow_id("storm-roll-out")]
    assert starts.ids == [*SINGLETONS, *under_way]


@workflow.defn(name=wire.EVACUATION)
class Ends:
    """An evacuation that has come to its end."""

    @workflow.run
    async def run(self, _: Any) -> None:
        """End at once."""


async def test_an_operation_whose_end_a_restored_record_does_not_know_goes_on(pool: Pool, temporal: str) -> None:
    await has_ordered(pool)
    client, id = await connected(temporal), wire.evacuation_workflow_id("storm")
    async with Worker(client, task_queue="ends", workflows=[Ends], workflow_runner=RUNNER):
        await client.execute_workflow(wire.EVACUATION, an_evacuation("storm"), id=id, task_queue="ends")
    await Keeper(client, POOL, pool.store, ()).look()
    assert (await client.get_workflow_handle(id).describe()).status is WorkflowExecutionStatus.RUNNING
    for begun in (*SINGLETONS, id, wire.rollout_workflow_id("storm-roll-out")):
        await client.get_workflow_handle(begun).terminate()


async def test_of_many_reservations_some_are_looked_at_each_time(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "RESERVATIONS_AT_ONCE", 2)
    await pool.gets(a_view())
    for id in ("a", "b", "c", "over"):
        await pool.store.reserve(a_reservation(id))
    await pool.store.cancel_reservation("over")
    starts = Starts()
    keeper = a_keeper(starts, pool.store)
    for _ in range(3):
        await keeper.look()
    assert [id for id in starts.ids if id not in SINGLETONS] == [wire.reservation_workflow_id(id) for id in "abcab"]


async def test_a_worker_stops_when_the_record_does_not_take_it_any_more(pool: Pool) -> None:
    keeper = a_keeper(Starts(), pool.store)
    await pool.sql("UPDATE alembic_version SET version_num = '9999'")
    await keeper.look()
    await pool.sql("UPDATE compatibility SET version = '9999'")
    with pytest.raises(Unusable, match="takes workers of version 9999 or newer"):
        await keeper.look()


async def test_a_worker_outlives_a_database_that_is_away(caplog: pytest.LogCaptureFixture) -> None:
    settings, starts = Settings(), Starts()
    store = PostgresStore.connect(embedded_database_url(free_port(), "nobody"), settings.clock(), POOL)
    with caplog.at_level(logging.WARNING):
        await a_keeper(starts, store).look()
    await store.aclose()
    assert starts.ids == SINGLETONS
    assert "could not make sure" in caplog.text
