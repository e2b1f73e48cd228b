"""Advice: the cheapest fixes of those who wait, sought beside the rounds, so that nobody waits for them."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from activities.deciding import Decider
from activities.ports import Store
from corral.api import Explanation, Fix, Reason
from domain.decision import Decision, Plan, Wait
from domain.fixes import cheapest_fixes, for_tenant
from domain.snapshot import Snapshot

LARGEST_POOL = 300
"""Nodes and workloads in a pool whose waiting work is told its fixes unasked; in a larger one they are sought when asked."""

PAUSE_SECONDS = 5.0
"""Between two searches, which cost as much as some dozens of rounds."""

FRESH_FOR = timedelta(minutes=5)


class Advisor:
    """Decides rounds, and tells whoever waits the fixes that were found since its reason is what it is."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._decider = Decider()
        self._found: dict[str, tuple[Reason, datetime, tuple[Fix, ...]]] = {}
        self._waits: dict[str, Explanation] = {}
        self._due = 0.0

    def decide(self, snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        """Decide one round; the waits in it carry the fixes that are known."""
        plan, milliseconds = self._decider.decide(snapshot, now)
        self._waits = {each.workload_id: each.explanation for each in plan.decisions if isinstance(each, Wait)}
        self._found = {id: found for id, found in self._found.items() if id in self._waits}
        return replace(plan, decisions=tuple(map(self._advised, plan.decisions))), milliseconds

    async def seek(self) -> None:
        """Find the fixes of one workload that has none yet, unless it is too early or the pool too large; without names."""
        if not self._waits or time.monotonic() < self._due:
            return
        snapshot, now = await self._store.look()
        waiting = {workload.id for workload in snapshot.waiting}
        wanted = [id for id, said in self._waits.items() if id in waiting and not self._knows(id, said, now)]
        if wanted and len(snapshot.nodes) + len(snapshot.active) + len(snapshot.waiting) <= LARGEST_POOL:
            fixes = await asyncio.to_thread(cheapest_fixes, wanted[0], snapshot, now)
            self._found[wanted[0]] = (self._waits[wanted[0]].reason, now, tuple(map(for_tenant, fixes)))
        self._due = time.monotonic() + PAUSE_SECONDS

    def _knows(self, workload: str, explanation: Explanation, now: datetime) -> bool:
        found = self._found.get(workload)
        return found is not None and found[0] is explanation.reason and now - found[1] < FRESH_FOR

    def _advised(self, decision: Decision) -> Decision:
        if not isinstance(decision, Wait) or decision.workload_id not in self._found:
            return decision
        reason, _, fixes = self._found[decision.workload_id]
        if reason is not decision.explanation.reason:
            return decision
        return replace(decision, explanation=decision.explanation.model_copy(update={"fixes": fixes}))
