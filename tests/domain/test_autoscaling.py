"""Endpoints follow their demand: how many replicas they want, and how a round lets them have these."""

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from corral.api import Autoscale, DemandSource, ReplicaGroup, SlaTier, WorkloadSpec
from corral.policy import DisruptionBudget, Limits, Policy, QuotaModel
from domain.decision import Change, Plan
from domain.elasticity.autoscaling import Course, followed
from domain.pool.parts import counts_of, keys_of
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import NOON, a_cohort, a_node, a_queue, a_snapshot, a_workload, by_model, seconds, started

RULES = Autoscale(target=10, minimum=1, most=8)


def wanted(rules: Autoscale, *told: tuple[int, float], begin: int = 1) -> list[int]:
    """The sizes that follow from demands told at these seconds."""
    course, found = Course.begin(begin, NOON, NOON), []
    for after, demand in told:
        course = followed(course, demand, NOON + timedelta(seconds=after), rules)
        found.append(course.wanted)
    return found


def test_it_grows_as_soon_as_demand_rises() -> None:
    assert wanted(RULES, (15, 35.0)) == [4]


def test_it_grows_in_bounded_steps() -> None:
    assert wanted(RULES, (15, 1000.0), (20, 1000.0), (30, 1000.0), begin=1) == [5, 5, 8]


def test_it_shrinks_one_by_one_once_demand_was_low_for_the_whole_window() -> None:
    assert wanted(RULES, (15, 40.0), (100, 5.0), (314, 5.0), (315, 5.0), (330, 5.0), begin=4) == [4, 4, 4, 3, 2]


def test_a_rise_in_the_window_keeps_the_size() -> None:
    assert wanted(RULES, (15, 5.0), (200, 40.0), (320, 5.0), (510, 5.0), begin=4) == [4, 4, 4, 3]


def test_without_a_minimum_it_goes_to_nothing_and_is_woken_at_once() -> None:
    rules = Autoscale(target=10, minimum=0, most=8)
    assert wanted(rules, (300, 0.0), (301, 0.5)) == [0, 1]


def test_a_minimum_stays_without_demand() -> None:
    assert wanted(RULES, (1000, 0.0), (2000, 0.0)) == [1, 1]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"groups": [{"count": 2}]}, "minimum None and count 2; expected minimum 1"),
        ({"groups": [{"count": 9, "minimum": 1}]}, "count to begin with of at most 8"),
        ({"groups": [{"minimum": 1}], "tasks": 4}, "no array"),
        ({"groups": [{"minimum": 1}], "targets": [{"count": 4}]}, "no count in its targets"),
    ],
)
def test_a_spec_that_could_not_follow_demand_is_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        WorkloadSpec.model_validate({"id": "w", "queue": "q", "autoscale": RULES.model_dump()} | fields)


def test_more_at_least_than_at_most_is_refused() -> None:
    with pytest.raises(ValidationError, match="minimum 3 exceeds most 2"):
        Autoscale(target=1, minimum=3, most=2)


@pytest.mark.parametrize(
    "url", ["http://prometheus:9090", "https://metrics.example.com/prometheus/", "http://[::1]:9090", "http://10.0.0.1"]
)
def test_demand_can_be_asked_for_by_http(url: str) -> None:
    assert DemandSource(url=url, query="sum(requests)").url == url


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("file:///etc/passwd", "by http or https"),
        ("prometheus:9090", "by http or https"),
        ("http://", "by http or https"),
        ("http://:9090", "by http or https"),
        ("http://user:secret@prometheus:9090", r"without user and password.*CORRAL_DEMAND_TOKEN"),
        ("http://prometheus:port", "expected the address of a Prometheus"),
        ("http://[::1", "expected the address of a Prometheus"),
        ("http://prometheus:9090?query=up", "without spaces, parameters or fragment"),
        ("http://prometheus:9090/#up", "without spaces, parameters or fragment"),
        ("http://prometheus\\@elsewhere", "without spaces, parameters or fragment"),
        ("http://prometheus\n:9090", "without spaces, parameters or fragment"),
    ],
)
def test_an_address_that_cannot_be_asked_is_refused(url: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DemandSource(url=url, query="sum(requests)")


@pytest.mark.parametrize("fields", [{"query": ""}, {"every_seconds": 4}, {"every_seconds": 3_601}, {"every_seconds": 5.5}])
def test_a_source_of_demand_has_a_query_and_is_asked_neither_too_often_nor_too_seldom(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        DemandSource.model_validate({"url": "http://prometheus:9090", "query": "sum(requests)"} | fields)


NODE = a_node("n", gpus=8)
ALONE = [a_queue("research", nominal=8)]


def an_endpoint(wants: int, has: int, **fields: Any) -> Active:
    """An endpoint that runs with so many replicas, of one accelerator each, and wants so many."""
    group = ReplicaGroup(count=wants, minimum=1)
    return a_workload("endpoint", groups=[group], autoscale=RULES, **fields).on((NODE, has))


def sizes(plan: Plan) -> list[tuple[Change, int]]:
    return [(reshape.change, counts_of(reshape.placement)["main"]) for reshape in plan.reshapes]


def test_what_runs_grows_to_the_size_that_is_wanted() -> None:
    assert sizes(schedule(a_snapshot([NODE], ALONE, an_endpoint(5, has=2)), NOON)) == [(Change.GROW, 5)]


def test_what_runs_shrinks_to_the_size_that_is_wanted() -> None:
    assert sizes(schedule(a_snapshot([NODE], ALONE, an_endpoint(2, has=5)), NOON)) == [(Change.SHRINK, 2)]


def test_what_has_its_size_is_left_alone() -> None:
    assert sizes(schedule(a_snapshot([NODE], ALONE, an_endpoint(2, has=2)), NOON)) == []


def test_work_that_is_no_endpoint_is_left_alone() -> None:
    elastic = a_workload(groups=[ReplicaGroup(count=5, minimum=1)]).on((NODE, 2))
    assert sizes(schedule(a_snapshot([NODE], ALONE, elastic), NOON)) == []


def test_it_grows_as_far_as_there_is_room_and_nobody_leaves_for_it() -> None:
    other = a_workload("other", gpus=4, priority=-10).on((a_node("n", gpus=8, used=2), 4))
    plan = schedule(a_snapshot([NODE], ALONE, an_endpoint(8, has=2), other), NOON)
    assert (sizes(plan), plan.preempts, plan.stops) == ([(Change.GROW, 4)], (), ())


def test_whoever_waits_comes_before_its_growth() -> None:
    plan = schedule(a_snapshot([NODE], ALONE, an_endpoint(8, has=2), a_workload("new", gpus=4)), NOON)
    assert set(started(plan)) == {"new"}
    assert sizes(plan) == [(Change.GROW, 4)]


def test_it_borrows_what_is_beyond_its_queues_nominal_and_no_more_than_others_lend() -> None:
    queues = a_cohort(a_queue("research", nominal=1), a_queue("lender", nominal=3))
    assert sizes(schedule(a_snapshot([NODE], queues, an_endpoint(8, has=1)), NOON)) == [(Change.GROW, 4)]


def test_what_it_borrows_is_taken_back_by_the_owner() -> None:
    queues = a_cohort(a_queue("research", nominal=2), a_queue("owner", nominal=6))
    wide = a_workload("mine", queue="owner", gpus=6)
    plan = schedule(a_snapshot([NODE], queues, an_endpoint(8, has=8), wide, policy=by_model(QuotaModel.RANKED)), NOON)
    assert sizes(plan) == [(Change.SHRINK, 2)]
    assert [reshape.beneficiary for reshape in plan.reshapes] == ["mine"]


@pytest.mark.parametrize("model", QuotaModel)
@pytest.mark.parametrize(("old", "new"), [({"tier": SlaTier.BASIC}, {}), ({"queue": "guest"}, {}), ({}, {"priority": 1})])
def test_what_is_idle_goes_to_endpoints_by_rank_and_not_to_the_oldest(
    model: QuotaModel, old: dict[str, Any], new: dict[str, Any]
) -> None:
    node, rules = a_node("n", gpus=4), Autoscale(target=10, minimum=1, most=3)
    group, queues = ReplicaGroup(count=3, minimum=1), a_cohort(a_queue("research", 4), a_queue("guest", 0))
    first = a_workload("old", groups=[group], autoscale=rules, **old).on((node, 1))
    other = a_workload("new", groups=[group], autoscale=rules, submitted_at=NOON, **new).on((a_node("n", gpus=4, used=1), 1))
    (reshape,) = schedule(a_snapshot([node], queues, first, other, policy=by_model(model)), NOON).reshapes
    assert (reshape.attempt_id, reshape.change, reshape.placement.replicas) == ("new.1", Change.GROW, 3)


@pytest.mark.parametrize("model", QuotaModel)
def test_endpoints_follow_demand_under_every_quota_model(model: QuotaModel) -> None:
    policy = by_model(model)
    assert sizes(schedule(a_snapshot([NODE], ALONE, an_endpoint(5, has=2), policy=policy), NOON)) == [(Change.GROW, 5)]
    assert sizes(schedule(a_snapshot([NODE], ALONE, an_endpoint(2, has=5), policy=policy), NOON)) == [(Change.SHRINK, 2)]


TRACE = Path(__file__).parents[3] / "shared" / "data" / "genai2026" / "qps.csv"


@pytest.mark.parametrize("model", QuotaModel)
def test_no_replica_is_called_as_one_that_does_not_leave(model: QuotaModel) -> None:
    grown = replace(an_endpoint(wants=4, has=2), remnants=frozenset({("main", 2), ("main", 4)}))
    (reshape,) = schedule(a_snapshot([NODE], ALONE, grown, policy=by_model(model)), NOON).reshapes
    assert keys_of(reshape.placement) == [("main", number) for number in (0, 1, 3, 5)]


def real_demand() -> list[tuple[float, float]]:
    """Requests a second of a service over days, as (seconds, demand) in the order of time."""
    with TRACE.open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["request_type"] == "Generative Requests"]
    return sorted((float(row["timestamp_anon"]), float(row["value"])) for row in rows)


@pytest.mark.skipif(not TRACE.is_file(), reason=f"the published trace is not at {TRACE}")
def test_a_real_services_demand_is_served_more_often_than_by_as_many_replicas_all_the_time() -> None:
    demand = _summed(real_demand())
    most_of_one = max(value for _, value in demand) / 20
    rules = Autoscale(target=0.8 * most_of_one, minimum=1, most=20)  # a reserve of a fifth for what comes before the next look
    begin = NOON - timedelta(seconds=demand[0][0])
    course, found = Course.begin(1, NOON, NOON), []
    for after, value in demand[1:]:
        found.append((course.wanted, value / most_of_one))  # what is wanted already when that demand comes
        course = followed(course, value, begin + timedelta(seconds=after), rules)
    served = sum(wanted >= needed for wanted, needed in found) / len(found)
    used = sum(wanted for wanted, _ in found) / len(found)
    print(f"served at {served:.1%} of {len(found)} times with {used:.2f} of 20 replicas")
    fixed = sum(math.ceil(used) >= needed for _, needed in found) / len(found)
    assert served > fixed


def _summed(rows: Sequence[tuple[float, float]], seconds: int = 60) -> list[tuple[float, float]]:
    """All that was told in each minute, together."""
    minutes: dict[float, float] = {}
    for at, value in rows:
        minutes[at // seconds * seconds] = minutes.get(at // seconds * seconds, 0.0) + value
    return sorted(minutes.items())


def test_growth_leaves_what_runs_where_it_is() -> None:
    """Another node would hold all of it."""
    full, roomy = a_node("full", gpus=3), a_node("roomy", gpus=8)
    endpoint = a_workload("endpoint", groups=[ReplicaGroup(count=5, minimum=1)], autoscale=RULES).on((full, 2))
    (reshape,) = schedule(a_snapshot([full, roomy], ALONE, endpoint), NOON).reshapes
    assert counts_of(reshape.placement)["main"] == 5
    assert {(share.node_id, replica) for share in endpoint.placement.shares for replica in share.replicas} < {
        (share.node_id, replica) for share in reshape.placement.shares for replica in share.replicas
    }


def test_growth_stays_in_the_domain_that_it_must_share() -> None:
    near, far = a_node("near", gpus=3, topology=[("rack", "a")]), a_node("far", gpus=8, topology=[("rack", "b")])
    endpoint = a_workload("endpoint", groups=[ReplicaGroup(count=5, minimum=1)], autoscale=RULES, required="rack").on((near, 2))
    assert sizes(schedule(a_snapshot([near, far], ALONE, endpoint), NOON)) == [(Change.GROW, 3)]


def test_changes_of_size_disturb_nobody_and_need_no_disruption_budget() -> None:
    nothing = Policy(limits=Limits(disruption_budgets=(DisruptionBudget(stops=0),)))
    assert sizes(schedule(a_snapshot([NODE], ALONE, an_endpoint(5, has=2), policy=nothing), NOON)) == [(Change.GROW, 5)]
    assert sizes(schedule(a_snapshot([NODE], ALONE, an_endpoint(2, has=5), policy=nothing), NOON)) == [(Change.SHRINK, 2)]


STRICT = Autoscale(target=10, minimum=1, most=20, step_up=2, objective=0.99, burn_window_seconds=3_600, burn_check_seconds=300)


def sizes_while(served: Sequence[tuple[int, int, int]], rules: Autoscale = STRICT, begin: int = 4) -> list[int]:
    """The sizes when demand fits what there is, and so many requests, some of them bad, have ended by these seconds."""
    course, found = Course.begin(begin, NOON - timedelta(hours=2), NOON - timedelta(hours=2)), []
    for after, requests, bad in served:
        at = NOON + timedelta(seconds=after)
        course = followed(course, course.wanted * 10, at, rules, requests=requests, bad=bad)
        found.append(course.wanted)
    return found


def test_an_error_budget_that_burns_in_both_windows_asks_for_a_step_more() -> None:
    assert sizes_while([(0, 100, 15)]) == [6]
    assert sizes_while([(0, 100, 14)]) == [4]


def test_the_next_step_comes_when_the_last_one_had_time_to_help() -> None:
    minutes = [(60 * minute, 100, 50) for minute in range(11)]
    assert sizes_while(minutes) == [6] * 5 + [8] * 5 + [10]


def test_a_budget_that_burned_and_burns_no_more_asks_for_nothing() -> None:
    assert sizes_while([(0, 1_000, 500), *((300 + 60 * minute, 10, 0) for minute in range(5))]) == [6] * 6


def test_a_short_fire_that_matters_little_in_the_long_window_asks_for_nothing() -> None:
    assert sizes_while([(0, 100_000, 0), (600, 100, 50)]) == [4, 4]


def test_it_does_not_shrink_while_its_budget_burns() -> None:
    rules = STRICT.model_copy(update={"down_window_seconds": 0})
    course = Course.begin(4, NOON, NOON)
    burning = followed(course, 0, NOON + seconds(60), rules, requests=100, bad=50)
    assert burning.wanted == 4
    assert followed(course, 0, NOON + seconds(60), rules, requests=100, bad=0).wanted == 3


def test_what_is_told_often_is_kept_in_few_numbers() -> None:
    course = Course.begin(4, NOON, NOON)
    for second in range(0, 7_200, 2):
        course = followed(course, 40, NOON + seconds(second), STRICT, requests=1)
    assert len(course.served) <= 121
    assert sum(each.requests for each in course.served) == 1_800


def test_without_an_objective_nothing_burns() -> None:
    assert sizes_while([(0, 100, 100)], STRICT.model_copy(update={"objective": None})) == [4]
