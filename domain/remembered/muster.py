"""The muster: on each SKU all work to which anything might be done some time, in columns that outlive a round.

What depends on the hour, on quota or on the policy is worked out of the columns for everybody at once; `protection` says the
same of one attempt, and a test holds the two equal.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from corral.api import WHOLE, SlaTier
from corral.policy import Policy
from domain.disruption.means import Surplus, surplus_if_any
from domain.disruption.protection import STOPPABLE_STATES, Protection, hardship
from domain.pool.roll import Turnover
from domain.pool.standing import TIERS, Standing
from domain.pool.stock import Atlas, Numbers, Places
from domain.pool.workload import Active

Mask = NDArray[np.bool_]

Hardship = tuple[Standing, float, float, str]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND, MILLISECOND = 1_000_000, 1_000
"""In microseconds."""

NEVER = -1
"""Microseconds since the epoch, of what has not happened."""

STRONGEST = 2**40
"""Above every standing."""

BASIC = TIERS.index(SlaTier.BASIC)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Attempts on one SKU in the order of their hardship, with a number of each in every column; a row for each share."""

    active: Sequence[Active]
    hardship: Sequence[Hardship]
    surplus: Sequence[Surplus | None]
    by_attempt: Numbers
    """The columns of attempts, one below the other: see `FIELDS`."""
    owner: Places
    """By row, whose it is."""
    milli: Numbers
    """By row."""
    node: Places
    """By row, the number of its node in the atlas; -1 for a node that the fleet does not have."""

    def field(self, name: str) -> Numbers:
        """One column of the attempts."""
        column: Numbers = self.by_attempt[FIELDS.index(name)]
        return column

    def after(self, gone: Container[int], come: "Columns") -> "Columns":
        """The same without those (by object identity) who have gone, with those who have come in their places."""
        kept = np.fromiter((id(each) not in gone for each in self.active), np.bool_, len(self.active))
        stays = np.flatnonzero(kept).tolist()
        active = [*(self.active[at] for at in stays), *come.active]
        keys = [*(self.hardship[at] for at in stays), *come.hardship]
        spare = [*(self.surplus[at] for at in stays), *come.surplus]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        place = np.empty(len(order), np.intp)
        place[order] = np.arange(len(order))
        before = np.cumsum(kept) - 1
        stay = kept[self.owner]
        owner = place[np.concatenate((before[self.owner[stay]], come.owner + len(stays)))]
        by_owner = np.argsort(owner, kind="stable")
        return Columns(
            active=[active[at] for at in order],
            hardship=[keys[at] for at in order],
            surplus=[spare[at] for at in order],
            by_attempt=np.concatenate((self.by_attempt[:, kept], come.by_attempt), axis=1)[:, order],
            owner=owner[by_owner],
            milli=np.concatenate((self.milli[stay], come.milli))[by_owner],
            node=np.concatenate((self.node[stay], come.node))[by_owner],
        )


FIELDS = ("milli", "tier", "priority", "preemptible", "preemptions", "elastic", "started", "saved", "grace", "queue")
"""Amounts in thousandths, tiers by their place in `TIERS`, moments in microseconds since the epoch, grace in seconds."""

NOBODY = Columns(
    (), (), (), np.zeros((len(FIELDS), 0), np.int64), np.zeros(0, np.intp), np.zeros(0, np.int64), np.zeros(0, np.intp)
)


class Muster:
    """Keeps the columns of every SKU by who came and who went; belongs to one planner."""

    def __init__(self) -> None:
        self._gone: dict[int, Active] = {}
        self._come: dict[int, Active] = {}
        """By object, who has gone and who has come since the columns were last looked at."""
        self._columns: dict[str, Columns] = {}
        self._atlas: Atlas | None = None
        self.queues: dict[str, int] = {}
        """The number of every queue that was ever seen."""

    def hear(self, moved: Turnover[Active]) -> None:
        """Know who has gone and who has come; it counts when somebody asks."""
        if self._atlas is None:
            return
        for each in filter(_could_ever, moved.gone):
            if self._come.pop(id(each), None) is None:
                self._gone[id(each)] = each
        self._come.update((id(each), each) for each in filter(_could_ever, moved.come))

    def take(self, active: Iterable[Active], atlas: Atlas) -> Mapping[str, Columns]:
        """The columns by SKU: of all whom it has heard of, or of these attempts where it was never asked about this fleet."""
        if atlas is not self._atlas:
            self._columns, self._atlas = {}, atlas
            self._gone, self._come = {}, {id(each): each for each in filter(_could_ever, active)}
        gone, come = _by_sku(self._gone), _by_sku(self._come)
        for sku in sorted(gone.keys() | come.keys()):
            before, news = self._columns.get(sku, NOBODY), [*come.get(sku, {}).values()]
            self._columns = {**self._columns, sku: before.after(gone.get(sku, {}), self._columns_of(news, atlas))}
        self._gone, self._come = {}, {}
        return self._columns

    def _columns_of(self, active: Sequence[Active], atlas: Atlas) -> Columns:
        shares = [each.placement.shares for each in active]
        rows = tuple(chain.from_iterable(shares))
        spare = [surplus_if_any(each) for each in active]
        fields = [self._fields(each, left) for each, left in zip(active, spare, strict=True)]
        numbers = atlas.node_numbers
        return Columns(
            active=active,
            hardship=[hardship(each) for each in active],
            surplus=spare,
            by_attempt=np.array(fields, np.int64).reshape(-1, len(FIELDS)).T,
            owner=np.repeat(np.arange(len(active)), [len(its) for its in shares]),
            milli=np.fromiter((share.room.milli for share in rows), np.int64, len(rows)),
            node=np.fromiter((numbers.get(share.node_id, -1) for share in rows), np.intp, len(rows)),
        )

    def _fields(self, active: Active, spare: Surplus | None) -> tuple[int, ...]:
        spec, began = active.spec, active.started_at
        started = NEVER if began is None else microseconds(began)
        saved = NEVER if began is None else microseconds(max(began, active.checkpoint_at or began))
        queue = self.queues.setdefault(spec.queue, len(self.queues))
        about_it = (active.milli, TIERS.index(spec.tier), spec.priority, spec.preemptible, active.preemptions)
        return (*about_it, spare is not None, started, saved, spec.checkpoint.grace_seconds, queue)


def _could_ever(active: Active) -> bool:
    """Whether the attempt, as it is, may be stopped or shrunk at some hour and under some policy."""
    return not active.preempted and active.state in STOPPABLE_STATES


def _by_sku(attempts: Mapping[int, Active]) -> dict[str, dict[int, Active]]:
    found: dict[str, dict[int, Active]] = {}
    for key, each in attempts.items():
        for sku in each.placement.by_sku:
            found.setdefault(sku, {})[key] = each
    return found


def microseconds(moment: datetime) -> int:
    """Since the epoch."""
    return (moment - EPOCH) // MICROSECOND


# What the rules say of everybody at once


def are_stoppable(columns: Columns, policy: Policy, now: datetime) -> Mask:
    """Of whom `protection.isstoppable` is true."""
    least = np.array([policy.rank.tiers[tier].minimum_runtime_seconds for tier in TIERS], np.int64) * SECOND
    started = columns.field("started")
    is_protected = (started != NEVER) & (microseconds(now) < started + least[columns.field("tier")])
    may = (columns.field("preemptible") > 0) & (columns.field("preemptions") < policy.limits.maximum_preemptions)
    stoppable: Mask = may & ~is_protected
    return stoppable


def tiers_run_as(columns: Columns, protection: Protection) -> Numbers:
    """`Protection.runs_as`, by place in `TIERS`."""
    covered = protection.covered
    is_covered = np.fromiter((covered.get(each.id, 0) > 0 for each in columns.active), np.bool_, len(columns.active))
    return np.where(is_covered, columns.field("tier"), BASIC)


def costs_of_a_stop(columns: Columns, policy: Policy, now: datetime) -> Numbers:
    """`headroom.stop_cost`."""
    milli, started = columns.field("milli"), columns.field("started")
    idle = np.maximum(0, (microseconds(now) - columns.field("saved")) // MILLISECOND)
    lost = np.where(started == NEVER, 0, milli * idle // MILLISECOND)
    cost: Numbers = lost + milli * (columns.field("grace") + policy.rank.restart_seconds + policy.rank.requeue_seconds)
    return cost


def dearness(columns: Columns, policy: Policy, now: datetime) -> Numbers:
    """What it costs to stop each, by accelerator."""
    return costs_of_a_stop(columns, policy, now) * WHOLE // np.maximum(1, columns.field("milli"))


def strengths(tier: Numbers, priority: Numbers) -> Numbers:
    """Standings as one number each, of which the higher ranks first."""
    return priority - tier * 2**32
