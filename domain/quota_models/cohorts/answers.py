"""Answers: why work waits, where the turns by these rules know better than the rules that all models share."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from corral.api import Explanation, Reason
from domain.explanation.answers import behind_the_first, enough_for_one_round
from domain.pool.workload import Waiting
from domain.quota_models.cohorts.lines import Column, Lines
from domain.quota_models.cohorts.nomination import Verdict
from domain.quota_models.cohorts.setting import Setting
from domain.quota_models.starts import Starts
from domain.worlds.request import Kind

GATES = frozenset({Reason.PREEMPTION_DELAYED, Reason.CRASH_LOOPING})
"""Why nothing may be stopped for work for which others would leave."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the last cycle left those who still wait: who was `stuck` or `outraced` in it, by workload id.

    With `once` it was the only one.
    """

    lines: Lines
    stuck: Mapping[str, Verdict]
    outraced: Set[str]
    setting: Setting
    starts: Starts
    once: bool

    def of_some(self) -> dict[str, Explanation | None]:
        """Why those wait who were looked at, or would have been next, by workload id; none: for a reason that is in the world.

        Who is gated is so for a time of its own, and for no longer than its delay if it does not fail again and again.
        """
        answers: dict[str, Explanation | None] = {}
        for column in self.lines.left():
            if not self.lines.is_strict(column.queue) or self.lines.first(column.queue) is column.head:
                first = answers[column.head.id] = self._why(column.head, column.lane.kind)
                if first is not None and first.reason in GATES and not self.lines.is_strict(column.queue):
                    answers |= {each.id: self._why(each, column.lane.kind) for each in column.everybody}
        return answers

    def of_kinds(self) -> dict[Kind, Explanation]:
        """Why all others of a kind wait, where that is not in the world."""
        answers = ((column.lane.kind, self._why_behind(column)) for column in self.lines.left())
        return {kind: answer for kind, answer in answers if answer is not None}

    def _why(self, workload: Waiting, kind: Kind) -> Explanation | None:
        verdict = self.stuck.get(workload.id, self.lines.verdict(kind))
        if (limit := self.starts.limit_reached(workload.spec.queue)) is not None:
            return limited(limit, self.setting)
        if verdict is Verdict.PREEMPTS and (gate := gated(workload, self.setting)) is not None:
            return gate
        if workload.id in self.outraced:
            return outraced(self.setting)
        return not_considered(self.setting) if self.once and verdict is None else None

    def _why_behind(self, column: Column) -> Explanation | None:
        """Whoever is not the first of a strict queue waits for the first."""
        queue, facts = column.queue, self.setting.facts
        if self.lines.is_strict(queue):
            return behind_the_first(queue, facts.now)
        if (limit := self.starts.limit_reached(queue)) is not None:
            return limited(limit, self.setting)
        return not_considered(self.setting) if self.once and self.lines.verdict(column.lane.kind) is None else None


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
