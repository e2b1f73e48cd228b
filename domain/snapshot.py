"""One consistent, frozen view of the pool: all that a round may know."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from corral.api import Dataset, Explanation, QueueSpec
from corral.policy import Policy
from domain.pool.bookings import Booking
from domain.pool.fleet import Node
from domain.pool.nodepools import NodePool, Provisioning
from domain.pool.versions import Versions
from domain.pool.workload import Active, Waiting
from domain.quota.accounting import Interval
from domain.quota.disruption_budgets import ForcedStop


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The world at one moment. The order of rows means nothing.

    `queues` hold the quota rows of every validity; the round takes those that are valid at its time.
    `waiting` holds the workloads to decide about; `active` all that have capacity promised, held or in use.
    `bystanders` wait as well, and are not to be decided about now.
    `over_quota` are the workloads, by id, of which the record says that nominal quota does not cover them.
    `told` is why they wait, as far as they have been told; a plan says nothing to who would be told the same again.
    `ledger` holds what live workloads did in the control window, by workload id, but for what was neither entitled to anything
    nor had any; `stops` who had to leave or move of late.
    `spent` is what is used up of budgets: by queue and the budget's place in it, in the units of `domain.quota.budgets.ONE`.
    `past_use` is what queues used beyond their nominal, as a part of the capacity that was there, both decayed.
    `datasets` is the catalogue of data that workloads read.
    `bookings` are the reservations that are not over.
    `arrivals` are orders for nodes that are under way, and `node_pools` what providers could add: of both, `nodes` holds each
    node as it would be, coming or possible.
    `is_complete` is false while a provider has never told what it has: then nothing can be said to be impossible.
    """

    nodes: tuple[Node, ...]
    queues: tuple[QueueSpec, ...]
    waiting: Sequence[Waiting]
    active: tuple[Active, ...] = ()
    policy: Policy = field(default_factory=Policy)
    is_complete: bool = True
    bystanders: Sequence[Waiting] = ()
    over_quota: Versions[bool] = field(default_factory=Versions)
    told: Versions[Explanation] = field(default_factory=Versions)
    ledger: Mapping[str, Sequence[Interval]] = field(default_factory=dict)
    stops: tuple[ForcedStop, ...] = ()
    spent: Mapping[tuple[str, int], int] = field(default_factory=dict)
    past_use: Mapping[str, Fraction] = field(default_factory=dict)
    datasets: tuple[Dataset, ...] = ()
    bookings: tuple[Booking, ...] = ()
    arrivals: tuple[Provisioning, ...] = ()
    node_pools: tuple[NodePool, ...] = ()


def apart(snapshot: Snapshot) -> Snapshot:
    """The same for another thread, and for as long as it likes, in which nobody has been told anything yet."""
    return replace(
        snapshot,
        waiting=tuple(snapshot.waiting),
        bystanders=tuple(snapshot.bystanders),
        ledger=dict(snapshot.ledger),
        over_quota=Versions(snapshot.over_quota),
        told=Versions(),
    )
