"""The replay of traces, on jobs few enough that what becomes of each can be worked out by hand."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from corral.cli.problems import InvalidInput
from tests.benchmarks import queueing
from tests.benchmarks.lives import RULES, Life, figures_of
from tests.benchmarks.queueing import WAYS, Pool, Terms, jobs_of, measure
from worker.demo.trace import Job

TRACE = Path(__file__).parents[3] / "shared" / "data" / "philly.csv"
BEGIN = datetime(2017, 10, 9, 7, tzinfo=UTC)
POOL = 16


def a_job(came: float, minutes: float, accelerators: int, cluster: str = "a") -> Job:
    return Job(BEGIN + timedelta(minutes=came), minutes * 60, accelerators, cluster)


def runs(lives: Sequence[Life]) -> list[list[tuple[float, float]]]:
    """When everybody ran, in minutes."""
    return [[(begin / 60, end / 60) for begin, end in life.runs] for life in lives]


def replay(way: str, *jobs: Job, restart: float = 0.0, whole_nodes: bool = False) -> list[Life]:
    return list(Pool(WAYS[way], jobs, Terms(POOL, restart=restart, whole_nodes=whole_nodes)).run().lives)


HALF_A_POOL, WHOLE_POOL, FIRST, LONGER, SHORT = JOBS = [
    a_job(0, 60, 8),
    a_job(1, 30, 16),
    a_job(2, 10, 8),
    a_job(3, 20, 8),
    a_job(4, 5, 8),
]
IN_TURN = [[(0, 60)], [(60, 90)], [(90, 100)], [(90, 110)], [(100, 105)]]
AS_THEY_FIT = [[(0, 60)], [(60, 90)], [(2, 12)], [(12, 32)], [(32, 37)]]
AS_THEY_ARE_SHORT = [[(0, 60)], [(60, 90)], [(2, 12)], [(17, 37)], [(12, 17)]]


@pytest.mark.parametrize(
    ("rule", "expected"), [("strict FIFO", IN_TURN), ("backfill", AS_THEY_FIT), ("shortest first", AS_THEY_ARE_SHORT)]
)
def test_plain_rules_do_what_their_names_say(rule: str, expected: list[list[tuple[float, float]]]) -> None:
    assert runs(RULES[rule](JOBS, POOL)) == expected


@pytest.mark.skipif(not TRACE.is_file(), reason=f"the published trace is not at {TRACE}")
@pytest.mark.parametrize(
    ("rule", "completion", "wide"),
    [("strict FIFO", (47.0, 0.1), (48, 0.5)), ("backfill", (14.0, 0.8), (127, 4)), ("shortest first", (5.3, 0.1), (91, 10))],
)
def test_plain_rules_come_to_what_is_known_of_the_published_trace(
    rule: str, completion: tuple[float, float], wide: tuple[float, float]
) -> None:
    """Two of them hang on who of those goes first that came in the same second."""
    jobs = jobs_of(TRACE, datetime(2017, 10, 2, tzinfo=UTC), datetime(2017, 12, 17, tzinfo=UTC), None, 480)
    found = figures_of(RULES[rule](jobs, 480), 480)
    assert found["completion, mean"][0] == pytest.approx(completion[0], abs=completion[1])
    assert found["wait of 16 and more, mean"][0] == pytest.approx(wide[0], abs=wide[1])


@pytest.mark.parametrize(("way", "expected"), [("strict", IN_TURN), ("default", AS_THEY_FIT), ("slurm-like", AS_THEY_FIT)])
def test_rounds_decide_like_the_rule_that_they_are_set_to(way: str, expected: list[list[tuple[float, float]]]) -> None:
    assert runs(replay(way, *JOBS)) == expected


def test_whoever_has_run_for_long_gives_way_and_has_lost_nothing_but_the_restart() -> None:
    long, short = a_job(0, 600, 16), a_job(60, 30, 8)
    assert runs(replay("attained-twice", long, short, restart=120)) == [[(0, 240), (270, 632)], [(240, 270)]]


def test_by_one_step_it_gives_way_after_a_day() -> None:
    first, second = a_job(0, 1_800, 16), a_job(60, 1_500, 16)
    assert runs(replay("attained", first, second)) == [[(0, 1_440), (2_940, 3_300)], [(1_440, 2_940)]]


def test_nobody_gives_way_again_to_who_has_run_as_long() -> None:
    first, second = a_job(0, 600, 16), a_job(60, 600, 16)
    assert runs(replay("attained-twice", first, second)) == [[(0, 240), (840, 1_200)], [(240, 840)]]


def test_whoever_is_expected_to_be_short_does_not_wait_for_the_long() -> None:
    long, short = a_job(0, 6_000, 16), a_job(60, 10, 16)
    lives = replay("expected", long, short)
    assert runs(lives) == [[(0, 60), (70, 6_010)], [(60, 70)]]
    assert [life.stops for life in lives] == [1, 0]


def test_wide_ones_go_first_where_that_is_wanted_once_nobody_is_protected() -> None:
    assert runs(replay("wide-first", *JOBS[:3])) == [[(0, 7), (37, 90)], [(7, 37)], [(2, 7), (37, 42)]]


def test_whole_nodes_wait_for_nodes() -> None:
    narrow = [a_job(0, 30, 4), a_job(0, 20, 8), a_job(1, 10, 4)]
    wide = a_job(2, 10, 8)
    assert runs(replay("default", *narrow, wide, whole_nodes=True))[-1] == [(20, 30)]


def test_what_lives_come_to() -> None:
    found = figures_of(RULES["backfill"](JOBS, POOL), POOL)
    assert found["completion, mean"][0] * 60 == pytest.approx((60 + 89 + 10 + 29 + 33) / 5)
    assert found["wait of 16 and more, mean"][0] * 60 == pytest.approx(59)
    assert found["wait of 8 to 15, mean"][0] * 60 == pytest.approx((0 + 0 + 9 + 28) / 4)
    assert found["in use until the last arrival"][0] == pytest.approx((8 * 4 + 8 * 2) / (16 * 4))
    assert "wait of 1, mean" not in found


def a_file(tmp_path: Path, *jobs: Job) -> Path:
    file = tmp_path / "trace.csv"
    lines = [f"{job.at:%Y-%m-%d %H:%M:%S},{job.duration},{job.accelerators},{job.cluster}" for job in jobs]
    file.write_text("\n".join(["timestamp,duration,num_gpus,cluster", *lines]) + "\n")
    return file


def test_a_trace_is_read_in_order_and_every_line_once(tmp_path: Path) -> None:
    file = a_file(tmp_path, *reversed(JOBS), SHORT)
    assert jobs_of(file, None, None, None, POOL) == JOBS
    assert jobs_of(file, BEGIN + timedelta(minutes=1), BEGIN + timedelta(minutes=4), 2, POOL) == [WHOLE_POOL, FIRST]


def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    file = a_file(tmp_path, *JOBS)
    with pytest.raises(InvalidInput, match="no job came in that time; expected some from 2017-10-09 07:00"):
        jobs_of(file, BEGIN + timedelta(days=1), None, None, POOL)
    with pytest.raises(InvalidInput, match="needs 16 accelerators; expected 15 at most"):
        jobs_of(file, None, None, None, 15)


def test_every_line_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "in_a_process_of_its_own", queueing.replayed)
    lines = [json.loads(figure.as_json()) for figure in measure(JOBS, ["strict", "clusters"], Terms(POOL))]
    assert len({line["name"] for line in lines}) == len(lines) > 0
    ratios = {line["name"]: line["ratio"]["median"] for line in lines if "ratio" in line}
    assert ratios["strict: wait of 16 and more, mean, beside strict FIFO"] == 1.0
