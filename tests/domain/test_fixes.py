"""What would start a workload that waits."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from corral.api import (
    Autoscale,
    BudgetSpec,
    BudgetUnit,
    Fix,
    FixKind,
    FixSearch,
    QueueSpec,
    ReplicaGroup,
    SlaTier,
    Spread,
    StopPolicy,
    Target,
    Topology,
    UserLimit,
    WorkloadSpec,
)
from corral.policy import DisruptionBudget, Limits
from domain.advice.fixes import cheapest_fixes, explained_now, for_tenant, search
from domain.advice.whatif import followed
from domain.pool.fleet import Health, Node
from domain.pool.workload import Active
from domain.quota.budgets import ONE
from domain.quota.disruption_budgets import ForcedStop
from domain.round import who_starts
from domain.snapshot import Snapshot
from tests.builders import (
    NOON,
    UNPROMISED,
    AWorkload,
    a_booking,
    a_node,
    a_queue,
    a_quota,
    a_snapshot,
    a_workload,
    nodes,
    seconds,
)

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


def test_what_several_targets_come_to_alike_is_offered_once() -> None:
    targets = [Target(skus=("h100",)), Target(skus=("h100",), regions=("eu-west",), count=1)]
    snapshot = a_snapshot(
        [a_node("n")], [a_queue("research", 5, borrowing_limit=0), a_queue("other", 8)], a_workload(gpus=8, targets=targets)
    )
    raised = [fix for fix in cheapest_fixes("w", snapshot, NOON, most=10) if fix.kind is FixKind.RAISE_QUOTA]
    assert [fix.message for fix in raised] == ["raise the nominal by 3 h100 in queue research"]


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


@pytest.mark.parametrize("observed", [Health.SUSPECT, Health.LOST])
def test_no_cordoned_node_is_to_be_put_back_that_would_not_be_ready_then(observed: Health) -> None:
    gone = replace(a_node("gone", health=Health.CORDONED), observed=observed)
    assert FixKind.UNCORDON not in fixes([gone], a_workload(gpus=8))
    assert fixes([gone, a_node("n", health=Health.CORDONED)], a_workload(gpus=8))[FixKind.UNCORDON].nodes == ("n",)


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


def staying(node: Node, gpus: int = 8, **fields: Any) -> Active:
    """Work that nobody may stop, and that does not say when it ends."""
    return a_workload(f"on-{node.id}", gpus=gpus, preemptible=False, **fields).on((node, gpus))


def in_racks(number: int, **fields: Any) -> list[Node]:
    """Two nodes a rack, all in one block."""
    return [a_node(f"n{i}", topology=(("block", "b"), ("rack", f"r{i // 2}")), **fields) for i in range(number)]


ROOMY = [a_queue("research", 64, quotas=[a_quota(64, sku="a100")])]


def test_of_several_groups_the_one_that_is_in_the_way_is_to_have_fewer_replicas() -> None:
    fleet = nodes(4)
    groups = [ReplicaGroup(name="head"), ReplicaGroup(name="workers", count=3, accelerators=8)]
    found = fixes(fleet, a_workload(groups=groups), staying(fleet[0]), queues=ROOMY)[FixKind.ASK_FOR_LESS]
    assert found.message == "ask for 2 replicas instead of 3 for group workers"
    assert [(group.name, group.count) for group in found.groups] == [("head", 1), ("workers", 2)]


def test_whoever_wants_a_number_over_all_groups_is_to_want_as_many_as_fit() -> None:
    groups = [ReplicaGroup(name=name, count=8, minimum=0) for name in ("one", "other")]
    node = a_node("n")
    found = fixes([node], a_workload(groups=groups, minimum_replicas=8), staying(node, 4), queues=ROOMY)
    assert found[FixKind.ASK_FOR_LESS].minimum_replicas == 4


def test_an_endpoint_is_to_shrink_further_and_stays_one_that_can_be_submitted() -> None:
    node = a_node("n")
    endpoint = a_workload(groups=[ReplicaGroup(count=4, minimum=4)], autoscale=Autoscale(target=1, minimum=4, most=8))
    found = fixes([node], endpoint, staying(node, 5), queues=ROOMY)[FixKind.ASK_FOR_LESS]
    asked = followed(found, endpoint.spec)
    assert asked.autoscale is not None
    assert (asked.autoscale.minimum, asked.groups[0].minimum) == (3, 3)
    assert WorkloadSpec.model_validate(asked.model_dump())


@pytest.mark.parametrize(
    ("asks", "has", "said"),
    [
        ({"cpu_milli": 16_000}, {"cpu_milli": 12_500}, "ask for 12 cpu a replica instead of 16"),
        ({"memory_mib": 800}, {"memory_mib": 400}, "ask for 400 MiB of memory a replica instead of 800"),
    ],
)
def test_as_much_cpu_or_memory_as_there_is_is_to_be_asked_for(asks: Any, has: Any, said: str) -> None:
    found = fixes([a_node("n", **has), a_node("cordoned", health=Health.CORDONED)], a_workload(**asks))
    assert found[FixKind.ASK_FOR_LESS].message == said


def test_smaller_replicas_are_the_last_that_is_offered() -> None:
    node = a_node("n")
    (only,) = fixes([node], a_workload(gpus=8), staying(node, 1), queues=ROOMY).values()
    assert only.message == "ask for 7 accelerators a replica instead of 8"
    borrower = a_workload("theirs").on((node, 1))
    assert FixKind.ASK_FOR_LESS not in fixes([node], a_workload(gpus=8), borrower, queues=ROOMY)


@pytest.mark.parametrize("of_group", [False, True])
def test_the_topology_of_a_group_is_loosened_like_that_of_the_workload(of_group: bool) -> None:
    fleet = in_racks(4)
    busy = [staying(fleet[0]), staying(fleet[2])]

    def told(topology: Topology, **fields: Any) -> Fix:
        group = ReplicaGroup(**fields, topology=topology if of_group else None)
        spec = WorkloadSpec(id="w", queue="research", groups=(group,), topology=Topology() if of_group else topology)
        fix: Fix = fixes(fleet, AWorkload(spec), *busy, queues=ROOMY)[FixKind.WIDEN_TOPOLOGY]
        assert bool(fix.groups) == of_group
        return fix

    assert told(Topology(required="rack"), count=2, accelerators=8).message == "require it in one block instead of in one rack"
    slices = told(Topology(slice_level="rack", slice_size=2), count=2, accelerators=8)
    assert slices.message == "require slices in one block instead of in one rack"
    spread = Topology(spread=Spread(level="node", maximum=1))
    assert told(spread, count=4).message == "let 2 replicas sit in one node instead of 1"


def test_what_must_sit_on_one_node_is_offered_the_levels_above() -> None:
    fleet = in_racks(4, used=4)
    found = fixes(fleet, a_workload(gpus=4, count=2, required="node"), queues=ROOMY)[FixKind.WIDEN_TOPOLOGY]
    assert found.topology.required == "rack"


@pytest.mark.parametrize(
    ("choice", "said"), [({"skus": ("h100",)}, "accept any SKU"), ({"nodes": {"disk": ("fast",)}}, "accept any disk")]
)
def test_a_group_is_to_be_less_choosy(choice: Any, said: str) -> None:
    fast = a_node("fast", labels={"disk": "fast"})
    group = ReplicaGroup(accelerators=8, **choice)
    found = fixes([fast, a_node("slow", sku="a100")], a_workload(groups=[group]), staying(fast), queues=ROOMY)
    assert found[FixKind.ADD_TARGET].message == said


def test_nodes_that_are_drained_are_to_be_put_back_too() -> None:
    assert fixes([a_node("n", health=Health.DRAINING)], a_workload(gpus=8))[FixKind.UNCORDON].nodes == ("n",)


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"accelerators": 8}, "let ada have 16 accelerators instead of 8 in queue research"),
        ({"running": 1}, "let ada run 2 workloads instead of 1 in queue research"),
        ({"user": "ada", "running": 1, "accelerators": 90}, "let ada run 2 workloads instead of 1 in queue research"),
    ],
)
def test_a_user_is_to_be_allowed_what_is_missing_and_nobody_else(limit: Any, said: str) -> None:
    fleet = nodes(2)
    queue = ROOMY[0].model_copy(update={"user_limits": (UserLimit(**limit),)})
    found = fixes(fleet, a_workload(gpus=8, user="ada"), staying(fleet[0], user="ada"), queues=[queue])
    fix = found[FixKind.RAISE_USER_LIMIT]
    assert fix.message == said
    assert [(change.queue, change.limit.user) for change in fix.user_limits] == [("research", "ada")]


def test_where_a_disruption_budget_is_spent_it_helps_to_wait_until_it_allows_another_stop() -> None:
    node = a_node("n")
    limits = Limits(disruption_budgets=(DisruptionBudget(stops=1, period_seconds=HOUR),))
    stop = ForcedStop("else.1", "else", "research", SlaTier.BASIC, NOON - seconds(600))
    victim = a_workload("victim", gpus=8, tier=SlaTier.BASIC).on((node, 8))
    work = a_workload("next", gpus=8, tier=SlaTier.PREMIUM)
    policy = UNPROMISED.model_copy(update={"limits": limits})
    snapshot = a_snapshot([node], ROOMY, victim, work, policy=policy, stops=[stop])
    assert [fix.wait_seconds for fix in of_kind(FixKind.WAIT, snapshot)] == [3_000]


def test_asking_for_fewer_replicas_is_tried_together_with_another_change() -> None:
    fleet = nodes(2)
    running = [a_workload(f"r{i}", gpus=4, tier=SlaTier.PREMIUM).on((node, 4)) for i, node in enumerate(fleet)]
    kept = staying(a_node("n0", used=4), 4)
    work = a_workload(gpus=8, count=2, tier=SlaTier.PREMIUM)
    found = fixes(fleet, work, *running, kept, queues=ROOMY)[FixKind.SEVERAL]
    assert found.message.startswith("ask for 1 replica, and stop 1 running workload with 4 accelerators")


def test_the_explanation_says_whether_nothing_helps_or_not_everything_was_tried() -> None:
    node = a_node("n")
    snapshot = a_snapshot([node], ROOMY, staying(node), a_workload("next", gpus=8))
    told = explained_now("next", snapshot, NOON)
    assert told is not None
    assert (told.fixes, told.fix_search) == ((), FixSearch.COMPLETE)
    assert search("next", snapshot, NOON, go_on=lambda: False).ended is FixSearch.CUT_SHORT


def test_work_of_cpu_and_memory_alone_pays_nothing_and_less_is_asked_of_it_first() -> None:
    """An hour of no accelerator costs nothing, not 0.0002 dollars."""
    fleet = in_racks(4, cpu_milli=8_000)
    busy = [a_workload(f"on-{node.id}", gpus=0, cpu_milli=8_000).on((node, 0)) for node in fleet[1:3]]
    work = a_workload(gpus=0, cpu_milli=8_000, count=2, required="rack")
    taken = [replace(node, free=replace(node.free, cpu_milli=0)) if node in fleet[1:3] else node for node in fleet]
    snapshot = a_snapshot(taken, ROOMY, *busy, work)
    found = cheapest_fixes(work.id, snapshot, NOON, most=10)
    assert {fix.kind for fix in found} >= {FixKind.WIDEN_TOPOLOGY, FixKind.ASK_FOR_LESS}
    assert {fix.cost for fix in found} == {0.0}
    wider = [fix.message for fix in found if fix.kind is FixKind.WIDEN_TOPOLOGY]
    assert wider[0] == "require it in one block instead of in one rack"


# Reservations


def reserved(*others: Active) -> Snapshot:
    """A node that is kept for the queue of work that waits, from two hours on, for an hour."""
    queues = [a_queue("research", 8), a_queue("other", 8)]
    booking = replace(a_booking(opens_in=2 * HOUR, queues=("research",)), nodes=("n",))
    return replace(a_snapshot([a_node("n")], queues, *others, a_workload("next", gpus=8)), bookings=(booking,))


def on_loan(**fields: Any) -> Active:
    return a_workload("guest", queue="other", gpus=8, **fields).on((a_node("n"), 8), started_at=NOON - seconds(60))


def test_work_whose_own_reservation_will_open_is_told_to_wait_for_it() -> None:
    (fix,) = of_kind(FixKind.WAIT, reserved(on_loan()))
    assert (fix.wait_seconds, fix.message) == (2 * HOUR, "wait 2.0 h")


def test_what_ends_before_the_reservation_opens_is_waited_for_instead() -> None:
    (fix,) = of_kind(FixKind.WAIT, reserved(on_loan(expected_seconds=HOUR)))
    assert fix.wait_seconds == HOUR - 60


def test_a_reservation_on_which_work_stays_is_not_worth_a_wait() -> None:
    assert of_kind(FixKind.WAIT, reserved(on_loan(preemptible=False))) == []


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
