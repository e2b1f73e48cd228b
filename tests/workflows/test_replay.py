"""Workflows that began under older code go on under the present one, and a change that would break them is found."""

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner, WorkflowRunner

from activities.evacuating import Evacuating
from activities.growing import Growing
from activities.inventory import Inventory
from activities.rolling_out import RollingOut
from activities.rounds import Rounds
from corral import wire
from tests.workflows.record import EVERY, HISTORIES
from tests.workflows.stage import RUNNER
from worker.wiring import WORKFLOWS
from workflows.reservation import ReservationLifecycle
from workflows.workload import BEGINS_ANEW, LEAVES_WHEN_LONG, WorkloadLifecycle

RECORDED = sorted(path.stem for path in HISTORIES.glob("*.json"))


@cache
def recorded(name: str) -> WorkflowHistory:
    """A history, under the workflow id that it had: the id is part of what a workflow does."""
    history = WorkflowHistory.from_json(name, (HISTORIES / f"{name}.json").read_text())
    return WorkflowHistory(_started(history).workflow_id, history.events)


def _started(history: WorkflowHistory) -> Any:
    return history.events[0].workflow_execution_started_event_attributes


def kind_of(name: str) -> str:
    return str(_started(recorded(name)).workflow_type.name)


async def replays(names: Iterable[str], runner: WorkflowRunner = RUNNER) -> list[str]:
    """Replay histories under the present code; answers with those that it does not carry on."""
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=runner, data_converter=pydantic_data_converter)
    results = {name: await replayer.replay_workflow(recorded(name), raise_on_replay_failure=False) for name in names}
    return [name for name, result in results.items() if result.replay_failure is not None]


def test_every_scenario_has_a_history() -> None:
    assert sorted(EVERY) == RECORDED


@pytest.mark.parametrize("name", RECORDED)
async def test_a_recorded_history_can_be_replayed(name: str) -> None:
    assert await replays([name]) == []


# Nothing is forgotten

NEVER_ACCEPTED = {"Rollout": frozenset({"pause", "resume"})}
"""What a kind of workflow refuses in whatever state it is, so that no history has it."""


@pytest.mark.parametrize("kind", WORKFLOWS, ids=lambda kind: kind.__name__)
def test_every_message_to_a_workflow_of_each_kind_has_been_recorded(kind: type) -> None:
    definition = workflow._Definition.must_from_class(kind)
    seen: set[str] = set()
    for name in RECORDED:
        if kind_of(name) == definition.name:
            for event in recorded(name).events:
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                    seen.add(event.workflow_execution_signaled_event_attributes.signal_name)
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
                    request = event.workflow_execution_update_accepted_event_attributes.accepted_request
                    seen.add(request.input.name)
    expected = {*definition.signals, *definition.updates} - NEVER_ACCEPTED.get(definition.name or "", frozenset())
    assert seen == expected, "see docs/changing-workflows.md for how to record one"


@pytest.mark.parametrize(
    ("patch", "names"),
    [
        (LEAVES_WHEN_LONG, {"ends_its_first_run_when_that_is_long"}),
        (BEGINS_ANEW, {"begins_anew", "begins_anew_as_it_is_bound"}),
    ],
)
def test_every_patch_has_been_recorded(patch: str, names: set[str]) -> None:
    marked = {name for name in RECORDED if any(patch.encode() in event.SerializeToString() for event in recorded(name).events)}
    assert marked == names


# A change that breaks what runs


async def _sleeps_first(self: WorkloadLifecycle) -> Any:
    await workflow.sleep(1)
    return await _ADMIT(self)


_ADMIT = WorkloadLifecycle._admit
_SHOW = WorkloadLifecycle._show


def _shows_twice(self: WorkloadLifecycle) -> None:
    _SHOW(self)
    self._shown = None
    _SHOW(self)


async def _looks_at_once(self: ReservationLifecycle) -> None:
    await workflow.sleep(1)
    await _UNTIL_DUE(self)


_UNTIL_DUE = ReservationLifecycle._until_due


def renamed(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of the same signature under another name."""

    async def other(*args: Any) -> None:
        await step(*args)

    return activity.defn(name="another.step")(other)


MUTATIONS: dict[str, tuple[str, object, str, Callable[..., Any]]] = {
    "a timer before admission": ("WorkloadLifecycle", WorkloadLifecycle, "_admit", _sleeps_first),
    "attributes that nobody recorded": ("WorkloadLifecycle", WorkloadLifecycle, "_show", _shows_twice),
    "no attributes any more": ("WorkloadLifecycle", WorkloadLifecycle, "_show", lambda self: None),
    "a timer between windows": ("ReservationLifecycle", ReservationLifecycle, "_until_due", _looks_at_once),
    "another step of the planner": ("SchedulingRounds", Rounds, "keep_deciding", renamed(Rounds.keep_deciding)),
    "another step of the reconciler": ("ProviderReconcile", Inventory, "watch", renamed(Inventory.watch)),
    "another way to cordon": ("ProviderReconcile", Inventory, "cordon", renamed(Inventory.cordon)),
    "another way to begin a roll-out": ("Rollout", RollingOut, "begin", renamed(RollingOut.begin)),
    "another way to plan growth": ("FleetGrowth", Growing, "keep_planning", renamed(Growing.keep_planning)),
    "another id of what is ordered": ("Recurring", wire, "rollout_workflow_id", lambda id: f"other/{id}"),
    "another way to empty a place": ("Evacuation", Evacuating, "keep_moving", renamed(Evacuating.keep_moving)),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
async def test_a_change_of_what_a_workflow_does_is_found(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, owner, name, other = MUTATIONS[mutation]
    of_its_kind = [each for each in RECORDED if kind_of(each) == kind]
    assert await replays(of_its_kind, UnsandboxedWorkflowRunner()) == []
    monkeypatch.setattr(owner, name, other)
    assert await replays(of_its_kind, UnsandboxedWorkflowRunner()) != [], "no recorded history tells the difference"


def test_the_mutations_are_of_every_kind() -> None:
    kinds = {workflow._Definition.must_from_class(kind).name for kind in WORKFLOWS}
    assert {kind for kind, *_ in MUTATIONS.values()} == kinds
