"""Telling workflows what the record says of their workloads, as often as it takes."""

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context
from dataclasses import dataclass, field

from activities.answers import Notice
from activities.ports import Store, Workloads

AT_ONCE = 32

log = logging.getLogger(__name__)


@dataclass
class Courier:
    """Delivers notices in the background, in nobody's context; whatever fails stays in the outbox and is posted again later."""

    store: Store
    workloads: Workloads
    _waiting: list[Notice] = field(default_factory=list)
    _under_way: set[int] = field(default_factory=set)
    _delivering: "asyncio.Task[None] | None" = None

    def post(self, notices: Sequence[Notice]) -> None:
        """Take notices that have been committed; does not wait for their delivery."""
        new = [notice for notice in notices if notice.id not in self._under_way]
        self._under_way.update(notice.id for notice in new)
        self._waiting.extend(new)
        if self._waiting and (self._delivering is None or self._delivering.done()):
            self._delivering = asyncio.create_task(self._deliver(), context=Context())

    async def _deliver(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            results = await asyncio.gather(*(self.workloads.tell(notice) for notice in batch), return_exceptions=True)
            told = [notice for notice, result in zip(batch, results, strict=True) if not isinstance(result, BaseException)]
            if len(told) < len(batch):
                log.warning("could not tell %d workflows; they will be told later", len(batch) - len(told))
            try:
                await self.store.delivered(told)
            except Exception:
                log.warning("could not note that %d workflows were told; they will be told again", len(told))
            self._under_way.difference_update(notice.id for notice in batch)
