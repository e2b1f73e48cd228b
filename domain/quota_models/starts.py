"""Starts of a round, against the most that the policy allows in one."""

from collections import Counter

from domain.facts import Facts


class Starts:
    """The starts of this round, against the most that the policy allows in one."""

    def __init__(self, facts: Facts) -> None:
        limits = facts.policy.limits
        self._most, self._most_by_queue = limits.starts_per_round, limits.starts_per_queue_and_round
        self._by_queue = Counter(facts.promised)

    def add(self, queue: str) -> None:
        """Count one more."""
        self._by_queue[queue] += 1

    def limit_reached(self, queue: str) -> str | None:
        """The limit that keeps the queue from starting anything more in this round, as the policy calls it."""
        if self._most is not None and self._by_queue.total() >= self._most:
            return "starts_per_round"
        if self._most_by_queue is not None and self._by_queue[queue] >= self._most_by_queue:
            return "starts_per_queue_and_round"
        return None
