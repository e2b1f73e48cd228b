"""`python -m tests.benchmarks.soak --workloads 10000`: a long load on one pair of servers; JSON lines.

Workloads come in stretches: single replicas, a hundred of them outstanding, then arrays whose tasks count one each, then bare
workflows with as many events to compare with. Latencies, preemptions and recoveries from kills are measured between them and
at the end. Memory is what each process with its children has written and nobody else has, at its least in the seconds after
each stretch; whether it grows is told by the last two thirds of them, with how far chance alone may take that.
"""

import asyncio
import math
import os
import signal
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import psutil
import typer
import uvloop

from corral.api import Checkpoint, QuotaSpec, ReplicaGroup, SlaTier, Target, WorkloadSpec
from corral.client import NotFound
from tests.benchmarks import lifecycles
from tests.benchmarks.figures import Figure, spread
from tests.benchmarks.lifecycles import TASKS, Bench, a_workload, beside, burst
from tests.chaos.plan import policy
from tests.end_to_end.pools import eventually
from worker.demo.persistence import persistently
from worker.embedded import POSTGRES, TEMPORAL, WORKER

MOST_STRETCHES, FEWEST_STRETCHES, A_STRETCH = 10, 4, 100
IN_ARRAYS = 0.2
"""The part of all workloads that are tasks of arrays."""
MOST_BARE = 200
SETTLING_SECONDS = 5.0
"""After a stretch, in which what it left is collected and given back."""
GLANCE_SECONDS = 0.5
CONTESTED_NODES = 4
MOST_PREEMPTIONS = 20
SAVING_SECONDS = 0.1
"""How long a victim takes to save its work: a part of what a preemption takes that is its own."""
PROCESSES = (WORKER, TEMPORAL, POSTGRES)
FEWEST = 2 * FEWEST_STRETCHES * TASKS

FLEET = f"""
providers:
  - name: sim
    kind: simulated
    regions:
      - name: here
        clusters:
          - name: one
            nodes:
              - {{sku: gpu, count: 64, accelerators: 8}}
              - {{sku: contested, count: {CONTESTED_NODES}, accelerators: 8}}
"""
QUOTAS = (*lifecycles.QUOTAS, QuotaSpec(sku="contested", nominal=8 * CONTESTED_NODES))

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def main(workloads: Annotated[int, typer.Option(min=FEWEST, help="how many, tasks of arrays included")] = 10_000) -> None:
    """Measure, and print each figure when it is there."""
    uvloop.run(_print(workloads))


async def _print(workloads: int) -> None:
    with tempfile.TemporaryDirectory(prefix="corral-soak-") as directory:
        async for figure in soak(Path(directory), workloads):
            print(figure.as_json(), flush=True)


async def soak(directory: Path, workloads: int, settling_seconds: float = SETTLING_SECONDS) -> AsyncIterator[Figure]:
    """All figures of a soak with that many workloads."""
    first_policy = directory / "policy.json"
    first_policy.write_text(policy().model_dump_json())
    async with Bench.running(directory, FLEET, QUOTAS, policy=str(first_policy)) as bench:
        load, few = partial(_load, workloads=workloads, settling_seconds=settling_seconds), workloads // (2 * TASKS)
        preemptions = partial(_preemptions, number=min(MOST_PREEMPTIONS, few))
        recoveries = partial(_recoveries, others=min(MOST_BARE, few))
        for part in (load, lifecycles.events, lifecycles.latency, preemptions, recoveries):
            async for figure in part(bench):
                yield figure


async def _load(bench: Bench, workloads: int, settling_seconds: float) -> AsyncIterator[Figure]:
    stretches = min(MOST_STRETCHES, max(FEWEST_STRETCHES, workloads // A_STRETCH))
    arrays = max(1, round(workloads * IN_ARRAYS / TASKS / stretches))
    singles = workloads // stretches - arrays * TASKS
    ours: list[float] = []
    bare: list[float] = []
    tasks: list[float] = []
    memory: list[Sequence[float]] = []
    pids = [bench.stack.supervisor.pid(process) for process in PROCESSES]
    for _ in range(stretches):
        ours.append(await burst(bench.lifecycle, singles))
        tasks.append(TASKS * await burst(partial(_array, bench), arrays))
        bare.append(await burst(bench.bare, min(MOST_BARE, singles)))
        memory.append(await _settled(pids, settling_seconds))
    yield beside("workloads, one replica each", "per second", ours, bare)
    yield Figure(f"workloads, tasks of arrays of {TASKS}", "per second", spread(tasks))
    yield Figure("workloads", "number", spread([stretches * (singles + arrays * TASKS)]))
    thousands = [(number + 1) * (singles + arrays * TASKS) / 1000 for number in range(stretches)]
    for process, measured in zip(PROCESSES, zip(*memory, strict=True), strict=True):
        grows = growth(thousands, measured)
        yield Figure(f"memory of {process}", "MiB", spread(measured))
        yield Figure(f"growth of {process}, last two thirds", "MiB per 1,000 workloads", spread([grows.slope]))
        yield Figure(f"growth of {process}, standard error", "MiB per 1,000 workloads", spread([grows.error]))


class Growth(NamedTuple):
    """How much more there is for each one more, and the standard error of that."""

    slope: float
    error: float


def growth(numbers: Sequence[float], measured: Sequence[float]) -> Growth:
    """By how much what was measured after each of the numbers grew with them, in the last two thirds of all.

    The first third fills what is bounded. At least three are left, for of two nobody knows how far chance took them.
    """
    first = len(numbers) // 3
    xs, ys = numbers[first:], measured[first:]
    slope, intercept = statistics.linear_regression(xs, ys)
    unexplained = sum((y - slope * x - intercept) ** 2 for x, y in zip(xs, ys, strict=True))
    return Growth(slope, math.sqrt(unexplained / (len(xs) - 2) / (statistics.pvariance(xs) * len(xs))))


async def _array(bench: Bench) -> None:
    spec = a_workload(tasks=TASKS)
    await bench.corral.submit(spec)
    await bench.corral.wait(spec.id)


async def _settled(pids: Sequence[int], seconds: float) -> Sequence[float]:
    """MiB of each process with its children: the least that was seen of it for so long."""
    until = time.monotonic() + seconds
    least = [_mebibytes(pid) for pid in pids]
    while time.monotonic() < until:
        await asyncio.sleep(GLANCE_SECONDS)
        least = [min(before, _mebibytes(pid)) for before, pid in zip(least, pids, strict=True)]
    return least


def _mebibytes(pid: int) -> float:
    process = psutil.Process(pid)
    return float(sum(_own_bytes(each) for each in (process, *process.children(recursive=True)))) / 2**20


def _own_bytes(process: psutil.Process) -> int:
    """What nobody else has; as far as the system tells, without pages of files, whose others may come and go."""
    try:
        if psutil.LINUX:
            return sum(each.private_dirty + each.swap for each in process.memory_maps())
        return int(process.memory_full_info().uss)
    except psutil.NoSuchProcess:  # a connection of PostgreSQL that has just been closed
        return 0


async def _preemptions(bench: Bench, number: int) -> AsyncIterator[Figure]:
    """From the notice to the last victim to when the work for which it leaves runs; nodes are taken by others at first."""
    victims = [_contested(SlaTier.BASIC, 3600) for _ in range(CONTESTED_NODES)]
    await _submit_all(bench, victims)
    await _until(bench, "running", victims)
    took: list[float] = []
    while len(took) < number:
        beneficiaries = [_contested(SlaTier.PREMIUM, 0.5) for _ in range(CONTESTED_NODES)]
        await _submit_all(bench, beneficiaries)
        await _until(bench, "succeeded", beneficiaries)
        took += [float(row.seconds) for row in await bench.rows(_TOOK, beneficiaries=[spec.id for spec in beneficiaries])]
        victims = await _renewed(bench, victims)
    await _cancel_all(bench, victims)
    yield from_seconds("preemption, notice to beneficiary bound, median", statistics.quantiles(took, n=100)[49])
    yield from_seconds("preemption, notice to beneficiary bound, 99th percentile", statistics.quantiles(took, n=100)[98])
    yield Figure("preemption, of that the victim saves its work", "ms", spread([SAVING_SECONDS * 1000]))


_TOOK = """
    SELECT extract(epoch FROM min(ran.wall) - max(noticed.wall)) AS seconds
    FROM attempts b JOIN attempts v ON v.beneficiary = b.id
    JOIN events noticed ON noticed.workload_id = v.workload_id AND noticed.kind = 'stopping'
    JOIN events ran ON ran.workload_id = b.workload_id AND ran.kind = 'running'
    WHERE b.workload_id = ANY(:beneficiaries) GROUP BY b.workload_id"""


async def _renewed(bench: Bench, victims: Sequence[WorkloadSpec]) -> list[WorkloadSpec]:
    """New victims for the old ones, each of which gets notice once."""
    await _cancel_all(bench, victims)
    await _until(bench, "cancelled", victims)
    fresh = [_contested(SlaTier.BASIC, 3600) for _ in victims]
    await _submit_all(bench, fresh)
    await _until(bench, "running", fresh)
    return fresh


def _contested(tier: SlaTier, seconds: float) -> WorkloadSpec:
    return a_workload(
        tier=tier,
        groups=(ReplicaGroup(accelerators=8),),
        targets=(Target(skus=("contested",)),),
        checkpoint=Checkpoint(grace_seconds=30),
        parameters={"runtime_seconds": str(seconds), "checkpoint_seconds": str(SAVING_SECONDS)},
    )


async def _submit_all(bench: Bench, specs: Sequence[WorkloadSpec]) -> None:
    await asyncio.gather(*(bench.corral.submit(spec) for spec in specs))


async def _cancel_all(bench: Bench, specs: Sequence[WorkloadSpec]) -> None:
    for spec in specs:
        with suppress(NotFound):  # it had ended by the first try, whose answer was lost
            await bench.corral.cancel(spec.id)


async def _until(bench: Bench, state: str, specs: Sequence[WorkloadSpec]) -> None:
    query = "SELECT id FROM workloads WHERE id = ANY(:ids) AND state = :state"
    ids = [spec.id for spec in specs]

    async def are_all() -> bool:
        return len(await bench.rows(query, ids=ids, state=state)) == len(ids)

    await eventually(are_all, f"{len(ids)} workloads are {state}")


async def _recoveries(bench: Bench, others: int) -> AsyncIterator[Figure]:
    """From a kill to when a workload that was submitted after it runs, while others are under way."""
    for process in PROCESSES:
        under_way = asyncio.create_task(burst(lambda: _persistent(bench), others))
        await asyncio.sleep(1)
        killed = bench.stack.supervisor.pid(process)
        began = time.perf_counter()
        os.kill(killed, signal.SIGKILL)
        probe = a_workload()
        await persistently(lambda spec=probe: bench.corral.submit(spec))  # type: ignore[misc]
        await _until_it_ran(bench, probe)
        yield from_seconds(f"recovery after {process} was killed", time.perf_counter() - began)
        await under_way
        await bench.stack.supervisor.until_ready(process, after=killed)


async def _until_it_ran(bench: Bench, spec: WorkloadSpec) -> None:
    query = "SELECT 1 FROM events WHERE workload_id = :id AND kind = 'running'"

    async def has_run() -> bool:
        return bool(await persistently(lambda: bench.rows(query, id=spec.id)))

    await eventually(has_run, f"{spec.id} has run")


async def _persistent(bench: Bench) -> None:
    spec = a_workload()
    await persistently(lambda: bench.corral.submit(spec))
    await persistently(lambda: bench.corral.wait(spec.id))


def from_seconds(name: str, seconds: float) -> Figure:
    """A figure in milliseconds."""
    return Figure(name, "ms", spread([seconds * 1000]))


if __name__ == "__main__":
    app()
