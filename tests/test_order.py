"""The order of files in a run that several processes share."""

from pathlib import Path

from tests.conftest import COMPUTING_FIRST, WAITING

TESTS = Path(__file__).parent


def test_the_folders_whose_files_are_begun_early_are_there() -> None:
    folders = {file.parent.name for file in TESTS.rglob("test_*.py")}
    assert {*WAITING, *COMPUTING_FIRST} <= folders, "a folder has gone, or has another name: tests/conftest.py"
