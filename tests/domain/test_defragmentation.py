"""Running work moves so that more of what is free can be used, where that gains more than it costs and hurts nobody."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from corral.api import CapacityType, Checkpoint, Reason, SlaTier, StopPolicy, Topology
from corral.policy import Defragmentation, DisruptionBudget, Goals, Limits, Policy, QuotaModel
from domain.decision import Change, Plan, Reshape, Wait
from domain.pool.fleet import Node, Replica
from domain.pool.workload import Active
from domain.quota.disruption_budgets import ForcedStop
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, nodes, nodes_of, seconds, started, why
from tests.properties.situations import carried_out, settled

HALF, OTHER, FULL, FULL_TOO = nodes(4)
FLEET = [HALF, OTHER, FULL, FULL_TOO]
QUEUE = a_queue("research", 64)
SAVED = NOON - seconds(60)


def policy(**fields: Any) -> Policy:
    return Policy(goals=Goals(defragmentation=Defragmentation.model_validate({"daily_share": 1} | fields)))


def a_runner(id: str, *placed: tuple[Node, int], gpus: int = 4, saved: Any = SAVED, **fields: Any) -> Active:
    """Work that has saved its state a minute ago."""
    fields = {"checkpoint": Checkpoint(grace_seconds=30)} | fields
    return a_workload(id, gpus=gpus, **fields).on(*placed, checkpoint_at=saved)


def wide(*ids: str) -> list[Active]:
    """Work that needs whole nodes, and keeps those beside the halves full."""
    return [a_runner(id, (node, 8), gpus=8, saved=None) for id, node in zip(ids, (FULL, FULL_TOO), strict=False)]


def halves(**fields: Any) -> list[Active]:
    return [a_runner("left", (HALF, 4), **fields), a_runner("right", (OTHER, 4), **fields)]


def a_pool(*workloads: AWorkload | Active, fleet: Sequence[Node] = FLEET, by: Policy | None = None, **fields: Any) -> Snapshot:
    return a_snapshot(fleet, [QUEUE], *workloads, policy=by or policy(), **fields)


def moved(plan: Plan) -> dict[str, dict[str, int]]:
    """Where attempts go on, by id."""
    return {reshape.attempt_id: nodes_of(reshape.placement) for reshape in plan.reshapes}


def test_two_nodes_in_half_use_become_a_full_one_and_a_whole_one() -> None:
    plan = schedule(a_pool(*halves(), *wide("a", "b")), NOON)

    (reshape,) = plan.reshapes
    assert moved(plan) == {"left.1": {"n1": 1}}
    assert (reshape.change, reshape.beneficiary) == (Change.MIGRATE, None)
    assert reshape.trade is not None
    # Half of all replicas need eight devices, and for these there is room on one node more, for an hour.
    assert (reshape.trade.gain, reshape.trade.cost) == (8_000 * 3_600 // 2, 4_000 * (60 + 30 + 60))


def test_nothing_moves_where_nobody_is_known_to_need_a_whole_node() -> None:
    assert not moved(schedule(a_pool(*halves()), NOON))


def test_nothing_moves_where_there_is_as_much_room_as_all_that_is_known_could_want() -> None:
    idle = nodes(2, "idle")
    assert not moved(schedule(a_pool(*halves(), *wide("a", "b"), fleet=[*FLEET, *idle]), NOON))


def test_all_that_is_left_on_a_node_leaves_it_together() -> None:
    pairs = [a_runner("one", (HALF, 2), gpus=2), a_runner("two", (replace(HALF, free=a_node("n0", used=2).free), 2), gpus=2)]
    plan = schedule(a_pool(*pairs, a_runner("rest", (OTHER, 4), saved=None), *wide("a", "b")), NOON)

    assert moved(plan) == {"one.1": {"n1": 1}, "two.1": {"n1": 1}}


@pytest.mark.parametrize("saved", [None, NOON - seconds(3_600)])
def test_work_that_would_lose_too_much_or_nobody_knows_how_much_stays(saved: Any) -> None:
    assert not moved(schedule(a_pool(*halves(saved=saved), *wide("a", "b")), NOON))


@pytest.mark.parametrize(
    "fields",
    [
        {"preemptible": False},
        {"tier": SlaTier.PREMIUM, "checkpoint": Checkpoint(grace_seconds=600)},
        {"expected_seconds": 86_400 + 200},
        {"topology": Topology(required="rack")},
    ],
)
def test_protected_work_stays(fields: dict[str, Any]) -> None:
    runners = [replace(each, spec=each.spec.model_copy(update=fields)) for each in halves()]
    assert not moved(schedule(a_pool(*runners, *wide("a", "b")), NOON))


def test_work_within_its_minimum_runtime_stays() -> None:
    young = [replace(each, started_at=NOON - seconds(599)) for each in halves()]
    assert not moved(schedule(a_pool(*young, *wide("a", "b")), NOON))
    assert moved(schedule(a_pool(*(replace(each, started_at=NOON - seconds(3_000)) for each in young), *wide("a", "b")), NOON))


def test_work_goes_to_no_dearer_node_and_to_none_that_is_bought_in_another_way() -> None:
    dearer = [replace(HALF, price=1), replace(OTHER, price=2), FULL, FULL_TOO]
    spot = [HALF, replace(OTHER, capacity_type=CapacityType.SPOT), FULL, FULL_TOO]

    assert moved(schedule(a_pool(*halves(), *wide("a", "b"), fleet=dearer), NOON)) == {"right.1": {"n0": 1}}
    assert not moved(schedule(a_pool(*halves(), *wide("a", "b"), fleet=spot), NOON))


def test_work_of_a_queue_that_is_held_stays() -> None:
    held = QUEUE.model_copy(update={"stop": StopPolicy.HOLD})
    pool = a_pool(*halves(), *wide("a", "b"))

    assert not moved(schedule(replace(pool, queues=(held,)), NOON))


def test_free_room_that_somebody_waits_for_is_not_taken() -> None:
    later = a_workload("later", gpus=4, earliest_start=NOON + seconds(60))
    two = [replace(later, spec=later.spec.model_copy(update={"id": f"later{index}"})) for index in range(2)]

    assert not moved(schedule(a_pool(*halves(), *wide("a", "b"), *two), NOON))


def test_whoever_waits_for_what_a_move_makes_whole_is_told_so() -> None:
    low = a_workload("w", gpus=8, tier=SlaTier.BASIC)
    plan = schedule(a_pool(*halves(), *wide("a", "b"), low), NOON)

    assert moved(plan) == {"left.1": {"n1": 1}}
    assert why(plan).reason is Reason.WAITING_FOR_VICTIMS
    assert [type(decision) for decision in plan.decisions] == [Wait]


def test_nothing_moves_while_as_many_moves_are_under_way_as_may_be() -> None:
    pairs = [(a_node(f"l{index}"), a_node(f"r{index}")) for index in range(4)]
    runners = [a_runner(f"{node.id}", (node, 4)) for pair in pairs for node in pair]
    more = [a_runner(f"f{index}", (a_node(f"f{index}"), 8), gpus=8, saved=None) for index in range(8)]
    fleet = [*(node for pair in pairs for node in pair), *(a_node(f"f{index}") for index in range(8))]
    pool = a_pool(*runners, *more, fleet=fleet, by=policy(moves_at_once=3))

    first = schedule(pool, NOON)
    assert len(first.reshapes) == 3
    during = carried_out(pool, first)
    assert not schedule(during, NOON).reshapes
    assert len(schedule(replace(during, policy=policy(moves_at_once=4)), NOON).reshapes) == 1
    assert len(schedule(pool_after(pool, first), NOON).reshapes) == 1


def pool_after(pool: Snapshot, plan: Plan) -> Snapshot:
    """The pool once all that moves has gone on and has saved its state again."""
    after = settled(pool, plan)
    return replace(after, waiting=pool.waiting, active=tuple(replace(each, checkpoint_at=SAVED) for each in after.active))


@pytest.mark.parametrize(("share", "spent", "moves"), [(0.001, 0, 1), (0.0001, 0, 0), (0.001, 2_700_000, 0)])
def test_moves_cost_no_more_in_a_day_than_they_may(share: float, spent: int, moves: int) -> None:
    """Of 32 accelerators a thousandth are 2,764.8 accelerator-seconds a day, and the move costs 600."""
    before = ForcedStop("x.1", "x", "research", SlaTier.BASIC, NOON - seconds(86_000), spent)
    long_ago = ForcedStop("y.1", "y", "research", SlaTier.BASIC, NOON - seconds(86_400), 10**9)
    pool = a_pool(*halves(), *wide("a", "b"), by=policy(daily_share=share), stops=[before, long_ago])

    assert len(schedule(pool, NOON).reshapes) == moves


@pytest.mark.parametrize(("stops", "moves"), [(2, 1), (1, 0)])
def test_disruption_budgets_count_moves(stops: int, moves: int) -> None:
    budget = DisruptionBudget(queue="research", stops=stops)
    before = ForcedStop("x.1", "x", "research", SlaTier.BASIC, NOON - seconds(60))
    bound = policy().model_copy(update={"limits": Limits(disruption_budgets=(budget,))})

    assert len(schedule(a_pool(*halves(), *wide("a", "b"), by=bound, stops=[before]), NOON).reshapes) == moves


OFF = [
    policy(moves_at_once=0),
    policy().model_copy(update={"rank": Policy().rank.model_copy(update={"preemption": False})}),
    *(
        policy().model_copy(update={"rank": Policy().rank.model_copy(update={"quota_model": model})})
        for model in (QuotaModel.COHORTS, QuotaModel.DESERVED)
    ),
]


@pytest.mark.parametrize("off", OFF)
def test_nothing_moves_where_the_policy_does_not_want_it(off: Policy) -> None:
    assert not schedule(a_pool(*halves(), *wide("a", "b"), by=off), NOON).reshapes


def test_shares_of_devices_move_together() -> None:
    broken = [a_node("s0", free=[500, 1_000]), a_node("s1", free=[1_000, 500])]
    shares = [_a_share("x", "s0", 0), _a_share("y", "s1", 1)]
    pairs = [a_runner(f"p{index}", (a_node(f"p{index}", gpus=2), 2), gpus=2, saved=None) for index in range(2)]
    fleet = [*broken, *(a_node(f"p{index}", gpus=2) for index in range(2))]
    idle = [replace(node, free=node.total) for node in fleet]
    plan = schedule(a_pool(*shares, *pairs, fleet=idle), NOON)

    (reshape,) = plan.reshapes
    assert {share.node_id for share in reshape.placement.shares} in ({"s0"}, {"s1"})


def _a_share(id: str, node_id: str, device: int) -> Active:
    held = a_workload(id, gpus=0.5, checkpoint=Checkpoint(grace_seconds=30))
    active = held.on((a_node(node_id, gpus=2), 1), checkpoint_at=SAVED)
    (share,) = active.placement.shares
    replica = Replica("main", 0, (device,))
    room = replace(share.room, devices=tuple(500 if index == device else 0 for index in range(2)))
    own = replace(share, room=room, replicas=(replica,))
    return replace(active, placement=replace(active.placement, shares=(own,)))


# Work that starts again anyway


def test_work_that_starts_again_takes_the_best_place_then_and_not_the_one_it_had() -> None:
    """It ran alone on n0; now that n1 is half full, it goes there and leaves n0 whole."""
    again = replace(a_workload("again", gpus=4).waiting(), epoch=1)
    pool = replace(a_pool(a_runner("right", (OTHER, 4)), *wide("a", "b")), waiting=(again,))

    plan = schedule(pool, NOON)

    assert nodes_of(started(plan)["again"]) == {"n1": 1}
    assert not plan.reshapes


def test_a_move_says_what_it_is_for() -> None:
    (reshape,) = schedule(a_pool(*halves(), *wide("a", "b")), NOON).reshapes
    assert isinstance(reshape, Reshape)
    assert reshape.trade is not None
    assert reshape.trade.in_words == ("more of what is free can be used: 14,400 accelerator-seconds in 3,600 s, for 600 lost")
