"""Wiring: what a worker keeps running outlives the servers' absence."""

import logging
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio.client import Client

from activities.store.postgres import PostgresStore
from corral import wire
from tests.activities.fakes import asking_nobody
from worker.embedded import free_port
from worker.settings import Settings, embedded_database_url
from worker.wiring import Parts, keep_singletons


class Starts:
    """The part of a Temporal client that starts workflows, and remembers which."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def start_workflow(self, *_: object, id: str, **__: Any) -> None:
        self.ids.append(id)


async def test_a_worker_outlives_a_database_that_is_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings, starts = Settings(state_dir=tmp_path), Starts()
    store = PostgresStore.connect(embedded_database_url(free_port(), "nobody"), settings.clock(), settings.pool)
    parts = Parts(store=store, pulling=asking_nobody(store), providers={}, pool_activities=(), provider_activities=())
    with caplog.at_level(logging.WARNING):
        await keep_singletons(cast(Client, starts), settings, parts)
    await store.aclose()
    assert starts.ids == [wire.rounds_workflow_id(settings.pool), wire.growth_workflow_id(settings.pool)]
    assert "could not make sure" in caplog.text
