"""What a round does depends on what runs and on how many different things are asked for, not on how many ask for the same."""

import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from corral.api import Explanation
from corral.policy import QuotaModel
from domain import reasons
from domain.decision import StartAfter, Wait
from domain.facts import Facts
from domain.pool.fleet import Node
from domain.pool.versions import Crowd, Versions
from domain.pool.workload import Waiting
from domain.reasons import why_waits
from domain.remembered.memory import Memory
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.world import World
from tests.builders import NOON, a_cohort, a_node, a_preemption, a_queue, a_snapshot, a_workload, by_model, seconds

FEW, MANY = 100, 3_000
SEARCHES = 200
"""Calls by which bisection may take longer where there are so many more."""


def a_full_pool(model: QuotaModel, number: int) -> Snapshot:
    """Two queues, in each of which many want what they cannot have, some of them more than others."""
    nodes, queues = [a_node("a"), a_node("b")], [a_queue("one", 8), a_queue("two", 8)]
    running = [a_workload(f"r-{queue}", queue=queue).on((node, 8)) for node, queue in zip(nodes, ("one", "two"), strict=True)]
    waiting = [
        a_workload(f"w{n:04}", queue=("one", "two")[n % 2], gpus=(1, 4, 8)[n % 3], submitted_at=NOON - seconds(5_000 - n))
        for n in range(number)
    ]
    return a_snapshot(nodes, queues, *running, *waiting, policy=by_model(model))


def calls_of(work: Callable[[], object]) -> int:
    """How many Python functions something calls."""
    calls = 0

    def count(frame: object, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def calls_of_a_round_in_which_one_arrives(pool: Snapshot, newcomer: Waiting, *, starts: bool) -> int:
    memory, waiting, told = Memory(), Versions({each.id: each for each in pool.waiting}), Versions[Explanation]()

    def the_round(crowd: Versions[Waiting], second: int, starting: Collection[str] = ()) -> Versions[Explanation]:
        here = replace(pool, waiting=Crowd(crowd), told=told)
        plan = schedule(here, NOON + seconds(second), memory=memory)
        assert {start.workload_id for start in plan.starts} == set(starting)
        return told.with_({each.workload_id: each.explanation for each in plan.decisions if isinstance(each, Wait)})

    for second in range(2):
        told = the_round(waiting, second)
    return calls_of(lambda: the_round(waiting.with_({newcomer.id: newcomer}), 2, [newcomer.id] if starts else []))


@pytest.mark.parametrize("model", list(QuotaModel))
def test_a_round_in_which_one_arrives_does_as_much_for_many_as_for_few(model: QuotaModel) -> None:
    def calls(number: int) -> int:
        pool = a_full_pool(model, number)
        newcomer = replace(pool.waiting[0], id="new", submitted_at=NOON - seconds(1_000))
        return calls_of_a_round_in_which_one_arrives(pool, newcomer, starts=False)

    few, many = calls(FEW), calls(MANY)
    assert few - SEARCHES < many < few + SEARCHES


def test_nobody_is_looked_at_for_improvement_beside_the_first_of_those_who_ask_for_the_same() -> None:
    def calls(number: int) -> int:
        pool = a_full_pool(QuotaModel.RANKED, number)
        roomy = replace(pool, nodes=(*pool.nodes, left_of(a_node("c"), 4)), queues=(*pool.queues, a_queue("three", 8)))
        large = tuple(each for each in roomy.waiting if each.spec.groups[0].accelerators == 8)
        newcomer = a_workload("new", queue="three", gpus=1).waiting()
        return calls_of_a_round_in_which_one_arrives(replace(roomy, waiting=large), newcomer, starts=True)

    few, many = calls(FEW), calls(MANY)
    assert many < few + SEARCHES


def test_why_work_waits_is_worked_out_once_for_all_who_lack_the_same_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def seen(workload: Waiting, world: World, later: World, facts: Facts) -> Explanation:
        asked.append(workload.id)
        return why_waits(workload, world, later, facts)

    monkeypatch.setattr(reasons, "why_waits", seen)
    pool = a_full_pool(QuotaModel.RANKED, FEW)
    none_alike = tuple(
        replace(each, spec=each.spec.model_copy(update={"groups": (each.spec.groups[0].model_copy(update={"memory_mib": n}),)}))
        for n, each in enumerate(pool.waiting)
    )
    waits = [each for each in schedule(replace(pool, waiting=none_alike), NOON).decisions if isinstance(each, Wait)]
    assert len(waits) == FEW
    assert len(asked) == 3 * 2  # sizes and queues: each queue has as much as it owns


def a_pool_full_of_small_work(model: QuotaModel, number: int) -> Snapshot:
    """Nodes full of work on one device each; a gang of another queue has a right to four whole nodes of them."""
    nodes, reclaims = [a_node(f"n{at:03}") for at in range(number)], a_preemption(reclaim="any")
    queues = a_cohort(
        a_queue("one", 0), a_queue("two", 8 * number, preemption=reclaims if model is QuotaModel.COHORTS else None)
    )
    running = [
        a_workload(f"r{at:03}-{device}", queue="one", priority=(at + device) % 5).on((left_of(node, device), 1))
        for at, node in enumerate(nodes)
        for device in range(8)
    ]
    gang = a_workload("gang", queue="two", gpus=8, count=4)
    return a_snapshot(nodes, queues, *running, gang, policy=by_model(model))


def left_of(node: Node, taken: int) -> Node:
    """The node when so many of its devices are taken."""
    return replace(node, free=replace(node.free, devices=(0,) * taken + node.free.devices[taken:]))


@pytest.mark.parametrize("model", [QuotaModel.DESERVED, QuotaModel.COHORTS])
def test_a_search_for_victims_looks_at_each_of_them_as_often_whether_few_run_or_many(model: QuotaModel) -> None:
    few, many = a_pool_full_of_small_work(model, 10), a_pool_full_of_small_work(model, 80)
    assert [type(decision) for decision in schedule(many, NOON).decisions] == [StartAfter]
    assert calls_of(lambda: schedule(many, NOON)) < 12 * calls_of(lambda: schedule(few, NOON))
