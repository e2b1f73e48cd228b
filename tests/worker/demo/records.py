"""Hand-made records: rows of a run in minutes since its start, for the report to be folded from."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from activities.store.rows import AttemptRow, WorkloadRow
from corral.api import WHOLE, FleetStatus, Outcome, QueueSpec, QueueTree, QuotaSpec, RoundStatus, SlaTier, State
from domain.quota.accounting import Interval, IntervalKind
from tests.builders import NOON, a_workload
from worker.demo.driver import Course, Done
from worker.demo.folding import Run
from worker.demo.record import Record
from worker.demo.report import Phase, Verdict
from worker.demo.scenario import Scenario
from worker.fleet_file import DEFAULT_FLEET, read_fleet

SKU = "h100"


def minute(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def a_row(
    id: str, *, queue: str = "research", tier: SlaTier = SlaTier.STANDARD, came: float = 0, ended: float = 60, **fields: Any
) -> WorkloadRow:
    """A workload that succeeded, if nothing else is said."""
    spec = a_workload(id, queue=queue, tier=tier).spec
    row = WorkloadRow(
        id=id,
        spec=spec.model_dump(mode="json"),
        digest=spec.digest,
        queue=queue,
        tier=tier,
        priority=0,
        state=State.SUCCEEDED,
        epoch=1,
        version=1,
        submitted_at=minute(came),
        since=minute(ended),
        ended_at=minute(ended),
    )
    return replace(row, **fields)


def a_round(milliseconds: float, **fields: Any) -> RoundStatus:
    """A round that took so long to decide."""
    known = RoundStatus(
        id=1, at=NOON, trigger="tick", considered=1, started=1, preempted=0, refused=0, milliseconds={"turns": milliseconds}
    )
    return known.model_copy(update=fields)


def an_attempt(workload: str, began: float, ended: float, *, gpus: int = 8, epoch: int = 1, **fields: Any) -> AttemptRow:
    """An attempt that was held, bound and started at one time, and finished."""
    attempt = AttemptRow(
        id=f"{workload}.{epoch}",
        workload_id=workload,
        epoch=epoch,
        provider="sim",
        region="eu",
        cluster="eu-1",
        sku=SKU,
        by_sku={SKU: gpus * WHOLE},
        cost_by_sku={},
        target=0,
        milli=gpus * WHOLE,
        replicas=1,
        held_at=minute(began),
        bound_at=minute(began),
        started_at=minute(began),
        ended_at=minute(ended),
        outcome=Outcome.FINISHED,
    )
    return replace(attempt, **fields)


def intervals(workload: str, tier: SlaTier, *parts: tuple[IntervalKind, float, float], gpus: int = 8) -> list[Interval]:
    """A workload's ledger: what it did from which minute to which."""
    milli = gpus * WHOLE
    return [
        Interval(
            workload, tier, "research", kind, milli, milli if kind is IntervalKind.RUNNING else 0, minute(begin), minute(end)
        )
        for kind, begin, end in parts
    ]


def a_queue(name: str, nominal: int, parent: str | None = "company") -> QueueSpec:
    return QueueSpec(name=name, parent=parent, quotas=(QuotaSpec(sku=SKU, nominal=nominal),))


COMPANY = QueueSpec(name="company")


def a_run(
    workloads: Sequence[WorkloadRow] = (),
    attempts: Sequence[AttemptRow] = (),
    ledger: Sequence[Interval] = (),
    *,
    queues: Sequence[QueueSpec] = (COMPANY, a_queue("research", 16), a_queue("product", 16)),
    rounds: Sequence[RoundStatus] = (),
    done: Sequence[Done] = (),
    problems: Sequence[str] = (),
) -> Run:
    """A run on 32 accelerators that began at noon, at sixty times the speed of the wall."""
    supply = FleetStatus(provider="sim", region="eu", sku=SKU, nodes=4, ready_nodes=4, accelerators=32, used=0)
    scenario = Scenario("a hand-made run", 60.0, read_fleet(DEFAULT_FLEET), QueueTree(queues=tuple(queues)), ())
    return Run(
        scenario=scenario,
        record=Record(tuple(workloads), tuple(attempts), tuple(ledger), tuple(queues), (supply,), tuple(rounds)),
        course=Course(NOON, tuple(done), ()),
        verdict=Verdict(checks=20, problems=tuple(problems)),
        phases=(Phase(name="run the workloads", seconds=60.0),),
        outputs={},
    )
