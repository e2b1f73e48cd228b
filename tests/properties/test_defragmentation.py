"""Moves for nobody's sake: valid, bounded, worth their cost, and over when nothing more is to be gained."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from corral.api import WHOLE, Checkpoint, SlaTier, State
from corral.policy import Defragmentation, DisruptionBudget, Goals, Limits, Policy
from domain.decision import Plan
from domain.facts import Facts
from domain.improvement.fragments import slots_on
from domain.placement.sieve import capacities
from domain.pool.fleet import Node, NodeShare, Room
from domain.pool.workload import Active, Waiting
from domain.quota.disruption_budgets import ForcedStop
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.request import Shape
from domain.worlds.world import World
from tests.builders import NOON, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.properties.situations import STABLE, carried_out, check_room
from tests.properties.test_round import shuffled

GPUS = 4


@st.composite
def scattered(draw: st.DrawFn, most_waiting: int = 2) -> Snapshot:
    """A fleet of two prices on which small work is scattered and large work needs whole nodes; hardly anybody waits."""
    fleet = [
        a_node(f"n{index}", gpus=GPUS, price=draw(st.sampled_from((1_000_000, *[2_000_000] * 6))))
        for index in range(draw(st.integers(4, 10)))
    ]
    active: list[Active] = []
    for index, node in enumerate(fleet):
        taken = 0
        for width in draw(st.sampled_from(((GPUS,), (1,), (2,), (1, 1), (2, 1)))) if index > 1 else (GPUS,):
            left = replace(node, free=a_node("", gpus=GPUS, used=taken).free)
            active.append(draw(a_runner(f"r{len(active)}", left, width)))
            taken += width
    waiting = [
        a_workload(
            f"w{index}",
            gpus=draw(st.sampled_from((1, 2, 4))),
            tier=SlaTier.BASIC,
            earliest_start=draw(st.sampled_from((None, NOON + seconds(60)))),
        )
        for index in range(draw(st.sampled_from((0, 0, most_waiting))))
    ]
    return a_snapshot(fleet, [a_queue("research", 100)], *active, *waiting, policy=draw(policies))


@st.composite
def a_runner(draw: st.DrawFn, id: str, node: Node, width: int) -> Active:
    workload = a_workload(
        id,
        gpus=width,
        tier=draw(st.sampled_from((SlaTier.STANDARD, SlaTier.BASIC))),
        preemptible=draw(st.sampled_from((True, True, True, True, False))),
        checkpoint=Checkpoint(grace_seconds=draw(st.sampled_from((0, 30)))),
        expected_seconds=draw(st.sampled_from((None, None, 7_200))),
    )
    return workload.on(
        (node, width),
        started_at=NOON - seconds(draw(st.sampled_from((100, 5_000, 5_000, 5_000, 5_000)))),
        checkpoint_at=draw(st.sampled_from((None, *[NOON - seconds(20)] * 5))),
    )


policies = st.builds(
    lambda moves, share, budgets: Policy(
        limits=Limits(disruption_budgets=budgets),
        goals=Goals(defragmentation=Defragmentation(moves_at_once=moves, daily_share=share)),
    ),
    moves=st.sampled_from((1, 2, 8)),
    share=st.sampled_from((0.0005, 1.0)),
    budgets=st.sampled_from(((), (), (DisruptionBudget(stops=1),))),
)


def moves_of(snapshot: Snapshot, plan: Plan) -> list[Active]:
    """Who moves for nobody's sake."""
    by_attempt = {active.attempt_id: active for active in snapshot.active}
    return [by_attempt[reshape.attempt_id] for reshape in plan.reshapes if reshape.trade]


def gone_on(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The world once all that moves has left where it was and runs; what it cost is on record."""
    during = carried_out(snapshot, plan)
    staying = tuple(
        replace(active, state=State.RUNNING) if active.state is State.RESERVING else active
        for active in during.active
        if not active.preempted
    )
    fleet = [replace(node, free=node.total) for node in snapshot.nodes]
    ended = a_snapshot(
        fleet, snapshot.queues, *staying, policy=snapshot.policy, stops=[*snapshot.stops, *stops_of(snapshot, plan)]
    )
    return replace(ended, waiting=during.waiting)


def stops_of(snapshot: Snapshot, plan: Plan) -> list[ForcedStop]:
    """What is on record once the plan is committed."""
    return [
        ForcedStop(each.attempt_id, each.id, each.spec.queue, each.spec.tier, NOON - seconds(1), cost(each))
        for each in moves_of(snapshot, plan)
    ]


def cost(active: Active) -> int:
    """Twenty seconds since it was saved, its grace, and a restart."""
    return active.milli * (20 + active.spec.checkpoint.grace_seconds + 60)


def _demand(snapshot: Snapshot) -> list[Active | Waiting]:
    return [*snapshot.active, *snapshot.waiting]


def fragments(snapshot: Snapshot) -> float:
    """Free thousandths that a replica drawn from all that runs or waits could not use, as far as there are enough replicas."""
    needs = Counter(each.spec.groups[0].milli for each in _demand(snapshot))
    free = [node.free for node in snapshot.nodes]
    total = sum(needs.values())
    idle = sum(room.milli for room in free)
    return sum(
        (count / total * (idle - need * min(count, sum(room.whole_devices // (need // WHOLE) for room in free))))
        for need, count in needs.items()
    )


@STABLE
@given(scattered())
def test_whoever_moves_may_and_finds_room(snapshot: Snapshot) -> None:
    plan = schedule(snapshot, NOON)
    check_room(carried_out(snapshot, plan))
    nodes = {node.id: node for node in snapshot.nodes}
    by_attempt = {active.attempt_id: active for active in snapshot.active}
    for reshape in plan.reshapes:
        active = by_attempt[reshape.attempt_id]
        assert active.spec.preemptible
        if reshape.trade is None:
            continue
        assert active.checkpoint_at is not None
        assert active.started_at is not None
        assert (NOON - active.started_at).total_seconds() >= snapshot.policy.rank.tiers[
            active.spec.tier
        ].minimum_runtime_seconds
        assert reshape.placement.replicas == active.placement.replicas
        before, after = (_dollars(placement.shares, nodes) for placement in (active.placement, reshape.placement))
        assert after <= before


def _dollars(shares: Iterable[NodeShare], nodes: dict[str, Node]) -> int:
    return sum(share.room.milli * nodes[share.node_id].price for share in shares)


@STABLE
@given(scattered(most_waiting=0))
def test_fragmentation_falls_by_more_than_it_costs(snapshot: Snapshot) -> None:
    plan = schedule(snapshot, NOON)
    if moved := moves_of(snapshot, plan):
        horizon = snapshot.policy.goals.defragmentation.horizon_seconds
        fell = fragments(snapshot) - fragments(gone_on(snapshot, plan))
        assert fell * horizon > sum(cost(active) for active in moved)
        assert {reshape.trade.cost for reshape in plan.reshapes if reshape.trade} <= {
            sum(cost(active) for active in some) for some in _subsets(moved)
        }


def _subsets(actives: Sequence[Active]) -> list[list[Active]]:
    return [[each for at, each in enumerate(actives) if mask >> at & 1] for mask in range(1, 2 ** len(actives))]


@STABLE
@given(scattered())
def test_moves_keep_within_all_bounds(snapshot: Snapshot) -> None:
    moved = moves_of(snapshot, schedule(snapshot, NOON))
    may = snapshot.policy.goals.defragmentation
    assert len(moved) <= may.moves_at_once
    assert sum(map(cost, moved)) <= len(snapshot.nodes) * GPUS * WHOLE * 86_400 * may.daily_share
    assert all(len(moved) <= budget.stops for budget in snapshot.policy.limits.disruption_budgets)


@STABLE
@given(scattered())
def test_a_second_round_moves_nothing_that_the_first_did_not_have_to_leave_to_it(snapshot: Snapshot) -> None:
    plan = schedule(snapshot, NOON)
    during = replace(carried_out(snapshot, plan), stops=(*snapshot.stops, *stops_of(snapshot, plan)))
    again = schedule(during, NOON)
    under_way = len(plan.reshapes) + len(again.reshapes)
    assert under_way <= max(len(plan.reshapes), snapshot.policy.goals.defragmentation.moves_at_once)
    assert not again.starts
    if len(plan.reshapes) < snapshot.policy.goals.defragmentation.moves_at_once:
        assert not again.reshapes


@STABLE
@given(scattered(most_waiting=0))
def test_moves_come_to_an_end_and_never_go_back(snapshot: Snapshot) -> None:
    """Though whoever has moved has saved its state again at once, and may be moved again."""
    seen = [fragments(snapshot)]
    for _ in range(20):
        plan = schedule(snapshot, NOON)
        if not plan.reshapes:
            break
        snapshot = gone_on(snapshot, plan)
        saved = tuple(
            replace(each, started_at=NOON - seconds(5_000), checkpoint_at=NOON - seconds(20)) for each in snapshot.active
        )
        snapshot = replace(snapshot, active=saved, stops=())
        seen.append(fragments(snapshot))
    assert not schedule(snapshot, NOON).reshapes
    assert all(after < before for before, after in pairwise(seen))


@STABLE
@given(scattered(), st.randoms(use_true_random=False))
def test_the_order_of_rows_never_matters(snapshot: Snapshot, random: Random) -> None:
    assert schedule(shuffled(snapshot, random), NOON) == schedule(snapshot, NOON)


@STABLE
@given(scattered())
def test_with_no_moves_allowed_a_round_is_what_it_was(snapshot: Snapshot) -> None:
    still = Goals(defragmentation=Defragmentation(moves_at_once=0))
    plan = schedule(replace(snapshot, policy=snapshot.policy.model_copy(update={"goals": still})), NOON)
    assert not moves_of(snapshot, plan)
    assert plan.starts == schedule(snapshot, NOON).starts


# Columns


rooms = st.builds(
    lambda devices, cpu, memory: (devices, cpu, memory),
    st.lists(st.sampled_from((0, 250, 500, 1_000)), min_size=3, max_size=3),
    st.integers(0, 6),
    st.integers(0, 6),
)


@STABLE
@given(
    st.lists(rooms, min_size=1, max_size=5),
    st.sampled_from((0, 250, 500, 1_000, 2_000)),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_slots_by_column_are_those_of_each_node(
    sizes: list[tuple[list[int], int, int]], milli: int, cpu_milli: int, memory_mib: int
) -> None:
    fleet = [
        replace(a_node(f"n{index}", gpus=3), free=Room(tuple(devices), cpu, memory))
        for index, (devices, cpu, memory) in enumerate(sizes)
    ]
    snapshot = a_snapshot(fleet, [a_queue("research", 8)])
    (nodes,) = World.of(snapshot, Facts.of(snapshot, NOON).tree).classes.values()
    shape = Shape("", milli, cpu_milli, memory_mib, 1, 1)
    by_node = [slots_on(shape, entry) for entry in nodes.entries(range(len(nodes)))]
    assert capacities(shape, nodes).tolist() == by_node
