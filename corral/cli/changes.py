"""The commands that change a workload, or tell it something."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from corral.api import Acknowledgement, Cancel, Demand, ExtendRuntime, Hold, Reprioritize, Resize, Retarget
from corral.cli import tables
from corral.cli.documents import read_documents
from corral.cli.operations import seconds_of
from corral.cli.options import Output, Reason, WorkloadId
from corral.cli.problems import InvalidInput, checked, checked_id
from corral.cli.render import Form, View, show
from corral.cli.session import Ask, Session
from corral.client import Corral

NoAnswer = Annotated[bool, typer.Option("--no-answer", help="Tell it and do not wait for what it says.")]


def cancel(context: typer.Context, workload: WorkloadId, reason: Reason = "", output: Output = None) -> None:
    """End a workload, whatever it is doing."""
    name, why = checked_id(workload), checked(Cancel, reason=reason).reason
    _change(context, output, lambda corral: corral.cancel(name, why))


def hold(context: typer.Context, workload: WorkloadId, reason: Reason = "", output: Output = None) -> None:
    """Take a workload out of the line until it is released.

    If it runs, it is stopped, with notice.
    """
    name, why = checked_id(workload), checked(Hold, reason=reason).reason
    _change(context, output, lambda corral: corral.hold(name, why))


def release(context: typer.Context, workload: WorkloadId, output: Output = None) -> None:
    """Put a held workload back in line."""
    name = checked_id(workload)
    _change(context, output, lambda corral: corral.release(name))


def checkpointed(context: typer.Context, workload: WorkloadId, no_answer: NoAnswer = False, output: Output = None) -> None:
    """Say that a workload's work is saved.

    One that has notice to leave is stopped at once.
    """
    name = checked_id(workload)
    if no_answer:
        _tell(context, output, lambda corral: corral.tell_checkpointed(name))
        return
    _change(context, output, lambda corral: corral.checkpointed(name))


def resize(
    context: typer.Context,
    workload: WorkloadId,
    count: Annotated[int, typer.Option(help="Replicas of the group.", show_default=False)],
    minimum: Annotated[int | None, typer.Option(help="The fewest with which it may start.")] = None,
    group: Annotated[str | None, typer.Option(help="The replica group, if there are several.")] = None,
    output: Output = None,
) -> None:
    """Change how many replicas a workload has.

    Of one that has not been started, or of an endpoint also as it runs.
    """
    name, change = checked_id(workload), checked(Resize, count=count, minimum=minimum, group=group)
    _change(context, output, lambda corral: corral.resize(name, change))


def demand(
    context: typer.Context,
    workload: WorkloadId,
    value: Annotated[float, typer.Argument(metavar="VALUE", help="In the unit of the spec's autoscale.target.")],
    requests: Annotated[int, typer.Option(help="Requests that have ended since demand was told last.")] = 0,
    bad: Annotated[int, typer.Option(help="Those of them that were not served well.")] = 0,
    no_answer: NoAnswer = False,
    output: Output = None,
) -> None:
    """Tell an endpoint its demand.

    From that follows how many replicas it wants.
    """
    name, told = checked_id(workload), checked(Demand, value=value, requests=requests, bad=bad)
    if no_answer:
        _tell(context, output, lambda corral: corral.tell_demand(name, told))
        return
    _change(context, output, lambda corral: corral.demand(name, told))


def reprioritize(
    context: typer.Context,
    workload: WorkloadId,
    priority: Annotated[int, typer.Argument(metavar="PRIORITY", help="-1000 to 1000; higher goes first.")],
    output: Output = None,
) -> None:
    """Change a workload's order inside its tier and queue."""
    name, order = checked_id(workload), checked(Reprioritize, priority=priority).priority
    _change(context, output, lambda corral: corral.reprioritize(name, order))


def _change(context: typer.Context, output: Form | None, ask: Ask[Acknowledgement]) -> None:
    Session.of(context, output).ask(ask, View(tables.acknowledgement))


def retarget(
    context: typer.Context,
    workload: WorkloadId,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A YAML file with `targets`; `-` is the standard input.", show_default=False)
    ],
    move: Annotated[bool, typer.Option("--move", help="Where it runs elsewhere: stop it, with notice, to go there.")] = False,
    output: Output = None,
) -> None:
    """Change which targets a workload accepts.

    None accepts anything. What has capacity that one of them accepts keeps it. What runs elsewhere is refused without --move.
    """
    name = checked_id(workload)
    change = read_retarget(file)
    change = change.model_copy(update={"move": move or change.move})
    _change(context, output, lambda corral: corral.retarget(name, change))


def read_retarget(file: str) -> Retarget:
    """Read the targets in a YAML file.

    Raises:
        InvalidInput: it is not one valid document.
    """
    try:
        documents = read_documents([file], Retarget)
        if len(documents) > 1:
            raise InvalidInput([f"{documents[1].position}: a second document; a workload has one list of targets"])
    except InvalidInput as error:
        raise InvalidInput(error.lines, "nothing was changed") from error
    return documents[0].content


def extend(
    context: typer.Context,
    workload: WorkloadId,
    longer: Annotated[str, typer.Argument(metavar="TIME", help="By how much, such as 90m, 4h or 2d.", show_default=False)],
    output: Output = None,
) -> None:
    """Let a workload with a maximum runtime run longer.

    The time is over all of its attempts.
    """
    name, change = checked_id(workload), checked(ExtendRuntime, seconds=seconds_of("time", longer))
    _change(context, output, lambda corral: corral.extend(name, change.seconds))


def wake(context: typer.Context, workload: WorkloadId, output: Output = None) -> None:
    """Let a workload's workflow look at the record at once.

    It does so now and then by itself.
    """
    name = checked_id(workload)
    _tell(context, output, lambda corral: corral.wake(name))


def history(context: typer.Context, workload: WorkloadId, output: Output = None) -> None:
    """List the last changes of a workload's state.

    As its own workflow knows them, even while PostgreSQL is away; `corral events` has all there is.
    """
    name = checked_id(workload)
    Session.of(context, output).ask(lambda corral: corral.history(name), View(tables.moments))


def next_wake_up(context: typer.Context, workload: WorkloadId, output: Output = None) -> None:
    """Tell what a workload's workflow does next, and when."""
    name = checked_id(workload)
    Session.of(context, output).ask(lambda corral: corral.next_wake_up(name), View(tables.wake_up))


def _tell(context: typer.Context, output: Form | None, tell: Callable[[Corral], Coroutine[Any, Any, None]]) -> None:
    session = Session.of(context, output)
    session.run(tell)
    show({"told": "yes"}, session.form, View(tables.facts))
