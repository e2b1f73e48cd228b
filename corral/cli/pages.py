"""Pages: tables of printable text, and how they are laid out for pipes and files, where lines are as long as they are."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.cells import cell_len

from corral.cli.problems import printable

NOTHING = "-"
GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, and how its cells stand in it. Widths are in cells of a terminal."""

    title: str
    is_right: bool = False
    is_text: bool = False
    """Goes on in the next line where a terminal is narrow. What is no text, such as an id, people copy: it stays whole."""
    is_spare: bool = False
    """Left out, and named below, where a terminal has no room for all columns; the last of them first."""
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
    return table((Column(""), Column("", is_text=True)), known, has_header=False)


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
