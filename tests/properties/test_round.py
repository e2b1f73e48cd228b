"""What holds of every round, whatever the world."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from random import Random
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from corral.api import WHOLE, ReplicaGroup, State
from corral.policy import Policy, Rank
from domain.decision import Start, StartAfter, Wait
from domain.placement.layout import lay_out
from domain.pool.fleet import Node, Placement, Room
from domain.pool.standing import standing
from domain.pool.stock import NodeRoom, in_order
from domain.pool.workload import Active
from domain.quota.tree import QuotaTree
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.request import Gang, Request, requests
from domain.worlds.world import World
from tests.builders import NOON, a_node, a_workload
from tests.properties.situations import STABLE, carried_out, check_room, contested, is_within, whole_or_one_share, worlds

Row = TypeVar("Row")


def mixed(rows: Sequence[Row], random: Random) -> tuple[Row, ...]:
    return tuple(random.sample(rows, len(rows)))


def shuffled(snapshot: Snapshot, random: Random) -> Snapshot:
    queues = (queue.model_copy(update={"quotas": mixed(queue.quotas, random)}) for queue in snapshot.queues)
    return replace(
        snapshot,
        nodes=mixed(snapshot.nodes, random),
        queues=mixed(tuple(queues), random),
        waiting=mixed(snapshot.waiting, random),
        active=mixed(snapshot.active, random),
    )


@STABLE
@given(worlds, st.randoms(use_true_random=False))
def test_the_order_of_rows_never_matters(snapshot: Snapshot, random: Random) -> None:
    assert schedule(shuffled(snapshot, random), NOON) == schedule(snapshot, NOON)


@STABLE
@given(worlds)
def test_every_workload_gets_one_decision(snapshot: Snapshot) -> None:
    decided = [decision.workload_id for decision in schedule(snapshot, NOON).decisions]
    assert sorted(decided) == sorted(workload.id for workload in snapshot.waiting)


@STABLE
@given(worlds)
def test_no_device_cpu_or_memory_is_oversubscribed(snapshot: Snapshot) -> None:
    check_room(carried_out(snapshot, schedule(snapshot, NOON)))


@STABLE
@given(worlds)
def test_gangs_are_whole_and_sit_where_they_may(snapshot: Snapshot) -> None:
    nodes = {node.id: node for node in snapshot.nodes}
    asked = {(workload.id, request.index): request for workload in snapshot.waiting for request in requests(workload)}
    for decision in schedule(snapshot, NOON).decisions:
        if isinstance(decision, Start | StartAfter):
            placement = decision.placement
            request = asked[decision.workload_id, placement.target]
            check_gang(decision, request)
            homes = [nodes[share.node_id] for share in placement.shares]
            assert {(home.provider, home.region, home.sku) for home in homes} == {
                (placement.provider, placement.region, placement.sku)
            }
            assert all(set(home.taints) <= set(request.spec.tolerations) for home in homes)
            if level := request.spec.topology.required:
                assert len({home.domain(level) for home in homes}) == 1


def check_gang(decision: Start | StartAfter, request: Request) -> None:
    """Each group has between its minimum and its count, and each replica the devices that it asked for."""
    for shape in request.gang.shapes:
        placed = [
            (share, replica) for share in decision.placement.shares for replica in share.replicas if replica.group == shape.name
        ]
        assert shape.minimum <= len(placed) <= shape.count
        assert sorted(replica.index for _, replica in placed) == list(range(len(placed)))
        assert all(whole_or_one_share(shape.milli, replica.devices) for _, replica in placed)
    for share in decision.placement.shares:
        (shape,) = request.gang.shapes
        used = [0] * len(share.room.devices)
        for replica in share.replicas:
            for device in replica.devices:
                used[device] += min(shape.milli, WHOLE)
        number = len(share.replicas)
        assert share.room == Room(tuple(used), number * shape.cpu_milli, number * shape.memory_mib, number)


@STABLE
@given(worlds)
def test_no_queue_or_cohort_is_taken_beyond_its_cap(snapshot: Snapshot) -> None:
    tree = QuotaTree.at(snapshot.queues, NOON)
    before = World.of(snapshot, tree).usage
    after = World.of(carried_out(snapshot, schedule(snapshot, NOON)), tree).usage
    for name, sku in product(tree.paths, tree.skus):
        cap = tree.standings[name, sku].quota.cap
        assert cap is None or after.use(name, sku).total <= max(cap, before.use(name, sku).total)


@STABLE
@given(worlds)
def test_a_second_round_has_nothing_left_to_do(snapshot: Snapshot) -> None:
    first = schedule(snapshot, NOON)
    second = schedule(carried_out(snapshot, first), NOON)
    waits = [decision for decision in first.decisions if not isinstance(decision, Start | StartAfter)]
    assert sorted(second.decisions, key=lambda wait: wait.workload_id) == sorted(waits, key=lambda wait: wait.workload_id)


@STABLE
@given(worlds)
def test_nobody_waits_who_would_fit_on_what_is_left(snapshot: Snapshot) -> None:
    plan = schedule(snapshot, NOON)
    after = replace(carried_out(snapshot, plan), policy=Policy(rank=Rank(preemption=False)))
    for wait in (decision for decision in plan.decisions if isinstance(decision, Wait)):
        alone = tuple(workload for workload in after.waiting if workload.id == wait.workload_id)
        assert not schedule(replace(after, waiting=alone), NOON).starts


# Victims


def would_start(snapshot: Snapshot, gone: tuple[str, ...]) -> bool:
    """Whether the one waiting workload starts when these attempts have left."""
    left = [active for active in snapshot.active if active.attempt_id in gone]
    freed = tuple(replace(node, free=Room((0,) * len(node.total.devices), 0, 0) + _free(node, left)) for node in snapshot.nodes)
    staying = tuple(active for active in snapshot.active if active.attempt_id not in gone)
    return bool(
        schedule(replace(snapshot, nodes=freed, active=staying, policy=Policy(rank=Rank(preemption=False))), NOON).starts
    )


def _free(node: Node, left: list[Active]) -> Room:
    room = node.free
    for active in left:
        for share in active.placement.shares:
            if share.node_id == node.id:
                room += share.room
    return room


@STABLE
@given(contested(most_waiting=1))
def test_victims_are_allowed_and_all_are_needed(snapshot: Snapshot) -> None:
    for decision in schedule(snapshot, NOON).decisions:
        if isinstance(decision, StartAfter) and not decision.reshapes:
            assert would_start(snapshot, decision.victims)
            check_allowed(snapshot, decision.victims, decision.placement)
            for spared in decision.victims:
                fewer = tuple(victim for victim in decision.victims if victim != spared)
                assert not would_start(snapshot, fewer) or breaks_nominal(snapshot, fewer, decision.placement)


def check_allowed(snapshot: Snapshot, victims: tuple[str, ...], placement: Placement) -> None:
    """Every victim may be stopped, and is lower work of the same queue or of one that borrows from an owner."""
    (workload,) = snapshot.waiting
    usage = World.of(snapshot, QuotaTree.at(snapshot.queues, NOON)).usage
    mine = workload.spec
    for victim in (active for active in snapshot.active if active.attempt_id in victims):
        its = victim.spec
        assert its.preemptible
        assert victim.state in {State.STARTING, State.RUNNING}
        if its.queue == mine.queue:
            assert standing(its.tier, its.priority) < standing(mine.tier, mine.priority)
        else:
            assert not usage.is_within_nominal(its.queue, placement.sku, 0)
    assert not breaks_nominal(snapshot, victims, placement)


def breaks_nominal(snapshot: Snapshot, victims: tuple[str, ...], placement: Placement) -> bool:
    """Whether others lose though the queue would not live on what it owns, without those of its own who leave as well."""
    (workload,) = snapshot.waiting
    queue, usage = workload.spec.queue, World.of(snapshot, QuotaTree.at(snapshot.queues, NOON)).usage
    left = [active for active in snapshot.active if active.attempt_id in victims]
    own = sum(active.milli for active in left if active.spec.queue == queue)
    lose = any(active.spec.queue != queue for active in left)
    return lose and not usage.is_within_nominal(queue, placement.sku, placement.milli - own)


# An oracle for tiny instances: try everything


tiny_nodes = st.lists(
    st.tuples(st.lists(st.sampled_from((0, 300, 500, 1000)), min_size=1, max_size=3), st.integers(0, 3), st.integers(0, 3)),
    min_size=1,
    max_size=3,
)
tiny_groups = st.builds(
    ReplicaGroup,
    count=st.integers(1, 4),
    accelerators=st.sampled_from((0, 0.3, 0.5, 1, 2)),
    cpu_milli=st.integers(0, 2),
    memory_mib=st.integers(0, 2),
)


def fits_somehow(rooms: list[Room], group: ReplicaGroup, missing: int) -> bool:
    """Whether any assignment of the missing replicas to nodes and devices works."""
    if missing == 0:
        return True
    for index, room in enumerate(rooms):
        for devices in _choices(room, group.milli):
            used = tuple(min(group.milli, WHOLE) if device in devices else 0 for device in range(len(room.devices)))
            left = room - Room(used, group.cpu_milli, group.memory_mib)
            if is_within(left) and fits_somehow([*rooms[:index], left, *rooms[index + 1 :]], group, missing - 1):
                return True
    return False


def _choices(room: Room, milli: int) -> list[tuple[int, ...]]:
    if milli >= WHOLE:
        whole = [device for device, free in enumerate(room.devices) if free == WHOLE]
        return [tuple(whole[: milli // WHOLE])] if len(whole) >= milli // WHOLE else []
    if milli == 0:
        return [()]
    return [(device,) for device, free in enumerate(room.devices) if free >= milli]


@STABLE
@given(tiny_nodes, tiny_groups)
def test_a_gang_is_placed_exactly_when_it_fits_somehow(sizes: list[tuple[list[int], int, int]], group: ReplicaGroup) -> None:
    rooms = [Room(tuple(devices), cpu, memory) for devices, cpu, memory in sizes]
    nodes = in_order(NodeRoom.of(a_node(f"n{index}", gpus=len(room.devices)), room) for index, room in enumerate(rooms))
    gang = Gang.of((group,), a_workload().spec.topology)
    assert (lay_out(gang, nodes) is not None) == fits_somehow(rooms, group, group.count)
