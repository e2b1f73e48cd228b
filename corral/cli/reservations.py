"""The commands about reservations."""

from collections.abc import Sequence
from typing import Annotated

import typer

from corral.cli import tables
from corral.cli.documents import Document, placed, read_named
from corral.cli.options import Interval, Output, Watch
from corral.cli.render import View, show
from corral.cli.session import Session, Watching
from corral.client import Corral, CorralError
from corral.reservation import ReservationSpec, ReservationStatus

Name = Annotated[str, typer.Argument(metavar="RESERVATION", help="The reservation.", show_default=False)]

reservation = typer.Typer(help="See and change reservations.", no_args_is_help=True, rich_markup_mode=None)


def reserve(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="YAML files; `-` is the standard input.")],
    output: Output = None,
) -> None:
    """Reserve capacity, or nodes for maintenance, for a time.

    What exactly, YAML files say. Reserving again with the same id and the same words is safe: it is the same reservation.
    """
    session = Session.of(context, output)
    specs = read_named(files, ReservationSpec, lambda spec: spec.id, "reservation", "nothing was reserved")
    reserved, refusal = session.run(lambda corral: _reserve(corral, specs))
    if reserved or not refusal:
        show(reserved, session.form, View(tables.reservations))
    if refusal:
        raise refusal


async def _reserve(
    corral: Corral, specs: Sequence[Document[ReservationSpec]]
) -> tuple[list[ReservationStatus], CorralError | None]:
    """Make the reservations one after the other, until one is refused."""
    reserved: list[ReservationStatus] = []
    for spec in specs:
        try:
            with placed(spec):
                await corral.reserve(spec.content)
            reserved.append(await corral.reservation(spec.content.id))
        except CorralError as error:
            return reserved, error
    return reserved, None


@reservation.command("list")
def list_reservations(context: typer.Context, watch: Watch = False, interval: Interval = 2, output: Output = None) -> None:
    """List the reservations.

    Their windows, what is kept for them, and what is missing.
    """
    view = View(tables.reservations)
    Session.of(context, output).follow(lambda corral: corral.reservations(), view, Watching(watch, interval))


@reservation.command("show")
def show_reservation(
    context: typer.Context, name: Name, watch: Watch = False, interval: Interval = 2, output: Output = None
) -> None:
    """Show one reservation.

    Its window, the nodes that are kept for it, and the windows that it missed.
    """
    view = View(tables.reservation)
    Session.of(context, output).follow(lambda corral: corral.reservation(name), view, Watching(watch, interval))


@reservation.command("extend")
def extend(
    context: typer.Context,
    name: Name,
    seconds: Annotated[int, typer.Option("--seconds", min=1, help="By how much.", show_default=False)],
    output: Output = None,
) -> None:
    """Let the present or next window end later."""
    Session.of(context, output).ask(lambda corral: corral.extend_reservation(name, seconds), View(tables.reservation_answer))


@reservation.command("cancel")
def cancel(
    context: typer.Context,
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the workflow's history.")] = "",
    output: Output = None,
) -> None:
    """Keep nothing for a reservation any more.

    Work that uses what was kept runs on.
    """
    Session.of(context, output).ask(lambda corral: corral.cancel_reservation(name, reason), View(tables.reservation_answer))
