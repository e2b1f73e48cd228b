"""Help: each list of commands says on one line of a narrow terminal what each does."""

import pytest
import typer
from typer.testing import CliRunner

from corral.cli.commands import app

GROUPS = sorted(filter(None, (group.name for group in app.registered_groups)))


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_no_line_of_a_list_of_commands_is_cut_off(group: str) -> None:
    told = CliRunner().invoke(app, [*group.split(), "--help"], env={"COLUMNS": "80"})
    assert told.exit_code == 0
    assert [line for line in told.stdout.split("Commands:")[1].splitlines() if line.endswith("...")] == []


def test_there_are_groups() -> None:
    assert isinstance(app, typer.Typer)
    assert {"queue", "policy", "schedule"} <= set(GROUPS)
