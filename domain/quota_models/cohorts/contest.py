"""Contest: a workload that fits only when others leave, and what "fits" means without them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from domain.pool.workload import Charge, Waiting, charges_of
from domain.quota.usage import Usage
from domain.quota_models.cohorts.borrowing import Needs, borrows, by_row
from domain.quota_models.cohorts.leaving import Without
from domain.quota_models.cohorts.setting import Runner
from domain.worlds.world import with_charges

Victims = tuple[Runner, ...]


def without(usage: Usage, victims: Iterable[Runner]) -> Usage:
    """The usage once these have left."""
    return with_charges(usage, _charges(victims), sign=-1)


def with_(usage: Usage, back: Iterable[Runner]) -> Usage:
    """The usage once these have come back."""
    return with_charges(usage, _charges(back))


def _charges(runners: Iterable[Runner]) -> Iterator[Charge]:
    return (charge for runner in runners for charge in charges_of(runner.active.spec, runner.active.placement))


def with_needs(usage: Usage, workload: Waiting, needs: Needs) -> Usage:
    """The usage with what the workload needs, by SKU."""
    spec = workload.spec
    for sku, milli in needs.items():
        usage = usage.plus(spec.queue, sku, milli, preemptible=spec.preemptible, user=spec.user)
    return usage


def has_quota(usage: Usage, workload: Waiting, needs: Needs, *, borrowing: bool = True) -> bool:
    """Whether the workload's queue may use this much more now; without `borrowing` only of what it owns."""
    spec = workload.spec
    if not borrowing and any(
        borrows(usage, spec.queue, row, more) for row, more in by_row(needs, spec.queue, usage.tree).items()
    ):
        return False
    for sku, need in needs.items():
        if need > usage.allowed(spec, sku):
            return False
        usage = with_needs(usage, workload, {sku: need})
    return True


def always(victims: Sequence[Runner]) -> bool:
    """There is room, whoever leaves."""
    return True


@dataclass(frozen=True, slots=True)
class Contest:
    """A workload and what it needs by SKU; under the `short` rows others must give back for it.

    `has_room` says whether nodes have room for it once these victims have left. Who was `stopped` before is no candidate.
    """

    workload: Waiting
    needs: Needs
    short: frozenset[str]
    usage: Usage
    stopped: frozenset[str]
    has_room: Callable[[Sequence[Runner]], bool] = always
    usages: Without[Usage] = field(init=False, compare=False, repr=False)
    """The usage once some have left."""

    def __post_init__(self) -> None:
        """Begin with nobody who has left."""
        object.__setattr__(self, "usages", Without(self.usage, without, with_))

    @property
    def queue(self) -> str:
        """For whose quota it is."""
        return self.workload.spec.queue

    def fits(self, victims: Sequence[Runner], *, borrowing: bool) -> bool:
        """Whether the workload starts when these have left; without `borrowing` only on what its queue owns."""
        usage = self.usages(victims)
        return has_quota(usage, self.workload, self.needs, borrowing=borrowing) and self.has_room(victims)

    def spared(self, victims: Sequence[Runner], *, borrowing: bool) -> Victims:
        """The victims without those that need not go, tried from the last but one to the first (`fillBackWorkloads`)."""
        needed = tuple(victims)
        for spared in reversed(victims[:-1]):
            fewer = tuple(victim for victim in needed if victim is not spared)
            if self.fits(fewer, borrowing=borrowing):
                needed = fewer
        return needed
