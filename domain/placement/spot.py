"""Where a single replica goes that goes anywhere: to one node, which whole columns point out.

Cheap nodes come first. Of these it is where the demand that is known loses least by the replica, if that is known of its
size; or else the fullest, as the rules of `layout` offer it one node after the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from corral.api import WHOLE
from corral.policy import TopologyProfile
from domain.placement.draft import fullest_fit
from domain.placement.sieve import Key, accepts, first, order_for, takes_one
from domain.pool.fleet import Amount
from domain.pool.stock import NodeRoom, Stock
from domain.worlds.fragmentation import IMPOSSIBLE, NOTHING_LOST
from domain.worlds.outlook import Outlook, Size, outlook_of
from domain.worlds.request import Gang, Shape, asks_for_something


@dataclass(frozen=True, slots=True)
class Spot:
    """A node for a single replica; the one whose `rank` is least is taken."""

    rank: tuple[object, ...]
    """What an accelerator costs, by what else nodes are in order, and the node's id."""
    entry: NodeRoom
    device: int | None = None
    """The one of which it gets a share, where that is not the fullest that has room for it."""
    loss: int | None = None
    """What the known demand loses by it, in fiftieths of the most (below zero: gains); none where that is not looked at."""


def is_alone(gang: Gang, profile: TopologyProfile) -> bool:
    """Whether the gang is a single replica that goes anywhere."""
    if len(gang.shapes) > 1 or profile.ranks_unconstrained or asks_for_something(gang.topology):
        return False
    (shape,) = gang.shapes
    return shape.minimum == shape.count == 1 and gang.fewest <= 1 and shape.terms.topology is None


def spot_for(shape: Shape, parts: Sequence[Stock]) -> Spot | None:
    """Where the only replica of a group goes on these stocks of one fleet, if any node has room."""
    outlook = outlook_of(parts[0])
    if outlook is not None and outlook.knows(size_of(shape)):
        found = [_of_least_loss(shape, part, outlook) for part in parts]
    else:
        found = [_fullest(shape, part) for part in parts]
    return min(filter(None, found), key=attrgetter("rank"), default=None)


def size_of(shape: Shape) -> Size:
    """What one replica of a group takes."""
    return shape.milli, shape.cpu_milli, shape.memory_mib


def _of_least_loss(shape: Shape, stock: Stock, outlook: Outlook) -> Spot | None:
    """The node of a stock on which the known demand loses least; of equal ones those of which something is used, then by id."""
    size = size_of(shape)
    losses = outlook.losses(size, stock)
    possible = losses < IMPOSSIBLE
    if stock.limits_replicas:
        possible &= stock.replicas > 0
    if shape.terms.is_choosy:
        possible &= accepts(shape, stock)
    keys: tuple[Key, ...] = (lambda _: losses, lambda stock: stock.idle)
    for place in first(stock, possible, keys):
        (entry,) = stock.entries((place,))
        loss, is_idle = int(losses[place]), bool(stock.idle[place])
        device = outlook.device(size, entry) if 0 < shape.milli < WHOLE else None
        return Spot((entry.node.price, loss, is_idle, entry.node.id), entry, device, loss - NOTHING_LOST)
    return None


def _fullest(shape: Shape, stock: Stock) -> Spot | None:
    """The first node of a stock in the order in which replicas of the group are offered them."""
    for place in first(stock, takes_one(shape, stock), order_for(shape)):
        (entry,) = stock.entries((place,))
        return Spot((entry.node.price, _fit(entry, shape.milli), entry.order), entry)
    return None


def _fit(entry: NodeRoom, milli: Amount) -> Amount:
    """For a share, what is free of the fullest broken device that has room for it."""
    return fullest_fit(entry, milli) if 0 < milli < WHOLE else 0
