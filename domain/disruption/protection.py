"""Protection: which running work may be stopped for other work, and who would go first (`semantics.md` 5 and 6)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from functools import cached_property

from corral.api import QueueSpec, Reason, SlaTier, State
from corral.policy import Policy
from domain.decision import Rejection
from domain.pool.claimant import Claimant
from domain.pool.fleet import Amount
from domain.pool.standing import TIERS, Standing, standing
from domain.pool.workload import Active, Charge, Waiting, charges_at
from domain.quota.accounting import Interval
from domain.quota.disruption_budgets import Allowances, Paths, within
from domain.quota.headroom import MilliSeconds, cost_per_usable, headroom, stop_cost

STOPPABLE_STATES = frozenset({State.STARTING, State.RUNNING})
"""Work that only holds capacity is no victim: it is about to start, and stopping it would gain nothing sooner."""


def is_protected(active: Active, policy: Policy, now: datetime) -> bool:
    """Whether the workload has not yet run for the minimum that its tier promises, whoever asks.

    Work that has not started yet is not protected: nothing is lost when it goes back in line.
    """
    return has_run_less_than(active, policy.rank.tiers[active.spec.tier].minimum_runtime_seconds, now)


def has_run_less_than(active: Active, seconds: int, now: datetime) -> bool:
    """Whether the workload runs, and not yet for so long."""
    return active.started_at is not None and now < active.started_at + timedelta(seconds=seconds)


def isstoppable(active: Active, policy: Policy, now: datetime) -> bool:
    """Whether the workload may be a victim of anybody."""
    return (
        active.spec.preemptible
        and not active.preempted
        and active.state in STOPPABLE_STATES
        and active.preemptions < policy.limits.maximum_preemptions
        and not is_protected(active, policy, now)
    )


def minimum_runtime(victim: str, beneficiary: str, queues: Mapping[str, QueueSpec], paths: Paths) -> int:
    """Seconds that work of the victim's queue runs before work of the beneficiary's may take its place.

    Within a queue its own, else that of the nearest queue above that has one. Between queues it is read on the victim's side
    just below their lowest common ancestor, and from there upwards: children of one parent treat each other alike, however
    their own queues are set (KAI, `minruntime`).
    """
    mine = paths.get(victim, (victim,))
    if victim == beneficiary:
        return next((queues[name].minimum_runtime_seconds for name in mine if queues[name].minimum_runtime_seconds), 0)
    shared = set(paths.get(beneficiary, (beneficiary,)))
    own = [name for name in mine if name not in shared]
    for name in (*own[-1:], *mine[len(own) :]):
        spec = queues[name]
        if spec.reclaim_minimum_runtime_seconds is not None:
            return spec.reclaim_minimum_runtime_seconds
        if spec.minimum_runtime_seconds:
            return spec.minimum_runtime_seconds
    return 0


@dataclass(frozen=True, slots=True)
class Protection:
    """What protects running work from other work, with the facts that its rules look at.

    `ledger` holds the intervals of the control window, and `covered` what nominal quota covers, both by workload id.
    `waiting` is by workload id, `active` by attempt id.
    """

    now: datetime
    policy: Policy
    queues: Mapping[str, QueueSpec]
    paths: Paths
    ledger: Mapping[str, Sequence[Interval]]
    covered: Mapping[str, Amount]
    waiting: Mapping[str, Waiting]
    active: Mapping[str, Active]
    allowances: Allowances

    def why_not_yet(self, beneficiary: Waiting) -> Rejection | None:
        """Why nothing at all may be stopped for the workload now, or none when something may."""
        delay = self.delayed_until(beneficiary) - self.now
        if delay > timedelta():
            return Rejection(beneficiary.id, Reason.PREEMPTION_DELAYED, needs=-(-delay // timedelta(seconds=1)))
        most = self.policy.rank.crash_loop_failures
        if beneficiary.failed_in_a_row >= most:
            return Rejection(beneficiary.id, Reason.CRASH_LOOPING, needs=most, has=beneficiary.failed_in_a_row)
        return None

    def delayed_until(self, beneficiary: Waiting) -> datetime:
        """Until when nothing is stopped for the workload: it might be placed without; from the last time it came into line."""
        spec, came = beneficiary.spec, beneficiary.since or beneficiary.submitted_at
        seconds = max(spec.preemption_delay_seconds, self.policy.rank.tiers[spec.tier].preemption_delay_seconds)
        return came + timedelta(seconds=seconds) if seconds else came

    def why_spared(self, victim: Active, beneficiary: Claimant) -> Rejection | None:
        """Why this attempt may not be stopped for that workload, whatever their ranks, or none when it may."""
        return next((no for rule in RULES if (no := rule(self, victim, beneficiary)) is not None), None)

    def may_be_moved(self, victim: Active, beneficiary: Claimant) -> bool:
        """Whether the attempt may be started again elsewhere for that workload: it keeps what its queue owes it."""
        return all(rule(self, victim, beneficiary) is None for rule in RULES if rule is not is_not_owed_its_place)

    def within_budgets(self, victims: Iterable[Active], stopped: Iterable[str]) -> list[Active]:
        """Those of the victims, in turn, that every budget allows beside the attempts that this round stopped already."""
        before = [self.active[attempt_id] for attempt_id in sorted(stopped)]
        wanted = [*before, *victims]
        may = within(self.allowances, ((each.spec.queue, each.spec.tier) for each in wanted), self.paths)
        return [victim for victim, allowed in zip(wanted, may, strict=True) if allowed][len(before) :]

    def short_budgets(self, stopped: Iterable[str]) -> list[int]:
        """The budgets, by place, that this round's stops have used up; where none is, all of them, for none allows enough."""
        specs = [self.active[attempt_id].spec for attempt_id in stopped]
        spent = [
            each.index
            for each in self.allowances
            if each.left <= sum(each.concerns(spec.queue, spec.tier, self.paths) for spec in specs)
        ]
        return spent or [each.index for each in self.allowances]

    def runs_as(self, demand: Active | Waiting) -> SlaTier:
        """The tier whose promise the workload has: over quota it is basic."""
        return demand.spec.tier if self.covered.get(demand.id, 0) else SlaTier.BASIC

    def is_over_quota(self, active: Active) -> bool:
        """Whether the queue's nominal quota does not cover all that the attempt has."""
        return self.covered.get(active.id, 0) < active.milli

    def headroom(self, demand: Active | Waiting) -> MilliSeconds:
        """What its promise leaves to take, in thousandths of an accelerator times seconds."""
        guarantee = self.policy.rank.tiers[self.runs_as(demand)].guarantee
        return headroom(self.ledger.get(demand.id, ()), guarantee, self.now)

    def stop_cost(self, active: Active) -> MilliSeconds:
        """What it costs to stop the attempt now, in thousandths of an accelerator times seconds."""
        return stop_cost(active, self.policy.rank, self.now)

    def is_short(self, waiting: Waiting) -> bool:
        """Whether the workload has no headroom left, so that its promise breaks while it waits; who never ran has none."""
        return not waiting.epoch or self.headroom(waiting) <= 0

    def may_look_otherwise(self, waiting: Waiting) -> bool:
        """Whether time alone may change what the rules look at in the workload."""
        return waiting.epoch > 0 or self.delayed_until(waiting) > self.now

    def looks_at(self, waiting: Waiting) -> tuple[object, ...]:
        """What the rules look at in a workload for which others might be stopped, beside its tier and queue."""
        return self.why_not_yet(waiting) is None, waiting.relieved_by, self.runs_as(waiting), self.is_short(waiting)


Rule = Callable[[Protection, Active, Claimant], Rejection | None]


def has_run_enough(facts: Protection, victim: Active, beneficiary: Claimant) -> Rejection | None:
    """The victim has had the minimum runtime that its queue has towards the beneficiary's."""
    seconds = minimum_runtime(victim.spec.queue, beneficiary.spec.queue, facts.queues, facts.paths)
    if has_run_less_than(victim, seconds, facts.now):
        return Rejection(victim.id, Reason.MINIMUM_RUNTIME, needs=seconds)
    return None


def was_not_stopped_for_it(facts: Protection, victim: Active, beneficiary: Claimant) -> Rejection | None:
    """Nobody is stopped twice for the same beneficiary."""
    waiting = facts.waiting.get(beneficiary.id)
    return Rejection(victim.id, Reason.ALREADY_STOPPED_FOR_IT) if waiting and victim.id in waiting.relieved_by else None


def is_not_owed_its_place(facts: Protection, victim: Active, beneficiary: Claimant) -> Rejection | None:
    """Another queue takes back only what the nominal quota of the victim's own does not cover."""
    if victim.spec.queue == beneficiary.spec.queue or facts.is_over_quota(victim):
        return None
    return Rejection(victim.id, Reason.WITHIN_ITS_QUOTA, needs=victim.milli, has=facts.covered.get(victim.id, 0))


def keeps_its_promise(facts: Protection, victim: Active, beneficiary: Claimant) -> Rejection | None:
    """H >= C, unless the beneficiary falls short of a strictly higher promise. Who is promised nothing has none to lose."""
    tier = facts.runs_as(victim)
    if not facts.policy.rank.tiers[tier].guarantee:
        return None
    waiting = facts.waiting.get(beneficiary.id)
    if waiting and TIERS.index(facts.runs_as(waiting)) < TIERS.index(tier) and facts.is_short(waiting):
        return None
    left, cost = facts.headroom(victim), facts.stop_cost(victim)
    return Rejection(victim.id, Reason.PROMISE_WOULD_BREAK, needs=cost, has=left) if left < cost else None


RULES: tuple[Rule, ...] = (has_run_enough, was_not_stopped_for_it, is_not_owed_its_place, keeps_its_promise)
"""What spares running work for the sake of whom it would be stopped for; ranks and quota come on top."""


VictimOrder = tuple[int, bool, int, float, Fraction, float, str]
"""What victims are in order by (`Stoppable.order`)."""


@dataclass(frozen=True, eq=False)
class Stoppable:
    """Work that may be stopped, with what a choice among such work looks at; worked out when it is looked at.

    `standing` says whom it must give way to in its own queue. `runs_as` is the same for the order among victims: work over
    quota goes with the basic.
    """

    active: Active
    protection: "Protection" = field(repr=False)

    @property
    def queue(self) -> str:
        """The queue whose work it is."""
        return self.active.spec.queue

    @property
    def milli(self) -> Amount:
        """Thousandths of an accelerator that it has."""
        return self.active.milli

    @cached_property
    def standing(self) -> Standing:
        """Whom it must give way to in its own queue."""
        return standing(self.active.spec.tier, self.active.spec.priority)

    @cached_property
    def runs_as(self) -> Standing:
        """Where it stands among victims."""
        return standing(self.protection.runs_as(self.active), self.active.spec.priority)

    @cached_property
    def cost(self) -> MilliSeconds:
        """What it costs to stop it now."""
        return self.protection.stop_cost(self.active)

    @cached_property
    def charges(self) -> tuple[Charge, ...]:
        """The quota that it uses."""
        return charges_at(self.active, self.protection.now)

    @cached_property
    def nodes(self) -> frozenset[str]:
        """The nodes that it sits on."""
        return frozenset(share.node_id for share in self.active.placement.shares)

    def usable(self, nodes: Mapping[str, object]) -> Amount:
        """Thousandths that it has on these nodes."""
        return sum(share.room.milli for share in self.active.placement.shares if share.node_id in nodes)

    def order(self, own: str, nodes: Mapping[str, object]) -> VictimOrder:
        """Who goes first for work of the queue `own` on these nodes, by the victim order of `semantics.md` 5.

        Low tiers, borrowers before the own queue, low priorities, the least cost per accelerator that is really usable, the
        newest, and by attempt id. The float nearest to the cost mostly decides, and the cost itself where that does not tell.
        """
        tier, priority = self.runs_as
        began = self.active.started_at or self.active.held_at
        dearness = cost_per_usable(self.cost, self.usable(nodes))
        return tier, self.queue == own, priority, float(dearness), dearness, -began.timestamp(), self.active.attempt_id


def stoppable_by_sku(protection: Protection) -> Mapping[str, Sequence[Stoppable]]:
    """All work that may be stopped, by SKU: the lowest first, and among equals whoever loses least."""
    by_sku: dict[str, list[Active]] = {}
    for active in protection.active.values():
        if isstoppable(active, protection.policy, protection.now):
            for sku in active.placement.by_sku:
                by_sku.setdefault(sku, []).append(active)
    return {sku: [Stoppable(active, protection) for active in sorted(found, key=hardship)] for sku, found in by_sku.items()}


def hardship(active: Active) -> tuple[Standing, float, float, str]:
    """Lowest tier and priority, then least work lost per accelerator, then newest, then id.

    What is lost per accelerator is the time since the last checkpoint or the start; work that has not started loses nothing.
    """
    began = active.started_at or active.held_at
    saved = max(began, active.checkpoint_at or began).timestamp() if active.started_at else float("inf")
    return standing(active.spec.tier, active.spec.priority), -saved, -began.timestamp(), active.attempt_id
