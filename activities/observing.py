"""Writing down what providers are seen to do, many observations in one transaction."""

from collections.abc import Sequence

from activities.answers import Standing
from activities.batching import Batcher
from activities.courier import Courier
from activities.ports import Observation, Store

LAST_SEQUENCE = 2**62
"""Of an end that follows from what is absent at a provider: it comes after whatever had been seen of the attempt."""


class Observer:
    """Commits observations, from whichever activity saw them, and has the workflows concerned told.

    Of each attempt only what is new is committed: a provider tells some things twice, by an answer and by an event.
    """

    def __init__(self, store: Store, courier: Courier) -> None:
        self._store = store
        self._courier = courier
        self._batches: Batcher[tuple[Observation, bool], Standing | None] = Batcher(self._settle)
        self._seen: dict[str, int] = {}

    async def note(self, observation: Observation, *, answered: bool = False) -> Standing | None:
        """Write an observation down; answers with the workload's standing if that changed.

        `answered`: the workload's workflow hears of it from the activity that asks, and needs no notice that it runs.
        """
        if observation.sequence <= self._seen.get(observation.attempt_id, -1):
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

    def _remember(self, observation: Observation) -> None:
        if observation.phase.is_over:
            self._seen.pop(observation.attempt_id, None)
        else:
            before = self._seen.get(observation.attempt_id, -1)
            self._seen[observation.attempt_id] = max(before, observation.sequence)
