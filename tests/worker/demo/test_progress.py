"""Progress: whatever happens can be shown, on a terminal and elsewhere."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.live import Live

from corral.api import FleetStatus, QueueSpec, QueueStatus, QueueUsage, State, StopPolicy, WorkloadEvent
from tests.builders import NOON
from worker.demo.progress import Lines, Picture, progress
from worker.demo.record import Glimpse

USAGE = QueueUsage(sku="h100", nominal=16, used=24, borrowed=8)
GLIMPSE = Glimpse(
    at=NOON,
    states=dict.fromkeys(State, 2),
    queues=(
        QueueStatus(
            name="research",
            parent=None,
            stop=StopPolicy.OPEN,
            spec=QueueSpec(name="research"),
            waiting=3,
            running=4,
            usage=(USAGE,),
        ),
    ),
    fleet=(FleetStatus(provider="sim", region="eu", sku="h100", nodes=4, ready_nodes=4, accelerators=32, used=24),),
    news=tuple(
        WorkloadEvent(id=number, workload="train", at=NOON, kind=kind, message=f"[it] became {kind}")
        for number, kind in enumerate([*State, "explained"])
    ),
)


def test_what_has_ended_is_counted() -> None:
    assert (GLIMPSE.known, GLIMPSE.ended) == (2 * len(State), 8)


def test_a_picture_shows_every_state_and_event() -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=140, height=60, highlight=False)
    with Live(console=console, auto_refresh=False) as live:
        picture = Picture(live, expected=30)
        picture.begin("start the worker")
        picture.show(GLIMPSE, submitted=24)
        picture.say("postgres [was] started again")
        live.refresh()
    text = shown.getvalue()
    assert all(f"[it] became {state}" in text for state in State)
    assert "24 of 32" in text
    assert "postgres [was] started again" in text


def test_lines_are_written_now_and_then() -> None:
    shown = io.StringIO()
    lines = Lines(Console(file=shown, width=140))
    lines.begin("run the workloads")
    lines.show(GLIMPSE, submitted=24)
    lines.show(GLIMPSE, submitted=25)
    assert "  0.0 minutes of the pool's time: 24 submitted" in shown.getvalue()
    assert "run the workloads ..." in shown.getvalue()
    assert "24 submitted, 8 ended" in shown.getvalue()
    assert "25 submitted" not in shown.getvalue()


def test_before_anything_was_submitted_a_line_ends_with_the_counts() -> None:
    shown = io.StringIO()
    Lines(Console(file=shown, width=140)).show(replace(GLIMPSE, states={}), submitted=0)
    assert shown.getvalue().endswith("0 submitted, 0 ended\n")


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, Picture), (False, Lines)])
def test_a_terminal_gets_a_picture(is_terminal: bool, kind: type) -> None:
    with progress(Console(file=io.StringIO(), force_terminal=is_terminal), 1) as shown:
        assert isinstance(shown, kind)
