"""While work falls in rank, a planner that remembers its last rounds decides what one would that does not."""

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from corral.policy import AttainedStep
from domain.remembered.attained import counted
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, seconds
from tests.properties.changes import a_change
from tests.properties.situations import STABLE, contested, worlds
from tests.properties.test_memory import ROUNDS, check, check_versions

STEPS = tuple(AttainedStep(after_seconds=after, lowers_priority_by=1) for after in (60, 200, 300))


def with_steps(snapshot: Snapshot, random: Random) -> Snapshot:
    """The same where some cross a step from one round to the next, which are a minute apart."""
    rank = snapshot.policy.rank.model_copy(update={"attained_service": STEPS})
    active = [
        replace(each, started_at=each.started_at and NOON - seconds(random.randrange(300)), ran_seconds=random.randrange(200))
        for each in snapshot.active
    ]
    waiting = tuple(replace(each, ran_seconds=random.randrange(400)) for each in snapshot.waiting)
    return replace(snapshot, active=tuple(active), waiting=waiting, policy=snapshot.policy.model_copy(update={"rank": rank}))


def some_rounds(snapshot: Snapshot, random: Random) -> list[Snapshot]:
    snapshots = [with_steps(snapshot, random)]
    while len(snapshots) < ROUNDS:
        before = snapshots[-1]
        snapshots.append(random.choice((before, replace(a_change(before, random), policy=before.policy))))
    return [*snapshots, a_change(snapshots[-1], random)]


@STABLE
@given(worlds | contested(), st.randoms(use_true_random=False))
def test_memory_changes_nothing_while_steps_are_crossed(snapshot: Snapshot, random: Random) -> None:
    check(some_rounds(snapshot, random))


@STABLE
@given(worlds | contested(), st.randoms(use_true_random=False))
def test_nor_where_who_waits_comes_as_versions(snapshot: Snapshot, random: Random) -> None:
    check_versions(some_rounds(snapshot, random))


@STABLE
@given(worlds | contested(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(snapshot: Snapshot, random: Random) -> None:
    snapshot = with_steps(snapshot, random)
    shuffled = replace(
        snapshot,
        active=tuple(random.sample(snapshot.active, len(snapshot.active))),
        waiting=tuple(random.sample(snapshot.waiting, len(snapshot.waiting))),
    )
    assert schedule(snapshot, NOON) == schedule(shuffled, NOON)


@STABLE
@given(worlds | contested(), st.randoms(use_true_random=False))
def test_a_round_decides_as_if_everybody_had_been_set_so_low(snapshot: Snapshot, random: Random) -> None:
    snapshot = with_steps(snapshot, random)
    plain = snapshot.policy.rank.model_copy(update={"attained_service": ()})
    as_set = replace(counted(snapshot, NOON), policy=snapshot.policy.model_copy(update={"rank": plain}))
    assert schedule(snapshot, NOON) == schedule(as_set, NOON)
