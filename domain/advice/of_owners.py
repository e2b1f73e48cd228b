"""What the owner of a workload can change so that it starts."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from corral.api import WHOLE, Autoscale, Fix, FixKind, ReplicaGroup, Spread, Target, Topology, WorkloadTerms
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
from domain.explanation.wording import moment, so_many_replicas
from domain.pool.bookings import engagement_of
from domain.pool.fleet import NODE_LEVEL, Amount, Node
from domain.pool.standing import HIGHEST_PRIORITY, TIERS
from domain.pool.workload import Active
from domain.worlds.request import Request, requests

DAY = 24 * HOUR
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


def less_choosy(question: Question) -> Iterator[Fix]:
    """Let a group that names SKUs, levels or labels of its own sit on nodes without them."""
    groups = question.workload.spec.groups
    for group in groups:
        left = {name: {key: of for key, of in group.nodes.items() if key != name} for name in group.nodes}
        given: list[tuple[str, dict[str, object]]] = [(name, {"nodes": others}) for name, others in left.items()]
        given += [("SKU", {"skus": ()})] if group.skus else []
        given += [(" and ".join((*group.nodes, "SKU")), {"nodes": {}, "skus": ()})] if group.skus and group.nodes else []
        for name, update in given:
            yield Fix(
                kind=FixKind.ADD_TARGET,
                message=f"accept any {name}{_for(group, groups)}",
                cost=question.dollars(INCONVENIENCE * (name.count(" and ") + 1)),
                groups=_instead(groups, group, update),
            )


def _for(group: ReplicaGroup, groups: Sequence[ReplicaGroup]) -> str:
    return f" for group {group.name}" if len(groups) > 1 else ""


def _instead(groups: Sequence[ReplicaGroup], group: ReplicaGroup, update: Mapping[str, object]) -> tuple[ReplicaGroup, ...]:
    return tuple(each.model_copy(update=update) if each is group else each for each in groups)


def fewer_replicas(question: Question) -> Iterator[Fix]:
    """Ask for as many replicas of a group, or of all groups together, as would start; fewer fit wherever more do."""
    for offers in _fewer(question):
        if (most := first_that_helps(offers, question.may_start_with)) is not None:
            yield most


def half_as_many(question: Question) -> Iterator[Fix]:
    """Ask for a half of the replicas, a quarter and so on, whether or not that alone is of any use."""
    for offers in _fewer(question):
        yield from (offers[len(offers) - 2**power] for power in reversed(range(len(offers).bit_length())))


def _fewer(question: Question) -> Iterator[list[Fix]]:
    """Ways to ask for fewer replicas, each one by one down to a single replica."""
    spec = question.workload.spec
    first, *others = spec.groups
    if spec.minimum_replicas is not None:
        yield [_with_fewest(question, fewest) for fewest in range(spec.minimum_replicas - 1, 0, -1)]
    if spec.tasks is not None:
        return
    if spec.autoscale is not None:
        yield [_with_minimum(question, first, spec.autoscale, count) for count in range(first.fewest - 1, 0, -1)]
    else:
        for request in question.open_requests:
            fewest = request.gang.shapes[0].minimum
            yield [_with_replicas(question, request, count) for count in range(fewest - 1, 0, -1)]
    for group in others:
        yield [_with_fewer_of(question, group, count) for count in range(group.fewest - 1, 0, -1)]


def _so_many(count: int, instead_of: int) -> str:
    return f"ask for {count} replicas instead of {instead_of}" if count > 1 else "ask for 1 replica"


def _with_replicas(question: Question, request: Request, count: int) -> Fix:
    shape, groups = request.gang.shapes[0], question.workload.spec.groups
    return Fix(
        kind=FixKind.ASK_FOR_LESS,
        message=_so_many(count, shape.minimum) + _for(groups[0], groups),
        cost=question.dollars(question.price, (shape.minimum - count) * shape.milli),
        target=request.target.model_copy(update={"count": count, "after_seconds": 0}),
    )


def _with_fewer_of(question: Question, group: ReplicaGroup, count: int) -> Fix:
    groups = question.workload.spec.groups
    return Fix(
        kind=FixKind.ASK_FOR_LESS,
        message=_so_many(count, group.fewest) + _for(group, groups),
        cost=question.dollars(question.price, (group.fewest - count) * group.milli),
        groups=_instead(groups, group, {"count": count, "minimum": None}),
    )


def _with_minimum(question: Question, first: ReplicaGroup, rules: Autoscale, count: int) -> Fix:
    return Fix(
        kind=FixKind.ASK_FOR_LESS,
        message=f"let it shrink to {so_many_replicas(count)} instead of {first.fewest}",
        cost=question.dollars(question.price, (first.fewest - count) * first.milli),
        groups=_instead(question.workload.spec.groups, first, {"minimum": count}),
        autoscale=rules.model_copy(update={"minimum": count}),
    )


def _with_fewest(question: Question, fewest: int) -> Fix:
    spec = question.workload.spec
    before = spec.minimum_replicas or 0
    return Fix(
        kind=FixKind.ASK_FOR_LESS,
        message=f"be content with {so_many_replicas(fewest)} of all groups together instead of {before}",
        cost=question.dollars(question.price, (before - fewest) * min(group.milli for group in spec.groups)),
        minimum_replicas=fewest,
    )


def less_beside(question: Question) -> Iterator[Fix]:
    """Ask for less cpu or memory beside the accelerators of a replica, in sixteenths: for as much as would start."""
    groups = question.workload.spec.groups
    nothing = tuple(group.model_copy(update={"cpu_milli": 0, "memory_mib": 0}) for group in groups)
    if nothing == groups or not question.may_start_with(_smaller(question, "ask for no cpu and memory", nothing)):
        return
    for group in groups:
        ways = [
            [_with_less_cpu(question, group, part) for part in range(PARTS - 1, -1, -1) if group.cpu_milli],
            [_with_less_memory(question, group, part) for part in range(PARTS - 1, -1, -1) if group.memory_mib],
        ]
        for offers in ways:
            if (most := first_that_helps(offers, question.may_start_with)) is not None:
                yield most


PARTS = 16


def _with_less_cpu(question: Question, group: ReplicaGroup, part: int) -> Fix:
    groups, cpu = question.workload.spec.groups, group.cpu_milli * part // PARTS
    message = f"ask for {cpu / 1000:g} cpu a replica instead of {group.cpu_milli / 1000:g}{_for(group, groups)}"
    return _smaller(question, message, _instead(groups, group, {"cpu_milli": cpu}))


def _with_less_memory(question: Question, group: ReplicaGroup, part: int) -> Fix:
    groups, memory = question.workload.spec.groups, group.memory_mib * part // PARTS
    message = f"ask for {memory} MiB of memory a replica instead of {group.memory_mib}{_for(group, groups)}"
    return _smaller(question, message, _instead(groups, group, {"memory_mib": memory}))


def _smaller(question: Question, message: str, groups: tuple[ReplicaGroup, ...], milli: Amount = 0) -> Fix:
    """The groups instead of the present ones, which need so much more in each replica."""
    cost = question.dollars(INCONVENIENCE) + question.dollars(question.price, milli)
    return Fix(kind=FixKind.ASK_FOR_LESS, message=message, cost=round(cost, 4), groups=groups)


def smaller_replicas(question: Question) -> Iterator[Fix]:
    """Ask for fewer whole accelerators in each replica of a group: for as many as would start."""
    groups = question.workload.spec.groups
    for group in groups:
        whole = group.milli // WHOLE
        offers = [_with_smaller(question, group, each) for each in range(whole - 1, 0, -1)]
        if (most := first_that_helps(offers, question.may_start_with)) is not None:
            yield most


def _with_smaller(question: Question, group: ReplicaGroup, each: int) -> Fix:
    groups, before = question.workload.spec.groups, group.milli // WHOLE
    so_many = "1 accelerator" if each == 1 else f"{each} accelerators"
    message = f"ask for {so_many} a replica instead of {before}{_for(group, groups)}"
    missing = (before - each) * WHOLE * max(1, group.fewest)
    return _smaller(question, message, _instead(groups, group, {"accelerators": each}), missing)


# Where its replicas sit


@dataclass(frozen=True)
class Layout:
    """A topology that the workload asks for, whose it is in words, and which fields of a fix put another in its place."""

    topology: Topology
    whose: str
    instead: Callable[[Topology], dict[str, object]]


def _layouts(spec: WorkloadTerms) -> Iterator[Layout]:
    yield Layout(spec.topology, "", lambda topology: {"topology": topology})
    for group in spec.groups:
        if group.topology is not None:
            yield Layout(group.topology, _for(group, spec.groups), partial(_for_group, spec.groups, group))


def _for_group(groups: Sequence[ReplicaGroup], group: ReplicaGroup, topology: Topology) -> dict[str, object]:
    return {"groups": _instead(groups, group, {"topology": topology})}


def wider_topology(question: Question) -> Iterator[Fix]:
    """Require a wider level, of all replicas or of each slice, or none at all; the wish for the narrow one stays."""
    for layout in _layouts(question.workload.spec):
        topology = layout.topology
        for steps, (level, where) in enumerate(_wider(question, topology.required), start=1):
            required = {"required": level, "preferred": topology.preferred or topology.required}
            message = f"require it {where} instead of in one {topology.required}{layout.whose}"
            yield _looser(question, layout, message, required, steps)
        for steps, (level, where) in enumerate(_wider(question, topology.slice_level), start=1):
            slices = {"slice_level": level, "slice_size": topology.slice_size if level else None}
            message = f"require slices {where} instead of in one {topology.slice_level}{layout.whose}"
            yield _looser(question, layout, message, slices, steps)


def _wider(question: Question, level: str | None) -> Iterator[tuple[str | None, str]]:
    """The levels above one, from near to far, with where they let replicas sit in words; the last is none at all."""
    if level is not None:
        above = max((_levels_above(node, level) for node in question.acceptable), key=len, default=())
        yield from ((name, f"in one {name}") for name in reversed(above))
        yield None, "anywhere in one region"


def _looser(question: Question, layout: Layout, message: str, update: Mapping[str, object], steps: int = 1) -> Fix:
    """The layout with these changes to its topology, so many levels wider."""
    said = {"kind": FixKind.WIDEN_TOPOLOGY, "message": message, "cost": question.dollars(INCONVENIENCE * steps)}
    return Fix.model_validate({**said, **layout.instead(layout.topology.model_copy(update=update))})


def closer_together(question: Question) -> Iterator[Fix]:
    """Let more replicas sit in one domain than the spread allows: as few more as are enough."""
    for layout in _layouts(question.workload.spec):
        spread = layout.topology.spread
        if spread is None or spread.worth is not None:
            continue
        largest = max(shape.count for request in question.open_requests for shape in request.gang.shapes)
        offers = [_closer(question, layout, spread, maximum) for maximum in range(spread.maximum + 1, largest + 1)]
        if (least := first_that_helps(offers, question.may_start_with)) is not None:
            yield least


def _closer(question: Question, layout: Layout, spread: Spread, maximum: int) -> Fix:
    message = f"let {maximum} replicas sit in one {spread.level} instead of {spread.maximum}{layout.whose}"
    return _looser(question, layout, message, {"spread": spread.model_copy(update={"maximum": maximum})})


def _levels_above(node: Node, level: str) -> tuple[str, ...]:
    names = [*(name for name, _ in node.topology), NODE_LEVEL]
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
    line = question.counted.waiting
    own = next(each for each in line if each.id == question.workload.id)
    mine, cost = own.spec, question.dollars(PERMISSION * question.price)
    others = [other.spec.priority for other in line if other is not own and other.spec.tier is mine.tier]
    above = max(others, default=HIGHEST_PRIORITY) + 1
    if mine.priority < above and (needed := above + own.fallen) <= HIGHEST_PRIORITY:
        counts = f" (after all that it has run, that counts as {above})" if own.fallen else ""
        message = f"raise its priority to {needed}{counts}, above all who wait in its tier"
        yield Fix(kind=FixKind.GO_FIRST, message=message, cost=cost, priority=needed)
    for steps, tier in enumerate(reversed(TIERS[: TIERS.index(mine.tier)]), start=1):
        cost = question.dollars(PERMISSION * question.price * (1 + steps))
        yield Fix(kind=FixKind.GO_FIRST, message=f"submit it as {tier}", cost=cost, tier=tier)


# What time brings


def patience(question: Question) -> Iterator[Fix]:
    """Wait until targets open, work is expected to end, a protection is over, a grant begins or a stop is allowed again.

    That is the first time that helps. A reservation of its own helps only as long as its window is open, and is asked about
    apart, where it opens before that.

    What a budget gives back helps from then on, whereas by the last of all moments a grant may have ended: where that one
    does not help, budgets are asked about alone.
    """
    first = first_that_helps(_waits(question, _moments(question)), question.may_start_with)
    until = None if first is None else first.wait_seconds
    windows = (wait for wait in _waits(question, _windows(question)) if until is None or (wait.wait_seconds or 0) < until)
    first = next(filter(question.may_start_with, windows), first)
    if first is None:
        first = first_that_helps(_waits(question, _moments_of_budgets(question)), question.may_start_with)
    if first is not None:
        yield first


def _waits(question: Question, found: Iterable[datetime]) -> list[Fix]:
    """To wait until each of the next of these moments, the first to come first."""
    moments = sorted({moment for moment in found if moment > question.now})[:MOST_MOMENTS]
    return [_wait(question, moment) for moment in moments]


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
    for budget in facts.policy.limits.disruption_budgets:
        yield from (stop.at + timedelta(seconds=budget.period_seconds) for stop in question.snapshot.stops)
    for active in question.snapshot.active:
        yield from _moments_of(active, question)
    yield from _moments_of_budgets(question)


def _windows(question: Question) -> Iterator[datetime]:
    """When reservations open that are for the workload."""
    paths = question.facts.tree.paths
    for booking in question.snapshot.bookings:
        if not booking.is_open and engagement_of(booking).is_for(question.workload, paths):
            yield booking.opens_at


def _moments_of_budgets(question: Question) -> Iterator[datetime]:
    for price in prices(question):
        for _, balance, missing in short_budgets(question, price):
            yield from balance.back(question.now, missing)


def _moments_of(active: Active, question: Question) -> Iterator[datetime]:
    if (end := expected_end(active)) is not None:
        yield end
    if active.preempted:
        yield question.now + timedelta(seconds=max(1, active.spec.checkpoint.grace_seconds))
    for step in question.facts.policy.rank.attained_service:
        if (falls_at := active.has_run_for(step.after_seconds)) is not None:
            yield falls_at
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
