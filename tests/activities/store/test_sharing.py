"""What many ask for or were told is remembered once, and what differs in anything that a round looks at never is."""

from datetime import timedelta
from typing import Any

import pytest

from activities.store.demand import AT_ONCE, NOT_SHARED
from corral.api import (
    Autoscale,
    Checkpoint,
    ReplicaGroup,
    Selection,
    SlaTier,
    Target,
    Topology,
    WorkloadSpec,
    WorkloadTerms,
)
from domain.decision import Plan
from domain.pool.workload import Waiting
from domain.worlds.request import form
from tests.activities.store.pool import Pool, a_view
from tests.builders import NOON, a_queue

GROUP = ReplicaGroup(count=2, minimum=1, accelerators=2)

OTHERWISE: dict[str, Any] = {
    "queue": "other",
    "tenant": "somebody",
    "tier": SlaTier.BASIC,
    "priority": 7,
    "groups": (GROUP.model_copy(update={"memory_mib": 1}),),
    "tasks": 5,
    "autoscale": Autoscale(target=10, most=4),
    "targets": (Target(skus=("h100",)),),
    "selection": Selection.PRICED,
    "topology": Topology(required="rack"),
    "tolerations": ("spot",),
    "checkpoint": Checkpoint(grace_seconds=31),
    "preemptible": False,
    "preemption_delay_seconds": 1,
    "minimum_replicas": 2,
    "user": "ada",
    "expected_seconds": 60,
    "maximum_runtime_seconds": 60,
    "datasets": ("web",),
    "earliest_start": NOON + timedelta(hours=1),
    "retries": 1,
}
"""For each field that a round may look at another value than its default."""


def asks(id: str, **fields: Any) -> WorkloadSpec:
    groups = (ReplicaGroup(accelerators=2),) if "tasks" in fields else (GROUP,)
    return WorkloadSpec.model_validate({"id": id, "queue": "research", "groups": groups, **fields})


def terms_of(spec: WorkloadSpec) -> WorkloadTerms:
    """What a round may look at."""
    return WorkloadTerms.model_validate({name: value for name, value in spec if name not in NOT_SHARED})


async def remembered(pool: Pool, *specs: WorkloadSpec) -> dict[str, Waiting]:
    """Those who wait, as a new planner reads them."""
    await pool.gets(a_view(), queues=[a_queue("research", 8), a_queue("other", 8)])
    await pool.decided(lambda _: Plan(()), *specs)
    snapshot, _ = await pool.another_store().look()
    return {each.id: each for each in snapshot.waiting}


def test_every_field_that_a_round_may_look_at_has_another_value_here() -> None:
    assert OTHERWISE.keys() | set(NOT_SHARED) - {"id"} == WorkloadTerms.model_fields.keys()


async def test_those_who_ask_for_the_same_share_what_they_ask_for(pool: Pool) -> None:
    own = {"command": ("train", "--rate", "0.1"), "environment": {"RUN": "7"}, "parameters": {"name": "b"}}
    waiting = await remembered(pool, asks("a", priority=7), asks("b", priority=7, **own))
    assert waiting["a"].spec is waiting["b"].spec
    assert form(waiting["a"]) is form(waiting["b"])


async def test_who_asks_for_something_else_in_one_field_shares_it_with_nobody(pool: Pool) -> None:
    specs = [asks("plain"), *(asks(name.replace("_", "-"), **{name: value}) for name, value in OTHERWISE.items())]
    waiting = await remembered(pool, *specs)
    assert len({id(each.spec) for each in waiting.values()}) == len(specs)
    assert {id: each.spec for id, each in waiting.items()} == {spec.id: terms_of(spec) for spec in specs}


@pytest.mark.parametrize("done", [0, 1, 4])
def test_tasks_that_are_done_are_not_asked_for_though_others_ask_in_the_same_words(done: int) -> None:
    spec = terms_of(asks("array", tasks=5))
    begun, new = Waiting("begun", spec, NOON, tasks_done=done), Waiting("new", spec, NOON)
    (asked,), (all_of_it,) = form(begun).wishes, form(new).wishes
    assert (asked.gang.shapes[0].count, all_of_it.gang.shapes[0].count) == (5 - done, 5)


async def test_another_priority_is_that_of_one_workload(pool: Pool) -> None:
    await remembered(pool, asks("a"), asks("b"))
    await pool.store.look()
    await pool.adjusts("reprioritize", "b", priority=3)
    for store in (pool.store, pool.another_store()):
        snapshot, _ = await store.look()
        assert [each.spec.priority for each in snapshot.waiting] == [0, 3]


async def test_more_than_are_read_at_once_are_all_read(pool: Pool) -> None:
    await remembered(pool, asks("w"))
    await pool.sql(
        """
        INSERT INTO workloads
        SELECT (jsonb_populate_record(template, jsonb_build_object(
            'id', 'w' || number, 'spec', jsonb_set(template.spec, '{id}', to_jsonb('w' || number))))).*
        FROM workloads AS template, generate_series(1, $1) AS number""",
        2 * AT_ONCE,
    )
    snapshot, _ = await pool.another_store().look()
    assert len({each.id for each in snapshot.waiting}) == 2 * AT_ONCE + 1
    assert len({id(each.spec) for each in snapshot.waiting}) == 1
