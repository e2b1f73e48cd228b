"""A tenant never sees another's names, whatever the reason and whoever is in the way."""

from dataclasses import replace

import pytest
from hypothesis import given

from corral.api import QueueSpec
from corral.policy import QuotaModel
from domain.advice.fixes import cheapest_fixes, for_tenant
from domain.decision import Refuse, Wait
from domain.pool.workload import Active, Waiting
from domain.round import QUOTA_MODELS, schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, a_workload
from tests.properties.situations import STABLE, worlds


def token(name: str) -> str:
    """A name that no sentence contains by chance."""
    return f"x7{name}7x"


def masked(snapshot: Snapshot) -> Snapshot:
    """The same world; every queue and workload has a name that can be told from all words."""

    def queue(spec: QueueSpec) -> QueueSpec:
        return spec.model_copy(update={"name": token(spec.name), "parent": token(spec.parent) if spec.parent else None})

    def waiting(workload: Waiting) -> Waiting:
        spec = workload.spec.model_copy(update={"queue": token(workload.spec.queue)})
        return replace(workload, id=token(workload.id), spec=spec)

    def active(workload: Active) -> Active:
        spec, id = workload.spec.model_copy(update={"queue": token(workload.spec.queue)}), token(workload.id)
        return replace(workload, id=id, attempt_id=f"{id}.1", spec=spec)

    return replace(
        snapshot,
        queues=tuple(map(queue, snapshot.queues)),
        waiting=tuple(map(waiting, snapshot.waiting)),
        active=tuple(map(active, snapshot.active)),
    )


@pytest.mark.parametrize("model", QUOTA_MODELS)
def test_explanations_name_nobody_else(model: QuotaModel) -> None:
    @STABLE
    @given(worlds)
    def check(world: Snapshot) -> None:
        policy = world.policy.model_copy(update={"rank": world.policy.rank.model_copy(update={"quota_model": model})})
        snapshot = replace(masked(world), policy=policy)
        parents = {queue.name: queue.parent for queue in snapshot.queues}
        everybody = {*parents, *(work.id for work in snapshot.waiting), *(work.id for work in snapshot.active)}
        specs = {workload.id: workload.spec for workload in snapshot.waiting}
        for decision in schedule(snapshot, NOON).decisions:
            if isinstance(decision, Wait | Refuse):
                mine = {decision.workload_id, (queue := specs[decision.workload_id].queue), parents[queue]}
                told = decision.explanation.model_dump_json()
                if isinstance(decision, Wait):
                    fixes = cheapest_fixes(decision.workload_id, snapshot, NOON, most=2)
                    told += "".join(for_tenant(fix).model_dump_json() for fix in fixes)
                assert not [name for name in everybody - mine if name in told]

    check()


@STABLE
@given(worlds)
def test_who_names_a_queue_that_does_not_exist_is_told_of_no_other(world: Snapshot) -> None:
    lost = a_workload(token("lost"), queue=token("nowhere")).waiting()
    snapshot = masked(replace(world, waiting=()))
    others = {*(queue.name for queue in snapshot.queues), *(work.id for work in snapshot.active)}
    (refused,) = schedule(replace(snapshot, waiting=(lost,)), NOON).decisions
    assert isinstance(refused, Refuse)
    assert not [name for name in others if name in refused.explanation.model_dump_json()]
