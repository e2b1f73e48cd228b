"""What a replica costs on a node: shares fill broken devices, cpu stays beside devices, scarce SKUs are kept."""

from collections.abc import Sequence

import numpy as np

from domain.worlds.fragmentation import IMPOSSIBLE, NO_DEVICE, Demand, Losses, Mix, Need, Needs, Rooms, fragmentation, losses

SKUS = ("a100", "t4")
HALF = Need(500, 4_000, 0)
ONE = Need(1_000, 8_000, 0)
FOUR = Need(4_000, 32_000, 0)
NOTHING = Need(0, 1_000, 0)


def rooms(*devices: Sequence[int], cpu_milli: Sequence[int] | None = None, skus: Sequence[int] | None = None) -> Rooms:
    number = len(devices)
    return Rooms(
        np.array(devices, np.int64),
        np.array(cpu_milli or [32_000] * number, np.int64),
        np.full(number, 10_000, np.int64),
        np.array(skus or [0] * number, np.int64),
    )


WHOLE_NODE = [1_000] * 4
IDLE = rooms(WHOLE_NODE, WHOLE_NODE)


def lost(need: Need, now: Rooms, mix: Mix, idle: Rooms = IDLE) -> Losses:
    return losses(Demand.of(mix, idle, SKUS), Needs.of([need], SKUS), now)


def best(need: Need, now: Rooms, mix: Mix, idle: Rooms = IDLE) -> int:
    return int(lost(need, now, mix, idle).costs[0].argmin())


def test_the_mix_keeps_the_most_frequent_needs_and_leaves_memory_out() -> None:
    mix = Mix.of({ONE: 60, Need(500, 4_000, 7): 20, Need(500, 4_000, 9): 16, FOUR: 4}, percent=95)
    assert mix == Mix((ONE, HALF), (60, 36))


def test_devices_with_less_than_anybody_needs_are_fragments() -> None:
    mix = Mix((ONE, HALF), (1, 1))
    assert fragmentation(mix, rooms([1_000, 600, 300, 0]), SKUS).tolist() == [(900 + 300) / 2]


def test_all_that_is_idle_is_a_fragment_where_cpu_is_too_short_or_the_sku_is_refused() -> None:
    mix = Mix((Need(1_000, 8_000, 0, ("t4",)),), (1,))
    assert fragmentation(mix, rooms(WHOLE_NODE), SKUS).tolist() == [4_000]
    assert fragmentation(mix, rooms(WHOLE_NODE, cpu_milli=[7_999], skus=[1]), SKUS).tolist() == [4_000]
    assert fragmentation(mix, rooms(WHOLE_NODE, cpu_milli=[8_000], skus=[1]), SKUS).tolist() == [0]


def test_a_share_breaks_no_device_while_a_broken_one_has_room() -> None:
    mix = Mix((ONE, HALF), (3, 1))
    now = rooms(WHOLE_NODE, [1_000, 500, 1_000, 700])
    assert best(HALF, now, mix) == 1
    assert lost(HALF, now, mix).devices[0, 1] == 1


def test_whole_devices_and_none_name_no_device() -> None:
    mix = Mix((ONE, HALF), (3, 1))
    for need in (ONE, FOUR, NOTHING):
        assert lost(need, IDLE, mix).devices.tolist() == [[NO_DEVICE, NO_DEVICE]]


def test_small_work_leaves_whole_nodes_to_those_who_need_one() -> None:
    mix = Mix((ONE, FOUR), (1, 1))
    assert best(ONE, rooms(WHOLE_NODE, [1_000, 1_000, 1_000, 0]), mix) == 1


def test_work_without_devices_goes_where_its_cpu_strands_none() -> None:
    mix = Mix((ONE,), (1,))
    now = rooms(WHOLE_NODE, [1_000, 0, 0, 0])
    assert best(NOTHING, now, mix) == 1


def test_whoever_takes_anything_leaves_the_sku_that_others_cannot_do_without() -> None:
    mix = Mix((ONE, Need(1_000, 8_000, 0, ("t4",))), (1, 1))
    fleet = rooms(WHOLE_NODE, WHOLE_NODE, WHOLE_NODE, skus=[1, 0, 0])
    assert best(ONE, fleet, mix, fleet) == 1


def test_no_room_is_impossible() -> None:
    mix = Mix((ONE,), (1,))
    picky = Need(1_000, 8_000, 0, ("t4",))
    assert lost(picky, IDLE, mix).costs.tolist() == [[IMPOSSIBLE, IMPOSSIBLE]]
    assert lost(Need(1_000, 0, 10_001), IDLE, mix).costs.tolist() == [[IMPOSSIBLE, IMPOSSIBLE]]
    assert lost(FOUR, rooms([1_000, 1_000, 1_000, 999]), mix).costs.tolist() == [[IMPOSSIBLE]]
    assert lost(HALF, rooms([499, 499, 499, 499]), mix).costs.tolist() == [[IMPOSSIBLE]]
