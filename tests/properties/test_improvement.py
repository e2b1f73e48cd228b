"""What an improved round keeps, whatever the world, and how it compares with trying everything."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from corral.api import SlaTier, Target
from corral.policy import Goals, Improvement, Policy, QuotaModel, Rank
from domain.decision import Fallback, Method, Plan, Quality
from domain.facts import Facts
from domain.pool.fleet import Node, Placement
from domain.quota.tree import QuotaTree
from domain.quota_models.ranking import Line
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.world import World
from tests.builders import NOON, AWorkload, a_cohort, a_node, a_queue, a_snapshot, a_workload, nodes_of, seconds, started
from tests.properties.situations import STABLE, carried_out, check_room, worlds

AS_IT_COMES = Rank(preemption=False)


def policy(work: float = 5, **fields: float) -> Policy:
    return Policy(rank=AS_IT_COMES, goals=Goals(improvement=Improvement.model_validate({"work": work} | fields)))


GREEDY = policy(0)


@st.composite
def fleets(draw: st.DrawFn) -> list[Node]:
    """Two regions of small nodes, at prices that draw work to where others need the room."""
    return [
        a_node(
            f"n{index}",
            gpus=draw(st.sampled_from((2, 3, 4))),
            region=draw(st.sampled_from(("eu", "us"))),
            topology=(("rack", draw(st.sampled_from(("r0", "r1")))),),
            price=draw(st.sampled_from((1_000_000, 1_500_000))),
        )
        for index in range(draw(st.integers(2, 4)))
    ]


@st.composite
def demands(draw: st.DrawFn, id: str) -> AWorkload:
    gpus, count = draw(st.sampled_from(((1, 1), (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1), (4, 1))))
    return a_workload(
        id,
        queue=draw(st.sampled_from(("one", "two"))),
        gpus=gpus,
        count=count,
        tier=draw(st.sampled_from((SlaTier.PREMIUM, SlaTier.STANDARD))),
        required=draw(st.sampled_from((None, None, "rack"))),
        targets=draw(st.sampled_from(((), (Target(regions=("eu",)),), (Target(regions=("us", "eu")),)))),
        submitted_at=NOON - seconds(draw(st.integers(0, 300))),
    )


@st.composite
def crowds(draw: st.DrawFn) -> Snapshot:
    tree = a_cohort(a_queue("one", draw(st.integers(4, 12))), a_queue("two", draw(st.integers(0, 8))))
    waiting = [draw(demands(f"w{index}")) for index in range(draw(st.integers(2, 5)))]
    return a_snapshot(draw(fleets()), tree, *waiting, policy=policy())


@st.composite
def regional(draw: st.DrawFn) -> Snapshot:
    """Single accelerators of two regions, wanted first by work that accepts both and then by work that does not."""
    fleet = [
        a_node(
            f"{region}{index}", gpus=draw(st.integers(1, 3)), region=region, price=draw(st.sampled_from((1_000_000, 1_200_000)))
        )
        for region in ("eu", "us")
        for index in range(draw(st.integers(1, 2)))
    ]
    either, here = (Target(regions=("eu", "us")),), (Target(regions=("eu",)),)
    flexible = [a_workload(f"f{index}", tier=SlaTier.PREMIUM, targets=either) for index in range(draw(st.integers(1, 4)))]
    bound = [
        a_workload(f"b{index}", targets=here, submitted_at=NOON - seconds(draw(st.integers(0, 9))))
        for index in range(draw(st.integers(1, 4)))
    ]
    return a_snapshot(fleet, a_cohort(a_queue("research", draw(st.integers(2, 8)))), *flexible, *bound, policy=policy())


crowded = crowds() | regional()


def greedy(snapshot: Snapshot) -> Plan:
    return schedule(replace(snapshot, policy=GREEDY), NOON)


def quality(plan: Plan) -> Quality:
    assert plan.quality is not None
    return plan.quality


@STABLE
@given(crowded)
def test_no_start_of_the_greedy_turns_is_lost(snapshot: Snapshot) -> None:
    assert set(started(greedy(snapshot))) <= set(started(schedule(snapshot, NOON)))


@STABLE
@given(crowded)
def test_every_start_keeps_its_size_and_target(snapshot: Snapshot) -> None:
    before, after = started(greedy(snapshot)), started(schedule(snapshot, NOON))
    for id, placement in before.items():
        assert (after[id].target, after[id].milli, after[id].replicas) == (
            placement.target,
            placement.milli,
            placement.replicas,
        )


@STABLE
@given(crowded)
def test_an_improved_plan_oversubscribes_nothing(snapshot: Snapshot) -> None:
    plan = schedule(snapshot, NOON)
    after = carried_out(snapshot, plan)
    check_room(after)
    tree = QuotaTree.at(snapshot.queues, NOON)
    usage = World.of(after, tree).usage
    assert usage.use("cohort", "h100").total <= tree.standings["cohort", "h100"].nominal_below
    homes = {node.id: node for node in snapshot.nodes}
    for workload in snapshot.waiting:
        if (placement := started(plan).get(workload.id)) is not None:
            assert sum(nodes_of(placement).values()) == workload.spec.groups[0].count
            racks = {homes[share.node_id].domain("rack") for share in placement.shares}
            assert len(racks) == 1 or workload.spec.topology.required is None


@STABLE
@given(crowded)
def test_a_second_round_over_an_improved_plan_has_nothing_left_to_do(snapshot: Snapshot) -> None:
    assert not schedule(carried_out(snapshot, schedule(snapshot, NOON)), NOON).starts


@STABLE
@given(crowded)
def test_moving_costs_no_more_than_what_starts_is_worth(snapshot: Snapshot) -> None:
    before, after = started(greedy(snapshot)), started(schedule(snapshot, NOON))
    prices = {node.id: node.price for node in snapshot.nodes}

    def cost(plan: dict[str, Placement]) -> int:
        return sum(share.room.milli * prices[share.node_id] for id in before for share in plan[id].shares)

    besides = sum(after[id].milli for id in after if id not in before)
    assert cost(after) - cost(before) <= 1_000_000 * besides


@STABLE
@given(worlds, st.sampled_from(list(QuotaModel)))
def test_every_round_has_a_gap_between_nothing_and_everything(snapshot: Snapshot, model: QuotaModel) -> None:
    rank = snapshot.policy.rank.model_copy(update={"quota_model": model})
    plan = schedule(replace(snapshot, policy=snapshot.policy.model_copy(update={"rank": rank})), NOON)

    found = quality(plan)

    assert found.objective == sum(start.placement.milli for start in plan.starts) <= found.bound
    assert 0 <= found.gap <= 1
    assert found.worst_region_after >= 0
    assert (found.method is Method.GREEDY) is (not found.improved)


@STABLE
@given(crowded)
def test_without_work_the_plan_is_the_greedy_one(snapshot: Snapshot) -> None:
    spent = schedule(replace(snapshot, policy=policy(1e-12)), NOON)

    if quality(spent).fallback is Fallback.OUT_OF_WORK and not quality(spent).improved:
        assert spent.decisions == greedy(snapshot).decisions


# An oracle for tiny instances: try everything


def in_turn(snapshot: Snapshot) -> list[str]:
    """Workload ids in rank order, as turns are first taken."""
    facts = Facts.of(snapshot, NOON)
    world = World.of(snapshot, facts.tree)
    line = Line(snapshot.waiting, world.usage, facts)
    order = []
    while (workload := line.next(world.usage)) is not None:
        order.append(workload.id)
    return order


def layouts(workload: AWorkload, fleet: Sequence[Node]) -> Iterator[dict[str, int]]:
    """Every way to put all replicas on nodes that it may use, by devices."""
    group, required = workload.spec.groups[0], workload.spec.topology.required
    for target in workload.spec.targets or (Target(),):
        for region in target.regions or ("eu", "us"):
            nodes = [node for node in fleet if node.region == region]
            for counts in product(range(group.count + 1), repeat=len(nodes)):
                used = [node for node, count in zip(nodes, counts, strict=True) if count]
                fits = not required or len({node.domain("rack") for node in used}) == 1
                if sum(counts) == group.count and fits:
                    yield {node.id: count * group.milli // 1000 for node, count in zip(nodes, counts, strict=True) if count}


def fit_together(workloads: Sequence[AWorkload], fleet: Sequence[Node], free: dict[str, int]) -> bool:
    """Whether any places for all of these work."""
    if not workloads:
        return True
    for layout in layouts(workloads[0], fleet):
        if all(free[node_id] >= devices for node_id, devices in layout.items()):
            left = {node_id: amount - layout.get(node_id, 0) for node_id, amount in free.items()}
            if fit_together(workloads[1:], fleet, left):
                return True
    return False


@st.composite
def equal_ranks(draw: st.DrawFn) -> tuple[list[Node], list[AWorkload]]:
    """A queue with quota for all, no price that matters, and work in the order of its ids."""
    fleet = [replace(node, price=0) for node in draw(fleets())]
    waiting = [
        AWorkload(
            each.spec.model_copy(update={"queue": "all", "tier": SlaTier.STANDARD}), submitted_at=NOON - seconds(100 - index)
        )
        for index, each in enumerate(draw(st.lists(demands("w"), min_size=2, max_size=5)))
    ]
    named = [
        AWorkload(each.spec.model_copy(update={"id": f"w{index}"}), each.submitted_at) for index, each in enumerate(waiting)
    ]
    return fleet, named


@STABLE
@given(equal_ranks())
def test_who_starts_is_the_best_by_rank_that_trying_everything_finds(case: tuple[list[Node], list[AWorkload]]) -> None:
    """The greedy starts stay; then each workload in rank order starts exactly if all of them have a place together."""
    fleet, waiting = case
    snapshot = a_snapshot(fleet, [a_queue("all", 64)], *waiting, policy=policy())
    free = {node.id: len(node.free.devices) for node in fleet}
    best = set(started(greedy(snapshot)))
    for workload in waiting:
        together = [each for each in waiting if each.id in {*best, workload.id}]
        if workload.id not in best and fit_together(together, fleet, free):
            best.add(workload.id)

    plan = schedule(snapshot, NOON)

    assert set(started(plan)) == best


@STABLE
@given(equal_ranks())
def test_no_set_of_workloads_that_fit_together_is_beyond_the_bound(case: tuple[list[Node], list[AWorkload]]) -> None:
    fleet, waiting = case
    free = {node.id: len(node.free.devices) for node in fleet}
    plan = schedule(a_snapshot(fleet, [a_queue("all", 64)], *waiting, policy=policy()), NOON)
    for chosen in product((False, True), repeat=len(waiting)):
        together = [each for each, is_in in zip(waiting, chosen, strict=True) if is_in]
        milli = sum(each.spec.groups[0].milli * each.spec.groups[0].count for each in together)
        assert milli <= quality(plan).bound or not fit_together(together, fleet, free)
