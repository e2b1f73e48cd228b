"""Traces: what is read, what is refused and why, and which stretch is replayed how."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from corral.cli.problems import InvalidInput
from worker.demo import trace
from worker.demo.trace import Job, busiest_window, read_jobs, replay, steady

HEAD = "timestamp,duration,num_gpus,gpu_time,cluster"
BEGIN = datetime(2017, 10, 9, 7, tzinfo=UTC)


def a_file(tmp_path: Path, *lines: str, head: str = HEAD) -> Path:
    file = tmp_path / "trace.csv"
    file.write_text("\n".join([head, *lines]) + "\n")
    return file


def a_job(minutes: float = 0, *, seconds: float = 60, gpus: int = 1, cluster: str = "a") -> Job:
    return Job(BEGIN + timedelta(minutes=minutes), seconds, gpus, cluster)


def lines_of(*jobs: Job) -> list[str]:
    return [f"{job.at:%Y-%m-%d %H:%M:%S},{job.duration},{job.accelerators},0,{job.cluster}" for job in jobs]


def test_a_line_is_a_job(tmp_path: Path) -> None:
    read = read_jobs(a_file(tmp_path, "2017-10-09 07:01:55,66.5,4,266.0,11cb48"))
    assert read == [Job(datetime(2017, 10, 9, 7, 1, 55, tzinfo=UTC), 66.5, 4, "11cb48")]


def test_columns_may_come_in_any_order_and_one_is_not_needed(tmp_path: Path) -> None:
    read = read_jobs(a_file(tmp_path, "x,2,60,2017-10-09 07:00:00", head="cluster,num_gpus,duration,timestamp"))
    assert read == [a_job(gpus=2, cluster="x")]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("yesterday,66.0,1,66.0,a", 'column timestamp: "yesterday" is not acceptable; expected a time such as'),
        ("2017-10-09 07:01:55,-1,1,66.0,a", 'column duration: "-1" is not acceptable; expected a number of seconds above 0'),
        ("2017-10-09 07:01:55,nan,1,66.0,a", 'column duration: "nan" is not acceptable'),
        ("2017-10-09 07:01:55,inf,1,66.0,a", 'column duration: "inf" is not acceptable'),
        ("2017-10-09 07:01:55,66.0,1.5,66.0,a", 'column num_gpus: "1.5" is not acceptable; expected a whole number'),
        ("2017-10-09 07:01:55,66.0,0,66.0,a", 'column num_gpus: "0" is not acceptable'),
        ("2017-10-09 07:01:55,66.0,1,66.0,A b", 'column cluster: "A b" is not acceptable; expected 1 to 90 lower-case'),
        ("2017-10-09 07:01:55,66.0,1,66.0", "column cluster: an empty value is not acceptable"),
        ("2017-10-09 07:01:55,66.0,1,66.0,a,b", "more values than columns"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, complaint: str) -> None:
    file = a_file(tmp_path, "2017-10-09 07:01:55,66.0,1,66.0,a", line)
    with pytest.raises(InvalidInput) as refusal:
        read_jobs(file)
    assert str(refusal.value).startswith(f"{file}:3: {complaint}")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refusal:
        read_jobs(a_file(tmp_path, "x,66.0,1,66.0,a", "2017-10-09 07:01:55,x,1,66.0,a"))
    assert [line.split(": ")[1] for line in refusal.value.lines] == ["column timestamp", "column duration"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", ":1: column timestamp is missing"),
        (
            "a,b\n1,2\n",
            ':1: column timestamp is missing; expected timestamp, duration, num_gpus, cluster, but the line has "a", "b"',
        ),
        (HEAD + "\n", ": has no jobs"),
        (b"\xff\xfe", ": not text in UTF-8"),
    ],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path: Path, content: str | bytes, complaint: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidInput) as refusal:
        read_jobs(file)
    assert str(refusal.value).startswith(f"{file}{complaint}")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r":1: column cluster is there 2 times; expected once"):
        read_jobs(a_file(tmp_path, "2017-10-09 07:01:55,66.0,1,a,b", head="timestamp,duration,num_gpus,cluster,cluster"))


def test_times_that_no_calendar_can_add_to_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r":2: column timestamp: .* of the years 1970 to 8999"):
        read_jobs(a_file(tmp_path, "0001-01-01T00:00:00+14:00,66.0,1,66.0,a"))


def test_what_is_more_than_a_pool_can_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="lie too far apart to be replayed; expected a stretch of 104 days at most"):
        replay(a_file(tmp_path, *lines_of(a_job(-200 * 24 * 60), a_job(-60 * 24 * 60))))
    with pytest.raises(InvalidInput, match="need 1,200,000 accelerators; expected 800,000 at most"):
        replay(a_file(tmp_path, *lines_of(*(a_job(minute / 60, seconds=3_600, gpus=10_000) for minute in range(200)))))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        read_jobs(tmp_path / "none.csv")


def test_the_window_is_the_one_that_asks_for_the_most_within_its_time() -> None:
    quiet, busy = [a_job(minute) for minute in (0, 1)], [a_job(minute, gpus=8) for minute in (100, 101)]
    assert busiest_window([*quiet, *busy], size=2) == busy
    far = [a_job(0, gpus=64), a_job(1_000, gpus=64), a_job(1_001), a_job(1_002)]
    assert busiest_window(far, size=2, seconds=600) == far[1:3]


def test_without_such_a_window_it_is_the_shortest() -> None:
    jobs = [a_job(0), a_job(100), a_job(150)]
    assert busiest_window(jobs, size=2, seconds=60) == jobs[1:]
    assert busiest_window(jobs, size=9) == jobs


def test_only_the_complete_part_of_the_philly_trace_counts() -> None:
    before = Job(datetime(2017, 9, 1, tzinfo=UTC), 60, 1, "a")
    assert steady([before, a_job()]) == [a_job()]
    assert steady([before]) == [before]


def test_a_replay_keeps_gaps_durations_and_sizes(tmp_path: Path) -> None:
    jobs = [a_job(0, seconds=90, gpus=4), a_job(7, gpus=12, cluster="b"), a_job(9, gpus=13)]
    scenario = replay(a_file(tmp_path, *lines_of(*reversed(jobs), jobs[0])))
    assert [arrival.at for arrival in scenario.arrivals] == [0, 420, 540]
    assert scenario.arrivals[0].spec.parameters["runtime_seconds"] == "90"
    shapes = [(arrival.spec.groups[0].count, arrival.spec.groups[0].accelerators) for arrival in scenario.arrivals]
    assert shapes == [(1, 4), (2, 6), (13, 1)]
    assert [arrival.spec.queue for arrival in scenario.arrivals] == ["cluster-a", "cluster-b", "cluster-a"]
    assert "1 duplicates" in scenario.notes[0]


def test_what_is_cut_is_said(tmp_path: Path) -> None:
    scenario = replay(a_file(tmp_path, *lines_of(a_job(0, seconds=36_000), a_job(1, seconds=1_800))))
    assert scenario.arrivals[0].spec.parameters["runtime_seconds"] == str(trace.HORIZON_SECONDS)
    assert "1 of 2 jobs ran longer than 60 minutes and are cut there: 2 of 10 accelerator-hours" in scenario.notes[1]
    assert "No job is cut" in replay(a_file(tmp_path, *lines_of(a_job()))).notes[1]


def test_queues_own_the_whole_fleet_by_their_work(tmp_path: Path) -> None:
    jobs = [a_job(0, gpus=24, cluster="large"), a_job(0, gpus=8, cluster="small")]
    quotas = {
        queue.name: queue.quotas[0].nominal
        for queue in replay(a_file(tmp_path, *lines_of(*jobs))).queues.queues
        if queue.quotas
    }
    assert quotas == {"cluster-large": 18, "cluster-small": 6}
