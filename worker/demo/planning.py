"""How good the rounds of a run were, and where their time went."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import fmean

from corral.api import RoundStatus
from domain.decision import Fallback
from worker.demo.measures import percentile
from worker.demo.report import PlanningReport, RoundReport, StepReport


def planning(rounds: Sequence[RoundStatus], began_at: datetime) -> PlanningReport:
    """Fold the rounds into a report."""
    points = tuple(_points(rounds, began_at))
    gaps = [point.gap for point in points]
    balances = [(each.worst_region_before, each.worst_region_after) for each in rounds]
    known = [(before, after) for before, after in balances if before is not None and after is not None]
    return PlanningReport(
        steps=tuple(_steps(rounds)),
        rounds=points,
        gap_mean=round(fmean(gaps), 4) if gaps else None,
        gap_p90=percentile(gaps, 0.9),
        reached=sum(gap == 0 for gap in gaps),
        improved=sum(each.improved for each in rounds),
        moved=sum(each.moved for each in rounds),
        out_of_work=sum(each.fallback == Fallback.OUT_OF_WORK for each in rounds),
        worst_region_before=round(fmean(before for before, _ in known), 3) if known else None,
        worst_region_after=round(fmean(after for _, after in known), 3) if known else None,
    )


def _points(rounds: Iterable[RoundStatus], began_at: datetime) -> Iterable[RoundReport]:
    for each in rounds:
        if each.gap is not None and each.bound and each.started_accelerators is not None:
            yield RoundReport(
                at_minutes=round((each.at - began_at).total_seconds() / 60, 2),
                gap=round(each.gap, 4),
                method=each.method or "",
                started_accelerators=each.started_accelerators,
                bound=each.bound,
            )


def _steps(rounds: Sequence[RoundStatus]) -> Iterable[StepReport]:
    """In the order in which they are done."""
    total = sum(sum(each.milliseconds.values()) for each in rounds)
    for name in dict.fromkeys(step for each in rounds for step in each.milliseconds):
        took = [each.milliseconds.get(name, 0.0) for each in rounds]
        yield StepReport(
            name=name,
            p50_milliseconds=round(percentile(took, 0.5) or 0, 2),
            p99_milliseconds=round(percentile(took, 0.99) or 0, 2),
            share=round(sum(took) / total, 4) if total else 0.0,
        )
