"""Who asks for the same is looked at together, and gets what it would get if each were looked at by itself."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.policy import QuotaModel
from domain.decision import Plan
from domain.facts import Facts
from domain.pool.workload import Waiting
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.request import Kind
from tests.builders import NOON, seconds
from tests.conformance.running import settled
from tests.properties.crowds import a_crowd
from tests.properties.situations import STABLE

ROUNDS = 2


@contextmanager
def each_by_itself() -> Iterator[None]:
    """Nobody is like anybody else."""
    kinds = defaultdict[str, Kind](Kind)

    def own_kind(_: Facts, workload: Waiting) -> Kind:
        return kinds[workload.id]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Facts, "turn_kind", own_kind)
        yield


def plans(snapshot: Snapshot, *, once: bool) -> list[Plan]:
    """Round after round, each carried out to the end."""
    made = []
    for number in range(ROUNDS):
        now = NOON + seconds(number)
        made.append(schedule(snapshot, now, once=once))
        snapshot = settled(snapshot, made[-1], now)
    return made


@pytest.mark.parametrize("once", [False, True])
@STABLE
@given(st.randoms(use_true_random=False))
def test_by_deserved_quota(once: bool, random: Random) -> None:
    snapshot = a_crowd(random, QuotaModel.DESERVED)
    together = plans(snapshot, once=once)
    with each_by_itself():
        assert plans(snapshot, once=once) == together
