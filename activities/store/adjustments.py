"""Changes that people ask for, each done once whatever how often it is asked."""

from collections.abc import Awaitable, Callable

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.answers import Adjustment
from activities.ports import NotAllowed, NotFound
from activities.store import tables
from activities.store.attempts import withdraw
from activities.store.endpoints import awake, follow_demand, miss_demand, sized_by_hand
from activities.store.leaving import note_checkpoint
from activities.store.respecifying import respecified
from activities.store.retargeting import change_targets
from activities.store.rows import Journal, WorkloadRow, locked, locked_workloads
from corral.api import Outcome, State, WorkloadSpec
from domain.pool.lifecycle import BEFORE_BINDING, objection
from domain.quota.accounting import IntervalKind

Change = Callable[[AsyncConnection, Journal, WorkloadRow, Adjustment], Awaitable[str]]
"""Does one change to a locked workload, and says what was done."""

REMEMBERED = 100
"""So many changes of a kind and workload are recognised when they are asked for again."""


async def once(connection: AsyncConnection, journal: Journal, verb: str, asked: Adjustment) -> str:
    """Do a change, or find that it is done already; answers what was done in words.

    Raises:
        NotAllowed: the workload's state does not allow it; nothing was changed.
        NotFound: there is no such workload.
    """
    key, about = _key(verb, asked.workload, asked.key), f"{asked.workload}:{verb}"
    workload = (await locked_workloads(connection, [asked.workload])).get(asked.workload)
    if workload is None:
        raise NotFound(f"there is no workload {asked.workload!r}")
    if (before := await done(connection, verb, workload.id, asked.key)) is not None:
        return before
    if problem := objection(verb, workload.id, workload.state):
        raise NotAllowed(problem)
    message = await CHANGES[verb](connection, journal, workload, asked)
    await connection.execute(insert(tables.operations).values(key=key, about=about, result={"message": message}))
    await _forget_old_ones(connection, about)
    return message


async def done(connection: AsyncConnection, verb: str, workload: str, key: str) -> str | None:
    """What was done of a change that was asked for by that key, in words, or none when it never was."""
    query = select(tables.operations.c.result).where(tables.operations.c.key == _key(verb, workload, key))
    result = await connection.scalar(query)
    return None if result is None else str(result["message"])


def _key(verb: str, workload: str, key: str) -> str:
    return f"{workload}:{verb}:{key}"


async def _forget_old_ones(connection: AsyncConnection, about: str) -> None:
    """Keep the newest of what was done: who repeats a request does so at once, and some are told something every minute."""
    columns = tables.operations.c
    old = select(columns.key).where(columns.about == about).order_by(columns.written.desc(), columns.key).offset(REMEMBERED)
    await connection.execute(delete(tables.operations).where(columns.key.in_(old)))


async def _cancel(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    await withdraw(connection, journal, workload.id, Outcome.CANCELLED, asked.reason)
    return "cancelled" if _after(journal, workload).state.is_terminal else "cancelled; it ends when it is observed stopped"


async def _hold(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    await withdraw(connection, journal, workload.id, Outcome.SUSPENDED, asked.reason)
    if workload.id not in journal.workloads:
        return "not held: it has notice to leave for good"
    if scaling := awake(workload):
        journal.change(_after(journal, workload), **scaling)
    suspended = _after(journal, workload).state is State.SUSPENDED
    return "held until it is released" if suspended else "held; it leaves the line when it is observed stopped"


async def _release(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    moved = journal.move(workload, State.WAITING, "released: back in line", **awake(workload))
    journal.account(moved, IntervalKind.WAITING)
    journal.tell(workload.id)
    return "released: back in line"


async def _resize(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    if workload.state is State.RUNNING and workload.parsed().autoscale is None:
        raise NotAllowed(
            f"resize: workload {workload.id!r} runs; expected an endpoint (a spec with autoscale) or what has not started"
        )
    spec = _resized(workload.parsed(), asked)
    message = f"resized: {spec.summary}"
    if workload.state in BEFORE_BINDING:
        await withdraw(connection, journal, workload.id, Outcome.RESIZED, "what it holds is of another size")
    scaling = sized_by_hand(spec, journal.now)
    journal.change(_after(journal, workload), spec=spec.model_dump(mode="json"), explanation=None, **scaling)
    journal.note(workload.id, "resized", message)
    journal.tell(workload.id)
    return message


def _resized(spec: WorkloadSpec, asked: Adjustment) -> WorkloadSpec:
    name = asked.group or spec.groups[0].name
    if name not in {group.name for group in spec.groups}:
        raise NotAllowed(f"group: there is no replica group {name!r}; it has {', '.join(group.name for group in spec.groups)}")
    assert asked.count is not None, "a size has a count"
    size: dict[str, int | None] = {"count": asked.count, "minimum": asked.minimum}
    if (rules := spec.autoscale) is not None and name == spec.groups[0].name:
        if not rules.minimum <= asked.count <= rules.most:
            raise NotAllowed(f"count: {asked.count}; autoscale of {spec.id!r} allows from {rules.minimum} to {rules.most}")
        size["minimum"] = spec.groups[0].minimum if asked.minimum is None else asked.minimum
    groups = [group.model_dump() | (size if group.name == name else {}) for group in spec.groups]
    return respecified(spec, f"count: {asked.count}", groups=groups)


async def _reprioritize(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    message = f"priority {workload.priority} became {asked.priority}"
    journal.change(workload, priority=asked.priority)
    journal.note(workload.id, "reprioritized", message)
    journal.tell(workload.id)
    return message


async def _extend(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    spec = workload.parsed()
    if spec.maximum_runtime_seconds is None:
        raise NotAllowed(
            f"extend: workload {workload.id!r} has no maximum runtime: nothing ends it, and nothing can be extended"
        )
    _, attempt = await locked(connection, journal, workload.id)
    if attempt is not None and attempt.stop_as == Outcome.OUT_OF_TIME:
        raise NotAllowed(f"extend: workload {workload.id!r} is being stopped, as its maximum runtime is over; submit it anew")
    longer = respecified(
        spec, f"seconds: {asked.seconds}", maximum_runtime_seconds=spec.maximum_runtime_seconds + asked.seconds
    )
    message = f"may run {longer.maximum_runtime_seconds} s in all, {asked.seconds} s more"
    journal.change(workload, spec=longer.model_dump(mode="json"))
    journal.note(workload.id, "extended", message)
    journal.tell(workload.id)
    return message


async def _expire(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    await withdraw(connection, journal, workload.id, Outcome.OUT_OF_TIME, "its maximum runtime is over")
    return "stopped: its maximum runtime is over"


async def _checkpointed(connection: AsyncConnection, journal: Journal, workload: WorkloadRow, asked: Adjustment) -> str:
    _, attempt = await locked(connection, journal, workload.id)
    assert attempt is not None, "what runs or stops has an attempt"
    if not note_checkpoint(journal, workload, attempt):
        return "its work is saved up to now"
    message = "its work is saved: it is stopped without waiting for the end of its grace"
    journal.note(workload.id, "checkpointed", message)
    return message


def _after(journal: Journal, workload: WorkloadRow) -> WorkloadRow:
    return journal.workloads.get(workload.id, workload)


CHANGES: dict[str, Change] = {
    "cancel": _cancel,
    "hold": _hold,
    "release": _release,
    "resize": _resize,
    "demand": follow_demand,
    "miss-demand": miss_demand,
    "reprioritize": _reprioritize,
    "retarget": change_targets,
    "extend": _extend,
    "expire": _expire,
    "checkpointed": _checkpointed,
}
