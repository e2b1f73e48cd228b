"""The soak on a small load: that it runs, and that its lines are whole."""

import json
from pathlib import Path

from tests.benchmarks.soak import FEWEST, PROCESSES, soak


async def test_every_line_can_be_read(tmp_path: Path) -> None:
    lines = [json.loads(figure.as_json()) async for figure in soak(tmp_path, FEWEST)]
    by_name = {line["name"]: line for line in lines}
    assert len(by_name) == len(lines)
    assert all(line["unit"] and line["value"]["count"] for line in lines)
    assert by_name["workloads"]["value"]["median"] == FEWEST
    assert by_name["workloads, one replica each"].keys() >= {"value", "reference", "ratio"}
    for process in PROCESSES:
        assert by_name[f"memory of {process}"]["value"]["least"] > 0
        assert by_name[f"recovery after {process} was killed"]["value"]["least"] > 0
