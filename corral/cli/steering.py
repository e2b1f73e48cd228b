"""The commands about policies."""

import getpass
import sys
from typing import Annotated

import typer

from corral.cli import tables
from corral.cli.documents import Document
from corral.cli.options import Output
from corral.cli.pages import Page
from corral.cli.policies import placed, read_policy
from corral.cli.problems import InvalidInput, checked
from corral.cli.render import Form, View, show, to_text
from corral.cli.session import Session
from corral.client import Corral, NotFound, PolicyRefused
from corral.policy import Policy, PolicyAnswer, PolicyOrder, PolicyRecord

policy = typer.Typer(help="See and change the policy that decides.", no_args_is_help=True, rich_markup_mode=None)


@policy.command("show")
def show_policy(
    context: typer.Context,
    version: Annotated[int | None, typer.Option("--version", min=1, help="That version, not the one in force.")] = None,
    output: Output = None,
) -> None:
    """Show the policy in force, as a document that `apply` takes."""
    session = Session.of(context, output)
    record = session.run(lambda corral: _record(corral, version))
    if session.form is Form.TABLE:
        typer.echo(f"# {heading(record)}\n{to_text(record.policy, Form.YAML)}")
    else:
        show(record, session.form, View(lambda shown: tables.policies([shown])))


async def _record(corral: Corral, version: int | None) -> PolicyRecord:
    records = await corral.policies(1 if version is None else MOST_VERSIONS)
    found = next((record for record in records if version in {None, record.version}), None)
    if found is None:
        raise NotFound(f"there is no policy of version {version}; `corral policy history` lists them")
    return found


MOST_VERSIONS = 10_000


def heading(record: PolicyRecord) -> str:
    """A policy's version, digest and origin on one line."""
    origin = " ".join(
        part for part in (f"by {record.who}" if record.who else "", f"({record.why})" if record.why else "") if part
    )
    return f"version {record.version}, {record.digest[:12]}, applied {record.applied_at.isoformat()} {origin}".rstrip()


@policy.command("history")
def history(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=MOST_VERSIONS, help="At most so many.")] = 20,
    output: Output = None,
) -> None:
    """List the policies of the pool, the one in force first."""
    Session.of(context, output).ask(lambda corral: corral.policies(limit), View(tables.policies))


@policy.command("apply")
def apply(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A YAML file, or the name of a preset; `-` is the standard input.")
    ],
    why: Annotated[str, typer.Option("--reason", help="Why; kept with the policy.")] = "",
    who: Annotated[str, typer.Option("--by", help="By whom; kept with the policy. You, if nothing is said.")] = "",
    output: Output = None,
) -> None:
    """Put a policy in force, whole or not at all.

    It decides about all work from the next round on; nothing that runs is stopped by it.
    """
    session = Session.of(context, output)
    document = read(file)
    order = checked(PolicyOrder, policy=document.content, who=who or getpass.getuser(), why=why)
    answer = session.run(lambda corral: _apply(corral, order, document))
    for finding in placed(answer.findings, document):
        print(finding, file=sys.stderr)
    show(answer, session.form, View(_applied))


def read(file: str) -> Document[Policy]:
    """Read the policy to apply.

    Raises:
        InvalidInput: the document is not valid.
    """
    try:
        return read_policy(file)
    except InvalidInput as error:
        raise InvalidInput(error.lines, "nothing was changed") from error


async def _apply(corral: Corral, order: PolicyOrder, document: Document[Policy]) -> PolicyAnswer:
    """Apply; what only the record can check is told with file, line and column."""
    try:
        return await corral.apply_policy(order.policy, who=order.who, why=order.why)
    except PolicyRefused as error:
        raise InvalidInput([str(each) for each in placed(error.findings, document)], "nothing was changed") from error


def _applied(answer: PolicyAnswer) -> Page:
    return tables.policies([answer.record] if answer.record else [])
