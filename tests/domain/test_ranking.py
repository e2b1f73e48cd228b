"""Whose turn it is."""

from corral.api import SlaTier, StopPolicy
from domain.facts import Facts
from domain.fleet import Node
from domain.ranking import in_rank_order
from domain.round import schedule
from domain.world import World
from tests.builders import (
    LONG_AGO,
    NOON,
    AWorkload,
    a_cohort,
    a_node,
    a_queue,
    a_snapshot,
    a_workload,
    nodes,
    seconds,
    started,
    why,
)


def order(*workloads: AWorkload, fleet: list[Node] | None = None) -> list[str]:
    cohort = a_cohort(a_queue("research", 8), a_queue("guest", 0), a_queue("other", 0))
    borrower = a_node("borrowed", gpus=1)
    running = a_workload("running", queue="other").on((borrower, 1))
    snapshot = a_snapshot([*(fleet or nodes(2)), borrower], cohort, running, *workloads)
    facts = Facts.of(snapshot, NOON)
    return [workload.id for workload in in_rank_order(snapshot.waiting, World.of(snapshot, facts.tree), facts)]


def test_rank_is_lexicographic() -> None:
    assert order(
        a_workload("i-id"),
        a_workload("h-id"),
        a_workload("age", submitted_at=LONG_AGO - seconds(1)),
        a_workload("priority", priority=1, submitted_at=NOON),
        a_workload("share", queue="guest", priority=5),
        a_workload("large-share", queue="other", priority=9),
        a_workload("tier", tier=SlaTier.PREMIUM, priority=-5, submitted_at=NOON),
        a_workload("low-tier", tier=SlaTier.BASIC, priority=9, submitted_at=LONG_AGO - seconds(9)),
    ) == ["tier", "priority", "age", "h-id", "i-id", "share", "large-share", "low-tier"]


def test_a_request_beyond_nominal_ranks_after_one_within_it() -> None:
    assert order(a_workload("large", gpus=8, count=2, priority=9), a_workload("small")) == ["small", "large"]


def test_who_ranks_first_gets_the_last_device() -> None:
    contenders = [a_workload("basic", tier=SlaTier.BASIC), a_workload("premium", tier=SlaTier.PREMIUM)]
    plan = schedule(a_snapshot([a_node("a", used=7)], [a_queue("research", 8)], *contenders), NOON)
    assert list(started(plan)) == ["premium"]


def test_a_stopped_queue_starts_nothing_and_neither_does_anything_below_it() -> None:
    cohort = [
        queue.model_copy(update={"stop": StopPolicy.HOLD}) if queue.name == "cohort" else queue
        for queue in a_cohort(a_queue("research", 8))
    ]
    plan = schedule(a_snapshot(nodes(1), cohort, a_workload()), NOON)
    assert why(plan).message == "queue cohort is stopped (hold); nothing new starts below it until it is open"
