"""On a terminal everything can be read and copied, however narrow it is."""

import io

import pytest
from rich.console import Console

from corral.cli.pages import Column, Page, card, table
from corral.cli.terminal import OnTerminal

LONG_ID = "quiet-nights-now-20261127-230016"
COLUMNS = (
    Column("ID"),
    Column("QUEUE", is_spare=True),
    Column("LEFT OUT", is_right=True, is_spare=True),
    Column("CAUSE"),
    Column("REASON", is_text=True),
)
ROWS = [
    (LONG_ID, "research", 3, None, "the queue is within its quota and waits for its turn"),
    ("b", "product", 12, None, "short"),
]


def lines(page: Page, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(OnTerminal(page))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_table_that_fits_is_shown_as_it_is() -> None:
    header, first, second = lines((table(COLUMNS, ROWS),), 160)
    assert header.split() == ["ID", "QUEUE", "LEFT", "OUT", "CAUSE", "REASON"]
    assert first.endswith("waits for its turn")
    assert second.split() == ["b", "product", "12", "-", "short"]


def test_columns_that_say_nothing_go_first_and_text_is_broken_between_words() -> None:
    shown = lines((table(COLUMNS, ROWS),), 90)
    assert " ".join(shown).split()[:7] == ["LEFT", "ID", "QUEUE", "OUT", "REASON", LONG_ID, "research"]
    assert shown[-2].strip() == "waits for its turn"


def test_spare_columns_are_left_out_by_name_before_anything_is_broken() -> None:
    header, first, *_, note = lines((table(COLUMNS, ROWS),), 68)
    assert header.split() == ["ID", "QUEUE", "REASON"]
    assert first.split()[:2] == [LONG_ID, "research"]
    assert note == "No room for LEFT OUT: widen the terminal, or use -o yaml."


def test_what_is_too_wide_all_the_same_is_a_card_for_each_row() -> None:
    shown = lines((table(COLUMNS, ROWS),), 44)
    assert shown[0].split() == ["ID", LONG_ID]
    assert shown[-4:] == ["ID        b", "QUEUE     product", "LEFT OUT  12", "REASON    short"]


@pytest.mark.parametrize("width", range(44, 140, 3))
def test_no_word_is_broken_where_there_is_room_for_it(width: int) -> None:
    shown = lines((table(COLUMNS, ROWS),), width)
    told = " ".join(shown)
    left_out = {name for name in ("QUEUE", "LEFT OUT") if "No room for" in told and name in told.partition("No room for")[2]}
    not_told = [at for at, column in enumerate(COLUMNS) if column.title in left_out]
    words = {word for row in ROWS for at, cell in enumerate(row) if cell and at not in not_told for word in str(cell).split()}
    assert words <= set(told.split())
    assert max(map(len, shown)) <= width


def test_a_card_keeps_the_names_of_its_facts_on_a_very_narrow_terminal() -> None:
    first, second, message = lines((card({"Workload": LONG_ID, "Message": "one two three"}),), 30)
    assert first.split()[0] == "Workload"
    assert first.split()[1] + second.strip() == LONG_ID
    assert message == "Message   one two three"
