"""The life of a workload: which state may follow which, and what follows the end of an attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from corral.api import TERMINAL, Outcome, State, WorkloadTerms

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.SUBMITTED: frozenset({State.WAITING, State.REFUSED, State.CANCELLED}),
    State.WAITING: frozenset({State.RESERVING, State.RESERVED, State.SUSPENDED, State.REFUSED, State.CANCELLED}),
    State.SUSPENDED: frozenset({State.WAITING, State.CANCELLED}),
    State.RESERVING: frozenset({State.RESERVED, State.WAITING, State.SUSPENDED, State.CANCELLED}),
    State.RESERVED: frozenset({State.RESERVING, State.STARTING, State.WAITING, State.SUSPENDED, State.CANCELLED}),
    State.STARTING: frozenset(
        {State.RUNNING, State.STOPPING, State.WAITING, State.SUSPENDED, State.SUCCEEDED, State.FAILED, State.CANCELLED}
    ),
    State.RUNNING: frozenset(
        {State.RESIZING, State.STOPPING, State.WAITING, State.SUSPENDED, State.SUCCEEDED, State.FAILED, State.CANCELLED}
    ),
    State.RESIZING: frozenset(
        {
            *(State.RUNNING, State.STOPPING, State.RESERVING, State.WAITING),
            *(State.SUSPENDED, State.SUCCEEDED, State.FAILED, State.CANCELLED),
        }
    ),
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
AT_A_PROVIDER = frozenset({State.STARTING, State.RUNNING, State.RESIZING, State.STOPPING})
WITH_AN_ATTEMPT = BEFORE_BINDING | AT_A_PROVIDER
"""Exactly while an attempt is open."""
ON_ITS_WAY_OUT = frozenset({State.RESIZING, State.STOPPING})
"""Exactly while an attempt is at one of the steps of `Leave`: as a whole, or with some of its replicas."""

RESHAPED = frozenset({Outcome.RESIZED, Outcome.MIGRATED})
"""Ends of attempts whose workload goes on in another shape, with capacity promised to it."""
LEAVING = RESHAPED | {Outcome.PREEMPTED, Outcome.STOPPED}
"""Ends that a round ordered: what such work has is as good as free, and its queue's quota is not charged for it."""


class Leave(StrEnum):
    """How far an attempt that was ordered to stop has come; one without such an order has none of these.

    Of an attempt that is resized it is said of the replicas that it is not to have any more, while the others run on.
    """

    WAITING = "waiting"
    """It is to grow into room that others have yet to leave: its provider is told once they have."""
    ORDERED = "ordered"
    """Its provider does not know yet."""
    SILENT = "silent"
    """Its provider has not answered for too long."""
    NOTICED = "noticed"
    """Its provider has given it notice, and its grace runs."""
    SAVED = "saved"
    """It has said that its work is saved: nothing is gained by waiting until its grace is over."""
    FORCED = "forced"
    """It has not stopped though its grace is over, and is stopped by force."""
    STUCK = "stuck"
    """It has not stopped all the same."""


LEAVE_STEPS: Mapping[Leave | None, frozenset[Leave | None]] = {
    None: frozenset({Leave.WAITING, Leave.ORDERED}),
    Leave.WAITING: frozenset({None, Leave.ORDERED}),
    Leave.ORDERED: frozenset({None, Leave.SILENT, Leave.NOTICED, Leave.SAVED}),
    Leave.SILENT: frozenset({None, Leave.NOTICED, Leave.SAVED}),
    Leave.NOTICED: frozenset({None, Leave.SAVED, Leave.FORCED}),
    Leave.SAVED: frozenset({Leave.FORCED}),
    Leave.FORCED: frozenset({Leave.STUCK}),
    Leave.STUCK: frozenset(),
}
"""Which step may follow which; none follows where the notice is taken back.

From each the attempt may be observed gone, or in the size in which it was to go on; and who is resized may be told to leave as
a whole, which begins anew. Where replicas that are too many are stuck, it goes on without them.
"""

MAY_STAY = frozenset(step for step, after in LEAVE_STEPS.items() if step is not None and None in after)
"""What is told to stay from here may still do so."""
AT_ONCE = frozenset({Leave.SAVED, Leave.FORCED, Leave.STUCK})
"""From here on the provider is told to stop the attempt at once."""
SUSPECT = frozenset({Leave.SILENT, Leave.STUCK})
"""Nobody knows when such an attempt will have left: nothing new goes to its nodes, and nobody waits for it any more."""
TOO_LONG: Mapping[Leave, Leave] = {
    Leave.ORDERED: Leave.SILENT,
    Leave.NOTICED: Leave.FORCED,
    Leave.SAVED: Leave.FORCED,
    Leave.FORCED: Leave.STUCK,
}
"""What follows when a step takes longer than it may."""


def seconds_at(step: Leave, grace_seconds: int, stop_seconds: int) -> int:
    """How long a step may take: that of an attempt with notice begins with its grace."""
    return stop_seconds + (grace_seconds if step is Leave.NOTICED else 0)


LIVE = frozenset(State) - TERMINAL
ALLOWED: Mapping[str, frozenset[State]] = {
    "cancel": LIVE,
    "hold": LIVE - {State.SUSPENDED},
    "release": frozenset({State.SUSPENDED}),
    "resize": WITHOUT_CAPACITY | BEFORE_BINDING | {State.RUNNING, State.RESIZING},
    "demand": LIVE - {State.SUBMITTED},
    "miss-demand": LIVE - {State.SUBMITTED},
    "reprioritize": LIVE,
    "retarget": LIVE - {State.STOPPING},
    "extend": LIVE,
    "expire": AT_A_PROVIDER,
    "checkpointed": frozenset({State.RUNNING, State.RESIZING, State.STOPPING}),
}
"""In which states a workload takes which change."""


def objection(verb: str, workload: str, state: State) -> str | None:
    """Why a workload in that state does not take the change, in words, or none when it does."""
    if state in ALLOWED[verb]:
        return None
    *others, last = (possible for possible in State if possible in ALLOWED[verb])
    takes = f"{', '.join(others)} or {last}" if others else last
    return f"{verb}: workload {workload!r} is {state}; {verb} needs it to be {takes}"


class ImpossibleTransition(Exception):
    """A state or a step that may not follow another was asked for: a bug, never an answer."""


def checked(before: State, after: State) -> State:
    """Give the state after a step, when the table allows it.

    Raises:
        ImpossibleTransition: the table does not allow it.
    """
    if after is not before and after not in TRANSITIONS[before]:
        raise ImpossibleTransition(f"{before} may not be followed by {after}")
    return after


def checked_step(before: Leave | None, after: Leave | None) -> Leave | None:
    """Give the step of an attempt that leaves after another, when the table allows it.

    Raises:
        ImpossibleTransition: the table does not allow it.
    """
    if after is not before and after not in LEAVE_STEPS[before]:
        raise ImpossibleTransition(f"an attempt that is {before or 'not leaving'} may not become {after or 'one that stays'}")
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


def state_after(spec: WorkloadTerms, end: AttemptEnd) -> State:
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
