"""The reconciler of a provider: it watches, keeps leases whatever becomes of watching, and goes on anew when it is long."""

from temporalio.client import Client

from tests.workflows.providers import PROVIDER, Watched, until
from tests.workflows.scenarios import until_page
from tests.workflows.stage import Stage, open_stage


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
