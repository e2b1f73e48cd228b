"""Endpoints: the demand that somebody tells of, and the size that is wanted for it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Adjustment
from activities.ports import NotAllowed
from activities.store.attempts import withdraw
from activities.store.rows import Journal, WorkloadRow
from corral.api import Outcome, State, WorkloadSpec
from domain.accounting import IntervalKind
from domain.autoscaling import Course, burn_rate, followed

NO_DEMAND = "there is no demand for it"


@dataclass(frozen=True, slots=True)
class Scaling:
    """What an endpoint follows, and whether it was taken out of the line for want of demand."""

    course: Course
    asleep: bool = False


_SCALING = TypeAdapter(Scaling)


async def follow_demand(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    """Write down the size that the demand asks for: the next round lets what runs grow or shrink to it.

    Raises:
        NotAllowed: the workload is no endpoint.
    """
    spec = workload.parsed()
    if spec.autoscale is None:
        raise NotAllowed(f"demand: workload {workload.id!r} does not follow demand; expected a spec with autoscale")
    assert asked.demand is not None, "demand has a value"
    at = min(asked.at or journal.now, journal.now)
    known = _known(workload, spec, at)
    if workload.scaling is not None and at <= known.course.as_of:
        return f"{_replicas(known.course.wanted)} wanted: newer demand is known"
    course = followed(known.course, asked.demand, at, spec.autoscale, requests=asked.requests, bad=asked.bad)
    asleep = await _put_in_or_out_of_line(connection, journal, workload, known, course.wanted)
    _write(journal, workload, _sized(spec, course.wanted), Scaling(course, asleep))
    message = f"{_replicas(course.wanted)} wanted for a demand of {asked.demand:g}"
    if (burning := burn_rate(course.served, at, spec.autoscale)) >= spec.autoscale.burn_rate:
        message += f", and an error budget that is used up {burning:.1f} times as fast as it may be"
    if course.wanted != known.course.wanted:
        journal.note(workload.id, "scaled", message)
    return message


def awake(workload: WorkloadRow) -> dict[str, Any]:
    """What to write where somebody else decides whether the workload is in line: demand leaves it at that."""
    return {} if workload.scaling is None else {"scaling": workload.scaling | {"asleep": False}}


def sized_by_hand(spec: WorkloadSpec, at: datetime) -> dict[str, Any]:
    """What to write where somebody has chosen the size of an endpoint: demand that is told from now on starts from there."""
    if spec.autoscale is None:
        return {}
    return {"scaling": _SCALING.dump_python(Scaling(Course.begin(spec.groups[0].count, at, at)), mode="json")}


def _known(workload: WorkloadRow, spec: WorkloadSpec, at: datetime) -> Scaling:
    if workload.scaling is None:
        return Scaling(Course.begin(spec.groups[0].count, workload.submitted_at, at))
    return _SCALING.validate_python(workload.scaling)


async def _put_in_or_out_of_line(
    connection: AsyncConnection, journal: Journal, workload: WorkloadRow, known: Scaling, wanted: int
) -> bool:
    """Take it out of the line when nothing is wanted, and put it back when something is; answers whether it is out for that.

    What was told to stop for want of demand stops first; demand told after that wakes it.
    """
    if not wanted:
        if known.course.wanted and workload.state is not State.SUSPENDED:
            await withdraw(connection, journal, workload.id, Outcome.SUSPENDED, NO_DEMAND)
            return True
        return known.asleep
    if known.asleep and workload.state is State.SUSPENDED:
        moved = journal.move(workload, State.WAITING, "back in line: there is demand for it")
        journal.account(moved, IntervalKind.WAITING)
        return False
    return known.asleep


def _sized(spec: WorkloadSpec, wanted: int) -> WorkloadSpec:
    """The spec with the first group at that count; with nothing wanted, at the least that it comes back with."""
    first, *others = spec.groups
    return spec.model_copy(update={"groups": (first.model_copy(update={"count": max(1, wanted)}), *others)})


def _write(journal: Journal, workload: WorkloadRow, spec: WorkloadSpec, scaling: Scaling) -> None:
    now = journal.workloads.get(workload.id, workload)
    journal.change(now, spec=spec.model_dump(mode="json"), scaling=_SCALING.dump_python(scaling, mode="json"))
    journal.tell(workload.id)


def _replicas(number: int) -> str:
    return f"{number} replica{'' if number == 1 else 's'}"
