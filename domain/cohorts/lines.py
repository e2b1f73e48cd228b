"""Lines: who waits in which queue, and who of them is considered next."""

from collections.abc import Iterable

from corral.api import Ordering
from domain.cohorts.candidates import mine
from domain.cohorts.nomination import Nomination, Verdict
from domain.cohorts.setting import Setting
from domain.openings import why_not_yet
from domain.request import Kind
from domain.workload import Waiting


class Lines:
    """Each queue's line in order; it lives inside one round.

    Who could not be helped is parked, with all that are like it, unless the queue is strict: then it stays in front.
    """

    def __init__(self, waiting: Iterable[Waiting], setting: Setting) -> None:
        self._setting = setting
        self._lines: dict[str, list[Waiting]] = {}
        self._parked: dict[Kind, Verdict] = {}
        for workload in sorted(waiting, key=_place_in_line):
            if why_not_yet(workload, setting.facts) is None:
                self._lines.setdefault(workload.spec.queue, []).append(workload)

    def heads(self) -> list[Waiting]:
        """The first of each line, by queue."""
        firsts = (self._first(queue) for queue in sorted(self._lines))
        return [workload for workload in firsts if workload is not None]

    def _first(self, queue: str) -> Waiting | None:
        is_parked = self._parked.__contains__
        return next((each for each in self._lines[queue] if not is_parked(self._kind(each))), None)

    def left(self) -> list[list[Waiting]]:
        """Every line as it stands, by queue."""
        return [self._lines[queue] for queue in sorted(self._lines) if self._lines[queue]]

    def remove(self, workload: Waiting) -> None:
        """It has what it asked for."""
        self._lines[workload.spec.queue].remove(workload)

    def park(self, nomination: Nomination) -> bool:
        """Let those behind it come first from now on; whether that changes anything."""
        workload = nomination.workload
        if self._setting.facts.queues[workload.spec.queue].ordering is Ordering.STRICT_FIFO:
            return False
        self._parked[self._kind(workload)] = nomination.verdict
        return True

    def verdict(self, workload: Waiting) -> Verdict | None:
        """Why it, or one that is like it, was parked; none where it was not."""
        return self._parked.get(self._kind(workload))

    def reconsider(self) -> None:
        """Put everybody back in line."""
        self._parked.clear()

    def _kind(self, workload: Waiting) -> Kind:
        return self._setting.facts.turn_kind(workload)


def _place_in_line(workload: Waiting) -> tuple[object, ...]:
    tier, priority = mine(workload)
    return -tier, -priority, workload.submitted_at, workload.id
