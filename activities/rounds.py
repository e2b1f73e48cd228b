"""Rounds: deciding about everybody who waits, whenever something changed and now and then besides."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity

from activities.advice import Advisor
from activities.answers import Adjustment, RoundsDone
from activities.courier import Courier
from activities.liveness import staying_alive
from activities.ports import Clock, NotAllowed, NotFound, Store, Workloads
from activities.pulling import Pulling

COALESCE_SECONDS = 0.02
"""Changes that come within this time of each other wake the planner once."""
UNTOLD_AFTER_SECONDS = 10.0
"""So long after it was written down a standing is told again, if nobody has noted that it was told."""
ORPHANS_AT_ONCE = 50
ORPHANS_WITHIN_SECONDS = 5.0
"""How many workloads are asked about at a time, and how long Temporal may take to answer: rounds wait for that."""
FORGET_SECONDS = 20.0
"""How often what ended long ago is forgotten, a part each time."""

log = logging.getLogger(__name__)


@dataclass
class Chore:
    """What is done between rounds, at once and then every so many seconds."""

    do: Callable[[], Awaitable[None]]
    every_seconds: float
    due_at: float = 0.0
    """By the clock of the loop."""

    async def do_if_due(self) -> None:
        """Do it, unless that was done of late."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self.due_at:
            await self.do()
            self.due_at = loop.time() + self.every_seconds


class Rounds:
    """The planner of a pool: one long activity that runs rounds until its time is over or its worker stops.

    Even while nobody waits there is a round now and then: what runs may grow into what has become free, or have to leave.
    Meanwhile endpoints' demand is asked for.
    """

    def __init__(
        self,
        store: Store,
        courier: Courier,
        workloads: Workloads,
        clock: Clock,
        pulling: Pulling,
        *,
        tick_seconds: float = 1.0,
        reconcile_seconds: float = 20.0,
        retention: timedelta = timedelta(days=90),
    ) -> None:
        self._store = store
        self._courier = courier
        self._workloads = workloads
        self._clock = clock
        self._pulling = pulling
        self._tick_seconds = tick_seconds
        self._reconcile_seconds = reconcile_seconds
        self._retention = retention
        self._checked = ""
        self._advisor = Advisor(store)

    @activity.defn(name="rounds.keep_deciding")
    @staying_alive()
    async def keep_deciding(self, seconds: float) -> RoundsDone:
        """Decide for a while; answers with what was done."""
        loop = asyncio.get_running_loop()
        over, review_due = loop.time() + seconds, loop.time()
        rounds = told = 0
        chores = (
            Chore(self._keep_house, self._tick_seconds),
            Chore(self._look_for_orphans, self._reconcile_seconds),
            Chore(self._forget_old, FORGET_SECONDS),
        )
        async with self._store.wake_ups() as woken, self._pulling.meanwhile():
            while loop.time() < over and not activity.is_worker_shutdown():
                woken.clear()
                if loop.time() >= review_due or await self._store.has_work():
                    told += await self._decide()
                    rounds += 1
                    review_due = loop.time() + self._reconcile_seconds
                    self._advisor.seek_beside()
                for chore in chores:
                    await chore.do_if_due()
                await self._pause(woken)
        quality = self._advisor.quality
        return RoundsDone(rounds, told, quality.in_words if quality else "")

    async def _decide(self) -> int:
        _, notices = await self._store.round([], self._advisor.decide, "planner")
        self._courier.post(notices)
        return len(notices)

    async def _keep_house(self) -> None:
        self._courier.post(await self._store.keep_house())
        self._courier.post(await self._store.undelivered(UNTOLD_AFTER_SECONDS))

    async def _forget_old(self) -> None:
        """What has ended may stay for longer, where it cannot be forgotten: nobody waits for that."""
        try:
            await self._store.forget_old(self._retention)
        except Exception as error:
            log.warning("could not forget what ended long ago: %s", error or type(error).__name__)

    async def _pause(self, woken: asyncio.Event) -> None:
        """Wait for a change or the next tick; changes that come close together wake once."""
        await asyncio.sleep(COALESCE_SECONDS)
        stopping = asyncio.create_task(activity.wait_for_worker_shutdown())
        waking = asyncio.create_task(woken.wait())
        try:
            await asyncio.wait({stopping, waking}, timeout=self._tick_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            waking.cancel()

    async def _look_for_orphans(self) -> None:
        """A look that fails, as when Temporal is away, must not keep the planner from deciding; the next one will do."""
        try:
            async with asyncio.timeout(ORPHANS_WITHIN_SECONDS):
                await self._find_orphans()
        except Exception as error:
            log.warning("could not look for workloads without a workflow: %s", error or type(error).__name__)

    async def _find_orphans(self) -> None:
        """Cancel what no workflow drives any more, a few at a time: a terminated workflow could not do it itself."""
        quiet = timedelta(seconds=3 * self._reconcile_seconds / self._clock.wall_seconds(1))
        batch = await self._store.untouched_workloads(self._clock.now() - quiet, self._checked, ORPHANS_AT_ONCE)
        self._checked = batch[-1] if len(batch) == ORPHANS_AT_ONCE else ""
        for workload in await self._workloads.have_ended(batch):
            subject = {"workload": workload}
            log.warning("the workflow of workload %s ended without releasing it; cancelling it", workload, extra=subject)
            try:
                _, notices = await self._store.adjust("cancel", Adjustment(workload, "orphan", "its workflow ended"))
            except (NotAllowed, NotFound):
                continue
            self._courier.post(notices)
