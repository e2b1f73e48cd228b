"""Traces: a file of real arrivals, read strictly, and the scenario that replays a stretch of it.

The file has the columns of the Philly trace (Microsoft, 2017): `timestamp, duration, num_gpus, gpu_time, cluster`, in any order
of lines; `gpu_time` is not needed. Duplicates are dropped. What is replayed is found without chance: of all stretches of 300
consecutive arrivals within four hours the one that asks for the most accelerators, or else the shortest stretch.
"""

import csv
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from activities.providers.sim_fleet import MOST_ALIKE, NodeShape, SimulatedCluster, SimulatedRegion
from corral.api import QueueSpec, QueueTree, QuotaSpec, ReplicaGroup, Target, WorkloadSpec
from corral.cli.problems import InvalidInput, shown
from corral.reservation import EPOCH_YEAR, LAST_YEAR
from worker.demo import measures
from worker.demo.measures import Stretch
from worker.demo.scenario import Arrival, Scenario
from worker.demo.waves import behaviour
from worker.fleet_file import FleetFile, SimulatedEntry
from worker.settings import FASTEST_CLOCK

STEADY = (datetime(2017, 10, 2, tzinfo=UTC), datetime(2017, 12, 18, tzinfo=UTC))
"""Where the Philly trace is complete; a file without jobs in that time is taken whole."""

WINDOW_JOBS = 300
WINDOW_SECONDS = 4 * 3_600
HORIZON_SECONDS = 3_600
"""Longer jobs are cut there."""

RUN_SECONDS = 90.0
"""How long the replay is to take on the wall, if nothing waited for longer than half of the horizon."""

SHARE_OF_PEAK = 0.6
NODE_ACCELERATORS = 8
NODES_PER_RACK = 4
SKU, COHORT = "gpu", "trace"


@dataclass(frozen=True, slots=True, order=True)
class Job:
    """One line of a trace; `duration` is in seconds."""

    at: datetime
    duration: float
    accelerators: int
    cluster: str


def replay(file: Path) -> Scenario:
    """The scenario that replays a trace.

    Raises:
        InvalidInput: names the file, the line, the column, the value and what was expected, or what is more than a pool can be.
    """
    read = read_jobs(file)
    jobs = sorted(set(read))
    considered = steady(jobs)
    window = busiest_window(considered)
    peak = _peak(window)
    nodes = _nodes_for(window, peak)
    speed = max(1.0, round(((window[-1].at - window[0].at).total_seconds() + 1.5 * HORIZON_SECONDS) / RUN_SECONDS))
    title = f"{len(window)} jobs of {file.name}, from {window[0].at:%Y-%m-%d %H:%M} to {window[-1].at:%Y-%m-%d %H:%M}"
    if speed > FASTEST_CLOCK:
        days = int((FASTEST_CLOCK * RUN_SECONDS - 1.5 * HORIZON_SECONDS) / 86_400)
        raise InvalidInput([f"{file}: {title} lie too far apart to be replayed; expected a stretch of {days} days at most"])
    if nodes > MOST_ALIKE:
        most = MOST_ALIKE * NODE_ACCELERATORS
        raise InvalidInput([f"{file}: {title} need {nodes * NODE_ACCELERATORS:,} accelerators; expected {most:,} at most"])
    return Scenario(
        title=title,
        clock_speed=speed,
        fleet=_fleet(nodes),
        queues=queues_of(window, nodes * NODE_ACCELERATORS, _cut),
        arrivals=tuple(_arrival(number, job, window[0].at) for number, job in enumerate(window)),
        notes=(
            f"Replayed are {len(window)} consecutive arrivals with their gaps: of all such stretches within "
            f"{WINDOW_SECONDS // 3_600} hours the one that asks for the most accelerators. The file has {len(jobs):,} jobs, "
            f"and {len(read) - len(jobs):,} duplicates, which are dropped; considered are the {len(considered):,} from "
            f"{considered[0].at:%Y-%m-%d} to {considered[-1].at:%Y-%m-%d}.",
            _note_of_cuts(window),
            f"The fleet has {nodes * NODE_ACCELERATORS} accelerators; if nothing waited, up to {peak:g} would be used at once. "
            "Each cluster of the trace is a queue, which owns a share by its work and lends what it does not use.",
        ),
    )


def read_jobs(file: Path) -> list[Job]:
    """All jobs of a trace, in the order of its lines.

    Raises:
        InvalidInput: all problems of the file.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return _parse(file, csv.DictReader(stream))
    except OSError as error:
        raise InvalidInput([f"{file}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise InvalidInput([f"{file}: not text in UTF-8; expected a file with commas between its values"]) from error
    except csv.Error as error:
        raise InvalidInput([f"{file}: {error}; expected a file with commas between its values"]) from error


def _parse(file: Path, rows: "csv.DictReader[str]") -> list[Job]:
    given = rows.fieldnames or []
    if missing := [name for name in COLUMNS if name not in given]:
        has = f"has {', '.join(map(shown, given))}" if given else "is empty"
        raise InvalidInput([f"{file}:1: column {missing[0]} is missing; expected {', '.join(COLUMNS)}, but the line {has}"])
    if repeated := [name for name in COLUMNS if given.count(name) > 1]:
        raise InvalidInput([f"{file}:1: column {repeated[0]} is there {given.count(repeated[0])} times; expected once"])
    jobs, problems = [], []
    for row in rows:
        values, complaints = _values(row)
        if complaints:
            problems += [f"{file}:{rows.line_num}: {complaint}" for complaint in complaints]
        else:
            jobs.append(Job(values["timestamp"], values["duration"], values["num_gpus"], values["cluster"]))
    if problems:
        raise InvalidInput(problems)
    if not jobs:
        raise InvalidInput([f"{file}: has no jobs; expected lines below the first one"])
    return jobs


def _values(row: Mapping[str | None, object]) -> tuple[dict[str, Any], list[str]]:
    values: dict[str, Any] = {}
    complaints = []
    for name, (read, expected) in COLUMNS.items():
        text = row[name]
        try:
            values[name] = read("" if text is None else str(text).strip())
        except ValueError:
            complaints.append(f"column {name}: {shown(text)} is not acceptable; expected {expected}")
    if None in row:
        complaints.append("more values than columns; expected one value for each column")
    return values, complaints


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if not EPOCH_YEAR <= instant.year <= LAST_YEAR:
        raise ValueError(text)
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError(text)
    return seconds


def _accelerators(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise ValueError(text)
    return int(text)


def _cluster(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9._-]{1,90}", text):
        raise ValueError(text)
    return text


COLUMNS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "timestamp": (_instant, "a time such as 2017-10-09 07:01:55, of the years 1970 to 8999"),
    "duration": (_seconds, "a number of seconds above 0, such as 66.0"),
    "num_gpus": (_accelerators, "a whole number from 1 to 10000"),
    "cluster": (_cluster, "1 to 90 lower-case letters, digits, dots, dashes and underscores"),
}


def steady(jobs: Sequence[Job]) -> Sequence[Job]:
    """The jobs of the time in which the Philly trace is complete, or all if there are none."""
    begin, end = STEADY
    return [job for job in jobs if begin <= job.at < end] or jobs


def busiest_window(jobs: Sequence[Job], size: int = WINDOW_JOBS, seconds: float = WINDOW_SECONDS) -> Sequence[Job]:
    """The window to replay, of jobs in the order of their arrival."""
    size = min(size, len(jobs))
    starts = range(len(jobs) - size + 1)
    asked = [0, *accumulate(job.accelerators for job in jobs)]

    def span(start: int) -> float:
        return (jobs[start + size - 1].at - jobs[start].at).total_seconds()

    dense = [start for start in starts if span(start) <= seconds]
    best = max(dense, key=lambda start: asked[start + size] - asked[start]) if dense else min(starts, key=span)
    return jobs[best : best + size]


def _arrival(number: int, job: Job, begin: datetime) -> Arrival:
    spec = WorkloadSpec(
        id=f"job-{number:03d}",
        queue=queue_of(job.cluster),
        groups=(gang(job.accelerators),),
        targets=(Target(skus=(SKU,)),),
        parameters=behaviour(max(1, round(_cut(job)))),
        retries=3,
    )
    return Arrival((job.at - begin).total_seconds(), "trace", spec)


def gang(accelerators: int) -> ReplicaGroup:
    """As few equal replicas as fit on nodes; single accelerators where there are no such."""
    replicas = math.ceil(accelerators / NODE_ACCELERATORS)
    if accelerators % replicas:
        return ReplicaGroup(count=accelerators, accelerators=1)
    return ReplicaGroup(count=replicas, accelerators=accelerators // replicas)


def _cut(job: Job) -> float:
    return min(job.duration, HORIZON_SECONDS)


def _note_of_cuts(window: Sequence[Job]) -> str:
    cut = [job for job in window if job.duration > HORIZON_SECONDS]
    hours = sum(job.duration * job.accelerators for job in window) / 3_600
    kept = sum(_cut(job) * job.accelerators for job in window) / 3_600
    if not cut:
        return f"No job is cut: all {hours:,.0f} accelerator-hours are replayed."
    return (
        f"{len(cut)} of {len(window)} jobs ran longer than {HORIZON_SECONDS // 60} minutes and are cut there: "
        f"{kept:,.0f} of {hours:,.0f} accelerator-hours are replayed."
    )


def _peak(window: Sequence[Job]) -> float:
    """Accelerators in use at once, if nothing waited."""
    begins = ((job, (job.at - window[0].at).total_seconds()) for job in window)
    return measures.peak(Stretch(begin, begin + _cut(job), job.accelerators) for job, begin in begins)


def _nodes_for(window: Sequence[Job], peak: float) -> int:
    """So few nodes that work has to wait, but enough for the largest gang."""
    wanted = max(SHARE_OF_PEAK * peak, *(job.accelerators for job in window))
    return math.ceil(wanted / NODE_ACCELERATORS)


def _fleet(nodes: int) -> FleetFile:
    shape = NodeShape(sku=SKU, count=nodes, accelerators=NODE_ACCELERATORS, nodes_per_rack=NODES_PER_RACK)
    region = SimulatedRegion(name="trace", clusters=(SimulatedCluster(name="trace", nodes=(shape,)),))
    return FleetFile(providers=(SimulatedEntry(name="sim", kind="simulated", regions=(region,)),))


def queues_of(jobs: Sequence[Job], accelerators: int, seconds: Callable[[Job], float]) -> QueueTree:
    """A queue for each cluster that owns a part of so many accelerators by its work, and lends it."""
    work: dict[str, float] = defaultdict(float)
    for job in jobs:
        work[queue_of(job.cluster)] += job.accelerators * seconds(job)
    nominal = _shares(work, accelerators)
    leaves = (
        QueueSpec(name=name, parent=COHORT, quotas=(QuotaSpec(sku=SKU, nominal=nominal[name]),)) for name in sorted(nominal)
    )
    return QueueTree(queues=(QueueSpec(name=COHORT), *leaves))


def queue_of(cluster: str) -> str:
    """The queue that a cluster becomes."""
    return f"cluster-{cluster}"


def _shares(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers in proportion to the weights that sum to the total; what is left goes to the largest remainders."""
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    shares = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares
