"""Leases: a cluster that does not answer is suspect, lost when its work must have stopped, and back when nothing is left."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.pool.leases import REACH_STEPS, BadTerms, Lease, LeaseTerms, Reach, granted, in_doubt, is_fenced, judged
from tests.builders import NOON


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def at(number: float) -> datetime:
    return NOON + seconds(number)


TERMS = LeaseTerms(length=seconds(100), grace=seconds(10), skew=seconds(5), suspect_after=seconds(30))
WELL = granted(Lease(Reach.REACHABLE, NOON, heard_at=NOON), NOON, TERMS)


def after(lease: Lease, number: float, *, answered: bool = False, clean: bool = True, asked: float | None = None) -> Lease:
    asked_at = at(number if asked is None else asked)
    return judged(lease, at(number), TERMS, asked_at=asked_at, answered=answered, clean=clean)


def test_a_lease_is_renewed_as_long_as_a_cluster_is_reachable() -> None:
    assert (WELL.until, WELL.fenced_at) == (at(100), at(115))
    assert granted(WELL, at(20), TERMS).until == at(120)


def test_a_lease_is_never_taken_shorter() -> None:
    assert granted(WELL, at(-50), TERMS) == WELL
    shorter = replace(TERMS, length=seconds(31), grace=seconds(0))
    assert granted(WELL, at(20), shorter).fenced_at == WELL.fenced_at


def test_one_answer_too_few_changes_nothing() -> None:
    assert after(WELL, 30) == WELL


def test_a_cluster_that_has_not_answered_for_a_while_is_suspect_and_keeps_its_lease() -> None:
    suspect = after(WELL, 31)
    assert (suspect.reach, suspect.since) == (Reach.SUSPECT, at(31))
    assert granted(suspect, at(40), TERMS) == suspect, "a new lease would put off the moment from which work may go elsewhere"


def test_a_suspect_cluster_that_answers_is_reachable_again() -> None:
    assert after(after(WELL, 31), 60, answered=True).reach is Reach.REACHABLE


@pytest.mark.parametrize(("number", "reach"), [(114.9, Reach.SUSPECT), (115, Reach.LOST)])
def test_a_cluster_is_lost_no_earlier_than_lease_grace_and_skew_are_over(number: float, reach: Reach) -> None:
    assert after(after(WELL, 31), number).reach is reach


def test_a_lease_that_was_sent_and_never_arrived_counts() -> None:
    renewed = granted(WELL, at(29), TERMS)
    assert after(after(renewed, 31), 115).reach is Reach.SUSPECT
    assert after(after(renewed, 31), 144).reach is Reach.LOST


def test_nobody_is_lost_at_a_single_stroke() -> None:
    assert after(WELL, 10_000).reach is Reach.SUSPECT, "whoever asks has only just come back"


def test_a_cluster_that_never_answered_is_never_lost() -> None:
    unheard = granted(Lease(Reach.REACHABLE, NOON), NOON, TERMS)
    assert after(after(unheard, 31), 10_000).reach is Reach.SUSPECT


def test_an_answer_that_is_late_by_too_much_is_none() -> None:
    assert after(WELL, 60, answered=True, asked=20).reach is Reach.SUSPECT


def test_an_answer_tells_of_when_it_was_asked_for() -> None:
    heard = after(WELL, 25, answered=True, asked=10)
    assert heard.heard_at == at(10)
    assert after(heard, 26, answered=True, asked=5).heard_at == at(10), "answers may overtake each other"


def test_a_lost_cluster_that_answers_is_given_work_only_when_all_is_released_there() -> None:
    lost = Lease(Reach.LOST, at(200), heard_at=NOON, until=at(100), fenced_at=at(115))
    returned = after(lost, 300, answered=True, clean=False)
    assert returned.reach is Reach.RETURNED
    assert granted(returned, at(300), TERMS) == returned
    assert after(returned, 310, answered=True, clean=False).reach is Reach.RETURNED
    assert after(returned, 310).reach is Reach.LOST
    assert after(returned, 310, answered=True).reach is Reach.REACHABLE


def test_a_lost_cluster_is_never_reachable_at_once() -> None:
    assert after(Lease(Reach.LOST, NOON), 1, answered=True).reach is Reach.RETURNED


@pytest.mark.parametrize(
    "changed", [{"grace": seconds(-1)}, {"skew": seconds(-1)}, {"suspect_after": seconds(100)}, {"suspect_after": seconds(0)}]
)
def test_terms_under_which_work_could_run_twice_are_refused(changed: dict[str, timedelta]) -> None:
    with pytest.raises(BadTerms):
        replace(TERMS, **changed)


moments = st.lists(st.tuples(st.integers(1, 60), st.booleans(), st.integers(0, 60), st.booleans()), max_size=60)


@given(moments, st.integers(-5, 5))
def test_whatever_is_answered_when_a_cluster_is_lost_only_when_its_work_has_stopped(
    history: list[tuple[int, bool, int, bool]], skew: int
) -> None:
    """The cluster's clock is off by `skew`, and any lease may have arrived or not, whenever it was sent."""
    lease, now, runs_until = Lease(Reach.REACHABLE, NOON, heard_at=NOON), 0, NOON
    for passed, answered, late, arrives in history:
        now += passed
        lease = granted(lease, at(now), TERMS)
        if arrives and lease.until is not None and lease.reach is not Reach.LOST:
            runs_until = max(runs_until, lease.until)
        before = lease.reach
        lease = judged(lease, at(now + late), TERMS, asked_at=at(now), answered=answered, clean=True)
        now += late
        assert lease.reach is before or lease.reach in REACH_STEPS[before]
        if lease.reach is Reach.LOST and before is Reach.SUSPECT:
            assert is_fenced(lease, at(now))
            # By the true time the cluster stops so much later, and takes its grace for it.
            assert runs_until - seconds(skew) + TERMS.grace <= at(now)


def test_nothing_is_started_elsewhere_too_early_whichever_worker_gives_a_lease_and_whichever_judges() -> None:
    """Clocks of two workers that differ by twice the skew, with a cluster between them that is off from both by the skew."""
    slow, fast = NOON - TERMS.skew, NOON + TERMS.skew
    for giver, judge in ((slow, fast), (fast, slow), (fast, fast)):
        lease = granted(Lease(Reach.REACHABLE, giver, heard_at=giver), giver, TERMS)
        assert lease.until is not None
        stops_within = lease.until + TERMS.grace - NOON
        assert not is_fenced(lease, judge + stops_within - seconds(0.001))


# A record that was restored


def test_a_suspect_cluster_may_have_a_lease_that_a_restored_record_does_not_know() -> None:
    doubted = in_doubt(after(WELL, 31), at(500), TERMS)
    assert (doubted.reach, doubted.until, doubted.fenced_at) == (Reach.SUSPECT, at(600), at(615))
    assert in_doubt(after(WELL, 31), at(-50), TERMS).until == WELL.until, "no lease is taken shorter"


def test_what_answers_or_has_no_lease_is_as_a_restored_record_says() -> None:
    for lease in (WELL, Lease(Reach.SUSPECT, NOON), after(after(WELL, 31), 115)):
        assert in_doubt(lease, at(500), TERMS) == lease
