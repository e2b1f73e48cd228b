"""Memory: what a planner worked out for its last rounds, for the next one; without it a round decides the same, later.

It holds only what is sure to be as it was: values that have not changed are the same objects in two snapshots, and whatever
was worked out of others is worked out anew.
"""

from domain.beginning import Beginning
from domain.census import Census
from domain.entitlement import Entitlement
from domain.quota import QuotaTree
from domain.roll import Turnover
from domain.snapshot import Snapshot
from domain.workload import Active
from domain.world import World


class Memory:
    """Belongs to one planner and to one thread at a time."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew; whatever ends a round in the middle may have left half of it behind."""
        self.census, self.entitlement = Census(), Entitlement()
        self._beginning = Beginning()
        self._moved = Turnover[Active]([], [])

    def take(self, snapshot: Snapshot) -> None:
        """Look at what has changed; first of all in every round."""
        self._moved = self.census.take(snapshot)
        self._beginning.take(snapshot, self._moved)

    def idle(self, tree: QuotaTree, snapshot: Snapshot) -> World:
        """The world in which nothing runs."""
        return self._beginning.idle(tree, snapshot)

    def world(self, snapshot: Snapshot, tree: QuotaTree) -> World:
        """The world with which the round begins."""
        return self._beginning.world(snapshot, tree, self.census, self._moved)
