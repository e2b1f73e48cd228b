"""Admission: a submitted workload is refused for good, or written down and decided about in the round that is next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from temporalio import activity

from activities.answers import AdmissionOrder, Standing
from activities.batching import Batcher
from activities.courier import Courier
from activities.deciding import Decider
from activities.ports import Store
from corral import wire
from corral.api import Reason, State, WorkloadSpec

LONGEST_VALUE = 60


@dataclass(frozen=True, slots=True)
class Arrival:
    """A workload that asks to be admitted, and the trace in which it was submitted, as a W3C traceparent."""

    spec: WorkloadSpec
    trace: str | None


def nowhere() -> None:
    """The trace of what is not traced."""


class Admission:
    """All workloads that arrive together are decided about together: one snapshot, one round, one transaction."""

    def __init__(self, store: Store, courier: Courier, submitted_in: Callable[[], str | None] = nowhere) -> None:
        """`submitted_in` tells the trace of the workload whose admission runs where it is called."""
        self._store = store
        self._courier = courier
        self._submitted_in = submitted_in
        self._decider = Decider()
        self._arrivals: Batcher[Arrival, Standing] = Batcher(self._round)

    @activity.defn(name="admission.admit")
    async def admit(self, order: AdmissionOrder) -> Standing:
        """Answer how the workload stands after its first round; asked again, how it stands now."""
        try:
            spec = WorkloadSpec.model_validate(order.spec)
        except ValidationError as error:
            return _refused(order.workload, in_words(error))
        if spec.id != order.workload:
            return _refused(order.workload, f"id: {spec.id!r} differs from the id of its workflow, {order.workload!r}")
        if problem := misnamed(order.workflow, wire.workload_workflow_id(spec.id)):
            return _refused(order.workload, problem)
        return await self._arrivals.ask(Arrival(spec, self._submitted_in()))

    async def _round(self, arrivals: Sequence[Arrival]) -> list[Standing]:
        first = {each.spec.id: each for each in reversed(arrivals)}
        specs = {id: each.spec for id, each in first.items()}
        traces = {id: each.trace for id, each in first.items() if each.trace is not None}
        standings, notices = await self._store.round(list(specs.values()), self._decider.decide, "admission", traces)
        self._courier.post(notices)
        return [await self._standing(spec, specs[spec.id], standings[spec.id]) for spec in (each.spec for each in arrivals)]

    async def _standing(self, spec: WorkloadSpec, decided: WorkloadSpec, standing: Standing) -> Standing:
        if spec.digest == decided.digest:
            return standing
        conflicting, _ = await self._store.round([spec], self._decider.decide, "admission")
        return conflicting[spec.id]


def _refused(workload: str, message: str) -> Standing:
    return Standing(workload, 0, State.REFUSED, 0, reason=Reason.INVALID_SPEC, message=message)


def misnamed(workflow: str | None, right: str) -> str | None:
    """Why a workflow would never be told anything: it is looked for by another id. None where it has the right one."""
    if workflow in {None, right}:
        return None
    return f"its workflow has the id {workflow!r}, by which nobody finds it; start it as {right!r}"


def in_words(error: ValidationError, whole: str = "spec") -> str:
    """Every problem of a spec, or another whole: the field, the value (shortened) and what was expected."""
    return "; ".join(
        f"{_field(problem['loc']) or whole}: {_shortened(problem['input'])} - {problem['msg']}"
        for problem in error.errors(include_url=False)[:20]
    )


def _field(path: Sequence[int | str]) -> str:
    return ".".join(str(name)[:LONGEST_VALUE] for name in path)


def _shortened(value: object) -> str:
    try:
        text = repr(value[: LONGEST_VALUE + 1] if isinstance(value, str) else value)
    except ValueError:
        return "a number with too many digits to show"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
