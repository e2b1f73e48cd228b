"""The report in the terminal: concise tables, the verdict last."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from corral.cli.pages import Column, table
from corral.cli.terminal import OnTerminal
from worker.demo.progress import STYLES
from worker.demo.report import Report

MOST_ROWS = 8
"""Rows of a table that may grow long; the page has them all."""

Row = Sequence[str]


def print_report(report: Report, directory: Path, console: Console) -> None:
    """Write the report to a console; `directory` is where it lies with all details."""
    outcomes = (_preemptions, _reshapes, _explanations, _policies, _mishaps, _refusals)
    for section in (_summary, _tiers, _places, _queues, *outcomes, _processes, _phases, _verdict):
        section(report, console)
    console.print(f"\nCharts and details: {directory / 'report.html'}; as data: {directory / 'report.json'}", soft_wrap=True)


def _summary(report: Report, console: Console) -> None:
    totals, prompt = report.totals, report.totals.prompt_start_p50_seconds
    console.rule(f"[bold]{report.title}", align="left")
    console.print(Text("  ").join(Text(f"{number} {state}", style=STYLES[state]) for state, number in totals.states.items()))
    console.print(
        f"{report.minutes:,.0f} minutes of the pool's time, {report.clock_speed:g} times as fast as the wall's. "
        f"{totals.attempts} attempts, the largest gang {totals.largest_gang:g} accelerators; "
        f"{totals.accelerator_hours:,.0f} accelerator-hours, {totals.lost_accelerator_hours:,.1f} of them lost by forced stops."
    )
    console.print(
        f"{totals.rounds} rounds decided in {totals.round_p50_milliseconds:g} ms (p50), "
        f"{totals.round_p99_milliseconds:g} ms (p99). {totals.prompt_starts} workloads got their place on arrival"
        + ("." if prompt is None else f", and ran {prompt:g} s of the wall later (p50).")
    )
    for note in report.notes:
        console.print(f"[yellow]Note:[/] {note}")


def _tiers(report: Report, console: Console) -> None:
    heads = ("tier", "workloads", "wait p50", "p90", "max (min)", "GPU fraction", "promised", "preempted", "lost (acc·h)")
    rows = [
        (
            tier.tier,
            str(tier.workloads),
            _number(tier.wait_p50_minutes, 1),
            _number(tier.wait_p90_minutes, 1),
            _number(tier.wait_max_minutes, 1),
            _number(tier.achieved_fraction, 3),
            f"{tier.promised_fraction:.2f}" if tier.promised_fraction else "best effort",
            str(tier.preemptions or ""),
            _number(tier.lost_accelerator_hours or None, 1),
        )
        for tier in report.tiers
    ]
    _print("Tiers: waits and promises", heads, rows, console, spare=("preempted",))
    if report.shortfalls:
        console.print(f"  Each second that the servers take counts as {report.clock_speed:g} in these waits.", style="dim")


def _places(report: Report, console: Console) -> None:
    heads = ("SKU", "region", "accelerators", "attempts", "acc·h", "mean use", "peak")
    rows = [
        (
            place.sku,
            place.region,
            f"{place.accelerators:,}",
            str(place.attempts),
            _number(place.accelerator_hours, 1),
            f"{place.mean_used / place.accelerators:.0%}",
            f"{place.peak_used / place.accelerators:.0%}",
        )
        for place in report.places
    ]
    _print("Where it ran", heads, rows, console, texts=2, most=20)


def _queues(report: Report, console: Console) -> None:
    heads = ("queue", "SKU", "owns", "mean use", "peak", "borrowed (acc·h)", "lent (acc·h)")
    rows = [
        (
            queue.queue,
            queue.sku,
            f"{queue.nominal:,}",
            _number(queue.mean_used, 0),
            _number(queue.peak_used, 0),
            _number(queue.borrowed_accelerator_hours or None, 1),
            _number(queue.lent_accelerator_hours or None, 1),
        )
        for queue in report.queues
    ]
    _print("Queues: use against what they own", heads, rows, console, texts=2, most=20)


_SPARE = ("freed", "notice to gone (s)", "to bound (s)")


def _preemptions(report: Report, console: Console) -> None:
    heads = ("who left", "for whom", "why", "freed", "at (min)", "notice to gone (s)", "to bound (s)", "lost (acc·h)")
    rows = [
        (
            f"{each.victim} ({each.victim_tier})",
            f"{each.beneficiary} ({each.beneficiary_tier})",
            f"{each.cause}: {each.beneficiary_queue} from {each.victim_queue}" if each.cause == "reclaim" else each.cause,
            f"{each.accelerators:g} {each.sku}",
            _number(each.at_minutes, 0),
            _number(each.notice_to_gone_seconds, 0),
            _number(each.gone_to_bound_seconds, 0),
            _number(each.lost_accelerator_hours, 2),
        )
        for each in sorted(report.preemptions, key=lambda each: (-each.lost_accelerator_hours, each.at_minutes))
    ]
    _print(f"Preemptions: {len(rows)}, the costliest first", heads, rows, console, texts=4, spare=_SPARE)


def _reshapes(report: Report, console: Console) -> None:
    heads = ("workload", "what", "from", "to", "at (min)", "notice to gone (s)", "to bound (s)", "lost (acc·h)")
    rows = [
        (
            f"{each.workload} ({each.tier})",
            each.outcome,
            each.before,
            each.after,
            _number(each.at_minutes, 0),
            _number(each.notice_to_gone_seconds, 0),
            _number(each.gone_to_bound_seconds, 0),
            _number(each.lost_accelerator_hours, 2),
        )
        for each in report.reshapes
    ]
    _print(f"Moves and resizes: {len(rows)}", heads, rows, console, texts=4, spare=_SPARE)


def _explanations(report: Report, console: Console) -> None:
    heads = ("workload", "why it waited", "what would have started it", "at (min)")
    rows = [
        (each.workload, f"{each.reason}: {each.message}", "; ".join(each.fixes), _number(each.at_minutes, 0))
        for each in report.explanations
    ]
    _print(f"Asked why: {len(rows)} that waited", heads, rows, console, texts=3)


def _policies(report: Report, console: Console) -> None:
    heads = ("policy", "who", "why", "version", "at (min)")
    rows = [
        (f"{each.name} ({each.digest[:12]})", each.who, each.why, str(each.version), _number(each.at_minutes, 0))
        for each in report.policies
    ]
    _print("Policies in force, one after the other", heads, rows, console, texts=3)


def _mishaps(report: Report, console: Console) -> None:
    heads = ("workload", "outcome", "reason", "workload in the end", "attempt", "at (min)")
    rows = [
        (
            each.workload,
            each.outcome,
            each.reason,
            each.afterwards,
            f"{each.attempt} of {each.attempts}",
            _number(each.at_minutes, 0),
        )
        for each in report.mishaps
    ]
    _print(f"Failures, losses and drains: {len(rows)}", heads, rows, console, texts=4, most=20, spare=("attempt",))


def _refusals(report: Report, console: Console) -> None:
    rows = [(each.workload, each.reason, each.message) for each in report.refusals]
    _print(f"Refused at once: {len(rows)} that can never run", ("workload", "reason", "explanation"), rows, console, texts=3)


def _processes(report: Report, console: Console) -> None:
    heads = ("workload", "state", "what it wrote", "exit code", "attempts")
    rows = [
        (each.workload, each.state, "; ".join(each.output), _number(each.exit_code, 0), str(each.attempts))
        for each in report.processes
    ]
    _print(f"Real processes on this machine: {len(rows)}", heads, rows, console, texts=3, most=20)


def _phases(report: Report, console: Console) -> None:
    total = sum(phase.seconds for phase in report.phases)
    parts = ", ".join(f"{phase.name} {phase.seconds:.1f}" for phase in report.phases)
    console.print(f"\n[bold]{total:.0f} seconds on the wall[/]: {parts}")


def _verdict(report: Report, console: Console) -> None:
    verdict = report.verdict
    if verdict.is_good:
        kept = "[bold green]All is well:[/]"
        short = "[bold yellow]Nothing is wrong, but not every promise was kept:[/]"
        console.print(f"\n{short if report.shortfalls else kept} {verdict.checks} checks found nothing.")
    else:
        console.print(f"\n[bold red]{verdict.in_words}:[/]")
        _items(verdict.problems, console)
        if report.shortfalls:
            console.print("[bold yellow]Not every promise was kept:[/]")
    _items(report.shortfalls, console)


def _items(sentences: Sequence[str], console: Console) -> None:
    for sentence in sentences:
        console.print(Text(f"  - {sentence}"))


def _print(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Row],
    console: Console,
    *,
    texts: int = 1,
    most: int = MOST_ROWS,
    spare: Sequence[str] = (),
) -> None:
    """Write a table of which the first columns are text and the others numbers; nothing without rows.

    Where the terminal is narrow, text goes on in the next line, all else stays whole, and `spare` columns are left out.
    """
    if not rows:
        return
    shown = rows[:most]
    columns = [
        Column(head, at >= texts, is_text=0 < at < texts and any(" " in row[at] for row in shown), is_spare=head in spare)
        for at, head in enumerate(heads)
    ]
    console.print(f"\n[bold]{title}[/]")
    console.print(Padding(OnTerminal((table(columns, shown),), elsewhere="see the page"), (0, 0, 0, 2)))
    if len(rows) > most:
        console.print(f"  ... and {len(rows) - most} more", style="dim")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
