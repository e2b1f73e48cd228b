"""What holds of soft goals in any world: nothing beyond their limits, and nothing at all without weight or facts."""

from dataclasses import replace

import pytest
from hypothesis import given, settings

from corral.api import CapacityType, Topology, WorkloadTerms
from corral.policy import Goal, Goals, Policy, QuotaModel
from domain.placement.scoring import millionths
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON
from tests.properties.situations import STABLE, snapshots

MANY = settings(STABLE, max_examples=50)
TERMS = tuple(name for name, field in Goals.model_fields.items() if isinstance(field.default, Goal))
NOTHING = Goals.model_validate({term: {"weight": 0} for term in TERMS})
NARROW = Goals.model_validate({term: {"limit": 0.001} for term in TERMS})


def under(goals: Goals, world: Snapshot, model: QuotaModel) -> Snapshot:
    policy = world.policy
    return replace(
        world,
        policy=Policy.model_construct(
            **dict(policy) | {"goals": goals, "rank": policy.rank.model_copy(update={"quota_model": model})}
        ),
    )


def plain(spec: WorkloadTerms) -> WorkloadTerms:
    """The workload without wishes and data."""
    groups = tuple(group.model_copy(update={"affinities": ()}) for group in spec.groups)
    return spec.model_copy(update={"datasets": (), "groups": groups, "topology": without_wish(spec.topology)})


def without_wish(topology: Topology) -> Topology:
    is_wish = topology.spread is not None and topology.spread.worth is not None
    return topology.model_copy(update={"spread": None}) if is_wish else topology


def without_facts(world: Snapshot) -> Snapshot:
    return replace(
        world,
        nodes=tuple(replace(node, capacity_type=CapacityType.ON_DEMAND) for node in world.nodes),
        waiting=tuple(replace(each, spec=plain(each.spec)) for each in world.waiting),
        active=tuple(replace(each, spec=plain(each.spec)) for each in world.active),
        datasets=(),
    )


@pytest.mark.parametrize("model", QuotaModel)
def test_goals_without_weight_change_nothing(model: QuotaModel) -> None:
    @MANY
    @given(snapshots())
    def compare(world: Snapshot) -> None:
        weightless = under(NOTHING, world, model)
        assert schedule(weightless, NOON) == schedule(without_facts(weightless), NOON)

    compare()


@pytest.mark.parametrize("model", QuotaModel)
def test_goals_without_facts_change_nothing(model: QuotaModel) -> None:
    @MANY
    @given(snapshots())
    def compare(world: Snapshot) -> None:
        bare = without_facts(world)
        assert schedule(under(Goals(), bare, model), NOON) == schedule(under(NOTHING, bare, model), NOON)

    compare()


@MANY
@given(snapshots())
def test_no_term_counts_more_than_its_limit(world: Snapshot) -> None:
    for start in schedule(under(NARROW, world, QuotaModel.RANKED), NOON).starts:
        for term, score in start.terms:
            assert term not in TERMS or abs(score) <= millionths(getattr(NARROW, term).limit)
