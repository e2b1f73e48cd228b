"""The commands about operations: emptying a node, a cluster or a region; what was ordered, and how it is steered."""

import getpass
import re
import uuid
from collections.abc import Sequence
from typing import Annotated

import typer

from corral.api import EvacuationForecast, EvacuationOrder, OperationChange, PlaceKind
from corral.cli import tables
from corral.cli.options import Interval, Output, Watch
from corral.cli.problems import InvalidInput, checked, checked_id
from corral.cli.render import Form, View
from corral.cli.session import Session, Watching
from corral.client import Corral, Invalid, Submission
from corral.wire import Steering

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

Why = Annotated[str, typer.Option("--reason", help="Why; kept with the operation.", show_default=False)]
Who = Annotated[str, typer.Option("--by", help="By whom; kept with the operation. You, if nothing is said.")]
Operation = Annotated[str, typer.Argument(metavar="ID", help="The operation's id.", show_default=False)]

operations = typer.Typer(help="See and steer operations.", invoke_without_command=True, rich_markup_mode=None)


def evacuate(
    context: typer.Context,
    kind: Annotated[PlaceKind, typer.Argument(metavar="node|cluster|region", help="What to empty.", show_default=False)],
    place: Annotated[
        str,
        typer.Argument(metavar="NAME", help="PROVIDER/NODE, PROVIDER/REGION/CLUSTER or PROVIDER/REGION.", show_default=False),
    ],
    reason: Why,
    who: Who = "",
    id: Annotated[
        str, typer.Option("--id", help="Its id: the same again is the same operation. Made up, if nothing is said.")
    ] = "",
    deadline: Annotated[str, typer.Option(help="How long it may take, such as 90m, 4h or 2d.")] = "4h",
    at_once: Annotated[int, typer.Option(help="How many workloads may be on their way out at a time, 1 to 1000.")] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show who would move, and where to.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it, however many workloads have to move.")] = False,
    output: Output = None,
) -> None:
    """Empty a node, a cluster or a region.

    Nothing new goes there, and what is there moves elsewhere, with notice.

    The lowest tiers go first. Where anybody has to move, it must be said with --yes.
    """
    order = checked(
        EvacuationOrder,
        id=id or f"evacuation-{uuid.uuid4().hex[:8]}",
        kind=kind,
        place=place,
        reason=reason,
        who=who or getpass.getuser(),
        deadline_seconds=seconds_of("deadline", deadline),
        at_once=at_once,
    )
    session = Session.of(context, output)
    if dry_run:
        session.ask(lambda corral: corral.foresee_evacuation(order), View(tables.forecast))
    else:
        session.ask(lambda corral: evacuated_if_meant(corral, order, is_meant=yes), View(tables.submissions))


async def evacuated_if_meant(corral: Corral, order: EvacuationOrder, *, is_meant: bool) -> Sequence[Submission]:
    """Begin an evacuation, unless somebody has to move and that was not said to be meant.

    Raises:
        Invalid: it was not.
    """
    forecast = await corral.foresee_evacuation(order)
    if forecast.moves and not is_meant:
        raise Invalid(warning(order, forecast))
    return [await corral.evacuate(order)]


def warning(order: EvacuationOrder, forecast: EvacuationForecast) -> str:
    """What a person must know before work is told to leave."""
    stay = sum(not move.to for move in forecast.moves)
    return (
        f"{len(forecast.moves)} workloads on {forecast.nodes} nodes would have to leave {order.kind} {order.place}, of which "
        f"{stay} have no place to go now; nothing was changed: see them with --dry-run, or say --yes"
    )


def seconds_of(option: str, text: str) -> int:
    """A length of time as a person writes it: a whole number with s, m, h or d.

    Raises:
        InvalidInput: it is none.
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if found is None:
        raise InvalidInput(
            [f'{option}: "{text}" is not a length of time; expected a whole number with s, m, h or d, such as 4h']
        )
    return int(found[1]) * SECONDS[found[2]]


@operations.callback()
def show_operations(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    watch: Watch = False,
    interval: Interval = 2,
    output: Output = None,
) -> None:
    """List operations, those under way first."""
    if context.invoked_subcommand is None:
        session = Session.of(context, output)
        session.follow(lambda corral: corral.operations(limit), View(tables.operations), Watching(watch, interval))


@operations.command()
def show(
    context: typer.Context, operation: Operation, watch: Watch = False, interval: Interval = 2, output: Output = None
) -> None:
    """Show one operation with its trail: who did what, when and why.

    With --watch, until it is over.
    """
    id, session = checked_id(operation), Session.of(context, output)
    view = View(tables.operation)
    session.follow(
        lambda corral: corral.operation(id), view, Watching(watch, interval), lambda shown: shown.ended_at is not None
    )


@operations.command()
def approve(context: typer.Context, operation: Operation, reason: Why, who: Who = "", output: Output = None) -> None:
    """Let an operation begin that awaits approval."""
    _steer(context, output, operation, Steering.APPROVE, reason, who)


@operations.command()
def reject(context: typer.Context, operation: Operation, reason: Why, who: Who = "", output: Output = None) -> None:
    """End an operation that awaits approval; nothing was changed by it."""
    _steer(context, output, operation, Steering.REJECT, reason, who)


@operations.command()
def pause(context: typer.Context, operation: Operation, reason: Why, who: Who = "", output: Output = None) -> None:
    """Let an evacuation tell nobody else to leave.

    Nothing new goes to its place all the same.
    """
    _steer(context, output, operation, Steering.PAUSE, reason, who)


@operations.command()
def resume(context: typer.Context, operation: Operation, reason: Why, who: Who = "", output: Output = None) -> None:
    """Let a paused evacuation go on."""
    _steer(context, output, operation, Steering.RESUME, reason, who)


@operations.command()
def abort(context: typer.Context, operation: Operation, reason: Why, who: Who = "", output: Output = None) -> None:
    """End an operation, and undo what it has changed.

    An evacuated place accepts work again, and after a roll-out what was before is in force.

    Who was told to leave already leaves, and is placed anew; nodes that somebody ordered anything else for since stay as they
    are, and so does a policy or queue that somebody has changed since.
    """
    _steer(context, output, operation, Steering.ABORT, reason, who)


def _steer(context: typer.Context, output: Form | None, operation: str, verb: Steering, reason: str, who: str) -> None:
    id, change = checked_id(operation), checked(OperationChange, who=who or getpass.getuser(), reason=reason)
    Session.of(context, output).ask(lambda corral: corral.steer_operation(id, verb, change), View(tables.operation))
