"""The subject of a call or of a line of the log: the workload, and the attempt where it concerns one."""

from collections.abc import Mapping, Sequence

from activities.answers import AttemptKey
from corral import wire

WORKLOAD, ATTEMPT = "workload", "attempt"
_DRIVES = wire.workload_workflow_id("")
_ABOUT_ONE = frozenset({wire.Inquiry.STATUS, wire.Inquiry.EXPLAIN, wire.Inquiry.EVENTS})
"""Questions whose first argument is a workload's id."""


def subject_of_workflow(workflow_id: str | None) -> dict[str, str]:
    """The workload that a workflow drives; nothing for workflows that drive none."""
    if workflow_id is None or not workflow_id.startswith(_DRIVES):
        return {}
    return {WORKLOAD: workflow_id.removeprefix(_DRIVES)}


def subject_of_activity(kind: str, arguments: Sequence[object], workflow_id: str | None) -> Mapping[str, str]:
    """What a call of an activity is about, by its arguments, or else by the workflow that makes it."""
    match arguments:
        case [AttemptKey(workload, epoch), *_]:
            return {WORKLOAD: workload, ATTEMPT: f"{workload}.{epoch}"}
        case [str(workload), *_] if kind in _ABOUT_ONE:
            return {WORKLOAD: workload}
        case _:
            return subject_of_workflow(workflow_id)
