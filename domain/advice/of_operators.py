"""What owners of queues and operators can change so that a workload starts."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from corral.api import (
    WHOLE,
    BudgetChange,
    BudgetUnit,
    Fix,
    FixKind,
    QueueSpec,
    QuotaChange,
    Reason,
    StopPolicy,
    UserLimit,
    UserLimitChange,
)
from domain.advice.question import HOUR, PERMISSION, Question, first_that_helps, prices, short_budgets
from domain.advice.whatif import applied
from domain.explanation.wording import amount
from domain.pool.fleet import Amount, Health
from domain.pool.workload import Active
from domain.quota.budgets import ONE, called
from domain.quota.limits import NOTHING, Held
from domain.quota.tree import QuotaTree
from domain.worlds.request import Request
from domain.worlds.world import World

RESTART_SECONDS = 600
"""What a stop costs beside lost work and grace: until the work is back in line, placed and restored."""
SET_ASIDE = frozenset({Health.CORDONED, Health.DRAINING})
"""What operators did to nodes, and may undo."""

MOST_DROPPED = 24
"""So many victims, the dearest, are looked at for whether one could do without."""


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
    for price in prices(question):
        missing: dict[tuple[str, int], int] = {}
        for queue, balance, short in short_budgets(question, price):
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


def higher_user_limits(question: Question) -> Iterator[Fix]:
    """Let its user have what it asks for beside what that one has, in each queue up to the root that allows less."""
    spec, held = question.workload.spec, World.of(question.snapshot, question.facts.tree).usage.users
    found = ((queue, limit, held.get((queue, spec.user), NOTHING)) for queue, limit in question.facts.tree.limits_on(spec))
    raised = [(queue, limit, _enough(question, limit, has)) for queue, limit, has in found]
    changes = [(queue, limit, higher) for queue, limit, higher in raised if _is_higher(higher, limit)]
    if changes:
        more = max(((higher.accelerators or 0) - (limit.accelerators or 0) for _, limit, higher in changes), default=0)
        yield Fix(
            kind=FixKind.RAISE_USER_LIMIT,
            message="let " + " and ".join(_limit_in_words(*change) for change in changes),
            cost=question.dollars(PERMISSION * question.price, max(1, more) * WHOLE),
            user_limits=tuple(UserLimitChange(queue=queue, limit=higher) for queue, _, higher in changes),
        )


def _enough(question: Question, limit: UserLimit, has: Held) -> UserLimit:
    """The limit that allows the workload too, for its user alone where that one is known by name."""
    user = question.workload.spec.user
    accelerators = None if limit.accelerators is None else max(limit.accelerators, -(-(has.milli + question.milli) // WHOLE))
    running = None if limit.running is None else max(limit.running, has.workloads + 1)
    return UserLimit(user=user, accelerators=accelerators, running=running)


def _is_higher(higher: UserLimit, limit: UserLimit) -> bool:
    return (higher.accelerators, higher.running) != (limit.accelerators, limit.running)


def _limit_in_words(queue: str, limit: UserLimit, higher: UserLimit) -> str:
    numbers = (
        ("have", "accelerators", higher.accelerators, limit.accelerators),
        ("run", "workloads", higher.running, limit.running),
    )
    said = (f"{verb} {most} {of} instead of {before}" for verb, of, most, before in numbers if most != before)
    return f"{higher.user or 'whoever names no user'} {' and '.join(said)} in queue {queue}"


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
    """Put cordoned nodes that it takes, and that are ready but for that, back to work: as few as are enough."""
    cordoned = _cordoned(question)
    offers = [_uncordon(question, cordoned[:number]) for number in range(1, len(cordoned) + 1)]
    if (fewest := first_that_helps(offers, question.may_start_with)) is not None:
        yield fewest


def every_node_back(question: Question) -> Iterator[Fix]:
    """Put all cordoned nodes that it takes back to work."""
    if cordoned := _cordoned(question):
        yield _uncordon(question, cordoned)


def _cordoned(question: Question) -> list[str]:
    found = (node for node in question.acceptable if node.health in SET_ASIDE and node.observed is Health.READY)
    return sorted({node.id for node in found})


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
    victims = first_that_helps(offers, lambda victims: question.may_start_with(_stop(question, victims)))
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
