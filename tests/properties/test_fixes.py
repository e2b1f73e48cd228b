"""Every fix that is offered is true: carried out by hand, it starts the workload."""

from collections import Counter
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings

from corral.api import Fix, QueueSpec, QuotaSpec, StopPolicy, WorkloadTerms
from domain.advice.fixes import cheapest_fixes
from domain.decision import Start, StartAfter, Wait
from domain.pool.fleet import Health
from domain.pool.workload import Active
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, seconds
from tests.properties.situations import left_of, worlds

ENOUGH = 400
"""Waiting workloads that are asked about."""


def by_hand(fix: Fix, workload_id: str, snapshot: Snapshot) -> tuple[Snapshot, datetime]:
    """What owners and operators do when they follow a fix, and what time then brings."""
    now = NOON + seconds(fix.wait_seconds or 0)
    staying = [
        active
        for active in snapshot.active
        if active.id not in fix.victims and not (fix.wait_seconds and (active.preempted or has_ended(active, now)))
    ]
    waiting = [
        replace(workload, spec=followed(fix, workload.spec)) if workload.id == workload_id else workload
        for workload in snapshot.waiting
    ]
    changed = len(staying) != len(snapshot.active)
    nodes = [replace(node, health=Health.READY) if node.id in fix.nodes else node for node in snapshot.nodes]
    nodes = [replace(node, free=left_of(node, staying)) for node in nodes] if changed else nodes
    queues = [edited(fix, queue) for queue in snapshot.queues]
    return replace(snapshot, nodes=tuple(nodes), queues=tuple(queues), waiting=tuple(waiting), active=tuple(staying)), now


def has_ended(active: Active, now: datetime) -> bool:
    spec, began = active.spec, active.started_at
    said = spec.expected_seconds if spec.expected_seconds is not None else spec.maximum_runtime_seconds
    return began is not None and said is not None and began + seconds(said) <= now


def followed(fix: Fix, spec: WorkloadTerms) -> WorkloadTerms:
    targets = (*spec.targets, fix.target) if fix.target else spec.targets
    return spec.model_copy(
        update={
            "targets": targets,
            "topology": fix.topology or spec.topology,
            "groups": fix.groups or spec.groups,
            "minimum_replicas": fix.minimum_replicas or spec.minimum_replicas,
            "tolerations": (*spec.tolerations, *fix.tolerations),
            "preemptible": spec.preemptible if fix.preemptible is None else fix.preemptible,
            "tier": spec.tier if fix.tier is None else fix.tier,
            "priority": spec.priority if fix.priority is None else fix.priority,
        }
    )


def is_possible(fix: Fix, workload_id: str, snapshot: Snapshot) -> bool:
    """Whether the workload could be submitted as the fix has it."""
    spec = next(workload.spec for workload in snapshot.waiting if workload.id == workload_id)
    asked = followed(fix, spec)
    return type(spec).model_validate(asked.model_dump()) == asked


def edited(fix: Fix, queue: QueueSpec) -> QueueSpec:
    rows = {row.sku: row for row in queue.quotas}
    for change in fix.quotas:
        if change.queue == queue.name:
            row = rows.get(change.sku, QuotaSpec(sku=change.sku, nominal=0))
            nominal = row.nominal + change.nominal
            cap = None if row.cap is None else max(nominal, row.cap + change.cap)
            rows[change.sku] = row.model_copy(update={"nominal": nominal, "cap": cap})
    stop = StopPolicy.OPEN if queue.name in fix.queues else queue.stop
    return queue.model_copy(update={"quotas": tuple(rows.values()), "stop": stop})


def starts(workload_id: str, snapshot: Snapshot, now: datetime) -> bool:
    moved = schedule(snapshot, now).decisions
    return any(isinstance(each, Start | StartAfter) and each.workload_id == workload_id for each in moved)


@pytest.fixture(scope="module")
def told() -> Counter[str]:
    """How many workloads were asked about, had a fix, and started once the first was followed."""
    told: Counter[str] = Counter()

    @settings(derandomize=True, deadline=None, max_examples=600, database=None, suppress_health_check=list(HealthCheck))
    @given(worlds)
    def ask(snapshot: Snapshot) -> None:
        if told["asked"] >= ENOUGH:
            return
        for decision in schedule(snapshot, NOON).decisions:
            if isinstance(decision, Wait):
                told["asked"] += 1
                if fixes := cheapest_fixes(decision.workload_id, snapshot, NOON, most=1):
                    told["fixed"] += 1
                    told["possible"] += is_possible(fixes[0], decision.workload_id, snapshot)
                    told["true"] += starts(decision.workload_id, *by_hand(fixes[0], decision.workload_id, snapshot))
                    told[f"kind {fixes[0].kind}"] += 1

    ask()
    return told


def test_nearly_all_who_wait_have_a_fix_and_each_starts_its_workload(told: Counter[str]) -> None:
    assert told["asked"] >= ENOUGH
    assert told["fixed"] >= 0.95 * told["asked"], told
    assert told["true"] == told["fixed"], told
    assert told["possible"] == told["fixed"], told
