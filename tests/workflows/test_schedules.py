"""Schedules on a real server: what they order, one at a time, and how they are kept."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import (
    ScheduleActionExecutionStartWorkflow,
    ScheduleActionStartWorkflow,
    ScheduleBackfill,
    ScheduleOverlapPolicy,
    WorkflowExecutionStatus,
)
from temporalio.exceptions import ApplicationError

from corral import wire
from corral.api import PlaceKind
from corral.client import Conflict, Corral, Invalid, NotFound
from corral.policy import Policy
from corral.rollout import RolloutOrder, RolloutState
from corral.schedule import MandateStatus, RecurringEvacuation, RecurringRollout, Revocation, ScheduleSpec
from corral.signing import HEADER, Signer, mandated, new_keys, read_claim
from corral.wire import Steering
from domain.calendar.cron import is_time_of
from tests.patience import PATIENCE_SECONDS
from tests.workflows.rollouts import BEN, Desk, until_told
from tests.workflows.stage import Stage, open_stage

POOL = "schedules"


def a_schedule(id: str, **more: Any) -> ScheduleSpec:
    said: dict[str, Any] = {"cron": "0 20 * * 1-5", "time_zone": "Europe/Berlin", "reason": "night", "who": "ada"}
    what = {"roll_out": RecurringRollout(policy=Policy(name="quiet"))}
    return ScheduleSpec(id=id, **(said | what | more))


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Until something is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            if await look():
                return
            await asyncio.sleep(0.1)


@dataclass
class Mandates:
    """What the record is asked about the mandates of schedules."""

    refuses: str = ""
    signed: list[ScheduleSpec] = field(default_factory=list)
    revoked: list[str | None] = field(default_factory=list)
    listed: list[MandateStatus] = field(default_factory=list)

    @activity.defn(name=wire.Inquiry.MANDATE)
    async def mandate(self, spec: ScheduleSpec) -> list[MandateStatus]:
        if self.refuses:
            raise ApplicationError(self.refuses, type=wire.Failure.INVALID, non_retryable=True)
        self.signed.append(spec)
        return []

    @activity.defn(name=wire.Inquiry.REVOKE_MANDATE)
    async def revoke(self, order: Revocation) -> list[MandateStatus]:
        self.revoked.append(order.schedule)
        return []

    @activity.defn(name=wire.Inquiry.MANDATES)
    async def mandates(self, limit: int) -> list[MandateStatus]:
        return self.listed[:limit]


@pytest.fixture
async def corral(stage: Stage) -> Corral:
    return Corral(stage.client, POOL)


@pytest.fixture
def mandates() -> Mandates:
    return Mandates()


@pytest.fixture(autouse=True)
async def desk(stage: Stage, mandates: Mandates) -> AsyncIterator[Desk]:
    """A record behind the workers of the pool."""
    desk = Desk(watched=60, looks=60)
    async with open_stage(stage.client, *desk.activities, mandates.mandate, mandates.revoke, mandates.mandates, name=POOL):
        yield desk


async def test_it_is_listed_with_its_next_time_until_it_is_removed(corral: Corral) -> None:
    spec = a_schedule("nightly")
    (created,) = await corral.schedule(spec)
    assert (created.id, created.subject, created.cron, created.who) == ("nightly", "roll out policy quiet", spec.cron, "ada")
    assert created.next_at is not None

    async def is_listed() -> bool:
        return [each.id for each in await corral.schedules()] == ["nightly"]

    await until(is_listed)
    assert (await corral.schedule(spec))[0].id == "nightly"
    with pytest.raises(Conflict, match="id: 'nightly' belongs to another schedule"):
        await corral.schedule(a_schedule("nightly", reason="another"))
    assert (await corral.unschedule("nightly"))[0].subject == created.subject
    with pytest.raises(NotFound, match="there is no schedule 'nightly'"):
        await corral.unschedule("nightly")


async def test_whoever_signs_presents_that_each_time_and_it_is_revoked_with_the_schedule(
    corral: Corral, mandates: Mandates, stage: Stage
) -> None:
    signing = Corral.signing(stage.client, Signer("ada", new_keys()[0]), POOL)
    spec = a_schedule("signed", until=datetime(2099, 1, 1, tzinfo=UTC))
    (created,) = await signing.schedule(spec)
    signed = spec.model_copy(update={"pool": POOL})
    assert mandates.signed == [signed]
    assert (created.until, created.mandate) == (spec.until, signed.mandate)
    known = await stage.client.get_schedule_handle(wire.schedule_id("signed")).describe()
    assert isinstance(known.schedule.action, ScheduleActionStartWorkflow)
    assert known.schedule.action.headers is not None
    assert read_claim(known.schedule.action.headers[HEADER]).command == mandated(signed)
    assert known.schedule.spec.end_at == spec.until
    assert known.schedule.policy.catchup_window == timedelta(days=1)
    await corral.unschedule("signed")
    assert mandates.revoked == ["signed"]


async def test_a_schedule_that_cannot_be_signed_is_not_kept(corral: Corral, mandates: Mandates) -> None:
    mandates.refuses = "until: say until when"
    with pytest.raises(Invalid, match="until: say until when"):
        await corral.schedule(a_schedule("unsigned"))
    with pytest.raises(NotFound, match="there is no schedule 'unsigned'"):
        await corral.unschedule("unsigned")
    with pytest.raises(Invalid, match="pool: 'other' is not the pool of this connection; expected 'schedules'"):
        await corral.schedule(a_schedule("elsewhere", pool="other"))


async def test_a_schedule_that_stays_though_it_cannot_be_signed_again_was_there_before(
    corral: Corral, mandates: Mandates
) -> None:
    await corral.schedule(a_schedule("kept"))
    mandates.refuses = "until: say until when"
    with pytest.raises(Invalid, match="until: say until when"):
        await corral.schedule(a_schedule("kept"))
    assert (await corral.unschedule("kept"))[0].id == "kept"


async def test_what_is_ordered_is_for_the_time_at_which_it_was_due(corral: Corral, desk: Desk, stage: Stage) -> None:
    await corral.schedule(a_schedule("late", cron="0 20 * * *", time_zone="UTC"))
    handle = stage.client.get_schedule_handle(wire.schedule_id("late"))
    day = datetime(2026, 6, 1, tzinfo=UTC)
    await handle.backfill(ScheduleBackfill(day, day + timedelta(days=1), ScheduleOverlapPolicy.SKIP))
    await asyncio.wait_for(desk.begun.wait(), PATIENCE_SECONDS)
    assert [order.id for order in desk.orders] == ["late-20260601-200000"]
    await corral.unschedule("late")


async def test_what_it_orders_can_be_ordered_out_of_turn(corral: Corral) -> None:
    await corral.schedule(a_schedule("by-hand"))
    order = await corral.order_now("by-hand", who="ben", reason="cannot wait")
    assert isinstance(order, RolloutOrder)
    assert re.fullmatch(r"by-hand-now-[0-9]{8}-[0-9]{6}", order.id)
    assert (order.who, order.reason, order.change.policy) == ("ben", "cannot wait", Policy(name="quiet"))
    await corral.unschedule("by-hand")
    with pytest.raises(NotFound, match="there is no schedule 'by-hand'"):
        await corral.order_now("by-hand", who="ben")


async def test_whoever_signs_gets_to_sign_only_what_was_signed_for_the_schedule(
    corral: Corral, mandates: Mandates, stage: Stage
) -> None:
    spec = a_schedule("vouched", until=datetime(2099, 1, 1, tzinfo=UTC), pool=POOL)
    signing = Corral.signing(stage.client, Signer("ada", new_keys()[0]), POOL)
    await signing.schedule(spec)
    for wrong in ([], [a_mandate(a_schedule("vouched", pool=POOL))], [a_mandate(spec, revoked_at=datetime.now(UTC))]):
        mandates.listed = wrong
        with pytest.raises(Conflict, match="vouched: no mandate that is in force says what Temporal has as this schedule"):
            await signing.order_now("vouched", who="ada")
    mandates.listed = [a_mandate(spec)]
    assert (await signing.order_now("vouched", who="ada")).reason == "night"
    with pytest.raises(NotFound, match="there is no schedule 'vouched'"):
        await Corral(stage.client, "another").order_now("vouched", who="ada")
    await corral.unschedule("vouched")


def a_mandate(spec: ScheduleSpec, **more: Any) -> MandateStatus:
    signed = {"principal": "ada", "signed_at": datetime.now(UTC), "until": datetime(2099, 1, 1, tzinfo=UTC)}
    return MandateStatus(id=spec.mandate, schedule=spec.id, subject=spec.subject, **(signed | more))


@pytest.mark.parametrize(
    "cron", ["0 20 * * 1-5", "5/20 3 * 2,7 *", "@weekly", "@every 8h", "@every 1h30m/20m", "@every 3d/25h"]
)
async def test_temporal_orders_it_at_the_times_that_mandates_are_for(corral: Corral, stage: Stage, cron: str) -> None:
    await corral.schedule(a_schedule("timely", cron=cron))
    known = await stage.client.get_schedule_handle(wire.schedule_id("timely")).describe()
    assert len(known.info.next_action_times) > 1
    assert all(is_time_of(cron, "Europe/Berlin", due_at) for due_at in known.info.next_action_times)
    await corral.unschedule("timely")


async def test_a_schedule_whose_time_never_comes_is_told_and_not_kept(corral: Corral, mandates: Mandates) -> None:
    with pytest.raises(Invalid, match=r"cron: no time of '0 20 31 2 \*' ever comes in Europe/Berlin; expected"):
        await corral.schedule(a_schedule("never", cron="0 20 31 2 *"))
    with pytest.raises(Invalid, match=r"ever comes in Europe/Berlin before 2020-01-01T00:00:00\+00:00, its end"):
        await corral.schedule(a_schedule("over", until=datetime(2020, 1, 1, tzinfo=UTC)))
    assert not mandates.signed
    for id in ("never", "over"):
        with pytest.raises(NotFound):
            await corral.unschedule(id)


async def test_times_that_temporal_does_not_take_are_told(corral: Corral) -> None:
    with pytest.raises(Invalid, match=r"^cron: "):
        await corral.schedule(a_schedule("never", cron="at dusk"))
    with pytest.raises(Invalid, match=r"^time_zone: "):
        await corral.schedule(a_schedule("nowhere", time_zone="Mars/Olympus"))


async def test_each_time_an_operation_of_its_own_is_ordered_and_none_while_the_last_is_under_way(
    corral: Corral, desk: Desk, stage: Stage
) -> None:
    await corral.schedule(a_schedule("twice"))
    handle = stage.client.get_schedule_handle(wire.schedule_id("twice"))
    await handle.trigger(overlap=ScheduleOverlapPolicy.SKIP)
    await asyncio.wait_for(desk.begun.wait(), PATIENCE_SECONDS)
    await handle.trigger(overlap=ScheduleOverlapPolicy.SKIP)

    async def is_skipped() -> bool:
        return (await handle.describe()).info.num_actions_skipped_overlap > 0

    await until(is_skipped)
    (order,) = desk.orders
    assert (order.id.startswith("twice-"), order.token, order.change.subject) == (True, None, "policy quiet")
    rollout: Any = stage.client.get_workflow_handle(wire.rollout_workflow_id(order.id))
    await until_told(rollout, RolloutState.WATCHING)
    await rollout.execute_update(Steering.ABORT, BEN)
    assert desk.status is not None
    assert desk.status.state is RolloutState.ABORTED

    async def is_idle() -> bool:
        return not (await handle.describe()).info.running_actions

    await until(is_idle)
    (ended,) = await corral.unschedule("twice")
    assert ended.last_at is not None
    assert (ended.ordered, ended.left_out, ended.missed) == (1, 1, 0)
    assert (await rollout.describe()).status is WorkflowExecutionStatus.COMPLETED


async def test_an_operation_that_fails_ends_its_time_with_what_was_the_matter_and_the_schedule_goes_on(
    corral: Corral, desk: Desk, stage: Stage
) -> None:
    desk.troubles = [ApplicationError("there is no such queue", non_retryable=True)] * 2
    await corral.schedule(a_schedule("broken"))
    handle = stage.client.get_schedule_handle(wire.schedule_id("broken"))
    for times in (1, 2):
        await handle.trigger()

        async def has_begun(times: int = times) -> bool:
            return len((await handle.describe()).info.recent_actions) == times

        await until(has_begun)
        action = (await handle.describe()).info.recent_actions[-1].action
        assert isinstance(action, ScheduleActionExecutionStartWorkflow)
        said = await stage.client.get_workflow_handle(action.workflow_id, result_type=str).result()
        assert said.startswith("broken-")
        assert said.endswith(" failed: there is no such queue")
    await corral.unschedule("broken")


def test_what_is_emptied_again_and_again_has_an_id_of_its_own_each_time() -> None:
    place = RecurringEvacuation(kind=PlaceKind.CLUSTER, place="sim/eu/eu-1", at_once=3)
    order = a_schedule("patches", roll_out=None, evacuate=place).order("patches-20300601-120000")
    assert (order.id, order.who, order.reason) == ("patches-20300601-120000", "ada", "night")
    assert order.model_dump(include={"kind", "place", "at_once"}) == {"kind": "cluster", "place": "sim/eu/eu-1", "at_once": 3}


def test_a_schedule_does_one_thing() -> None:
    place = RecurringEvacuation(kind=PlaceKind.CLUSTER, place="sim/eu/eu-1")
    for wrong in ({"evacuate": place}, {"roll_out": None}):
        with pytest.raises(ValueError, match="expected either evacuate or roll_out"):
            a_schedule("both", **wrong)
