"""Progress: what a person sees while a demonstration runs; a picture on a terminal, lines elsewhere."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from corral.api import FleetStatus, QueueStatus, State, WorkloadEvent
from worker.demo.record import Glimpse

PLAIN_EVERY_SECONDS = 5.0
BAR_WIDTH = 28

STYLES: dict[State, str] = {
    State.SUBMITTED: "",
    State.WAITING: "yellow",
    State.SUSPENDED: "magenta",
    State.RESERVING: "yellow",
    State.RESERVED: "cyan",
    State.STARTING: "cyan",
    State.RUNNING: "green",
    State.RESIZING: "green",
    State.STOPPING: "magenta",
    State.SUCCEEDED: "bright_green",
    State.FAILED: "red",
    State.CANCELLED: "bright_black",
    State.REFUSED: "bright_red",
}


class Progress(Protocol):
    """Where a run is shown."""

    def say(self, line: str) -> None:
        """Tell something that stays."""

    def begin(self, step: str) -> None:
        """Tell what is done next."""

    def show(self, glimpse: Glimpse, submitted: int) -> None:
        """Show how things stand now."""


class Lines:
    """Progress as a line now and then, for logs."""

    def __init__(self, console: Console) -> None:
        """Write to a console."""
        self._console = console
        self._next = 0.0
        self._began: datetime | None = None

    def say(self, line: str) -> None:
        """Write a line."""
        self._console.print(line, markup=False, soft_wrap=True)

    def begin(self, step: str) -> None:
        """Write a line."""
        self.say(f"{step} ...")

    def show(self, glimpse: Glimpse, submitted: int) -> None:
        """Write how things stand, unless that was done a moment ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + PLAIN_EVERY_SECONDS
            states = ", ".join(f"{number} {state}" for state, number in _present(glimpse))
            self._began = self._began or glimpse.at
            minutes = (glimpse.at - self._began).total_seconds() / 60
            counted = f"{minutes:5.1f} minutes of the pool's time: {submitted} submitted, {glimpse.ended} ended"
            self.say(f"{counted}; {states}" if states else counted)


class Picture:
    """Progress as a picture that is drawn again and again."""

    def __init__(self, live: Live, expected: int) -> None:
        """Draw on a live display; `expected` workloads make a whole."""
        self._live = live
        self._expected = expected
        self._began: datetime | None = None
        self._last: RenderableType = ""

    def say(self, line: str) -> None:
        """Write a line above the picture."""
        self._live.console.print(line, markup=False)

    def begin(self, step: str) -> None:
        """Show the step, with something that moves."""
        self._live.update(Group(self._last, Spinner("dots", f" {step} ...")))

    def show(self, glimpse: Glimpse, submitted: int) -> None:
        """Draw how things stand."""
        self._began = self._began or glimpse.at
        minutes = (glimpse.at - self._began).total_seconds() / 60
        self._last = Panel(
            Group(
                _headline(glimpse, submitted, self._expected),
                Text(),
                _side_by_side(_queue_table(glimpse.queues), _fleet_table(glimpse.fleet)),
                Text(),
                *_news(glimpse.news, self._began),
            ),
            title=f"[bold]Corral[/]  {minutes:.0f} minutes of the pool's time",
            border_style="blue",
        )
        self._live.update(self._last)


@contextmanager
def progress(console: Console, expected: int) -> Iterator[Progress]:
    """Progress that suits the console, until the context is left."""
    if not console.is_terminal:
        yield Lines(console)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield Picture(live, expected)


def _present(glimpse: Glimpse) -> list[tuple[State, int]]:
    return [(state, glimpse.states[state]) for state in State if glimpse.states.get(state)]


def _headline(glimpse: Glimpse, submitted: int, expected: int) -> Group:
    line = Text(f"{submitted} of {expected} submitted, {glimpse.ended} ended   ")
    for state, number in _present(glimpse):
        line.append(f" {number} ", style=f"bold {STYLES[state]}")
        line.append(f"{state} ", style=STYLES[state])
    return Group(line, ProgressBar(total=expected, completed=glimpse.ended))


def _side_by_side(left: Table, right: Table) -> Table:
    both = Table.grid(padding=(0, 4), expand=False)
    both.add_row(left, right)
    return both


def _queue_table(queues: Iterable[QueueStatus]) -> Table:
    table = _table("queue", "waiting", "active", "used", "of own", "borrowed")
    for queue in queues:
        if queue.usage:
            used, own = (sum(getattr(usage, name) for usage in queue.usage) for name in ("used", "nominal"))
            borrowed = sum(usage.borrowed for usage in queue.usage)
            amounts = [f"{used:,.0f}", f"{own:,.0f}", f"{borrowed:,.0f}" if borrowed else ""]
            table.add_row(queue.name, str(queue.waiting), str(queue.running), *amounts, style="yellow" if borrowed else "")
    return table


def _fleet_table(fleet: Iterable[FleetStatus]) -> Table:
    table = Table("accelerators", "", box=None, pad_edge=False)
    table.add_column("in use", justify="right")
    for sku in sorted({status.sku for status in fleet}):
        parts = [status for status in fleet if status.sku == sku]
        used, total = sum(part.used for part in parts), sum(part.accelerators for part in parts)
        bar = ProgressBar(total=max(total, 1), completed=used, width=BAR_WIDTH)
        table.add_row(sku, bar, f"{used:,.0f} of {total:,}")
    return table


def _news(events: Iterable[WorkloadEvent], began: datetime) -> Iterator[Text]:
    for event in events:
        at = (event.at - began).total_seconds() / 60
        line = Text(f"{at:6.1f} min  {event.workload:<24} ", no_wrap=True, overflow="ellipsis")
        line.append(event.message, style=STYLES[State(event.kind)] if event.kind in set(State) else "")
        yield line


def _table(first: str, *others: str) -> Table:
    table = Table(first, box=None, pad_edge=False)
    for other in others:
        table.add_column(other, justify="right")
    return table
