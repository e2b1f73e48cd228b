"""A planner that remembers its last rounds decides what one would that does not."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api import BudgetSpec, BudgetUnit, Explanation, Ordering, SlaTier, Target
from corral.policy import Policy
from corral.reservation import Lending
from domain.decision import Wait
from domain.explanation.answers import is_same
from domain.facts import Facts
from domain.isolation import schedule_around
from domain.pool.stock import NodeRoom
from domain.pool.versions import Crowd, Versions
from domain.pool.workload import Waiting
from domain.preemption import herd
from domain.quota.budgets import ONE
from domain.quota.tree import QuotaTree
from domain.remembered import entitlement, lanes
from domain.remembered.beginning import Beginning
from domain.remembered.census import Census
from domain.remembered.entitlement import Entitlement, within_quota
from domain.remembered.memory import KINDS_EACH, Memory
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds import outlook
from domain.worlds.outlook import IdleFleet
from tests.benchmarks.pools import Size, a_pool
from tests.benchmarks.turnover import a_little_later, carried_out
from tests.builders import LONG_AGO, NOON, a_booking, a_node, a_queue, a_snapshot, a_workload, seconds
from tests.properties.changes import a_change
from tests.properties.situations import QUEUES, STABLE, worlds

ROUNDS = 4


def check(snapshots: list[Snapshot]) -> None:
    memory, census, kept = Memory(), Census(), Entitlement()
    for number, snapshot in enumerate(snapshots):
        now = NOON + seconds(60 * number)
        assert schedule(snapshot, now, memory=memory) == schedule(snapshot, now)
        tree = QuotaTree.at(snapshot.queues, now, spent=snapshot.spent)
        coverage = kept.take(*census.take(snapshot), snapshot.over_quota, tree, now)
        assert {**dict.fromkeys(coverage.over, 0), **coverage.covered} == within_quota(snapshot, tree, now)


@STABLE
@given(worlds, st.randoms(use_true_random=False))
def test_whatever_happens_between_two_rounds(snapshot: Snapshot, random: Random) -> None:
    snapshots = [snapshot]
    for _ in range(ROUNDS):
        snapshots.append(a_change(snapshots[-1], random))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(entitlement, "BLOCK", 1)
        check(snapshots)


@STABLE
@given(worlds, st.randoms(use_true_random=False))
def test_whatever_happens_while_capacity_is_lent(snapshot: Snapshot, random: Random) -> None:
    lent = Lending.UNTIL_WANTED
    one = a_booking("one", 3, opens_in=-60, queues=(QUEUES[0],), lent=lent)
    bookings = (one, a_booking("all", 2, opens_in=100, sku="a100", queues=QUEUES[:2], lent=lent))
    snapshots = [replace(snapshot, bookings=bookings)]
    for _ in range(ROUNDS):
        snapshots.append(a_change(snapshots[-1], random))
    check(snapshots)


def check_versions(snapshots: list[Snapshot]) -> None:
    """Who waits comes as versions, and has been told what earlier plans said: those say the same of all others."""
    memory, line, told = Memory(), Versions[Waiting](), Versions[Explanation]()
    for number, snapshot in enumerate(snapshots):
        now, here = NOON + seconds(60 * number), {workload.id: workload for workload in snapshot.waiting}
        line = line.with_({**dict.fromkeys(line), **here})
        told = told.with_({workload: None for workload in told if workload not in here})
        plain = schedule(snapshot, now)
        plan = schedule(replace(snapshot, waiting=Crowd(line), told=told), now, memory=memory)
        waits = {each.workload_id: each.explanation for each in plain.decisions if isinstance(each, Wait)}
        known = {id for id, why in waits.items() if id in told and is_same(told[id], why)}
        assert plan.decisions == tuple(each for each in plain.decisions if each.workload_id not in known)
        assert plan.as_before == len(known)
        assert replace(plan, decisions=(), as_before=0) == replace(plain, decisions=())
        told = told.with_({each.workload_id: each.explanation for each in plan.decisions if isinstance(each, Wait)})


@STABLE
@given(worlds, st.randoms(use_true_random=False))
def test_whoever_waits_comes_and_goes_and_hears_nothing_twice(snapshot: Snapshot, random: Random) -> None:
    snapshots = [snapshot]
    for _ in range(ROUNDS):
        snapshots.append(a_change(snapshots[-1], random))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(entitlement, "BLOCK", 1)
        patched.setattr(lanes, "MANY", 0)
        check_versions(snapshots)


def test_lanes_of_a_strict_queue_and_of_others_while_a_pool_lives() -> None:
    strict = a_queue("strict", 8).model_copy(update={"ordering": Ordering.STRICT_FIFO})
    work = [a_workload(f"w{n}", queue=("strict", "research")[n % 2], gpus=(8, 1, 4)[n % 3], priority=n % 2) for n in range(24)]
    first = a_snapshot([a_node("a", used=6), a_node("b", used=3)], [strict, a_queue("research", 16)], *work)
    check_versions([first, first, replace(first, nodes=(a_node("a", used=8), a_node("b", used=8))), first])


@STABLE
@given(st.lists(worlds, min_size=2, max_size=3))
def test_between_worlds_that_have_nothing_to_do_with_each_other(snapshots: list[Snapshot]) -> None:
    check(snapshots)


def check_while_it_lives() -> None:
    snapshot, memory, now = a_pool(Size(500, waiting=80)), Memory(), NOON
    for number in range(ROUNDS):
        plan = schedule(snapshot, now, memory=memory)
        assert plan == schedule(snapshot, now)
        after = carried_out(snapshot, plan, now)
        now += seconds(30)
        snapshot = a_little_later(after, now, Random(number), f"n{number}")


@pytest.mark.parametrize("large", [herd.LARGE, 0])
def test_while_a_pool_lives_on_its_own_decisions(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(herd, "LARGE", large)
    check_while_it_lives()


def test_while_the_states_of_its_nodes_are_numbered_anew_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "MOST_STATES", 0)
    check_while_it_lives()


def test_states_of_nodes_are_numbered_anew_where_there_have_been_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlook, "MOST_STATES", 2)
    nodes = [a_node(f"n{used}", used=used) for used in range(3)]
    fleet = IdleFleet.of(nodes)
    states = fleet.states(with_memory=False)
    assert [states.of(NodeRoom.of(node, node.free)) for node in (*nodes[:2], nodes[0])] == [0, 1, 0]
    assert fleet.states(with_memory=False) is states
    assert states.of(NodeRoom.of(nodes[2], nodes[2].free)) == 2
    assert len(fleet.states(with_memory=False)) == 0


def test_when_work_leaves_a_node_that_takes_few_replicas_and_frees_nothing_else() -> None:
    node, queue = a_node("a", maximum_replicas=1), a_queue("research", 8)
    before = a_snapshot([node], [queue], a_workload("small").on((node, 1)), a_workload())
    check([before, replace(before, active=())])


def test_when_a_queue_comes_to_be_beyond_a_soft_budget() -> None:
    budget = BudgetSpec(unit=BudgetUnit.ACCELERATOR_HOURS, amount=10, hard=False)
    soft = a_queue("research", 8).model_copy(update={"budgets": (budget,)})
    work = [a_workload("w", gpus=4, tier=SlaTier.PREMIUM), a_workload("other", queue="sales", gpus=4)]
    before = a_snapshot([a_node("a", used=4)], [soft, a_queue("sales", 8)], *work)
    check([before, replace(before, spent={("research", 0): 20 * ONE[BudgetUnit.ACCELERATOR_HOURS]}), before])


def test_when_a_goal_is_given_up_and_taken_up_again() -> None:
    on = Policy()
    off = on.model_copy(update={"goals": on.goals.model_copy(update={"fragmentation": 0.0})})
    fleet = [a_node("a", gpus=4, used=2), a_node("b", gpus=4, used=1)]
    pool = a_snapshot(fleet, [a_queue("research", 40)], a_workload("big", gpus=2), a_workload("w", gpus=1))
    check([replace(pool, policy=policy) for policy in (on, off, on)])


def test_when_quota_is_cut_below_what_waiting_work_could_once_have_had() -> None:
    work, full = a_workload("w", gpus=8), [a_node("a", used=8)]
    before = a_snapshot(full, [a_queue("research", 8)], work)
    check([before, replace(before, queues=(a_queue("research", 4),))])


def test_when_a_name_comes_back_with_another_wish() -> None:
    full, queue = [a_node("a", used=8)], a_queue("research", 64)
    check([a_snapshot(full, [queue], a_workload("w", gpus=gpus)) for gpus in (1, 16)])


def test_when_a_target_opens() -> None:
    targets = [Target(skus=("a100",)), Target(skus=("h100",), after_seconds=90)]
    later = a_workload("later", gpus=4, targets=targets, submitted_at=NOON)
    check([a_snapshot([a_node("a", gpus=4)], [a_queue("research", 8)], later, a_workload("w", gpus=1))] * ROUNDS)


def test_work_comes_to_be_alike_when_all_its_targets_have_opened() -> None:
    targets, memory = [Target(skus=("a100",)), Target(skus=("h100",), after_seconds=90)], Memory()
    work = [a_workload(f"w{age}", targets=targets, submitted_at=NOON - seconds(age)) for age in (0, 10)]
    pool = a_snapshot([a_node("a", used=8)], [a_queue("research", 8)], *work)
    kinds = []
    for later in (0, 200):
        facts = Facts.of(pool, NOON + seconds(later), memory)
        kinds.append(len({facts.kind(workload) for workload in pool.waiting}))
    assert kinds == [2, 1]


@pytest.mark.parametrize("waiting", [1, 10])
def test_kinds_of_who_has_gone_are_forgotten_where_few_wait(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.remembered.memory.FEW_KINDS", 8)
    kept, most, per_round = Memory(), max(8, KINDS_EACH * waiting), []
    for number in range(20):
        work = [a_workload(f"w{number}-{each}", gpus=1, priority=10 * number + each) for each in range(waiting)]
        pool, now = a_snapshot([a_node("a", used=8)], [a_queue("research", 8)], *work), NOON + seconds(number)
        assert schedule(pool, now, memory=kept) == schedule(pool, now)
        per_round.append(max(len(kept.kinds), len(kept.turn_kinds)))
    assert most - waiting < max(per_round) <= most + waiting


def test_when_nodes_come_to_be_kept_for_a_reservation() -> None:
    fleet, queues = [a_node("a"), a_node("b")], [a_queue("research", 16), a_queue("owner", 16)]
    free = a_snapshot(fleet, queues, a_workload("stays", gpus=8, preemptible=False), a_workload("own", queue="owner", gpus=8))
    asked = replace(free, bookings=(a_booking(opens_in=100, hours=0.02),))
    kept = replace(free, bookings=(replace(asked.bookings[0], nodes=("b",)),))
    check([free, asked, kept, kept, free])


def test_when_of_two_that_are_alike_only_the_shorter_still_ends_before_a_reservation() -> None:
    ends: dict[str, Any] = {"preemptible": False, "maximum_runtime_seconds": 7_000}
    opens = replace(a_booking(opens_in=7_200), nodes=("a",))
    node, waiting = a_node("a"), [a_workload("long", gpus=8, submitted_at=LONG_AGO - seconds(9), **ends)]
    waiting.append(a_workload("short", gpus=8, **(ends | {"maximum_runtime_seconds": 1_000})))
    runner = a_workload("runner", gpus=8, preemptible=False, maximum_runtime_seconds=600).on((node, 8), started_at=NOON)
    full = replace(a_snapshot([node], [a_queue("research", 16), a_queue("owner", 8)], runner, *waiting), bookings=(opens,))
    check([full, *[replace(full, active=(), nodes=(node,))] * ROUNDS])
    assert [each.workload_id for each in schedule(replace(full, active=(), nodes=(node,)), NOON + seconds(240)).starts] == [
        "short"
    ]


def test_after_a_round_that_failed_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, node = Memory(), a_node("a", gpus=8)
    runner = a_workload("runner", gpus=4).on((node, 4))
    pool = a_snapshot([node], [a_queue("research", 8)], runner, a_workload("w", gpus=4))
    less = replace(pool, active=())
    schedule_around(pool, NOON, memory=memory)
    with monkeypatch.context() as patched:
        patched.setattr(Beginning, "take", lambda *_: [].pop())
        _, fault = schedule_around(less, NOON, memory=memory)
    assert fault is not None
    assert schedule_around(pool, NOON, memory=memory) == schedule_around(pool, NOON)
