"""The commands about data."""

from typing import Annotated

import typer

from corral.api import Catalogue
from corral.cli import tables
from corral.cli.documents import read_documents
from corral.cli.options import Interval, Output, Watch
from corral.cli.problems import InvalidInput
from corral.cli.render import View
from corral.cli.session import Session, Watching

data = typer.Typer(help="See and change where data are.", no_args_is_help=True, rich_markup_mode=None)


@data.command("list")
def list_datasets(context: typer.Context, watch: Watch = False, interval: Interval = 2, output: Output = None) -> None:
    """List the datasets, and where they are.

    Their sizes, the regions with a replica, and how many workloads read them.
    """
    Session.of(context, output).follow(lambda corral: corral.datasets(), View(tables.datasets), Watching(watch, interval))


@data.command("apply")
def apply(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A YAML file with `datasets`; `-` is the standard input.")],
    output: Output = None,
) -> None:
    """Make the datasets what a YAML file says.

    Whole or not at all; those that it does not name stay as they are.
    """
    session = Session.of(context, output)
    catalogue = read_catalogue(file)
    session.ask(lambda corral: corral.apply_datasets(catalogue), View(tables.datasets))


def read_catalogue(file: str) -> Catalogue:
    """Read the datasets in a YAML file with one document.

    Raises:
        InvalidInput: the document is not valid, or there is another.
    """
    try:
        first, *others = read_documents([file], Catalogue)
        if others:
            raise InvalidInput([f"{others[0].position}: a second document; write all datasets under one `datasets`"])
    except InvalidInput as error:
        raise InvalidInput(error.lines, "nothing was changed") from error
    return first.content
