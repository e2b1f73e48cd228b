"""The growth of a fleet as a workflow: what it asks for, and what it does when nobody answers."""

import asyncio

from temporalio.client import Client

from activities.answers import StepKind
from tests.patience import PATIENCE_SECONDS
from tests.workflows.growth import Ledger, grows_and_shrinks
from tests.workflows.scenarios import ends_cancelled
from tests.workflows.stage import Stage, open_stage


async def test_it_asks_for_what_is_planned_until_that_is_done(skipping_stage: Stage) -> None:
    ledger, _ = await grows_and_shrinks(skipping_stage)
    assert sorted(ledger.asked[:2]) == ["ask aws/burst-1", "ask aws/spot-1"]
    assert ledger.asked[2:] == ["give back b1, b2"]


async def test_a_provider_that_does_not_answer_is_asked_again_by_the_next_plan_and_holds_up_nobody(
    skipping_stage: Stage,
) -> None:
    ledger = Ledger()
    ledger.troubles["aws/dead-1"] = 9
    ledger.wants(StepKind.ASK, "aws/dead-1")
    ledger.wants(StepKind.ASK, "aws/burst-1")
    async with open_stage(skipping_stage.client, ledger.keep_planning, ledger.carry_out, name=ledger.name):
        handle = await ledger.begins(skipping_stage.client)
        await ledger.until_asked(2)
        assert ledger.asked == ["ask aws/burst-1", "ask aws/dead-1"]
        await handle.cancel()
        await ends_cancelled(handle)


async def test_a_long_one_goes_on_in_a_new_run(hasty_stage: Stage) -> None:
    ledger = Ledger()
    async with open_stage(hasty_stage.client, ledger.keep_planning, ledger.carry_out, name=ledger.name):
        first = await ledger.begins(hasty_stage.client)
        for number in range(4):
            ledger.wants(StepKind.ASK, f"aws/burst-{number}")
            await ledger.until_asked(number + 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await _run_id(hasty_stage.client, first.id) == first.first_execution_run_id:  # noqa: ASYNC110 - a worker does it
                await asyncio.sleep(0.05)
        latest = hasty_stage.client.get_workflow_handle(first.id)
        await latest.cancel()
        await ends_cancelled(latest)


async def _run_id(client: Client, workflow: str) -> str:
    return (await client.get_workflow_handle(workflow).describe()).run_id
