"""The commands about reservations."""

from collections.abc import Sequence
from typing import Annotated

import typer

from corral.cli import tables
from corral.cli.documents import read_documents
from corral.cli.options import Interval, Output, Watch
from corral.cli.problems import InvalidInput
from corral.cli.render import View
from corral.cli.session import Session, Watching
from corral.client import Corral
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
    specs = read_reservations(files)
    session.ask(lambda corral: _reserve(corral, specs), View(tables.reservations))


def read_reservations(files: Sequence[str]) -> list[ReservationSpec]:
    """Read the reservations in YAML files.

    Raises:
        InvalidInput: a document is not valid.
    """
    try:
        return [document.content for document in read_documents(files, ReservationSpec)]
    except InvalidInput as error:
        raise InvalidInput(error.lines, "nothing was reserved") from error


async def _reserve(corral: Corral, specs: Sequence[ReservationSpec]) -> list[ReservationStatus]:
    for spec in specs:
        await corral.reserve(spec)
    return [await corral.reservation(spec.id) for spec in specs]


@reservation.command("list")
def list_reservations(context: typer.Context, watch: Watch = False, interval: Interval = 2, output: Output = None) -> None:
    """List the reservations.

    Their windows, what is kept for them, and what is missing.
    """
    view = View(tables.reservations)
    Session.of(context, output).follow(lambda corral: corral.reservations(), view, Watching(watch, interval))


@reservation.command("show")
def show(context: typer.Context, name: Name, watch: Watch = False, interval: Interval = 2, output: Output = None) -> None:
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
