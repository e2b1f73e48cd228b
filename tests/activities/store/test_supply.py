"""Nodes as providers report them, queues as owners define them, and the outbox."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from activities.ports import NotFound
from activities.providers.sim_fleet import NodeShape, SimulatedCluster, SimulatedFleet, SimulatedRegion
from corral.api import (
    BudgetSpec,
    BudgetUnit,
    Cordon,
    Fungibility,
    Ordering,
    PlaceKind,
    QueuePreemption,
    QueueSpec,
    QueueTree,
    QuotaSpec,
    Reclaim,
    Search,
    State,
    StopPolicy,
    UserLimit,
    WithinQueue,
    WorkloadFilter,
)
from corral.policy import Limits, Policy, QuotaModel
from domain.decision import Plan
from domain.quota.tree import QuotaError
from domain.snapshot import Snapshot
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.builders import NOON, UNPROMISED, a_queue, a_quota

# Nodes


def a_fleet_of(**shape: Any) -> SimulatedFleet:
    """One simulated node."""
    cluster = SimulatedCluster(name="eu-1", nodes=(NodeShape(sku="h100", count=1, **shape),))
    return SimulatedFleet(regions=(SimulatedRegion(name="eu", clusters=(cluster,)),))


async def test_a_report_that_says_nothing_new_changes_nothing(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    before = await pool.dump()
    await pool.store.write_nodes("aws", [a_view("n2"), a_view("n1")], complete=True)
    assert await pool.dump() == before


async def test_of_two_reports_of_one_node_in_a_batch_the_later_counts(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.store.write_nodes("aws", [a_view(ready=False), a_view(price=5), a_view("n2")], complete=False)
    nodes = {node.id: (node.health, node.price) for node in await pool.store.nodes()}
    assert nodes == {"aws/n1": ("ready", 0.000005), "aws/n2": ("ready", 0)}


async def test_a_node_that_is_missing_from_a_complete_report_is_not_ready_any_more(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    await pool.store.write_nodes("aws", [a_view("n1")], complete=False)
    assert {node.health for node in await pool.store.nodes()} == {"ready"}
    await pool.store.write_nodes("aws", [a_view("n1")], complete=True)
    assert {node.id: node.health for node in await pool.store.nodes()} == {"aws/n1": "ready", "aws/n2": "suspect"}


async def test_a_complete_report_speaks_for_its_provider_alone(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.store.register_provider("gcp", "sim")
    await pool.store.write_nodes("gcp", [], complete=True)
    assert {node.id: node.health for node in await pool.store.nodes()} == {"aws/n1": "ready"}


async def test_a_node_that_reports_less_than_is_in_use_keeps_what_is_in_use(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train", gpus=1, cpu_milli=5_000, memory_mib=5_000))
    await pool.store.write_nodes("aws", [a_view(cpu_milli=4_000, memory_mib=8_000, gpus=4), a_view("n2")], complete=True)
    rows = await pool.sql("SELECT cpu_milli, memory_mib, accelerators FROM nodes WHERE id = 'aws/n1'")
    assert tuple(rows[0].values()) == (5_000, 8_000, 8)
    assert await pool.findings() == {}
    await pool.adjusts("cancel", "train")
    await pool.store.write_nodes("aws", [a_view(cpu_milli=4_000, memory_mib=8_000)], complete=False)
    assert [row["cpu_milli"] for row in await pool.sql("SELECT cpu_milli FROM nodes WHERE id = 'aws/n1'")] == [4_000]


async def test_an_order_about_nodes_is_carried_out_whole_or_not_at_all(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2"))
    with pytest.raises(NotFound, match="aws/n3"):
        await pool.orders("drain", "n1", "n3")
    assert {node.health for node in await pool.store.nodes()} == {"ready"}
    answered = await pool.store.cordon(
        "aws", Cordon(action="cordon", nodes=("n1", "aws/n2"), reason="new firmware"), "firmware"
    )
    assert {(node.id, node.health, node.reason) for node in answered} == {
        ("aws/n1", "cordoned", "new firmware"),
        ("aws/n2", "cordoned", "new firmware"),
    }
    await pool.orders("uncordon", "n1")
    assert {node.id: (node.health, node.reason) for node in await pool.store.nodes()} == {
        "aws/n1": ("ready", ""),
        "aws/n2": ("cordoned", "new firmware"),
    }


async def test_an_order_that_is_repeated_when_its_answer_was_lost_undoes_nothing_that_was_ordered_since(pool: Pool) -> None:
    await pool.gets(a_view("n1"))
    order = Cordon(action="drain", nodes=("n1",), reason="new firmware")
    await pool.store.cordon("aws", order, "request")
    await pool.orders("uncordon", "n1")
    assert [(node.id, node.health) for node in await pool.store.cordon("aws", order, "request")] == [("aws/n1", "ready")]
    assert [node.health for node in await pool.store.cordon("aws", order, "another")] == ["draining"]


@pytest.mark.parametrize(
    ("kind", "place", "back"),
    [
        (PlaceKind.NODE, "aws/n1", {"n1"}),
        (PlaceKind.CLUSTER, "aws/eu/eu-1", {"n1", "n2"}),
        (PlaceKind.REGION, "aws/eu", {"n1", "n2", "n3"}),
    ],
)
async def test_all_nodes_of_a_place_are_given_back_at_once(pool: Pool, kind: PlaceKind, place: str, back: set[str]) -> None:
    await pool.gets(a_view("n1"), a_view("n2"), a_view("n3", cluster="eu-2"), a_view("n4", region="us"))
    await pool.orders("cordon", "n1", "n2", "n4")
    await pool.orders("drain", "n3")
    answered = await pool.store.cordon("aws", Cordon(action="uncordon", kind=kind, place=place, reason="cool"), "cool")
    assert {node.id.removeprefix("aws/") for node in answered} == back
    ready = {node.id.removeprefix("aws/") for node in await pool.store.nodes() if node.health == "ready"}
    assert ready == back
    with pytest.raises(NotFound, match=f"{kind} aws/moon"):
        await pool.store.cordon("aws", Cordon(action="uncordon", kind=kind, place="aws/moon", reason="cool"), "moon")


async def test_the_fleet_is_summed_up_by_region_and_sku(pool: Pool) -> None:
    await pool.gets(a_view("n1"), a_view("n2", ready=False), a_view("n3", gpus=4, region="us"))
    await pool.arrive(a_spec("train", gpus=8))
    supply = {(entry.region, entry.sku): entry for entry in await pool.store.fleet()}
    europe = supply["eu", "h100"]
    assert (europe.nodes, europe.ready_nodes, europe.accelerators, europe.used) == (2, 1, 16, 8)


async def test_what_a_node_says_of_itself_is_seen_by_the_next_round(pool: Pool) -> None:
    (view,) = a_fleet_of(labels={"disk": "nvme", "arch": "arm"}, maximum_replicas=2, interruptions_per_hour=0.25).node_views()
    await pool.gets(view)
    (node,) = (await pool.snapshot()).nodes
    assert (node.labels, node.maximum_replicas) == ((("arch", "arm"), ("disk", "nvme")), 2)
    (status,) = await pool.store.nodes()
    assert (status.labels, status.maximum_replicas) == ({"arch": "arm", "disk": "nvme"}, 2)
    assert (node.interruptions, status.interruptions_per_hour) == (250_000, 0.25)
    await pool.store.write_nodes("aws", [replace(view, labels=(), maximum_replicas=None)], complete=True)
    (node,) = (await pool.snapshot()).nodes
    assert (node.labels, node.maximum_replicas) == ((), None)


async def test_a_node_that_takes_fewer_replicas_than_it_has_keeps_them(pool: Pool) -> None:
    await pool.gets(a_view(maximum_replicas=8))
    await pool.arrive(a_spec("train", gpus=1, count=4))
    await pool.store.write_nodes("aws", [a_view(maximum_replicas=2)], complete=True)
    (node,) = (await pool.snapshot()).nodes
    assert node.maximum_replicas == 4
    assert await pool.findings() == {}


# Queues


async def test_queues_are_applied_whole_or_not_at_all(pool: Pool) -> None:
    await pool.gets(a_view())
    before = await pool.dump()
    ring = QueueTree(queues=(a_queue("new"), a_queue("a", parent="b"), a_queue("b", parent="c"), a_queue("c", parent="a")))
    with pytest.raises(QuotaError, match="a -> b -> c -> a"):
        await pool.store.apply_queues(ring)
    assert await pool.dump() == before


async def test_a_cycle_with_queues_that_are_there_already_is_refused(pool: Pool) -> None:
    await pool.gets(queues=[a_queue("company"), a_queue("research", parent="company")])
    before = await pool.dump()
    with pytest.raises(QuotaError, match="company -> research -> company"):
        await pool.store.apply_queues(QueueTree(queues=(a_queue("company", parent="research"),)))
    with pytest.raises(QuotaError, match="'nobody' is not a queue"):
        await pool.store.apply_queues(QueueTree(queues=(a_queue("lost", parent="nobody"),)))
    with pytest.raises(QuotaError, match="given twice"):
        await pool.store.apply_queues(QueueTree(queues=(a_queue("twin"), a_queue("twin"))))
    assert await pool.dump() == before


FULL_QUOTA = QuotaSpec(
    sku="h100",
    nominal=8,
    floor=2,
    cap=32,
    borrowing_limit=16,
    lending_limit=4,
    over_quota_weight=3,
    valid_from=NOON,
    valid_until=NOON + timedelta(days=1),
)
FULL_QUEUE = QueueSpec(
    name="research",
    parent="company",
    weight=3,
    stop=StopPolicy.HOLD,
    minimum_runtime_seconds=60,
    reclaim_minimum_runtime_seconds=30,
    ordering=Ordering.STRICT_FIFO,
    sku_order=("h100", "a100"),
    preemption=QueuePreemption(within_queue=WithinQueue.LOWER_PRIORITY, reclaim_within_cohort=Reclaim.ANY),
    fungibility=Fungibility(when_can_borrow=Search.TRY_NEXT),
    priority=7,
    created_at=NOON - timedelta(days=7),
    quotas=(FULL_QUOTA,),
    user_limits=(UserLimit(user="ada", accelerators=4),),
    budgets=(BudgetSpec(unit=BudgetUnit.ACCELERATOR_HOURS, amount=100, period_seconds=7 * 24 * 3_600),),
)


OF_COHORTS = FULL_QUEUE.model_copy(
    update={
        "priority": 0,
        "minimum_runtime_seconds": 0,
        "reclaim_minimum_runtime_seconds": None,
        "quotas": (FULL_QUOTA.model_copy(update={"over_quota_weight": None}),),
    }
)
OF_DESERVED = FULL_QUEUE.model_copy(update={"preemption": None, "fungibility": None, "ordering": Ordering.BEST_EFFORT_FIFO})


def test_full_queues_say_everything_that_queues_can_say() -> None:
    for given in (FULL_QUOTA, FULL_QUEUE):
        assert {name for name in type(given).model_fields if name not in given.model_dump(exclude_defaults=True)} == set()


@pytest.mark.parametrize(("model", "queue"), [(QuotaModel.COHORTS, OF_COHORTS), (QuotaModel.DESERVED, OF_DESERVED)])
async def test_a_queue_is_read_back_as_it_was_applied(pool: Pool, model: QuotaModel, queue: QueueSpec) -> None:
    pool.decide_by(model)
    tree = QueueTree(queues=(QueueSpec(name="company", created_at=NOON), queue))
    assert [status.spec for status in await pool.store.apply_queues(tree)] == list(tree.queues)
    assert [status.spec for status in await pool.another_store().queues()] == list(tree.queues)


async def test_a_queue_is_as_old_as_its_first_application_unless_it_says_so(pool: Pool) -> None:
    async def created(queue: QueueSpec) -> datetime | None:
        return (await pool.store.apply_queues(QueueTree(queues=(queue,))))[0].spec.created_at

    assert await created(a_queue("research")) == NOON
    pool.clock.move(60)
    assert await created(a_queue("research", 8)) == NOON
    older = NOON - timedelta(days=1)
    assert await created(QueueSpec(name="research", created_at=older)) == older
    assert await created(a_queue("research", 16)) == older


async def test_every_edit_of_a_queue_is_noticed_by_the_next_round(pool: Pool) -> None:
    pool.decide_by(QuotaModel.DESERVED)
    await pool.gets(a_view(), queues=[a_queue("research", 8)])
    seen: list[QueueSpec] = []

    def look(snapshot: Snapshot, now: datetime) -> tuple[Plan, dict[str, float]]:
        seen.extend(snapshot.queues)
        return Plan(()), {}

    for priority in (1, 2):
        edited = QueueSpec(name="research", priority=priority)
        await pool.another_store().apply_queues(QueueTree(queues=(edited,)))
        await pool.store.round([], look, "planner")
    assert [queue.priority for queue in seen] == [1, 2]


async def test_queues_that_a_tree_does_not_name_stay_as_they_are(pool: Pool) -> None:
    await pool.gets(queues=[a_queue("company", 8), a_queue("research", 4, parent="company")])
    answered = await pool.store.apply_queues(QueueTree(queues=(a_queue("company", 16, cap=20),)))
    by_name = {queue.name: queue for queue in answered}
    assert by_name["research"].parent == "company"
    assert [(use.nominal, use.cap) for use in by_name["company"].usage] == [(16, 20)]
    assert [use.nominal for use in by_name["research"].usage] == [4]


async def test_a_cohort_uses_what_its_children_use(pool: Pool) -> None:
    tree = [a_queue("company", 0), a_queue("owner", 8, parent="company"), a_queue("guest", 0, parent="company")]
    await pool.gets(a_view(), queues=tree)
    await pool.arrive(a_spec("train", queue="guest", gpus=4))
    await pool.arrive(a_spec("waits", queue="guest", gpus=8))
    await pool.runs("train")
    queues = {queue.name: queue for queue in await pool.store.queues()}
    assert [(use.used, use.borrowed) for use in queues["guest"].usage] == [(4, 4)]
    assert [(use.used, use.borrowed) for use in queues["company"].usage] == [(4, 4)]
    assert (queues["guest"].running, queues["guest"].waiting) == (1, 1)


async def test_a_tree_that_owns_more_than_is_healthy_is_applied_with_a_warning(pool: Pool) -> None:
    pool.policy = Policy(limits=Limits(sku_classes={"hopper": ("h100", "h200")}), rank=UNPROMISED.rank)
    pool.store = pool.another_store()
    await pool.gets(a_view("n1"), a_view("n2", ready=False), a_view("n3", sku="h200", gpus=4))
    tree = [
        a_queue("company", 4),
        a_queue("research", 8, parent="company", quotas=[a_quota(9, sku="hopper"), a_quota(1, sku="x9")]),
    ]
    answered = await pool.store.apply_queues(QueueTree(queues=tuple(tree)))
    warned = {queue.name: queue.warnings for queue in answered if queue.warnings}
    assert warned == {
        "company": (
            "h100 is over-committed by 4: 12 are owned, 12 of them here, and 8 are healthy",
            "x9 is over-committed by 1: 1 are owned, 1 of them here, and 0 are healthy",
        ),
        "research": ("x9 is no SKU of the fleet (h100, h200), and no class of the policy (limits.sku_classes) that holds one",),
    }
    assert {queue.name: queue.warnings for queue in await pool.store.queues() if queue.warnings} == warned


async def test_use_counts_under_the_sku_and_its_class(pool: Pool) -> None:
    pool.policy = Policy(limits=Limits(sku_classes={"hopper": ("h100", "h200")}), rank=UNPROMISED.rank)
    pool.store = pool.another_store()
    await pool.gets(a_view(), queues=[a_queue("research", 8, quotas=[a_quota(6, sku="hopper")])])
    await pool.arrive(a_spec("train", gpus=4), a_spec("waits", gpus=4))
    assert sorted(await pool.states("train", "waits")) == [State.RESERVED, State.WAITING]
    (queue,) = await pool.store.queues()
    assert [(usage.sku, usage.used) for usage in queue.usage] == [("h100", 4), ("hopper", 4)]


async def test_new_quota_wakes_who_waits_for_it(pool: Pool) -> None:
    await pool.gets(a_view(), queues=[a_queue("research", 8), a_queue("else", 1)])
    await pool.arrive(a_spec("first", gpus=4))
    await pool.arrive(a_spec("second", gpus=8))
    assert await pool.plan() == {}
    await pool.adjusts("cancel", "first")
    assert (await pool.plan())["second"].state is State.RESERVED


async def test_a_grant_counts_while_it_is_valid(pool: Pool) -> None:
    grant = a_quota(8, valid_from=pool.clock.now().replace(hour=13), valid_until=pool.clock.now().replace(hour=14))
    await pool.gets(a_view(), queues=[a_queue("research", quotas=[grant])])
    assert (await pool.arrive(a_spec("train")))["train"].state is State.WAITING
    pool.clock.move(3_599)
    await pool.plan()
    assert await pool.state("train") is State.WAITING
    pool.clock.move(1)
    assert (await pool.plan())["train"].state is State.RESERVED


# The outbox


async def test_what_was_not_delivered_is_found_until_it_is(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    await pool.binds("train")
    assert await pool.store.undelivered(0) == []
    await pool.runs("train")
    assert await pool.store.undelivered(3_600) == []
    (notice,) = await pool.store.undelivered(0)
    assert notice.standing == await pool.standing("train")
    await pool.store.delivered([notice])
    assert await pool.store.undelivered(0) == []


# What people ask


async def test_workloads_are_found_by_queue_state_and_tier(pool: Pool) -> None:
    await pool.gets(a_view(), queues=[a_queue("research", 100), a_queue("other", 100)])
    await pool.arrive(a_spec("old"))
    pool.clock.move(1)
    await pool.arrive(a_spec("new"), a_spec("elsewhere", queue="other", gpus=4))
    await pool.adjusts("cancel", "elsewhere")

    async def found(**asked: object) -> list[str]:
        return [status.id for status in await pool.store.workloads(WorkloadFilter.model_validate(asked))]

    assert await found() == ["elsewhere", "new", "old"]
    assert await found(limit=2) == ["elsewhere", "new"]
    assert await found(queue="other") == ["elsewhere"]
    assert await found(state=State.WAITING) == ["new"]
    assert await found(active_only=True) == ["new", "old"]
    assert await found(tier="basic") == []


async def test_a_status_says_where_a_workload_runs_and_who_is_next_in_line(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("runs"))
    await pool.runs("runs")
    await pool.arrive(a_spec("first"))
    pool.clock.move(1)
    await pool.arrive(a_spec("later"))
    runs, first, later = [await pool.store.status(id) for id in ("runs", "first", "later")]
    assert runs is not None
    assert runs.where is not None
    assert (runs.where.nodes, runs.where.accelerators) == ({"aws/n1": 1}, 8)
    assert [status.explanation.position for status in (first, later) if status and status.explanation] == [1, 2]
    assert await pool.store.status("nobody") is None


async def test_a_history_is_told_from_an_event_on(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("train"))
    await pool.runs("train")
    await pool.ends("train", exit_code=0)
    events = await pool.store.events("train", 0)
    assert [event.kind for event in events] == ["submitted", "reserved", "starting", "running", "succeeded"]
    assert await pool.store.events("train", events[2].id) == events[3:]


async def test_nothing_happened_to_who_waits_unnoticed(pool: Pool) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("old"), a_spec("older"), a_spec("oldest"))
    pool.clock.move(100)
    await pool.arrive(a_spec("young"))
    assert await pool.store.untouched_workloads(pool.clock.now(), "", 2) == ["old", "older"]
    assert await pool.store.untouched_workloads(pool.clock.now(), "older", 2) == ["oldest"]
