"""Setting: what no turn of a round changes, in the terms of these rules."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from corral.api import Fungibility, QueuePreemption, State
from domain.facts import Facts
from domain.pool.standing import Standing, standing
from domain.pool.workload import Active
from domain.quota.tree import QuotaTree


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The tree from above: each node's children by name, and how many steps it is from its furthest leaf."""

    children: Mapping[str, tuple[str, ...]]
    heights: Mapping[str, int]

    @classmethod
    def of(cls, tree: QuotaTree) -> "Hierarchy":
        """What the paths from queues to their roots say of the nodes between."""
        children: dict[str, tuple[str, ...]] = dict.fromkeys(tree.paths, ())
        for name in sorted(tree.paths):
            for parent in tree.paths[name][1:2]:
                children[parent] = (*children[parent], name)
        heights: dict[str, int] = {}
        for name in sorted(tree.paths, key=lambda name: -len(tree.paths[name])):
            heights[name] = max((heights[child] + 1 for child in children[name]), default=0)
        return cls(children, heights)


@dataclass(frozen=True, slots=True)
class Runner:
    """Work that may be stopped, or that `is_leaving` and still counts; `rows` are the names under which it counts."""

    active: Active
    standing: Standing
    rows: frozenset[str]
    is_leaving: bool

    @classmethod
    def of(cls, active: Active, tree: QuotaTree, *, is_leaving: bool) -> "Runner":
        """The work in the terms in which victims are chosen."""
        rows = frozenset(row for sku, milli in active.placement.by_sku.items() if milli for row in tree.names(sku))
        return cls(active, standing(active.spec.tier, active.spec.priority), rows, is_leaving)

    @property
    def queue(self) -> str:
        """Whose quota it uses."""
        return self.active.spec.queue


@dataclass(frozen=True, slots=True)
class Setting:
    """The facts, the tree from above, and by queue who may be stopped."""

    facts: Facts
    hierarchy: Hierarchy
    runners: Mapping[str, tuple[Runner, ...]]

    @classmethod
    def of(cls, facts: Facts) -> "Setting":
        """What the facts say."""
        by_queue: dict[str, list[Runner]] = {}
        for runner in _runners(facts):
            by_queue.setdefault(runner.queue, []).append(runner)
        return cls(facts, Hierarchy.of(facts.tree), {queue: tuple(found) for queue, found in by_queue.items()})

    def preemption(self, queue: str) -> QueuePreemption:
        """Whom the queue's work may have stopped: nobody unless the queue says otherwise."""
        return self.facts.queues[queue].preemption or QueuePreemption()

    def fungibility(self, queue: str) -> Fungibility:
        """How the queue's SKUs stand in for each other."""
        return self.facts.queues[queue].fungibility or Fungibility()


def _runners(facts: Facts) -> Iterable[Runner]:
    stoppable = {victim.active.attempt_id for found in facts.stoppable.values() for victim in found}
    for attempt_id in sorted(facts.active):
        active = facts.active[attempt_id]
        if attempt_id in stoppable:
            yield Runner.of(active, facts.tree, is_leaving=False)
        elif active.state is State.STOPPING and not active.preempted:
            yield Runner.of(active, facts.tree, is_leaving=True)
