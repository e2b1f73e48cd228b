"""The commands about schedules: operations that are ordered again and again."""

from typing import Annotated

import typer

from corral.cli import tables
from corral.cli.documents import read_documents
from corral.cli.options import Output
from corral.cli.problems import InvalidInput, checked_id
from corral.cli.render import View
from corral.cli.session import Session
from corral.schedule import ScheduleSpec

schedule = typer.Typer(help="Order operations again and again.", no_args_is_help=True, rich_markup_mode=None)


@schedule.command()
def create(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A YAML file; `-` is the standard input.")],
    output: Output = None,
) -> None:
    """Let Temporal order what a YAML file says at each of its times, unless the last one is still under way."""
    first, *others = read_documents([file], ScheduleSpec)
    if others:
        raise InvalidInput([f"{others[0].position}: a second document; a schedule is one document"], "nothing was changed")
    Session.of(context, output).ask(lambda corral: corral.schedule(first.content), View(tables.schedules))


@schedule.command("list")
def list_schedules(context: typer.Context, output: Output = None) -> None:
    """List the schedules of the pool."""
    Session.of(context, output).ask(lambda corral: corral.schedules(), View(tables.schedules))


@schedule.command()
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.", show_default=False)],
    output: Output = None,
) -> None:
    """Order it no more; what it has ordered goes on."""
    id = checked_id(name)
    Session.of(context, output).ask(lambda corral: corral.unschedule(id), View(tables.schedules))
