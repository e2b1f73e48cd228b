"""What lint says that a quota model reads of queues and of the policy is what it really reads."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings

from corral.api import CapacityType, Model, QueueSpec, SlaTier
from corral.policy import Goals, Limits, Policy, QuotaModel, Rank
from domain.lint.knobs import POLICY_KNOBS, QUEUE_KNOBS
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, a_booking, a_cohort, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.properties.situations import CORPUS, LIKES_FAST_DISKS, QUEUES, STABLE, TWO_A_RACK_AT_BEST, worlds

FACTS = {"created_at"}
"""Fields that say what is so, and ask for nothing."""

Watched = TypeVar("Watched", bound=Model)


@pytest.mark.parametrize("model", QuotaModel)
def test_a_model_reads_all_that_lint_says(model: QuotaModel) -> None:
    reads = fields_read(model, of_everything_some())
    assert reads == Reads(read_by(model, QUEUE_KNOBS, set(QueueSpec.model_fields)), read_by(model, POLICY_KNOBS, EVERY))


@pytest.mark.parametrize("model", QuotaModel)
@settings(STABLE)
@given(world=worlds)
def test_a_model_reads_nothing_else_in_any_world(model: QuotaModel, world: Snapshot) -> None:
    reads = fields_read(model, world)
    assert reads.of_queues <= read_by(model, QUEUE_KNOBS, set(QueueSpec.model_fields))
    assert reads.of_policy <= read_by(model, POLICY_KNOBS, EVERY)


STRATA: Mapping[str, type[Model]] = {"limits": Limits, "rank": Rank, "goals": Goals}
EVERY = {f"{stratum}.{field}" for stratum, kind in STRATA.items() for field in kind.model_fields}


def read_by(model: QuotaModel, knobs: Mapping[str, frozenset[QuotaModel]], fields: set[str]) -> set[str]:
    """The fields that lint takes for read by a model: its own, and those of no model in particular."""
    return {field for field in fields - FACTS if field not in knobs or model in knobs[field]}


@dataclass(frozen=True)
class Reads:
    """The fields of queues, and those of the strata of the policy, that a round reads."""

    of_queues: set[str]
    of_policy: set[str]


def of_everything_some() -> Snapshot:
    """A full pool of two supplies in which owners wait for borrowers, with wishes of every kind."""
    fleet = [
        a_node(
            f"n{index}",
            gpus=4,
            region=("eu", "us")[index % 2],
            topology=(("rack", f"r{index // 2}"),),
            capacity_type=(CapacityType.ON_DEMAND, CapacityType.SPOT)[index % 2],
            labels={"disk": ("fast", "slow")[index % 2]},
            cpu_milli=8_000,
        )
        for index in range(4)
    ]
    owner, *guests = QUEUES
    borrow = [
        a_workload(f"r{index}", queue=guests[index % 2], gpus=2, tier=SlaTier.BASIC).on(
            (node, 2), started_at=NOON - seconds(5_000)
        )
        for index, node in enumerate(fleet)
    ]
    wishes: Mapping[str, Any] = {"spread": TWO_A_RACK_AT_BEST, "affinities": (LIKES_FAST_DISKS,), "datasets": ("corpus",)}
    wait = [a_workload(f"w{index}", queue=owner, gpus=1, count=2, **wishes) for index in range(3)]
    wait += [a_workload("share", queue=owner, gpus=0.5), a_workload("strict", queue=owner, gpus=4, count=3, preemptible=False)]
    wait += [a_workload("premium", queue=owner, gpus=4, count=4, tier=SlaTier.PREMIUM)]
    tree = a_cohort(a_queue(owner, 12), *(a_queue(guest, 2) for guest in guests))
    return a_snapshot(fleet, tree, *borrow, *wait, datasets=[CORPUS])


def fields_read(model: QuotaModel, world: Snapshot) -> Reads:
    """What a round over the world reads, in which a node is kept for reservations."""
    reads = Reads(set(), set())
    queues = tuple(watched(queue, reads.of_queues, "") for queue in world.queues)
    policy = world.policy
    rank = policy.rank.model_copy(update={"quota_model": model})
    strata = {
        "limits": watched(policy.limits, reads.of_policy, "limits."),
        "rank": watched(rank, reads.of_policy, "rank."),
        "goals": watched(policy.goals, reads.of_policy, "goals."),
    }
    kept = (a_booking(opens_in=60), a_booking("other", booked_at=NOON))
    watching = Policy.model_construct(**(dict(policy) | strata))
    schedule(replace(world, queues=queues, policy=watching, bookings=kept), NOON)
    return Reads(reads.of_queues - FACTS, reads.of_policy)


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
