"""Pages: tables of printable text, laid out plainly for pipes and files, and with rich for terminals."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from corral.api import State
from corral.cli.problems import printable

NOTHING = "-"
GAP = "  "

_COLOURS: Mapping[str, str] = {
    State.RUNNING: "green",
    State.RESIZING: "green",
    State.SUCCEEDED: "green",
    State.FAILED: "red",
    State.REFUSED: "red",
    State.CANCELLED: "yellow",
    State.SUSPENDED: "yellow",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, and how its cells stand in it."""

    title: str
    is_right: bool = False
    is_whole: bool = False
    """Never broken over two lines, unless the terminal is far too narrow."""
    least_width: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of printable text, one cell for each column."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    has_header: bool = True


Page = tuple[Table, ...]
"""Tables below each other."""


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], *, has_header: bool = True) -> Table:
    """A table of values; those that are not there are shown as a dash."""
    return Table(tuple(columns), tuple(tuple(text_of(value) for value in row) for row in rows), has_header)


def card(facts: Mapping[str, object]) -> Table:
    """A line for each fact that is known."""
    known = [(name, value) for name, value in facts.items() if value is not None]
    return table((Column("", is_whole=True), Column("")), known, has_header=False)


def text_of(value: object) -> str:
    """A value as it stands in a cell; times are in UTC."""
    match value:
        case None | "":
            return NOTHING
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case float():
            return f"{value:.12g}"
    return printable(str(value))


def plain(page: Page) -> Iterator[str]:
    """The lines of a page, as wide as they are."""
    for number, part in enumerate(page):
        if number > 0:
            yield ""
        yield from _plain_lines(part)


def _plain_lines(part: Table) -> Iterator[str]:
    rows = [tuple(column.title for column in part.columns), *part.rows] if part.has_header else part.rows
    widths = [max([column.least_width, *(cell_len(row[at]) for row in rows)]) for at, column in enumerate(part.columns)]
    for row in rows:
        cells = zip(row, widths, part.columns, strict=True)
        yield GAP.join(_padded(cell, width, column) for cell, width, column in cells).rstrip()


def _padded(cell: str, width: int, column: Column) -> str:
    padding = " " * (width - cell_len(cell))
    return padding + cell if column.is_right else cell + padding


def coloured(page: Page) -> RenderableType:
    """A page for a terminal: cells are folded when it is narrow, and states have colours."""
    parts: list[RenderableType] = []
    for part in page:
        parts += [Text(), _rich_table(part)] if parts else [_rich_table(part)]
    return Group(*parts)


def _rich_table(part: Table) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), show_header=part.has_header, header_style="bold")
    for column in part.columns:
        drawn.add_column(
            column.title,
            justify="right" if column.is_right else "left",
            min_width=column.least_width or None,
            no_wrap=column.is_whole,
            overflow="fold",
        )
    for row in part.rows:
        drawn.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    return drawn
