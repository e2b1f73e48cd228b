"""The page: the report as one HTML file that needs nothing else."""

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from plotly.offline import get_plotlyjs

from worker.demo.charts import charts
from worker.demo.report import Report

TEMPLATE = "report.html.j2"


def write_page(report: Report, file: Path) -> None:
    """Write the page of a report."""
    file.write_text(page(report), encoding="utf-8")


def page(report: Report) -> str:
    """The page of a report: charts, tables and everything that draws them, in one text."""
    shown = charts(report)
    figures = _in_script({chart.id: chart.figure for chart in shown})
    return _template().render(report=report, charts=shown, figures=figures, plotly=get_plotlyjs())


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = _number
    return environment.get_template(TEMPLATE)


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _in_script(value: object) -> str:
    """JSON that no text within it can end the surrounding script."""
    return json.dumps(value).replace("<", "\\u003c")
