"""Attempts: from the hold over what providers tell of them to their end."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from activities.answers import AttemptKey, Notice, OpenAttempt, Standing
from activities.ports.provider import LaunchSpec, Observation, StopOrder


class Attempts(Protocol):
    """Takes attempts on by what is decided, asked and observed."""

    async def begin_bindings(self, keys: Sequence[AttemptKey]) -> Sequence[LaunchSpec | None]:
        """Turn holds in force into launches; none where an epoch has no right to it any more."""

    async def stop_order(self, key: AttemptKey) -> StopOrder | None:
        """What an open attempt that may be at its provider is to know about leaving; none when there is no such attempt."""

    async def noticed(self, key: AttemptKey, notice: int) -> list[Notice]:
        """Note that the provider has given a notice: the grace runs."""

    async def start_anew(self, key: AttemptKey, notice: int, why: str) -> list[Notice]:
        """Note that an attempt cannot get another size as it runs: by a notice of its own, all of it is to leave."""

    async def kept(self, key: AttemptKey, notice: int) -> list[Notice]:
        """Note that the provider has taken a notice back."""

    async def settle(
        self, observations: Sequence[Observation], answered: frozenset[str] = frozenset()
    ) -> tuple[Mapping[str, Standing], list[Notice]]:
        """Believe what was observed; answers with the standings of the workloads that this changed.

        The workflows of `answered` attempts hear of it from the activity that observed it.
        """

    async def refuse_binding(self, key: AttemptKey, reason: str, *, final: bool) -> list[Notice]:
        """Take an attempt back that its provider will not run; `final` when no other place would do either."""

    async def keep_house(self) -> list[Notice]:
        """End attempts whose hold expired, give notice to work on draining nodes, and urge on what leaves too slowly."""

    async def open_attempts_at(self, provider: str) -> list[OpenAttempt]:
        """Attempts that are open in the record and have been sent to a provider."""

    async def stops_due(self, provider: str, older_than_seconds: float) -> list[AttemptKey]:
        """Attempts at a provider that were to stop some (wall) time ago, and have not been observed gone."""

    async def remnants_due(self, provider: str, older_than_seconds: float) -> list[StopOrder]:
        """What a provider is to be told again: to stop replicas by force that did not leave some (wall) time ago."""
