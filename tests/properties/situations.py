"""Random small worlds, and what becomes of them when a plan is carried out."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st

from corral.api import WHOLE, Affinity, CapacityType, Dataset, QueueSpec, SlaTier, Spread, State, Target
from corral.policy import Disruption, Exactness, Policy, Rank
from domain.decision import Plan, Start, StartAfter
from domain.pool.fleet import Health, Node, Placement, Room
from domain.pool.workload import Active, Waiting
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import (
    LONG_AGO,
    NOON,
    AWorkload,
    a_cohort,
    a_node,
    a_queue,
    a_quota,
    a_snapshot,
    a_workload,
    follower,
    seconds,
)

STABLE = settings(derandomize=True, deadline=None, max_examples=40, database=None)

SKUS = ("a100", "h100")
QUEUES = ("one", "two", "three")
limits = st.none() | st.integers(0, 6)

LIKES_FAST_DISKS = Affinity(nodes={"disk": ("fast",)}, worth=0.5)
ONE_A_NODE, TWO_A_RACK_AT_BEST = Spread(level="node", maximum=1), Spread(level="rack", maximum=2, worth=0.5)
CORPUS = Dataset(name="corpus", size_gib=1_000, regions=("eu",))


@st.composite
def fleets(draw: st.DrawFn) -> list[Node]:
    return [
        a_node(
            f"n{index}",
            gpus=draw(st.integers(1, 4)),
            sku=draw(st.sampled_from(SKUS)),
            region=draw(st.sampled_from(("eu", "us"))),
            topology=(("rack", draw(st.sampled_from(("r0", "r1")))),),
            cpu_milli=draw(st.sampled_from((2_000, 8_000))),
            memory_mib=draw(st.sampled_from((4, 16))),
            price=draw(st.sampled_from((1_000_000, 2_000_000))),
            capacity_type=draw(st.sampled_from((CapacityType.ON_DEMAND, CapacityType.ON_DEMAND, CapacityType.SPOT))),
            labels={"disk": draw(st.sampled_from(("fast", "slow")))},
            taints=draw(st.sampled_from(((), (), (), ("lab",)))),
            health=draw(st.sampled_from((Health.READY, Health.READY, Health.READY, Health.CORDONED))),
        )
        for index in range(draw(st.integers(1, 6)))
    ]


@st.composite
def queues(draw: st.DrawFn, name: str) -> QueueSpec:
    rows = []
    for sku in SKUS:
        nominal = draw(st.integers(0, 8))
        cap = draw(st.none() | st.integers(nominal, nominal + 6))
        floor = draw(st.integers(0, nominal))
        rows.append(a_quota(nominal, sku=sku, floor=floor, cap=cap, borrowing_limit=draw(limits), lending_limit=draw(limits)))
    return a_queue(name, quotas=rows, weight=draw(st.integers(0, 2)))


@st.composite
def cohorts(draw: st.DrawFn) -> list[QueueSpec]:
    members = [draw(queues(name)) for name in QUEUES]
    cap = draw(st.none() | st.integers(4, 16))
    return a_cohort(*members, quotas=[a_quota(draw(st.integers(0, 4)), sku=sku, cap=cap) for sku in SKUS])


@st.composite
def workloads(draw: st.DrawFn, id: str) -> AWorkload:
    gpus = draw(st.sampled_from((0, 0.25, 0.5, 0.7, 1, 1, 2, 4)))
    count = draw(st.integers(1, 4))
    targets = draw(
        st.sampled_from(
            (
                (),
                (Target(skus=("h100",)),),
                (Target(skus=("h100",)), Target(skus=("a100",), count=3)),
                (Target(regions=("eu",)), Target(after_seconds=100)),
            )
        )
    )
    return a_workload(
        id,
        queue=draw(st.sampled_from(QUEUES)),
        gpus=gpus,
        count=count,
        minimum=draw(st.none() | st.integers(1, count)),
        cpu_milli=draw(st.sampled_from((0, 500, 2_000))),
        memory_mib=draw(st.sampled_from((0, 2))),
        affinities=draw(st.sampled_from(((), (), (LIKES_FAST_DISKS,)))),
        spread=draw(st.sampled_from((None, None, ONE_A_NODE, TWO_A_RACK_AT_BEST))),
        datasets=draw(st.sampled_from(((), (), ("corpus",), ("corpus", "unknown")))),
        tier=draw(st.sampled_from(list(SlaTier))),
        priority=draw(st.integers(0, 2)),
        required=draw(st.sampled_from((None, None, "rack"))),
        preferred=draw(st.sampled_from((None, "rack"))),
        tolerations=draw(st.sampled_from(((), ("lab",)))),
        preemptible=draw(st.sampled_from((True, True, True, False))),
        targets=targets,
        submitted_at=NOON - seconds(draw(st.integers(0, 300))),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A world of many kinds in which some work runs where an earlier round put it, and other work waits."""
    fleet, tree = draw(fleets()), draw(cohorts())
    earlier = [draw(workloads(f"r{index}")) for index in range(draw(st.integers(0, 5)))]
    waiting = [draw(workloads(f"w{index}")) for index in range(draw(st.integers(1, 5)))]
    return a_snapshot(fleet, tree, *draw(running(fleet, tree, earlier)), *waiting, datasets=[CORPUS])


policies = st.builds(
    lambda shrink, migrate, nodes: Policy(
        rank=Rank(disruption=Disruption(shrink=shrink, migrate=migrate, exact=Exactness(nodes=nodes)))
    ),
    shrink=st.booleans(),
    migrate=st.booleans(),
    nodes=st.sampled_from((0, 1, 32)),
)
"""What may be done to running work, and whether the least of it is looked for on no node, one, or all."""


@st.composite
def contested(draw: st.DrawFn, most_waiting: int = 3) -> Snapshot:
    """A full fleet of one kind, and work that may have reason to stop what runs there."""
    fleet = [a_node(f"n{index}", gpus=4, topology=(("rack", f"r{index // 2}"),)) for index in range(draw(st.integers(1, 3)))]
    tree = a_cohort(*(a_queue(name, draw(st.integers(0, 8))) for name in QUEUES), nominal=draw(st.integers(0, 6)))
    earlier = [
        a_workload(
            f"r{index}",
            queue=draw(st.sampled_from(QUEUES)),
            gpus=draw(st.sampled_from((0.5, 1, 1, 2, 4))),
            count=draw(st.integers(1, 3)),
            minimum=draw(st.sampled_from((None, None, 1))),
            tier=draw(st.sampled_from((SlaTier.STANDARD, SlaTier.BASIC))),
            priority=draw(st.integers(0, 1)),
        )
        for index in range(draw(st.integers(2, 8)))
    ]
    waiting = [
        a_workload(
            f"w{index}",
            queue=draw(st.sampled_from(QUEUES)),
            gpus=draw(st.sampled_from((0.7, 1, 2, 4))),
            count=draw(st.integers(1, 3)),
            tier=draw(st.sampled_from((SlaTier.PREMIUM, SlaTier.STANDARD))),
            required=draw(st.sampled_from((None, "rack"))),
        )
        for index in range(draw(st.integers(1, most_waiting)))
    ]
    return a_snapshot(fleet, tree, *draw(running(fleet, tree, earlier)), *waiting, policy=draw(policies))


worlds = snapshots() | contested()


@st.composite
def running(draw: st.DrawFn, fleet: list[Node], tree: list[QueueSpec], earlier: list[AWorkload]) -> list[Active]:
    """What an earlier round started, at some later point of its life."""
    before = a_snapshot(fleet, tree, *earlier)
    return [
        replace(
            active,
            state=draw(st.sampled_from((State.RUNNING, State.RUNNING, State.RUNNING, State.STARTING, State.RESERVED))),
            started_at=NOON - seconds(draw(st.sampled_from((10, 1_000, 5_000)))),
            checkpoint_at=draw(st.none() | st.just(NOON - seconds(60))),
        )
        for active in carried_out(before, schedule(before, NOON)).active
    ]


def carried_out(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The world right after the plan was committed: holds and promises stand, victims have notice, nothing has left yet.

    Work that goes on in another shape has notice too, and what it will have then is promised to a second attempt.
    """
    stopped = {victim for victim, _ in plan.preempts} | {reshape.attempt_id for reshape in plan.reshapes}
    stopped |= {stop.attempt_id for stop in plan.stops if stop.beneficiary}
    before = {active.attempt_id: active for active in snapshot.active}
    active = [active.stopping() if active.attempt_id in stopped else active for active in snapshot.active]
    active += [follower(before[reshape.attempt_id], reshape.placement, NOON) for reshape in plan.reshapes]
    waiting = {workload.id: workload for workload in snapshot.waiting}
    promised: list[Placement] = [reshape.placement for reshape in plan.reshapes]
    for decision in plan.decisions:
        match decision:
            case Start():
                active.append(_held(waiting[decision.workload_id], decision.placement, State.RESERVED))
            case StartAfter():
                active.append(_held(waiting[decision.workload_id], decision.placement, State.RESERVING))
                promised.append(decision.placement)
            case _:
                continue
        del waiting[decision.workload_id]
    taken = [*(start.placement for start in plan.starts), *promised]
    nodes = tuple(replace(node, free=_not_negative(_minus(node.free, node.id, taken))) for node in snapshot.nodes)
    return replace(snapshot, nodes=nodes, active=tuple(active), waiting=tuple(waiting.values()))


def _held(workload: Waiting, placement: Placement, state: State) -> Active:
    return Active(
        id=workload.id,
        attempt_id=f"{workload.id}.1",
        epoch=1,
        spec=workload.spec,
        state=state,
        placement=placement,
        submitted_at=workload.submitted_at,
        held_at=NOON,
    )


def _minus(room: Room, node_id: str, placements: Iterable[Placement]) -> Room:
    for placement in placements:
        for share in placement.shares:
            if share.node_id == node_id:
                room -= share.room
    return room


def _not_negative(room: Room) -> Room:
    return Room(tuple(max(0, milli) for milli in room.devices), max(0, room.cpu_milli), max(0, room.memory_mib))


def settled(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The world when all that was promised has run for a day, and all that was stopped waits again."""
    after = carried_out(snapshot, plan)
    staying = [replace(active, state=State.RUNNING, started_at=LONG_AGO) for active in after.active if not active.preempted]
    back = [each.back_in_line() for each in after.active if each.preempted]
    nodes = [replace(node, free=node.total) for node in snapshot.nodes]
    return replace(a_snapshot(nodes, snapshot.queues, *staying, policy=snapshot.policy), waiting=(*after.waiting, *back))


def check_room(after: Snapshot) -> None:
    """No node has less than is held and used on it now, nor than is held, used and promised once the victims have left."""
    in_use = [active for active in after.active if active.state is not State.RESERVING]
    staying = [active for active in after.active if not active.preempted]
    for node in after.nodes:
        assert is_within(left_of(node, in_use))
        assert is_within(left_of(node, staying))


def is_within(room: Room) -> bool:
    """Whether nothing in the room is negative."""
    return min((*room.devices, room.cpu_milli, room.memory_mib)) >= 0


def left_of(node: Node, actives: Iterable[Active]) -> Room:
    """What the attempts leave of a node's total; negative where they exceed it."""
    return _minus(node.total, node.id, (active.placement for active in actives))


def whole_or_one_share(milli: int, devices: Sequence[int]) -> bool:
    """Whether a replica of this size may have this number of devices."""
    return len(devices) == (milli // WHOLE or min(milli, 1))
