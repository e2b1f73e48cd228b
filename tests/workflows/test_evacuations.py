"""Evacuations as workflows: what they ask for, how they are steered, and what they tell."""

import pytest
from temporalio.client import WorkflowUpdateFailedError

from corral.api import EvacuationState
from corral.client import Corral
from corral.wire import Steering
from tests.workflows.evacuations import BEN, EVACUATIONS, Place, until_told
from tests.workflows.scenarios import ends_cancelled
from tests.workflows.stage import Stage, open_stage, page_of
from workflows.evacuation import in_words


@pytest.mark.parametrize(
    ("scenario", "end", "steps"),
    [
        ("empties_a_region", EvacuationState.DONE, [Steering.PAUSE, Steering.RESUME]),
        ("is_aborted", EvacuationState.ABORTED, [Steering.ABORT]),
        ("is_overdue", EvacuationState.OVERDUE, []),
        ("has_its_evacuation_cancelled", EvacuationState.ABORTED, [Steering.ABORT]),
    ],
)
async def test_each_comes_to_its_end(stage: Stage, scenario: str, end: EvacuationState, steps: list[Steering]) -> None:
    place, handle = await EVACUATIONS[scenario](stage)
    assert place.now is not None
    assert place.now.state is end
    assert [call for call in place.calls if call != "keep_moving"] == steps
    if scenario != "has_its_evacuation_cancelled":
        assert await handle.result() == place.now


async def test_its_page_names_who_is_left(stage: Stage) -> None:
    place = Place()
    async with open_stage(stage.client, place.keep_moving, place.steer, name=place.order.id) as own:
        handle = await place.begins(own)
        status = await until_told(handle, EvacuationState.MOVING)
        page = await page_of(handle)
        assert page == in_words(status)
        assert "moving: region aws/eu, 2 nodes; too hot (ada)" in page
        assert "left: w0, w1, w2" in page
        await handle.execute_update(Steering.ABORT, BEN)


async def test_cancelled_during_an_outage_it_is_aborted_and_ends_as_cancelled(stage: Stage) -> None:
    place = Place(trouble_when_cancelled=ConnectionError("no record"))
    async with open_stage(stage.client, place.keep_moving, place.steer, name=place.order.id) as own:
        handle = await place.begins(own)
        await until_told(handle, EvacuationState.MOVING)
        await handle.cancel()
        await ends_cancelled(handle)
    assert place.now is not None
    assert place.now.state is EvacuationState.ABORTED


async def test_aborted_during_an_outage_before_it_has_begun_it_never_does(stage: Stage) -> None:
    """A client's abort reaches what no record knows of yet."""
    place = Place(troubles=[ConnectionError("no record")] * 1_000)
    async with open_stage(stage.client, place.keep_moving, place.steer, place.operations, name=place.order.id) as own:
        handle = await place.begins(own)
        told = await Corral(own.client, own.name).steer_operation(place.order.id, Steering.ABORT, BEN)
        place.troubles.clear()
        status = await handle.result()
    assert (told.state, status.state, place.calls.count(Steering.ABORT)) == (
        EvacuationState.ABORTED,
        EvacuationState.ABORTED,
        1,
    )
    assert (status.version, status.told) == (1, 0)


async def test_cancelled_before_it_has_begun_it_never_does(stage: Stage) -> None:
    place = Place(troubles=[ConnectionError("no record")] * 1_000)
    async with open_stage(stage.client, place.keep_moving, place.steer, name=place.order.id) as own:
        handle = await place.begins(own)
        await handle.cancel()
        await ends_cancelled(handle)
    assert place.now is not None
    assert (place.now.state, place.now.version) == (EvacuationState.ABORTED, 1)


async def test_a_change_without_a_reason_is_refused(stage: Stage) -> None:
    place = Place()
    async with open_stage(stage.client, place.keep_moving, place.steer, name=place.order.id) as own:
        handle = await place.begins(own)
        await until_told(handle, EvacuationState.MOVING)
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(Steering.PAUSE, {"who": "ben", "reason": ""})
        assert place.calls.count(Steering.PAUSE) == 0
        await handle.execute_update(Steering.ABORT, BEN)


async def test_a_long_one_goes_on_in_a_new_run(hasty_stage: Stage) -> None:
    place = Place()
    async with open_stage(hasty_stage.client, place.keep_moving, place.steer, name=place.order.id) as own:
        first = await place.begins(own)
        await until_told(first, EvacuationState.MOVING)
        for _ in range(5):
            await own.client.get_workflow_handle(first.id).execute_update(Steering.PAUSE, BEN)
            await own.client.get_workflow_handle(first.id).execute_update(Steering.RESUME, BEN)
        place.becomes(EvacuationState.DONE, left=0)
        assert (await first.result()).state is EvacuationState.DONE
        latest = await own.client.get_workflow_handle(first.id).describe()
        assert latest.run_id != first.first_execution_run_id
