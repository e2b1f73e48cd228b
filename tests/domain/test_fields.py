"""Policies and queues field by field."""

from datetime import timedelta

import pytest

from corral.api import BudgetSpec, BudgetUnit, QueueSpec, QuotaSpec, UserLimit
from corral.cli.policies import PRESETS, read_policy
from corral.policy import DisruptionBudget, Policy, Preference
from domain.operations.fields import edited, edits, in_words, of_policy, of_queues, policy_of, queues_of
from tests.builders import NOON, a_queue, a_quota

GRANT = QuotaSpec(sku="h100", nominal=8, valid_from=NOON, valid_until=NOON + timedelta(days=1))
WITH_ALL = QueueSpec(
    name="team",
    quotas=(a_quota(4), GRANT, a_quota(2, sku="a100"), a_quota(3, sku="a100")),
    user_limits=(UserLimit(running=2), UserLimit(user="ada", running=9)),
    budgets=(BudgetSpec(unit=BudgetUnit.DOLLARS, amount=100), BudgetSpec(unit=BudgetUnit.ACCELERATOR_HOURS, amount=7)),
)
WITH_LISTS = Policy.model_validate(
    {
        "limits": {"disruption_budgets": [DisruptionBudget(stops=2), DisruptionBudget(queue="team", stops=1)]},
        "goals": {"preferences": [Preference(name="near", regions=("eu",), worth=1.0)]},
        "constraints": {"tenants": {"quotas": {"deny": {"regions": ["us"]}}}},
    }
)


@pytest.mark.parametrize(
    "policy", [WITH_LISTS, *(read_policy(preset).content for preset in PRESETS)], ids=lambda policy: policy.name
)
def test_a_policy_is_its_fields(policy: Policy) -> None:
    assert policy_of(of_policy(policy)) == policy


def test_queues_are_their_fields_whatever_they_are_called() -> None:
    queues = (WITH_ALL, a_queue("quotas", 8), a_queue("bare"))
    assert queues_of(of_queues(queues)) == queues


def test_an_entry_of_a_list_is_told_by_what_names_it() -> None:
    more = WITH_ALL.model_copy(update={"quotas": (a_quota(4), GRANT, a_quota(5, sku="a100"), a_quota(3, sku="a100"))})
    assert [in_words(path) for path in edits(of_queues([WITH_ALL]), of_queues([more]))] == ["team quotas a100 nominal"]


def test_what_one_has_added_and_another_has_edited_stays_with_what_the_other_has_set() -> None:
    bare, added, on_that = a_queue("team"), a_queue("team", 8), a_queue("team", 9)
    upper = edits(of_queues([added]), of_queues([on_that]))
    (queue,) = queues_of(edited(of_queues([bare]), upper))
    assert [(quota.sku, quota.nominal, quota.cap) for quota in queue.quotas] == [("h100", 9, None)]
