"""Accounts: what has run, hour by hour, as the record sums it up, and what that leaves of budgets."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from corral.api import QueueSpec
from corral.policy import Policy
from domain.pool.fleet import Amount
from domain.quota.accounting import MILLISECOND, MILLISECONDS
from domain.quota.budgets import spent
from domain.quota.flows import EPOCH, HOUR, Flow, Flows, decayed, decayed_beyond, merged, milliseconds
from domain.quota.penalties import Charges, charged_beyond
from domain.quota.tree import QuotaTree

FLEET = ""
"""Stands for a queue in the flows of what capacity is healthy; no queue has this name."""

PAST_USE_MILLISECONDS = 300_000
"""How long past use counts as it was summed up, by the pool's clock (Slurm's PriorityCalcPeriod)."""

NOTHING: Mapping[tuple[str, str], int] = {}


def summed_up_at(now: datetime) -> datetime:
    """Past use as it counts now has at least what was used until then."""
    return EPOCH + milliseconds(now) // PAST_USE_MILLISECONDS * PAST_USE_MILLISECONDS * MILLISECOND


_NOTE_CAPACITY = text("""
    INSERT INTO flows (queue, sku, hour, milli, milli_moment, cost, cost_moment, changed)
    SELECT :fleet, sku, :hour, sum(milli), sum(milli) * :into_hour, 0, 0, pg_current_xact_id()::text::bigint
    FROM (SELECT sku, 1000 * accelerators AS milli FROM nodes
          WHERE ready AND cordon IS NULL AND coalesce(reach, 'suspect') = 'suspect'
          UNION ALL SELECT sku, -milli FROM flows WHERE queue = :fleet) AS change
    GROUP BY sku HAVING sum(milli) <> 0 ORDER BY sku
    ON CONFLICT (queue, sku, hour) DO UPDATE SET
        milli = flows.milli + excluded.milli, milli_moment = flows.milli_moment + excluded.milli_moment,
        changed = excluded.changed""")


async def note_capacity(connection: AsyncConnection, now: datetime) -> None:
    """Note from when on another capacity is healthy, where it is another."""
    hour, into_hour = divmod(milliseconds(now), HOUR)
    await connection.execute(_NOTE_CAPACITY, {"fleet": FLEET, "hour": hour, "into_hour": into_hour})


_CHANGED_SINCE = text("""
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS next, flows.*
    FROM (SELECT) AS once LEFT JOIN flows ON flows.changed >= :since""")
"""Rows changed by transactions that an earlier reader may not have seen, and the first that the next one may not have."""


@dataclass(frozen=True, slots=True)
class SummedUp:
    """What every node used beyond its nominal and what capacity was there, both decayed: thousandths times milliseconds."""

    term: object
    tree: QuotaTree
    there: int
    beyond: Mapping[str, int]

    def with_charges(self, charged: Mapping[str, int]) -> dict[str, Fraction]:
        """The parts, with charges (thousandths times seconds) as if they were used already."""
        used = {node: self.beyond[node] + charged.get(node, 0) * MILLISECONDS for node in self.beyond}
        return {node: Fraction(use, self.there) for node, use in used.items() if use}


@dataclass
class AccountBook:
    """The flows of every queue and SKU; only what has changed since the last time is read again."""

    _hours: dict[tuple[str, str], dict[int, tuple[Flow, Flow]]] = field(default_factory=dict)
    _flows: dict[tuple[str, str], Flows] = field(default_factory=dict)
    _next: int = 0
    _summed_up: SummedUp | None = None

    async def refresh(self, connection: AsyncConnection) -> None:
        """Read what is new at the transaction's snapshot."""
        touched = set()
        for row in await connection.execute(_CHANGED_SINCE, {"since": self._next}):
            self._next = row.next
            if row.queue is not None:
                in_hour = Flow(row.hour, row.milli, int(row.milli_moment)), Flow(row.hour, int(row.cost), int(row.cost_moment))
                self._hours.setdefault((row.queue, row.sku), {})[row.hour] = in_hour
                touched.add((row.queue, row.sku))
        for key in touched:
            hours = self._hours[key]
            ordered = [hours[hour] for hour in sorted(hours)]
            self._flows[key] = Flows(tuple(milli for milli, _ in ordered), tuple(cost for _, cost in ordered))

    def flows(self) -> Mapping[tuple[str, str], Flows]:
        """The flows by queue and SKU."""
        return self._flows

    def spent(self, queues: Iterable[QueueSpec], now: datetime) -> dict[tuple[str, int], int]:
        """What is spent of each budget, by its queue and its place in it."""
        every = tuple(queues)
        parents = {queue.name: queue.parent for queue in every}
        return {
            (queue.name, index): spent(self._below(queue.name, parents), budget, now)
            for queue in every
            for index, budget in enumerate(queue.budgets)
        }

    def past_use(
        self,
        queues: tuple[QueueSpec, ...],
        policy: Policy,
        now: datetime,
        held: Mapping[tuple[str, str], Amount] = NOTHING,
        charged: Charges = NOTHING,
    ) -> Mapping[str, Fraction]:
        """What every node used beyond its nominal as a part of the capacity that was there, both decayed.

        It changes slowly, and is summed up anew when its time is over, or when queues or the policy were changed; until
        then what is `charged` stands for what started since. `held` is what every queue has now of each SKU.
        """
        fairness = policy.rank.fairness
        if not fairness.history_weight:
            return {}
        term = summed_up_at(now), queues, policy
        if self._summed_up is None or self._summed_up.term != term:
            tree = QuotaTree.at(queues, now, policy.limits.sku_classes)
            self._summed_up = SummedUp(term, tree, *self._sum_up(tree, fairness.half_life_seconds, milliseconds(now)))
        return self._summed_up.with_charges(charged_beyond(self._summed_up.tree, charged, held, fairness.charged_seconds))

    def _sum_up(self, tree: QuotaTree, half_life_seconds: int, until: int) -> tuple[int, dict[str, int]]:
        fleet = merged(flows.milli for (queue, _), flows in self._flows.items() if queue == FLEET)
        there = decayed(fleet, half_life_seconds, until)
        return there, {node: self._beyond(tree, node, half_life_seconds, until) for node in tree.paths if there}

    def _beyond(self, tree: QuotaTree, node: str, half_life_seconds: int, until: int) -> int:
        below = {queue for queue, path in tree.paths.items() if node in path}
        return sum(
            decayed_beyond(
                merged(flows.milli for (queue, used), flows in self._flows.items() if used == sku and queue in below),
                tree.standings[node, sku].nominal_below if (node, sku) in tree.standings else 0,
                half_life_seconds,
                until,
            )
            for sku in sorted({sku for queue, sku in self._flows if queue in below})
        )

    def _below(self, node: str, parents: Mapping[str, str | None]) -> list[Flows]:
        """The flows of a queue and of all queues below it."""
        return [flows for (queue, _), flows in self._flows.items() if _is_below(queue, node, parents)]


def _is_below(queue: str | None, node: str, parents: Mapping[str, str | None]) -> bool:
    while queue is not None and queue != node:
        queue = parents.get(queue)
    return queue is not None
