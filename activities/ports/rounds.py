"""Rounds: the world is read, decided about, and the plan written."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from activities.answers import Notice, Standing
from corral.api import RoundStatus, WorkloadSpec
from domain.decision import Plan
from domain.snapshot import Snapshot

Decide = Callable[[Snapshot, datetime], tuple[Plan, Mapping[str, float]]]
"""Decides one round, and tells the milliseconds of its steps."""


NO_TRACES: Mapping[str, str] = MappingProxyType({})


class Rounds(Protocol):
    """Decides rounds, and knows when one is due."""

    async def round(
        self, specs: Sequence[WorkloadSpec], decide: Decide, trigger: str, traces: Mapping[str, str] = NO_TRACES
    ) -> tuple[Mapping[str, Standing], list[Notice]]:
        """Write new workloads and one round's plan; answers with the standings of the former.

        `traces` are those in which they were submitted, as W3C traceparents by workload, of those who were traced.

        A workload whose id is taken by another spec stands refused, for `Reason.ID_CONFLICT`.
        """

    async def look(self) -> tuple[Snapshot, datetime]:
        """The pool as a round would see it now, and the time."""

    async def has_work(self) -> bool:
        """Whether somebody waits that a round could decide about now, or an edit may bear on what runs."""

    async def rounds(self, limit: int) -> list[RoundStatus]:
        """The newest rounds that changed something, the last one first."""

    def wake_ups(self) -> AbstractAsyncContextManager[asyncio.Event]:
        """An event that is set whenever something changed that could let waiting work start."""
