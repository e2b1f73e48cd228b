"""How a page stands on a terminal: what people copy stays whole, however narrow the terminal is, and states have colours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from corral.api import State
from corral.cli.pages import GAP, NOTHING, Column, Page, Table

LEAST_TEXT = 20
"""Cells that text has at least, if it has that much to say: narrower, it would be a ribbon of single words."""

LONGEST_WORD = 40
"""Cells up to which no word of a text is broken."""

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
class OnTerminal:
    """A page, laid out anew for the width that the terminal has when it is drawn."""

    page: Page
    elsewhere: str = "use -o yaml"
    """What also shows the columns for which there is no room."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for number, part in enumerate(self.page):
            if number > 0:
                yield Text()
            yield from _drawn(part, options.max_width, self.elsewhere)


def _drawn(part: Table, room: int, elsewhere: str) -> Iterator[RenderableType]:
    """The table, without columns that it can do without if need be; if that is too wide as well, a card for each row."""
    if not part.has_header or _width(_whole(part)) <= room:
        yield _grid(part, _fitted(part, room))
        return
    left_out: list[str] = []
    narrower = _without_silent(part)
    while _width(_least(narrower)) > room:
        spare = [at for at, column in enumerate(narrower.columns) if column.is_spare]
        if not spare:
            yield from _cards(part, room)
            return
        left_out.insert(0, narrower.columns[spare[-1]].title)
        narrower = _only(narrower, [at for at in range(len(narrower.columns)) if at != spare[-1]])
    yield _grid(narrower, _fitted(narrower, room))
    if left_out:
        yield Text(f"No room for {', '.join(left_out)}: widen the terminal, or {elsewhere}.", style="dim")


def _without_silent(part: Table) -> Table:
    """The table without the columns that say nothing in any row."""
    says = [at for at in range(len(part.columns)) if not part.rows or any(row[at] != NOTHING for row in part.rows)]
    return _only(part, says)


def _only(part: Table, kept: Sequence[int]) -> Table:
    rows = tuple(tuple(row[at] for at in kept) for row in part.rows)
    return Table(tuple(part.columns[at] for at in kept), rows, part.has_header)


def _cards(part: Table, room: int) -> Iterator[RenderableType]:
    for number, row in enumerate(part.rows):
        if number > 0:
            yield Text()
        facts = [(column.title, cell) for column, cell in zip(part.columns, row, strict=True) if cell != NOTHING]
        card = Table((Column(""), Column("", is_text=True)), tuple(facts), has_header=False)
        yield _grid(card, _fitted(card, room))


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _whole(part: Table) -> list[int]:
    """The width of each column in which nothing is broken."""
    titles = [cell_len(column.title) if part.has_header else 0 for column in part.columns]
    return [
        max([title, column.least_width, *(cell_len(row[at]) for row in part.rows)])
        for at, (column, title) in enumerate(zip(part.columns, titles, strict=True))
    ]


def _least(part: Table) -> list[int]:
    """The width of each column in which its title and its text are broken between words only, and what is no text is whole."""
    return [
        max([column.least_width, _longest_word(column.title), *(_least_of(column, row[at]) for row in part.rows)])
        for at, column in enumerate(part.columns)
    ]


def _least_of(column: Column, cell: str) -> int:
    if not column.is_text:
        return cell_len(cell)
    return max(min(cell_len(cell), LEAST_TEXT), min(_longest_word(cell), LONGEST_WORD))


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _fitted(part: Table, room: int) -> list[int]:
    """Widths between the least and the whole ones: what is left of the room goes to whoever would have the most lines.

    Where even the least are too wide, which is so of cards alone, the last column gives way, and its words are broken.
    """
    widths, whole = _least(part), _whole(part)
    widths[-1] = max(1, widths[-1] - max(0, _width(widths) - room))
    for _ in range(room - _width(widths)):
        broken = [at for at, width in enumerate(widths) if width < whole[at]]
        if not broken:
            break
        widths[max(broken, key=lambda at: whole[at] / widths[at])] += 1
    return widths


def _grid(part: Table, widths: Sequence[int]) -> RichTable:
    drawn = RichTable(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), show_header=part.has_header, header_style="bold")
    for column, width in zip(part.columns, widths, strict=True):
        drawn.add_column(column.title, justify="right" if column.is_right else "left", width=width, overflow="fold")
    for row in part.rows:
        drawn.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    return drawn
