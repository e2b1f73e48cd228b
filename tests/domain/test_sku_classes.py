"""Quota for classes of SKUs."""

import pytest

from corral.api import QueueSpec, Reason, Target
from corral.policy import Limits, Policy
from domain.quota.tree import QuotaTree
from domain.quota.usage import Usage
from domain.round import schedule
from tests.builders import NOON, a_cohort, a_node, a_queue, a_quota, a_snapshot, a_workload, why

HOPPER = Policy(limits=Limits(sku_classes={"hopper": ("h100", "h200")}))
FLEET = [a_node("a", gpus=16, sku="h100"), a_node("b", gpus=16, sku="h200")]


def usage_of(queues: list[QueueSpec]) -> Usage:
    return Usage(QuotaTree.at(queues, NOON, HOPPER.limits.sku_classes))


def room(usage: Usage, queue: str, sku: str) -> float:
    return usage.room(queue, sku, preemptible=True) / 1000


def test_a_class_bounds_all_its_skus_together() -> None:
    usage = usage_of([a_queue("research", quotas=[a_quota(8, sku="hopper")])])
    used = usage.plus("research", "h100", 6000, preemptible=True)
    assert (room(usage, "research", "h200"), room(used, "research", "h200"), room(used, "research", "h100")) == (8, 2, 2)


def test_the_smaller_of_the_skus_row_and_its_classes_wins() -> None:
    usage = usage_of([a_queue("research", 4, quotas=[a_quota(8, sku="hopper"), a_quota(8, sku="h200")])])
    assert (room(usage, "research", "h100"), room(usage, "research", "h200")) == (4, 8)
    used = usage.plus("research", "h200", 6000, preemptible=True)
    assert (room(used, "research", "h100"), room(used, "research", "h200")) == (2, 2)
    assert (
        used.plus("research", "h200", -6000, preemptible=True).uses == usage.plus("research", "h200", 0, preemptible=True).uses
    )


def test_a_class_without_a_row_bounds_nothing() -> None:
    assert room(usage_of([a_queue("research", 4)]), "research", "h100") == 4
    assert room(usage_of([a_queue("research", 4)]), "research", "h200") == 0


def test_the_cap_that_a_cohort_has_for_a_class_counts_for_queues_with_rows_of_their_own() -> None:
    queues = a_cohort(
        a_queue("one", 8), a_queue("two", quotas=[a_quota(8, sku="h200")]), quotas=[a_quota(0, sku="hopper", cap=10)]
    )
    used = usage_of(queues).plus("one", "h100", 7000, preemptible=True)
    assert room(used, "two", "h200") == 3
    rejection = used.rejection("two", "h200", 4000, preemptible=True)
    assert rejection is not None
    assert (rejection.reason, rejection.candidate) == (Reason.QUEUE_CAP_REACHED, "cohort (class hopper)")


def test_classes_are_lent_and_borrowed() -> None:
    rows = {name: a_queue(name, quotas=[a_quota(8, sku="hopper")]) for name in ("one", "two")}
    used = usage_of(a_cohort(*rows.values())).plus("one", "h100", 12000, preemptible=True)
    assert room(used, "two", "h200") == 4
    assert used.borrowers("cohort", "h200") == {"one"}
    assert used.dominant_share("one").value == pytest.approx(4 / 16)
    assert not used.is_within_nominal("one", "h200", 0)


def test_a_class_is_explained_by_its_name() -> None:
    queue = a_queue("research", quotas=[a_quota(4, sku="hopper")])
    running = a_workload("running", gpus=2).on((FLEET[0], 2))
    waiting = a_workload(gpus=4, targets=[Target(skus=("h200",))])
    plan = schedule(a_snapshot(FLEET, [queue], running, waiting, policy=HOPPER), NOON)
    assert why(plan).message == ("needs quota for 4 whole h200; queue research (class hopper) has room for 2")


def test_an_owner_takes_its_share_of_a_class_back() -> None:
    queues = a_cohort(*(a_queue(name, quotas=[a_quota(8, sku="hopper")]) for name in ("owner", "guest")))
    guest = a_workload("guest", queue="guest", gpus=16).on((FLEET[0], 16))
    owner = a_workload("w", queue="owner", gpus=8, targets=[Target(skus=("h200",))])
    plan = schedule(a_snapshot(FLEET, queues, guest, owner, policy=HOPPER), NOON)
    assert plan.preempts == (("guest.1", "w"),)


def test_nobody_is_stopped_on_another_sku_where_the_class_is_not_borrowed() -> None:
    queues = a_cohort(
        a_queue("owner", 0, quotas=[a_quota(8, sku="h200")]), a_queue("guest", 16, quotas=[a_quota(16, sku="hopper")])
    )
    guest = a_workload("guest", queue="guest", gpus=16).on((FLEET[0], 16))
    owner = a_workload("w", queue="owner", gpus=8, targets=[Target(skus=("h200",))])
    plan = schedule(
        a_snapshot([FLEET[0], a_node("b", gpus=16, used=16, sku="h200")], queues, guest, owner, policy=HOPPER), NOON
    )
    assert plan.preempts == ()
