"""Roll-outs that are watched, as the record has them: which fields each may take back, and what lies under those."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from activities.store import orders, tables
from corral.api import Model, OperationKind
from corral.rollout import Change, Readings, RolloutOrder, RolloutState, Surroundings, in_words
from domain.operations import fields
from domain.operations.fields import Fields, Path
from domain.operations.layers import Layer, Layers, by_id, edited_by_hand, laid
from domain.operations.watching import Reign


class Own(Model):
    """A field that a roll-out may take back, and what lies right under it, as `domain.operations.layers.Layer` has it."""

    path: Path
    under: str | None


class Progress(orders.Progress):
    """What the record knows of a roll-out beside its order.

    `surroundings` and `hurt` are what it was begun on. Since `covered_at` all harm is put down to others, applied later.
    """

    surroundings: Surroundings
    hurt: tuple[str, ...] = ()
    foreseen: Mapping[str, int] = {}
    why_not: str = ""
    """Why it ended before anything was foreseen of it, where it did."""
    pool: str = ""
    applied_at: datetime | None = None
    place: int = 0
    """The higher, the later it was applied."""
    owns: tuple[Own, ...] | None = None
    """None where an older Corral has applied it: then `before`, what it was applied over, tells."""
    before: Change | None = None
    set_since: tuple[str, ...] = ()
    """Fields that were its own until somebody set them for good, in words."""
    covered_at: datetime | None = None
    at_first: Readings | None = None
    readings: Readings | None = None

    @property
    def is_overtaken(self) -> bool:
        """Whether nothing is left that it may take back."""
        return bool(self.set_since) and not self.owns

    @property
    def message(self) -> str:
        """How far it is, in words."""
        if self.covered_at is not None:
            return "another roll-out lies over it, to which harm is put down: it is watched on when that is over"
        if (now := self.readings) is None:
            return self.why_not or f"foreseen: {in_words(self.foreseen)}"
        return (
            f"{now.waiting} of {now.live} workloads wait, {now.refused} refused since, {now.stops} stopped or moved "
            f"within an hour, {now.promises_missed} short of their promise"
        )


def progress_of(row: Row[Any]) -> Progress:
    """What the record knows of a roll-out."""
    return Progress.model_validate({name: value for name, value in row.progress.items() if name not in {"message", "applied"}})


def order_of(row: Row[Any]) -> RolloutOrder:
    """What was ordered."""
    return RolloutOrder.model_validate(row.terms)


async def watched(connection: AsyncConnection, kind: OperationKind, pool: str) -> list[Row[Any]]:
    """The roll-outs of one kind that are watched, locked, the one that was applied first first; policies are a pool's own."""
    query = select(tables.orders).where(tables.orders.c.kind == kind, tables.orders.c.state == RolloutState.WATCHING)
    rows = [(progress_of(row), row) for row in await connection.execute(query.order_by(tables.orders.c.id).with_for_update())]
    here = [(p.place, str(p.applied_at), row) for p, row in rows if kind is OperationKind.QUEUES or p.pool in {pool, ""}]
    return [row for _, _, row in sorted(here, key=lambda each: each[:2])]


async def reigns(connection: AsyncConnection, pool: str, since: datetime) -> list[Reign]:
    """The roll-outs of all kinds that were in force after a time."""
    columns = tables.orders.c
    query = select(tables.orders).where(
        columns.kind.in_((OperationKind.POLICY, OperationKind.QUEUES)),
        columns.progress["applied_at"].astext.is_not(None),
        or_(columns.ended_at.is_(None), columns.ended_at > since),
    )
    return [reign_of(row) for row in await connection.execute(query) if progress_of(row).pool in {pool, ""}]


def reign_of(row: Row[Any]) -> Reign:
    """How long a roll-out that was applied has been in force."""
    progress, change = progress_of(row), order_of(row).change
    assert progress.applied_at is not None, "it was applied"
    names = frozenset(change.names) if change.policy is None else None
    return Reign(row.id, progress.applied_at, row.ended_at, progress.place, names)


def layers_of(rows: Sequence[Row[Any]]) -> Layers:
    """What each of them may take back."""
    return tuple(_layer(row.id, order_of(row).change, progress_of(row)) for row in rows)


def _layer(id: str, change: Change, progress: Progress) -> Layer:
    if progress.owns is not None:
        return Layer(id, {own.path: own.under for own in progress.owns})
    before, after = (_of_change(progress.before) if progress.before else {}), _of_change(change)
    return laid((), id, before, after, stays=added(before, after))[0]


def _of_change(change: Change) -> Fields:
    return fields.of_policy(change.policy) if change.policy else fields.of_queues(change.queues.queues if change.queues else ())


def added(before: Fields, after: Fields) -> Collection[Path]:
    """The fields of queues that were not there before. They stay: work may be in them."""
    known = {path[0] for path in before}
    return {path for path in after if path[0] not in known}


def owned(layer: Layer) -> tuple[Own, ...]:
    """A layer as the record keeps it."""
    return tuple(Own(path=path, under=under) for path, under in sorted(layer.under.items()))


async def keep(connection: AsyncConnection, rows: Sequence[Row[Any]], layers: Layers) -> None:
    """Write down what has become of the layers of roll-outs; those that have none any more have ended, and are left alone."""
    left = by_id(layers)
    for row, was in zip(rows, layers_of(rows), strict=True):
        if (layer := left.get(row.id)) is not None and layer != was:
            progress = progress_of(row)
            lost = tuple(fields.in_words(path) for path in sorted(was.under.keys() - layer.under.keys()))
            values = {"owns": owned(layer), "set_since": (*progress.set_since, *lost)}
            await orders.changed(connection, row, {"progress": progress.model_copy(update=values).kept})


async def edited(
    connection: AsyncConnection, kind: OperationKind, pool: str, before: Callable[[], Fields], after: Callable[[], Fields]
) -> None:
    """Let no roll-out take back what somebody has set by hand: that is what differs after it from before."""
    if rows := await watched(connection, kind, pool):
        await keep(connection, rows, edited_by_hand(layers_of(rows), fields.edits(before(), after())))
