"""Planned moves in the record: found by a real round, told with their reason, and counted against the bounds of a day."""

from typing import Any

import pytest

from activities.ports import Phase
from corral.api import Checkpoint, Outcome, SlaTier, State
from corral.policy import Defragmentation, DisruptionBudget, Goals, Limits, Policy
from domain.decision import Plan, Start
from domain.pool.fleet import NodeShare, Placement, Replica, Room
from domain.quota.disruption_budgets import ForcedStop
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import UNPROMISED

HEEDS: dict[str, Any] = {"checkpoint": Checkpoint(grace_seconds=30), "tier": SlaTier.BASIC}


def on(node: str, gpus: int) -> Placement:
    """One replica on the first devices of a node."""
    room = Room((1_000,) * gpus + (0,) * (8 - gpus), 0, 0)
    replica = Replica("main", 0, tuple(range(gpus)))
    return Placement("aws", "eu", "h100", (NodeShare(f"aws/{node}", room, (replica,)),))


def allowing(**fields: Any) -> Policy:
    may = Defragmentation.model_validate({"daily_share": 1} | fields)
    return UNPROMISED.model_copy(update={"goals": Goals(defragmentation=may)})


async def scattered(pool: Pool, policy: Policy) -> None:
    """`left` and `right` have half a node each and saved their work a minute ago; two others need a whole node each."""
    pool.policy = policy
    pool.store = pool.another_store()
    await pool.gets(*(a_view(f"n{number}") for number in range(1, 5)))
    sizes = {"left": ("n1", 4), "right": ("n2", 4), "wide": ("n3", 8), "wider": ("n4", 8)}
    starts = tuple(Start(id, on(node, gpus)) for id, (node, gpus) in sizes.items())
    await pool.decided(lambda _: Plan(starts), *(a_spec(id, gpus=gpus, **HEEDS) for id, (_, gpus) in sizes.items()))
    await pool.runs(*sizes)
    pool.clock.move(1_000)
    await pool.seen(*[await saved(pool, id) for id in ("left", "right")])
    pool.clock.move(60)


async def saved(pool: Pool, workload: str) -> Any:
    return await pool.observation(workload, Phase.RUNNING, checkpoint_at=pool.clock.now())


async def test_two_halves_become_a_full_node_and_a_whole_one(pool: Pool) -> None:
    await scattered(pool, allowing())
    told = await pool.plan()
    assert (told["left"].state, told["left"].next_place) == (State.STOPPING, "4 h100 in eu/eu-1 (aws)")
    assert await pool.findings() == {}
    assert (await pool.used("n1"), await pool.used("n2")) == (4_000, 8_000)

    await pool.ends("left", Phase.CANCELLED)
    await pool.runs("left")

    assert (await pool.used("n1"), await pool.used("n2")) == (0, 8_000)
    assert await pool.outcomes("left") == [Outcome.MIGRATED]
    assert await pool.findings() == {}
    status = await pool.store.status("left")
    assert status is not None
    assert status.preemptions == 0
    assert await pool.plan() == {}


async def test_the_history_says_what_the_move_was_for_and_the_round_counts_it(pool: Pool) -> None:
    await scattered(pool, allowing())
    await pool.plan()

    events = {event.kind: event.message for event in await pool.store.events("left", 0)}
    assert events["migrate"] == (
        "goes on with 4 h100 in eu/eu-1 (aws), so that more of what is free can be used: "
        "14,400 accelerator-seconds in 3,600 s, for 600 lost"
    )
    (decision,) = await pool.sql("SELECT detail FROM decisions WHERE outcome = 'Reshape'")
    assert decision["detail"]["trade"] == {"gain": 14_400_000, "cost": 600_000, "seconds": 3_600}
    (round_,) = await pool.sql("SELECT started, preempted, reshaped, stopped FROM rounds ORDER BY id DESC LIMIT 1")
    assert tuple(round_.values()) == (0, 0, 1, 0)


async def test_a_move_counts_against_the_bounds_of_a_day_in_whatever_process(pool: Pool) -> None:
    await scattered(pool, allowing())
    moved_at = pool.clock.now()
    await pool.plan()

    for snapshot in (await pool.snapshot(), (await pool.store.look())[0]):
        assert snapshot.stops == (ForcedStop("left.1", "left", "research", SlaTier.BASIC, moved_at, 600_000),)
    pool.clock.move(86_401)
    assert (await pool.snapshot()).stops == ()


BUDGET = DisruptionBudget(stops=1)


@pytest.mark.parametrize(
    ("policy", "moves"),
    [
        (allowing(), True),
        (allowing(daily_share=0.0003), False),
        (allowing().model_copy(update={"limits": Limits(disruption_budgets=(BUDGET,))}), False),
    ],
)
async def test_a_bound_that_a_move_has_used_up_keeps_the_next_from_moving(pool: Pool, policy: Policy, moves: bool) -> None:
    """A day's part is 829 accelerator-seconds, of which one move takes 600."""
    await scattered(pool, policy)
    assert set(await pool.plan()) == {"left"}
    await pool.ends("left", Phase.CANCELLED)
    await pool.runs("left")
    await pool.decided(lambda _: Plan((Start("again", on("n1", 4)),)), a_spec("again", gpus=4, **HEEDS))
    await pool.runs("again")
    await pool.ends("right")
    pool.clock.move(600)
    await pool.seen(*[await saved(pool, id) for id in ("left", "again")])
    pool.clock.move(60)

    assert bool(await pool.plan()) is moves


async def test_nothing_moves_where_none_may(pool: Pool) -> None:
    await scattered(pool, allowing(moves_at_once=0))
    assert await pool.plan() == {}
    assert (await pool.snapshot()).stops == ()
