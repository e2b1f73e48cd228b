"""What is closed to those who wait is the same whether it is remembered or asked for."""

from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import Checkpoint
from corral.policy import Limits
from corral.reservation import Lending
from domain.calendar import closures
from domain.calendar.closures import Closures
from domain.pool.bookings import Engagement, closed_to
from domain.pool.versions import Crowd, Versions
from domain.pool.workload import Waiting
from domain.remembered import lanes
from domain.remembered.memory import Memory
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, a_booking, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.properties.changes import a_change
from tests.properties.situations import STABLE
from tests.properties.test_memory import ROUNDS, check_versions
from tests.properties.test_reservations import reserved

PATHS = {"one": ("one", "all"), "two": ("two", "all"), "all": ("all",)}
LIMITS = (Limits(shortest_loan_seconds=70, departure_seconds=20), Limits(shortest_loan_seconds=30, departure_seconds=0))


@st.composite
def kept(draw: st.DrawFn) -> Engagement:
    opens_in = draw(st.integers(-5, 30)) * 10
    return Engagement(
        NOON + seconds(opens_in),
        NOON + seconds(opens_in + 10 * draw(st.integers(1, 20))),
        draw(st.sampled_from(("reservation a", "reservation b", "maintenance c"))),
        draw(st.booleans()),
        queues=draw(st.sampled_from(((), ("one",), ("all",)))),
        tenants=draw(st.sampled_from(((), ("lab",)))),
        workloads=draw(st.sampled_from(((), ("w0",), ("w1", "w2")))),
        lends=draw(st.booleans()),
        notice_seconds=draw(st.sampled_from((0, 60, 100))),
    )


@st.composite
def waiting(draw: st.DrawFn, id: str) -> Waiting:
    work = a_workload(
        id,
        queue=draw(st.sampled_from(("one", "two"))),
        tenant=draw(st.sampled_from((None, "lab"))),
        preemptible=draw(st.booleans()),
        maximum_runtime_seconds=draw(st.sampled_from((None, 10, 50, 51, 100))),
        checkpoint=Checkpoint(grace_seconds=draw(st.sampled_from((0, 10, 40)))),
    )
    return work.waiting()


@STABLE
@given(
    st.lists(st.tuples(st.frozensets(kept(), min_size=1, max_size=2), st.sampled_from(LIMITS)), min_size=1, max_size=2),
    st.lists(st.tuples(st.integers(0, 30), st.integers(-1, 3)), min_size=30, max_size=60),
    st.data(),
    st.randoms(use_true_random=False),
)
def test_it_is_the_same_at_any_time_whoever_comes_and_goes(
    rules: list[tuple[frozenset[Engagement], Limits]], steps: list[tuple[int, int]], data: st.DataObject, random: Random
) -> None:
    everybody = [data.draw(waiting(f"w{number}")) for number in range(6)]
    known, now, here = Closures(), NOON - seconds(200), dict[str, tuple[Waiting, object]]()
    for step, moves in steps:
        now += timedelta(seconds=10 * moves)
        every, limits = rules[step % len(rules)] if step > 28 else rules[0]
        for id in known.take(every, PATHS, limits, now):
            here.pop(id, None)
        gone = [workload for workload in everybody if workload.id in here and random.random() < 0.2]
        known.forget(gone)
        for workload in gone:
            del here[workload.id]
        for workload in everybody:
            if workload.id not in here:
                here[workload.id] = workload, known.closed(workload)
            question = workload, every, PATHS, now, limits
            lent = frozenset(each for each in every if each.lends)
            assert here[workload.id][1] == (closed_to(*question), closed_to(*question, lent))


@STABLE
@given(reserved(), st.randoms(use_true_random=False))
def test_rounds_over_versions_say_the_same_while_windows_come_and_go(snapshot: Snapshot, random: Random) -> None:
    snapshots = [snapshot]
    for _ in range(ROUNDS):
        snapshots.append(a_change(snapshots[-1], random) if random.random() < 0.5 else snapshots[-1])
    check_versions(snapshots)


@pytest.mark.parametrize("lent", Lending)
def test_a_round_between_two_moments_asks_nobody_whether_what_is_kept_is_closed(
    lent: Lending, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = replace(a_booking(opens_in=7_200, lent=lent), nodes=("kept",))
    line = Versions({f"w{number}": a_workload(f"w{number}", gpus=8, preemptible=False).waiting() for number in range(50)})
    fleet, queues = [a_node("kept"), a_node("full", used=8)], [a_queue("research", 16), a_queue("owner", 8)]
    pool, memory = replace(a_snapshot(fleet, queues), bookings=(kept,), waiting=Crowd(line)), Memory()
    schedule(pool, NOON, memory=memory)
    asked, sorted_anew = list[str](), list[str]()
    monkeypatch.setattr(closures, "closed_to", lambda claimant, *_: asked.append(claimant.id))
    monkeypatch.setattr(lanes.Lane, "join", lambda _, come: sorted_anew.extend(each.id for each in come))
    schedule(pool, NOON + seconds(60), memory=memory)
    assert (asked, sorted_anew) == ([], [])
