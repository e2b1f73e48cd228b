"""Node pools: like nodes that a provider can add, those that are on their way, and how many are wanted for how long."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from corral.policy import Growth
from domain.pool.fleet import Health, Node

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class NodePool:
    """Like nodes of which a provider can add some: `node` is one as it would be, and has the pool's id for its own.

    The provider has at most `limit` of them at once, and needs about `lead_seconds` to add some.
    """

    node: Node
    limit: int
    lead_seconds: int = 0

    @property
    def id(self) -> str:
        """`provider/name`."""
        return self.node.id

    @property
    def hourly_cost(self) -> int:
        """What one node costs, in millionths of a dollar an hour."""
        return hourly_cost(self.node)

    def most(self, rules: Growth) -> int:
        """The most nodes of it that there may ever be at once."""
        maximum = rules.within(self.id).maximum
        return min(
            self.limit,
            rules.maximum_nodes,
            self.limit if maximum is None else maximum,
            affordable(round(rules.dollars_per_hour * MILLION), self.hourly_cost, self.limit),
        )

    def __str__(self) -> str:
        return f"{self.id} ({len(self.node.total.devices)} {self.node.sku} in {self.node.region})"


def hourly_cost(node: Node) -> int:
    """What the node costs, in millionths of a dollar an hour."""
    return node.price * len(node.total.devices)


def affordable(money: int, cost: int, most: int) -> int:
    """How many things of that cost the money buys, but no more than that many. Without any money nothing is bought."""
    if money <= 0:
        return 0
    return min(most, money // cost) if cost else most


@dataclass(frozen=True, slots=True)
class Provisioning:
    """An order for nodes that is under way: so many are still to come."""

    id: str
    pool: NodePool
    nodes: int
    since: datetime

    @property
    def in_words(self) -> str:
        """How many of what, and since when."""
        return f"{self.nodes} of {self.pool}, since {self.since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def planned(
    pools: Iterable[NodePool], arrivals: Sequence[Provisioning], there: Mapping[str, int], rules: Growth
) -> Iterator[Node]:
    """Nodes that are not there: those that are coming, and whatever could be ordered besides; `there` is by pool."""
    for arrival in arrivals:
        for number in range(arrival.nodes):
            yield _imagined(arrival.pool, f"{arrival.id}#{number}", Health.COMING)
    coming = Counter[str]()
    for arrival in arrivals:
        coming[arrival.pool.id] += arrival.nodes
    for pool in pools:
        for number in range(pool.most(rules) - there.get(pool.id, 0) - coming[pool.id]):
            yield _imagined(pool, f"{pool.id}#{number}", Health.POSSIBLE)


def still_planned(nodes: Iterable[Node], pools: Iterable[NodePool], rules: Growth) -> tuple[Node, ...]:
    """The nodes without those that could be ordered so far, and could not be under these rules."""
    most, number, kept = {pool.id: pool.most(rules) for pool in pools}, Counter[str](), list[Node]()
    for node in sorted(nodes, key=lambda node: (node.health is Health.POSSIBLE, node.id)):
        if node.node_pool is not None:
            if node.health is Health.POSSIBLE and number[node.node_pool] >= most.get(node.node_pool, 0):
                continue
            number[node.node_pool] += 1
        kept.append(node)
    return tuple(kept)


def _imagined(pool: NodePool, id: str, health: Health) -> Node:
    return replace(pool.node, id=id, health=health, node_pool=pool.id)


class Spell(NamedTuple):
    """More nodes than are wanted have been needed since then, this many all the time; or fewer, and never more than this."""

    since: datetime
    nodes: int


@dataclass(frozen=True, slots=True)
class Course:
    """How many nodes of a pool are wanted, and for how long more or fewer have been needed."""

    wanted: int
    more: Spell | None = None
    fewer: Spell | None = None


def followed(course: Course, needed: int, now: datetime, rules: Growth) -> Course:
    """The course once so many are needed: a number is wanted when it was needed all through the window of its direction."""
    if needed == course.wanted:
        return Course(course.wanted)
    if needed > course.wanted:
        more = Spell(course.more.since, min(course.more.nodes, needed)) if course.more else Spell(now, needed)
        is_over = now - more.since >= timedelta(seconds=rules.up_window_seconds)
        return Course(more.nodes) if is_over else Course(course.wanted, more=more)
    fewer = Spell(course.fewer.since, max(course.fewer.nodes, needed)) if course.fewer else Spell(now, needed)
    is_over = now - fewer.since >= timedelta(seconds=rules.down_window_seconds)
    return Course(fewer.nodes) if is_over else Course(course.wanted, fewer=fewer)


def back_off(failures: int, rules: Growth) -> timedelta:
    """For how long nothing is ordered from a pool whose last orders have failed that often in a row."""
    if failures <= 0:
        return timedelta()
    doubled = rules.back_off_seconds * 2 ** min(failures - 1, 30)
    return timedelta(seconds=min(doubled, max(rules.longest_back_off_seconds, rules.back_off_seconds)))
