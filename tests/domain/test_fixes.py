"""What would start a workload that waits."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from corral.api import BudgetSpec, BudgetUnit, Fix, FixKind, QueueSpec, StopPolicy, Target
from domain.advice.fixes import cheapest_fixes, explained_now, for_tenant
from domain.pool.fleet import Health, Node
from domain.pool.workload import Active
from domain.quota.budgets import ONE
from domain.round import who_starts
from domain.snapshot import Snapshot
from tests.builders import NOON, AWorkload, a_node, a_queue, a_quota, a_snapshot, a_workload, seconds

HOUR = 3_600

QUEUE = a_queue("research", 8)
"""What builders submit to unless they are told otherwise."""


def fixes(
    nodes: list[Node], workload: AWorkload, *others: Active | AWorkload, queues: list[QueueSpec] | None = None
) -> dict[FixKind, Any]:
    """The cheapest fixes of a workload, by kind."""
    snapshot = a_snapshot(nodes, queues or [QUEUE], *others, workload)
    found = cheapest_fixes(workload.id, snapshot, NOON, most=10)
    return {fix.kind: fix for fix in reversed(found)}


def test_another_sku_is_offered_where_it_is_free() -> None:
    fleet = [a_node("full", used=8), a_node("free", sku="a100")]
    queue = a_queue("research", 8, quotas=[a_quota(8, sku="a100")])
    found = fixes(fleet, a_workload(gpus=4, targets=[Target(skus=("h100",))]), queues=[queue])
    assert found[FixKind.ADD_TARGET].target == Target()


def test_no_sku_is_offered_that_the_queue_has_no_quota_for() -> None:
    fleet = [a_node("full", used=8), a_node("free", sku="a100")]
    assert FixKind.ADD_TARGET not in fixes(fleet, a_workload(gpus=4, targets=[Target(skus=("h100",))]))


def test_a_wider_level_is_offered_before_none_at_all() -> None:
    fleet = [a_node(f"n{i}", used=4, topology=(("block", "b0"), ("rack", f"r{i}"))) for i in range(2)]
    found = fixes(fleet, a_workload(gpus=4, count=2, required="rack"))
    assert found[FixKind.WIDEN_TOPOLOGY].topology.required == "block"
    assert found[FixKind.WIDEN_TOPOLOGY].topology.preferred == "rack"


def test_the_most_replicas_that_fit_are_offered() -> None:
    found = fixes([a_node("n", used=3)], a_workload(gpus=1, count=8))
    assert found[FixKind.ASK_FOR_LESS].target.count == 5


def test_quota_is_raised_by_what_is_missing_and_no_more() -> None:
    found = fixes([a_node("n")], a_workload(gpus=8), queues=[a_queue("research", 5, borrowing_limit=0), a_queue("other", 8)])
    assert [(change.queue, change.nominal, change.cap) for change in found[FixKind.RAISE_QUOTA].quotas] == [("research", 3, 0)]


def test_a_wait_ends_with_the_work_that_is_in_the_way() -> None:
    node = a_node("n")
    running = a_workload("long", gpus=8, expected_seconds=4_000).on((node, 8), started_at=NOON - seconds(1_000))
    found = fixes([node], a_workload("next", gpus=8), running)
    assert found[FixKind.WAIT].wait_seconds == 3_000


def test_a_stopped_queue_is_to_be_opened() -> None:
    closed = QUEUE.model_copy(update={"stop": StopPolicy.HOLD})
    assert fixes([a_node("n")], a_workload(gpus=8), queues=[closed])[FixKind.OPEN_QUEUE].queues == ("research",)


def test_as_few_nodes_as_are_needed_are_to_be_put_back() -> None:
    fleet = [a_node(f"n{i}", health=Health.CORDONED) for i in range(3)]
    assert fixes(fleet, a_workload(gpus=8))[FixKind.UNCORDON].nodes == ("n0",)


def test_of_the_work_in_the_way_only_what_is_needed_is_to_be_stopped() -> None:
    fleet = [a_node("n0"), a_node("n1")]
    queue = a_queue("research", 16)
    running = [a_workload(f"r{i}", gpus=8).on((node, 8)) for i, node in enumerate(fleet)]
    found = fixes(fleet, a_workload("next", gpus=8), *running, queues=[queue])
    assert len(found[FixKind.STOP_OTHERS].victims) == 1


def test_a_tenant_is_told_how_much_would_be_stopped_and_not_whose() -> None:
    fleet = [a_node("n")]
    found = fixes(fleet, a_workload("next", gpus=8), a_workload("secret", gpus=8).on((fleet[0], 8)))
    told = for_tenant(found[FixKind.STOP_OTHERS])
    assert told.victims == ()
    assert "secret" not in told.model_dump_json()


def test_two_changes_are_offered_where_none_alone_is_enough() -> None:
    fleet = [a_node("n")]
    queues = [a_queue("research", 5, borrowing_limit=0), a_queue("other", 8)]
    running = a_workload("theirs", queue="other", gpus=8).on((fleet[0], 8))
    several = fixes(fleet, a_workload("next", gpus=8), running, queues=queues)[FixKind.SEVERAL]
    assert several.quotas
    assert several.victims == ("theirs",)


def test_the_explanation_says_where_in_its_line_a_workload_stands() -> None:
    snapshot: Snapshot = a_snapshot([a_node("n", used=8)], [QUEUE], a_workload("one", gpus=8), a_workload("two", gpus=8))
    told = [explained_now(id, snapshot, NOON) for id in ("one", "two")]
    assert [each and each.position for each in told] == [1, 2]


# Budgets


def of_budget(used: float, *others: Active, **fields: Any) -> Snapshot:
    """Work of 8 accelerators for an hour, in a queue with a budget of 20 accelerator-hours of which so many are used up."""
    budget = BudgetSpec(unit=BudgetUnit.ACCELERATOR_HOURS, amount=20, **fields)
    queue = a_queue("research", 64).model_copy(update={"budgets": (budget,)})
    work = a_workload("next", gpus=8, expected_seconds=HOUR)
    snapshot = a_snapshot([a_node("n"), a_node("other")], [queue], work, *others)
    return replace(snapshot, spent={("research", 0): int(used * ONE[budget.unit])})


def of_kind(kind: FixKind, snapshot: Snapshot) -> list[Fix]:
    return [fix for fix in cheapest_fixes("next", snapshot, NOON, most=10) if fix.kind is kind]


def test_where_a_budget_is_by_periods_waiting_for_the_next_one_is_offered() -> None:
    snapshot = of_budget(13, period_seconds=24 * HOUR, since=NOON - seconds(22 * HOUR))
    assert [fix.wait_seconds for fix in of_kind(FixKind.WAIT, snapshot)] == [2 * HOUR]


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (HOUR, "wait 60 min"),
        (30 * HOUR, "wait 30.0 h"),
        (50 * HOUR, "wait 3 days"),
        (90 * 24 * HOUR, "wait until 2030-08-30T12:00:00Z"),
    ],
)
def test_a_long_wait_is_told_in_days_and_a_longer_one_by_its_end(left: int, said: str) -> None:
    year = 365 * 24 * HOUR
    snapshot = of_budget(13, period_seconds=year, since=NOON - seconds(year - left))
    assert [fix.message for fix in of_kind(FixKind.WAIT, snapshot)] == [said]


def test_where_a_budget_replenishes_waiting_for_enough_of_it_is_offered() -> None:
    snapshot = of_budget(16, half_life_seconds=24 * HOUR)
    assert [fix.wait_seconds for fix in of_kind(FixKind.WAIT, snapshot)] == [10 * HOUR], "16 decays to 12 in 9.96 hours"


def test_what_runs_meanwhile_is_reckoned_with() -> None:
    node = a_node("other")
    running = a_workload("running", gpus=1).on((node, 1))
    alone = of_budget(16, half_life_seconds=24 * HOUR)
    busy = of_budget(16, running, half_life_seconds=24 * HOUR)
    assert of_kind(FixKind.WAIT, alone)
    assert not of_kind(FixKind.WAIT, busy), "it takes as much as comes back"


def test_a_grant_is_to_be_raised_by_what_is_missing() -> None:
    snapshot = of_budget(13.5)
    assert not of_kind(FixKind.WAIT, snapshot)
    (fix,) = of_kind(FixKind.RAISE_BUDGET, snapshot)
    assert fix.message == "raise the budget of research (20 accelerator-hours) by 2"
    assert [(each.queue, each.place, each.amount) for each in fix.budgets] == [("research", 0, 2)]


def test_a_search_that_is_told_to_stop_tries_no_other_round(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def counted(snapshot: Snapshot, now: datetime) -> frozenset[str]:
        tried.append(now)
        return who_starts(snapshot, now)

    monkeypatch.setattr("domain.advice.question.who_starts", counted)
    fleet = [a_node(f"n{i}", topology=(("rack", f"r{i}"),)) for i in range(4)]
    running = [a_workload(f"r{i}", gpus=8).on((node, 8)) for i, node in enumerate(fleet)]
    snapshot = a_snapshot(fleet, [a_queue("research", 8)], *running, a_workload("next", gpus=8, count=2, required="rack"))
    cheapest_fixes("next", snapshot, NOON)
    in_all = len(tried)
    tried.clear()
    assert cheapest_fixes("next", snapshot, NOON, go_on=lambda: len(tried) < 5) == ()
    assert len(tried) == 5 < in_all
