"""The page: it needs nothing else, shows what there is, and cannot be broken by what workloads say."""

import io
import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console

from corral.api import Outcome, Reason, SlaTier, State
from domain.quota.accounting import IntervalKind
from tests.worker.demo.records import a_row, a_run, an_attempt, intervals, minute
from worker.demo.charts import charts
from worker.demo.folding import report
from worker.demo.page import page
from worker.demo.report import Report
from worker.demo.terminal import print_report

HOSTILE = "</script><script>alert(1)</script>"


def a_report(*problems: str) -> Report:
    refused = {"reason": Reason.UNKNOWN_QUEUE, "message": HOSTILE}
    rows = [a_row("victim"), a_row("winner", queue="product"), a_row("no", state=State.REFUSED, explanation=refused)]
    left: dict[str, Any] = {"stop_at": minute(10), "outcome": Outcome.PREEMPTED, "beneficiary": "winner.1"}
    attempts = [an_attempt("victim", 0, 11, gpus=24, **left), an_attempt("winner", 12, 60)]
    ledger = intervals("victim", SlaTier.STANDARD, (IntervalKind.RUNNING, 0, 11), gpus=24)
    return report(a_run(rows, attempts, ledger, problems=problems))


def test_the_page_loads_nothing_from_elsewhere() -> None:
    html = page(a_report())
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)\s*=", html)
    assert not re.search(r"@import|url\(\s*['\"]?https?:", html)
    assert html.count("<script") == html.count("</script>") == 3


def test_what_workloads_say_stays_text() -> None:
    assert HOSTILE not in page(a_report())
    assert "&lt;/script&gt;" in page(a_report())


def test_every_chart_has_a_place_and_a_figure() -> None:
    shown, html = charts(a_report()), page(a_report())
    found = re.search(r'id="figures">(.*?)</script>', html)
    assert found is not None
    figures = json.loads(found[1])
    assert [chart.id for chart in shown] == list(figures)
    assert all(f'<div id="{chart.id}"' in html and chart.data for chart in shown)
    assert {"promises", "waits", "use", "queues-h100", "line", "time-line"} == set(figures)


def test_an_empty_run_has_a_page_without_empty_charts() -> None:
    empty = report(a_run())
    assert [chart.id for chart in charts(empty)] == ["use", "line"]
    assert "Preemptions" not in page(empty)


def test_work_that_went_on_elsewhere_is_told_on_the_page_and_the_terminal() -> None:
    left: dict[str, Any] = {"stop_at": minute(10), "outcome": Outcome.MIGRATED}
    attempts = [an_attempt("mover", 0, 11, **left), an_attempt("mover", 10, 60, epoch=2, region="us", cluster="us-1")]
    told, shown = report(a_run([a_row("mover", epoch=2)], attempts)), io.StringIO()
    print_report(told, Path("var/demo"), Console(file=shown, width=200))
    for text in (page(told), shown.getvalue()):
        assert "Moves and resizes" in text
        assert "8 h100 in us/us-1 (sim)" in text


def test_the_verdict_is_said_at_the_top() -> None:
    assert "All is well" in page(a_report())
    assert "1 problem found by 20 checks" in page(a_report("victim is failed"))
    assert "victim is failed" in page(a_report("victim is failed"))


def test_a_promise_that_was_not_kept_is_said_beside_the_verdict() -> None:
    tier = SlaTier.PREMIUM
    ledger = intervals("late", tier, (IntervalKind.WAITING, 0, 4.8), (IntervalKind.RUNNING, 4.8, 60))
    short, shown = report(a_run([a_row("late", tier=tier)], [an_attempt("late", 4.8, 60)], ledger)), io.StringIO()
    print_report(short, Path("var/demo"), Console(file=shown, width=160))
    for text in (page(short), shown.getvalue()):
        assert "All is well" not in text
        assert "Nothing is wrong, but not every promise was kept" in text
        assert "premium got 0.92 of its entitled time, of the 0.95 that it is promised" in text


def test_a_promise_that_was_missed_by_little_is_not_rounded_to_one_that_was_kept() -> None:
    ledger = intervals("late", SlaTier.PREMIUM, (IntervalKind.WAITING, 0, 3.06), (IntervalKind.RUNNING, 3.06, 60))
    late = report(a_run([a_row("late", tier=SlaTier.PREMIUM)], [an_attempt("late", 3.06, 60)], ledger))
    assert late.shortfalls == ("premium got 0.949 of its entitled time, of the 0.95 that it is promised",)


def test_the_terminal_says_it_too() -> None:
    told = io.StringIO()
    print_report(a_report("victim is failed"), Path("var/demo"), Console(file=told, width=160))
    text = told.getvalue()
    assert "reclaim: product from research" in text
    assert "victim is failed" in text


def test_on_a_narrow_terminal_names_stay_whole_and_what_has_no_room_is_named() -> None:
    long, told = "flagship-train-07", io.StringIO()
    left: dict[str, Any] = {"stop_at": minute(10), "outcome": Outcome.PREEMPTED, "beneficiary": f"{long}.1"}
    attempts = [an_attempt("victim", 0, 11, gpus=24, **left), an_attempt(long, 12, 60)]
    ran = report(a_run([a_row("victim"), a_row(long, queue="product")], attempts))
    print_report(ran, Path("var/demo"), Console(file=told, width=80))
    text = " ".join(told.getvalue().split())
    assert long in text
    assert "No room for freed, notice to gone (s), to bound (s): widen the terminal, or see the page." in text
