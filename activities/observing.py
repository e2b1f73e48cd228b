"""Writing down what providers are seen to do, many observations in one transaction."""

from collections.abc import Sequence
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


UNSEEN = Known(-1, None)


class Observer:
    """Commits observations, from whichever activity saw them, and has the workflows concerned told.

    Of each attempt only what is new is committed: a provider tells some things twice, by an answer and by an event.
    """

    def __init__(self, store: Store, courier: Courier) -> None:
        self._store = store
        self._courier = courier
        self._batches: Batcher[tuple[Observation, bool], Standing | None] = Batcher(self._settle)
        self._seen: dict[str, Known] = {}

    async def note(self, observation: Observation, *, answered: bool = False) -> Standing | None:
        """Write an observation down; answers with the workload's standing if that changed.

        `answered`: the workload's workflow hears of it from the activity that asks, and needs no notice that it runs.
        """
        if not self._is_news(observation):
            return None
        return await self._batches.ask((observation, answered))

    async def _settle(self, asked: Sequence[tuple[Observation, bool]]) -> list[Standing | None]:
        observations = [observation for observation, _ in asked]
        answered = frozenset(observation.attempt_id for observation, told in asked if told)
        standings, notices = await self._store.settle(observations, answered)
        self._courier.post(notices)
        for observation in observations:
            self._remember(observation)
        by_attempt = {f"{standing.workload}.{standing.epoch}": standing for standing in standings.values()}
        return [by_attempt.get(observation.attempt_id) for observation in observations]

    def _is_news(self, observation: Observation) -> bool:
        """Whether it tells a change; that work saved its state is none of the attempt, and is seen when one looks."""
        before = self._seen.get(observation.attempt_id, UNSEEN)
        is_saved = observation.checkpoint_at is not None and observation.checkpoint_at != before.checkpoint_at
        return observation.sequence > before.sequence or (observation.sequence == before.sequence and is_saved)

    def _remember(self, observation: Observation) -> None:
        if observation.phase.is_over:
            self._seen.pop(observation.attempt_id, None)
        elif self._is_news(observation):
            self._seen[observation.attempt_id] = Known(observation.sequence, observation.checkpoint_at)
