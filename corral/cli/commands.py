"""The commands: each reads its arguments, makes one call, and prints the answer."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from corral import wire
from corral.api import SlaTier, State, WorkloadEvent, WorkloadFilter, WorkloadResult, WorkloadSpec, WorkloadStatus
from corral.cli import (
    changes,
    data,
    operations,
    reservations,
    roles,
    rollouts,
    schedules,
    steering,
    supply,
    tables,
    tenancy,
)
from corral.cli.connection import Connection, Identity
from corral.cli.documents import Document, placed, read_named
from corral.cli.exits import EPILOG, Commands, code_of_end
from corral.cli.options import (
    Interval,
    Output,
    PayloadKeys,
    PrincipalName,
    SigningKey,
    TlsAuthority,
    TlsCertificate,
    TlsKey,
    TlsServerName,
    Watch,
    WorkloadId,
    misspelt,
)
from corral.cli.problems import checked, checked_id
from corral.cli.render import Form, View, show
from corral.cli.session import Session, Watching
from corral.client import Corral, CorralError, Submission

app = typer.Typer(
    cls=Commands,
    help="Submit work to Corral's pool of accelerators, and see where it stands and why.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def corral(
    context: typer.Context,
    address: Annotated[
        str, typer.Option(envvar="CORRAL_TEMPORAL_ADDRESS", help="The Temporal server, as host:port.")
    ] = "127.0.0.1:7233",
    namespace: Annotated[str, typer.Option(envvar="CORRAL_TEMPORAL_NAMESPACE", help="The Temporal namespace.")] = "default",
    pool: Annotated[str, typer.Option(envvar="CORRAL_POOL", help="The pool of accelerators.")] = wire.DEFAULT_POOL,
    api_key: Annotated[str | None, typer.Option(envvar="CORRAL_TEMPORAL_API_KEY", help="The key to Temporal.")] = None,
    tls: Annotated[bool, typer.Option("--tls", envvar="CORRAL_TEMPORAL_TLS", help="Encrypt the connection.")] = False,
    authority: TlsAuthority = None,
    certificate: TlsCertificate = None,
    key: TlsKey = None,
    server_name: TlsServerName = None,
    payload_keys: PayloadKeys = None,
    principal: PrincipalName = None,
    signing_key: SigningKey = None,
    output: Output = None,
) -> None:
    """Take the options that all commands share."""
    for line in misspelt(os.environ, context):
        typer.echo(line, err=True)
    identity = Identity(authority, certificate, key, server_name)
    connection = Connection(address, namespace, pool, api_key, tls, identity, payload_keys, principal, signing_key)
    session = context.obj or Session(connection.open)
    context.obj = replace(session, form=output or Form.TABLE)


@app.command()
def submit(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="YAML files; `-` is the standard input.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all have ended.")] = False,
    output: Output = None,
) -> None:
    """Hand over the workloads in YAML files.

    All of them must be valid before any is submitted. Submitting a workload again is safe: it is the same workload.
    """
    session = Session.of(context, output)
    specs = read_specs(files)
    submitted, refusal = session.run(lambda corral: _submit(corral, specs))
    if submitted and (refusal or not wait):
        show(submitted, session.form, View(tables.submissions))
    if refusal:
        raise refusal
    if wait:
        _wait(session, [spec.content.id for spec in specs])


def read_specs(files: Sequence[str]) -> list[Document[WorkloadSpec]]:
    """Read the workloads in YAML files.

    Raises:
        InvalidInput: a document is not valid, or two have the same id.
    """
    return read_named(files, WorkloadSpec, lambda spec: spec.id, "workload", "nothing was submitted")


async def _submit(corral: Corral, specs: Sequence[Document[WorkloadSpec]]) -> tuple[list[Submission], CorralError | None]:
    """Hand over the workloads one after the other, until one is refused."""
    submitted: list[Submission] = []
    for spec in specs:
        try:
            with placed(spec):
                submitted.append(await corral.submit(spec.content))
        except CorralError as error:
            return submitted, error
    return submitted, None


def _wait(session: Session, workloads: Sequence[str]) -> None:
    """Wait for workloads, print how they ended, and exit."""

    async def ended(corral: Corral) -> list[WorkloadResult]:
        return list(await asyncio.gather(*(corral.wait(workload) for workload in workloads)))

    results = session.ask(ended, View(tables.results))
    raise typer.Exit(max(code_of_end(result.state) for result in results))


@app.command("list")
def list_workloads(
    context: typer.Context,
    queue: Annotated[str | None, typer.Option(help="Only those of this queue.")] = None,
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    tier: Annotated[SlaTier | None, typer.Option(help="Only those of this tier.")] = None,
    active: Annotated[bool, typer.Option("--active", help="Only those that have not ended.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many, 1 to 10000.")] = 100,
    watch: Watch = False,
    interval: Interval = 2,
    output: Output = None,
) -> None:
    """List workloads, newest first."""
    which = checked(WorkloadFilter, queue=queue, state=state, tier=tier, active_only=active, limit=limit)
    session = Session.of(context, output)
    session.follow(lambda corral: corral.workloads(which), View(tables.workloads), Watching(watch, interval))


@app.command()
def status(
    context: typer.Context, workload: WorkloadId, watch: Watch = False, interval: Interval = 2, output: Output = None
) -> None:
    """Tell where a workload stands.

    With --watch, until it has ended.
    """
    name = checked_id(workload)
    view = View(tables.status)
    Session.of(context, output).follow(lambda corral: corral.status(name), view, Watching(watch, interval), has_ended)


def has_ended(status: WorkloadStatus) -> bool:
    """Whether there is nothing more to watch."""
    return status.state.is_terminal


@app.command()
def explain(
    context: typer.Context,
    workload: WorkloadId,
    names: Annotated[bool, typer.Option("--names", help="For operators: name work and queues of others too.")] = False,
    watch: Watch = False,
    interval: Interval = 2,
    output: Output = None,
) -> None:
    """Tell why a workload waits, and what would start it.

    Also why it was refused or has failed, or that it runs on what is lent to it.

    The evidence says how often each rule said no; each fix was tried on the pool as it is. With --watch, until it has ended.
    """
    name = checked_id(workload)
    view = View(tables.explanation, data=lambda status: status.explanation)
    Session.of(context, output).follow(
        lambda corral: corral.explained(name, names=names), view, Watching(watch, interval), has_ended
    )


@app.command()
def events(
    context: typer.Context,
    workload: WorkloadId,
    after: Annotated[int, typer.Option(min=0, help="Only those after the event with this id.")] = 0,
    watch: Watch = False,
    interval: Interval = 2,
    output: Output = None,
) -> None:
    """List what happened to a workload, oldest first.

    With --watch, a line for each event until it has ended.
    """
    name = checked_id(workload)
    session = Session.of(context, output)
    if watch:
        session.follow_events(name, after, interval)
    else:
        session.ask(lambda corral: _events(corral, name, after), View(tables.events))


async def _events(corral: Corral, workload: str, after: int) -> list[WorkloadEvent]:
    """The events of a workload, which must exist: the record has no events of one that does not."""
    happened = await corral.events(workload, after)
    if not happened:
        await corral.status(workload)
    return happened


@app.command()
def wait(context: typer.Context, workload: WorkloadId, output: Output = None) -> None:
    """Wait until a workload has ended.

    The exit code is 0 only if it succeeded.
    """
    name = checked_id(workload)
    result = Session.of(context, output).ask(lambda corral: corral.wait(name), View(tables.result))
    raise typer.Exit(code_of_end(result.state))


@app.command()
def version(context: typer.Context, output: Output = None) -> None:
    """Tell the version of this command line."""
    try:
        installed = version_of("corral")
    except PackageNotFoundError:
        installed = "not installed"
    show({"version": installed}, Session.of(context, output).form, View(tables.facts))


tenancy.queue.command("what-if")(rollouts.queue_what_if)
tenancy.queue.command("roll-out")(rollouts.roll_out_queues)
app.command()(changes.cancel)
app.command()(changes.hold)
app.command()(changes.release)
app.command()(changes.checkpointed)
app.command()(changes.resize)
app.command()(changes.retarget)
app.command()(changes.extend)
app.command()(changes.demand)
app.command()(changes.wake)
app.command()(changes.history)
app.command("next-wake-up")(changes.next_wake_up)
app.command(context_settings={"ignore_unknown_options": True})(changes.reprioritize)
app.command()(roles.orders)
app.command("new-key")(roles.new_key)
app.add_typer(tenancy.queue, name="queue")
app.add_typer(data.data, name="data")
steering.policy.command("what-if")(rollouts.policy_what_if)
steering.policy.command("roll-out")(rollouts.roll_out_policy)
app.add_typer(steering.policy, name="policy")
app.add_typer(supply.fleet, name="fleet")
app.add_typer(reservations.reservation, name="reservation")
app.command()(reservations.reserve)
app.add_typer(operations.operations, name="operations")
app.command()(operations.evacuate)
app.command()(supply.clusters)
app.command("declare-lost")(supply.declare_lost)
app.add_typer(schedules.schedule, name="schedule")
app.command()(supply.rounds)
app.command()(supply.cordon)
app.command()(supply.drain)
app.command()(supply.uncordon)
