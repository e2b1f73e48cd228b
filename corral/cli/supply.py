"""The commands about the fleet: what there is, and which nodes take work."""

import getpass
from typing import Annotated

import typer

from corral.api import Cordon, LostCluster, PlaceKind
from corral.cli import tables
from corral.cli.options import Interval, Output, Watch
from corral.cli.problems import InvalidInput, checked
from corral.cli.render import Form, View
from corral.cli.session import Session, Watching

Provider = Annotated[str, typer.Argument(metavar="PROVIDER", help="The provider of the nodes.", show_default=False)]
Nodes = Annotated[list[str], typer.Argument(metavar="NODE", help="The nodes.", show_default=False)]
Why = Annotated[str, typer.Option("--reason", help="Why; shown to everybody who asks about the nodes.", show_default=False)]

fleet = typer.Typer(help="See the supply.", invoke_without_command=True, rich_markup_mode=None)


@fleet.callback()
def show_fleet(context: typer.Context, watch: Watch = False, interval: Interval = 2, output: Output = None) -> None:
    """List the supply by provider, region and SKU."""
    if context.invoked_subcommand is None:
        Session.of(context, output).follow(lambda corral: corral.fleet(), View(tables.fleet), Watching(watch, interval))


@fleet.command("nodes")
def list_nodes(context: typer.Context, watch: Watch = False, interval: Interval = 2, output: Output = None) -> None:
    """List the nodes as last observed."""
    Session.of(context, output).follow(lambda corral: corral.nodes(), View(tables.nodes), Watching(watch, interval))


def clusters(context: typer.Context, watch: Watch = False, interval: Interval = 2, output: Output = None) -> None:
    """List the clusters, and whether they answer.

    Since when and why, and when work of a suspect one is started elsewhere. With -o json also what became of each of late.
    """
    Session.of(context, output).follow(lambda corral: corral.clusters(), View(tables.clusters), Watching(watch, interval))


def declare_lost(
    context: typer.Context,
    cluster: Annotated[str, typer.Argument(metavar="PROVIDER/REGION/CLUSTER", help="The cluster.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", help="How you know that nothing runs there.", show_default=False)],
    who: Annotated[str, typer.Option("--by", help="By whom; kept with the cluster. You, if nothing is said.")] = "",
    output: Output = None,
) -> None:
    """Say that nothing runs in a suspect cluster any more.

    Its work is then started elsewhere without waiting for its lease.

    If something does run there, it runs twice until the cluster's lease is over or it answers again.
    """
    order = checked(LostCluster, cluster=cluster, reason=reason, who=who or getpass.getuser())
    Session.of(context, output).ask(lambda corral: corral.declare_lost(order), View(tables.clusters))


@fleet.command("pools")
def list_node_pools(context: typer.Context, watch: Watch = False, interval: Interval = 2, output: Output = None) -> None:
    """List the node pools: what providers can add.

    How much of it is wanted and why, what is there and on its way.
    """
    Session.of(context, output).follow(lambda corral: corral.node_pools(), View(tables.node_pools), Watching(watch, interval))


@fleet.command("orders")
def list_orders(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 20,
    watch: Watch = False,
    interval: Interval = 2,
    output: Output = None,
) -> None:
    """List the newest orders for nodes.

    For whom they were given, and what came of them.
    """
    view = View(tables.provisionings)
    Session.of(context, output).follow(lambda corral: corral.provisionings(limit), view, Watching(watch, interval))


def rounds(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 20,
    watch: Watch = False,
    interval: Interval = 2,
    output: Output = None,
) -> None:
    """List the newest rounds, and what they decided.

    Also how far from the best they may be, and how long they took.
    """
    Session.of(context, output).follow(lambda corral: corral.rounds(limit), View(tables.rounds), Watching(watch, interval))


def cordon(context: typer.Context, provider: Provider, nodes: Nodes, reason: Why, output: Output = None) -> None:
    """Let nodes accept nothing new."""
    _order(context, output, provider, checked(Cordon, action="cordon", nodes=tuple(nodes), reason=reason))


def drain(context: typer.Context, provider: Provider, nodes: Nodes, reason: Why, output: Output = None) -> None:
    """Empty nodes.

    They accept nothing new, and what runs there moves elsewhere, with notice.
    """
    _order(context, output, provider, checked(Cordon, action="drain", nodes=tuple(nodes), reason=reason))


def uncordon(
    context: typer.Context,
    reason: Why,
    provider: Annotated[
        str | None, typer.Argument(metavar="PROVIDER", help="The provider of the nodes.", show_default=False)
    ] = None,
    nodes: Annotated[list[str] | None, typer.Argument(metavar="NODE", help="The nodes.", show_default=False)] = None,
    cluster: Annotated[str | None, typer.Option(help="All of PROVIDER/REGION/CLUSTER instead.")] = None,
    region: Annotated[str | None, typer.Option(help="All of PROVIDER/REGION instead.")] = None,
    output: Output = None,
) -> None:
    """Let nodes accept work again.

    Named ones of a provider, or all of a cluster or a region, as after an evacuation.
    """
    named = {PlaceKind.CLUSTER: cluster, PlaceKind.REGION: region}
    places = [(kind, place) for kind, place in named.items() if place is not None]
    if len(places) + bool(provider) != 1 or bool(provider) != bool(nodes):
        raise InvalidInput(["uncordon: expected a provider and its nodes, or one of --cluster and --region"])
    for kind, place in places:
        order = checked(Cordon, action="uncordon", kind=kind, place=place, reason=reason)
        _order(context, output, place.partition("/")[0], order)
    if provider:
        _order(context, output, provider, checked(Cordon, action="uncordon", nodes=tuple(nodes or ()), reason=reason))


def _order(context: typer.Context, output: Form | None, provider: str, order: Cordon) -> None:
    Session.of(context, output).ask(lambda corral: corral.cordon(provider, order), View(tables.nodes))
