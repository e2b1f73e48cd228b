"""The reconciler of a provider: it watches, keeps leases whatever becomes of watching, and goes on anew when it is long."""

from temporalio.client import Client, WorkflowHandle

from tests.workflows.providers import PROVIDER, Watched, until
from tests.workflows.stage import Stage, open_stage


async def page(handle: WorkflowHandle[object, object]) -> str:
    return str((await handle.query("__temporal_workflow_metadata")).current_details)


async def test_its_page_says_which_clusters_answer(stage: Stage) -> None:
    provider = Watched()
    async with open_stage(stage.client, provider.watch, provider.keep, name=PROVIDER):
        handle = await provider.begins(stage.client)
        await until(lambda: provider.kept == 1)
        provider.words = "clusters: 1 reachable, 1 suspect"
        await until(lambda: provider.kept == 2)
        assert "clusters: 1 reachable, 1 suspect" in await page(handle)
        await handle.terminate("the test is over")


async def test_leases_are_kept_while_the_provider_cannot_be_watched(stage: Stage) -> None:
    provider = Watched(is_away=True)
    async with open_stage(stage.client, provider.watch, provider.keep, name=PROVIDER):
        handle = await provider.begins(stage.client)
        for kept in (1, 2, 3):
            await until(lambda kept=kept: provider.kept == kept)  # type: ignore[misc]
            provider.words = f"clusters: {kept} suspect"
        await until(lambda: provider.kept == 4)
        assert provider.watched == 0
        assert "clusters: 3 suspect" in await page(handle)
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
