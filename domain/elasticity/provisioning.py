"""Provisioning: which nodes to order for work that waits, the cheapest first, and which to give back."""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

from corral.api import WHOLE, State, WorkloadTerms
from corral.policy import Growth
from domain.advice.fixes import decided_fast
from domain.advice.whatif import without
from domain.decision import Change, Reshape, Start
from domain.pool.fleet import Health, Node, Placement, taken
from domain.pool.nodepools import MILLION, Course, NodePool, affordable, followed, hourly_cost
from domain.pool.standing import standing
from domain.pool.workload import Waiting, next_attempt
from domain.quota_models.turns import Turns
from domain.remembered.attained import counted
from domain.round import turns_alone
from domain.snapshot import Snapshot

NAMED = 3
"""So many of the workloads for whose sake nodes are ordered are named."""


@dataclass(frozen=True, slots=True)
class Order:
    """So many nodes of a pool are to be asked for."""

    pool: NodePool
    nodes: int
    why: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """A node that nobody uses is to leave."""

    node_id: str
    why: str


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """What becomes of one node pool: nodes that are needed now, how long that has been so, and by whom."""

    needed: int
    course: Course
    why: str = ""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What becomes of the fleet: each pool by its id, what to order, and what to give back."""

    pools: Mapping[str, PoolPlan]
    orders: tuple[Order, ...] = ()
    returns: tuple[GiveBack, ...] = ()


@dataclass(frozen=True, slots=True)
class Means:
    """What may still be provisioned: millionths of a dollar an hour, and nodes."""

    money: int
    nodes: int

    @classmethod
    def left(cls, nodes: Iterable[Node], rules: Growth) -> "Means":
        """What those that are there or on their way leave of the limits; of those that are lost, others take the place."""
        has = [node for node in nodes if node.node_pool is not None and node.health not in {Health.POSSIBLE, Health.LOST}]
        return cls(
            round(rules.dollars_per_hour * MILLION) - sum(map(hourly_cost, has)),
            rules.maximum_nodes - len(has),
        )

    def for_nodes_of(self, pool: NodePool, most: int) -> int:
        """How many nodes of the pool they are enough for, and no more than that many."""
        return max(0, affordable(self.money, pool.hourly_cost, min(most, self.nodes)))

    def less(self, pool: NodePool, nodes: int) -> "Means":
        """What is left when so many have been ordered."""
        return Means(self.money - nodes * pool.hourly_cost, self.nodes - nodes)


def fleet_plan(snapshot: Snapshot, courses: Mapping[str, Course], closed: Collection[str], now: datetime) -> FleetPlan:
    """What to order and what to give back, where pools have come to these courses; from `closed` pools nothing is ordered.

    Work is what decides: nodes are needed that have work in a pool in which everybody has had a turn who waits, first on
    what is there and coming, and then on what could be ordered besides. Quota, policy and rank hold there as in any round,
    so that no node is ordered for work that could not use it.
    """
    rules = snapshot.policy.growth
    settled = _settled(snapshot, closed, now)
    users = _users(settled)
    pools = {}
    for pool in sorted(snapshot.node_pools, key=lambda pool: pool.id):
        needed = [node.id for node in settled.nodes if node.node_pool == pool.id and node.id in users]
        present = len(_there(snapshot, pool)) + len(_coming(snapshot, pool))
        course = followed(courses.get(pool.id) or Course(present), len(needed), now, rules)
        pools[pool.id] = PoolPlan(len(needed), course, _for_whom(user for id in needed for user in users[id]))
    orders = tuple(_orders(snapshot, pools, closed))
    returns = tuple(chosen for pool in snapshot.node_pools for chosen in _returns(snapshot, pool, pools[pool.id], users.keys()))
    return FleetPlan(pools, orders, returns)


def desired(pool: NodePool, course: Course, rules: Growth) -> int:
    """The nodes that there shall be: those wanted, within the limits of the pool."""
    return min(max(course.wanted, rules.within(pool.id).minimum), pool.most(rules))


def _there(snapshot: Snapshot, pool: NodePool) -> list[Node]:
    """Nodes of the pool that work could use, or could again."""
    return [node for node in snapshot.nodes if node.node_pool == pool.id and node.health in {Health.READY, Health.SUSPECT}]


def _coming(snapshot: Snapshot, pool: NodePool) -> list[Node]:
    return [node for node in snapshot.nodes if node.node_pool == pool.id and node.health is Health.COMING]


def _orders(snapshot: Snapshot, pools: Mapping[str, PoolPlan], closed: Collection[str]) -> Iterator[Order]:
    """What is missing, the cheapest first. A node that is not ready counts as missing: its work needs another one."""
    rules, means = snapshot.policy.growth, Means.left(snapshot.nodes, snapshot.policy.growth)
    for pool in sorted(snapshot.node_pools, key=lambda pool: (pool.hourly_cost, pool.id)):
        plan = pools[pool.id]
        ready = sum(node.health is Health.READY for node in _there(snapshot, pool))
        possible = sum(node.node_pool == pool.id and node.health is Health.POSSIBLE for node in snapshot.nodes)
        missing = desired(pool, plan.course, rules) - ready - len(_coming(snapshot, pool))
        nodes = means.for_nodes_of(pool, min(missing, possible))
        if nodes > 0 and pool.id not in closed:
            means = means.less(pool, nodes)
            yield Order(pool, nodes, plan.why or f"there are at least {rules.within(pool.id).minimum} of them")


def _returns(snapshot: Snapshot, pool: NodePool, plan: PoolPlan, used: Collection[str]) -> list[GiveBack]:
    """Nodes beyond those desired that nobody uses and nothing is kept on, those first that are not ready, then dear ones."""
    there = _there(snapshot, pool)
    surplus = len(there) - desired(pool, plan.course, snapshot.policy.growth)
    kept = {node_id for booking in snapshot.bookings for node_id in booking.nodes}
    idle = [node for node in there if node.id not in used and node.id not in kept]
    idle.sort(key=lambda node: (node.health is Health.READY, -hourly_cost(node), node.id))
    why = f"{plan.course.wanted} nodes of {pool.id} are wanted, and nobody uses it"
    return [GiveBack(node.id, why) for node in idle[: max(0, surplus)]]


def _is_idle(node: Node) -> bool:
    """Nothing on the node is in use or promised."""
    return replace(node.free, replicas=node.total.replicas) == node.total


def _for_whom(users: Iterable[str]) -> str:
    names = sorted(set(users))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"for {', '.join(names[:NAMED])}{more}" if names else ""


# The pool in which everybody has had a turn


def _settled(snapshot: Snapshot, closed: Collection[str], now: datetime) -> Snapshot:
    """The pool once all have had their turns: on what is there and coming, and then on more, as far as the means allow.

    More is taken pool by pool. First comes what serves the highest of those who wait, and among that, what costs least for
    each accelerator that gets work.
    """
    snapshot, means = counted(decided_fast(snapshot), now), Means.left(snapshot.nodes, snapshot.policy.growth)
    here = replace(snapshot, nodes=tuple(map(_arrived, snapshot.nodes)))
    if not (here.waiting or _hungry(here)):
        return here
    settled = _after(here, turns_alone(here, now), now)
    pools = [pool for pool in snapshot.node_pools if pool.id not in closed]
    while pools and (settled.waiting or _hungry(settled)):
        offers = [offer for pool in pools if (offer := _offer(pool, settled, means, now)) is not None]
        if not offers:
            break
        best = min(offers, key=lambda offer: offer.rank)
        settled, means = best.settled, means.less(best.pool, best.nodes)
        pools = [offer.pool for offer in offers if offer is not best]
    return settled


def _arrived(node: Node) -> Node:
    return replace(node, health=Health.READY) if node.health is Health.COMING else node


def _hungry(snapshot: Snapshot) -> bool:
    """Whether an endpoint wants more replicas than it has."""
    return _missing(snapshot) > 0


@dataclass(frozen=True, slots=True)
class _Offer:
    """What becomes of those who wait with so many nodes of one pool besides: who gets work, and how much of it."""

    pool: NodePool
    nodes: int
    settled: Snapshot
    highest: tuple[int, int]
    """The highest standing among those who are served."""
    work: int

    @property
    def rank(self) -> tuple[int, int, float, str]:
        """Whom it serves, what it costs for each accelerator that gets work, and its name: the least is the best."""
        tier, priority = self.highest
        return -tier, -priority, self.pool.hourly_cost * self.nodes * WHOLE / self.work, self.pool.id


def _offer(pool: NodePool, settled: Snapshot, means: Means, now: datetime) -> _Offer | None:
    """What the pool could do for those who wait with as few nodes as do it, or none where that is nothing."""
    possible = [node.id for node in settled.nodes if node.node_pool == pool.id and node.health is Health.POSSIBLE]
    most = min(len(possible), sum(map(_most_replicas, settled.waiting)) + _missing(settled))

    @cache
    def offer_of(nodes: int) -> _Offer | None:
        return _with_nodes(frozenset(possible[:nodes]), pool, settled, now)

    best = offer_of(means.for_nodes_of(pool, most))
    if best is None or best.nodes == 1:
        return best
    fewer = bisect_left(range(1, best.nodes), True, key=lambda nodes: _served(offer_of(nodes)) >= best.work) + 1
    return offer_of(fewer) if fewer < best.nodes else best


def _served(offer: _Offer | None) -> int:
    return offer.work if offer else 0


def _with_nodes(fresh: frozenset[str], pool: NodePool, settled: Snapshot, now: datetime) -> _Offer | None:
    """What becomes of those who wait with these nodes, or none where they serve nobody."""
    if not fresh:
        return None
    turns = turns_alone(_with(fresh, settled), now)
    served = [start for start in turns.moved if isinstance(start, Start) and _uses(start.placement, fresh)]
    grown = [reshape for reshape in _growth(turns, settled) if _uses(reshape.placement, fresh)]
    placements = [*(start.placement for start in served), *(reshape.placement for reshape in grown)]
    bought = {share.node_id for placement in placements for share in placement.shares} & fresh
    if not bought:
        return None
    work = sum(_work(start.placement) for start in turns.moved if isinstance(start, Start))
    work += sum(_work(each.placement) for each in _growth(turns, settled)) - _work_before(_growth(turns, settled), settled)
    highest = max(standing(spec.tier, spec.priority) for spec in _specs(served, grown, settled))
    return _Offer(pool, len(bought), _after(_with(bought, settled), turns, now), highest, work)


def _missing(snapshot: Snapshot) -> int:
    """Replicas that endpoints want beyond those that they have."""
    endpoints = (active for active in snapshot.active if active.spec.autoscale is not None)
    return sum(max(0, sum(group.count for group in each.spec.groups) - each.placement.replicas) for each in endpoints)


def _most_replicas(waiting: Waiting) -> int:
    """The most replicas that it would get under any of its targets: on no more nodes than that."""
    counts = {None, *(target.count for target in waiting.spec.targets)}
    return max(sum(group.count for group in waiting.groups(count)) for count in counts)


def _with(ids: Collection[str], snapshot: Snapshot) -> Snapshot:
    """The pool once these nodes are there."""
    nodes = (replace(node, health=Health.READY) if node.id in ids else node for node in snapshot.nodes)
    return replace(snapshot, nodes=tuple(nodes))


def _uses(placement: Placement, nodes: Collection[str]) -> bool:
    return any(share.node_id in nodes for share in placement.shares)


def _growth(turns: Turns, snapshot: Snapshot) -> list[Reshape]:
    """Endpoints that grow. Whatever else would grow does so into what is idle, and nothing is ordered for it."""
    endpoints = {active.attempt_id for active in snapshot.active if active.spec.autoscale is not None}
    return [each for each in turns.reshapes if each.change is Change.GROW and each.attempt_id in endpoints]


def _specs(starts: Iterable[Start], grown: Iterable[Reshape], snapshot: Snapshot) -> Iterator[WorkloadTerms]:
    waiting = {each.id: each.spec for each in snapshot.waiting}
    active = {each.attempt_id: each.spec for each in snapshot.active}
    yield from (waiting[start.workload_id] for start in starts)
    yield from (active[reshape.attempt_id] for reshape in grown)


def _work(placement: Placement) -> int:
    """Thousandths of an accelerator, and one more for each replica, so that one without any counts as well."""
    return placement.milli + placement.replicas


def _work_before(grown: Iterable[Reshape], snapshot: Snapshot) -> int:
    ids = {reshape.attempt_id for reshape in grown}
    return sum(_work(active.placement) for active in snapshot.active if active.attempt_id in ids)


def _after(snapshot: Snapshot, turns: Turns, now: datetime) -> Snapshot:
    """The pool once all who can start at once have started and endpoints have grown; the others wait.

    Those for whom others leave wait no longer: they have what they need, and nothing is ordered for them.
    """
    growing = {reshape.attempt_id: reshape.placement for reshape in _growth(turns, snapshot)}
    grown = [replace(each, placement=growing[each.attempt_id]) for each in snapshot.active if each.attempt_id in growing]
    left = without(snapshot, [each for each in snapshot.active if each.attempt_id in growing])
    line = {each.id: each for each in snapshot.waiting}
    prices = {node.id: node.price for node in snapshot.nodes}
    starts = [each for each in turns.moved if isinstance(each, Start)]
    started = [next_attempt(line[each.workload_id], State.STARTING, each.placement, prices, now) for each in starts]
    return replace(
        left,
        nodes=taken(left.nodes, [each.placement for each in (*grown, *started)]),
        active=(*left.active, *grown, *started),
        waiting=tuple(turns.waiting),
    )


def _users(snapshot: Snapshot) -> dict[str, list[str]]:
    """The workloads with room on each node that is used or promised, by node id."""
    users: dict[str, list[str]] = {node.id: [] for node in snapshot.nodes if not _is_idle(node)}
    for active in snapshot.active:
        for share in active.placement.shares:
            users.setdefault(share.node_id, []).append(active.id)
    return users
