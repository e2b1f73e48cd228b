"""The steps after which a worker can be killed: each is a method of the store or of a provider, and for whom it was done."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from inspect import isawaitable
from itertools import groupby
from typing import Any

from activities.answers import AttemptKey, Notice, Standing, StepKind
from activities.ports import Observation
from activities.providers.local import LocalProvider
from activities.providers.sim import SimulatedProvider
from activities.store.adjustments import CHANGES
from activities.store.postgres import PostgresStore
from corral.api import State
from corral.reservation import ReservationState
from corral.rollout import RolloutState
from corral.wire import Steering
from domain.pool.leases import Reach
from domain.pool.lifecycle import Leave

PROVIDERS = (SimulatedProvider, LocalProvider)
STORE = (PostgresStore,)


@dataclass(frozen=True, slots=True)
class Point:
    """A step that is done when a method of one of these classes has ended.

    `whom` names whom it was done for, given the object, the method's answer and what the method was given; the step is
    theirs whose name ends with its own. Without it the step is anybody's.

    Raises:
        LookupError: there is no such method.
    """

    step: str
    classes: tuple[type, ...]
    method: str
    whom: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        """Refuse a method that nobody would ever call."""
        for owner in self.classes:
            if not hasattr(owner, self.method):
                raise LookupError(
                    f"step {self.step!r}: {owner.__name__} has no method {self.method!r}; name the one that does this step now"
                )

    async def is_reached(self, owner: object, answer: object, *given: Any, **named: Any) -> bool:
        """Whether that call was this step."""
        if self.whom is None:
            return True
        names = self.whom(owner, answer, *given, **named)
        return any(name.endswith(self.step) for name in (await names if isawaitable(names) else names))


def grouped(points: Iterable[Point]) -> Iterable[tuple[tuple[type, ...], str, Sequence[Point]]]:
    """Points of the same methods together, in their order."""

    def methods(point: Point) -> tuple[list[str], str]:
        return [owner.__name__ for owner in point.classes], point.method

    for _, same in groupby(sorted(points, key=methods), methods):
        group = list(same)
        yield group[0].classes, group[0].method, group


# Whom a step was done for


def _workload_of(attempt: str) -> str:
    return attempt.rpartition(".")[0]


def _admitted(_: object, answer: tuple[dict[str, Standing], list[Notice]], *__: Any) -> Iterable[str]:
    return answer[0]


def _placed(_: object, answer: tuple[object, list[Notice]], *__: Any) -> Iterable[str]:
    return [notice.standing.workload for notice in answer[1] if notice.standing.state is State.RESERVED]


def _reshaped(_: object, answer: tuple[object, list[Notice]], *__: Any) -> Iterable[str]:
    return [notice.standing.workload for notice in answer[1] if notice.standing.next_place]


def _told_to_be(state: State) -> Callable[..., Iterable[str]]:
    def whom(_: object, answer: tuple[dict[str, Standing], list[Notice]], *__: Any) -> Iterable[str]:
        told = [*answer[0].values(), *(notice.standing for notice in answer[1])]
        return [standing.workload for standing in told if standing.state is state]

    return whom


async def _windows(store: PostgresStore, *_: Any) -> Iterable[str]:
    return ["opened" for each in await store.reservations() if each.state is ReservationState.OPEN]


async def _clusters(store: PostgresStore, *_: Any, **__: Any) -> Iterable[str]:
    return [each.state for each in await store.clusters()]


def _leaves_by(step: Leave) -> Callable[..., Iterable[str]]:
    def whom(_: object, notices: list[Notice], *__: Any) -> Iterable[str]:
        return [notice.standing.workload for notice in notices if notice.standing.leave is step]

    return whom


def _asks(verb: str) -> Callable[..., Iterable[str]]:
    return lambda _, __, asked, change: [change.workload] if asked == verb else []


def _attempts_workload(_: object, __: object, attempt: str, *___: Any, **____: Any) -> Collection[str]:
    return [_workload_of(attempt)]


def _of_key(_: object, __: object, key: AttemptKey, *___: Any) -> Collection[str]:
    return [key.workload]


def _over(_: object, __: object, seen: Sequence[Observation], *___: Any) -> Iterable[str]:
    return [_workload_of(each.attempt_id) for each in seen if each.phase.is_over]


POINTS = (
    Point("admit", STORE, "round", _admitted),
    Point("round", STORE, "round", _placed),
    Point("reshape", STORE, "round", _reshaped),
    Point("hold", STORE, "round", _told_to_be(State.RESERVING)),
    Point("spare", STORE, "round", _told_to_be(State.RUNNING)),
    Point("opened", STORE, "round", _windows),
    # An attempt begins and ends
    Point("begin", STORE, "begin_bindings", lambda _, __, keys: [key.workload for key in keys]),
    Point("bind", PROVIDERS, "launch", lambda _, __, order: [order.workload_id]),
    Point(
        "settle",
        STORE,
        "settle",
        lambda _, __, seen, *___: [_workload_of(each.attempt_id) for each in seen if each.phase.is_over],
    ),
    # It leaves, or stays after all
    Point("stop", PROVIDERS, "preempt", _attempts_workload),
    Point("notice", PROVIDERS, "preempt", _attempts_workload),
    Point("noticed", STORE, "noticed", _of_key),
    Point("checkpointed", STORE, "adjust", _asks("checkpointed")),
    *(Point(step, STORE, "keep_house", _leaves_by(step)) for step in (Leave.SILENT, Leave.FORCED, Leave.STUCK)),
    Point("keep", PROVIDERS, "keep", _attempts_workload),
    Point("kept", STORE, "kept", _of_key),
    Point("released", PROVIDERS, "release", _attempts_workload),
    # People ask for something
    *(Point(f"asked-{verb}", STORE, "adjust", _asks(verb)) for verb in CHANGES),
    Point("evacuate-cordon", STORE, "close_place"),
    Point("evacuate-tell", STORE, "tell_who_leaves_next"),
    Point("evacuate-note", STORE, "note_what_is_left"),
    Point("evacuate", STORE, "evacuate", lambda _, __, order: [order.id]),
    *(
        Point(f"evacuation-{verb}", STORE, "steer_evacuation", lambda _, __, id, verb, *___: [f"evacuation-{verb}"])
        for verb in Steering
    ),
    Point("begun", STORE, "begin_rollout", lambda _, __, order: [order.id]),
    Point(
        "taken-back", STORE, "advance_rollout", lambda _, status, id: [id] if status.state is RolloutState.ROLLED_BACK else []
    ),
    Point("steered", STORE, "steer_rollout", lambda _, __, id, *___: [id]),
    # Windows
    Point("reserved", STORE, "reserve"),
    Point("extended", STORE, "extend_reservation"),
    Point(
        "closed",
        STORE,
        "advance_reservation",
        lambda _, standing, __: ["closed"] if standing.state is ReservationState.ENDED else [],
    ),
    Point("given-up", STORE, "cancel_reservation"),
    # The supply
    *(Point(reach, STORE, "judge_clusters", _clusters) for reach in (Reach.SUSPECT, Reach.LOST, Reach.RETURNED)),
    *(
        Point(f"planned-{kind}", STORE, "grow", lambda _, steps, __: [f"planned-{step.kind}" for step in steps])
        for kind in StepKind
    ),
    Point("provision", (SimulatedProvider,), "provision"),
    Point("deprovision", (SimulatedProvider,), "deprovision"),
    Point("taken", STORE, "order_taken"),
    Point("refused", STORE, "order_failed"),
    Point("given-back", STORE, "nodes_given_back"),
)
