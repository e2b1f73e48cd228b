"""What is done to running work is the least that suffices: an oracle tries every plan."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, combinations, product

from hypothesis import given
from hypothesis import strategies as st

from corral.api import WHOLE, SlaTier, State
from corral.policy import Disruption, Exactness, Policy, Rank
from domain.decision import Method, StartAfter
from domain.disruption.means import Cost, Means, Steps, cost_of, remainders
from domain.facts import Facts
from domain.placement.feasibility import offers, sift
from domain.pool.fleet import Node
from domain.pool.workload import Active
from domain.preemption.bid import Bid
from domain.preemption.choices import Choices, choices
from domain.preemption.effort import Effort
from domain.preemption.make_room import cheapest, least_cost
from domain.quota_models.openings import Ranks, best_candidate
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.request import requests
from domain.worlds.world import World, with_charges
from tests.builders import NOON, a_cohort, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.properties.situations import STABLE, carried_out


def policy(nodes: int = 32) -> Policy:
    return Policy(rank=Rank(disruption=Disruption(shrink=True, migrate=True, exact=Exactness(nodes=nodes, work=5))))


@st.composite
def crowded(draw: st.DrawFn) -> Snapshot:
    """Two or three nodes on which whole devices are in use here and there, and one gang that finds no room."""
    fleet = [a_node(f"n{index}", gpus=4, topology=(("rack", f"r{index % 2}"),)) for index in range(draw(st.integers(2, 3)))]
    tree = a_cohort(a_queue("one", draw(st.sampled_from((4, 6, 12)))), a_queue("two", draw(st.integers(0, 4))), nominal=4)
    free = {node.id: list(range(4)) for node in fleet}
    running: list[Active] = []
    for index in range(draw(st.integers(3, 6))):
        node = fleet[index % len(fleet)] if draw(st.booleans()) else draw(st.sampled_from(fleet))
        width = draw(st.integers(1, 2))
        count = min(draw(st.sampled_from((1, 1, 2, 3))), len(free[node.id]) // width)
        if count:
            now = replace(node, free=a_node(node.id, free=[WHOLE * (device in free[node.id]) for device in range(4)]).free)
            running.append(draw(a_runner(f"r{index}", now, width, count)))
            free[node.id] = free[node.id][width * count :]
    waiting = a_workload(
        "w",
        queue="one",
        gpus=draw(st.sampled_from((2, 4, 4))),
        count=draw(st.sampled_from((1, 1, 2))),
        tier=draw(st.sampled_from((SlaTier.PREMIUM, SlaTier.STANDARD))),
        priority=draw(st.integers(0, 1)),
        required=draw(st.sampled_from((None, None, "rack"))),
    )
    return a_snapshot(fleet, tree, *running, waiting, policy=policy())


@st.composite
def a_runner(draw: st.DrawFn, id: str, node: Node, width: int, count: int) -> Active:
    workload = a_workload(
        id,
        queue=draw(st.sampled_from(("one", "one", "two"))),
        gpus=width,
        count=count,
        minimum=draw(st.sampled_from((1, count))),
        tier=draw(st.sampled_from((SlaTier.STANDARD, SlaTier.BASIC))),
        priority=draw(st.integers(0, 1)),
    )
    return workload.on((node, width * count), started_at=NOON - seconds(draw(st.sampled_from((1_000, 2_000, 5_000)))))


def bids(snapshot: Snapshot) -> list[tuple[Bid, Facts]]:
    """What the waiting workload may ask for, where it finds no room as it is."""
    facts = Facts.of(snapshot, NOON)
    world = World.of(snapshot, facts.tree)
    (workload,) = snapshot.waiting
    (request,) = requests(workload)
    if best_candidate(Ranks([[request]]), world) is not None:
        return []
    found = (
        Bid.of(offer.request.at_minimum(), offer.supply, offer.classes, world, world, facts)
        for offer in offers(request, sift(request, world))
    )
    return [(bid, facts) for bid in found if bid is not None]


# The oracle


def plans(allowed: Choices, own: str) -> Iterator[Steps]:
    """Every set of steps that is allowed, the cheapest first."""
    by_attempt: dict[str, list[Steps]] = {}
    for step in (*allowed.stops, *allowed.moves):
        by_attempt.setdefault(step.attempt_id, [()]).append((step,))
    for attempt_id, spare in allowed.surpluses.items():
        replicas = [step for step in allowed.shrinks if step.attempt_id == attempt_id]
        some = chain.from_iterable(combinations(replicas, number) for number in range(1, spare.in_all + 1))
        by_attempt.setdefault(attempt_id, [()]).extend(some)
    every = (tuple(chain.from_iterable(picked)) for picked in product(*by_attempt.values()))
    fair = [plan for plan in every if plan and leaves_nominal_alone(plan, allowed.borrowed, own)]
    yield from sorted(fair, key=cost_of)


def leaves_nominal_alone(plan: Steps, borrowed: Mapping[str, int], own: str) -> bool:
    """In some order, whatever a queue loses it loses while it still borrows."""
    lost: dict[str, list[int]] = {}
    for step in plan:
        if step.means is not Means.MIGRATE and step.victim.queue != own:
            lost.setdefault(step.victim.queue, []).append(step.milli)
    return all(sum(amounts) - max(amounts) < borrowed[queue] for queue, amounts in lost.items())


def works(bid: Bid, plan: Steps) -> bool:
    """Whether some seating of the request, and of what moves on what is free now, is within room and quota."""
    left = tuple(remainders(plan))
    usage = with_charges(bid.usage, (charge for each in left for charge in each.given_back), sign=-1)
    if usage.allowed(bid.request.spec, bid.supply.sku) < bid.request.gang.minimum_milli:
        return False
    now = {entry.node.id: entry.whole for entry in bid.nodes}
    later = dict(now)
    for each in left:
        for share in each.leaves.placement.shares:
            later[share.node_id] += share.room.milli // WHOLE
    moving = [
        share.room.milli // WHOLE // len(share.replicas)
        for each in left
        if each.means is Means.MIGRATE
        for share in each.active.placement.shares
        for _ in share.replicas
    ]
    (shape,) = bid.request.gang.shapes
    racks = {entry.node.id: entry.node.domain("rack") for entry in bid.nodes}
    required = bid.request.spec.topology.required
    places = set(racks.values()) if required else {None}
    return any(
        fits([shape.devices] * shape.minimum, later, None, {node for node in racks if rack in {None, racks[node]}}, moving, now)
        for rack in places
    )


def fits(
    sizes: Sequence[int],
    later: dict[str, int],
    now: dict[str, int] | None,
    nodes: set[str],
    then: Sequence[int],
    free_now: dict[str, int],
) -> bool:
    """Whether replicas of these sizes fit on the nodes, and `then` others on what is free now as well as later."""
    if not sizes:
        return fits(then, later, dict(free_now), set(later), (), free_now) if then else True
    for node in sorted(nodes):
        if later[node] >= sizes[0] and (now is None or now[node] >= sizes[0]):
            rest = {**later, node: later[node] - sizes[0]}
            rest_now = None if now is None else {**now, node: now[node] - sizes[0]}
            if fits(sizes[1:], rest, rest_now, nodes, then, free_now):
                return True
    return False


def least(bid: Bid, allowed: Choices) -> Cost | None:
    return next((cost_of(plan) for plan in plans(allowed, bid.request.spec.queue) if works(bid, plan)), None)


@STABLE
@given(crowded())
def test_the_oracle_finds_nothing_better_and_nothing_where_there_is_nothing(snapshot: Snapshot) -> None:
    for bid, facts in bids(snapshot):
        best, found = least(bid, choices(bid, facts)), cheapest(bid, facts, Effort.for_one(facts.policy.rank.disruption))
        assert (None if found is None else found.cost) == best
        if found is not None:
            assert found.proof is not None
            assert found.proof.gap == 0


@STABLE
@given(crowded())
def test_no_plan_costs_less_than_is_known_before_it_is_looked_for(snapshot: Snapshot) -> None:
    for bid, facts in bids(snapshot):
        allowed = choices(bid, facts)
        bound, best = least_cost(bid, allowed), least(bid, allowed)
        assert best is None or (bound is not None and bound <= best)


@STABLE
@given(crowded())
def test_a_greedy_plan_is_allowed_and_never_better(snapshot: Snapshot) -> None:
    greedily = replace(snapshot, policy=policy(nodes=0))
    for (bid, facts), (_, sparing) in zip(bids(snapshot), bids(greedily), strict=True):
        exact, greedy = (cheapest(bid, each, Effort.for_one(each.policy.rank.disruption)) for each in (facts, sparing))
        if greedy is not None:
            assert greedy.proof is not None
            assert greedy.proof.method is Method.GREEDY
            assert exact is not None
            assert exact.cost <= greedy.cost
            assert works(bid, greedy.steps)


@STABLE
@given(crowded())
def test_no_step_could_be_left_out(snapshot: Snapshot) -> None:
    for bid, facts in bids(snapshot):
        found = cheapest(bid, facts, Effort.for_one(facts.policy.rank.disruption))
        for spared in found.steps if found else ():
            assert found is not None
            assert not works(bid, tuple(step for step in found.steps if step is not spared))


@STABLE
@given(crowded())
def test_whoever_moves_or_shrinks_keeps_its_minimum_and_nobody_higher_is_touched(snapshot: Snapshot) -> None:
    before = {active.attempt_id: active for active in snapshot.active}
    plan = schedule(snapshot, NOON)
    for reshape in plan.reshapes:
        active = before[reshape.attempt_id]
        (group,) = active.spec.groups
        assert group.fewest <= reshape.placement.replicas <= active.placement.replicas
        assert reshape.beneficiary == "w"
    for decision in plan.decisions:
        if isinstance(decision, StartAfter):
            touched = {*decision.victims, *(reshape.attempt_id for reshape in decision.reshapes)}
            assert len(touched) == len(decision.victims) + len(decision.reshapes)
            assert all(before[attempt_id].state is State.RUNNING for attempt_id in touched)


@STABLE
@given(crowded())
def test_once_carried_out_nothing_is_left_to_do(snapshot: Snapshot) -> None:
    after = carried_out(snapshot, schedule(snapshot, NOON))
    again = schedule(after, NOON)
    assert not again.preempts
    assert not again.reshapes
    assert not again.starts
