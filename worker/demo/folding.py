"""Folding: from the rows that a run left behind to its report. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from activities.store.rows import AttemptRow, WorkloadRow, place_of
from corral.api import WHOLE, Outcome, QueueSpec, SlaTier, State
from corral.policy import Policy
from domain.pool.lifecycle import RESHAPED
from domain.quota.accounting import IntervalKind, by_tier
from worker.demo import measures
from worker.demo.driver import Course
from worker.demo.measures import Stretch
from worker.demo.planning import planning
from worker.demo.record import Record
from worker.demo.report import (
    DeedReport,
    ExplanationReport,
    Line,
    MishapReport,
    Phase,
    PlaceReport,
    PolicyReport,
    PreemptionReport,
    ProcessReport,
    QueueReport,
    RefusalReport,
    Report,
    ReshapeReport,
    Span,
    TierReport,
    Totals,
    Verdict,
)
from worker.demo.scenario import Scenario

BINS = 90
HOUR = 3_600
MILLI_HOUR = WHOLE * HOUR
LOCAL = "local"

ENDED_BADLY = frozenset(
    {
        *(Outcome.FAILED, Outcome.LOST, Outcome.OUT_OF_TIME, Outcome.REFUSED_BY_PROVIDER, Outcome.EXPIRED),
        *(Outcome.DRAINED, Outcome.STOPPED),
    }
)


@dataclass(frozen=True)
class Run:
    """What a report is made of: the rows, and what the driver knows beside them. `outputs` are lines by workload."""

    scenario: Scenario
    record: Record
    course: Course
    verdict: Verdict
    phases: tuple[Phase, ...]
    outputs: Mapping[str, tuple[str, ...]]
    incidents: tuple[str, ...] = ()

    @cached_property
    def ended_at(self) -> datetime:
        """When the last workload had ended."""
        ends = [row.ended_at for row in self.record.workloads if row.ended_at]
        return max([*ends, self.course.began_at + timedelta(minutes=1)])

    @cached_property
    def duration(self) -> float:
        """Seconds of the pool's time from the start to the last end."""
        return (self.ended_at - self.course.began_at).total_seconds()

    @cached_property
    def workloads(self) -> Mapping[str, WorkloadRow]:
        """Workloads by id."""
        return {row.id: row for row in self.record.workloads}

    @cached_property
    def attempts_of(self) -> Mapping[str, list[AttemptRow]]:
        """Attempts by workload, in their order."""
        attempts: dict[str, list[AttemptRow]] = defaultdict(list)
        for attempt in self.record.attempts:
            attempts[attempt.workload_id].append(attempt)
        return attempts

    @cached_property
    def bound(self) -> list[AttemptRow]:
        """Attempts that really had capacity."""
        return [attempt for attempt in self.record.attempts if attempt.bound_at]

    def seconds(self, instant: datetime) -> float:
        """Seconds of the pool's time since the start."""
        return (instant - self.course.began_at).total_seconds()

    def minutes(self, instant: datetime) -> float:
        """Minutes of the pool's time since the start."""
        return round(self.seconds(instant) / 60, 2)

    def stretch(self, attempt: AttemptRow, sku: str | None = None) -> Stretch:
        """The accelerators of an attempt, of one SKU or of all, from when it was bound to when it was gone."""
        milli = attempt.milli if sku is None else attempt.by_sku[sku]
        begin = self.seconds(attempt.bound_at or attempt.held_at)
        return Stretch(begin, max(begin, self.seconds(attempt.ended_at or self.ended_at)), milli / WHOLE)


def report(run: Run) -> Report:
    """Fold a run into its report."""
    return Report(
        title=run.scenario.title,
        notes=run.scenario.notes,
        began_at=run.course.began_at,
        clock_speed=run.scenario.clock_speed,
        minutes=round(run.duration / 60, 1),
        phases=run.phases,
        verdict=run.verdict,
        totals=_totals(run),
        tiers=_tiers(run),
        places=_places(run),
        queues=_queues(run),
        preemptions=_preemptions(run),
        reshapes=_reshapes(run),
        refusals=_refusals(run),
        explanations=_explanations(run),
        policies=_policies(run),
        mishaps=_mishaps(run),
        processes=_processes(run),
        deeds=_deeds(run),
        incidents=run.incidents,
        planning=planning(run.record.rounds, run.course.began_at),
        bins_minutes=tuple(round((number + 0.5) * run.duration / BINS / 60, 2) for number in range(BINS)),
        line=_line(run),
        spans=_spans(run),
    )


def _totals(run: Run) -> Totals:
    rounds = [sum(each.milliseconds.values()) for each in run.record.rounds]
    prompt = list(_prompt_starts(run))
    return Totals(
        workloads=len(run.record.workloads),
        states={state: number for state, number in _by_state(run).items() if number},
        attempts=len(run.record.attempts),
        accelerators=sum(supply.accelerators for supply in run.record.supply),
        largest_gang=max((attempt.milli / WHOLE for attempt in run.bound), default=0),
        accelerator_hours=_hours(run, run.bound),
        lost_accelerator_hours=_lost(run.record.attempts),
        rounds=len(rounds),
        round_p50_milliseconds=round(measures.percentile(rounds, 0.5) or 0, 1),
        round_p99_milliseconds=round(measures.percentile(rounds, 0.99) or 0, 1),
        prompt_starts=len(prompt),
        prompt_start_p50_seconds=_rounded(measures.percentile(prompt, 0.5)),
    )


def _by_state(run: Run) -> dict[State, int]:
    counts = Counter(row.state for row in run.record.workloads)
    return {state: counts[state] for state in State}


def _prompt_starts(run: Run) -> Iterable[float]:
    """Seconds of the wall from submission to running, where the place was found on arrival."""
    for row in run.record.workloads:
        attempts = run.attempts_of.get(row.id, [])
        if attempts and attempts[0].held_at == row.submitted_at and attempts[0].started_at:
            yield (attempts[0].started_at - row.submitted_at).total_seconds() / run.scenario.clock_speed


def _tiers(run: Run) -> tuple[TierReport, ...]:
    fractions = by_tier(run.record.intervals, run.course.began_at, run.ended_at)
    policy = Policy()
    return tuple(
        _tier(run, tier, policy.rank.tiers[tier].guarantee, None if (got := fractions[tier]) is None else float(got))
        for tier in SlaTier
        if any(row.tier == tier for row in run.record.workloads)
    )


def _tier(run: Run, tier: SlaTier, promised: float, achieved: float | None) -> TierReport:
    rows = [row for row in run.record.workloads if row.tier == tier]
    attempts = [attempt for row in rows for attempt in run.attempts_of.get(row.id, [])]
    waits = sorted(_waits(run, rows))
    return TierReport(
        tier=tier,
        workloads=len(rows),
        started=sum(any(attempt.started_at for attempt in run.attempts_of.get(row.id, [])) for row in rows),
        promised_fraction=promised,
        achieved_fraction=None if achieved is None else round(achieved, 4),
        wait_p50_minutes=_rounded(measures.percentile(waits, 0.5)),
        wait_p90_minutes=_rounded(measures.percentile(waits, 0.9)),
        wait_max_minutes=_rounded(max(waits, default=None)),
        preemptions=sum(attempt.outcome == Outcome.PREEMPTED for attempt in attempts),
        lost_accelerator_hours=_lost(attempts),
        accelerator_hours=_hours(run, [attempt for attempt in attempts if attempt.bound_at]),
        waits_minutes=tuple(round(wait, 2) for wait in waits),
    )


def _waits(run: Run, rows: Iterable[WorkloadRow]) -> Iterable[float]:
    """Minutes from submission to the first start."""
    held = {row.workload_id for row in run.record.intervals if row.kind is IntervalKind.SUSPENDED}
    for row in rows:
        starts = [attempt.started_at for attempt in run.attempts_of.get(row.id, []) if attempt.started_at]
        if starts and row.id not in held:
            yield (min(starts) - row.submitted_at).total_seconds() / 60


def _places(run: Run) -> tuple[PlaceReport, ...]:
    places = []
    for supply in run.record.supply:
        key = (supply.provider, supply.region, supply.sku)
        here = [
            attempt for attempt in run.bound if (attempt.provider, attempt.region) == key[:2] and supply.sku in attempt.by_sku
        ]
        stretches = [run.stretch(attempt, supply.sku) for attempt in here]
        places.append(
            PlaceReport(
                provider=supply.provider,
                region=supply.region,
                sku=supply.sku,
                accelerators=supply.accelerators,
                attempts=len(here),
                accelerator_hours=round(measures.area(stretches) / HOUR, 2),
                mean_used=round(measures.area(stretches) / run.duration, 2),
                peak_used=measures.peak(stretches),
                series=measures.mean_by_bin(stretches, run.duration, BINS),
            )
        )
    return tuple(sorted(places, key=lambda place: (place.provider == LOCAL, place.sku, place.region)))


def _queues(run: Run) -> tuple[QueueReport, ...]:
    nominals = {(queue.name, row.sku): row.nominal for queue in run.record.queues for row in queue.quotas}
    uses: dict[tuple[str, str], list[Stretch]] = {key: [] for key in nominals}
    for attempt in run.bound:
        for sku in attempt.by_sku:
            uses.setdefault((run.workloads[attempt.workload_id].queue, sku), []).append(run.stretch(attempt, sku))
    loans = _loans(uses, nominals, run.record.queues)
    return tuple(
        QueueReport(
            queue=queue,
            sku=sku,
            nominal=nominals.get((queue, sku), 0),
            mean_used=round(measures.area(stretches) / run.duration, 2),
            peak_used=measures.peak(stretches),
            accelerator_hours=round(measures.area(stretches) / HOUR, 2),
            borrowed_accelerator_hours=round(loans[queue, sku].borrowed / HOUR, 2),
            lent_accelerator_hours=round(loans[queue, sku].lent / HOUR, 2),
            series=measures.mean_by_bin(stretches, run.duration, BINS),
        )
        for (queue, sku), stretches in sorted(uses.items())
        if stretches or loans[queue, sku].lent
    )


@dataclass(slots=True)
class _Loan:
    """Accelerators times seconds that a queue had of others, and others had of it."""

    borrowed: float = 0
    lent: float = 0


def _loans(
    uses: Mapping[tuple[str, str], Sequence[Stretch]], nominals: Mapping[tuple[str, str], int], queues: Sequence[QueueSpec]
) -> Mapping[tuple[str, str], _Loan]:
    """Who borrowed and lent how much: what is borrowed in a tree, its queues lend in proportion to what they leave unused."""
    roots = _roots(queues)
    loans: dict[tuple[str, str], _Loan] = defaultdict(_Loan)
    for root, sku in sorted({(roots.get(queue, queue), sku) for queue, sku in uses}):
        members = [queue for queue, of in uses if of == sku and roots.get(queue, queue) == root]
        for seconds, levels in _levels({queue: uses[queue, sku] for queue in members}):
            beyond = {queue: levels[queue] - nominals.get((queue, sku), 0) for queue in members}
            borrowed = sum(max(0.0, over) for over in beyond.values())
            unused = sum(max(0.0, -over) for over in beyond.values())
            for queue, over in beyond.items():
                loans[queue, sku].borrowed += max(0.0, over) * seconds
                if unused:
                    loans[queue, sku].lent += min(borrowed, unused) * max(0.0, -over) / unused * seconds
    return loans


def _roots(queues: Sequence[QueueSpec]) -> dict[str, str]:
    parents = {queue.name: queue.parent for queue in queues}
    roots = {}
    for name in parents:
        root = name
        while (parent := parents.get(root)) is not None:
            root = parent
        roots[name] = root
    return roots


def _levels(uses: Mapping[str, Sequence[Stretch]]) -> Iterable[tuple[float, Mapping[str, float]]]:
    """Stretches of time in which nothing changes: their seconds, and what each queue uses."""
    steps = sorted(
        (at, queue, change)
        for queue, stretches in uses.items()
        for stretch in stretches
        for at, change in ((stretch.begin, stretch.amount), (stretch.end, -stretch.amount))
    )
    levels, last = dict.fromkeys(uses, 0.0), 0.0
    for at, queue, change in steps:
        if at > last:
            yield at - last, dict(levels)
            last = at
        levels[queue] += change


def _preemptions(run: Run) -> tuple[PreemptionReport, ...]:
    attempts = {attempt.id: attempt for attempt in run.record.attempts}
    return tuple(
        _preemption(run, victim, attempts[victim.beneficiary])
        for victim in sorted(run.record.attempts, key=lambda attempt: attempt.stop_at or attempt.held_at)
        if victim.outcome == Outcome.PREEMPTED and victim.beneficiary in attempts
    )


def _preemption(run: Run, victim: AttemptRow, winner: AttemptRow) -> PreemptionReport:
    loser_row, winner_row = run.workloads[victim.workload_id], run.workloads[winner.workload_id]
    assert victim.stop_at is not None, "what is preempted has notice"
    assert victim.ended_at is not None, "what was preempted is gone"
    return PreemptionReport(
        at_minutes=run.minutes(victim.stop_at),
        victim=loser_row.id,
        victim_tier=SlaTier(loser_row.tier),
        victim_queue=loser_row.queue,
        sku=victim.sku,
        accelerators=victim.milli / WHOLE,
        beneficiary=winner_row.id,
        beneficiary_tier=SlaTier(winner_row.tier),
        beneficiary_queue=winner_row.queue,
        cause=_cause(loser_row, winner_row),
        notice_to_gone_seconds=round((victim.ended_at - victim.stop_at).total_seconds(), 1),
        gone_to_bound_seconds=_seconds_between(victim.ended_at, winner.bound_at),
        lost_accelerator_hours=_lost([victim]),
        victim_ended=loser_row.state,
    )


def _cause(loser: WorkloadRow, winner: WorkloadRow) -> str:
    if loser.queue != winner.queue:
        return "reclaim"
    return "higher tier" if loser.tier != winner.tier else "higher priority"


def _seconds_between(begin: datetime, end: datetime | None) -> float | None:
    return None if end is None else round((end - begin).total_seconds(), 1)


def _reshapes(run: Run) -> tuple[ReshapeReport, ...]:
    attempts = {attempt.id: attempt for attempt in run.record.attempts}
    return tuple(
        _reshape(run, before, attempts.get(f"{before.workload_id}.{before.epoch + 1}"))
        for before in sorted(run.record.attempts, key=lambda attempt: attempt.stop_at or attempt.held_at)
        if before.outcome in RESHAPED
    )


def _reshape(run: Run, before: AttemptRow, after: AttemptRow | None) -> ReshapeReport:
    row = run.workloads[before.workload_id]
    assert before.stop_at is not None, "what is reshaped has notice"
    assert before.ended_at is not None, "what was reshaped is gone"
    return ReshapeReport(
        at_minutes=run.minutes(before.stop_at),
        workload=row.id,
        tier=SlaTier(row.tier),
        queue=row.queue,
        outcome=Outcome(before.outcome or ""),
        before=place_of(before),
        after=place_of(after) if after else "",
        notice_to_gone_seconds=round((before.ended_at - before.stop_at).total_seconds(), 1),
        gone_to_bound_seconds=_seconds_between(before.ended_at, after.bound_at if after else None),
        lost_accelerator_hours=_lost([before]),
    )


def _refusals(run: Run) -> tuple[RefusalReport, ...]:
    return tuple(
        RefusalReport(
            workload=row.id,
            reason=str((row.explanation or {}).get("reason", "")),
            message=str((row.explanation or {}).get("message", "")),
        )
        for row in sorted(run.record.workloads, key=lambda row: row.id)
        if row.state is State.REFUSED
    )


def _explanations(run: Run) -> tuple[ExplanationReport, ...]:
    return tuple(
        ExplanationReport(
            at_minutes=run.minutes(told.at),
            workload=told.workload,
            reason=told.explanation.reason,
            message=told.explanation.message,
            position=told.explanation.position,
            fixes=tuple(f"{fix.message} (${fix.cost:,.2f})" for fix in told.explanation.fixes),
        )
        for told in sorted(run.course.told, key=lambda told: (told.at, told.workload))
    )


def _policies(run: Run) -> tuple[PolicyReport, ...]:
    return tuple(
        PolicyReport(
            version=record.version,
            name=record.policy.name,
            digest=record.digest,
            at_minutes=max(0.0, run.minutes(record.applied_at)),
            who=record.who,
            why=record.why,
        )
        for record in sorted(run.record.policies, key=lambda record: record.version)
    )


def _mishaps(run: Run) -> tuple[MishapReport, ...]:
    return tuple(
        MishapReport(
            at_minutes=run.minutes(attempt.ended_at or attempt.held_at),
            workload=attempt.workload_id,
            attempt=attempt.epoch,
            outcome=Outcome(attempt.outcome),
            reason=attempt.reason or "",
            exit_code=attempt.exit_code,
            afterwards=run.workloads[attempt.workload_id].state,
            attempts=run.workloads[attempt.workload_id].epoch,
        )
        for attempt in sorted(run.record.attempts, key=lambda attempt: attempt.ended_at or attempt.held_at)
        if attempt.outcome in ENDED_BADLY
    )


def _processes(run: Run) -> tuple[ProcessReport, ...]:
    kinds = {arrival.spec.id: arrival.spec for arrival in run.scenario.arrivals if arrival.spec.command}
    return tuple(
        ProcessReport(
            workload=row.id,
            state=row.state,
            attempts=row.epoch,
            exit_code=row.exit_code,
            devices=sum(group.count * group.milli for group in kinds[row.id].groups) / WHOLE,
            output=run.outputs.get(row.id, ()),
        )
        for row in sorted(run.record.workloads, key=lambda row: row.id)
        if row.id in kinds
    )


def _deeds(run: Run) -> tuple[DeedReport, ...]:
    return tuple(
        DeedReport(
            at_minutes=run.minutes(done.at),
            verb=done.deed.verb,
            workload=done.deed.workload,
            why=done.deed.why,
            answer=done.answer,
        )
        for done in sorted(run.course.done, key=lambda done: done.at)
    )


def _line(run: Run) -> Line:
    waiting, active = [], []
    for interval in run.record.intervals:
        stretch = Stretch(run.seconds(interval.began_at), run.seconds(interval.ended_at or run.ended_at), 1)
        match interval.kind:
            case IntervalKind.WAITING:
                waiting.append(stretch)
            case IntervalKind.STARTING | IntervalKind.RUNNING:
                active.append(stretch)
    return Line(
        waiting=measures.mean_by_bin(waiting, run.duration, BINS), active=measures.mean_by_bin(active, run.duration, BINS)
    )


def _spans(run: Run) -> tuple[Span, ...]:
    return tuple(
        Span(
            workload=attempt.workload_id,
            tier=SlaTier(run.workloads[attempt.workload_id].tier),
            place=f"{attempt.sku} in {attempt.region}",
            accelerators=attempt.milli / WHOLE,
            begin_minutes=round(run.stretch(attempt).begin / 60, 2),
            end_minutes=round(run.stretch(attempt).end / 60, 2),
            outcome=Outcome(attempt.outcome) if attempt.outcome else None,
        )
        for attempt in sorted(run.bound, key=lambda attempt: (run.stretch(attempt).begin, attempt.id))
    )


def _hours(run: Run, attempts: Iterable[AttemptRow]) -> float:
    return round(measures.area(run.stretch(attempt) for attempt in attempts) / HOUR, 2)


def _lost(attempts: Iterable[AttemptRow]) -> float:
    return round(sum(attempt.lost_milli_seconds for attempt in attempts) / MILLI_HOUR, 3)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
