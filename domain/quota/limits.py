"""Limits per user: how much of a queue one of its users may have at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from corral.api import WHOLE, UserLimit
from domain.pool.fleet import Amount

User = str | None
"""Who submitted a workload; those who do not say count as one user together, so that silence frees nobody from a limit."""

UNLIMITED: Amount = 10**15
NO_MORE_WORKLOADS: Amount = -1


@dataclass(frozen=True, slots=True)
class Held:
    """What one user has below one node of the tree: thousandths of an accelerator, and workloads."""

    milli: Amount = 0
    workloads: int = 0

    def plus(self, milli: Amount, workloads: int) -> "Held":
        """The same with this much more, or less when negative."""
        return Held(self.milli + milli, self.workloads + workloads)


NOTHING = Held()


def limit_of(limits: Sequence[UserLimit], user: User) -> UserLimit | None:
    """The limit that counts for a user: the one that names it, else the one that names nobody."""
    by_name = {limit.user: limit for limit in limits}
    return by_name.get(user, by_name.get(None))


def left_of(limit: UserLimit, held: Held) -> Amount:
    """What the limit leaves one more workload of its user, in thousandths; below zero when it leaves no workload at all."""
    if limit.running is not None and held.workloads >= limit.running:
        return NO_MORE_WORKLOADS
    return UNLIMITED if limit.accelerators is None else max(0, limit.accelerators * WHOLE - held.milli)
