"""Rounds: one transaction reads the world, decides, and writes the plan."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from activities.answers import Notice, Standing
from activities.ports import NO_TRACES, Clock, Decide
from activities.store import tables, views
from activities.store.bulk import among
from activities.store.parts.transactions import Transactions, again_on_conflict
from activities.store.plans import PlanWriter, RoundRecord, register
from activities.store.rows import Journal, WorkloadRow, open_attempts, standing_of
from activities.store.snapshots import has_work, read_pool
from activities.store.steps import RoundSpan, RoundTimes, Steps, pass_over, untraced
from activities.thinking import Thinker
from corral.api import Reason, RoundStatus, State, WorkloadSpec
from corral.policy import Policy


def _id_is_taken(workload: str) -> Standing:
    message = f"id: {workload!r} belongs to a workload with another spec; submit this one under an id of its own"
    return Standing(workload, 0, State.REFUSED, 0, reason=Reason.ID_CONFLICT, message=message)


class Rounds(Transactions):
    """Decides rounds, and knows what the last one has considered."""

    def __init__(self, engine: AsyncEngine, clock: Clock, pool: str, policy: Policy | None = None) -> None:
        super().__init__(engine, clock, pool, policy)
        self._thinker = Thinker()
        self._next_round = asyncio.Lock()
        """Of the rounds that are wanted, only the next one takes its place in line, when the one before is over."""
        self._considered: int | None = None
        self._reviewed: int | None = None
        self.steps: Mapping[str, float] = {}
        """Milliseconds that each step of the last round took."""
        self.on_round: Callable[[RoundTimes], None] = pass_over
        """Hears of every round that is committed here."""
        self.trace_round: Callable[[str], RoundSpan] = untraced
        """Begins the span of a round, which is recorded when it has been committed and concerned somebody who is traced."""

    async def round(
        self, specs: Sequence[WorkloadSpec], decide: Decide, trigger: str, traces: Mapping[str, str] = NO_TRACES
    ) -> tuple[dict[str, Standing], list[Notice]]:
        """Run one round in one transaction: write the new workloads, read the world, decide, write the plan.

        Answers with the standings of the submitted workloads (of one whose id was taken: how that one stands), and with
        what other workloads are to be told. Where nothing changed that could let the others start, only the new ones
        are decided about. Whatever else the process does goes on while it decides; what is written meanwhile waits for this
        round, but for no other: what has left for somebody must be seen gone, and be bound for, between two rounds.
        """
        async with self._next_round, self._turn:
            times, span, began = RoundTimes(trigger), self.trace_round(trigger), time.perf_counter()
            once = partial(self._round, specs, decide, times, traces, span.place)
            standings, notices, concerned = await again_on_conflict(once)
            times.seconds = time.perf_counter() - began
            if concerned:
                span.end(times, concerned)
        self.on_round(times)
        return standings, notices

    async def _round(
        self, specs: Sequence[WorkloadSpec], decide: Decide, times: RoundTimes, traces: Mapping[str, str], place: str | None
    ) -> tuple[dict[str, Standing], list[Notice], list[str]]:
        """The same, once; answers also with the traces of those who arrived in it and of those whom it has news for."""
        journal, steps = replace(self._journal(), round=place), Steps()
        times.tries += 1
        async with self._snapshot_transaction() as connection:
            with steps.step("register"):
                ours = await register(connection, journal, specs, traces)
            pool = await read_pool(connection, self._pool)
            everybody = not specs or pool.changes != self._considered
            world = await self._reader.read(connection, pool, journal.now, ours, everybody=everybody, steps=steps)
            with steps.step("decide"):
                plan, milliseconds = await self._thinker.think(decide, world.snapshot, journal.now)
            record = RoundRecord(self._pool, times.trigger, milliseconds)
            notices = await PlanWriter(connection, journal, world, record, ours.keys(), steps).write(plan)
            standings = await self._standings(connection, specs, ours, journal)
            if plan.unfinished:
                await self._note_change(connection)
        if everybody:
            self._considered, self._reviewed = pool
        self.steps = steps.milliseconds
        times.milliseconds = steps.milliseconds | {f"decide: {step}": spent for step, spent in milliseconds.items()}
        traces_concerned = (*(row.trace for row in ours.values()), *(notice.trace for notice in notices))
        return standings, notices, [trace for trace in traces_concerned if trace is not None]

    async def _standings(
        self, connection: AsyncConnection, specs: Sequence[WorkloadSpec], ours: Iterable[str], journal: Journal
    ) -> dict[str, Standing]:
        standings = {id: journal.standing(id) for id in ours if id in journal.workloads}
        others = {spec.id: spec.digest for spec in specs if spec.id not in standings}
        if others:
            query = select(tables.workloads).where(among(tables.workloads.c.id, others))
            open_now = await open_attempts(connection, list(others))
            for row in [WorkloadRow.of(row) for row in await connection.execute(query)]:
                same = row.digest == others[row.id]
                standings[row.id] = standing_of(row, open_now, self._clock) if same else _id_is_taken(row.id)
        return standings

    async def has_work(self) -> bool:
        """Whether a round could decide anything now.

        Somebody waits, or has notice for the sake of who is gone, or an edit may bear on what runs, or a window comes near.
        """
        async with self._engine.connect() as connection:
            return await has_work(connection, self._pool, self._clock.now(), self._reviewed)

    async def rounds(self, limit: int) -> list[RoundStatus]:
        """The newest rounds that changed something, the last one first."""
        async with self._engine.connect() as connection:
            return await views.rounds(connection, self._pool, limit)
