"""What a worker that stops leaves in the midst of a step is closed some time later, outside of any workflow."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from types import CoroutineType
from typing import Any

from temporalio.client import WorkflowUpdateStage

import workflows
from corral import wire
from corral.api import Acknowledgement, Reprioritize, State
from tests.patience import PATIENCE_SECONDS
from tests.workflows.stage import Record, a_record, connected, open_stage

OURS = Path(str(workflows.__file__)).parent


def left_behind() -> "Iterator[CoroutineType[Any, Any, Any]]":
    """The steps of workflows that wait for what never comes."""
    for each in gc.get_objects():
        if isinstance(each, CoroutineType) and OURS in Path(each.cr_code.co_filename).parents:
            yield each


async def leave(temporal: str, *records: Record) -> None:
    """Have a worker stop while each does what does not work yet."""
    async with open_stage(await connected(temporal), name="leaves") as stage:
        for record in records:
            handle = await stage.begins(record)
            await handle.start_update(
                wire.Update.REPRIORITIZE,
                Reprioritize(priority=3),
                wait_for_stage=WorkflowUpdateStage.ACCEPTED,
                result_type=Acknowledgement,
            )
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not set(record.troubles) <= set(record.calls):  # noqa: ASYNC110  nobody tells of calls that fail
                    await asyncio.sleep(0.05)


async def test_what_a_worker_leaves_in_the_midst_of_a_step_closes_quietly(temporal: str) -> None:
    waits = a_record(State.WAITING, troubles={"reprioritize": [ConnectionError("no record")] * 1000})
    starts = a_record(State.RESERVED, troubles={"bind": [ConnectionError("no provider")] * 1000})
    await leave(temporal, waits, starts)
    steps = list(left_behind())
    assert {"WorkloadLifecycle._change", "WorkloadLifecycle._at_provider"} <= {each.cr_code.co_qualname for each in steps}
    for step in steps:
        step.close()
