"""The reconciler of a provider: it watches, keeps leases whatever becomes of watching, and goes on anew when it is long."""

import asyncio
from typing import Any

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError

from corral import wire
from corral.api import Cordon
from corral.client import Corral, NotFound
from tests.workflows.providers import PROVIDER, Refusals, Watched, until
from tests.workflows.scenarios import until_page
from tests.workflows.stage import Stage, open_stage

DRAIN = Cordon(action="drain", nodes=("node-1",), reason="its fan is loud")


async def test_its_page_says_which_clusters_answer(stage: Stage) -> None:
    provider = Watched()
    async with open_stage(stage.client, provider.watch, provider.keep, name=PROVIDER):
        handle = await provider.begins(stage.client)
        await until(lambda: provider.kept > 0)
        provider.words = "clusters: 1 reachable, 1 suspect"
        await until_page(handle, "clusters: 1 reachable, 1 suspect")
        await handle.terminate("the test is over")


async def test_leases_are_kept_while_the_provider_cannot_be_watched(stage: Stage) -> None:
    provider = Watched(is_away=True)
    async with open_stage(stage.client, provider.watch, provider.keep, name=PROVIDER):
        handle = await provider.begins(stage.client)
        await until(lambda: provider.kept > 0)
        for suspect in (1, 2, 3):
            provider.words = f"clusters: {suspect} suspect"
            await until_page(handle, provider.words)
        assert provider.watched == 0
        provider.is_away = False
        await until(lambda: provider.watched > 0)
        await handle.terminate("the test is over")


async def test_one_that_is_begun_anew_keeps_leases_anew(hasty_stage: Stage) -> None:
    client: Client = hasty_stage.client
    provider = Watched()
    async with open_stage(client, provider.watch, provider.keep, name=PROVIDER):
        handle = await provider.begins(client)
        first = (await handle.describe()).run_id
        await until(lambda: provider.kept >= 2)
        await until(provider.cancelled.is_set)
        assert (await client.get_workflow_handle(handle.id).describe()).run_id != first
        await client.get_workflow_handle(handle.id).terminate("the test is over")


async def test_what_is_asked_of_a_terminated_one_is_answered_once_it_is_started_again(stage: Stage) -> None:
    provider, refusals = Watched(), Refusals()
    seen = stage.client.config()
    seen["interceptors"] = [refusals]
    corral = Corral(Client(**seen))
    async with open_stage(stage.client, provider.watch, provider.keep, provider.cordon, name=PROVIDER):
        await (await provider.begins(stage.client)).terminate("by mistake")
        asked = asyncio.create_task(corral.cordon(PROVIDER, DRAIN))
        await refusals.has_come.wait()
        handle = await provider.begins(stage.client)
        assert await asked == []
        assert provider.cordoned == [DRAIN]
        await handle.terminate("the test is over")


async def test_what_one_was_about_to_answer_when_it_was_terminated_is_asked_of_the_next(stage: Stage) -> None:
    provider = Watched(may_answer=asyncio.Event())
    assert provider.may_answer is not None
    async with open_stage(stage.client, provider.watch, provider.keep, provider.cordon, name=PROVIDER):
        handle = await provider.begins(stage.client)
        asked = asyncio.create_task(Corral(stage.client).cordon(PROVIDER, DRAIN))
        await until(lambda: len(provider.cordoned) == 1)
        await handle.terminate("by mistake")
        handle = await provider.begins(stage.client)
        provider.may_answer.set()
        assert await asked == []
        assert provider.cordoned == [DRAIN, DRAIN]
        await handle.terminate("the test is over")


async def test_a_provider_that_never_was_is_not_waited_for(stage: Stage) -> None:
    with pytest.raises(NotFound, match="there is no provider 'never'"):
        await Corral(stage.client).cordon("never", DRAIN)


@pytest.mark.parametrize("arguments", [[], ["all"], [{}, {}]])
async def test_what_is_no_order_about_nodes_is_refused_and_stops_nothing(stage: Stage, arguments: list[Any]) -> None:
    provider = Watched()
    async with open_stage(stage.client, provider.watch, provider.keep, name=PROVIDER):
        handle = await provider.begins(stage.client)
        await until(lambda: provider.kept > 0)
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(wire.CORDON, args=arguments)
        provider.words = "clusters: 1 reachable, 1 suspect"
        await until_page(handle, provider.words)
        await handle.terminate("the test is over")
