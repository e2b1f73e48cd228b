"""Answers: why work waits, where the turns by these rules know better than the rules that all models share."""

from collections.abc import Iterable

from corral.api import Explanation, Ordering, Reason
from domain.cohorts.setting import Setting
from domain.explanation import behind_the_first, enough_for_one_round
from domain.workload import Waiting


def behind(line: Iterable[Waiting], setting: Setting) -> dict[str, Explanation]:
    """Whoever is not the first of a strict queue waits for the first."""
    _, *others = line
    queues, now = setting.facts.queues, setting.facts.now
    strict = [each for each in others if queues[each.spec.queue].ordering is Ordering.STRICT_FIFO]
    return {each.id: behind_the_first(each.spec.queue, now) for each in strict}


def gated(workload: Waiting, setting: Setting) -> Explanation | None:
    """Others could leave for it, but nothing may be stopped for it now; none where something may."""
    facts = setting.facts
    if (rejection := facts.protection.why_not_yet(workload)) is None:
        return None
    until = facts.protection.delayed_until(workload)
    why = {
        Reason.PREEMPTION_DELAYED: f"nothing is stopped for it before {until.isoformat()}",
        Reason.CRASH_LOOPING: f"it failed {rejection.has} times in a row, so nothing is stopped for it",
    }[rejection.reason]
    return Explanation(reason=rejection.reason, message=f"others have what it needs; {why}", as_of=facts.now)


def outraced(setting: Setting) -> Explanation:
    """Somebody before it took what it was about to have, or may yet have it."""
    message = "work whose turn came first has taken, or is kept, what it would have had; it is considered again"
    return Explanation(reason=Reason.PENDING_EVALUATION, message=message, as_of=setting.facts.now)


def not_considered(setting: Setting) -> Explanation:
    """One pass looks at the first of each queue alone."""
    message = "this pass looked at the first of each queue; its turn has not come"
    return Explanation(reason=Reason.PENDING_EVALUATION, message=message, as_of=setting.facts.now)


def limited(limit: str, setting: Setting) -> Explanation:
    """The round has started as much as it may."""
    return enough_for_one_round(limit, setting.facts.now)
