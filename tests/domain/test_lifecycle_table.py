"""In which states a workload takes which change: one table, that the page about changes tells cell by cell."""

from pathlib import Path

import pytest

from corral.api import State
from corral.wire import Update
from domain.pool.lifecycle import ALLOWED, objection

PAGE = (Path(__file__).parents[2] / "docs" / "adjusting.md").read_text()


def told() -> dict[tuple[str, str], str]:
    """The cells of the page's table, by state and change."""
    lines = PAGE[PAGE.index("| state | ") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return {(state, verb): cell for state, *cells in rows[2:] for verb, cell in zip(rows[0][1:], cells, strict=True)}


def test_the_page_has_every_change_and_every_state() -> None:
    assert set(told()) == {(state, verb) for state in State for verb in ALLOWED}


def test_every_update_has_its_row_in_the_table() -> None:
    assert set(ALLOWED) == {*Update, "expire", "miss-demand"}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("verb", ALLOWED)
def test_page_and_answer_are_those_of_the_table(verb: str, state: State) -> None:
    is_allowed = state in ALLOWED[verb]
    assert told()[state, verb] == ("yes" if is_allowed else "no")
    problem = objection(verb, "w", state)
    assert (problem is None) == is_allowed
    if problem is not None:
        assert problem.startswith(f"{verb}: workload 'w' is {state}; {verb} needs it to be ")
        assert set(problem.partition("needs it to be ")[2].replace(" or ", ", ").split(", ")) == ALLOWED[verb]
