"""Workflows that began under older code go on under the present one."""

import pytest
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from tests.workflows.record import EVERY, HISTORIES
from tests.workflows.stage import RUNNER
from workflows.evacuation import Evacuation
from workflows.growth import FleetGrowth
from workflows.provider import ProviderReconcile
from workflows.recurring import Recurring
from workflows.reservation import ReservationLifecycle
from workflows.rollout import Rollout
from workflows.workload import WorkloadLifecycle

RECORDED = sorted(path.stem for path in HISTORIES.glob("*.json"))


def test_every_scenario_has_a_history() -> None:
    assert sorted(EVERY) == RECORDED


@pytest.mark.parametrize("name", RECORDED)
async def test_a_recorded_history_can_be_replayed(name: str) -> None:
    history = WorkflowHistory.from_json(f"workload/{name}", (HISTORIES / f"{name}.json").read_text())
    # The id is part of what a workflow does, so that each is replayed under the one that it had.
    history = WorkflowHistory(_id_of(history), history.events)
    replayer = Replayer(
        workflows=[WorkloadLifecycle, ReservationLifecycle, Evacuation, Rollout, Recurring, ProviderReconcile, FleetGrowth],
        workflow_runner=RUNNER,
        data_converter=pydantic_data_converter,
    )
    await replayer.replay_workflow(history)


def _id_of(history: WorkflowHistory) -> str:
    return history.events[0].workflow_execution_started_event_attributes.workflow_id
