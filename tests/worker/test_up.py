"""What is wrong with what the settings name is told before any server is started."""

from pathlib import Path

import pytest

from corral.cli.problems import InvalidInput
from worker.settings import Settings
from worker.up import check_files

NOTHING = "providers: []\n"


@pytest.mark.parametrize(("setting", "text"), [("fleet_file", NOTHING), ("policy", "rnak: {}\n"), ("principals_file", NOTHING)])
def test_a_file_that_cannot_be_used_is_named(setting: str, text: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text)
    with pytest.raises(InvalidInput, match=r"wrong\.yaml"):
        check_files(Settings().model_copy(update={setting: str(wrong) if setting == "policy" else wrong}))


def test_what_comes_with_corral_can_be_used() -> None:
    check_files(Settings())
