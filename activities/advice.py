"""Advice: the cheapest fixes of those who wait, sought beside the rounds, so that nobody waits for them."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TypeVar

from activities.deciding import Decider
from activities.ports import Store
from corral.api import Explanation, Reason
from domain.advice.fixes import Found, for_tenant, search
from domain.advice.question import GoOn
from domain.decision import Decision, Plan, Quality, Wait
from domain.isolation import with_turns_for
from domain.pool.versions import Versions
from domain.snapshot import Snapshot

LARGEST_POOL = 300
"""Nodes and workloads in a pool whose waiting work is told its fixes unasked; in a larger one they are sought when asked."""

SEARCH_SECONDS = 5.0
"""After which a search begins no other trial, and what it has found so far is the answer."""

PAUSE_SECONDS = 5.0
"""Between two searches, which cost as much as some dozens of rounds."""

FRESH_FOR = timedelta(minutes=5)

Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


async def searched(ask: Callable[[GoOn], Answer]) -> Answer:
    """Search in a thread, for a limited time, and no longer than somebody waits for the answer: nobody can stop a thread."""
    until = time.monotonic() + SEARCH_SECONDS
    is_awaited = True
    try:
        return await asyncio.to_thread(ask, lambda: is_awaited and time.monotonic() < until)
    finally:
        is_awaited = False


class Advisor:
    """Decides rounds, and tells whoever waits the fixes that were found since its reason is what it is.

    Rounds are decided in a thread, and fixes are sought on the loop: what one has made, the other only looks at.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._decider = Decider()
        self._found: dict[str, tuple[Reason, datetime, Found | None]] = {}
        self._waits: dict[str, Explanation] = {}
        self._due = 0.0
        self._is_small = True
        self.quality: Quality | None = None
        """Of the last plan."""
        self._search: asyncio.Task[None] | None = None

    def decide(self, snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        """Decide one round; the waits in it carry the fixes that are known for the reasons in it."""
        self._is_small = len(snapshot.nodes) + len(snapshot.active) + len(snapshot.waiting) <= LARGEST_POOL
        everything = replace(snapshot, told=Versions()) if self._is_small else snapshot
        plan, milliseconds = self._decider.decide(everything, now)
        self.quality = plan.quality
        if not self._is_small:
            self._waits = {}
            return plan, milliseconds
        self._waits = {each.workload_id: each.explanation for each in plan.decisions if isinstance(each, Wait)}
        return replace(plan, decisions=tuple(map(self._advised, plan.decisions))), milliseconds

    def seek_beside(self) -> None:
        """Begin a search and go on at once, unless one is going on or it is too early for the next."""
        self._found = {id: found for id, found in self._found.items() if id in self._waits}
        if self._waits and time.monotonic() >= self._due and (self._search is None or self._search.done()):
            self._search = asyncio.create_task(self.seek())

    async def seek(self) -> None:
        """Find the fixes of one workload that has none yet, unless the pool is too large; without names."""
        try:
            snapshot, now = await self._store.look()
            waiting = {workload.id for workload in snapshot.waiting}
            wanted = next((id for id, said in self._waits.items() if id in waiting and self._wants(id, said, now)), None)
            decided = [work for work in snapshot.waiting if not self._is_aside(work.id)]
            if wanted and len(snapshot.nodes) + len(snapshot.active) + len(snapshot.waiting) <= LARGEST_POOL:
                await self._seek_for(wanted, with_turns_for(decided, snapshot), now)
        except Exception:  # the rounds go on without advice
            log.exception("could not find out what would start work that waits")
        finally:
            self._due = time.monotonic() + PAUSE_SECONDS

    async def _seek_for(self, workload: str, snapshot: Snapshot, now: datetime) -> None:
        """Whatever comes of it is remembered: a search that failed or took too long would do so again."""
        reason = self._waits[workload].reason
        found: Found | None = None
        try:
            found = await searched(lambda go_on: search(workload, snapshot, now, go_on=go_on))
        finally:
            self._found[workload] = (reason, now, found)

    def _wants(self, workload: str, said: Explanation, now: datetime) -> bool:
        """Whether no fixes have been sought lately for the reason for which it waits; what is set aside has none."""
        found = self._found.get(workload)
        is_known = found is not None and found[0] is said.reason and now - found[1] < FRESH_FOR
        return not (is_known or self._is_aside(workload))

    def _is_aside(self, workload: str) -> bool:
        """Whether deciding fails about it, so that nothing can be tried in a pool where it has its turn."""
        said = self._waits.get(workload)
        return said is not None and said.reason is Reason.INTERNAL_ERROR

    def _advised(self, decision: Decision) -> Decision:
        if not isinstance(decision, Wait) or (found := self._found.get(decision.workload_id)) is None:
            return decision
        reason, _, answer = found
        if answer is None or reason is not decision.explanation.reason:
            return decision
        advice = {"fixes": tuple(map(for_tenant, answer.fixes)), "fix_search": answer.ended}
        return replace(decision, explanation=decision.explanation.model_copy(update=advice))
