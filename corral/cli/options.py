"""The options that several commands share."""

from typing import Annotated

import typer

from corral.cli.render import Form

WorkloadId = Annotated[str, typer.Argument(metavar="ID", help="The workload's id.", show_default=False)]
Output = Annotated[Form | None, typer.Option("--output", "-o", help="How to write the answer: table, if nothing is said.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Ask again and again, and show what has changed.")]
Interval = Annotated[float, typer.Option("--interval", min=0.05, max=3600, help="Seconds between questions with --watch.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the workload's history.")]
