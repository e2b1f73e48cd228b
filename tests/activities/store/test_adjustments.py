"""Changes that people ask for: in which state each is done, and that it is done once."""

from collections.abc import Mapping
from typing import Any

import pytest

from activities.answers import Adjustment
from activities.ports import NotAllowed, NotFound, Phase
from activities.store.adjustments import REMEMBERED
from corral.api import Autoscale, CapacityType, Outcome, SlaTier, State, Target
from domain.pool.lifecycle import ALLOWED, LIVE
from tests.activities.store.pool import Pool, a_spec, a_view

STORED = [state for state in State if state is not State.SUBMITTED]
"""No workload is in the record before it has been decided about."""

AFTER: Mapping[tuple[str, State], State] = {
    ("cancel", State.WAITING): State.CANCELLED,
    ("cancel", State.SUSPENDED): State.CANCELLED,
    ("cancel", State.RESERVING): State.CANCELLED,
    ("cancel", State.RESERVED): State.CANCELLED,
    ("cancel", State.STARTING): State.STOPPING,
    ("cancel", State.RUNNING): State.STOPPING,
    ("cancel", State.RESIZING): State.STOPPING,
    ("cancel", State.STOPPING): State.STOPPING,
    ("hold", State.WAITING): State.SUSPENDED,
    ("hold", State.RESERVING): State.SUSPENDED,
    ("hold", State.RESERVED): State.SUSPENDED,
    ("hold", State.STARTING): State.STOPPING,
    ("hold", State.RUNNING): State.STOPPING,
    ("hold", State.RESIZING): State.STOPPING,
    ("hold", State.STOPPING): State.STOPPING,
    ("release", State.SUSPENDED): State.WAITING,
    ("resize", State.WAITING): State.WAITING,
    ("resize", State.SUSPENDED): State.SUSPENDED,
    ("resize", State.RESERVING): State.WAITING,
    ("resize", State.RESERVED): State.WAITING,
    ("resize", State.RUNNING): State.RUNNING,
    ("resize", State.RESIZING): State.RESIZING,
    ("retarget", State.WAITING): State.WAITING,
    ("retarget", State.SUSPENDED): State.SUSPENDED,
    ("retarget", State.RESERVING): State.WAITING,
    ("retarget", State.RESERVED): State.WAITING,
    ("retarget", State.STARTING): State.STOPPING,
    ("retarget", State.RUNNING): State.STOPPING,
    ("retarget", State.RESIZING): State.STOPPING,
    ("checkpointed", State.RUNNING): State.RUNNING,
    ("checkpointed", State.RESIZING): State.RESIZING,
    ("checkpointed", State.STOPPING): State.STOPPING,
    ("expire", State.STARTING): State.STOPPING,
    ("expire", State.RUNNING): State.STOPPING,
    ("expire", State.RESIZING): State.STOPPING,
    ("expire", State.STOPPING): State.STOPPING,
    **{("reprioritize", state): state for state in LIVE},
    **{("extend", state): state for state in LIVE},
    **{("demand", state): state for state in LIVE - {State.SUBMITTED}},
    **{("miss-demand", state): state for state in LIVE - {State.SUBMITTED}},
}

ELSEWHERE = (Target(regions=("us",)),)
ASKED: Mapping[str, dict[str, Any]] = {
    "resize": {"count": 2},
    "reprioritize": {"priority": 7},
    "demand": {"demand": 30.0},
    "miss-demand": {"reason": "no answer"},
    "retarget": {"targets": ELSEWHERE, "move": True},
    "extend": {"seconds": 60},
}
SPECS: Mapping[str, dict[str, Any]] = {
    "demand": {"minimum": 1, "autoscale": Autoscale(target=10, most=4)},
    "miss-demand": {"minimum": 1, "autoscale": Autoscale(target=10, most=4)},
    "extend": {"maximum_runtime_seconds": 3600},
    "resize": {"minimum": 1, "autoscale": Autoscale(target=10, most=4)},
}


async def brought_to(pool: Pool, state: State, **fields: Any) -> None:
    """A workload `w` in that state."""
    await pool.gets(a_view())
    if state is State.RESIZING:
        fields |= {"gpus": 1, "minimum": 1, "autoscale": Autoscale(target=10, most=4)}
    if state is State.REFUSED:
        await pool.arrive(a_spec("w", queue="nobodys", **fields))
    elif state is State.RESERVING:
        await pool.arrive(a_spec("victim"))
        await pool.runs("victim")
        await pool.arrive(a_spec("w", tier=SlaTier.PREMIUM, **fields))
    elif state in {State.WAITING, State.SUSPENDED, State.CANCELLED}:
        await pool.orders("cordon", "n1")
        await pool.arrive(a_spec("w", **fields))
    else:
        await pool.arrive(a_spec("w", **fields))
    match state:
        case State.SUSPENDED:
            await pool.adjusts("hold", "w", "before")
        case State.CANCELLED:
            await pool.adjusts("cancel", "w", "before")
        case State.STARTING:
            await pool.binds("w")
        case State.RUNNING | State.RESIZING | State.SUCCEEDED | State.FAILED | State.STOPPING:
            await pool.runs("w")
    match state:
        case State.SUCCEEDED | State.FAILED:
            await pool.ends("w", Phase(state.value))
        case State.RESIZING:
            await pool.adjusts("resize", "w", "before", count=3)
            await pool.plan()
        case State.STOPPING:
            await pool.orders("drain", "n1")
            await pool.store.keep_house()
    assert await pool.state("w") is state


@pytest.mark.parametrize("verb", ALLOWED)
@pytest.mark.parametrize("state", STORED)
async def test_a_change_is_done_once_in_the_states_that_allow_it_and_never_in_others(
    pool: Pool, verb: str, state: State
) -> None:
    await brought_to(pool, state, **SPECS.get(verb, {}))
    before = await pool.dump(without=["pools"])
    if state in ALLOWED[verb]:
        done = await pool.adjusts(verb, "w", **ASKED.get(verb, {}))
        assert done.standing.state is AFTER[verb, state]
        once = await pool.dump(without=["pools"])
        assert once != before
        assert await pool.adjusts(verb, "w", **ASKED.get(verb, {})) == done
        assert await pool.dump(without=["pools"]) == once
    else:
        with pytest.raises(NotAllowed, match=f"{verb}: workload 'w' is {state}; {verb} needs it to be "):
            await pool.adjusts(verb, "w", **ASKED.get(verb, {}))
        assert await pool.dump() == {**before, "pools": (await pool.dump())["pools"]}
    assert await pool.findings() == {}


async def test_a_change_answers_what_it_answered_at_first_even_when_the_workload_has_ended(pool: Pool) -> None:
    await brought_to(pool, State.RUNNING)
    done = await pool.adjusts("reprioritize", "w", priority=7)
    await pool.ends("w")
    again = await pool.adjusts("reprioritize", "w", priority=7)
    assert (again.message, again.standing.state) == (done.message, State.SUCCEEDED)


async def test_nobody_is_changed_who_is_not_there(pool: Pool) -> None:
    with pytest.raises(NotFound, match="nobody"):
        await pool.adjusts("cancel", "nobody")


@pytest.mark.parametrize(
    ("first", "then", "outcome"),
    [
        ("hold", "cancel", Outcome.CANCELLED),
        ("cancel", "hold", Outcome.CANCELLED),
        ("expire", "hold", Outcome.OUT_OF_TIME),
        ("hold", "expire", Outcome.OUT_OF_TIME),
        ("expire", "cancel", Outcome.CANCELLED),
    ],
)
async def test_of_several_orders_to_stop_the_most_final_counts(pool: Pool, first: str, then: str, outcome: Outcome) -> None:
    await brought_to(pool, State.RUNNING)
    await pool.adjusts(first, "w")
    await pool.adjusts(then, "w")
    await pool.ends("w", Phase.CANCELLED)
    assert await pool.outcomes("w") == [outcome]


async def test_a_workload_that_is_held_leaves_the_line_until_it_is_released(pool: Pool) -> None:
    await brought_to(pool, State.RUNNING)
    done = await pool.adjusts("hold", "w", reason="maintenance")
    assert done.message == "held; it leaves the line when it is observed stopped"
    await pool.ends("w", Phase.CANCELLED)
    assert await pool.plan() == {}
    assert await pool.state("w") is State.SUSPENDED
    await pool.adjusts("release", "w")
    assert (await pool.plan())["w"].state is State.RESERVED
    assert await pool.outcomes("w") == [Outcome.SUSPENDED]


@pytest.mark.parametrize("state", sorted(LIVE - {State.SUBMITTED}))
async def test_why_a_workload_was_cancelled_stands_in_its_history_wherever_it_was(pool: Pool, state: State) -> None:
    await brought_to(pool, state)
    await pool.adjusts("cancel", "w", reason="the lab is closed")
    assert "cancelled: the lab is closed" in (await pool.store.events("w", 0))[-1].message


async def test_a_hold_beside_a_cancellation_says_that_nothing_will_come_of_it(pool: Pool) -> None:
    await brought_to(pool, State.RUNNING)
    await pool.adjusts("cancel", "w")
    assert (await pool.adjusts("hold", "w")).message == "not held: it has notice to leave for good"


async def test_the_new_size_counts_from_the_next_round_on(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.orders("cordon", "n1")
    await pool.arrive(a_spec("w", gpus=2, count=3))
    done = await pool.adjusts("resize", "w", count=4, minimum=1)
    assert done.message == "resized: w: 8 accelerators in 4 replicas, standard, queue research"
    await pool.orders("uncordon", "n1")
    await pool.plan()
    assert await pool.used() == 8_000
    assert await pool.findings() == {}


@pytest.mark.parametrize(
    ("asked", "problem"),
    [
        ({"count": 2, "group": "others"}, "group: there is no replica group 'others'; it has main"),
        ({"count": 2, "minimum": 3}, "minimum 3 exceeds count 2"),
    ],
)
async def test_a_size_that_makes_no_sense_is_refused_and_nothing_is_changed(
    pool: Pool, asked: dict[str, Any], problem: str
) -> None:
    await brought_to(pool, State.WAITING)
    before = await pool.dump()
    with pytest.raises(NotAllowed, match=problem):
        await pool.adjusts("resize", "w", **asked)
    assert await pool.dump() == before


async def test_an_array_cannot_be_resized_by_its_replicas(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.orders("cordon", "n1")
    await pool.arrive(a_spec("sweep", gpus=1, tasks=5))
    with pytest.raises(NotAllowed, match="an array"):
        await pool.adjusts("resize", "sweep", count=2)


async def test_a_higher_priority_goes_first(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.orders("cordon", "n1")
    await pool.arrive(a_spec("first"))
    pool.clock.move(1)
    await pool.arrive(a_spec("second"))
    done = await pool.adjusts("reprioritize", "second", priority=5)
    assert done.message == "priority 0 became 5"
    await pool.orders("uncordon", "n1")
    await pool.plan()
    assert await pool.states("first", "second") == [State.WAITING, State.RESERVED]


async def test_who_asks_is_answered_and_not_told_besides(pool: Pool) -> None:
    await brought_to(pool, State.WAITING)
    await pool.store.delivered(await pool.store.undelivered(0))
    _, notices = await pool.store.adjust("cancel", Adjustment("w", "once"))
    assert notices == []
    assert await pool.store.undelivered(0) == []


async def test_what_a_change_did_can_be_asked_for_when_its_answer_was_lost(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    answer = await pool.adjusts("cancel", "train", "k")
    assert await pool.store.done("cancel", "train", "k") == answer
    assert await pool.store.done("cancel", "train", "another") is None
    assert await pool.store.done("hold", "train", "k") is None


async def test_of_what_is_told_every_minute_the_newest_is_remembered(pool: Pool) -> None:
    await brought_to(pool, State.RUNNING, **SPECS["demand"])
    for minute in range(2 * REMEMBERED):
        pool.clock.move(60)
        await pool.adjusts("demand", "w", f"minute-{minute}", demand=float(minute % 40))
    async with pool.session() as connection:
        assert await connection.fetchval("SELECT count(*) FROM operations WHERE about = 'w:demand'") == REMEMBERED
    before = await pool.dump(without=["pools"])
    await pool.adjusts("demand", "w", f"minute-{2 * REMEMBERED - 1}", demand=400.0)
    assert await pool.dump(without=["pools"]) == before, "the last one is known"


async def test_a_kind_of_change_makes_nobody_forget_another(pool: Pool) -> None:
    await brought_to(pool, State.RUNNING, **SPECS["demand"])
    done = await pool.adjusts("reprioritize", "w", "once", priority=7)
    for minute in range(REMEMBERED + 1):
        await pool.adjusts("demand", "w", f"minute-{minute}", demand=30.0)
    await pool.adjusts("reprioritize", "w", "other", priority=3)
    assert (await pool.adjusts("reprioritize", "w", "once", priority=7)).message == done.message
    status = await pool.store.status("w")
    assert status is not None
    assert status.priority == 3


# Targets


@pytest.mark.parametrize(
    "targets",
    [
        (),
        (Target(skus=("a100",)), Target(skus=("h100",))),
        (Target(regions=("us",)), Target(regions=("eu",), providers=("aws",))),
        (Target(capacity_types=(CapacityType.ON_DEMAND,), after_seconds=3600),),
        (Target(count=2), Target(count=1)),
    ],
    ids=["anything", "by sku", "by place", "that opens later", "by count"],
)
@pytest.mark.parametrize("state", [State.RESERVED, State.STARTING, State.RUNNING])
async def test_who_has_what_the_new_targets_accept_keeps_it(pool: Pool, state: State, targets: tuple[Target, ...]) -> None:
    await brought_to(pool, state)
    epoch = (await pool.key("w")).epoch
    done = await pool.adjusts("retarget", "w", targets=targets)
    assert done.message == "accepts other targets, and keeps 8 h100 in eu/eu-1 (aws), which is among them"
    await pool.plan()
    assert (await pool.state("w"), (await pool.key("w")).epoch) == (state, epoch)
    assert await pool.findings() == {}


@pytest.mark.parametrize(
    "targets",
    [
        (Target(skus=("a100",)),),
        (Target(skus=("h100",), regions=("us",)),),
        (Target(providers=("sim",)),),
        (Target(capacity_types=(CapacityType.SPOT,)),),
        (Target(count=2),),
    ],
    ids=["sku", "region", "provider", "capacity type", "count"],
)
async def test_who_runs_elsewhere_is_not_moved_unless_that_is_said(pool: Pool, targets: tuple[Target, ...]) -> None:
    await brought_to(pool, State.RUNNING)
    before = await pool.dump()
    with pytest.raises(
        NotAllowed, match=r"targets: workload 'w' runs on 8 h100 in eu/eu-1 \(aws\), which none of them accepts"
    ):
        await pool.adjusts("retarget", "w", targets=targets)
    assert await pool.dump() == {**before, "pools": (await pool.dump())["pools"]}


async def test_who_is_moved_has_notice_and_waits_by_its_age_for_one_of_the_new_targets(pool: Pool) -> None:
    await pool.gets(a_view(), a_view("n2", region="us", cluster="us-1"))
    await pool.arrive(a_spec("w", targets=(Target(regions=("eu",)),)))
    await pool.runs("w")
    done = await pool.adjusts("retarget", "w", targets=ELSEWHERE, move=True)
    assert done.message == "accepts other targets, and has notice to leave 8 h100 in eu/eu-1 (aws), which is none of them"
    assert await pool.state("w") is State.STOPPING
    await pool.ends("w", Phase.CANCELLED)
    await pool.plan()
    assert (await pool.state("w"), (await pool.standing("w")).region) == (State.RESERVED, "us")
    assert await pool.outcomes("w") == [Outcome.DRAINED]
    assert await pool.findings() == {}


async def test_what_waits_starts_on_a_target_that_it_did_not_accept_before(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("w", targets=(Target(skus=("h100",), after_seconds=3600),)))
    await pool.plan()
    assert await pool.state("w") is State.WAITING
    await pool.adjusts("retarget", "w", targets=(Target(skus=("h100",)),))
    await pool.plan()
    assert await pool.state("w") is State.RESERVED


async def test_targets_that_make_no_sense_for_a_workload_are_refused(pool: Pool) -> None:
    await brought_to(pool, State.WAITING, gpus=1, tasks=5)
    with pytest.raises(NotAllowed, match="targets: that is not possible: an array"):
        await pool.adjusts("retarget", "w", targets=(Target(count=2),))


# More time


async def test_more_time_counts_at_once(pool: Pool) -> None:
    await brought_to(pool, State.RUNNING, maximum_runtime_seconds=600)
    pool.clock.move(500)
    done = await pool.adjusts("extend", "w", seconds=1000)
    assert done.message == "may run 1600 s in all, 1000 s more"
    assert done.standing.runtime_left == 1100


async def test_what_nothing_ends_cannot_be_extended(pool: Pool) -> None:
    await brought_to(pool, State.RUNNING)
    with pytest.raises(NotAllowed, match="extend: workload 'w' has no maximum runtime"):
        await pool.adjusts("extend", "w", seconds=1)


async def test_what_is_stopped_for_its_time_is_not_extended_any_more(pool: Pool) -> None:
    await brought_to(pool, State.RUNNING, maximum_runtime_seconds=600)
    await pool.adjusts("expire", "w")
    with pytest.raises(NotAllowed, match="extend: workload 'w' is being stopped, as its maximum runtime is over"):
        await pool.adjusts("extend", "w", seconds=1)


async def test_nothing_runs_longer_than_a_year_and_a_day(pool: Pool) -> None:
    await brought_to(pool, State.RUNNING, maximum_runtime_seconds=600)
    with pytest.raises(NotAllowed, match="seconds: 31622400 is not possible: Input should be less than or equal to 31622400"):
        await pool.adjusts("extend", "w", seconds=31_622_400)
