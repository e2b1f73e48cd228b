"""Roles on a live pool: what a principal signs passes the worker's own guard into the record, or is refused there."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.client import ScheduleActionExecutionStartWorkflow

from corral.api import EvacuationOrder, EvacuationState, OperationChange, PlaceKind, State
from corral.client import Conflict, Corral, Forbidden, Invalid, NotFound
from corral.rollout import RolloutOrder
from corral.schedule import RecurringRollout, Revocation, ScheduleSpec
from corral.signing import Signer, new_keys
from corral.wire import Steering, schedule_id
from tests.end_to_end.asking import PatientCorral
from tests.end_to_end.loads import a_workload, behaving
from tests.end_to_end.pools import QUEUES, LivePool, eventually, running_pool
from tests.servers import PostgresServer

GRANTS = {
    "ada": "{role: submit, queues: [cells]}",
    "ben": "{role: own, queues: [cells]}",
    "ops": "{role: operate}",
    "chief": "{role: operate}",
}
SEEN = OperationChange(who="chief", reason="seen")


@dataclass(frozen=True)
class Ruled:
    """A pool that has principals, and the client of each."""

    pool: LivePool
    clients: Mapping[str, Corral]


@pytest.fixture(scope="module")
async def ruled(postgres: PostgresServer, temporal: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ruled]:
    """A worker as `python -m worker serve` makes it, with a file of principals."""
    keys = {who: new_keys() for who in GRANTS}
    file = tmp_path_factory.mktemp("roles") / "principals.yaml"
    file.write_text(principals({who: public for who, (_, public) in keys.items()}))
    async with running_pool(postgres, temporal, "ruled", {"principals_file": Path(file)}) as pool:
        await pool.start_worker()
        clients = {
            who: PatientCorral.signing(pool.temporal, Signer(who, private), "ruled") for who, (private, _) in keys.items()
        }
        await clients["ops"].apply_queues(QUEUES)
        all_seen = "SELECT count(*) > 0 AND bool_and(seen_at IS NOT NULL) FROM providers"
        await eventually(lambda: pool.value(all_seen), "all providers are seen")
        yield Ruled(pool, clients)


def principals(keys: dict[str, str]) -> str:
    lines = [f'  - {{name: {who}, key: "{key}", grants: [{GRANTS[who]}]}}' for who, key in keys.items()]
    return "\n".join(["principals:", *lines])


async def test_work_is_submitted_and_changed_by_those_who_may(ruled: Ruled) -> None:
    pool, ada, ben = ruled.pool, ruled.clients["ada"], ruled.clients["ben"]
    await ada.submit(a_workload("ruled-runs", parameters=behaving(1e6)))
    await pool.until("ruled-runs", State.RUNNING)
    with pytest.raises(Forbidden, match="'ada' may not do this to workload/ruled-runs: it needs the role 'own' on queue cells"):
        await ada.reprioritize("ruled-runs", 5)
    await ben.reprioritize("ruled-runs", 5)
    with pytest.raises(Forbidden, match="it is not signed"):
        await pool.corral.cancel("ruled-runs")
    await ada.cancel("ruled-runs")
    await pool.until("ruled-runs", State.CANCELLED)
    rows = await pool.rows("SELECT principal, command FROM signed_orders WHERE subject = 'workload/ruled-runs' ORDER BY id")
    assert [tuple(row) for row in rows] == [("ada", "submit"), ("ben", "reprioritize"), ("ada", "cancel")]


async def test_work_for_a_queue_of_others_ends_refused(ruled: Ruled) -> None:
    ada = ruled.clients["ada"]
    await ada.submit(a_workload("ruled-out", queue="research", targets=({"skus": ("h100",)},)))
    result = await ada.wait("ruled-out")
    assert result.state is State.REFUSED
    assert "on queue research" in result.message
    assert await ruled.pool.rows("SELECT id FROM workloads WHERE id = 'ruled-out'") == []


async def test_what_changes_the_pool_is_for_who_operates(ruled: Ruled) -> None:
    with pytest.raises(Forbidden, match="'ben' may not do this to pool"):
        await ruled.clients["ben"].apply_queues(QUEUES)
    with pytest.raises(Forbidden, match="it is not signed"):
        await ruled.pool.corral.apply_queues(QUEUES)
    await ruled.clients["ops"].apply_queues(QUEUES)


async def test_an_operation_is_approved_by_another_principal_and_not_by_another_name(ruled: Ruled) -> None:
    ops, chief = ruled.clients["ops"], ruled.clients["chief"]
    place = f"{ruled.pool.simulator}/east"
    await ops.evacuate(EvacuationOrder(id="ruled-storm", kind=PlaceKind.REGION, place=place, reason="storm", who="ops"))

    async def awaits_approval() -> bool:
        known = await ops.operations()
        return any(each.id == "ruled-storm" and each.state == EvacuationState.AWAITING for each in known)

    await eventually(awaits_approval, "the evacuation awaits approval")
    with pytest.raises(Conflict, match="approve: ops has ordered it"):
        await ops.steer_operation("ruled-storm", Steering.APPROVE, SEEN)
    with pytest.raises(Forbidden, match="'ben' may not do this to evacuation/ruled-storm"):
        await ruled.clients["ben"].steer_operation("ruled-storm", Steering.REJECT, SEEN)
    status = await chief.steer_operation("ruled-storm", Steering.APPROVE, SEEN)
    assert [note.state for note in status.trail][:2] == [EvacuationState.AWAITING, EvacuationState.MOVING]


async def test_what_a_signed_schedule_orders_is_done_until_its_mandate_is_revoked(ruled: Ruled) -> None:
    pool, ops, chief = ruled.pool, ruled.clients["ops"], ruled.clients["chief"]
    with pytest.raises(Invalid, match="until: what is signed for a schedule ends some time"):
        await ops.schedule(each_second(until=None))
    spec = each_second(until=datetime.now(UTC).replace(microsecond=0) + timedelta(days=1))
    with pytest.raises(Forbidden, match="'ben' may not do this to schedule/ruled-quota"):
        await ruled.clients["ben"].schedule(spec)
    with pytest.raises(Forbidden, match="it is not signed"):
        await pool.corral.schedule(spec)
    with pytest.raises(NotFound):
        await ops.unschedule("ruled-quota")
    (created,) = await ops.schedule(spec)
    assert created.mandate is not None

    async def is_ordered() -> bool:
        return any(each.id.startswith("ruled-quota-") and each.state == "done" for each in await ops.operations())

    await eventually(is_ordered, "an operation was ordered at a time of the schedule")
    rows = await pool.rows("SELECT principal, command, mandate, due_at FROM signed_orders WHERE mandate IS NOT NULL")
    assert {(row[0], row[1], row[2]) for row in rows} == {("ops", "roll-out", created.mandate)}
    assert len({row[3] for row in rows}) == len(rows), "once for each time"
    await is_ordered_out_of_turn(ruled)
    await chief.revoke(Revocation(mandate=created.mandate, who="chief", reason="enough"))
    await eventually(lambda: is_refused_by_now(ruled, "it was revoked at"), "the next time is refused")
    await chief.unschedule("ruled-quota")
    (mandate,) = await ops.mandates()
    assert (mandate.principal, mandate.revoked_by, mandate.revoked_because) == ("ops", "chief", "enough")


async def is_ordered_out_of_turn(ruled: Ruled) -> None:
    """Whoever operates orders what the schedule does in their own name; nobody else may."""
    order = await ruled.clients["chief"].order_now("ruled-quota", who="chief")
    assert isinstance(order, RolloutOrder)
    with pytest.raises(Forbidden, match="'ben' may not do this to rollout/ruled-quota-now-"):
        await begun_and_ended(ruled.clients["ben"], order.model_copy(update={"id": "ruled-quota-now-by-ben"}))
    await begun_and_ended(ruled.clients["chief"], order)
    query = "SELECT principal, mandate FROM signed_orders WHERE subject = $1"
    (row,) = await ruled.pool.rows(query, f"rollout/{order.id}")
    assert tuple(row) == ("chief", None)


async def begun_and_ended(corral: Corral, order: RolloutOrder) -> None:
    await corral.roll_out(order)
    await corral.rolled_out(order.id)


def each_second(until: datetime | None) -> ScheduleSpec:
    """The queues as they are, put in force again and again."""
    again = RecurringRollout(queues=QUEUES, watch_seconds=0)
    return ScheduleSpec(id="ruled-quota", cron="* * * * * * *", until=until, reason="quota", who="ops", roll_out=again)


async def is_refused_by_now(ruled: Ruled, problem: str) -> bool:
    """Whether what the schedule has started last has ended with that problem."""
    known = await ruled.pool.temporal.get_schedule_handle(schedule_id("ruled-quota")).describe()
    action = known.info.recent_actions[-1].action
    assert isinstance(action, ScheduleActionExecutionStartWorkflow)
    return problem in await ruled.pool.temporal.get_workflow_handle(action.workflow_id, result_type=str).result()
