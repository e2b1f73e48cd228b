"""Admission: a submitted workload is refused for good, or written down and decided about in the round that is next."""

from collections.abc import Sequence

from pydantic import ValidationError
from temporalio import activity

from activities.answers import AdmissionOrder, Standing
from activities.batching import Batcher
from activities.courier import Courier
from activities.deciding import Decider
from activities.ports import Store
from corral.api import Reason, State, WorkloadSpec

LONGEST_VALUE = 60


class Admission:
    """All workloads that arrive together are decided about together: one snapshot, one round, one transaction."""

    def __init__(self, store: Store, courier: Courier) -> None:
        self._store = store
        self._courier = courier
        self._decider = Decider()
        self._arrivals: Batcher[WorkloadSpec, Standing] = Batcher(self._round)

    @activity.defn(name="admission.admit")
    async def admit(self, order: AdmissionOrder) -> Standing:
        """Answer how the workload stands after its first round; asked again, how it stands now."""
        try:
            spec = WorkloadSpec.model_validate(order.spec)
        except ValidationError as error:
            return _refused(order.workload, in_words(error))
        if spec.id != order.workload:
            return _refused(order.workload, f"id: {spec.id!r} differs from the id of its workflow, {order.workload!r}")
        return await self._arrivals.ask(spec)

    async def _round(self, specs: Sequence[WorkloadSpec]) -> list[Standing]:
        first_of_id = {spec.id: spec for spec in reversed(specs)}
        standings, notices = await self._store.round(list(first_of_id.values()), self._decider.decide, "admission")
        self._courier.post(notices)
        return [await self._standing(spec, first_of_id[spec.id], standings[spec.id]) for spec in specs]

    async def _standing(self, spec: WorkloadSpec, decided: WorkloadSpec, standing: Standing) -> Standing:
        if spec.digest == decided.digest:
            return standing
        conflicting, _ = await self._store.round([spec], self._decider.decide, "admission")
        return conflicting[spec.id]


def _refused(workload: str, message: str) -> Standing:
    return Standing(workload, 0, State.REFUSED, 0, reason=Reason.INVALID_SPEC, message=message)


def in_words(error: ValidationError) -> str:
    """Every problem of a spec: the field, the value (shortened) and what was expected."""
    return "; ".join(
        f"{_field(problem['loc'])}: {_shortened(problem['input'])} - {problem['msg']}"
        for problem in error.errors(include_url=False)[:20]
    )


def _field(path: Sequence[int | str]) -> str:
    return ".".join(str(name)[:LONGEST_VALUE] for name in path) or "spec"


def _shortened(value: object) -> str:
    try:
        text = repr(value[: LONGEST_VALUE + 1] if isinstance(value, str) else value)
    except ValueError:
        return "a number with too many digits to show"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
