"""Before workers serve a pool whose record was restored: what it does not know is stopped, or woken."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHandle
from temporalio.worker import Worker

from activities.ports import ErrorClass, Phase, ProviderError, ProviderSnapshot
from corral import wire
from tests.activities.fakes import FakeProvider
from tests.activities.store.pool import Pool, a_spec, a_view
from tests.patience import PATIENCE_SECONDS
from tests.ports import free_port
from tests.workflows.stage import RUNNER, connected
from worker import restoring, temporal_server
from worker.restoring import release_strangers, require_nobody_serves, take_up, wake_the_unknown
from worker.settings import Settings, embedded_database_url
from worker.supervision import CannotStart
from worker.temporal_server import polling


@workflow.defn
class Idle:
    """Is never begun."""

    @workflow.run
    async def run(self) -> None:
        """Do nothing."""


async def is_launched(pool: Pool, provider: FakeProvider, workload: str) -> None:
    """A workload that the record knows has its first attempt at the provider."""
    await pool.gets(a_view())
    await pool.arrive(a_spec(workload))
    order = (await pool.binds(workload))[workload]
    assert order is not None
    await provider.launch(order)


async def test_what_runs_without_the_record_knowing_it_is_stopped_and_the_rest_runs_on(pool: Pool) -> None:
    provider, said = FakeProvider(pool), list[str]()
    await is_launched(pool, provider, "training")
    provider.becomes("training.2", Phase.RUNNING)
    provider.becomes("younger.1", Phase.STARTING)
    provider.becomes("ended.1", Phase.SUCCEEDED)
    assert await release_strangers(pool.store, provider, said.append) == 0
    assert [call for call in provider.calls if call.startswith("release")] == ["release training.2", "release younger.1"]
    assert provider.attempts["training.1"].phase is Phase.RUNNING
    assert said == ["aws: 2 attempts were younger than the backup, and were stopped."]
    assert await release_strangers(pool.store, provider, said.append) == 0
    assert said[1:] == ["aws: 0 attempts were younger than the backup, and were stopped."]


class Stuck(FakeProvider):
    """What it is to stop goes on."""

    async def release(self, attempt_id: str, epoch: int) -> None:
        self.calls.append(f"release {attempt_id}")


class Away(FakeProvider):
    """Nobody answers."""

    async def snapshot(self) -> ProviderSnapshot:
        raise ProviderError(ErrorClass.UNAVAILABLE, "no answer")


async def test_what_does_not_stop_and_who_does_not_answer_is_told_as_left(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "RELEASED_WITHIN_SECONDS", 0.0)
    said = list[str]()
    stuck = Stuck(pool)
    stuck.becomes("younger.1", Phase.RUNNING)
    assert await release_strangers(pool.store, stuck, said.append) == 1
    assert said[-1] == "aws: still there: younger.1; run this again"
    assert await release_strangers(pool.store, Away(pool), said.append) == 1
    assert said[-1] == "aws does not answer (no answer); run this again when it does"


async def test_beside_a_worker_nothing_is_taken_up(temporal: str, tmp_path: Path) -> None:
    nowhere = embedded_database_url(free_port(), "restored")
    of_pool = {"pool": "served", "state_dir": tmp_path, "temporal_address": temporal, "database_url": nowhere}
    settings, said = Settings.model_validate(of_pool), list[str]()
    client = await connected(temporal)
    await require_nobody_serves(client, "served")
    async with Worker(client, task_queue=wire.pool_task_queue("served"), workflows=[Idle], workflow_runner=RUNNER):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await polling(client, "served"):  # noqa: ASYNC110  nobody tells when it asks for the first time
                await asyncio.sleep(0.1)
        with pytest.raises(CannotStart, match=rf"work of the pool served: {client.identity} \(\d+ s ago\); stop them all"):
            await take_up(settings, said.append)
    assert said == []


async def test_one_that_has_not_asked_for_longer_than_any_that_lives_is_gone(
    temporal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await connected(temporal)
    async with Worker(client, task_queue=wire.pool_task_queue("left"), workflows=[Idle], workflow_runner=RUNNER):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await polling(client, "left"):  # noqa: ASYNC110  nobody tells when it asks for the first time
                await asyncio.sleep(0.1)
    monkeypatch.setattr(temporal_server, "LONGEST_POLL", timedelta(0))
    await require_nobody_serves(client, "left")


async def test_workflows_of_work_that_the_record_does_not_know_are_woken(pool: Pool, temporal: str) -> None:
    await pool.gets(a_view())
    await pool.arrive(a_spec("training"))
    client, kind = await connected(temporal), wire.LIFECYCLE
    queue, handles = wire.pool_task_queue("restored"), {}
    for workload in ("training", "younger"):
        id = wire.workload_workflow_id(workload)
        handles[workload] = await client.start_workflow(kind, id=id, task_queue=queue)
    elsewhere = await client.start_workflow(kind, id="workload/elsewhere", task_queue=wire.pool_task_queue("another"))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await wake_the_unknown(client, "restored", pool.store) == 0:  # noqa: ASYNC110  it is listed some time later
            await asyncio.sleep(0.1)
    signals = {workload: await signalled(handle) for workload, handle in handles.items()}
    assert signals == {"training": [], "younger": [wire.Telling.WAKE]}
    assert await signalled(elsewhere) == []
    for handle in (*handles.values(), elsewhere):
        await handle.terminate()


async def signalled(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """What a workflow was told."""
    kind = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    events = [event async for event in handle.fetch_history_events() if event.event_type == kind]
    return [event.workflow_execution_signaled_event_attributes.signal_name for event in events]
