"""What lint says that a quota model reads of queues and of the policy is what it really reads."""

from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings

from corral.api import Model, QueueSpec
from corral.policy import Goals, Limits, Policy, QuotaModel, Rank
from domain.lint.knobs import POLICY_KNOBS, QUEUE_KNOBS
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, a_booking
from tests.properties.situations import STABLE, worlds

FACTS = {"created_at"}
"""Fields that say what is so, and ask for nothing."""

Watched = TypeVar("Watched", bound=Model)


@pytest.mark.parametrize("model", QuotaModel)
def test_a_model_reads_what_lint_says(model: QuotaModel) -> None:
    queue_fields, policy_fields = fields_read(model)

    assert queue_fields - FACTS == read_by(model, QUEUE_KNOBS, set(QueueSpec.model_fields)) - FACTS
    strata: dict[str, type[Model]] = {"limits": Limits, "rank": Rank, "goals": Goals}
    every = {f"{stratum}.{field}" for stratum, kind in strata.items() for field in kind.model_fields}
    assert policy_fields == read_by(model, POLICY_KNOBS, every)


def read_by(model: QuotaModel, knobs: Any, fields: set[str]) -> set[str]:
    """The fields that lint takes for read by a model: its own, and those of no model in particular."""
    return {field for field in fields if field not in knobs or model in knobs[field]}


def fields_read(model: QuotaModel) -> tuple[set[str], set[str]]:
    """The fields of queues, and those of the strata of the policy, that rounds over many worlds read."""
    queue_fields: set[str] = set()
    policy_fields: set[str] = set()

    @settings(STABLE, max_examples=120)
    @given(worlds)
    def look(world: Snapshot) -> None:
        queues = tuple(watched(queue, queue_fields, "") for queue in world.queues)
        policy = world.policy
        rank = policy.rank.model_copy(update={"quota_model": model})
        strata = {
            "limits": watched(policy.limits, policy_fields, "limits."),
            "rank": watched(rank, policy_fields, "rank."),
            "goals": watched(policy.goals, policy_fields, "goals."),
        }
        kept = (a_booking(opens_in=60), a_booking("other", booked_at=NOON))
        watching = Policy.model_construct(**(dict(policy) | strata))
        schedule(replace(world, queues=queues, policy=watching, bookings=kept), NOON)

    look()
    return queue_fields, policy_fields


def watched(value: Watched, reads: set[str], prefix: str) -> Watched:
    """The same value, which notes the names of the fields that are read of it."""
    fields = set(type(value).model_fields)

    class Watching(type(value)):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if name in fields:
                reads.add(prefix + name)
            return super().__getattribute__(name)

    noted: Watched = Watching.model_construct(**dict(value))
    return noted
