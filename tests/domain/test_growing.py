"""Work that grows step by step sits as it would if it had been placed at once."""

from corral.api import Autoscale, ReplicaGroup, Topology
from corral.policy import QuotaModel
from domain.decision import Plan
from domain.pool.fleet import Node
from domain.round import schedule
from tests.builders import NOON, AWorkload, a_node, a_queue, a_snapshot, a_workload, by_model, nodes_of, started

QUEUES = [a_queue("research", 16)]
IN_TWOS = Topology(slice_level="rack", slice_size=2)


def racks(*gpus: int) -> list[Node]:
    """A node a rack, each with so many accelerators."""
    return [a_node(f"n{index}", gpus=number, topology=(("rack", f"r{index}"),)) for index, number in enumerate(gpus)]


def decided(fleet: list[Node], workload: AWorkload) -> Plan:
    return schedule(a_snapshot(fleet, QUEUES, workload, policy=by_model(QuotaModel.DESERVED)), NOON)


def test_what_grows_joins_its_own_part_of_the_gang_and_no_other() -> None:
    close = Topology(required="rack")
    groups = [
        ReplicaGroup(name="helper", accelerators=0, cpu_milli=1_000, nodes={"rack": ("r0",)}, topology=Topology()),
        ReplicaGroup(name="worker", count=4, minimum=2, topology=close),
    ]

    placement = started(decided(racks(1, 4, 4), a_workload(groups=groups)))["w"]

    homes = {(replica.group, share.node_id) for share in placement.shares for replica in share.replicas}
    assert homes == {("helper", "n0"), ("worker", "n1")}
    assert nodes_of(placement) == {"n0": 1, "n1": 4}


def test_what_grows_beside_others_sits_in_their_domain_or_nowhere() -> None:
    groups = [
        ReplicaGroup(name="leader", accelerators=2, topology=Topology(required="rack"), colocate="pair"),
        ReplicaGroup(name="helper", minimum=0, topology=Topology(), colocate="pair"),
    ]

    assert nodes_of(started(decided(racks(2, 4), a_workload(groups=groups)))["w"]) == {"n0": 1}


def test_a_slice_that_is_not_full_is_filled_where_it_is() -> None:
    workload = a_workload(groups=[ReplicaGroup(count=4, minimum=1, topology=IN_TWOS)])

    assert nodes_of(started(decided(racks(3, 2), workload))["w"]) == {"n0": 2, "n1": 2}


def test_the_rest_of_a_slice_needs_no_room_for_a_whole_one() -> None:
    workload = a_workload(groups=[ReplicaGroup(count=2, minimum=1, topology=IN_TWOS)])

    assert nodes_of(started(decided(racks(2), workload))["w"]) == {"n0": 2}


def test_an_endpoint_grows_slice_by_slice() -> None:
    fleet, group = racks(3, 3), ReplicaGroup(count=5, minimum=1, topology=IN_TWOS)
    endpoint = a_workload(groups=[group], autoscale=Autoscale(target=1, most=6)).on((fleet[0], 1))

    (reshape,) = schedule(a_snapshot(fleet, QUEUES, endpoint), NOON).reshapes

    homes = {replica.index: share.node_id for share in reshape.placement.shares for replica in share.replicas}
    assert homes == {0: "n0", 1: "n0", 2: "n1", 3: "n1", 4: "n0"}
