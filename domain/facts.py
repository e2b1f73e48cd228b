"""What no decision of a round changes."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from itertools import chain
from typing import Any

from corral.api import Explanation, QueueSpec
from corral.policy import Policy, QuotaModel
from domain.calendar.closures import Closures
from domain.disruption.means import Elastic, elastic_by_sku
from domain.disruption.protection import Protection, Stoppable, stoppable_by_sku
from domain.pool.bookings import Engagement, engagements
from domain.pool.nodepools import Provisioning
from domain.pool.versions import Crowd, Versions, by_name
from domain.pool.workload import Active, Waiting
from domain.quota.disruption_budgets import allowances
from domain.quota.fairness import FairShares
from domain.quota.tree import QuotaTree
from domain.remembered.entitlement import Coverage
from domain.remembered.lanes import Backlog, Lanes
from domain.remembered.memory import Memory
from domain.remembered.muster import Muster
from domain.snapshot import Snapshot
from domain.worlds.request import Kind, Kinds, alike
from domain.worlds.world import World


@dataclass(frozen=True, slots=True)
class Facts:
    """The time, the rules, the pool as it would be if nothing ran, and who may be stopped at all.

    `tree` has the quota rows that are valid now, `widest` the most generous of any validity. `idle` is the fleet with all
    of its room, whatever the health of its nodes; while it is not `complete`, more may come. `active` is by attempt id;
    `protection` says who may be stopped for whom.
    """

    now: datetime
    policy: Policy
    queues: Mapping[str, QueueSpec]
    tree: QuotaTree
    widest: QuotaTree
    idle: World
    complete: bool
    active: Mapping[str, Active]
    protection: Protection
    coverage: Coverage
    fair: FairShares
    """What each node of the tree may fairly have beyond its nominal."""
    engagements: frozenset[Engagement] = frozenset()
    """What nodes are kept for."""
    wanted: frozenset[Engagement] = frozenset()
    """Those of them that are lent to nobody else now: somebody whom they are for wants them."""
    promised: tuple[str, ...] = ()
    """The queues of those who were promised a place in this round before all turns, one for each."""
    arrivals: tuple[Provisioning, ...] = ()
    """Nodes that are on their way."""
    remembered: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)
    """Answers about what no decision changes, by question."""
    closures: Closures = field(default_factory=Closures, compare=False, repr=False)
    kinds: Kinds = field(default_factory=Kinds, compare=False, repr=False)
    able: set[Kind] = field(default_factory=set, compare=False, repr=False)
    """Kinds of which it is known that one could run on an idle fleet."""
    turn_kinds: Kinds = field(default_factory=Kinds, compare=False, repr=False)
    lanes: Lanes = field(default_factory=Lanes, compare=False, repr=False)
    told: Versions[Explanation] = field(default_factory=Versions, compare=False, repr=False)
    muster: Muster = field(default_factory=Muster, compare=False, repr=False)
    """Work to which something may be done, as the planner knows it from the last rounds."""

    def kind(self, workload: Waiting) -> Kind:
        """What the room for a workload depends on, remembered."""
        if (known := self.kinds.known(workload.id)) is None:
            closed, asks = self.closures.closed(workload), alike(workload, self.now, self.tree)
            known = self.kinds.tell(workload.id, (closed, asks), depends_on_the_hour=asks.depends_on_the_hour)
        return known

    def wanting(self, wanted: frozenset[Engagement]) -> "Facts":
        """The same where these engagements are wanted."""
        if wanted == self.wanted:
            return self
        return replace(self, wanted=wanted, idle=self.idle.wanting(wanted), remembered={})

    def turn_kind(self, workload: Waiting) -> Kind:
        """The same with what its right to have others stopped depends on."""
        if (known := self.turn_kinds.known(workload.id)) is None:
            values, may_change = self.protection.looks_at(workload), self.protection.may_look_otherwise(workload)
            known = self.turn_kinds.tell(workload.id, (self.kind(workload), values), depends_on_the_hour=may_change)
        return known

    def backlog(self, waiting: Collection[Waiting]) -> Backlog:
        """Who waits, in lanes of one turn kind each; of a crowd these are kept for the next round."""
        if isinstance(waiting, Backlog):
            return waiting
        lanes, kinds = (self.lanes, self.turn_kinds) if isinstance(waiting, Crowd) else (Lanes(), Kinds())
        return lanes.take(waiting, self.told, kinds, self.turn_kind)

    @property
    def stoppable(self) -> Mapping[str, Sequence[Stoppable]]:
        """Who may be stopped at all, by SKU; worked out when somebody asks."""
        if "stoppable" not in self.remembered:
            self.remembered["stoppable"] = stoppable_by_sku(self.protection)
        found: Mapping[str, Sequence[Stoppable]] = self.remembered["stoppable"]
        return found

    @property
    def elastic(self) -> Mapping[str, tuple[Elastic, ...]]:
        """Work with more replicas than its minimum, by SKU; worked out when somebody asks."""
        if "elastic" not in self.remembered:
            self.remembered["elastic"] = elastic_by_sku(self.protection)
        found: Mapping[str, tuple[Elastic, ...]] = self.remembered["elastic"]
        return found

    @classmethod
    def of(cls, snapshot: Snapshot, now: datetime, memory: Memory | None = None) -> "Facts":
        """What the snapshot says at this time; `memory` is that of the last rounds, if there is any."""
        memory = memory or Memory()
        memory.take(snapshot)
        queues = {queue.name: queue for queue in sorted(snapshot.queues, key=lambda queue: queue.name)}
        classes = snapshot.policy.limits.sku_classes
        common = snapshot.policy.rank.quota_model is QuotaModel.DESERVED
        widest = QuotaTree.ever(queues.values(), classes, common=common)
        tree = QuotaTree.at(queues.values(), now, classes, snapshot.spent, common=common)
        coverage = memory.coverage(snapshot, tree, now)
        protection = _protection(snapshot, queues, tree, now, coverage)
        engaged = frozenset(chain.from_iterable(engagements(snapshot.bookings, snapshot.nodes).values()))
        idle = replace(memory.idle(widest, snapshot), now=now)
        memory.turn_kinds.forget(coverage.turned)
        memory.keep(engaged, tree.paths, snapshot.policy.limits, now)
        return cls(
            now=now,
            policy=snapshot.policy,
            queues=queues,
            tree=tree,
            widest=widest,
            idle=idle,
            complete=snapshot.is_complete and bool(snapshot.nodes),
            active=protection.active,
            protection=protection,
            coverage=coverage,
            fair=_fair_shares(snapshot, tree, memory),
            arrivals=snapshot.arrivals,
            engagements=engaged,
            closures=memory.closures,
            kinds=memory.kinds,
            turn_kinds=memory.turn_kinds,
            lanes=memory.lanes,
            told=snapshot.told,
            able=memory.able,
            muster=memory.muster,
        )


def _fair_shares(snapshot: Snapshot, tree: QuotaTree, memory: Memory) -> FairShares:
    """The fair shares among all who run or wait, each with the least that it wants."""
    return FairShares.of(tree, memory.census.wanted, snapshot.past_use, Fraction(snapshot.policy.rank.fairness.history_weight))


def _protection(
    snapshot: Snapshot, queues: Mapping[str, QueueSpec], tree: QuotaTree, now: datetime, coverage: Coverage
) -> Protection:
    return Protection(
        now=now,
        policy=snapshot.policy,
        queues=queues,
        paths=tree.paths,
        ledger=snapshot.ledger,
        covered=coverage.covered,
        waiting=by_name(lambda workload: workload.id, snapshot.waiting, snapshot.bystanders),
        active={active.attempt_id: active for active in snapshot.active},
        allowances=allowances(snapshot.policy.limits.disruption_budgets, snapshot.stops, tree.paths, now),
    )
