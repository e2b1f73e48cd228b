"""One cycle: the heads of all lines are nominated in one world, and then acted on one after the other."""

from collections.abc import Iterable
from dataclasses import dataclass

from corral.api import Reclaim
from domain.decision import Start, StartAfter
from domain.placement.layout import Candidate
from domain.pool.fleet import Amount
from domain.pool.workload import Waiting
from domain.quota.limits import UNLIMITED
from domain.quota.usage import Usage
from domain.quota_models.cohorts.contest import Victims, has_quota, without
from domain.quota_models.cohorts.nomination import STARTS, Nomination, Verdict, nominate
from domain.quota_models.cohorts.places import seated_again
from domain.quota_models.cohorts.setting import Setting
from domain.quota_models.cohorts.turn_order import next_turn
from domain.quota_models.starts import Starts
from domain.worlds.world import World


@dataclass(frozen=True, slots=True)
class Cycle:
    """Who moved and how, who was out-raced and may try again, who cannot be helped now, and the world afterwards."""

    moves: tuple[tuple[Waiting, Start | StartAfter], ...]
    outraced: tuple[Waiting, ...]
    stuck: tuple[Nomination, ...]
    world: World


def run_cycle(heads: Iterable[Waiting], world: World, setting: Setting, starts: Starts) -> Cycle:
    """Nominate every head, then act on one nomination after the other, each in the world that those before have left.

    Nobody starts beyond the most `starts` of a round.
    """
    cycle = _Cycle(world, setting, starts)
    left = [nominate(workload, world, setting) for workload in heads]
    while left:
        nomination = next_turn(left, cycle.seen.usage, setting)
        left.remove(nomination)
        cycle.act_on(nomination)
    return Cycle(tuple(cycle.moves), tuple(cycle.outraced), tuple(cycle.stuck), cycle.world)


class _Cycle:
    """A cycle in the making; it lives inside one call.

    `seen` is the world as later turns of this cycle see it: beside what was decided, it lacks what is kept for those who
    may not make anybody leave.
    """

    def __init__(self, world: World, setting: Setting, starts: Starts) -> None:
        self._setting = setting
        self._protection = setting.facts.protection
        self._starts = starts
        self.world = world
        self.seen = world
        self.moves: list[tuple[Waiting, Start | StartAfter]] = []
        self.outraced: list[Waiting] = []
        self.stuck: list[Nomination] = []

    def act_on(self, nomination: Nomination) -> None:
        """Start it, stop others for it, keep capacity for it, or let it wait (Kueue, `processEntry`).

        Who would start if it were not for those before it in this cycle has its chance in the next one.
        """
        could_start, nomination = nomination.verdict in STARTS, self._renewed(nomination)
        match nomination.verdict:
            case verdict if could_start and verdict not in STARTS:
                self.outraced.append(nomination.workload)
            case Verdict.NEVER_FITS:
                self.stuck.append(nomination)
            case Verdict.LACKS_VICTIMS:
                self.stuck.append(nomination)
                self._keep_for(nomination)
            case Verdict.PREEMPTS if nomination.victims and self._protection.why_not_yet(nomination.workload) is not None:
                self.stuck.append(nomination)
            case _ if self._starts.limit_reached(nomination.workload.spec.queue) is not None:
                self.outraced.append(nomination.workload)
            case _ if (seated := self._seated(nomination)) is None or not self._is_open(nomination):
                self.outraced.append(nomination.workload)
            case _:
                self._move(nomination, seated)

    def _renewed(self, nomination: Nomination) -> Nomination:
        """The nomination, or where only its place has been taken another with the same SKUs, if the policy allows."""
        may_renew = self._setting.facts.policy.rank.cohorts.recompute_placement_within_pass
        if not may_renew or nomination.assignment is None or nomination.verdict not in STARTS:
            return nomination
        if not self._has_quota(nomination) or self._seated(nomination) is not None:
            return nomination
        return nominate(nomination.workload, self.seen, self._setting, nomination.assignment.skus)

    def _is_open(self, nomination: Nomination) -> bool:
        """Whether nobody before took its victims or its quota."""
        return len(self._left_of(nomination.victims)) == len(nomination.victims) and self._has_quota(nomination)

    def _has_quota(self, nomination: Nomination) -> bool:
        return has_quota(without(self.seen.usage, self._left_of(nomination.victims)), nomination.workload, nomination.needs)

    def _seated(self, nomination: Nomination) -> Candidate | None:
        """Its place in the world as it is now, or as it is once the victims have left."""
        assert nomination.candidate is not None
        if nomination.verdict is Verdict.FITS:
            return seated_again(nomination.candidate, self.seen)
        leaving = [victim.active for victim in self._left_of(nomination.victims) if not victim.is_leaving]
        return seated_again(nomination.candidate, self.seen.when_all_have_left().without(leaving))

    def _left_of(self, victims: Victims) -> Victims:
        return tuple(victim for victim in victims if victim.active.attempt_id not in self.seen.stopped)

    def _move(self, nomination: Nomination, candidate: Candidate) -> None:
        workload, placement = nomination.workload, candidate.placement
        self._starts.add(workload.spec.queue)
        if nomination.verdict is Verdict.FITS:
            self.moves.append((workload, Start(workload.id, placement)))
            self.world, self.seen = (world.with_(workload.spec, placement) for world in (self.world, self.seen))
            return
        victims = [victim.active for victim in nomination.victims if not victim.is_leaving]
        self.moves.append((workload, StartAfter(workload.id, placement, tuple(each.attempt_id for each in victims))))
        self.world, self.seen = (world.promising(workload.spec, placement, victims) for world in (self.world, self.seen))

    def _keep_for(self, nomination: Nomination) -> None:
        """Keep what it could have from others of this cycle, unless its queue can take back its own at any time."""
        assert nomination.candidate is not None
        queue = nomination.workload.spec.queue
        if self._setting.preemption(queue).reclaim_within_cohort is not Reclaim.ANY:
            kept = _could_have(nomination, self.seen.usage)
            self.seen = self.seen.setting_aside(nomination.workload.spec, kept, nomination.candidate.placement)


def _could_have(nomination: Nomination, usage: Usage) -> dict[str, Amount]:
    """The part of the needs, by SKU, that the queue's own limits leave it (Kueue, `quotaResourcesToReserve`)."""
    queue, tree = nomination.workload.spec.queue, usage.tree
    may_borrow = nomination.level > 0
    return {
        sku: max(0, min([need, *(_most(row, queue, usage, may_borrow=may_borrow) for row in tree.rows(queue, sku))]))
        for sku, need in nomination.needs.items()
    }


def _most(row: str, queue: str, usage: Usage, *, may_borrow: bool) -> Amount:
    quota = usage.tree.standings[queue, row].quota
    if may_borrow and quota.borrowing_limit is None:
        return UNLIMITED
    return quota.nominal + (quota.borrowing_limit or 0 if may_borrow else 0) - usage.use(queue, row).charged
