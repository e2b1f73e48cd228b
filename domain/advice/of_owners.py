"""What the owner of a workload can change so that it starts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from corral.api import WHOLE, Fix, FixKind, Spread, Target, Topology
from domain.advice.question import (
    HOUR,
    INCONVENIENCE,
    PERMISSION,
    Question,
    accepted,
    first_that_helps,
    mean_price,
    prices,
    short_budgets,
)
from domain.advice.whatif import expected_end
from domain.explanation.wording import moment
from domain.pool.fleet import Node
from domain.pool.standing import TIERS
from domain.pool.workload import Active
from domain.worlds.request import Request, requests

DAY = 24 * HOUR
HIGHEST_PRIORITY = 1_000
MOST_MOMENTS = 64
"""So many moments are reckoned with when it is asked how long to wait, the next ones."""


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
    nodes = [entry.node for entry in accepted(replace(request, target=target), question.facts)]
    if not nodes:
        return
    dearer = max(0.0, mean_price(nodes) - question.price)
    yield Fix(
        kind=FixKind.ADD_TARGET,
        message=f"accept any {' and '.join(WORDS[field] for field in fields)}",
        cost=question.dollars(dearer + INCONVENIENCE * len(fields)),
        target=target,
    )


def fewer_replicas(question: Question) -> Iterator[Fix]:
    """Ask for as many replicas of the first group as would start; fewer fit wherever more do."""
    if len(question.workload.spec.groups) > 1 or question.workload.spec.tasks is not None:
        return
    for request in question.open_requests:
        fewest = request.gang.shapes[0].minimum
        offers = [_with_replicas(question, request, count) for count in range(fewest - 1, 0, -1)]
        if (most := first_that_helps(offers, question.may_start_with)) is not None:
            yield most


def _with_replicas(question: Question, request: Request, count: int) -> Fix:
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
    if (least := first_that_helps(offers, question.may_start_with)) is not None:
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
    """Wait until targets open, work is expected to end, a protection is over or a grant begins: the first time that helps.

    What a budget gives back helps from then on, whereas by the last of all moments a grant may have ended: where that one
    does not help, budgets are asked about alone.
    """
    for found in (_moments(question), _moments_of_budgets(question)):
        moments = sorted({moment for moment in found if moment > question.now})[:MOST_MOMENTS]
        first = first_that_helps([_wait(question, moment) for moment in moments], question.may_start_with)
        if first is not None:
            yield first
            return


def _wait(question: Question, until: datetime) -> Fix:
    seconds = -((question.now - until) // timedelta(seconds=1))
    cost = round(question.price * question.milli / WHOLE * seconds / HOUR, 4)
    return Fix(kind=FixKind.WAIT, message=f"wait {_in_words(seconds, until)}", cost=cost, wait_seconds=seconds)


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
    for price in prices(question):
        for _, balance, missing in short_budgets(question, price):
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


def _in_words(seconds: int, until: datetime) -> str:
    """A time to wait in the unit in which people count it; where that would be months, its end."""
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 2 * HOUR:
        return f"{-(-seconds // 60)} min"
    if seconds < 2 * DAY:
        return f"{seconds / HOUR:.1f} h"
    return f"{-(-seconds // DAY)} days" if seconds < 60 * DAY else f"until {moment(until)}"
