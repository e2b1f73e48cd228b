"""How workloads stand, what happened to them, and what people change of them."""

from datetime import datetime
from typing import Protocol

from activities.answers import Adjusted, Adjustment, Notice, Standing
from activities.metering import EndpointToAsk
from corral.api import WorkloadEvent, WorkloadFilter, WorkloadStatus


class Standings(Protocol):
    """Tells of workloads, and changes what people want of them."""

    async def standing(self, workload: str) -> Standing | None:
        """How a workload stands now, or none when there is none of that id."""

    async def adjust(self, verb: str, asked: Adjustment) -> tuple[Adjusted, list[Notice]]:
        """Do a change that somebody asked for, once.

        Raises:
            NotAllowed: the state does not allow it.
            NotFound: there is no such workload.
        """

    async def adjust_unasked(self, verb: str, asked: Adjustment) -> list[Notice]:
        """Do a change, once, that the workload's workflow did not ask for; answers with what it is to be told as well.

        Raises:
            NotAllowed: the state does not allow it.
            NotFound: there is no such workload.
        """

    async def endpoints_to_ask(self) -> list[EndpointToAsk]:
        """All live endpoints whose spec says where their demand can be asked for."""

    async def done(self, verb: str, workload: str, key: str) -> Adjusted | None:
        """What was done of a change that somebody asked for by that key, and how the workload stands now."""

    async def untouched_workloads(self, before: datetime, after: str, limit: int) -> list[str]:
        """Live workloads that nothing happened to since a time, by id, from behind one on, so many at most."""

    async def status(self, workload: str) -> WorkloadStatus | None:
        """One workload, or none."""

    async def workloads(self, which: WorkloadFilter) -> list[WorkloadStatus]:
        """Workloads that match, newest first."""

    async def events(self, workload: str, after: int) -> list[WorkloadEvent]:
        """A workload's history after an event, oldest first."""
