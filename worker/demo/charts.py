"""Charts: from a report to figures as plotly takes them. The page's template adds the colours of text and grid."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from corral.api import Outcome, SlaTier
from worker.demo.report import QueueReport, Report, Span

TIER_COLOURS = {SlaTier.PREMIUM: "#e8890c", SlaTier.STANDARD: "#3b82f6", SlaTier.BASIC: "#7c8aa0"}
COLOURS = ("#3b82f6", "#e8890c", "#14a38b", "#a855f7", "#e2556f", "#84a314", "#0ea5c6", "#b4722b", "#64748b")
BLUES = ((0, "rgba(59,130,246,0.05)"), (0.5, "rgba(59,130,246,0.45)"), (1, "rgba(37,99,235,1)"))

ROW_PIXELS = 26
MOST_QUEUE_CHARTS = 2
SHORTEST_WAIT_MINUTES = 0.05
"""Where the logarithmic axis begins."""

LEGEND = {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
MINUTES_AXIS = {"title": {"text": "minutes of the pool's time since the start", "font": {"size": 12}, "standoff": 8}}


@dataclass(frozen=True, slots=True)
class Chart:
    """One figure with its words; `height` is in pixels."""

    id: str
    title: str
    caption: str
    height: int
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    is_wide: bool = True

    @property
    def figure(self) -> dict[str, Any]:
        """What plotly draws."""
        return {"data": self.data, "layout": {**self.layout, "height": self.height}}


def charts(report: Report) -> list[Chart]:
    """The charts for which there is something to show, in their order on the page."""
    over_time = [_line(report), _gaps(report), _time_line(report)]
    candidates = [_promises(report), _waits(report), _use(report), *_queues(report), *over_time]
    return [chart for chart in candidates if chart.data]


def _promises(report: Report) -> Chart:
    tiers = [tier for tier in report.tiers if tier.achieved_fraction is not None]
    promised = [tier for tier in tiers if tier.promised_fraction]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [tier.tier for tier in tiers],
        "x": [tier.achieved_fraction for tier in tiers],
        "text": [f"{tier.achieved_fraction:.2f}" for tier in tiers],
        "textposition": "inside",
        "insidetextanchor": "start",
        "marker": {"color": [TIER_COLOURS[tier.tier] for tier in tiers]},
        "width": 0.55,
        "name": "achieved",
        "hovertemplate": "%{y}: %{x:.3f}<extra>achieved</extra>",
    }
    marks = {
        "type": "scatter",
        "mode": "markers",
        "y": [tier.tier for tier in promised],
        "x": [tier.promised_fraction for tier in promised],
        "marker": {"symbol": "line-ns-open", "size": 34, "line": {"width": 3}, "color": "#dc2f4c"},
        "name": "promised",
        "hovertemplate": "%{y}: %{x:.2f}<extra>promised</extra>",
    }
    return Chart(
        id="promises",
        title="GPU fraction by tier",
        caption=(
            "Useful accelerator time over entitled accelerator time: queueing, preemption, restarts and lost work lower it. "
            f"Time runs {report.clock_speed:g} times as fast here, so that each second the servers need counts as "
            f"{report.clock_speed:g}."
        ),
        height=270,
        data=[bars, marks] if tiers else [],
        layout={"xaxis": {"range": [0, 1.02]}, "yaxis": {"autorange": "reversed"}, "legend": LEGEND},
        is_wide=False,
    )


def _waits(report: Report) -> Chart:
    """How much of a tier had started after how long: a curve that rises early is good."""
    curves = [
        {
            "type": "scatter",
            "mode": "lines",
            "line": {"shape": "hv", "width": 2.5, "color": TIER_COLOURS[tier.tier]},
            "x": [max(wait, SHORTEST_WAIT_MINUTES) for wait in tier.waits_minutes],
            "y": [100 * (number + 1) / len(tier.waits_minutes) for number in range(len(tier.waits_minutes))],
            "name": tier.tier,
            "hovertemplate": "%{y:.0f} % within %{x:.1f} min<extra>%{fullData.name}</extra>",
        }
        for tier in report.tiers
        if tier.waits_minutes
    ]
    return Chart(
        id="waits",
        title="Waits until the first start",
        caption="Share of a tier's workloads that had started after so many minutes of the pool's time.",
        height=270,
        data=curves,
        layout={
            "xaxis": {
                "title": {"text": "minutes", "font": {"size": 12}},
                "type": "log",
                "tickvals": [0.1, 0.3, 1, 3, 10, 30, 100, 300],
            },
            "yaxis": {"ticksuffix": " %", "range": [0, 103]},
            "legend": LEGEND,
        },
        is_wide=False,
    )


def _use(report: Report) -> Chart:
    places = list(reversed(report.places))
    heat = {
        "type": "heatmap",
        "x": report.bins_minutes,
        "y": [f"{place.sku} · {place.region}" for place in places],
        "z": [[100 * used / place.accelerators for used in place.series] for place in places],
        "zmin": 0,
        "zmax": 100,
        "colorscale": BLUES,
        "colorbar": {"ticksuffix": " %", "thickness": 10, "outlinewidth": 0},
        "xgap": 0.5,
        "ygap": 3,
        "hovertemplate": "%{y}<br>%{z:.0f} % in use at %{x:.0f} min<extra></extra>",
    }
    return Chart(
        id="use",
        title="Accelerators in use, by SKU and region",
        caption="Share of the accelerators of each kind and place that were bound to a workload.",
        height=120 + ROW_PIXELS * len(places),
        data=[heat] if places else [],
        layout={"xaxis": MINUTES_AXIS, "yaxis": {"automargin": True, "showgrid": False}},
    )


def _queues(report: Report) -> Iterable[Chart]:
    """Queues side by side on the SKUs of which most was borrowed."""
    borrowed: dict[str, float] = {}
    for queue in report.queues:
        borrowed[queue.sku] = borrowed.get(queue.sku, 0) + queue.borrowed_accelerator_hours
    most = sorted((sku for sku, hours in borrowed.items() if hours), key=lambda sku: -borrowed[sku])
    for sku in most[:MOST_QUEUE_CHARTS]:
        yield _queue_chart(report, sku, [queue for queue in report.queues if queue.sku == sku], borrowed[sku])


def _queue_chart(report: Report, sku: str, queues: Sequence[QueueReport], hours: float) -> Chart:
    end = report.bins_minutes[-1]
    lines: list[Mapping[str, Any]] = []
    for queue, colour in zip(queues, cycle(COLOURS)):
        use = {
            "type": "scatter",
            "mode": "lines",
            "x": report.bins_minutes,
            "y": queue.series,
            "name": queue.queue,
            "line": {"color": colour, "width": 2.5},
            "hovertemplate": "%{y:.0f} in use at %{x:.0f} min<extra>%{fullData.name}</extra>",
        }
        own = {
            "type": "scatter",
            "mode": "lines",
            "x": [0, end],
            "y": [queue.nominal, queue.nominal],
            "name": f"{queue.queue} owns {queue.nominal}",
            "line": {"color": colour, "width": 1.5, "dash": "dot"},
            "hoverinfo": "skip",
        }
        lines += [use, own]
    return Chart(
        id=f"queues-{sku}",
        title=f"{sku}: what queues use, and what they own",
        caption=f"Accelerators. A queue borrows what is above its dotted line: {hours:,.0f} accelerator-hours in all.",
        height=330,
        data=lines,
        layout={
            "xaxis": MINUTES_AXIS,
            "yaxis": {"rangemode": "tozero"},
            "legend": LEGEND,
        },
    )


def _line(report: Report) -> Chart:
    series = (("active", report.line.active, "#14a38b"), ("waiting", report.line.waiting, "#e8890c"))
    return Chart(
        id="line",
        title="Workloads that run and wait",
        caption="Running or starting, and waiting in line; held ones are in neither.",
        height=260,
        data=[
            {
                "type": "scatter",
                "mode": "lines",
                "fill": "tozeroy",
                "x": report.bins_minutes,
                "y": values,
                "name": name,
                "line": {"color": colour, "width": 2},
                "hovertemplate": "%{y:.0f} %{fullData.name} at %{x:.0f} min<extra></extra>",
            }
            for name, values, colour in series
        ],
        layout={"xaxis": MINUTES_AXIS, "yaxis": {"rangemode": "tozero"}, "legend": LEGEND},
    )


def _gaps(report: Report) -> Chart:
    """A point for each round that could have started anything."""
    methods = dict.fromkeys(each.method for each in report.planning.rounds)
    points = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [each.at_minutes for each in report.planning.rounds if each.method == method],
            "y": [100 * each.gap for each in report.planning.rounds if each.method == method],
            "text": [
                f"{each.started_accelerators:g} of at most {each.bound:g} accelerators"
                for each in report.planning.rounds
                if each.method == method
            ],
            "marker": {"size": 6, "opacity": 0.6, "color": colour},
            "name": method,
            "hovertemplate": "%{y:.1f} % at %{x:.1f} min: %{text}<extra>%{fullData.name}</extra>",
        }
        for method, colour in zip(methods, cycle(COLOURS))
    ]
    return Chart(
        id="gaps",
        title="How far each round may be from the best",
        caption=(
            "The part of the accelerators that any plan could have started at most, and that the round did not. The bound "
            "knows no rank and no whole gangs: some of the gap is work that had to wait for its turn."
        ),
        height=260,
        data=points,
        layout={"xaxis": MINUTES_AXIS, "yaxis": {"rangemode": "tozero", "ticksuffix": " %"}, "legend": LEGEND},
    )


def _time_line(report: Report) -> Chart:
    """One bar an attempt, in the order in which the workloads came; a cross where one had to leave for others."""
    rows = {workload: row for row, workload in enumerate(dict.fromkeys(span.workload for span in report.spans))}
    bars = [_bars(tier, [span for span in report.spans if span.tier is tier], rows) for tier in SlaTier]
    left = [span for span in report.spans if span.outcome is Outcome.PREEMPTED]
    crosses = {
        "type": "scatter",
        "mode": "markers",
        "x": [span.end_minutes for span in left],
        "y": [rows[span.workload] for span in left],
        "marker": {"symbol": "x-thin-open", "size": 7, "line": {"width": 2}, "color": "#dc2f4c"},
        "name": "preempted",
        "text": [_words(span) for span in left],
        "hovertemplate": "%{text}<extra>preempted</extra>",
    }
    return Chart(
        id="time-line",
        title="Every attempt of every workload",
        caption="One row a workload, in the order of their first start. A bar is an attempt, from bound to gone.",
        height=160 + 3 * len(rows),
        data=[*(trace for trace in bars if trace["x"]), *([crosses] if left else [])],
        layout={
            "xaxis": MINUTES_AXIS,
            "yaxis": {"range": [len(rows) + 1, -2], "showticklabels": False, "showgrid": False, "zeroline": False},
            "legend": LEGEND,
            "hovermode": "closest",
        },
    )


def _bars(tier: SlaTier, spans: Sequence[Span], rows: Mapping[str, int]) -> dict[str, Any]:
    """All bars of a tier as one line with gaps, which plotly draws faster than many."""
    return {
        "type": "scattergl" if len(spans) > 5_000 else "scatter",
        "mode": "lines",
        "x": [x for span in spans for x in (span.begin_minutes, span.end_minutes, None)],
        "y": [y for span in spans for y in (rows[span.workload], rows[span.workload], None)],
        "text": [text for span in spans for text in (_words(span), _words(span), "")],
        "name": tier,
        "line": {"color": TIER_COLOURS[tier], "width": 2.2},
        "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }


def _words(span: Span) -> str:
    return f"{span.workload}: {span.accelerators:g} {span.place}, {span.begin_minutes:.1f} to {span.end_minutes:.1f} min"
