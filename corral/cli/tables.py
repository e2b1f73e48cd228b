"""Tables and cards: how answers look to a person."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from corral.api import (
    Acknowledgement,
    Explanation,
    FleetStatus,
    NodeStatus,
    QueueStatus,
    QueueUsage,
    State,
    Where,
    WorkloadEvent,
    WorkloadResult,
    WorkloadStatus,
)
from corral.cli.problems import printable
from corral.client import Submission

NOTHING = "-"

_COLOURS = {
    State.RUNNING: "green",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.REFUSED: "red",
    State.CANCELLED: "yellow",
    State.SUSPENDED: "yellow",
}

Row = TypeVar("Row")


def workloads(statuses: Sequence[WorkloadStatus]) -> RenderableType:
    """One line for each workload."""
    table = _table("ID", "QUEUE", "TIER", "PRIO", "STATE", "SINCE", "WHERE", "REASON", right=("PRIO",))
    for status in statuses:
        _row(
            table,
            status.id,
            status.queue,
            status.tier,
            status.priority,
            status.state,
            status.since,
            _place(status),
            _why(status),
        )
    return table


def status(status: WorkloadStatus) -> RenderableType:
    """A card with what is known of one workload."""
    facts = {
        "Workload": status.id,
        "Queue": status.queue,
        "Tier": status.tier,
        "Priority": status.priority,
        "State": status.state,
        "Since": status.since,
        "Submitted": status.submitted_at,
        "Ended": status.ended_at,
        "Outcome": status.outcome,
        "Exit code": status.exit_code,
        "Attempts": status.epoch,
        "Preemptions": status.preemptions or None,
        "Tasks done": status.tasks_done,
    }
    facts |= _facts_of_place(status.where) | _facts_of_reason(status.explanation)
    return _card(facts)


def _facts_of_place(where: Where | None) -> dict[str, object]:
    if where is None:
        return {}
    return {
        "Where": f"{where.provider}/{where.region}/{where.cluster}",
        "Accelerators": f"{where.accelerators:g} {where.sku}",
        "Nodes": ", ".join(f"{node} ({count})" for node, count in where.nodes.items()),
    }


def _facts_of_reason(explanation: Explanation | None) -> dict[str, object]:
    if explanation is None:
        return {}
    return {"Reason": explanation.reason, "Message": explanation.message, "Position": explanation.position}


def explanation(status: WorkloadStatus) -> RenderableType:
    """Why a workload waits or was refused, with the evidence."""
    told = status.explanation
    facts: dict[str, object] = {"Workload": status.id, "State": status.state} | _facts_of_reason(told)
    if told is None:
        return _card(facts | {"Message": "neither waits nor was refused"})
    round_id = None if told.round_id is None else f"round {told.round_id}"
    as_of = None if told.as_of is None else _text_of(told.as_of)
    card = _card(facts | {"As of": ", ".join(part for part in (round_id, as_of) if part) or None})
    if not told.evidence:
        return card
    table = _table("REASON", "COUNT", "EXAMPLE", right=("COUNT",))
    for evidence in told.evidence:
        _row(table, evidence.reason, evidence.count, evidence.example)
    return Group(card, Text(), table)


def events(happened: Sequence[WorkloadEvent]) -> RenderableType:
    """One line for each event."""
    return _events(happened, header=True)


def first_event(event: WorkloadEvent) -> RenderableType:
    """The first line of a list of events that grows, with the header."""
    return _events([event], header=True)


def further_event(event: WorkloadEvent) -> RenderableType:
    """One more line."""
    return _events([event], header=False)


def _events(happened: Sequence[WorkloadEvent], *, header: bool) -> Table:
    """A table of which further lines keep the widths, as far as ids and kinds are no longer than usual."""
    table = _table("ID", "AT", "KIND", "MESSAGE", right=("ID",), header=header)
    table.columns[0].min_width, table.columns[2].min_width = 6, 12
    for event in happened:
        _row(table, event.id, event.at, event.kind, event.message)
    return table


def queues(statuses: Sequence[QueueStatus]) -> RenderableType:
    """One line for each queue and SKU."""
    amounts = ("NOMINAL", "USED", "BORROWED", "CAP")
    table = _table("QUEUE", "PARENT", "STOP", "WAITING", "RUNNING", "SKU", *amounts, right=("WAITING", "RUNNING", *amounts))
    for queue in statuses:
        for usage in queue.usage or (None,):
            _row(table, queue.name, queue.parent, queue.stop, queue.waiting, queue.running, *_amounts(usage))
    return table


def _amounts(usage: QueueUsage | None) -> Iterable[object]:
    return (None,) * 5 if usage is None else (usage.sku, usage.nominal, usage.used, usage.borrowed, usage.cap)


def fleet(supply: Sequence[FleetStatus]) -> RenderableType:
    """One line for each provider, region and SKU."""
    numbers = ("NODES", "READY", "ACCELERATORS", "USED", "FREE")
    table = _table("PROVIDER", "REGION", "SKU", *numbers, right=numbers)
    for part in supply:
        free = part.accelerators - part.used
        _row(table, part.provider, part.region, part.sku, part.nodes, part.ready_nodes, part.accelerators, part.used, free)
    return table


def nodes(statuses: Sequence[NodeStatus]) -> RenderableType:
    """One line for each node."""
    columns = ("NODE", "PROVIDER", "REGION", "CLUSTER", "SKU", "HEALTH", "ACCELERATORS", "USED", "CAPACITY", "PRICE", "REASON")
    table = _table(*columns, right=("ACCELERATORS", "USED", "PRICE"))
    for node in statuses:
        place = (node.id, node.provider, node.region, node.cluster, node.sku, node.health)
        _row(table, *place, node.accelerators, node.used, node.capacity_type, node.price, node.reason)
    return table


def submissions(submitted: Sequence[Submission]) -> RenderableType:
    """One line for each workload that was handed over."""
    table = _table("ID", "SUBMITTED")
    for submission in submitted:
        _row(table, submission.id, "now" if submission.created else "before, with the same spec")
    return table


def results(ended: Sequence[WorkloadResult]) -> RenderableType:
    """One line for each workload that ended."""
    table = _table("ID", "STATE", "EXIT", "MESSAGE", right=("EXIT",))
    for result in ended:
        _row(table, result.id, result.state, result.exit_code, result.message)
    return table


def result(ended: WorkloadResult) -> RenderableType:
    """How one workload ended."""
    return results([ended])


def acknowledgement(answer: Acknowledgement) -> RenderableType:
    """The state after a change, and what was done."""
    return Text.assemble(_cell(answer.state), ": ", _cell(answer.message))


def facts(values: dict[str, str]) -> RenderableType:
    """Names and values."""
    return _card(dict(values))


def _table(*columns: str, right: Sequence[str] = (), header: bool = True) -> Table:
    """A table without lines, whose cells are folded when a terminal is narrow, and never cut off."""
    table = Table(box=None, pad_edge=False, show_header=header, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _row(table: Table, *values: object) -> None:
    table.add_row(*(_cell(value) for value in values))


def _card(facts: dict[str, object]) -> Table:
    """A line for each fact that is known."""
    card = _table("", "", header=False)
    card.columns[0].style = "bold"
    for name, value in facts.items():
        if value is not None:
            _row(card, name, value)
    return card


def _cell(value: object) -> Text:
    return Text(_text_of(value), style=_COLOURS.get(value, "") if isinstance(value, State) else "")


def _text_of(value: object) -> str:
    match value:
        case None | "":
            return NOTHING
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case float():
            return f"{value:.12g}"
    return printable(str(value))


def _place(status: WorkloadStatus) -> str | None:
    where = status.where
    return f"{where.provider}/{where.region} {where.accelerators:g} {where.sku}" if where else None


def _why(status: WorkloadStatus) -> object:
    """Why it waits or was refused; otherwise how it ended."""
    return status.explanation.reason if status.explanation else status.outcome
