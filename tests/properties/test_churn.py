"""What holds of a pool at work over many rounds, whatever happens between them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import count, groupby, product

import pytest

from corral.api import WHOLE, Explanation, Reason, State
from corral.policy import QuotaModel
from domain.decision import Decision, Plan, Start, StartAfter, Stop, Wait
from domain.disruption import protection
from domain.pool.fleet import Amount, Health, Node, NodeShare, Room
from domain.quota.tree import QuotaTree
from domain.quota.usage import Usage
from domain.remembered.memory import Memory
from domain.round import schedule
from domain.snapshot import Snapshot
from domain.worlds.request import Request, requests
from domain.worlds.world import World
from tests.properties.churn import DEVICES, PoolAtWork
from tests.properties.situations import check_room
from tests.properties.test_round import check_gang

ROUNDS = 20
MOST_ROUNDS_UNTIL_REST = 4
KEEPS_ROOM = {Reason.BEHIND_OTHERS_IN_QUEUE, Reason.ROUND_LIMIT_REACHED}
"""Reasons that say that there is room, and for whom it is kept."""

Planner = Callable[..., Plan]
"""Decides a round, as `schedule` does."""


LIVES = [(QuotaModel.RANKED, 23), (QuotaModel.RANKED, 25), (QuotaModel.COHORTS, 0), (QuotaModel.DESERVED, 2)]


@pytest.mark.parametrize(("model", "seed"), LIVES)
def test_a_pool_at_work_keeps_what_it_promises(model: QuotaModel, seed: int) -> None:
    met = check_life(PoolAtWork.of(seed, model))
    common = ("starts", "waits", "back") if model is QuotaModel.COHORTS else ("starts", "waits", "back", "preempts", "reshapes")
    assert min(met[what] for what in common) > 0, "otherwise nothing is said about it"


def check_life(pool: PoolAtWork, decide: Planner = schedule) -> Counter[str]:
    """Let a pool work for some rounds, each of which is checked; answers with how often what was met."""
    memory, met = Memory(), Counter[str]()
    for _ in range(ROUNDS):
        pool.happen()
        met["back"] += sum(workload.epoch > 0 for workload in pool.snapshot.waiting)
        for number in count(1):
            plan = decide(pool.snapshot, pool.now, memory=memory)
            check_memory(plan, decide(pool.snapshot, pool.now))
            check_decisions(pool.snapshot, plan)
            check_victims(pool, plan)
            pool.carry_out(plan)
            check_room(pool.snapshot)
            check_caps(pool)
            check_nobody_is_lost(pool)
            met.update(starts=len(plan.starts), preempts=len(plan.preempts), reshapes=len(plan.reshapes), keeps=len(plan.keeps))
            if is_at_rest(plan):
                break
            check_rest(number)
        check_nobody_waits_in_vain(pool, plan)
        met["waits"] += len(pool.snapshot.waiting)
    return met


def check_memory(remembering: Plan, plain: Plan) -> None:
    """What a planner remembers makes it faster, and nothing else."""
    assert remembering == plain


def is_at_rest(plan: Plan) -> bool:
    """Whether a round changes nothing."""
    return (plan.starts, plan.preempts, plan.reshapes, plan.stops, plan.keeps) == ((), (), (), (), ())


def check_rest(number: int) -> None:
    """Where nothing happens, a round has nothing to decide after the one before, or after what that one made possible.

    Whoever starts may make borrowers of others, of whom the next round may take back what is owned.
    """
    assert number < MOST_ROUNDS_UNTIL_REST


def check_decisions(before: Snapshot, plan: Plan) -> None:
    """Everybody who waits has one, and whoever is given a place has a whole gang there."""
    assert sorted(each.workload_id for each in plan.decisions) == sorted(each.id for each in before.waiting)
    asked = {(workload.id, request.index): request for workload in before.waiting for request in requests(workload)}
    for decision in plan.decisions:
        if isinstance(decision, Start | StartAfter):
            check_gang(decision, asked[decision.workload_id, decision.placement.target])
    ready = {node.id for node in before.nodes if node.health is Health.READY}
    assert all(share.node_id in ready for start in plan.starts for share in start.placement.shares)


def check_victims(pool: PoolAtWork, plan: Plan) -> None:
    """Nobody is stopped who has notice already or may not be, nor twice for the same workload."""
    active = {each.attempt_id: each for each in pool.snapshot.active}
    stays = {keep.attempt_id for keep in plan.keeps}
    assert len({victim for victim, _ in plan.preempts}) == len(plan.preempts)
    for victim, beneficiary in plan.preempts:
        assert active[victim].spec.preemptible
        assert victim in stays or not active[victim].preempted
        assert active[victim].id not in pool.stopped_for[beneficiary], "it was stopped for it before"


def check_caps(pool: PoolAtWork) -> None:
    usage = usage_of(pool)
    for name, sku in product(usage.tree.paths, usage.tree.skus):
        cap = usage.tree.standings[name, sku].quota.cap
        assert cap is None or usage.use(name, sku).total <= cap


def usage_of(pool: PoolAtWork) -> Usage:
    common = pool.snapshot.policy.rank.quota_model is QuotaModel.DESERVED
    return World.of(pool.snapshot, QuotaTree.at(pool.snapshot.queues, pool.now, common=common)).usage


def check_nobody_is_lost(pool: PoolAtWork) -> None:
    """Whoever came and has not ended waits or has an attempt; one attempt, and the one in which it goes on."""
    waiting = [workload.id for workload in pool.snapshot.waiting]
    attempts = Counter(active.id for active in pool.snapshot.active)
    assert len(set(waiting)) == len(waiting)
    assert attempts.keys().isdisjoint(waiting)
    assert attempts.keys() | set(waiting) == pool.here
    staying = Counter(active.id for active in pool.snapshot.active if not active.preempted)
    assert max(staying.values(), default=1) == 1


def check_nobody_waits_in_vain(pool: PoolAtWork, plan: Plan) -> None:
    """Who still waits finds no place by counting alone, unless room is kept for somebody and it is told so."""
    usage = usage_of(pool)
    why = {each.workload_id: each.explanation.reason for each in plan.decisions if isinstance(each, Wait)}
    for workload in pool.snapshot.waiting:
        if why[workload.id] not in KEEPS_ROOM:
            assert not any(fits_by_counting(request, pool.snapshot, usage) for request in requests(workload))


def fits_by_counting(request: Request, snapshot: Snapshot, usage: Usage) -> bool:
    """Whether there are quota and free devices for the gang on nodes of one SKU, in one rack where it asks for one."""
    (shape,) = request.gang.shapes
    accepted = [node for node in snapshot.nodes if node.health is Health.READY]
    accepted = [node for node in accepted if not request.target.skus or node.sku in request.target.skus]
    level = request.gang.topology.required

    def place(node: Node) -> tuple[str, tuple[str, ...] | None]:
        return node.sku, node.domain(level) if level else None

    for (sku, _), found in groupby(sorted(accepted, key=place), key=place):
        has_quota = usage.rejection(request.spec.queue, sku, shape.minimum * shape.milli, preemptible=request.spec.preemptible)
        if has_quota is None and sum(so_many(node.free, shape.milli, shape.cpu_milli) for node in found) >= shape.minimum:
            return True
    return False


def so_many(free: Room, milli: Amount, cpu_milli: int) -> int:
    """Replicas that fit."""
    shares = milli < WHOLE
    number = sum(device // milli for device in free.devices) if shares else free.whole_devices // (milli // WHOLE)
    return min(number, free.cpu_milli // cpu_milli) if cpu_milli else number


# Mistakes that are planted are found


def idles(snapshot: Snapshot, now: datetime, *, memory: Memory | None = None) -> Plan:
    """Somebody waits though there is room."""
    plan = schedule(snapshot, now, memory=memory)
    why = Explanation(reason=Reason.NOT_ENOUGH_FREE_ACCELERATORS, message="")
    return _with_another_start(plan, lambda start: Wait(start.workload_id, why))


def breaks_gangs(snapshot: Snapshot, now: datetime, *, memory: Memory | None = None) -> Plan:
    """A replica of a gang has no place."""

    def broken(start: Start) -> Start:
        first, *others = start.placement.shares
        return _at(start, (replace(first, replicas=first.replicas[1:]), *others))

    return _with_another_start(schedule(snapshot, now, memory=memory), broken)


def gives_twice(snapshot: Snapshot, now: datetime, *, memory: Memory | None = None) -> Plan:
    """Two have the same devices."""
    has = [share for active in snapshot.active for share in active.placement.shares if share.room.milli >= WHOLE]

    def taken(start: Start) -> Start:
        first, *others = start.placement.shares
        devices = min(share.node_id for share in has), (*[WHOLE] * DEVICES,)
        return _at(start, (replace(first, node_id=devices[0], room=replace(first.room, devices=devices[1])), *others))

    return _with_another_start(schedule(snapshot, now, memory=memory), taken if has else lambda start: start)


def knows_no_caps(snapshot: Snapshot, now: datetime, *, memory: Memory | None = None) -> Plan:
    """A queue gets more than it may ever have."""
    free = [
        queue.model_copy(update={"quotas": tuple(quota.model_copy(update={"cap": None}) for quota in queue.quotas)})
        for queue in snapshot.queues
    ]
    return schedule(replace(snapshot, queues=tuple(free)), now, memory=memory)


def is_restless(snapshot: Snapshot, now: datetime, *, memory: Memory | None = None) -> Plan:
    """Something has to leave in each round, whatever has happened."""
    plan = schedule(snapshot, now, memory=memory)
    running = [active.attempt_id for active in snapshot.active if active.state is State.RUNNING and not active.preempted]
    return replace(plan, stops=(*plan.stops, *(Stop(attempt, Reason.PREEMPTED) for attempt in running[:1])))


def remembers_wrongly(snapshot: Snapshot, now: datetime, *, memory: Memory | None = None) -> Plan:
    """Whoever decides with a memory decides otherwise."""
    plan = schedule(snapshot, now, memory=memory)
    return plan if memory is None else replace(plan, over_quota=plan.over_quota | {"nobody"})


def _with_another_start(plan: Plan, instead: Callable[[Start], Decision]) -> Plan:
    """The plan where the first start is another decision."""
    first = next((decision for decision in plan.decisions if isinstance(decision, Start)), None)
    decisions = (instead(each) if isinstance(each, Start) and each is first else each for each in plan.decisions)
    return replace(plan, decisions=tuple(decisions))


def _at(start: Start, shares: tuple[NodeShare, ...]) -> Start:
    return replace(start, placement=replace(start.placement, shares=shares))


@pytest.mark.parametrize(
    ("mistaken", "found_by"),
    [
        (idles, check_nobody_waits_in_vain),
        (breaks_gangs, check_decisions),
        (gives_twice, check_decisions),
        (knows_no_caps, check_caps),
        (is_restless, check_rest),
        (remembers_wrongly, check_memory),
    ],
)
def test_a_planner_that_makes_a_mistake_is_found_out(mistaken: Planner, found_by: Callable[..., None]) -> None:
    with pytest.raises(AssertionError) as found:
        check_lives(mistaken)
    assert found_by.__name__ in {entry.name for entry in found.traceback}


def test_a_planner_that_stops_somebody_twice_for_the_same_work_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    others = tuple(rule for rule in protection.RULES if rule is not protection.was_not_stopped_for_it)
    monkeypatch.setattr(protection, "RULES", others)
    with pytest.raises(AssertionError, match="stopped for it before"):
        check_lives(schedule)


def check_lives(decide: Planner) -> None:
    for seed in (2, 1):
        check_life(PoolAtWork.of(seed, QuotaModel.RANKED), decide)
