"""The commands that try a change of policy or queues on the pool as it is, and roll it out."""

import getpass
import sys
import uuid
from collections.abc import Sequence
from typing import Annotated

import typer

from corral.api import QueueTree
from corral.cli import tables
from corral.cli.documents import Document
from corral.cli.operations import Who, seconds_of
from corral.cli.options import Output
from corral.cli.policies import placed, read_policy
from corral.cli.problems import InvalidInput, checked
from corral.cli.render import View
from corral.cli.session import Session
from corral.cli.tenancy import placed_line, read_tree
from corral.client import Corral, Invalid, Submission
from corral.policy import Policy
from corral.rollout import Change, Conditions, RolloutOrder, WhatIf

Source = Document[Policy] | Document[QueueTree]

PolicyFile = Annotated[
    str, typer.Argument(metavar="FILE", help="A YAML file, or the name of a preset; `-` is the standard input.")
]
QueueFile = Annotated[str, typer.Argument(metavar="FILE", help="A YAML file with `queues`; `-` is the standard input.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept with the operation.", show_default=False)]
Id = Annotated[str, typer.Option("--id", help="Its id: the same again is the same operation. Made up, if nothing is said.")]
Token = Annotated[
    str | None, typer.Option(help="That of a what-if: the change is applied only while the pool is as it was then.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Without a token: do it, whoever is worse off.")]
WatchFor = Annotated[str, typer.Option("--watch-for", help="How long it is watched, such as 90m or 4h; 0s: not at all.")]
WaitingShare = Annotated[float | None, typer.Option(help="At most so much of the workloads may wait, 0 to 1.")]
MostRefused = Annotated[int | None, typer.Option("--refused", help="At most so many may be refused.")]
MostStops = Annotated[int | None, typer.Option("--stops-per-hour", help="At most so many may be stopped or moved for others.")]
MostMissed = Annotated[
    int | None, typer.Option("--promises-missed", help="At most so many more may fall short of their tier's promise.")
]
MostUndecided = Annotated[int, typer.Option("--undecided", help="At most for so many more may deciding fail.")]


def policy_what_if(context: typer.Context, file: PolicyFile, output: Output = None) -> None:
    """Show what a policy would do in the next round.

    To everybody, with a token to roll it out. Nothing is changed.
    """
    _what_if(context, output, read_policy(file))


def queue_what_if(context: typer.Context, file: QueueFile, output: Output = None) -> None:
    """Show what queues would do in the next round.

    To everybody, with a token to roll them out. Nothing is changed.
    """
    _what_if(context, output, read_tree(file))


def _what_if(context: typer.Context, output: Output, source: Source) -> None:
    Session.of(context, output).ask(lambda corral: _asked(corral, source), View(tables.what_if))


def roll_out_policy(
    context: typer.Context,
    file: PolicyFile,
    reason: Why,
    who: Who = "",
    id: Id = "",
    token: Token = None,
    yes: Yes = False,
    watch_for: WatchFor = "30m",
    waiting_share: WaitingShare = None,
    refused: MostRefused = None,
    stops_per_hour: MostStops = None,
    promises_missed: MostMissed = None,
    undecided: MostUndecided = 0,
    output: Output = None,
) -> None:
    """Put a policy in force, and watch how it goes.

    When a condition is breached, the one before is put back.

    With the token of a what-if only while the pool is as it was then; without one, and somebody worse off, only with --yes.
    """
    conditions = _conditions(waiting_share, refused, stops_per_hour, promises_missed, undecided)
    _roll_out(context, output, read_policy(file), id, reason, who, token, watch_for, conditions, is_meant=yes)


def roll_out_queues(
    context: typer.Context,
    file: QueueFile,
    reason: Why,
    who: Who = "",
    id: Id = "",
    token: Token = None,
    yes: Yes = False,
    watch_for: WatchFor = "30m",
    waiting_share: WaitingShare = None,
    refused: MostRefused = None,
    stops_per_hour: MostStops = None,
    promises_missed: MostMissed = None,
    undecided: MostUndecided = 0,
    output: Output = None,
) -> None:
    """Make the queues what a file says, and watch how it goes.

    When a condition is breached, it goes back.

    With the token of a what-if only while the pool is as it was then; without one, and somebody worse off, only with --yes.
    """
    conditions = _conditions(waiting_share, refused, stops_per_hour, promises_missed, undecided)
    _roll_out(context, output, read_tree(file), id, reason, who, token, watch_for, conditions, is_meant=yes)


def _conditions(
    waiting_share: float | None, refused: int | None, stops: int | None, missed: int | None, undecided: int
) -> Conditions:
    return checked(
        Conditions,
        waiting_share=waiting_share,
        refused=refused,
        stops_per_hour=stops,
        promises_missed=missed,
        undecided=undecided,
    )


def _roll_out(
    context: typer.Context,
    output: Output,
    source: Source,
    id: str,
    reason: str,
    who: str,
    token: str | None,
    watch_for: str,
    conditions: Conditions,
    *,
    is_meant: bool,
) -> None:
    order = checked(
        RolloutOrder,
        id=id or f"roll-out-{uuid.uuid4().hex[:8]}",
        change=change_of(source),
        token=token,
        reason=reason,
        who=who or getpass.getuser(),
        watch_seconds=seconds_of("watch-for", watch_for),
        conditions=conditions,
    )
    session = Session.of(context, output)
    session.ask(lambda corral: _begun(corral, order, source, is_meant=is_meant), View(tables.submissions))


async def _begun(corral: Corral, order: RolloutOrder, source: Source, *, is_meant: bool) -> Sequence[Submission]:
    if order.token is None and not is_meant:
        found = await _asked(corral, source)
        if found.hurt:
            raise Invalid(warning(found))
    return [await corral.roll_out(order)]


def warning(found: WhatIf) -> str:
    """What a person must know before somebody is worse off."""
    return f"{found.in_words}; nothing was changed: see who with `what-if`, and give its --token, or say --yes"


async def _asked(corral: Corral, source: Source) -> WhatIf:
    """What a change would do; what is wrong with it is told with file, line and column."""
    try:
        found = await corral.what_if(change_of(source))
    except Invalid as error:
        if isinstance(source.content, QueueTree):
            lines = [placed_line(line, source) for line in str(error).splitlines()]
            raise InvalidInput(lines, "nothing was changed") from error
        raise
    lines = [str(each) for each in placed(found.findings, source)]
    if any(finding.refuses for finding in found.findings):
        raise InvalidInput(lines, "nothing was changed")
    for line in lines:
        print(line, file=sys.stderr)
    return found


def change_of(source: Source) -> Change:
    """What is to be in force instead."""
    content = source.content
    return Change(queues=content) if isinstance(content, QueueTree) else Change(policy=content)
