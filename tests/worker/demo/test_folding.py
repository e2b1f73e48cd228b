"""The report as a fold of rows: each number from a record made by hand."""

from typing import Any

import pytest

from corral.api import Outcome, Reason, SlaTier, State
from domain.quota.accounting import IntervalKind
from tests.worker.demo.records import a_round, a_row, a_run, an_attempt, intervals, minute
from worker.demo.driver import Done
from worker.demo.folding import report
from worker.demo.report import Report
from worker.demo.scenario import Deed, Verb

WAITING, RUNNING, SUSPENDED = IntervalKind.WAITING, IntervalKind.RUNNING, IntervalKind.SUSPENDED


def test_an_empty_run_has_a_report() -> None:
    empty = report(a_run())
    assert (empty.totals.workloads, empty.tiers, empty.queues, empty.preemptions) == (0, (), (), ())
    assert Report.model_validate_json(empty.model_dump_json()) == empty


def test_totals_count_states_and_accelerator_hours() -> None:
    rows = [a_row("one"), a_row("two", state=State.FAILED)]
    rounds = [a_round(10), a_round(20), a_round(90)]
    totals = report(a_run(rows, [an_attempt("one", 0, 30), an_attempt("two", 0, 60, gpus=16)], rounds=rounds)).totals
    assert totals.states == {State.SUCCEEDED: 1, State.FAILED: 1}
    assert (totals.accelerator_hours, totals.largest_gang, totals.attempts) == (20.0, 16.0, 2)
    assert (totals.rounds, totals.round_p50_milliseconds, totals.round_p99_milliseconds) == (3, 20.0, 90.0)


def test_rounds_are_summed_up_by_gap_and_step() -> None:
    best = a_round(10, gap=0.0, bound=8, started_accelerators=8, method="greedy", worst_region_before=2, worst_region_after=1)
    short = a_round(30, gap=0.5, bound=8, started_accelerators=4, method="exact", improved=2, moved=3, fallback="out-of-work")
    idle = a_round(20, gap=0.0, bound=0, started_accelerators=0, method="greedy")

    planning = report(a_run(rounds=[best, short, idle])).planning

    assert [point.gap for point in planning.rounds] == [0.0, 0.5]
    assert (planning.gap_mean, planning.reached, planning.improved, planning.moved, planning.out_of_work) == (0.25, 1, 2, 3, 1)
    assert (planning.worst_region_before, planning.worst_region_after) == (2.0, 1.0)
    assert [(step.name, step.p50_milliseconds, step.share) for step in planning.steps] == [("turns", 20.0, 1.0)]


def test_a_prompt_start_is_timed_on_the_wall() -> None:
    prompt = an_attempt("one", 0, 30, held_at=minute(0), started_at=minute(1))
    late = an_attempt("two", 5, 30)
    totals = report(a_run([a_row("one"), a_row("two")], [prompt, late])).totals
    assert (totals.prompt_starts, totals.prompt_start_p50_seconds) == (1, 1.0)


def test_waits_are_until_the_first_start_of_what_nobody_held() -> None:
    rows = [a_row(id) for id in ("quick", "slow", "held")]
    attempts = [
        an_attempt("quick", 2, 10),
        an_attempt("slow", 10, 20),
        an_attempt("slow", 30, 60, epoch=2),
        an_attempt("held", 50, 60),
    ]
    ledger = intervals("held", SlaTier.STANDARD, (SUSPENDED, 0, 50), (RUNNING, 50, 60))
    (tier,) = report(a_run(rows, attempts, ledger)).tiers
    assert tier.waits_minutes == (2.0, 10.0)
    assert (tier.wait_p50_minutes, tier.wait_p90_minutes, tier.wait_max_minutes) == (2.0, 10.0, 10.0)


def test_the_gpu_fraction_stands_beside_the_promise() -> None:
    rows = [a_row("one", tier=SlaTier.PREMIUM)]
    ledger = intervals("one", SlaTier.PREMIUM, (WAITING, 0, 15), (RUNNING, 15, 60))
    (tier,) = report(a_run(rows, [an_attempt("one", 15, 60)], ledger)).tiers
    assert (tier.tier, tier.promised_fraction, tier.achieved_fraction) == (SlaTier.PREMIUM, 0.95, 0.75)


def test_use_is_counted_from_bound_to_gone() -> None:
    attempts = [
        an_attempt("one", 0, 30, bound_at=minute(15)),
        an_attempt("two", 30, 60),
        an_attempt("never", 0, 60, bound_at=None),
    ]
    (place,) = report(a_run([a_row("one"), a_row("two"), a_row("never")], attempts)).places
    assert (place.mean_used, place.peak_used, place.accelerator_hours, place.attempts) == (6.0, 8.0, 6.0, 2)
    assert (place.series[0], place.series[30], place.series[-1]) == (0.0, 8.0, 8.0)


def test_what_a_queue_borrows_others_lend() -> None:
    rows = [a_row("guest"), a_row("owner", queue="product")]
    attempts = [an_attempt("guest", 0, 60, gpus=24), an_attempt("owner", 0, 60, gpus=8)]
    by_queue = {queue.queue: queue for queue in report(a_run(rows, attempts)).queues}
    assert (by_queue["research"].borrowed_accelerator_hours, by_queue["research"].lent_accelerator_hours) == (8.0, 0.0)
    assert (by_queue["product"].borrowed_accelerator_hours, by_queue["product"].lent_accelerator_hours) == (0.0, 8.0)


def test_an_unused_queue_lends_all_the_same() -> None:
    queues = report(a_run([a_row("guest")], [an_attempt("guest", 0, 60, gpus=24)])).queues
    assert [(queue.queue, queue.mean_used, queue.lent_accelerator_hours) for queue in queues] == [
        ("product", 0.0, 8.0),
        ("research", 24.0, 0.0),
    ]


@pytest.mark.parametrize(
    ("beneficiary", "cause"),
    [
        ({"queue": "product"}, "reclaim"),
        ({"tier": SlaTier.PREMIUM}, "higher tier"),
        ({"priority": 9}, "higher priority"),
    ],
)
def test_a_preemption_has_a_cause_times_and_a_cost(beneficiary: dict[str, Any], cause: str) -> None:
    rows = [a_row("victim", tier=SlaTier.STANDARD), a_row("winner", **beneficiary)]
    told: dict[str, Any] = {
        "stop_at": minute(10),
        "outcome": Outcome.PREEMPTED,
        "beneficiary": "winner.1",
        "lost_milli_seconds": 3_600_000,
    }
    attempts = [an_attempt("victim", 0, 11, **told), an_attempt("winner", 10, 60, bound_at=minute(13))]
    (preemption,) = report(a_run(rows, attempts)).preemptions
    assert (preemption.victim, preemption.beneficiary, preemption.cause) == ("victim", "winner", cause)
    assert (preemption.at_minutes, preemption.notice_to_gone_seconds, preemption.gone_to_bound_seconds) == (10.0, 60.0, 120.0)
    assert preemption.lost_accelerator_hours == 1.0


def test_a_reshape_tells_from_what_to_what_and_what_it_cost() -> None:
    told: dict[str, Any] = {"stop_at": minute(10), "outcome": Outcome.RESIZED, "lost_milli_seconds": 7_200_000}
    attempts = [an_attempt("one", 0, 11, **told), an_attempt("one", 10, 60, gpus=4, epoch=2, bound_at=minute(12))]
    told_of = report(a_run([a_row("one", epoch=2)], attempts))
    (reshape,) = told_of.reshapes
    assert (reshape.before, reshape.after) == ("8 h100 in eu/eu-1 (sim)", "4 h100 in eu/eu-1 (sim)")
    assert (reshape.notice_to_gone_seconds, reshape.gone_to_bound_seconds, reshape.lost_accelerator_hours) == (60.0, 60.0, 2.0)
    assert (told_of.preemptions, told_of.mishaps) == ((), ())


def test_refusals_tell_their_reason() -> None:
    explanation = {"reason": Reason.UNKNOWN_QUEUE, "message": "queue marketing does not exist"}
    refused = a_row("lost", state=State.REFUSED, epoch=0, explanation=explanation)
    (refusal,) = report(a_run([refused])).refusals
    assert (refusal.workload, refusal.reason, refusal.message) == ("lost", "UnknownQueue", "queue marketing does not exist")


def test_mishaps_tell_what_became_of_the_workload() -> None:
    attempts = [an_attempt("one", 0, 5, outcome=Outcome.LOST, reason="node n1 was lost"), an_attempt("one", 6, 60, epoch=2)]
    (mishap,) = report(a_run([a_row("one", epoch=2)], attempts)).mishaps
    assert (mishap.workload, mishap.attempt, mishap.attempts, mishap.outcome) == ("one", 1, 2, Outcome.LOST)
    assert (mishap.reason, mishap.afterwards, mishap.at_minutes) == ("node n1 was lost", State.SUCCEEDED, 5.0)


def test_deeds_come_in_their_order() -> None:
    deeds = [Done(Deed(0, Verb.CANCEL, "b", "why"), minute(9), "done"), Done(Deed(0, Verb.HOLD, "a", "why"), minute(3), "done")]
    assert [(deed.verb, deed.at_minutes) for deed in report(a_run(done=deeds)).deeds] == [("hold", 3.0), ("cancel", 9.0)]


def test_the_line_counts_who_waits_and_who_runs() -> None:
    ledger = intervals("one", SlaTier.STANDARD, (WAITING, 0, 30), (RUNNING, 30, 60))
    line = report(a_run([a_row("one")], [an_attempt("one", 30, 60)], ledger)).line
    assert (line.waiting[0], line.active[0]) == (1.0, 0.0)
    assert (line.waiting[-1], line.active[-1]) == (0.0, 1.0)
