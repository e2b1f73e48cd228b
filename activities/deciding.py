"""Deciding: one round, timed; a workload that it fails about is set aside, so that all others go on."""

import logging
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from domain.decision import Plan
from domain.isolation import schedule_around
from domain.remembered.memory import Memory
from domain.snapshot import Snapshot

AGAIN_AFTER = timedelta(minutes=10)
"""Whoever was set aside is tried again: what a round fails about may depend on the rest of the pool."""

log = logging.getLogger(__name__)


class Laps:
    """Milliseconds by step, of steps that follow each other."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def __call__(self, step: str) -> None:
        """The step is done, and the next one begins."""
        now = time.perf_counter()
        self.milliseconds[step] = round((now - self._since) * 1000, 3)
        self._since = now


class Decider:
    """Decides rounds, one at a time, and remembers what the last ones worked out and whom they failed about.

    To find those anew would cost many rounds each time.
    """

    def __init__(self) -> None:
        self._aside: dict[str, datetime] = {}
        self._memory = Memory()

    def decide(self, snapshot: Snapshot, now: datetime) -> tuple[Plan, Mapping[str, float]]:
        """Decide one round, and tell how many milliseconds each of its steps took."""
        laps = Laps()
        self._aside = {id: until for id, until in self._aside.items() if now < until}
        plan, fault = schedule_around(snapshot, now, self._aside.keys(), laps, self._memory)
        if fault is not None and fault.workload_id is not None:
            self._aside[fault.workload_id] = now + AGAIN_AFTER
            subject, told = {"workload": fault.workload_id}, "a round failed about workload %s, which is set aside"
            log.error(told, fault.workload_id, extra=subject, exc_info=fault.error)
        elif fault is not None:
            log.error("a round failed, whoever has a turn in it; nothing new starts", exc_info=fault.error)
        return plan, laps.milliseconds
