"""Who is stopped for whom."""

from dataclasses import replace
from typing import Any

import pytest

from corral.api import Reason, SlaTier, State
from corral.policy import Policy, Rank
from domain.decision import Plan, StartAfter
from domain.pool.fleet import Node
from domain.pool.workload import Active
from domain.round import schedule
from tests.builders import (
    LONG_AGO,
    NOON,
    UNPROMISED,
    AWorkload,
    a_cohort,
    a_node,
    a_queue,
    a_snapshot,
    a_workload,
    nodes,
    nodes_of,
    seconds,
    started,
    why,
)

COHORT = a_cohort(a_queue("owner", 8), a_queue("guest", 0))
OWN = [a_queue("research", 100)]
NODE = a_node("a")


def plan(fleet: list[Node], *workloads: AWorkload | Active, queues: Any = OWN, policy: Policy | None = None) -> Plan:
    return schedule(a_snapshot(fleet, queues, *workloads, policy=policy), NOON)


def promise(plan: Plan, workload_id: str = "w") -> StartAfter:
    return next(
        decision for decision in plan.decisions if isinstance(decision, StartAfter) and decision.workload_id == workload_id
    )


def runner(id: str, number: int = 8, node: Node = NODE, started_at: Any = LONG_AGO, **fields: Any) -> Active:
    return a_workload(id, gpus=number, **fields).on((node, number), started_at=started_at)


def eight(fields: dict[str, Any] | None = None, **by_id: dict[str, Any]) -> list[Active]:
    """One runner of one device for each id, side by side on one node, and a last one that may not be stopped."""
    node, actives = NODE, []
    for id, own in by_id.items():
        state = {key: own.pop(key) for key in ("started_at", "checkpoint_at", "state", "preemptions") if key in own}
        active = a_workload(id, gpus=1, **{**(fields or {}), **own}).on((node, 1), **state)
        actives.append(active)
        node = replace(node, free=node.free - active.placement.shares[0].room)
    left = node.free.whole_devices
    if left:
        actives.append(a_workload("rest", gpus=left, preemptible=False, **(fields or {})).on((node, left)))
    return actives


# Reclaim: borrowers go before an owner waits


def test_a_borrower_is_reclaimed_before_an_owner_waits() -> None:
    guest, owner = runner("guest", queue="guest"), a_workload("owner", queue="owner", gpus=8)
    assert plan([NODE], guest, owner, queues=COHORT).preempts == (("guest.1", "owner"),)


def test_a_borrower_of_a_higher_tier_is_reclaimed_too() -> None:
    guest = runner("guest", queue="guest", tier=SlaTier.PREMIUM)
    assert plan([NODE], guest, a_workload("owner", queue="owner", tier=SlaTier.BASIC), queues=COHORT).preempts


def test_who_would_borrow_reclaims_from_nobody() -> None:
    cohort = a_cohort(a_queue("owner", 4), a_queue("guest", 0), a_queue("idle", 4))
    guest, greedy = runner("guest", queue="guest"), a_workload(queue="owner", gpus=8)
    assert plan([NODE], guest, greedy, queues=cohort).preempts == ()


@pytest.mark.parametrize(("tier", "leave"), [(SlaTier.BASIC, {"filler.1", "guest.1"}), (SlaTier.PREMIUM, set())])
def test_lower_work_of_the_own_queue_leaves_first_where_the_queue_then_lives_on_its_own(tier: SlaTier, leave: set[str]) -> None:
    filler = runner("filler", 4, a_node("filler", gpus=4), queue="owner", tier=tier)
    guest, owner = runner("guest", 4, a_node("guest", gpus=4), queue="guest"), a_workload(queue="owner", gpus=8)
    fleet = [a_node("filler", gpus=4), a_node("guest", gpus=4), a_node("idle")]
    cohort = a_cohort(a_queue("owner", 8), a_queue("guest", 0))
    assert {victim for victim, _ in plan(fleet, filler, guest, owner, queues=cohort, policy=UNPROMISED).preempts} == leave


def test_a_queue_within_its_nominal_is_not_touched() -> None:
    cohort = a_cohort(a_queue("owner", 8), a_queue("other", 8))
    other = runner("other", queue="other", tier=SlaTier.BASIC)
    assert plan([NODE], other, a_workload(queue="owner", tier=SlaTier.PREMIUM), queues=cohort).preempts == ()


def test_a_queue_of_another_tree_is_not_touched() -> None:
    guest = runner("guest", queue="guest")
    queues = [a_queue("owner", 8), a_queue("guest", 0)]
    assert plan([NODE], guest, a_workload(queue="owner"), queues=queues).preempts == ()


def test_reclaim_ends_where_the_queue_no_longer_borrows() -> None:
    cohort = a_cohort(a_queue("owner", 5), a_queue("guest", 3))
    guests: list[Active] = []
    node = NODE
    for index in range(8):
        guest = a_workload(f"g{index}", queue="guest").on((node, 1))
        node = replace(node, free=node.free - guest.placement.shares[0].room)
        guests.append(guest)
    assert len(plan([NODE], *guests, a_workload(queue="owner", gpus=5), queues=cohort).preempts) == 5
    cohort = a_cohort(a_queue("owner", 6), a_queue("guest", 3))
    assert plan([NODE], *guests, a_workload(queue="owner", gpus=6), queues=cohort).preempts == ()


# The own queue: strictly lower rank only


@pytest.mark.parametrize(
    ("lower", "is_stopped"),
    [
        ({"priority": 4}, True),
        ({"priority": 5}, False),
        ({"priority": 6}, False),
        ({"tier": SlaTier.BASIC, "priority": 9}, True),
        ({"tier": SlaTier.PREMIUM, "priority": 0}, False),
    ],
)
def test_only_strictly_lower_work_of_the_own_queue_is_stopped(lower: dict[str, Any], is_stopped: bool) -> None:
    outcome = plan([NODE], runner("r", **lower), a_workload(gpus=8, priority=5), policy=UNPROMISED)
    assert bool(outcome.preempts) is is_stopped


def test_lower_work_is_stopped_for_quota_as_well_as_for_room() -> None:
    low = runner("low", tier=SlaTier.BASIC)
    assert plan([NODE, a_node("free")], low, a_workload(gpus=8), queues=[a_queue("research", 8)]).preempts == (("low.1", "w"),)


# Who is never a victim


@pytest.mark.parametrize(
    "kept",
    [
        {"preemptible": False},
        {"state": State.RESERVED},
        {"state": State.STOPPING},
        {"preemptions": 5},
        {"started_at": NOON - seconds(299)},
    ],
)
def test_protected_work_is_not_stopped(kept: dict[str, Any]) -> None:
    state = {key: value for key, value in kept.items() if key != "preemptible"}
    spec = {key: value for key, value in kept.items() if key == "preemptible"}
    low = a_workload("low", gpus=8, tier=SlaTier.BASIC, **spec).on((NODE, 8), **state)
    assert plan([NODE], low, a_workload(gpus=8)).preempts == ()


def test_minimum_runtime_is_the_longer_of_the_tier_s_and_the_queue_s() -> None:
    queues = [a_queue("research", 100, minimum_runtime_seconds=3600)]
    young, old = NOON - seconds(3599), NOON - seconds(3600)
    assert not plan([NODE], runner("r", tier=SlaTier.BASIC, started_at=young), a_workload(gpus=8), queues=queues).preempts
    assert plan([NODE], runner("r", tier=SlaTier.BASIC, started_at=old), a_workload(gpus=8), queues=queues).preempts


def test_work_that_has_not_started_is_not_protected() -> None:
    low = a_workload("low", gpus=8, tier=SlaTier.BASIC).on((NODE, 8), started_at=None, state=State.STARTING)
    assert plan([NODE], low, a_workload(gpus=8)).preempts


def test_nobody_is_stopped_where_policy_forbids_it() -> None:
    low = runner("low", tier=SlaTier.BASIC)
    explanation = why(plan([NODE], low, a_workload(gpus=8), policy=Policy(rank=Rank(preemption=False))))
    assert explanation.reason is Reason.NOT_ENOUGH_FREE_ACCELERATORS
    assert explanation.message == "needs 8 whole h100 on one node; the most free in one is 0 (aws eu-west)"


# Order: the least hardship first


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"tier": SlaTier.BASIC, "priority": 3}, {"priority": -3}),
        ({"priority": -1}, {"priority": 0}),
        ({"started_at": NOON - seconds(9000), "checkpoint_at": NOON - seconds(10)}, {"started_at": NOON - seconds(1000)}),
        ({"started_at": NOON - seconds(1000)}, {"started_at": NOON - seconds(2000)}),
        ({"started_at": None, "state": State.STARTING}, {"started_at": NOON - seconds(1000)}),
    ],
)
def test_who_loses_least_goes_first(first: dict[str, Any], second: dict[str, Any]) -> None:
    outcome = plan([NODE], *eight(z=dict(first), a=dict(second)), a_workload(priority=9), policy=UNPROMISED)
    assert [victim for victim, _ in outcome.preempts] == ["z.1"]


def test_borrowers_go_before_the_own_queue() -> None:
    guest = runner("z-guest", 4, queue="guest", priority=9)
    half = replace(NODE, free=NODE.free - guest.placement.shares[0].room)
    mine = runner("a-mine", 4, half, queue="owner")
    assert plan([NODE], guest, mine, a_workload(queue="owner", gpus=4, priority=5), queues=COHORT).preempts == (
        ("z-guest.1", "w"),
    )


# One plan: no useless victims, and the room is promised


def test_no_victim_could_be_left_out() -> None:
    fleet = [a_node("small", gpus=2), a_node("large", gpus=8)]
    small, large = runner("a", 2, fleet[0], tier=SlaTier.BASIC), runner("b", 8, fleet[1], tier=SlaTier.BASIC, priority=1)
    assert plan(fleet, small, large, a_workload(gpus=8)).preempts == (("b.1", "w"),)


def test_nobody_is_stopped_when_that_would_not_make_it_start() -> None:
    fleet = nodes(2)
    low, fixed = runner("low", 8, fleet[0], tier=SlaTier.BASIC), runner("fixed", 8, fleet[1], tier=SlaTier.PREMIUM)
    assert plan(fleet, low, fixed, a_workload(gpus=8, count=2)).preempts == ()


def test_the_promise_uses_free_room_and_the_victims_room() -> None:
    fleet = nodes(2)
    decision = promise(plan(fleet, runner("low", 8, fleet[0], tier=SlaTier.BASIC), a_workload(gpus=8, count=2)))
    assert (nodes_of(decision.placement), decision.victims) == ({"n0": 1, "n1": 1}, ("low.1",))


def test_promised_room_is_not_given_to_anybody_else() -> None:
    fleet = nodes(2)
    low = runner("low", 8, fleet[0], tier=SlaTier.BASIC)
    small = a_workload("small", tier=SlaTier.BASIC)
    assert "small" not in started(plan(fleet, low, a_workload(gpus=8, count=2), small))


def test_a_beneficiary_gets_its_minimum_and_no_more() -> None:
    decision = promise(plan([NODE], runner("low", tier=SlaTier.BASIC), a_workload(gpus=1, count=8, minimum=2)))
    assert decision.placement.replicas == 2


@pytest.mark.parametrize("left_of_it", [[], [a_node("shrunk", gpus=2, used=2)]], ids=["vanished", "resized"])
def test_elastic_work_with_a_replica_on_a_node_that_is_not_what_it_was_makes_room_where_it_can(left_of_it: list[Node]) -> None:
    shrunk, node = a_node("shrunk", gpus=4), a_node("a", gpus=4)
    elastic = a_workload("elastic", count=5, minimum=1, tier=SlaTier.BASIC).on((shrunk, 1), (node, 4))
    lost, kept = elastic.placement.shares
    kept = replace(kept, replicas=tuple(replace(each, index=1 + each.index) for each in kept.replicas))
    elastic = replace(elastic, placement=replace(elastic.placement, shares=(lost, kept)))
    pool = a_snapshot([node], OWN, elastic, a_workload("w", gpus=2, tier=SlaTier.PREMIUM))
    plan = schedule(replace(pool, nodes=(*pool.nodes, *left_of_it)), NOON)
    (reshape,) = plan.reshapes
    assert [share.node_id for share in reshape.placement.shares] == ["shrunk", "a"]
    assert sum(len(share.replicas) for share in reshape.placement.shares) == 3


def test_a_victim_is_taken_once() -> None:
    contenders = [a_workload("one", gpus=8), a_workload("two", gpus=8)]
    assert len(plan([NODE], runner("low", tier=SlaTier.BASIC), *contenders).preempts) == 1


def test_nobody_is_stopped_while_enough_is_being_freed() -> None:
    fleet = nodes(2)
    leaving = runner("leaving", 8, fleet[0], tier=SlaTier.BASIC).stopping()
    running = runner("running", 8, fleet[1], tier=SlaTier.BASIC)
    outcome = plan(fleet, leaving, running, a_workload(gpus=8))
    assert (outcome.preempts, why(outcome).reason) == ((), Reason.WAITING_FOR_VICTIMS)


def test_what_is_being_freed_spares_further_victims() -> None:
    leaving = runner("leaving", 4, tier=SlaTier.BASIC)
    half = replace(NODE, free=NODE.free - leaving.placement.shares[0].room)
    low = runner("low", 2, half, tier=SlaTier.BASIC, priority=5)
    quarter = replace(half, free=half.free - low.placement.shares[0].room)
    lowest = runner("lowest", 2, quarter, tier=SlaTier.BASIC)
    assert plan([NODE], leaving.stopping(), low, lowest, a_workload(gpus=6)).preempts == (("lowest.1", "w"),)


def test_what_is_being_freed_for_somebody_else_is_not_waited_for() -> None:
    fleet = nodes(2)
    leaving = runner("leaving", 8, fleet[0], tier=SlaTier.BASIC).stopping()
    promised = a_workload("first", gpus=8).on((fleet[0], 8), state=State.RESERVING, started_at=None)
    running = runner("running", 8, fleet[1], tier=SlaTier.BASIC)
    snapshot = a_snapshot(fleet, OWN, leaving, running, a_workload(gpus=8))
    snapshot = replace(snapshot, active=(*snapshot.active, promised))
    assert schedule(snapshot, NOON).preempts == (("running.1", "w"),)


def test_two_beneficiaries_share_what_one_victim_leaves() -> None:
    outcome = plan([NODE], runner("low", tier=SlaTier.BASIC), a_workload("one", gpus=4), a_workload("two", gpus=4))
    assert outcome.preempts == (("low.1", "one"),)
    assert why(outcome, "two").reason is Reason.WAITING_FOR_VICTIMS


# Caps hold while victims leave


@pytest.mark.parametrize(("cap", "starts"), [(8, False), (12, False), (16, True)])
def test_what_work_with_notice_still_has_counts_for_the_cap_of_its_queue(cap: int, starts: bool) -> None:
    fleet, queue = [a_node("a", gpus=8), a_node("b", gpus=8)], a_queue("research", 8, cap=cap)
    victim = a_workload("victim", gpus=8, tier=SlaTier.BASIC, preemptible=True).on((fleet[0], 8))
    urgent, other = a_workload("urgent", gpus=4, tier=SlaTier.PREMIUM), a_workload("other", gpus=4)
    plan = schedule(a_snapshot(fleet, [queue], victim, urgent, other), NOON)
    assert {decision.workload_id for decision in plan.decisions if isinstance(decision, StartAfter)} == {"urgent"}
    assert ("other" in started(plan)) is starts
    leaving = a_snapshot(fleet, [queue], victim.stopping(), other)
    assert ("other" in started(schedule(leaving, NOON))) is (cap >= 12)


@pytest.mark.parametrize(("cap", "starts"), [(10, False), (17, False), (18, True)])
def test_who_needs_more_quota_than_its_own_victims_leave_waits_until_others_have_left(cap: int, starts: bool) -> None:
    large, small = a_node("a", gpus=8), a_node("b", gpus=4)
    queue = a_queue("research", cap, cap=cap)
    victim, other = runner("victim", 8, large, tier=SlaTier.BASIC), runner("other", 2, small, tier=SlaTier.BASIC)
    first, second = a_workload("first", gpus=6, tier=SlaTier.PREMIUM), a_workload("second", gpus=4)
    outcome = schedule(a_snapshot([large, small], [queue], victim, other, first, second), NOON)
    assert outcome.preempts == (("victim.1", "first"), ("other.1", "second"))[: 1 + starts]
    if not starts:
        assert why(outcome, "second").reason is Reason.QUEUE_CAP_REACHED
    gone = schedule(a_snapshot([large, small], [queue], first.on((large, 6)), other, second), NOON)
    assert promise(gone, "second")


def test_who_takes_no_more_quota_than_its_own_victims_leave_waits_for_nobody_else() -> None:
    fleet, queue = [a_node("a", gpus=8), a_node("b", gpus=8)], a_queue("research", 16, cap=16)
    victims = [runner(f"low-{node.id}", 8, node, tier=SlaTier.BASIC) for node in fleet]
    urgent = [a_workload(id, gpus=8, tier=SlaTier.PREMIUM) for id in ("one", "two")]
    outcome = schedule(a_snapshot(fleet, [queue], *victims, *urgent), NOON)
    assert len(outcome.preempts) == 2
