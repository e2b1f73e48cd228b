"""Endpoints: the demand that somebody tells of or that is asked for, and the size that is wanted for it."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Adjustment
from activities.metering import EndpointToAsk
from activities.ports import NotAllowed
from activities.store import tables
from activities.store.attempts import withdraw
from activities.store.rows import Journal, WorkloadRow
from corral.api import DemandSource, Following, Outcome, State, WorkloadSpec
from domain.elasticity.autoscaling import Course, burn_rate, followed
from domain.quota.accounting import IntervalKind

NO_DEMAND = "there is no demand for it"


@dataclass(frozen=True, slots=True)
class Missed:
    """Demand that was asked for in vain: since when it is known no more, and why."""

    since: datetime
    problem: str


@dataclass(frozen=True, slots=True)
class Scaling:
    """What an endpoint follows, whether it was taken out of the line for want of demand, and what is missed of it now."""

    course: Course
    asleep: bool = False
    missed: Missed | None = None


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


async def miss_demand(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    """Write down that demand was asked for in vain, and why: what is wanted stays as it is."""
    known = _known(workload, workload.parsed(), journal.now)
    last_known = workload.submitted_at if workload.scaling is None else known.course.as_of
    missed = Missed(known.missed.since if known.missed else last_known, asked.reason)
    message = f"demand is not known since {missed.since:%Y-%m-%d %H:%M:%S}: {missed.problem}; its size stays as it is"
    if missed != known.missed:
        journal.change(workload, scaling=_SCALING.dump_python(replace(known, missed=missed), mode="json"))
        journal.note(workload.id, "missed", message)
    return message


async def to_ask(connection: AsyncConnection) -> list[EndpointToAsk]:
    """All live endpoints whose spec says where their demand can be asked for."""
    columns = tables.workloads.c
    source = columns.spec["autoscale"]["demand_from"]
    query = select(columns.id, source.label("source"), columns.scaling).where(
        columns.ended_at.is_(None), columns.state != State.SUBMITTED, func.jsonb_typeof(source) == "object"
    )
    return [
        EndpointToAsk(row.id, DemandSource.model_validate(row.source), problem_of(row.scaling))
        for row in await connection.execute(query.order_by(columns.id))
    ]


def problem_of(scaling: dict[str, Any] | None) -> str:
    """Why the demand of an endpoint is known no more; empty while it is."""
    following = following_of(scaling)
    return following.problem if following else ""


def following_of(scaling: dict[str, Any] | None) -> Following | None:
    """How an endpoint follows demand, for people; none while none was told or asked for."""
    if scaling is None:
        return None
    known = _SCALING.validate_python(scaling)
    if known.missed is None:
        return Following(wanted=known.course.wanted)
    return Following(wanted=known.course.wanted, stale_since=known.missed.since, problem=known.missed.problem)


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
        journal.tell(workload.id)
        return False
    return known.asleep


def _sized(spec: WorkloadSpec, wanted: int) -> WorkloadSpec:
    """The spec with the first group at that count; with nothing wanted, at the least that it comes back with."""
    first, *others = spec.groups
    return spec.model_copy(update={"groups": (first.model_copy(update={"count": max(1, wanted)}), *others)})


def _write(journal: Journal, workload: WorkloadRow, spec: WorkloadSpec, scaling: Scaling) -> None:
    now = journal.workloads.get(workload.id, workload)
    journal.change(now, spec=spec.model_dump(mode="json"), scaling=_SCALING.dump_python(scaling, mode="json"))


def _replicas(number: int) -> str:
    return f"{number} replica{'' if number == 1 else 's'}"
