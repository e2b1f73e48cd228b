"""Hard constraints: no scope widens another, a denial wins, and the refusal names the list that refused."""

import itertools

import pytest

from corral.api import CapacityType, Reason, Target
from corral.policy import Policy
from domain.round import schedule
from domain.worlds.law import Case, Law
from tests.builders import NOON, a_node, a_queue, a_snapshot, a_workload, started, why


def a_policy(**constraints: object) -> Policy:
    return Policy.model_validate({"constraints": constraints})


def a_case(
    *, tenant: str | None = "acme", queues: tuple[str, ...] = ("research", "company"), sku: str = "h100", region: str = "eu"
) -> Case:
    return Case(tenant, queues, sku, region, "aws", CapacityType.SPOT)


BREACHES = [
    ({"platform": {"allow": {"skus": ["a100"]}}}, "constraints.platform.allow.skus"),
    ({"platform": {"deny": {"capacity_types": ["spot"]}}}, "constraints.platform.deny.capacity_types"),
    ({"regions": {"eu": {"allow": {"tenants": ["other"]}}}}, "constraints.regions.eu.allow.tenants"),
    ({"regions": {"us": {"allow": {"tenants": ["other"]}}}}, None),
    ({"skus": {"h100": {"deny": {"regions": ["eu"]}}}}, "constraints.skus.h100.deny.regions"),
    ({"skus": {"a100": {"deny": {"regions": ["eu"]}}}}, None),
    ({"tenants": {"acme": {"allow": {"regions": ["us"]}}}}, "constraints.tenants.acme.allow.regions"),
    ({"tenants": {"other": {"allow": {"regions": ["us"]}}}}, None),
    ({"queues": {"research": {"deny": {"providers": ["aws"]}}}}, "constraints.queues.research.deny.providers"),
    ({"queues": {"company": {"deny": {"providers": ["aws"]}}}}, "constraints.queues.company.deny.providers"),
    ({"queues": {"product": {"deny": {"providers": ["aws"]}}}}, None),
    ({"platform": {"allow": {"skus": ["h100"]}, "deny": {"skus": ["h100"]}}}, "constraints.platform.deny.skus"),
    (
        {"platform": {"allow": {"regions": ["us"]}}, "tenants": {"acme": {"allow": {"regions": ["eu"]}}}},
        "constraints.platform.allow.regions",
    ),
]


@pytest.mark.parametrize(("constraints", "where"), BREACHES)
def test_the_widest_scope_that_is_broken_is_named(constraints: dict[str, object], where: str | None) -> None:
    breach = Law.of(a_policy(**constraints).constraints).breach(a_case())

    assert (breach.where if breach else None) == where


def test_work_without_a_tenant_is_on_no_list_of_tenants() -> None:
    law = Law.of(a_policy(regions={"eu": {"allow": {"tenants": ["acme"]}}}).constraints)

    assert law.breach(a_case(tenant="acme")) is None
    assert law.breach(a_case(tenant=None)) is not None


@pytest.mark.parametrize(("region", "sku"), [*itertools.product(("eu", "us"), ("h100", "a100"))])
def test_a_further_scope_never_permits_more(region: str, sku: str) -> None:
    tenant = {"acme": {"allow": {"regions": ["eu", "us"], "skus": ["h100", "a100"]}}}
    wide = Law.of(a_policy(platform={"allow": {"regions": ["eu"]}}).constraints)
    narrow = Law.of(a_policy(platform={"allow": {"regions": ["eu"]}}, tenants=tenant).constraints)
    case = a_case(region=region, sku=sku)

    assert narrow.breach(case) is not None or wide.breach(case) is None


def test_work_goes_where_its_tenant_may_be() -> None:
    fleet = [a_node("cheap", region="us-east", price=1), a_node("dear", region="eu-west", price=2_000_000)]
    residency = a_policy(tenants={"acme": {"allow": {"regions": ["eu-west"]}}})
    situation = a_snapshot(fleet, [a_queue("research", 16)], a_workload("w", tenant="acme"), a_workload("v"), policy=residency)

    places = started(schedule(situation, NOON))

    assert (places["w"].region, places["v"].region) == ("eu-west", "us-east")


def test_work_that_the_policy_lets_go_nowhere_is_refused_and_told_the_list() -> None:
    export = a_policy(skus={"h100": {"deny": {"tenants": ["acme"]}}})
    situation = a_snapshot([a_node("n")], [a_queue("research", 8)], a_workload("w", tenant="acme"), policy=export)

    answer = why(schedule(situation, NOON))

    assert answer.reason is Reason.NO_MATCHING_CAPACITY
    assert "constraints.skus.h100.deny.tenants" in answer.message
    assert [evidence.reason for evidence in answer.evidence] == [Reason.FORBIDDEN_BY_POLICY]


def test_what_the_policy_forbids_is_no_way_to_preempt_either() -> None:
    node = a_node("n", capacity_type=CapacityType.SPOT)
    other = a_node("m", capacity_type=CapacityType.ON_DEMAND)
    low = a_workload("low", gpus=8).on((node, 8))
    own = a_workload("own", gpus=8).on((other, 8))
    high = a_workload("w", gpus=8, priority=9, targets=[Target(capacity_types=(CapacityType.SPOT,)), Target()])
    no_spot = a_policy(queues={"research": {"deny": {"capacity_types": ["spot"]}}})

    plan = schedule(a_snapshot([node, other], [a_queue("research", 16)], low, own, high, policy=no_spot), NOON)

    assert plan.preempts == (("own.1", "w"),)
