"""The presets decide small situations as the models that they are named after say."""

from dataclasses import replace
from datetime import timedelta

import pytest

from corral.api import QueuePreemption, QueueSpec, Reclaim, SlaTier
from corral.cli.policies import read_policy
from corral.policy import Policy
from domain.round import schedule
from domain.snapshot import Snapshot
from tests.builders import NOON, a_cohort, a_node, a_queue, a_snapshot, a_workload, started

NODE = a_node("n", gpus=8)


def the_policy(preset: str) -> Policy:
    return read_policy(preset).content


def an_owner_and_a_borrower(preset: str, owner: QueueSpec) -> Snapshot:
    """All eight accelerators are used by a queue that owns none of them, and the queue that owns them wants them."""
    queues = a_cohort(owner, a_queue("guest", 0))
    guest = a_workload("guest", queue="guest", gpus=8).on((NODE, 8))
    return a_snapshot([NODE], queues, guest, a_workload("w", queue="owner", gpus=8), policy=the_policy(preset))


@pytest.mark.parametrize(
    ("preset", "is_taken_back"), [("default", True), ("kueue-like", False), ("kai-like", True), ("slurm-like", True)]
)
def test_an_owner_that_says_nothing_gets_its_own_back_but_from_kueue(preset: str, is_taken_back: bool) -> None:
    plan = schedule(an_owner_and_a_borrower(preset, a_queue("owner", 8)), NOON)

    assert bool(plan.preempts) is is_taken_back


def test_kueue_takes_back_for_an_owner_that_asks_for_it() -> None:
    asking = QueuePreemption(reclaim_within_cohort=Reclaim.ANY)
    owner = a_queue("owner", 8).model_copy(update={"preemption": asking})

    assert schedule(an_owner_and_a_borrower("kueue-like", owner), NOON).preempts == (("guest.1", "w"),)


def test_kai_gives_the_surplus_to_the_queue_of_higher_priority() -> None:
    high = a_queue("high", 0).model_copy(update={"priority": 1})
    waiting = [a_workload("l", queue="low", gpus=8), a_workload("h", queue="high", gpus=8, priority=-1)]

    plan = schedule(a_snapshot([NODE], [a_queue("low", 0), high], *waiting, policy=the_policy("kai-like")), NOON)

    assert set(started(plan)) == {"h"}


@pytest.mark.parametrize(("ran_seconds", "is_preempted"), [(59, False), (61, True)])
def test_slurm_preempts_a_lower_qos_after_its_exempt_time(ran_seconds: int, is_preempted: bool) -> None:
    low = a_workload("low", gpus=8, tier=SlaTier.BASIC).on((NODE, 8))
    low = replace(low, started_at=NOON - timedelta(seconds=ran_seconds))
    high = a_workload("w", gpus=8, tier=SlaTier.PREMIUM)

    plan = schedule(a_snapshot([NODE], [a_queue("research", 8)], low, high, policy=the_policy("slurm-like")), NOON)

    assert bool(plan.preempts) is is_preempted


@pytest.mark.parametrize(("hours", "is_preempted"), [(23, False), (24, True)])
@pytest.mark.parametrize("tier", list(SlaTier))
def test_under_tiresias_who_has_run_for_a_day_gives_way_to_the_same_tier(tier: SlaTier, hours: int, is_preempted: bool) -> None:
    long = a_workload("long", gpus=8, tier=tier).on((NODE, 8), started_at=NOON - timedelta(hours=hours))
    new = a_workload("w", gpus=8, tier=tier)

    plan = schedule(a_snapshot([NODE], [a_queue("research", 8)], long, new, policy=the_policy("tiresias-like")), NOON)

    assert bool(plan.preempts) is is_preempted


@pytest.mark.parametrize(("preset", "node"), [("default", "cheap"), ("slurm-like", "tight")])
def test_slurm_fills_nodes_where_corral_looks_for_the_price(preset: str, node: str) -> None:
    cheap = a_node("cheap", gpus=8, region="east", price=1_000_000)
    tight = a_node("tight", gpus=8, used=6, region="west", price=2_000_000)

    plan = schedule(a_snapshot([cheap, tight], [a_queue("research", 8)], a_workload(gpus=2), policy=the_policy(preset)), NOON)

    assert [share.node_id for share in started(plan)["w"].shares] == [node]
