"""How much of the tree a request may use."""

import pytest

from corral.api import QueueSpec, QueueTree, Reason
from corral.policy import QuotaModel
from domain.quota.tree import QuotaError, QuotaTree, check_tree
from domain.quota.usage import NOT_BORROWING, Usage
from domain.round import schedule
from tests.builders import (
    NOON,
    a_cohort,
    a_node,
    a_queue,
    a_quota,
    a_snapshot,
    a_workload,
    by_model,
    nodes,
    seconds,
    started,
    why,
)

H100 = "h100"


def usage_of(queues: list[QueueSpec], **used: int) -> Usage:
    """Whole h100 in use by queue."""
    usage = Usage(QuotaTree.at(queues, NOON))
    for queue, number in used.items():
        usage = usage.plus(queue, H100, number * 1000, preemptible=True)
    return usage


def room(usage: Usage, queue: str) -> float:
    return usage.room(queue, H100, preemptible=True) / 1000


def reason(usage: Usage, queue: str, number: int, preemptible: bool = True) -> tuple[Reason, str, float] | None:
    rejection = usage.rejection(queue, H100, number * 1000, preemptible=preemptible)
    return None if rejection is None else (rejection.reason, rejection.candidate, rejection.has / 1000)


def test_a_queue_borrows_what_others_do_not_use() -> None:
    cohort = a_cohort(a_queue("one", 4), a_queue("two", 8))
    assert room(usage_of(cohort), "one") == 12
    assert room(usage_of(cohort, two=6), "one") == 6
    assert room(usage_of(cohort, one=4, two=8), "one") == 0


def test_a_cohort_owns_quota_of_its_own() -> None:
    cohort = a_cohort(a_queue("one", 4), a_queue("two", 0), nominal=10)
    assert room(usage_of(cohort), "two") == 14


def test_the_borrowing_limit_bounds_use_beyond_nominal() -> None:
    cohort = a_cohort(a_queue("one", 4, borrowing_limit=2), a_queue("two", 8))
    assert room(usage_of(cohort), "one") == 6
    assert reason(usage_of(cohort, one=4), "one", 3) == (Reason.BORROWING_LIMIT_REACHED, "one", 2)


def test_a_limit_of_the_cohort_counts_for_all_its_queues() -> None:
    inner = a_cohort(a_queue("one", 4), a_queue("two", 0), name="inner", parent="top", nominal=0, borrowing_limit=3)
    tree = [a_queue("top", 20), *inner]
    assert room(usage_of(tree), "two") == 7
    assert reason(usage_of(tree, one=6), "two", 2) == (Reason.BORROWING_LIMIT_REACHED, "two", 1)


def test_the_lending_limit_keeps_the_rest_for_its_owner() -> None:
    cohort = a_cohort(a_queue("one", 0), a_queue("two", 8, lending_limit=3))
    assert room(usage_of(cohort), "one") == 3
    assert room(usage_of(cohort, one=3), "two") == 5


def test_the_floor_is_never_lent() -> None:
    cohort = a_cohort(a_queue("one", 0), a_queue("two", 8, floor=6))
    assert room(usage_of(cohort), "one") == 2
    assert room(usage_of(cohort, one=2), "two") == 6


def test_use_within_the_guaranteed_part_is_not_charged_to_the_cohort() -> None:
    cohort = a_cohort(a_queue("one", 4), a_queue("two", 8, lending_limit=3))
    assert room(usage_of(cohort, two=5), "one") == 7
    assert room(usage_of(cohort, two=6), "one") == 6


def test_giving_back_restores_what_was_there() -> None:
    cohort = a_cohort(a_queue("one", 4), a_queue("two", 8, lending_limit=3))
    before = usage_of(cohort, two=4)
    borrowed = before.plus("two", H100, 4000, preemptible=True)
    assert room(borrowed, "one") == 4
    assert room(borrowed.plus("two", H100, -4000, preemptible=True), "one") == room(before, "one")


def test_the_cap_bounds_all_use_below_a_node() -> None:
    cohort = a_cohort(a_queue("one", 8), a_queue("two", 8), nominal=0, cap=10)
    assert room(usage_of(cohort, one=7), "two") == 3
    assert reason(usage_of(cohort, one=7), "two", 4) == (Reason.QUEUE_CAP_REACHED, "cohort", 3)


def test_a_queue_without_a_row_may_not_use_the_sku() -> None:
    cohort = a_cohort(a_queue("one"), a_queue("two", 8))
    assert reason(usage_of(cohort), "one", 1) == (Reason.WAITING_FOR_QUOTA, "one", 0)


def test_a_row_with_nominal_zero_opts_in() -> None:
    assert room(usage_of(a_cohort(a_queue("one", 0), a_queue("two", 8))), "one") == 8


def test_work_that_may_not_be_preempted_lives_on_nominal_alone() -> None:
    cohort = a_cohort(a_queue("one", 4), a_queue("two", 8))
    assert reason(usage_of(cohort), "one", 5, preemptible=False) == (Reason.WAITING_FOR_QUOTA, "one", 4)
    assert reason(usage_of(cohort), "one", 4, preemptible=False) is None


def test_a_temporary_grant_replaces_the_lasting_row_while_it_is_valid() -> None:
    grant = a_quota(20, valid_from=NOON - seconds(60), valid_until=NOON + seconds(60))
    queue = a_queue("one", 4, quotas=[grant])

    def owned(after: float) -> float:
        return room(Usage(QuotaTree.at([queue], NOON + seconds(after))), "one")

    assert [owned(-61), owned(-60), owned(0), owned(60)] == [4, 20, 20, 4]


def test_use_beyond_an_ended_grant_leaves_no_room_for_anybody() -> None:
    cohort = a_cohort(a_queue("one", 4), a_queue("two", 8))
    assert room(usage_of(cohort, one=14), "two") == 0


def test_dominant_share_is_borrowed_over_lendable_over_weight() -> None:
    cohort = a_cohort(a_queue("one", 4, weight=2), a_queue("two", 8, weight=0), a_queue("three", 4))
    usage = usage_of(cohort, one=8, two=9, three=4)
    assert usage.dominant_share("one").value == pytest.approx(4 / 16 / 2)
    assert usage.dominant_share("two").is_infinite
    assert usage.dominant_share("two") > usage.dominant_share("one")
    assert usage.dominant_share("three") == NOT_BORROWING


def test_the_ceiling_is_what_a_queue_could_have_alone() -> None:
    cohort = a_cohort(
        a_queue("one", 4, borrowing_limit=5), a_queue("two", 8, lending_limit=3), a_queue("three", 0, cap=6), a_queue("four")
    )
    tree = QuotaTree.ever(cohort)
    ceilings = {queue: tree.ceiling(queue, H100, preemptible=True) / 1000 for queue in ("one", "two", "three", "four")}
    assert ceilings == {"one": 7, "two": 12, "three": 6, "four": 0}
    assert tree.ceiling("one", H100, preemptible=False) == 4000


def test_running_work_counts_until_it_has_notice_to_leave() -> None:
    fleet = nodes(2)
    runner = a_workload("runner", gpus=8).on((fleet[0], 8))
    queue = a_queue("research", 8)
    assert why(schedule(a_snapshot(fleet, [queue], runner, a_workload()), NOON)).reason is Reason.WAITING_FOR_QUOTA
    assert "w" in started(schedule(a_snapshot(fleet, [queue], runner.stopping(), a_workload()), NOON))


def test_quota_is_by_sku() -> None:
    fleet = [a_node("a", sku="a100"), a_node("h")]
    queue = a_queue("research", 0, quotas=[a_quota(8, sku="a100")])
    assert started(schedule(a_snapshot(fleet, [queue], a_workload()), NOON))["w"].sku == "a100"


def a_chain(levels: int) -> list[QueueSpec]:
    """Queues each below the one before; the last owns what there is."""
    below = [a_queue(f"q{level}", parent=f"q{level - 1}") for level in range(1, levels)]
    return [a_queue("q0"), *below[:-1], below[-1].model_copy(update={"quotas": (a_quota(8),)})]


@pytest.mark.parametrize("model", QuotaModel)
def test_the_deepest_tree_that_is_allowed_is_decided_about(model: QuotaModel) -> None:
    chain = a_chain(64)
    check_tree(QueueTree(queues=tuple(chain)))
    work = [a_workload(f"w{number}", queue="q63", gpus=4) for number in range(3)]
    assert len(started(schedule(a_snapshot([a_node("n")], chain, *work, policy=by_model(model)), NOON))) == 2


@pytest.mark.parametrize(
    ("queues", "message"),
    [
        ([a_queue("a"), a_queue("a")], "given twice"),
        ([a_queue("a", parent="b")], "not a queue of this tree"),
        ([a_queue("a", parent="b"), a_queue("b", parent="a")], "a -> b -> a"),
        (a_chain(65), "'q64' is 65 levels deep; expected at most 64"),
    ],
)
def test_a_tree_that_contradicts_itself_is_refused(queues: list[QueueSpec], message: str) -> None:
    with pytest.raises(QuotaError, match=message):
        check_tree(QueueTree(queues=tuple(queues)))
