"""Writing down what providers are seen to do, many observations in one transaction."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from activities.answers import Standing
from activities.batching import Batcher
from activities.courier import Courier
from activities.ports import Observation, Store

LAST_SEQUENCE = 2**62
"""Of an end that follows from what is absent at a provider: it comes after whatever had been seen of the attempt."""


class Known(NamedTuple):
    """How much of an attempt has been written down."""

    sequence: int
    checkpoint_at: datetime | None
    provider: str


class Seen(NamedTuple):
    """An observation, where it was made, and whether the workload's workflow hears of it from the activity that asks."""

    observation: Observation
    provider: str
    is_answered: bool


class Observer:
    """Commits observations, from whichever activity saw them, and has the workflows concerned told.

    Of each attempt only what is new is committed: a provider tells some things twice, by an answer and by an event.
    """

    def __init__(self, store: Store, courier: Courier) -> None:
        self._store = store
        self._courier = courier
        self._batches: Batcher[Seen, Standing | None] = Batcher(self._settle)
        self._known: dict[str, Known] = {}

    async def note(self, observation: Observation, provider: str, *, answered: bool = False) -> Standing | None:
        """Write down what a provider showed; answers with the workload's standing if that changed.

        `answered`: the workload's workflow hears of it from the activity that asks, and needs no notice that it runs.
        """
        if not self._is_news(observation):
            return None
        return await self._batches.ask(Seen(observation, provider, answered))

    def known_at(self, provider: str) -> set[str]:
        """Attempts at a provider of which is known how much was written down."""
        return {attempt for attempt, known in self._known.items() if known.provider == provider}

    def forget(self, attempts: Collection[str]) -> None:
        """Attempts that the record has ended: what arrives of them later changes nothing there."""
        for attempt in attempts:
            self._known.pop(attempt, None)

    async def _settle(self, asked: Sequence[Seen]) -> list[Standing | None]:
        observations = [seen.observation for seen in asked]
        answered = frozenset(seen.observation.attempt_id for seen in asked if seen.is_answered)
        standings, notices = await self._store.settle(observations, answered)
        self._courier.post(notices)
        for seen in asked:
            self._remember(seen)
        by_attempt = {f"{standing.workload}.{standing.epoch}": standing for standing in standings.values()}
        return [by_attempt.get(observation.attempt_id) for observation in observations]

    def _is_news(self, observation: Observation) -> bool:
        """Whether it tells a change; that work saved its state is none of the attempt, and is seen when one looks."""
        if (before := self._known.get(observation.attempt_id)) is None:
            return True
        is_saved = observation.checkpoint_at is not None and observation.checkpoint_at != before.checkpoint_at
        return observation.sequence > before.sequence or (observation.sequence == before.sequence and is_saved)

    def _remember(self, seen: Seen) -> None:
        observation = seen.observation
        if observation.phase.is_over:
            self._known.pop(observation.attempt_id, None)
        elif self._is_news(observation):
            self._known[observation.attempt_id] = Known(observation.sequence, observation.checkpoint_at, seen.provider)
