"""The life of a workload: which state may follow which, and what follows the end of an attempt."""

from collections.abc import Mapping
from dataclasses import dataclass

from corral.api import TERMINAL, Outcome, State, WorkloadSpec

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.SUBMITTED: frozenset({State.WAITING, State.REFUSED, State.CANCELLED}),
    State.WAITING: frozenset({State.RESERVING, State.RESERVED, State.SUSPENDED, State.REFUSED, State.CANCELLED}),
    State.SUSPENDED: frozenset({State.WAITING, State.CANCELLED}),
    State.RESERVING: frozenset({State.RESERVED, State.WAITING, State.SUSPENDED, State.CANCELLED}),
    State.RESERVED: frozenset({State.RESERVING, State.STARTING, State.WAITING, State.SUSPENDED, State.CANCELLED}),
    State.STARTING: frozenset(
        {State.RUNNING, State.STOPPING, State.WAITING, State.SUSPENDED, State.SUCCEEDED, State.FAILED, State.CANCELLED}
    ),
    State.RUNNING: frozenset({State.STOPPING, State.WAITING, State.SUSPENDED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.STOPPING: frozenset(
        {
            State.STARTING,
            State.RUNNING,
            State.RESERVING,
            State.WAITING,
            State.SUSPENDED,
            State.SUCCEEDED,
            State.FAILED,
            State.CANCELLED,
        }
    ),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset(),
    State.CANCELLED: frozenset(),
    State.REFUSED: frozenset(),
}

WITHOUT_CAPACITY = frozenset({State.SUBMITTED, State.WAITING, State.SUSPENDED})
BEFORE_BINDING = frozenset({State.RESERVING, State.RESERVED})
AT_A_PROVIDER = frozenset({State.STARTING, State.RUNNING, State.STOPPING})

RESHAPED = frozenset({Outcome.RESIZED, Outcome.MIGRATED})
"""Ends of attempts whose workload goes on in another shape, with capacity promised to it."""
FOR_SOMEBODY = RESHAPED | {Outcome.PREEMPTED}
"""Ends that may be ordered for the sake of a beneficiary: without it there is no need for them."""
LEAVING = FOR_SOMEBODY | {Outcome.STOPPED}
"""Ends that a round ordered: what such work has is as good as free, and its queue's quota is not charged for it."""


LIVE = frozenset(State) - TERMINAL
ALLOWED: Mapping[str, frozenset[State]] = {
    "cancel": LIVE,
    "hold": LIVE - {State.SUSPENDED},
    "release": frozenset({State.SUSPENDED}),
    "resize": WITHOUT_CAPACITY | BEFORE_BINDING,
    "reprioritize": LIVE,
    "expire": AT_A_PROVIDER,
}
"""In which states a workload takes which change."""


def objection(verb: str, workload: str, state: State) -> str | None:
    """Why a workload in that state does not take the change, in words, or none when it does."""
    if state in ALLOWED[verb]:
        return None
    takes = ", ".join(possible for possible in State if possible in ALLOWED[verb])
    return f"{verb}: workload {workload!r} is {state}; {verb} needs it to be one of: {takes}"


class ImpossibleTransition(Exception):
    """A state that may not follow another was asked for: a bug, never an answer."""


def checked(before: State, after: State) -> State:
    """Give the state after a step, when the table allows it.

    Raises:
        ImpossibleTransition: the table does not allow it.
    """
    if after is not before and after not in TRANSITIONS[before]:
        raise ImpossibleTransition(f"{before} may not be followed by {after}")
    return after


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended. `failures` counts the workload's own failures, this one included.

    `is_followed`: capacity is promised to the workload's next attempt already.
    """

    outcome: Outcome
    tasks_run: int = 0
    tasks_done_before: int = 0
    failures: int = 0
    is_followed: bool = False


def state_after(spec: WorkloadSpec, end: AttemptEnd) -> State:
    """What becomes of a workload when an attempt is observed gone.

    The workload's own end is final; whatever was done to it from outside puts it back in line with its age kept.
    """
    match end.outcome:
        case Outcome.FINISHED:
            unfinished = spec.tasks is not None and end.tasks_done_before + end.tasks_run < spec.tasks
            return State.WAITING if unfinished else State.SUCCEEDED
        case Outcome.FAILED | Outcome.REFUSED_BY_PROVIDER:
            return State.FAILED if end.failures > spec.retries else State.WAITING
        case Outcome.OUT_OF_TIME:
            return State.FAILED
        case Outcome.CANCELLED:
            return State.CANCELLED
        case Outcome.SUSPENDED:
            return State.SUSPENDED
        case Outcome.RESIZED | Outcome.MIGRATED:
            return State.RESERVING if end.is_followed else State.WAITING
        case Outcome.PREEMPTED | Outcome.STOPPED | Outcome.DRAINED | Outcome.LOST | Outcome.EXPIRED:
            return State.WAITING
