"""Memory: what a planner worked out for its last rounds, for the next one; without it a round decides the same, later.

It holds only what is sure to be as it was: values that have not changed are the same objects in two snapshots, and whatever
was worked out of others is worked out anew.
"""

from datetime import datetime

from corral.policy import Limits
from domain.calendar.closures import Closures
from domain.pool.bookings import Engagement, Paths
from domain.pool.roll import Turnover
from domain.pool.workload import Active, Waiting
from domain.quota.tree import QuotaTree
from domain.remembered.attained import Attained
from domain.remembered.beginning import Beginning
from domain.remembered.census import Census
from domain.remembered.entitlement import Coverage, Entitlement
from domain.remembered.lanes import Lanes
from domain.remembered.muster import Muster
from domain.snapshot import Snapshot
from domain.worlds.request import Kind, Kinds
from domain.worlds.world import World

FEW_KINDS, KINDS_EACH, MOST_KINDS = 2_048, 4, 65_536
"""Of workloads: so many are kept in any case, so many for each that waits, and never more. With more than that all are asked
anew, so that a planner that runs for months has not the kinds of whoever has come and gone.
"""


class Memory:
    """Belongs to one planner and to one thread at a time."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew; whatever ends a round in the middle may have left half of it behind."""
        self.attained, self.census, self._entitlement, self.muster = Attained(), Census(), Entitlement(), Muster()
        self.kinds, self.turn_kinds, self.lanes = Kinds(), Kinds(), Lanes()
        """What is asked for, the same with the right to have others stopped, and who waits by that."""
        self.closures = Closures()
        self.able: set[Kind] = set()
        """Kinds of which one could run on an idle fleet."""
        self._beginning = Beginning()
        self._moved, self._queued = Turnover[Active]([], []), Turnover[Waiting]([], [])
        self._fleet: object = None
        self._rules: object = None

    def take(self, snapshot: Snapshot) -> None:
        """Look at what has changed; first of all in every round."""
        self._moved, self._queued = self.census.take(snapshot)
        self._beginning.take(snapshot, self._moved)
        self.muster.hear(self._moved)
        self.closures.forget(self._queued.gone)
        self.kinds.forget(each.id for each in self._queued.gone)
        # Work of which all targets have opened by now is of one kind again.
        self.turn_kinds.forget(self.kinds.taken_back())

    def coverage(self, snapshot: Snapshot, tree: QuotaTree, now: datetime) -> Coverage:
        """What nominal quota covers."""
        return self._entitlement.take(self._moved, self._queued, snapshot.over_quota, tree, now)

    def idle(self, tree: QuotaTree, snapshot: Snapshot) -> World:
        """The world in which nothing runs; what was worked out for another one, or under other rules, is forgotten."""
        idle = self._beginning.idle(tree, snapshot)
        rules = snapshot.policy, snapshot.queues, snapshot.is_complete
        if idle.classes is not self._fleet or rules != self._rules or self._has_too_many_kinds(snapshot):
            self._fleet, self._rules = idle.classes, rules
            self.kinds, self.turn_kinds, self.lanes, self.able = Kinds(), Kinds(), Lanes(), set()
        return idle

    def keep(self, engaged: frozenset[Engagement], paths: Paths, limits: Limits, now: datetime) -> None:
        """Know what nodes are kept for; whoever that is by now closed or open to is of another kind."""
        self.kinds.forget(self.closures.take(engaged, paths, limits, now))
        self.turn_kinds.forget(self.kinds.taken_back())

    def _has_too_many_kinds(self, snapshot: Snapshot) -> bool:
        waiting = len(snapshot.waiting) + len(snapshot.bystanders)
        most = min(MOST_KINDS, max(FEW_KINDS, KINDS_EACH * waiting))
        return max(len(self.kinds), len(self.turn_kinds)) > most

    def world(self, snapshot: Snapshot, tree: QuotaTree) -> World:
        """The world with which the round begins."""
        return self._beginning.world(snapshot, tree, self.census, self._moved)
