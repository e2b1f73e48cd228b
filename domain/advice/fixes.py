"""Fixes: the cheapest smallest changes that would start a waiting workload, each tried before it is offered."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import chain, islice, takewhile

from corral.api import Explanation, Fix, FixKind, FixSearch, QuotaChange, Reason
from corral.policy import Exactness
from domain.advice.of_operators import (
    every_node_back,
    higher_user_limits,
    more_budget,
    more_quota,
    nodes_back,
    open_queues,
    stops,
)
from domain.advice.of_owners import (
    closer_together,
    fewer_replicas,
    half_as_many,
    less_beside,
    less_choosy,
    less_protection,
    other_targets,
    patience,
    precedence,
    smaller_replicas,
    tolerations,
    wider_topology,
)
from domain.advice.question import Finder, GoOn, Question, Trials, for_ever
from domain.advice.whatif import applied
from domain.decision import Wait
from domain.isolation import schedule_around, with_turns_for
from domain.snapshot import Snapshot

MOST_FIXES = 3


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
    found = None if workload_id in aside else search(workload_id, decidable, now, go_on=go_on)
    advice = {} if found is None else {"fixes": found.fixes, "fix_search": found.ended}
    return waits[workload_id].model_copy(update={**advice, "position": line.index(workload_id) + 1})


@dataclass(frozen=True, slots=True)
class Found:
    """What a search for fixes has found, the cheapest first, and how it ended."""

    fixes: tuple[Fix, ...]
    ended: FixSearch


def cheapest_fixes(
    workload_id: str, snapshot: Snapshot, now: datetime, most: int = MOST_FIXES, *, go_on: GoOn = for_ever
) -> tuple[Fix, ...]:
    """The cheapest changes that start the workload, each found true by deciding the changed pool."""
    return search(workload_id, snapshot, now, most, go_on=go_on).fixes


def search(workload_id: str, snapshot: Snapshot, now: datetime, most: int = MOST_FIXES, *, go_on: GoOn = for_ever) -> Found:
    """The same, and whether nothing was left untried: a right is tried only where no single change is enough."""
    workload = next(workload for workload in snapshot.waiting if workload.id == workload_id)
    question = Question(workload, decided_fast(snapshot), now, Trials.for_pool(snapshot, go_on))
    found: tuple[Fix, ...] = ()
    for rights, finders in STAGES:
        if found := tuple(islice(_proven(_offers(question, rights, finders), question), most)):
            break
    return Found(found, FixSearch.CUT_SHORT if question.trials.are_over else FixSearch.COMPLETE)


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


def _proven(offers: Iterable[Fix], question: Question) -> Iterator[Fix]:
    """Those that do start the workload, the cheapest first; what several of its targets come to alike is one."""
    unlike = {fix.model_dump_json(): fix for fix in offers}
    return (fix for fix in sorted(unlike.values(), key=_cost) if question.starts_with(fix))


def for_tenant(fix: Fix) -> Fix:
    """The fix as a tenant may see it: without the names of whom it would stop."""
    return fix.model_copy(update={"victims": ()})


def _cost(fix: Fix) -> float:
    """Of those that cost the same, as all do for work without accelerators, the one that was thought of first is first."""
    return fix.cost


FINDERS: tuple[Finder, ...] = (
    other_targets,
    less_choosy,
    fewer_replicas,
    less_beside,
    wider_topology,
    closer_together,
    tolerations,
    less_protection,
    precedence,
    patience,
    more_quota,
    more_budget,
    higher_user_limits,
    open_queues,
    nodes_back,
    stops,
)
"""One finder a kind of change."""

LAST_RESORTS: tuple[Finder, ...] = (smaller_replicas,)
"""Changes of what a replica is, which its program may not bear: told where none of the changes before is enough."""

NEXT: tuple[Finder, ...] = (fewer_replicas, patience, more_quota, nodes_back, stops)
"""What may become possible with a right."""

RIGHTS: tuple[Finder, ...] = (
    precedence,
    more_quota,
    more_budget,
    higher_user_limits,
    open_queues,
    less_protection,
    other_targets,
    less_choosy,
    tolerations,
    wider_topology,
    every_node_back,
    half_as_many,
)
"""Changes that alone may do nothing, because something else is short as well."""

STAGES: tuple[tuple[int, tuple[Finder, ...]], ...] = ((0, FINDERS), (1, NEXT), (0, LAST_RESORTS), (2, NEXT))
"""What is tried after the other until something helps: so many rights together, and with them what becomes possible by that."""
