"""The commands about who may do what: keys, and the orders that were signed with them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from corral.cli import tables
from corral.cli.options import Output
from corral.cli.problems import InvalidInput
from corral.cli.render import View, show
from corral.cli.session import Session
from corral.client import Conflict
from corral.signing import new_keys


def orders(
    context: typer.Context,
    subject: Annotated[str | None, typer.Option(help="Only those to this workflow, such as workload/w1.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 20,
    output: Output = None,
) -> None:
    """List who ordered what and when, the newest first.

    By signatures that were verified.
    """
    Session.of(context, output).ask(lambda corral: corral.orders(subject, limit), View(tables.orders))


def new_key(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes.", show_default=False)],
    output: Output = None,
) -> None:
    """Make a key to sign commands with.

    The private one goes into a file of yours, the public one is to be told.

    Whoever operates the pool enters the public key in its file of principals.
    """
    try:
        private, public = new_keys()
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(private + "\n")
    except FileExistsError as error:
        raise Conflict(f"{file}: is there already; a key is never overwritten") from error
    except OSError as error:
        raise InvalidInput([f"{file}: cannot be written: {error.strerror}"]) from error
    except ValueError as error:
        raise InvalidInput([str(error)]) from error
    show({"public key": public}, Session.of(context, output).form, View(tables.facts))
