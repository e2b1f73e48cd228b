"""Effort: what one round may spend on looking for work to disturb, so that rounds stay short however much waits."""

from dataclasses import dataclass
from zlib import crc32

from corral.policy import Disruption


@dataclass(slots=True)
class Effort:
    """Lives inside one round. `searches` and `work` are what is left of the policy's limits for a round.

    Half of the searches go to whoever comes first in rank. Of those behind, each has a search with the same chance, drawn anew
    at every time, so that nobody's search is put off for ever by searches of others that find nothing.
    """

    searches: int
    work: float
    at: float
    among: int
    _by_rank: int
    was_short: bool = False
    """Whether somebody was not looked for."""

    @classmethod
    def of(cls, disruption: Disruption, at: float, among: int) -> "Effort":
        """All that a round at this time (a timestamp) may spend, where so many kinds of workloads wait."""
        return cls(disruption.searches, disruption.exact.round_work, at, among, (disruption.searches + 1) // 2)

    @classmethod
    def for_one(cls, disruption: Disruption) -> "Effort":
        """What a round may spend in which only one workload waits."""
        return cls.of(disruption, 0, 1)

    def allows(self, workload_id: str) -> bool:
        """Whether work to disturb may be looked for once more, for this workload."""
        may = self.searches > 0 and (self._by_rank > 0 or self._is_drawn(workload_id))
        self.was_short |= not may
        return may

    def count(self) -> None:
        """One search more."""
        self.searches -= 1
        self._by_rank -= 1

    def _is_drawn(self, workload_id: str) -> bool:
        return crc32(f"{workload_id} {self.at}".encode()) % max(1, self.among) < self.searches
