"""Lint: each rule finds its fault at the field where it is, and says nothing about documents without it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from corral.api import Dataset, QueueTree, Target
from corral.policy import Constraints, DocumentKind, Policy
from domain.lint.change import strands_waiting_work, what_speaks_against
from domain.lint.rules import RULES, lint, refusals
from tests.builders import NOON, UNPROMISED, AWorkload, a_node, a_queue, a_snapshot, a_workload

HALVES: list[dict[str, Any]] = [
    {"name": "company"},
    {"name": "a", "parent": "company", "quotas": [{"sku": "h100", "nominal": 8}]},
    {"name": "b", "parent": "company", "quotas": [{"sku": "h100", "nominal": 8}]},
]


def halves(**of_a: Any) -> list[dict[str, Any]]:
    """A tree in which queue `a` has further fields."""
    company, a, b = HALVES
    return [company, a | of_a, b]


@dataclass(frozen=True)
class Situation:
    """What a rule finds in a policy (and a tree): the fields; none where the documents are in order."""

    rule: str
    policy: dict[str, Any]
    fields: Sequence[str] = ()
    queues: Sequence[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.rule} {' '.join(self.fields) or 'clean'}"


def constrained(**scopes: Any) -> dict[str, Any]:
    return {"constraints": scopes}


def allow(**lists: Any) -> dict[str, Any]:
    return {"allow": lists}


def deny(**lists: Any) -> dict[str, Any]:
    return {"deny": lists}


def preferring(*preferences: dict[str, Any], **others: Any) -> dict[str, Any]:
    named = [{"name": f"p{number}", "worth": 1} | preference for number, preference in enumerate(preferences)]
    return {"goals": {"preferences": named}} | others


def routes(**routes: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {"goals": {"transfers": {"routes": routes}}}


def budgets(*budgets: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"limits": {"disruption_budgets": list(budgets)}} | others


SPOT = {"capacity_types": ["spot"]}
EVERY_TYPE = ["reserved", "on-demand", "spot"]
TIER = {"guarantee": 0.5, "minimum_runtime_seconds": 0}
NO_PREEMPTION = {"rank": {"preemption": False}}

SITUATIONS = [
    Situation(
        "nobody-can-run",
        constrained(platform=allow(regions=["eu"]), tenants={"acme": allow(regions=["us"]), "ok": allow(regions=["eu"])}),
        ["constraints.tenants.acme"],
    ),
    Situation(
        "nobody-can-run",
        constrained(regions={"eu": allow(tenants=["acme"])}, tenants={"acme": allow(regions=["us"])}),
        ["constraints.regions.eu"],
    ),
    Situation(
        "nobody-can-run",
        constrained(skus={"h100": deny(regions=["us"])}, queues={"a": allow(skus=["h100"], regions=["us"])}),
        ["constraints.queues.a"],
    ),
    Situation(
        "nobody-can-run",
        constrained(queues={"company": allow(regions=["eu"]), "a": allow(regions=["us"])}),
        ["constraints.queues.a"],
        HALVES,
    ),
    Situation("nobody-can-run", constrained(queues={"company": allow(regions=["eu"]), "a": allow(regions=["us"])})),
    Situation("nobody-can-run", constrained(platform=deny(capacity_types=EVERY_TYPE)), ["constraints.platform"]),
    Situation("nobody-can-run", constrained(platform=deny(regions=["eu"]), regions={"eu": deny(skus=["h100"])})),
    Situation("never-with-its-quota", constrained(tenants={"acme": deny(skus=["h100"])}), [], HALVES),
    Situation("never-with-its-quota", constrained(queues={"a": deny(skus=["h100"])}), ["constraints.queues.a"], HALVES),
    Situation("never-with-its-quota", constrained(platform=deny(skus=["h100"])), ["constraints", "constraints"], HALVES),
    Situation(
        "tiers-out-of-order",
        {"rank": {"tiers": {"premium": TIER, "standard": TIER, "basic": TIER | {"guarantee": 0.6}}}},
        ["rank.tiers.basic.guarantee"],
    ),
    Situation("tiers-out-of-order", {"rank": {"tiers": {"premium": TIER, "standard": TIER, "basic": TIER}}}),
    Situation("nothing-may-stop", budgets({"stops": 0}), ["limits.disruption_budgets[0].stops"]),
    Situation("nothing-may-stop", budgets({"stops": 0, "tier": "premium"})),
    Situation("nothing-may-stop", budgets({"stops": 0}, **NO_PREEMPTION)),
    Situation("nothing-may-stop", {"limits": {"maximum_preemptions": 0}}, ["limits.maximum_preemptions"]),
    Situation(
        "nothing-may-stop",
        {"rank": {"disruption": {"shrink": False, "migrate": False, "stop": False}}},
        ["rank.disruption"],
    ),
    Situation("promise-without-means", NO_PREEMPTION, ["rank.tiers.premium.guarantee", "rank.tiers.standard.guarantee"]),
    Situation(
        "promise-without-means",
        {"rank": {"tiers": {"premium": TIER | {"preemption_delay_seconds": 1_801}, "standard": TIER, "basic": TIER}}},
        ["rank.tiers.premium.guarantee"],
    ),
    Situation(
        "promise-without-means",
        {"rank": {"tiers": {"premium": TIER | {"preemption_delay_seconds": 1_800}, "standard": TIER, "basic": TIER}}},
    ),
    Situation("promise-shorter-than-stopping", {"hold_seconds": 60, "stop_seconds": 30}, ["hold_seconds"]),
    Situation("promise-shorter-than-stopping", {"hold_seconds": 61, "stop_seconds": 30}),
    Situation("promise-shorter-than-stopping", {"hold_seconds": 60, "stop_seconds": 30} | NO_PREEMPTION),
    Situation("repeated-name", preferring(SPOT | {"name": "x"}, SPOT | {"name": "x"}), ["goals.preferences[1].name"]),
    Situation("repeated-name", preferring(SPOT, SPOT)),
    Situation(
        "shadowed-list",
        constrained(platform=deny(skus=["h100", "a100"]), tenants={"acme": deny(skus=["h100"])}),
        ["constraints.tenants.acme.deny.skus"],
    ),
    Situation(
        "shadowed-list",
        constrained(platform=allow(regions=["eu"]), queues={"a": allow(regions=["eu", "us"])}),
        ["constraints.queues.a.allow.regions"],
    ),
    Situation(
        "shadowed-list", constrained(platform=allow(capacity_types=EVERY_TYPE)), ["constraints.platform.allow.capacity_types"]
    ),
    Situation("shadowed-list", constrained(platform=allow(regions=["eu", "us"]), queues={"a": allow(regions=["eu"])})),
    Situation(
        "idle-name",
        constrained(platform=allow(regions=["eu"]), tenants={"acme": allow(regions=["eu", "us"], skus=["h100"])}),
        ["constraints.tenants.acme.allow.regions[1]"],
    ),
    Situation("idle-name", constrained(platform=allow(regions=["eu", "us"]), tenants={"acme": allow(regions=["eu", "us"])})),
    Situation(
        "unknown-queue",
        constrained(queues={"ghost": deny(regions=["eu"])})
        | budgets({"stops": 1, "queue": "ghost"})
        | preferring(SPOT | {"queues": ["a", "ghost"]}),
        ["constraints.queues.ghost", "limits.disruption_budgets[0].queue", "goals.preferences[0].queues[1]"],
        HALVES,
    ),
    Situation("unknown-queue", constrained(queues={"ghost": deny(regions=["eu"])})),
    Situation("shadowed-budget", budgets({"stops": 2}, {"stops": 2, "tier": "basic"}), ["limits.disruption_budgets[1]"]),
    Situation(
        "shadowed-budget",
        budgets({"stops": 2, "queue": "a"}, {"stops": 1, "queue": "company"}),
        ["limits.disruption_budgets[0]"],
        HALVES,
    ),
    Situation("shadowed-budget", budgets({"stops": 2}, {"stops": 2}), ["limits.disruption_budgets[1]"]),
    Situation("shadowed-budget", budgets({"stops": 5}, {"stops": 2, "tier": "basic"}, {"stops": 3, "period_seconds": 60})),
    Situation(
        "never-decides",
        constrained(queues={"a": allow(capacity_types=["spot"])}) | preferring(SPOT | {"queues": ["a"]}),
        ["goals.preferences[0]"],
    ),
    Situation("never-decides", constrained(queues={"a": allow(capacity_types=["spot"])}) | preferring(SPOT)),
    Situation(
        "prefers-the-forbidden",
        constrained(queues={"a": deny(capacity_types=["spot"])}) | preferring(SPOT | {"queues": ["a"]}, SPOT),
        ["goals.preferences[0]"],
    ),
    Situation(
        "prefers-the-forbidden",
        constrained(regions={"eu": deny(skus=["h100"])}) | preferring({"skus": ["h100"], "regions": ["eu"]}),
        ["goals.preferences[0]"],
    ),
    Situation("prefers-the-forbidden", constrained(queues={"a": deny(capacity_types=["spot"])}) | preferring(SPOT)),
    Situation(
        "unused-class",
        {"limits": {"sku_classes": {"fast": ["h100"], "slow": ["l4"], "empty": []}}},
        ["limits.sku_classes.slow", "limits.sku_classes.empty"],
        [{"name": "a", "quotas": [{"sku": "fast", "nominal": 1}]}],
    ),
    Situation("unused-class", {"limits": {"sku_classes": {"slow": ["l4"]}}}),
    Situation("setting-of-another-model", {"rank": {"cohorts": {"fair_sharing": True}}}, ["rank.cohorts"]),
    Situation(
        "setting-of-another-model",
        {"rank": {"quota_model": "cohorts", "deserved": {"scenarios": 10}}},
        ["rank.deserved"],
    ),
    Situation("setting-of-another-model", {"rank": {"quota_model": "cohorts", "cohorts": {"fair_sharing": True}}}),
    Situation(
        "queue-field-of-another-model",
        {},
        ["queues[1].fungibility", "queues[1].priority"],
        halves(fungibility={"when_can_borrow": "try-next"}, priority=3),
    ),
    Situation(
        "queue-field-of-another-model",
        {},
        ["queues[1].quotas[0].over_quota_weight"],
        halves(quotas=[{"sku": "h100", "nominal": 8, "over_quota_weight": 2}]),
    ),
    Situation("queue-field-of-another-model", {"rank": {"quota_model": "cohorts"}}, [], halves(preemption={})),
    Situation("queue-field-of-another-model", {"rank": {"quota_model": "deserved"}}, [], halves(priority=3)),
    Situation(
        "setting-of-another-model",
        {
            "rank": {"quota_model": "deserved", "ageing_seconds_per_priority": 60},
            "limits": {"starts_per_round": 3, "starts_per_queue_and_round": 1},
        },
        ["limits.starts_per_round", "limits.starts_per_queue_and_round", "rank.ageing_seconds_per_priority"],
    ),
    Situation(
        "queue-field-of-another-model",
        {"rank": {"quota_model": "deserved"}},
        ["queues[1].ordering"],
        halves(ordering="strict-fifo", sku_order=["h100"]),
    ),
    Situation(
        "setting-of-a-closed-branch",
        {"rank": {"quota_model": "cohorts", "cohorts": {"fair_preemption": ["less-than-initial-share"]}}},
        ["rank.cohorts.fair_preemption"],
    ),
    Situation(
        "setting-of-a-closed-branch",
        {
            "rank": {
                "quota_model": "deserved",
                "deserved": {"actions": ["allocate"], "consolidated_workloads": 3, "scenarios": 3},
            }
        },
        ["rank.deserved.consolidated_workloads", "rank.deserved.scenarios"],
    ),
    Situation("setting-of-a-closed-branch", {"rank": {"quota_model": "deserved", "deserved": {"scenarios": 3}}}),
    Situation(
        "setting-of-a-closed-branch",
        {"goals": {"improvement": {"work": 0, "nodes": 8, "worth": 2}}},
        ["goals.improvement.nodes", "goals.improvement.worth"],
    ),
    Situation(
        "setting-of-a-closed-branch",
        {"goals": {"improvement": {"work": 1}}, "limits": {"starts_per_round": 9}},
        ["goals.improvement"],
    ),
    Situation("setting-of-a-closed-branch", {"goals": {"improvement": {"work": 0}}}),
    Situation(
        "setting-of-a-closed-branch",
        {"goals": {"defragmentation": {"moves_at_once": 0, "horizon_seconds": 60, "daily_share": 0.1}}},
        ["goals.defragmentation.horizon_seconds", "goals.defragmentation.daily_share"],
    ),
    Situation(
        "setting-of-a-closed-branch",
        {"goals": {"defragmentation": {"moves_at_once": 9}}, "rank": {"disruption": {"migrate": False}}},
        ["goals.defragmentation"],
    ),
    Situation("setting-of-a-closed-branch", {"goals": {"defragmentation": {"moves_at_once": 0}}}),
    Situation(
        "setting-of-preemption",
        {"goals": {"defragmentation": {"moves_at_once": 9}}, "rank": {"preemption": False}},
        ["goals.defragmentation"],
    ),
    Situation(
        "setting-of-preemption",
        {"limits": {"disruption_budgets": [{"stops": 1}], "maximum_preemptions": 9}}
        | {"rank": {"preemption": False, "disruption": {"migrate": False}}},
        [
            *("limits.disruption_budgets", "rank.disruption", "limits.maximum_preemptions"),
            "queues[1].minimum_runtime_seconds",
        ],
        halves(minimum_runtime_seconds=60),
    ),
    Situation("setting-of-preemption", budgets({"stops": 1}), [], halves(minimum_runtime_seconds=60)),
    Situation("weight-without-borrowing", {}, ["queues[0].weight"], [{"name": "a", "weight": 2}]),
    Situation(
        "weight-without-borrowing",
        {},
        ["queues[1].weight"],
        halves(weight=2, quotas=[{"sku": "h100", "nominal": 8, "borrowing_limit": 0}]),
    ),
    Situation("weight-without-borrowing", {"rank": {"quota_model": "cohorts"}}, ["queues[1].weight"], halves(weight=2)),
    Situation("weight-without-borrowing", {}, [], halves(weight=2)),
    Situation(
        "goal-without-weight",
        {"goals": {"price_weight": 0, "price_limit": 3, "preference_limit": 2}},
        ["goals.price_limit", "goals.preference_limit"],
    ),
    Situation("goal-without-weight", {"goals": {"price_limit": 0}}, ["goals.price_weight"]),
    Situation("goal-without-weight", {"goals": {"price_weight": 0}}),
    Situation(
        "goal-without-weight",
        {"goals": {"egress": {"weight": 0, "limit": 3}, "affinity": {"limit": 0}, "spread": {"limit": 0}}},
        ["goals.egress.limit", "goals.affinity.weight", "goals.spread.weight"],
    ),
    Situation(
        "goal-without-weight",
        {"goals": {"egress": {"weight": 0}, "staging": {"weight": 0}, "transfers": {"dollars_per_gib": 1}}},
        ["goals.transfers"],
    ),
    Situation("goal-without-weight", {"goals": {"egress": {"weight": 0}, "transfers": {"dollars_per_gib": 1}}}),
    Situation(
        "goal-without-weight",
        {"goals": {"hazard": {"weight": 0, "interruptions_per_hour": {"spot": 1}, "lost_seconds": 3}}},
        ["goals.hazard.interruptions_per_hour", "goals.hazard.lost_seconds"],
    ),
    Situation("goal-without-weight", {"goals": {"hazard": {"interruptions_per_hour": {"spot": 0}, "lost_seconds": 3}}}),
    Situation("goal-without-weight", {"goals": {"hazard": {"weight": 0}}}),
    Situation("idle-route", routes(eu={"eu": {"dollars_per_gib": 1}}), ["goals.transfers.routes.eu.eu"]),
    Situation("idle-route", routes(eu={"us": {"dollars_per_gib": 0.02}}), ["goals.transfers.routes.eu.us"]),
    Situation("idle-route", routes(eu={"us": {}}), ["goals.transfers.routes.eu.us"]),
    Situation(
        "idle-route",
        routes(eu={"us": {"dollars_per_gib": 1}}, us={"eu": {"dollars_per_gib": 1}})
        | constrained(platform=deny(regions=["us"])),
        ["goals.transfers.routes.eu.us"],
    ),
    Situation("idle-route", routes(eu={"us": {"gib_per_second": 3}})),
]


def policy_of(situation: Situation) -> Policy:
    return Policy.model_validate(situation.policy)


def queues_of(situation: Situation) -> QueueTree | None:
    return QueueTree.model_validate({"queues": situation.queues}) if situation.queues else None


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
def test_a_rule_finds_its_fault_where_it_is(situation: Situation) -> None:
    tree = queues_of(situation)
    found = lint(policy_of(situation), tree.queues if tree else ())

    assert [finding.field for finding in found if finding.rule == situation.rule] == list(situation.fields)


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_every_rule_is_shown_finding_something_and_finding_nothing(rule: str) -> None:
    shown = {bool(situation.fields) for situation in SITUATIONS if situation.rule == rule}

    assert shown == {True, False}


def test_what_contradicts_itself_is_refused_and_what_is_merely_idle_is_not() -> None:
    dead = Policy.model_validate(constrained(platform=deny(skus=["h100"]), tenants={"acme": deny(skus=["h100"])}))
    impossible = Policy.model_validate(constrained(platform=deny(capacity_types=EVERY_TYPE)))

    assert lint(dead)
    assert not refusals(dead)
    assert [finding.rule for finding in refusals(impossible)] == ["nobody-can-run"]


def test_fields_that_the_model_does_not_read_refuse_the_tree() -> None:
    tree = QueueTree.model_validate({"queues": halves(priority=3)})

    (finding,) = refusals(Policy(), tree.queues)

    assert (finding.document, finding.field) == (DocumentKind.QUEUES, "queues[1].priority")
    assert "priority of queue a has no effect: the quota model ranked does not read it" in finding.message
    assert finding.advice == "leave it out, or choose rank.quota_model: deserved"


def test_a_route_to_where_nothing_is_is_told_of_when_the_policy_meets_the_pool() -> None:
    fleet, data = [a_node("n", region="eu")], [Dataset(name="corpus", size_gib=1, regions=("archive",))]
    policy = Policy.model_validate(routes(archive={"eu": {"dollars_per_gib": 1}}, eu={"uss": {"dollars_per_gib": 1}}))

    (finding,) = what_speaks_against(a_snapshot(fleet, [a_queue("research", 8)], datasets=data), policy, NOON)

    assert (finding.rule, finding.field, finding.refuses) == ("unknown-region", "goals.transfers.routes.eu.uss", False)
    assert "region uss has neither nodes nor data; expected one of archive, eu" in str(finding)


def test_a_document_without_anything_is_clean() -> None:
    assert not lint(Policy())


# A policy for a pool at work


def stranded(work: AWorkload, constraints: dict[str, Any], before: Policy = UNPROMISED) -> list[str]:
    """The fields at which a policy is told to leave waiting work nothing."""
    fleet = [a_node("h"), a_node("far", region="us", used=8)]
    policy = before.model_copy(update={"constraints": Constraints.model_validate(constraints)})
    snapshot = a_snapshot(fleet, [a_queue("research", 64)], work, policy=before)
    return [each.field for each in strands_waiting_work(snapshot, policy, NOON)]


def test_a_policy_that_leaves_waiting_work_nothing_is_told_of_the_rule_that_does() -> None:
    europe = a_workload(gpus=8, targets=[Target(regions=("eu-west",))])
    assert stranded(europe, {"queues": {"research": {"deny": {"regions": ["eu-west"]}}}}) == [
        "constraints.queues.research.deny.regions"
    ]
    assert stranded(a_workload(), {"queues": {"research": {"deny": {"regions": ["eu-west"]}}}}) == []


def test_of_several_rules_the_one_that_is_new_is_told() -> None:
    no_us = {"platform": {"deny": {"regions": ["us"]}}}
    before = UNPROMISED.model_copy(update={"constraints": Constraints.model_validate(no_us)})
    assert stranded(a_workload(), no_us | {"skus": {"h100": {"deny": {"regions": ["eu-west"]}}}}, before) == [
        "constraints.skus.h100.deny.regions"
    ]
