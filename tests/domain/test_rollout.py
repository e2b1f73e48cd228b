"""What a change would do to everybody, what has changed since that was said, and what has to be approved."""

from dataclasses import replace
from datetime import timedelta

import pytest

from corral.api import QueueTree, SlaTier
from corral.policy import Approvals, Policy
from corral.rollout import Change, EffectKind, WhatIf
from domain.operations.approval import why_rollout
from domain.operations.rollout import what_changed, what_if
from domain.pool.fleet import Health
from domain.quota.tree import QuotaError
from domain.snapshot import Snapshot
from tests.builders import NOON, UNPROMISED, a_cohort, a_node, a_queue, a_snapshot, a_workload

NODE, OTHER = a_node("aws/a"), a_node("aws/b", region="us-east")
STAYS_OUT_OF_US = Policy.model_validate(
    UNPROMISED.document | {"name": "eu", "constraints": {"platform": {"deny": {"regions": ["us-east"]}}}}
)
NO_PREEMPTION = UNPROMISED.model_copy(update={"name": "calm", "rank": UNPROMISED.rank.model_copy(update={"preemption": False})})


def said(found: WhatIf) -> set[tuple[EffectKind, str]]:
    return {(effect.kind, effect.workload or effect.queue) for effect in found.effects}


def of_policy(policy: Policy, snapshot: Snapshot) -> WhatIf:
    return what_if(Change(policy=policy), snapshot, NOON)


def a_pool(*workloads: object, policy: Policy = UNPROMISED, nominal: int = 32) -> Snapshot:
    return a_snapshot([NODE, OTHER], [a_queue("research", nominal)], *workloads, policy=policy)  # type: ignore[arg-type]


def test_the_policy_in_force_does_nothing_to_anybody() -> None:
    runs, waits = a_workload("runs", gpus=8).on((NODE, 8)), a_workload("waits", gpus=8)
    assert of_policy(UNPROMISED, a_pool(runs, waits)).effects == ()


def test_what_would_start_no_more_is_told_with_the_reason() -> None:
    runs, waits = a_workload("runs", gpus=8, priority=5).on((NODE, 8)), a_workload("waits", gpus=8)
    (effect,) = of_policy(STAYS_OUT_OF_US, a_pool(runs, waits)).effects
    assert (effect.kind, effect.workload, effect.accelerators) == (EffectKind.WAITS, "waits", 8)
    assert effect.message.startswith("would otherwise start: ")
    assert not effect.kind.hurts


def test_who_would_have_to_leave_is_told_with_whom_for() -> None:
    runs, beside = a_workload("runs", gpus=8).on((NODE, 8)), a_workload("beside", gpus=8, priority=9).on((OTHER, 8))
    found = of_policy(UNPROMISED, a_pool(runs, beside, a_workload("urgent", gpus=8, priority=5), policy=NO_PREEMPTION))
    assert said(found) >= {(EffectKind.LEAVES, "runs"), (EffectKind.STARTS, "urgent")}
    assert "leaves runs" in found.hurt


def test_what_would_stay_that_has_to_leave_now_is_told() -> None:
    runs, beside = a_workload("runs", gpus=8).on((NODE, 8)), a_workload("beside", gpus=8, priority=9).on((OTHER, 8))
    found = of_policy(NO_PREEMPTION, a_pool(runs, beside, a_workload("urgent", gpus=8, priority=5)))
    assert said(found) >= {(EffectKind.STAYS, "runs"), (EffectKind.WAITS, "urgent")}
    assert found.hurt == ()


def test_less_guarantee_and_less_time_are_less_protection() -> None:
    premium = a_workload("premium", gpus=8, tier=SlaTier.PREMIUM).on((NODE, 8))
    lowered = Policy.model_validate(
        {
            "rank": {
                "tiers": {
                    "premium": {"guarantee": 0.8, "minimum_runtime_seconds": 0},
                    "standard": {"guarantee": 0.7, "minimum_runtime_seconds": 600},
                    "basic": {"guarantee": 0, "minimum_runtime_seconds": 300},
                }
            }
        }
    )
    (effect,) = of_policy(lowered, a_pool(premium, policy=Policy())).effects
    assert (effect.kind, effect.message) == (EffectKind.LOSES_PROTECTION, "its guarantee falls from 0.95 to 0.8")
    (back,) = of_policy(Policy(), a_pool(premium, policy=lowered)).effects
    assert back.kind is EffectKind.GAINS_PROTECTION


def test_less_nominal_takes_protection_and_a_lower_cap_is_exceeded() -> None:
    runs = a_workload("runs", queue="team", gpus=8).on((NODE, 8))
    tree = a_cohort(a_queue("team", 8), a_queue("others", 8))
    snapshot = a_snapshot([NODE, OTHER], tree, runs, policy=UNPROMISED)
    edit = QueueTree(queues=(a_queue("team", 0, parent="cohort", cap=4),))
    found = what_if(Change(queues=edit), snapshot, NOON)
    assert said(found) == {(EffectKind.LOSES_PROTECTION, "runs"), (EffectKind.OVER_CAP, "team")}
    assert {effect.message for effect in found.effects} == {
        "its queue's nominal quota covers it no more",
        "uses 8 h100, and its cap is 4",
    }


def test_queues_that_form_no_tree_are_an_error() -> None:
    edit = QueueTree(queues=(a_queue("team", 8, parent="nobody"),))
    with pytest.raises(QuotaError, match="nobody"):
        what_if(Change(queues=edit), a_pool(), NOON)


def test_nothing_is_foreseen_of_a_policy_that_is_refused() -> None:
    lists = {"allow": {"regions": ["us"]}, "deny": {"regions": ["us"]}}
    contradiction = Policy.model_validate({"constraints": {"platform": lists}})
    found = of_policy(contradiction, a_pool(a_workload("waits")))
    assert (any(finding.refuses for finding in found.findings), found.effects) == (True, ())


# Tokens


def test_the_token_is_that_of_the_change_on_the_pool_as_it_is() -> None:
    before = a_pool(a_workload("runs", gpus=8).on((NODE, 8)))
    token = of_policy(STAYS_OUT_OF_US, before).token
    assert of_policy(STAYS_OUT_OF_US, replace(before, nodes=before.nodes[::-1])).token == token
    assert of_policy(NO_PREEMPTION, before).token != token
    assert of_policy(STAYS_OUT_OF_US, replace(before, queues=(a_queue("research", 16),))).token != token


def test_work_that_comes_and_goes_changes_nothing_as_long_as_nobody_else_is_worse_off() -> None:
    runs, more = a_workload("runs", gpus=8).on((NODE, 8)), a_workload("more", gpus=4).on((OTHER, 4))
    before, after = of_policy(STAYS_OUT_OF_US, a_pool(runs)), of_policy(STAYS_OUT_OF_US, a_pool(runs, more))
    assert what_changed(before.surroundings, before.hurt, after) == []


def test_what_has_changed_is_said_plainly() -> None:
    pool = a_pool(a_workload("runs", gpus=8).on((NODE, 8)))
    before = of_policy(UNPROMISED, pool)
    cordoned = replace(pool, nodes=tuple(replace(node, health=Health.CORDONED) for node in pool.nodes if node.id == "aws/b"))
    edited = replace(pool, queues=(a_queue("research", 16),))
    other = replace(pool, policy=NO_PREEMPTION)
    for after, sentence in (
        (cordoned, "0 accelerators of aws/eu-west h100 take work and were 8"),
        (cordoned, "0 accelerators of aws/us-east h100 take work and were 8"),
        (edited, "queues were edited: research"),
    ):
        assert sentence in what_changed(before.surroundings, before.hurt, of_policy(UNPROMISED, after))
    (first, *_) = what_changed(before.surroundings, before.hurt, of_policy(UNPROMISED, other))
    assert first == f"the policy in force is calm ({NO_PREEMPTION.digest[:12]}) and was default ({UNPROMISED.digest[:12]})"


def test_more_harm_is_named_and_less_is_none() -> None:
    runs, beside = a_workload("runs", gpus=8).on((NODE, 8)), a_workload("beside", gpus=8, priority=9).on((OTHER, 8))
    urgent = a_workload("urgent", gpus=8, priority=5)
    harmless = of_policy(UNPROMISED, a_pool(runs, beside, policy=NO_PREEMPTION))
    harmful = of_policy(UNPROMISED, a_pool(runs, beside, urgent, policy=NO_PREEMPTION))
    (sentence,) = what_changed(harmless.surroundings, harmless.hurt, harmful)
    assert sentence == f"it would now do more harm: {', '.join(sorted(set(harmful.hurt) - set(harmless.hurt)))}"
    assert what_changed(harmful.surroundings, harmful.hurt, harmless) == []


# Approval


@pytest.mark.parametrize(
    ("approvals", "why"),
    [
        (Approvals(stops=0, protection=False), "1 workloads would have to leave, and more than 0 have to be approved"),
        (Approvals(stops=1, protection=False), ""),
        (Approvals(stops=None, protection=False), ""),
        (Approvals(stops=None, protection=True), "2 workloads would lose protection, which has to be approved"),
    ],
)
def test_what_has_to_be_approved_is_up_to_the_policy(approvals: Approvals, why: str) -> None:
    runs, beside = a_workload("runs", gpus=8).on((NODE, 8)), a_workload("beside", gpus=8, priority=9).on((OTHER, 8))
    found = of_policy(UNPROMISED, a_pool(runs, beside, a_workload("urgent", gpus=8, priority=5), policy=NO_PREEMPTION))
    assert why_rollout(found, approvals) == why


def test_the_policy_in_force_says_what_has_to_be_approved_and_not_the_one_to_come() -> None:
    strict = UNPROMISED.model_copy(update={"approvals": Approvals(stops=0)})
    calm_strict = NO_PREEMPTION.model_copy(update={"approvals": Approvals(stops=None, protection=False)})
    runs, urgent = a_workload("runs", gpus=8).on((NODE, 8)), a_workload("urgent", gpus=8, priority=5)
    beside = a_workload("beside", gpus=8, priority=9).on((OTHER, 8))
    assert of_policy(strict, a_pool(runs, beside, urgent, policy=calm_strict)).needs == ""
    assert of_policy(UNPROMISED, a_pool(runs, beside, urgent, policy=NO_PREEMPTION)).needs
    assert timedelta(seconds=strict.approvals.expires_seconds) == timedelta(days=1)
