"""What a round leaves to others can be measured."""

from functools import partial

from tests.benchmarks.pools import Size
from tests.benchmarks.scale import in_a_child
from tests.benchmarks.stalls import CHANGES, WAYS, in_one_process


def test_each_round_has_its_seconds_and_its_longest_stall() -> None:
    for way in WAYS[0], WAYS[-1]:
        found = in_a_child(partial(in_one_process, Size(256, waiting=8), way))
        assert len(found) == 1 + CHANGES
        assert all(each.seconds > 0 and each.worst >= 0 for each in found)
