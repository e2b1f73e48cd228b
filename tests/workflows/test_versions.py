"""Workers of two versions beside each other: who is given what, before and after the newer one is promoted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count

import pytest
from temporalio.client import Client

from corral import wire
from corral.api import EvacuationState, State
from corral.client import Corral
from corral.wire import Steering
from tests.patience import PATIENCE_SECONDS
from tests.workflows.evacuations import BEN, Place, until_told
from tests.workflows.scenarios import until_shown
from tests.workflows.stage import Record, Stage, a_record, open_stage
from worker.settings import Settings, SettingsError
from worker.versions import deployment_name, deployment_of, promote

_numbers = count(1)


class Versions:
    """The workers of one pool, by version; what they share is the pool's record."""

    def __init__(self, client: Client, place: Place, stack: AsyncExitStack) -> None:
        self.client = client
        self.place = place
        self.pool = f"versions-{next(_numbers)}"
        self.records: dict[str, Record] = {}
        self._stack = stack

    def settings(self, build: str) -> Settings:
        address = self.client.service_client.config.target_host
        return Settings(pool=self.pool, build_id=build, temporal_address=address)

    async def starts(self, build: str) -> Stage:
        opened = open_stage(
            self.client,
            self.place.keep_moving,
            self.place.steer,
            name=self.pool,
            version=deployment_of(self.settings(build)),
        )
        stage = await self._stack.enter_async_context(opened)
        stage.records = self.records
        return stage

    async def promotes(self, build: str) -> None:
        """Promote a version as soon as its workers have asked for work."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    await promote(self.client, self.settings(build))
                except SettingsError:
                    await asyncio.sleep(0.2)
                else:
                    return

    async def doers(self, workflow: str) -> list[str]:
        """The versions that did the tasks of a workflow, in order, without repetitions."""
        history = await self.client.get_workflow_handle(workflow).fetch_history()
        builds = [
            event.workflow_task_completed_event_attributes.deployment_version.build_id
            for event in history.events
            if event.HasField("workflow_task_completed_event_attributes")
        ]
        return list(dict.fromkeys(builds))


@asynccontextmanager
async def versions_of(client: Client) -> AsyncIterator[Versions]:
    async with AsyncExitStack() as stack:
        yield Versions(client, Place(), stack)


async def test_what_lives_long_goes_on_with_the_new_version_and_what_is_under_way_ends_with_the_old(stage: Stage) -> None:
    async with versions_of(stage.client) as versions:
        old = await versions.starts("old")
        await versions.promotes("old")
        record = a_record()
        handle = await old.begins(record)
        await until_shown(old, record, State.RUNNING)
        evacuation = await versions.place.begins(old)
        await until_told(evacuation, EvacuationState.MOVING)

        new = await versions.starts("new")
        await new.tells(record.becomes(State.RUNNING))
        await versions.promotes("new")
        later = a_record()
        later_handle = await new.begins(later)
        await until_shown(new, later, State.RUNNING)
        for each in (record, later):
            await new.tells(each.becomes(State.SUCCEEDED))
        await evacuation.execute_update(Steering.ABORT, BEN)
        for each_handle in (handle, later_handle, evacuation):
            await each_handle.result()

        assert await versions.doers(handle.id) == ["old", "new"]
        assert await versions.doers(later_handle.id) == ["new"]
        assert await versions.doers(evacuation.id) == ["old"]


async def test_a_version_whose_workers_nobody_has_seen_is_not_promoted(stage: Stage) -> None:
    async with versions_of(stage.client) as versions:
        with pytest.raises(SettingsError, match=r"CORRAL_BUILD_ID: 'typo' cannot be promoted: .*; start all workers"):
            await promote(stage.client, versions.settings("typo"))


async def test_without_a_version_there_is_nothing_to_promote(stage: Stage) -> None:
    with pytest.raises(SettingsError, match="CORRAL_BUILD_ID: no version is given"):
        await promote(stage.client, Settings())
    assert deployment_of(Settings()) is None
    assert deployment_name("main") == "corral-main"


async def test_questions_are_answered_by_the_version_that_is_given_work(stage: Stage) -> None:
    from temporalio import activity

    @activity.defn(name=wire.Inquiry.ROUNDS)
    async def rounds(limit: int) -> list[str]:
        return []

    async with versions_of(stage.client) as versions:
        version = deployment_of(versions.settings("one"))
        async with open_stage(stage.client, rounds, name=versions.pool, version=version):
            await versions.promotes("one")
            assert await Corral(stage.client, versions.pool).rounds() == []
