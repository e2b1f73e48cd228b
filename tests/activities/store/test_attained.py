"""What work has run for, as rounds read it from the record, and what people are told of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from activities.ports import Phase
from corral.api import EvacuationOrder, Fallen, PlaceKind, State, WorkloadFilter
from corral.policy import AttainedStep
from domain.remembered.attained import counted
from tests.activities.store.pool import PROVIDER, Pool, a_spec, a_view
from tests.activities.store.test_reshapes import train_shrinks
from tests.builders import NOON, UNPROMISED

HOUR = 3_600
STEPS = (AttainedStep(after_seconds=HOUR, lowers_priority_by=10), AttainedStep(after_seconds=2 * HOUR, lowers_priority_by=100))


@pytest.fixture
async def falling(pool: Pool) -> Pool:
    """A node on which `long` runs, which has fallen after an hour, and again after two."""
    rank = pool.policy.rank.model_copy(update={"attained_service": STEPS})
    pool.policy = UNPROMISED.model_copy(update={"rank": rank})
    pool.store = pool.another_store()
    await pool.gets(a_view())
    await pool.arrive(a_spec("long"))
    await pool.runs("long")
    return pool


async def fallen(pool: Pool, workload: str) -> Fallen | None:
    status = await pool.store.status(workload)
    assert status is not None
    assert status.priority == 0
    return status.fallen


async def test_who_has_run_for_long_gives_way_in_the_next_round_though_nothing_else_happened(falling: Pool) -> None:
    falling.clock.move(HOUR - 1)
    await falling.arrive(a_spec("next"))
    assert await falling.plan() == {}
    falling.clock.move(1)
    assert await falling.store.has_work()
    told = await falling.plan()
    assert (told["long"].state, told["next"].state) == (State.STOPPING, State.RESERVING)


async def test_who_gave_way_has_run_for_as_long_when_it_is_back_in_line(falling: Pool) -> None:
    falling.clock.move(HOUR)
    await falling.arrive(a_spec("next"))
    await falling.ends("long", Phase.CANCELLED)
    await falling.runs("next")
    (waiting,) = (await falling.snapshot()).waiting
    assert (waiting.id, waiting.ran_seconds, waiting.spec.priority) == ("long", HOUR, 0)
    falling.clock.move(HOUR)
    await falling.plan()
    assert await falling.states("next", "long") == [State.RUNNING, State.WAITING], "it has fallen as far by now, and no further"
    assert await fallen(falling, "long") == Fallen(counts_as=-10, after_seconds=HOUR)


async def test_who_has_fallen_stands_in_line_behind_who_has_not(falling: Pool) -> None:
    falling.clock.move(HOUR)
    await falling.arrive(a_spec("next"))
    await falling.ends("long", Phase.CANCELLED)
    await falling.runs("next")
    await falling.arrive(a_spec("third", priority=-5))
    await falling.plan()
    positions = {
        each.id: each.explanation and each.explanation.position for each in await falling.store.workloads(WorkloadFilter())
    }
    assert positions == {"next": None, "third": 1, "long": 2}


async def test_all_attempts_count_and_people_are_told_since_when(falling: Pool) -> None:
    falling.clock.move(HOUR + 5)
    assert await fallen(falling, "long") == Fallen(counts_as=-10, after_seconds=HOUR, since=NOON + timedelta(hours=1))
    await falling.arrive(a_spec("next"))
    await falling.ends("long", Phase.CANCELLED)
    await falling.runs("next")
    await falling.ends("next")
    await falling.plan()
    await falling.runs("long")
    falling.clock.move(HOUR - 5)
    (active,) = (await falling.snapshot()).active
    assert (active.ran_seconds, active.fallen) == (HOUR + 5, 0)
    (counts,) = counted(await falling.snapshot(), falling.clock.now()).active
    assert (counts.spec.priority, counts.fallen) == (-110, 110)
    (listed,) = await falling.store.workloads(WorkloadFilter(active_only=True))
    assert listed.fallen == Fallen(counts_as=-110, after_seconds=2 * HOUR, since=falling.clock.now())


async def test_both_attempts_of_work_that_goes_on_in_another_shape_have_run_for_as_long(pool: Pool) -> None:
    await train_shrinks(pool)  # after 100 seconds
    pool.clock.move(HOUR - 100)
    snapshot = await pool.snapshot()
    rank = snapshot.policy.rank.model_copy(update={"attained_service": STEPS})
    with_steps = replace(snapshot, policy=snapshot.policy.model_copy(update={"rank": rank}))
    counts = {each.attempt_id: each.fallen for each in counted(with_steps, pool.clock.now()).active}
    assert counts == {"train.1": 10, "train.2": 10, "owner.1": 0}
    await pool.ends("train", Phase.CANCELLED)
    await pool.runs("train")
    counts = {each.attempt_id: each.ran_seconds for each in (await pool.snapshot()).active}
    assert counts == {"train.2": HOUR, "owner.1": 0}


async def test_a_place_is_left_first_by_who_has_fallen(falling: Pool) -> None:
    await falling.gets(a_view("n1"), a_view("n2"))
    falling.clock.move(HOUR)
    await falling.arrive(a_spec("new", priority=-1))
    await falling.runs("new")
    order = EvacuationOrder(id="e", kind=PlaceKind.CLUSTER, place=f"{PROVIDER}/eu/eu-1", reason="test", who="me", at_once=1)
    await falling.store.evacuate(order)
    assert await falling.states("long", "new") == [State.STOPPING, State.RUNNING]
