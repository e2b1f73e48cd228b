"""Answers: why work waits, summed up of many findings; equal for equal situations."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from corral.api import Evidence, Explanation, Reason, StopPolicy
from domain.decision import Rejection
from domain.explanation.finding import FURTHEST_FIRST, OF_ROOM, Finding, dominant
from domain.explanation.wording import moment, sentence
from domain.pool.nodepools import Provisioning

MOST_EVIDENCE = 8
IDLE = ", were every node ready and idle"


def evidence(findings: Iterable[Finding], *, when_idle: bool = False) -> tuple[Evidence, ...]:
    """How many nodes each rule refused, the furthest rule first, with its nearest miss as the example.

    With `when_idle` they were found on nodes that are all taken to be ready and idle.
    """
    by_reason: dict[Reason, list[Finding]] = {}
    for finding in findings:
        by_reason.setdefault(finding.rejection.reason, []).append(finding)
    rows = sorted(by_reason.items(), key=lambda item: FURTHEST_FIRST.index(item[0]))
    return tuple(
        Evidence(
            reason=reason,
            count=sum(finding.nodes for finding in found),
            example=sentence(dominant(found)) + (IDLE if when_idle and reason in OF_ROOM else ""),
        )
        for reason, found in rows[:MOST_EVIDENCE]
    )


def no_room(findings: Sequence[Finding], as_of: datetime, *, is_complete: bool = True) -> Explanation:
    """Why nothing fits now, among the targets that are open, and as far as the fleet is known, which need not be complete."""
    nearest = dominant(findings)
    reason = nearest.rejection.reason
    if reason in {Reason.NODE_NOT_READY, Reason.NODE_NOT_THERE}:
        reason = Reason.NO_READY_CAPACITY
    message = sentence(nearest) if is_complete else f"{sentence(nearest)}; {NOT_ALL_SEEN}"
    return Explanation(reason=reason, message=message, evidence=evidence(findings), as_of=as_of)


NOT_ALL_SEEN = "not every provider has told yet what it has, and it is decided about again as soon as one does"


def is_same(said: Explanation, says: Explanation) -> bool:
    """Whether a workload that was told the one learns nothing from the other, but for advice and for when it was found."""
    return (said.reason, said.message, said.evidence) == (says.reason, says.message, says.evidence)


def empty_fleet(as_of: datetime) -> Explanation:
    """No node is known at all."""
    return Explanation(reason=Reason.NO_READY_CAPACITY, message="no node of the fleet is known yet", as_of=as_of)


def queue_stopped(queue: str, stop: StopPolicy, as_of: datetime) -> Explanation:
    """The queue, or a cohort above it, starts nothing new."""
    message = f"queue {queue} is stopped ({stop}); nothing new starts below it until it is open"
    return Explanation(reason=Reason.QUEUE_STOPPED, message=message, as_of=as_of)


def too_early(earliest_start: datetime, as_of: datetime) -> Explanation:
    """The workload's own earliest start is ahead."""
    message = f"asked to start no earlier than {moment(earliest_start)}"
    return Explanation(reason=Reason.NOT_YET_EARLIEST_START, message=message, as_of=as_of)


def waiting_for_relaxation(opens_at: datetime, findings: Sequence[Finding], as_of: datetime) -> Explanation:
    """Nothing of the fleet is acceptable yet, and more will be."""
    so_far = "nothing in the fleet matches the open targets" if findings else "no target is open yet"
    message = f"{so_far}; the next one opens at {moment(opens_at)}"
    return Explanation(reason=Reason.WAITING_FOR_RELAXATION, message=message, evidence=evidence(findings), as_of=as_of)


def waiting_for_victims(findings: Sequence[Finding], as_of: datetime) -> Explanation:
    """Enough becomes free when work that has had notice has left."""
    message = "enough room becomes free when work that has had notice to leave has left"
    return Explanation(reason=Reason.WAITING_FOR_VICTIMS, message=message, evidence=evidence(findings), as_of=as_of)


def waiting_for_nodes(arrivals: Iterable[Provisioning], findings: Sequence[Finding], as_of: datetime) -> Explanation:
    """It fits once nodes have come that are on their way."""
    said = "; ".join(arrival.in_words for arrival in arrivals)
    message = f"nodes are on their way ({said}), and it fits once they are there"
    return Explanation(reason=Reason.NODES_ON_THEIR_WAY, message=message, evidence=evidence(findings), as_of=as_of)


def behind_the_first(queue: str, as_of: datetime) -> Explanation:
    """It would start, but its queue starts work strictly in turn."""
    message = f"would start, but queue {queue} starts its work strictly in turn (strict-fifo) and the first of it still waits"
    return Explanation(reason=Reason.BEHIND_OTHERS_IN_QUEUE, message=message, as_of=as_of)


def behind_who_awaits(queue: str, as_of: datetime) -> Explanation:
    """It would start, on what work before it in its queue waits for."""
    message = f"would start, but on room that is kept for work before it in queue {queue}, which waits for others to leave"
    return Explanation(reason=Reason.BEHIND_OTHERS_IN_QUEUE, message=message, as_of=as_of)


def enough_for_one_round(limit: str, as_of: datetime) -> Explanation:
    """It would start, but not in this round."""
    message = f"this round has started as much as the policy allows in one (limits.{limit}); the next one follows at once"
    return Explanation(reason=Reason.ROUND_LIMIT_REACHED, message=message, as_of=as_of)


def left_for_the_next_round(as_of: datetime) -> Explanation:
    """The round failed about another workload, and was decided for some of those who wait."""
    message = "this round was cut short by a defect of Corral; it has its turn in the next one, which follows at once"
    return Explanation(reason=Reason.PENDING_EVALUATION, message=message, as_of=as_of)


def not_decidable(as_of: datetime) -> Explanation:
    """Deciding about it fails. What was raised may name anything, and is for those who read the worker's log."""
    message = (
        "Corral fails to decide about it, which is a defect of Corral; it is set aside, tried again now and then, and all"
        " others go on; tell an operator, who finds the error in the log of the worker under the workload's id"
    )
    return Explanation(reason=Reason.INTERNAL_ERROR, message=message, as_of=as_of)


def nothing_is_stopped_for_it(gate: Rejection, until: datetime, as_of: datetime) -> Explanation:
    """Others would leave for the workload, if it had the right to that now."""
    why = {
        Reason.PREEMPTION_DELAYED: f"nothing is stopped for it before {moment(until)}",
        Reason.CRASH_LOOPING: f"its last {gate.has} attempts failed, so nothing is stopped for it",
    }[gate.reason]
    return Explanation(reason=gate.reason, message=f"others have what it needs; {why}", as_of=as_of)


def budget_spent(budgets: Iterable[int], as_of: datetime) -> Explanation:
    """Only disruption budgets (by their places in the policy) keep others from leaving for the workload."""
    fields = ", ".join(f"limits.disruption_budgets[{index}]" for index in budgets)
    message = f"others would leave for it, but no more may be stopped for now: {fields}"
    return Explanation(reason=Reason.DISRUPTION_BUDGET_SPENT, message=message, as_of=as_of)
