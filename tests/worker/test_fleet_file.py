"""The fleet file: what is wrong in it is told with its place."""

from pathlib import Path

import pytest

from corral.cli.problems import InvalidInput
from worker.fleet_file import read_fleet

SIM = "providers:\n- name: sim\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{SIM}  kind: quantum\n", ":2:3: providers[0]: kind \"quantum\" is not known; expected 'simulated', 'local'"),
        (SIM, ":2:3: providers[0]: kind is required, but not given"),
        (f"{SIM}  kind: simulated\n  regoins: []\n", ":4:3: providers[0].regoins: no such field; did you mean `regions`?"),
        (f"{SIM}  kind: simulated\n", ":2:3: providers[0].regions: required, but not given"),
        (
            f"{SIM}  kind: simulated\n  regions:\n  - name: eu\n    clusters: 5\n",
            ":6:15: providers[0].regions[0].clusters: 5 is not a list",
        ),
        (f"{SIM}  kind: local\n  node: {{acelerators: 1}}\n", ":4:10: providers[0].node.acelerators: no such field"),
    ],
)
def test_what_is_wrong_in_a_fleet_file_is_told_where_it_stands(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput) as refused:
        read_fleet(file)
    assert f"{file}{said}" in str(refused.value)
