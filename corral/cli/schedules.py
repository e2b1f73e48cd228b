"""The commands about schedules: operations that are ordered again and again."""

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from corral.api import EvacuationOrder
from corral.cli import tables
from corral.cli.documents import Document, placed, read_documents
from corral.cli.operations import Who, Why, evacuated_if_meant, seconds_of
from corral.cli.options import Output
from corral.cli.problems import InvalidInput, checked, checked_id
from corral.cli.render import View
from corral.cli.session import Session
from corral.client import Corral, Invalid, Submission
from corral.schedule import Revocation, ScheduleSpec, ScheduleStatus

schedule = typer.Typer(help="Order operations again and again.", no_args_is_help=True, rich_markup_mode=None)


@schedule.command()
def create(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A YAML file; `-` is the standard input.")],
    lasts: Annotated[
        str,
        typer.Option("--for", metavar="TIME", help="How long it is ordered, such as 30d; needed where commands are signed."),
    ] = "",
    output: Output = None,
) -> None:
    """Order what a YAML file says, at each of its times.

    Temporal does, unless the last one is still under way.

    Where commands are signed, whoever creates it signs for all of its times until it ends.
    """
    ends = {"until": from_now(lasts)} if lasts else {}
    first, *others = read_documents([file], ScheduleSpec)
    if others:
        raise InvalidInput([f"{others[0].position}: a second document; a schedule is one document"], "nothing was changed")
    spec = first.content.model_copy(update=ends)
    Session.of(context, output).ask(lambda corral: _schedule(corral, spec, first), View(tables.schedules))


async def _schedule(corral: Corral, spec: ScheduleSpec, document: Document[ScheduleSpec]) -> list[ScheduleStatus]:
    with placed(document):
        return await corral.schedule(spec)


def from_now(time: str) -> datetime:
    """So long from now by the clock of the wall, to the second.

    Raises:
        InvalidInput: it is no length of time, or beyond all calendars.
    """
    try:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds_of("for", time))
    except OverflowError as error:
        raise InvalidInput([f'for: "{time}" is longer than any calendar; expected such as 30d']) from error


@schedule.command("list")
def list_schedules(context: typer.Context, output: Output = None) -> None:
    """List the schedules of the pool."""
    Session.of(context, output).ask(lambda corral: corral.schedules(), View(tables.schedules))


@schedule.command()
def trigger(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="Why; that of the schedule, if nothing is said.")] = "",
    who: Who = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it, whoever has to move or is worse off.")] = False,
    output: Output = None,
) -> None:
    """Order now what a schedule orders.

    Whether or not the last one is under way.

    Where commands are signed, you sign this one yourself: what was signed for the schedule is for its own times.
    """
    id, by = checked_id(name), who or getpass.getuser()
    session = Session.of(context, output)
    session.ask(lambda corral: _triggered(corral, id, by, reason, is_meant=yes), View(tables.submissions))


async def _triggered(corral: Corral, id: str, who: str, reason: str, *, is_meant: bool) -> Sequence[Submission]:
    order = await corral.order_now(id, who=who, reason=reason)
    if isinstance(order, EvacuationOrder):
        return await evacuated_if_meant(corral, order, is_meant=is_meant)
    if not is_meant and (found := await corral.what_if(order.change)).hurt:
        raise Invalid(f"{found.in_words}; nothing was changed: see who with `what-if`, or say --yes")
    return [await corral.roll_out(order)]


@schedule.command()
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="ID", help="The schedule's id.", show_default=False)],
    output: Output = None,
) -> None:
    """Order it no more, and revoke what was signed for it.

    What it has ordered goes on.
    """
    id = checked_id(name)
    Session.of(context, output).ask(lambda corral: corral.unschedule(id), View(tables.schedules))


@schedule.command()
def mandates(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    output: Output = None,
) -> None:
    """List what was signed for schedules, the newest first.

    By whom, until when, and what was revoked.
    """
    Session.of(context, output).ask(lambda corral: corral.mandates(limit), View(tables.mandates))


@schedule.command()
def revoke(
    context: typer.Context,
    mandate: Annotated[str, typer.Argument(metavar="MANDATE", help="The mandate's id.", show_default=False)],
    reason: Why,
    who: Who = "",
    output: Output = None,
) -> None:
    """Take back a mandate.

    Nothing is ordered by it from now on; what it has ordered goes on.
    """
    order = checked(Revocation, mandate=checked_id(mandate), who=who or getpass.getuser(), reason=reason)
    Session.of(context, output).ask(lambda corral: corral.revoke(order), View(tables.mandates))
