"""The soak on a small load: that it runs, that its lines are whole, and that it can tell growth from chance."""

import json
from pathlib import Path

import pytest

from tests.benchmarks.soak import FEWEST, PROCESSES, growth, soak

CHANCE = (3.0, -2.0, -1.0, 2.0, -2.0, 1.0, 2.0, -3.0, 1.0)


async def test_every_line_can_be_read(tmp_path: Path) -> None:
    lines = [json.loads(figure.as_json()) async for figure in soak(tmp_path, FEWEST, settling_seconds=0)]
    by_name = {line["name"]: line for line in lines}
    assert len(by_name) == len(lines)
    assert all(line["unit"] and line["value"]["count"] for line in lines)
    assert by_name["workloads"]["value"]["median"] == FEWEST
    assert by_name["workloads, one replica each"].keys() >= {"value", "reference", "ratio"}
    for process in PROCESSES:
        assert by_name[f"memory of {process}"]["value"]["least"] > 0
        assert by_name[f"growth of {process}, standard error"]["value"]["least"] >= 0
        assert by_name[f"recovery after {process} was killed"]["value"]["least"] > 0


def test_what_fills_up_in_the_first_third_is_no_growth() -> None:
    grows = growth(range(9), [100, 150, 180, 200, 200, 200, 200, 200, 200])
    assert (grows.slope, grows.error) == (0, 0)


@pytest.mark.parametrize("each", [0.0, 5.0])
def test_growth_is_found_behind_chance(each: float) -> None:
    grows = growth(range(9), [200 + each * number + chance for number, chance in enumerate(CHANCE)])
    assert grows.slope == pytest.approx(each, abs=2 * grows.error)
    assert 0 < grows.error < 1
