"""The vectorised rule against the same rule spelled out for one need, one node and one device at a time."""

from math import sqrt

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from corral.api import WHOLE
from domain.pool.fleet import Room
from domain.worlds.fragmentation import (
    IMPOSSIBLE,
    LEVELS,
    MOST_COUNTED,
    NO_DEVICE,
    Demand,
    Mix,
    Need,
    Needs,
    Rooms,
    losses,
)
from tests.properties.situations import STABLE

SKUS = ("a100", "t4")
Here = tuple[Room, str]
"""What is free on a node, and its SKU."""

needs = st.builds(
    Need,
    st.sampled_from((0, 160, 320, 470, 500, 810, 1_000, 2_000, 4_000)),
    st.sampled_from((0, 1_000, 3_000, 8_000)),
    st.sampled_from((0, 10, 60)),
    st.sampled_from(((), ("a100",), ("t4",), SKUS)),
)
frees = st.lists(st.sampled_from((0, 190, 320, 500, 530, 810, 1_000, 1_000)), min_size=4, max_size=4)
nodes = st.lists(
    st.tuples(frees, st.integers(0, 32_000), st.integers(0, 200), st.sampled_from(SKUS)).map(
        lambda drawn: (Room(tuple(drawn[0]), drawn[1], drawn[2]), drawn[3])
    ),
    min_size=1,
    max_size=4,
)
mixes = st.dictionaries(needs, st.integers(1, 9), min_size=1, max_size=5).map(Mix.of)


def arrays(fleet: list[Here]) -> Rooms:
    return Rooms(
        np.array([room.devices for room, _ in fleet], np.int64),
        np.array([room.cpu_milli for room, _ in fleet], np.int64),
        np.array([room.memory_mib for room, _ in fleet], np.int64),
        np.array([SKUS.index(sku) for _, sku in fleet], np.int64),
    )


def replicas(need: Need, here: Here) -> int:
    """As many of the need alone as the node has room for; one or none where it takes no device."""
    room, sku = here
    if need.skus and sku not in need.skus:
        return 0
    if need.devices:
        number = room.whole_devices // need.devices
    else:
        number = sum(free // need.milli for free in room.devices) if need.milli else 1
    for has, each in ((room.cpu_milli, need.cpu_milli), (room.memory_mib, need.memory_mib)):
        number = min(number, has // each) if each else number
    return number


def useful(need: Need, here: Here) -> tuple[int, int]:
    """Idle thousandths that one could use, and those that as many as fit do use."""
    if not need.milli or not (number := replicas(need, here)):
        return 0, 0
    return sum(free for free in here[0].devices if free >= min(need.milli, WHOLE)), number * need.milli


def filled(need: Need, idle: list[Here]) -> tuple[int, int]:
    """What is useful on all nodes together."""
    each = [useful(need, here) for here in idle]
    return sum(milli for milli, _ in each), sum(milli for _, milli in each)


def worth(mix: Mix, idle: list[Here], here: Here) -> float:
    """V(n), weights and scarcity included."""
    total, plain, scaled = 0.0, 0.0, 0.0
    of_all = [
        sum(count * filled(need, idle)[kind] for need, count in zip(mix.needs, mix.counts, strict=True)) for kind in (0, 1)
    ]
    for need, count in zip(mix.needs, mix.counts, strict=True):
        by_milli, by_replicas = filled(need, idle)
        counted = MOST_COUNTED * (by_replicas / by_milli * of_all[1] / of_all[0]) ** 1.5 if by_milli else 0.0
        for kind, part in enumerate((1 - counted, counted)):
            weight = count * part / sum(mix.counts)
            if room := filled(need, idle)[kind]:
                plain, scaled = plain + weight * room, scaled + weight * sqrt(room)
                total += weight * useful(need, here)[kind] / sqrt(room)
    return total * plain / scaled if scaled else total


def options(need: Need, here: Here) -> list[tuple[int, Here]]:
    """Every device that a replica could go to, in the order in which ties fall, with what it leaves."""
    room, sku = here
    rest = room.cpu_milli - need.cpu_milli, room.memory_mib - need.memory_mib
    if replicas(need, here) == 0:
        return []
    if not need.milli or need.devices:
        whole = [device for device, free in enumerate(room.devices) if free == WHOLE][: need.devices]
        left = tuple(0 if device in whole else free for device, free in enumerate(room.devices))
        return [(NO_DEVICE, (Room(left, *rest), sku))]
    fitting = sorted((free, device) for device, free in enumerate(room.devices) if free >= need.milli)
    return [
        (device, (Room((*room.devices[:device], free - need.milli, *room.devices[device + 1 :]), *rest), sku))
        for free, device in fitting
    ]


def levels(growth: float) -> set[int]:
    """The level of a growth; both beside a boundary, which the whole numbers of the fast form may see on either side."""
    near = 0.01
    return {sum(level < each for level in LEVELS.tolist()) for each in (growth - near, growth + near)}


@given(mix=mixes, fleet=nodes, idle=nodes, wanted=st.lists(needs, min_size=1, max_size=4))
@STABLE
def test_costs_and_devices_are_those_of_the_rule_spelled_out(
    mix: Mix, fleet: list[Here], idle: list[Here], wanted: list[Need]
) -> None:
    found = losses(Demand.of(mix, arrays(idle), SKUS), Needs.of(wanted, SKUS), arrays(fleet))
    for row, need in enumerate(wanted):
        for column, here in enumerate(fleet):
            before = worth(mix, idle, here)
            expected = {device: levels(before - worth(mix, idle, left) - need.milli) for device, left in options(need, here)}
            cost, device = int(found.costs[row, column]), int(found.devices[row, column])
            if not expected:
                assert (cost, device) == (IMPOSSIBLE, NO_DEVICE)
            else:
                assert cost in expected[device]
                assert all(cost <= max(other) for other in expected.values())


@given(mix=mixes, fleet=nodes, wanted=st.lists(needs, min_size=1, max_size=4))
@STABLE
def test_one_node_for_many_needs_is_many_nodes_for_one_need(mix: Mix, fleet: list[Here], wanted: list[Need]) -> None:
    demand, rooms = Demand.of(mix, arrays(fleet), SKUS), arrays(fleet)
    whole = losses(demand, Needs.of(wanted, SKUS), rooms)
    for row, need in enumerate(wanted):
        alone = losses(demand, Needs.of([need], SKUS), rooms)
        assert (alone.costs[0] == whole.costs[row]).all()
        assert (alone.devices[0] == whole.devices[row]).all()
    for column in range(len(fleet)):
        alone = losses(demand, Needs.of(wanted, SKUS), rooms.row(column))
        assert (alone.costs[:, 0] == whole.costs[:, column]).all()
        assert (alone.devices[:, 0] == whole.devices[:, column]).all()
