"""Fixes: the cheapest smallest changes that would start a waiting workload, each tried before it is offered."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import chain, islice, takewhile
from typing import TypeVar

from corral.api import (
    WHOLE,
    BudgetChange,
    BudgetUnit,
    Explanation,
    Fix,
    FixKind,
    QueueSpec,
    QuotaChange,
    Reason,
    Spread,
    StopPolicy,
    Target,
    Topology,
)
from corral.policy import Exactness
from domain.budgets import ONE, Balance, called
from domain.decision import Wait
from domain.explanation import amount
from domain.facts import Facts
from domain.feasibility import LASTING_FILTERS, sift
from domain.fleet import Amount, Health, Node
from domain.isolation import schedule_around, with_turns_for
from domain.quota import QuotaTree
from domain.request import Request, requests
from domain.round import who_starts
from domain.snapshot import Snapshot
from domain.standing import TIERS
from domain.stock import NodeRoom
from domain.whatif import applied, expected_end
from domain.workload import Active, Waiting, length_of
from domain.world import World

Option = TypeVar("Option")

HOUR = 3_600
DOLLAR = 1_000_000

INCONVENIENCE = 0.05
"""Dollars per accelerator and hour of giving up a wish: a topology, an aversion to a taint, protection from preemption."""

PERMISSION = 0.10
"""Share of the price that a lasting right costs: quota, a queue opened, a node put back."""

RESTART_SECONDS = 600
"""What a stop costs beside lost work and grace: until the work is back in line, placed and restored."""

HIGHEST_PRIORITY = 1_000
MOST_RIGHTS = 2
FEWEST_TRIALS = 30
TRIAL_WORK = 15_000
"""Trials times nodes and workloads: a trial takes time in proportion to what there is in the pool."""

MOST_FIXES = 3
MOST_MOMENTS = 64
MOST_DROPPED = 24


GoOn = Callable[[], bool]
"""Asked before each trial; once it says no, the search ends with what it has found."""


def for_ever() -> bool:
    """Whoever asks has all the time that the trials take."""
    return True


@dataclass
class Trials:
    """How many more rounds may be tried, so that an answer for a large pool takes no longer than one for a small one."""

    left: int
    go_on: GoOn = for_ever

    @classmethod
    def for_pool(cls, snapshot: Snapshot, go_on: GoOn = for_ever) -> "Trials":
        """Fewer the more there is to decide about."""
        size = len(snapshot.nodes) + len(snapshot.active) + len(snapshot.waiting)
        return cls(max(FEWEST_TRIALS, TRIAL_WORK // size), go_on)

    @property
    def are_over(self) -> bool:
        """Whether none is left, or nobody has time for more."""
        if self.left > 0 and not self.go_on():
            self.left = 0
        return self.left <= 0

    def take(self) -> bool:
        """Use one up; false when none is left."""
        if self.are_over:
            return False
        self.left -= 1
        return True


@dataclass(frozen=True)
class Question:
    """A workload that waits in a pool; every answer is found by deciding a round of the changed pool."""

    workload: Waiting
    snapshot: Snapshot
    now: datetime
    trials: "Trials"
    tried: dict[Fix, bool] = field(default_factory=dict)

    def may_start_with(self, fix: Fix) -> bool:
        """Whether a round about it alone would start the workload after the fix: a quick look; no when no trial is left."""
        if fix not in self.tried:
            alone = replace(self.snapshot, waiting=(self.workload,))
            self.tried[fix] = self.trials.take() and self._starts(fix, alone)
        return self.tried[fix]

    def starts_with(self, fix: Fix) -> bool:
        """Whether the next round, in which all others have their turns, would start the workload after the fix."""
        if not self.may_start_with(fix):
            return False
        return len(self.snapshot.waiting) == 1 or (self.trials.take() and self._starts(fix, self.snapshot))

    def _starts(self, fix: Fix, snapshot: Snapshot) -> bool:
        changed, then = applied(fix, self.workload.id, snapshot, self.now)
        return self.workload.id in who_starts(changed, then)

    @cached_property
    def facts(self) -> Facts:
        """What the pool is."""
        return Facts.of(self.snapshot, self.now)

    @cached_property
    def open_requests(self) -> list[Request]:
        """What the workload asks for by now; everything it asks for while nothing is open."""
        asked = requests(self.workload)
        return [request for request in asked if request.opens_at <= self.now] or list(asked)

    @cached_property
    def acceptable(self) -> list[Node]:
        """Nodes that the workload takes, whatever their health."""
        return [entry.node for request in self.open_requests for entry in _accepted(request, self.facts)]

    @cached_property
    def milli(self) -> Amount:
        """Thousandths of an accelerator that its smallest request needs; one at least, so that nothing is free of charge."""
        return max(1, min(request.gang.minimum_milli for request in self.open_requests))

    @property
    def hours(self) -> float:
        """How long the workload expects to run; one hour where it does not say."""
        return (self.workload.spec.expected_seconds or HOUR) / HOUR

    @cached_property
    def price(self) -> float:
        """Dollars per accelerator and hour of what it asks for, or of the whole fleet if nothing fits; one if it is free."""
        return _mean_price(self.acceptable or self.snapshot.nodes) or 1.0

    def dollars(self, per_hour: float, milli: Amount | None = None) -> float:
        """What so many dollars per accelerator and hour make over the workload's life."""
        return round(per_hour * (self.milli if milli is None else milli) / WHOLE * self.hours, 4)


Finder = Callable[[Question], Iterable[Fix]]


def explained_now(workload_id: str, snapshot: Snapshot, now: datetime, *, go_on: GoOn = for_ever) -> Explanation | None:
    """Why a waiting workload waits as things stand, with its fixes and its position; none when it need not wait."""
    plan, _ = schedule_around(decided_fast(snapshot), now)
    waits = {decision.workload_id: decision.explanation for decision in plan.decisions if isinstance(decision, Wait)}
    if workload_id not in waits:
        return None
    specs = {workload.id: workload.spec for workload in snapshot.waiting}
    line = [id for id in waits if specs[id].queue == specs[workload_id].queue]
    aside = {id for id, said in waits.items() if said.reason is Reason.INTERNAL_ERROR}
    decidable = with_turns_for([workload for workload in snapshot.waiting if workload.id not in aside], snapshot)
    fixes = () if workload_id in aside else cheapest_fixes(workload_id, decidable, now, go_on=go_on)
    return waits[workload_id].model_copy(update={"fixes": fixes, "position": line.index(workload_id) + 1})


def cheapest_fixes(
    workload_id: str, snapshot: Snapshot, now: datetime, most: int = MOST_FIXES, *, go_on: GoOn = for_ever
) -> tuple[Fix, ...]:
    """The cheapest changes that start the workload, each found true by deciding the changed pool."""
    workload = next(workload for workload in snapshot.waiting if workload.id == workload_id)
    question = Question(workload, decided_fast(snapshot), now, Trials.for_pool(snapshot, go_on))
    for rights in range(MOST_RIGHTS + 1):
        if found := tuple(islice(_true(_offers(question, rights, FINDERS), question), most)):
            return found
    return ()


def decided_fast(snapshot: Snapshot) -> Snapshot:
    """The same where plans are not compared: who starts does not depend on which of several plans is the least."""
    rank = snapshot.policy.rank
    greedy = rank.disruption.model_copy(update={"exact": Exactness(nodes=0)})
    policy = snapshot.policy.model_copy(update={"rank": rank.model_copy(update={"disruption": greedy})})
    return replace(snapshot, policy=policy)


def _offers(question: Question, rights: int, finders: Sequence[Finder]) -> Iterator[Fix]:
    """Changes that may be enough; where no single one is, a right, and what becomes possible with it."""
    tried = (find(question) for find in (RIGHTS if rights else finders) if not question.trials.are_over)
    changes = chain.from_iterable(tried)
    if rights == 0:
        yield from changes
        return
    for right in takewhile(lambda _: not question.trials.are_over, changes):
        snapshot, now = applied(right, question.workload.id, question.snapshot, question.now)
        workload = next(workload for workload in snapshot.waiting if workload.id == question.workload.id)
        yield from (
            _together(right, fix) for fix in _offers(Question(workload, snapshot, now, question.trials), rights - 1, NEXT)
        )


def _together(one: Fix, other: Fix) -> Fix:
    said = {field: value for fix in (one, other) for field, value in fix if value not in (None, ())}
    both = {"message": f"{one.message}, and {other.message}", "cost": round(one.cost + other.cost, 4)}
    return Fix.model_validate({**said, **both, "kind": FixKind.SEVERAL, "quotas": _summed((*one.quotas, *other.quotas))})


def _summed(changes: Iterable[QuotaChange]) -> tuple[QuotaChange, ...]:
    """One change for each queue and SKU."""
    sums: dict[tuple[str, str], QuotaChange] = {}
    for change in changes:
        before = sums.get((change.queue, change.sku), QuotaChange(queue=change.queue, sku=change.sku))
        more = {"nominal": before.nominal + change.nominal, "cap": before.cap + change.cap}
        sums[change.queue, change.sku] = before.model_copy(update=more)
    return tuple(sums[key] for key in sorted(sums))


def _true(offers: Iterable[Fix], question: Question) -> Iterator[Fix]:
    """Those that do start the workload, the cheapest first."""
    return (fix for fix in sorted(offers, key=_cheapness) if question.starts_with(fix))


def for_tenant(fix: Fix) -> Fix:
    """The fix as a tenant may see it: without the names of whom it would stop."""
    return fix.model_copy(update={"victims": ()})


def _cheapness(fix: Fix) -> tuple[float, str, str]:
    return fix.cost, fix.kind, fix.message


# What the owner can change


def other_targets(question: Question) -> Iterator[Fix]:
    """Accept what no target accepts so far: other SKUs, regions, providers or capacity types, or all of them."""
    seen = set()
    for request in question.open_requests:
        for fields in RELAXATIONS:
            given = {field: () for field in fields if getattr(request.target, field)}
            target = request.target.model_copy(update={**given, "after_seconds": 0})
            if len(given) == len(fields) and target not in seen:
                seen.add(target)
                yield from _add_target(question, request, target, fields)


RELAXATIONS = (
    ("skus",),
    ("regions",),
    ("providers",),
    ("capacity_types",),
    ("skus", "regions"),
    ("skus", "regions", "providers", "capacity_types"),
)
WORDS = {"skus": "SKU", "regions": "region", "providers": "provider", "capacity_types": "capacity type"}


def _add_target(question: Question, request: Request, target: Target, fields: Sequence[str]) -> Iterator[Fix]:
    nodes = [entry.node for entry in _accepted(replace(request, target=target), question.facts)]
    if not nodes:
        return
    dearer = max(0.0, _mean_price(nodes) - question.price)
    yield Fix(
        kind=FixKind.ADD_TARGET,
        message=f"accept any {' and '.join(WORDS[field] for field in fields)}",
        cost=question.dollars(dearer + INCONVENIENCE * len(fields)),
        target=target,
    )


def less(question: Question) -> Iterator[Fix]:
    """Ask for as many replicas of the first group as would start; fewer fit wherever more do."""
    if len(question.workload.spec.groups) > 1 or question.workload.spec.tasks is not None:
        return
    for request in question.open_requests:
        fewest = request.gang.shapes[0].minimum
        offers = [_less(question, request, count) for count in range(fewest - 1, 0, -1)]
        if (most := _first(offers, question.may_start_with)) is not None:
            yield most


def _less(question: Question, request: Request, count: int) -> Fix:
    shape = request.gang.shapes[0]
    missing = (shape.minimum - count) * shape.milli
    return Fix(
        kind=FixKind.ASK_FOR_LESS,
        message=f"ask for {count} replicas instead of {shape.minimum}" if count > 1 else "ask for 1 replica",
        cost=question.dollars(question.price, missing),
        target=request.target.model_copy(update={"count": count, "after_seconds": 0}),
    )


def wider_topology(question: Question) -> Iterator[Fix]:
    """Require a wider level, or none at all; the wish for the narrow one stays."""
    topology = question.workload.spec.topology
    if topology.required is None:
        return
    levels = sorted({_levels_above(node, topology.required) for node in question.acceptable}, key=len, reverse=True)
    for steps, level in enumerate((*reversed(levels[0] if levels else ()), None), start=1):
        where = f"in one {level}" if level else "anywhere in one region"
        yield Fix(
            kind=FixKind.WIDEN_TOPOLOGY,
            message=f"require it {where} instead of in one {topology.required}",
            cost=question.dollars(INCONVENIENCE * steps),
            topology=topology.model_copy(update={"required": level, "preferred": topology.preferred or topology.required}),
        )


def closer_together(question: Question) -> Iterator[Fix]:
    """Let more replicas sit in one domain than the spread allows: as few more as are enough."""
    topology = question.workload.spec.topology
    spread = topology.spread
    if spread is None or spread.worth is not None:
        return
    largest = max(shape.count for request in question.open_requests for shape in request.gang.shapes)
    offers = [_closer(question, topology, spread, maximum) for maximum in range(spread.maximum + 1, largest + 1)]
    if (least := _first(offers, question.may_start_with)) is not None:
        yield least


def _closer(question: Question, topology: Topology, spread: Spread, maximum: int) -> Fix:
    wider = spread.model_copy(update={"maximum": maximum})
    return Fix(
        kind=FixKind.WIDEN_TOPOLOGY,
        message=f"let {maximum} replicas sit in one {spread.level} instead of {spread.maximum}",
        cost=question.dollars(INCONVENIENCE),
        topology=topology.model_copy(update={"spread": wider}),
    )


def _levels_above(node: Node, level: str) -> tuple[str, ...]:
    names = [name for name, _ in node.topology]
    return tuple(names[: names.index(level)]) if level in names else ()


def tolerations(question: Question) -> Iterator[Fix]:
    """Tolerate the taints of each kind of node that is tainted."""
    known = set(question.workload.spec.tolerations)
    for taints in sorted({frozenset(node.taints) - known for node in question.snapshot.nodes}, key=sorted):
        if taints:
            yield Fix(
                kind=FixKind.TOLERATE,
                message=f"tolerate {', '.join(sorted(taints))}",
                cost=question.dollars(INCONVENIENCE),
                tolerations=tuple(sorted(taints)),
            )


def less_protection(question: Question) -> Iterator[Fix]:
    """Let it be preempted: then it may borrow."""
    if not question.workload.spec.preemptible:
        message = "let it be preemptible, so that it may use quota beyond nominal"
        yield Fix(kind=FixKind.BE_PREEMPTIBLE, message=message, cost=question.dollars(INCONVENIENCE), preemptible=True)


def precedence(question: Question) -> Iterator[Fix]:
    """Go before everybody else who waits, by priority in the same tier, or by a higher tier."""
    mine = question.workload.spec
    others = [
        other.spec.priority
        for other in question.snapshot.waiting
        if other.id != question.workload.id and other.spec.tier is mine.tier
    ]
    cost = question.dollars(PERMISSION * question.price)
    if others and mine.priority <= max(others) < HIGHEST_PRIORITY:
        message = f"raise its priority to {max(others) + 1}, above all who wait in its tier"
        yield Fix(kind=FixKind.GO_FIRST, message=message, cost=cost, priority=max(others) + 1)
    for steps, tier in enumerate(reversed(TIERS[: TIERS.index(mine.tier)]), start=1):
        cost = question.dollars(PERMISSION * question.price * (1 + steps))
        yield Fix(kind=FixKind.GO_FIRST, message=f"submit it as {tier}", cost=cost, tier=tier)


# What time brings


def patience(question: Question) -> Iterator[Fix]:
    """Wait until targets open, work is expected to end, a protection is over or a grant begins: the first time that helps."""
    for found in (_moments(question), _moments_of_budgets(question)):
        moments = sorted({moment for moment in found if moment > question.now})[:MOST_MOMENTS]
        first = _first([_wait(question, moment) for moment in moments], question.may_start_with)
        if first is not None:
            yield first
            return


def _wait(question: Question, until: datetime) -> Fix:
    seconds = -((question.now - until) // timedelta(seconds=1))
    cost = round(question.price * question.milli / WHOLE * seconds / HOUR, 4)
    return Fix(kind=FixKind.WAIT, message=f"wait {_duration(seconds)}", cost=cost, wait_seconds=seconds)


def _moments(question: Question) -> Iterator[datetime]:
    workload, facts = question.workload, question.facts
    yield from (request.opens_at for request in requests(workload))
    if workload.spec.earliest_start is not None:
        yield workload.spec.earliest_start
    yield workload.submitted_at + timedelta(seconds=workload.spec.preemption_delay_seconds)
    for queue in facts.queues.values():
        for row in queue.quotas:
            yield from (moment for moment in (row.valid_from, row.valid_until) if moment is not None)
    yield from (booking.closes_at for booking in question.snapshot.bookings)
    for active in question.snapshot.active:
        yield from _moments_of(active, question)
    yield from _moments_of_budgets(question)


def _moments_of_budgets(question: Question) -> Iterator[datetime]:
    for price in _prices(question):
        for _, balance, missing in _short_budgets(question, price):
            yield from balance.back(question.now, missing)


def _moments_of(active: Active, question: Question) -> Iterator[datetime]:
    if (end := expected_end(active)) is not None:
        yield end
    if active.preempted:
        yield question.now + timedelta(seconds=max(1, active.spec.checkpoint.grace_seconds))
    if active.started_at is not None:
        queue = question.facts.queues.get(active.spec.queue)
        tier = question.facts.policy.rank.tiers[active.spec.tier].minimum_runtime_seconds
        yield active.started_at + timedelta(seconds=max(tier, queue.minimum_runtime_seconds if queue else 0))


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{-(-seconds // 60)} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"


# What owners of queues and operators can change


def more_quota(question: Question) -> Iterator[Fix]:
    """Raise the rows that are short by what is missing, or until it need not borrow, for each SKU that the workload takes."""
    for request in question.open_requests:
        for sku in sorted({node.sku for node in question.acceptable}):
            for changes in sorted({_raises(question, request, sku), _owned(question, request, sku)} - {()}, key=str):
                milli = max(max(change.nominal, change.cap) for change in changes) * WHOLE
                yield Fix(
                    kind=FixKind.RAISE_QUOTA,
                    message=" and ".join(_raise_in_words(change) for change in changes),
                    cost=question.dollars(PERMISSION * question.price, milli),
                    quotas=changes,
                )


def _owned(question: Question, request: Request, sku: str) -> tuple[QuotaChange, ...]:
    """What its own queue lacks to live on what it owns with the workload: it then goes before those who borrow."""
    queue, usage = request.spec.queue, World.of(question.snapshot, question.facts.tree).usage
    missing = usage.use(queue, sku).total + request.gang.minimum_milli - question.facts.tree.nominal(queue, sku)
    return (QuotaChange(queue=queue, sku=sku, nominal=-(-missing // WHOLE)),) if missing > 0 else ()


def _raises(question: Question, request: Request, sku: str) -> tuple[QuotaChange, ...]:
    """The changes after which quota no longer says no, found one shortage after the other."""
    spec = request.spec
    changes: dict[str, QuotaChange] = {}
    for _ in range(2 * len(question.facts.tree.paths[spec.queue]) + 1):
        rejection = _shortage(question, tuple(changes.values()), request, sku)
        if rejection is None:
            return tuple(changes[name] for name in sorted(changes))
        candidate, reason, missing = rejection
        before = changes.get(candidate, QuotaChange(queue=candidate, sku=sku))
        field = "cap" if reason is Reason.QUEUE_CAP_REACHED else "nominal"
        changes[candidate] = before.model_copy(update={field: getattr(before, field) + max(1, -(-missing // WHOLE))})
    return ()


def _shortage(
    question: Question, changes: tuple[QuotaChange, ...], request: Request, sku: str
) -> tuple[str, Reason, Amount] | None:
    spec, needed = request.spec, request.gang.minimum_milli
    fix = Fix(kind=FixKind.RAISE_QUOTA, message="", cost=0, quotas=changes)
    changed, now = applied(fix, question.workload.id, question.snapshot, question.now)
    usage = World.of(changed, QuotaTree.at(changed.queues, now)).usage
    rejection = usage.rejection(spec.queue, sku, needed, preemptible=spec.preemptible)
    return None if rejection is None else (rejection.candidate, rejection.reason, rejection.needs - rejection.has)


def _raise_in_words(change: QuotaChange) -> str:
    parts = [f"the {word} by {number}" for word, number in (("nominal", change.nominal), ("cap", change.cap)) if number]
    return f"raise {' and '.join(parts)} {change.sku} in queue {change.queue}"


def more_budget(question: Question) -> Iterator[Fix]:
    """Raise the hard budgets that are short by what is missing, if it gets the cheapest nodes that it takes or the dearest."""
    for price in _prices(question):
        missing: dict[tuple[str, int], int] = {}
        for queue, balance, short in _short_budgets(question, price):
            place = next(i for i, each in enumerate(question.facts.queues[queue].budgets) if each is balance.budget)
            missing[queue, place] = max(missing.get((queue, place), 0), -(-short // ONE[balance.budget.unit]))
        if missing:
            changes = [BudgetChange(queue=queue, place=place, amount=more) for (queue, place), more in missing.items()]
            yield _raise_budgets(question, changes)


def _raise_budgets(question: Question, changes: Sequence[BudgetChange]) -> Fix:
    budgets = [question.facts.queues[change.queue].budgets[change.place] for change in changes]
    said = (f"{called(each.queue, budget)} by {each.amount}" for each, budget in zip(changes, budgets, strict=True))
    dollars = sum(
        each.amount * (1 if budget.unit is BudgetUnit.DOLLARS else question.price)
        for each, budget in zip(changes, budgets, strict=True)
    )
    return Fix(
        kind=FixKind.RAISE_BUDGET,
        message=f"raise the budget of {' and of '.join(said)}",
        cost=round(PERMISSION * dollars, 4),
        budgets=tuple(changes),
    )


def _short_budgets(question: Question, price: int) -> Iterator[tuple[str, Balance, int]]:
    """Hard budgets on the way to the root that do not pay for its smallest request at this price, and what is missing."""
    spec, milli = question.workload.spec, question.milli
    committed = World.of(question.snapshot, question.facts.tree).usage.committed
    for account, balance in question.facts.tree.balances_of(spec.queue):
        if missing := balance.missing(milli, milli * price, length_of(spec), committed.get(account, 0)):
            yield account[0], balance, missing


def _prices(question: Question) -> list[int]:
    """What an accelerator costs in an hour on the cheapest and on the dearest nodes that it takes."""
    prices = [node.price for node in question.acceptable]
    return sorted({min(prices), max(prices)}) if prices else []


def open_queues(question: Question) -> Iterator[Fix]:
    """Open the queues on the way to the root that are stopped."""
    path = question.facts.tree.paths[question.workload.spec.queue]
    stopped = tuple(name for name in path if _is_stopped(question.facts.queues[name]))
    if stopped:
        message = f"open queue {' and '.join(stopped)}"
        cost = question.dollars(PERMISSION * question.price)
        yield Fix(kind=FixKind.OPEN_QUEUE, message=message, cost=cost, queues=stopped)


def _is_stopped(queue: QueueSpec) -> bool:
    return queue.stop is not StopPolicy.OPEN


def nodes_back(question: Question) -> Iterator[Fix]:
    """Put cordoned nodes that it takes back to work: as few as are enough."""
    cordoned = _cordoned(question)
    offers = [_uncordon(question, cordoned[:number]) for number in range(1, len(cordoned) + 1)]
    if (fewest := _first(offers, question.may_start_with)) is not None:
        yield fewest


def every_node_back(question: Question) -> Iterator[Fix]:
    """Put all cordoned nodes that it takes back to work."""
    if cordoned := _cordoned(question):
        yield _uncordon(question, cordoned)


def _cordoned(question: Question) -> list[str]:
    return sorted({node.id for node in question.acceptable if node.health is Health.CORDONED})


def _uncordon(question: Question, nodes: Sequence[str]) -> Fix:
    message = f"uncordon {', '.join(nodes)}" if len(nodes) <= 3 else f"uncordon {len(nodes)} nodes"
    cost = question.dollars(PERMISSION * question.price * len(nodes))
    return Fix(kind=FixKind.UNCORDON, message=message, cost=cost, nodes=tuple(nodes))


def stops(question: Question) -> Iterator[Fix]:
    """Stop work that its protection keeps from being preempted: the cheapest first, and none that is not needed."""
    acceptable = {node.sku for node in question.acceptable}
    possible = sorted(
        (each for each in question.snapshot.active if each.spec.preemptible and acceptable & each.placement.by_sku.keys()),
        key=lambda each: (_loss(each, question.now) / max(1, each.milli), each.attempt_id),
    )
    offers = [possible[:number] for number in range(1, len(possible) + 1)]
    victims = _first(offers, lambda victims: question.may_start_with(_stop(question, victims)))
    if victims is not None:
        yield _stop(question, _needed(question, victims))


def _needed(question: Question, victims: list[Active]) -> list[Active]:
    """The victims without those that turn out not to be needed, the dearest tried first."""
    for spared in sorted(victims, key=lambda each: (-_loss(each, question.now), each.attempt_id))[:MOST_DROPPED]:
        fewer = [victim for victim in victims if victim is not spared]
        if fewer and question.may_start_with(_stop(question, fewer)):
            victims = fewer
    return victims


def _stop(question: Question, victims: Sequence[Active]) -> Fix:
    milli = sum(victim.milli for victim in victims)
    loss = sum(_loss(victim, question.now) for victim in victims)
    work = "1 running workload" if len(victims) == 1 else f"{len(victims)} running workloads"
    return Fix(
        kind=FixKind.STOP_OTHERS,
        message=f"stop {work} with {amount(milli)} accelerators, losing {loss / WHOLE / HOUR:.1f} accelerator-hours",
        cost=round(question.price * loss / WHOLE / HOUR, 4),
        victims=tuple(sorted(victim.id for victim in victims)),
    )


def _loss(active: Active, now: datetime) -> int:
    """Thousandths of an accelerator times seconds: what was done since the last checkpoint, the grace and the restart."""
    saved = max(active.started_at, active.checkpoint_at or active.started_at) if active.started_at else now
    return active.milli * (
        max(0, (now - saved) // timedelta(seconds=1)) + active.spec.checkpoint.grace_seconds + RESTART_SECONDS
    )


FINDERS: tuple[Finder, ...] = (
    other_targets,
    less,
    wider_topology,
    closer_together,
    tolerations,
    less_protection,
    precedence,
    patience,
    more_quota,
    more_budget,
    open_queues,
    nodes_back,
    stops,
)
"""One finder a kind of change."""

NEXT: tuple[Finder, ...] = (less, patience, more_quota, nodes_back, stops)
"""What may become possible with a right."""

RIGHTS: tuple[Finder, ...] = (
    precedence,
    more_quota,
    more_budget,
    open_queues,
    less_protection,
    other_targets,
    tolerations,
    every_node_back,
)
"""Changes that alone may do nothing, because something else is short as well."""


def _first(options: Sequence[Option], helps: Callable[[Option], bool]) -> Option | None:
    """The first that helps, if whatever comes after one that helps does so too; none where the last does not."""
    if not options or not helps(options[-1]):
        return None
    return options[bisect_left(options[:-1], True, key=helps)]


def _accepted(request: Request, facts: Facts) -> list[NodeRoom]:
    classes = [traits for found in sift(request, facts.idle, LASTING_FILTERS).classes.values() for traits in found]
    return [entry for traits in classes for entry in facts.idle.classes[traits]]


def _mean_price(nodes: Sequence[Node]) -> float:
    return sum(node.price for node in nodes) / len(nodes) / DOLLAR if nodes else 0.0
