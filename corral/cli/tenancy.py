"""The commands about queues."""

from typing import Annotated

import typer

from corral.api import QueueStatus, QueueTree
from corral.cli import tables
from corral.cli.documents import Document, read_documents
from corral.cli.options import Interval, Output, Watch
from corral.cli.problems import InvalidInput
from corral.cli.render import View
from corral.cli.session import Session, Watching
from corral.client import Corral, Invalid

queue = typer.Typer(help="See and change the queues and their quotas.", no_args_is_help=True, rich_markup_mode=None)


@queue.command("list")
def list_queues(context: typer.Context, watch: Watch = False, interval: Interval = 2, output: Output = None) -> None:
    """List the queues: their lines, and what they own, use and borrow."""
    Session.of(context, output).follow(lambda corral: corral.queues(), View(tables.queues), Watching(watch, interval))


@queue.command("show")
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.", show_default=False)],
    watch: Watch = False,
    interval: Interval = 2,
    output: Output = None,
) -> None:
    """Show one queue with its terms, quotas and use.

    Quotas of every validity are there, also those that are not valid now.
    """
    Session.of(context, output).follow(lambda corral: corral.queue(name), View(tables.queue), Watching(watch, interval))


@queue.command("apply")
def apply(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A YAML file with `queues`; `-` is the standard input.")],
    output: Output = None,
) -> None:
    """Make the queues what a YAML file says.

    Whole or not at all; queues that it does not name stay as they are.
    """
    session = Session.of(context, output)
    tree = read_tree(file)
    session.ask(lambda corral: _apply(corral, tree), View(tables.queues))


def read_tree(file: str) -> Document[QueueTree]:
    """Read the queues in a YAML file with one document.

    Raises:
        InvalidInput: the document is not valid, or there is another.
    """
    try:
        first, *others = read_documents([file], QueueTree)
        if others:
            raise InvalidInput([f"{others[0].position}: a second document; write all queues under one `queues`"])
    except InvalidInput as error:
        raise InvalidInput(error.lines, "nothing was changed") from error
    return first


async def _apply(corral: Corral, tree: Document[QueueTree]) -> list[QueueStatus]:
    """Apply the queues; what only the record can check is told with file, line and column."""
    try:
        return await corral.apply_queues(tree.content)
    except Invalid as error:
        raise InvalidInput([placed_line(line, tree) for line in str(error).splitlines()], "nothing was changed") from error


def placed_line(line: str, tree: Document[QueueTree]) -> str:
    """A complaint that begins with a field of the tree, after the place where that stands; others after the file."""
    field = line.partition(":")[0]
    return f"{tree.place(field) if field.startswith('queues') else tree.position.file}: {line}"
