"""Entry penalties: what a gang is charged when it starts, until its real use shows; entries that sum to zero once settled."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from domain.pool.fleet import Amount
from domain.quota.accounting import MILLISECOND, MILLISECONDS
from domain.quota.tree import QuotaTree

Charges = Mapping[tuple[str, str], int]
"""By queue and SKU, in thousandths of an accelerator times seconds."""


class EntryKind(StrEnum):
    """A gang is charged once, and its charge is settled once."""

    CHARGE = "charge"
    SETTLEMENT = "settlement"


class Entry(NamedTuple):
    """One entry for one SKU of one attempt: thousandths of an accelerator times seconds, below zero when it settles.

    Workload, epoch, SKU and kind identify it.
    """

    workload: str
    epoch: int
    sku: str
    kind: EntryKind
    queue: str
    milli_seconds: int


def charges(workload: str, epoch: int, queue: str, by_sku: Mapping[str, Amount], seconds: int) -> list[Entry]:
    """What a gang is charged that starts: all that it would use in so many seconds."""
    return [
        Entry(workload, epoch, sku, EntryKind.CHARGE, queue, by_sku[sku] * seconds)
        for sku in sorted(by_sku)
        if by_sku[sku] * seconds
    ]


def settlement(charge: Entry) -> Entry:
    """What takes a charge back."""
    return charge._replace(kind=EntryKind.SETTLEMENT, milli_seconds=-charge.milli_seconds)


def is_shown(charge: Entry, milli: Amount, began_at: datetime | None, summed_up_at: datetime) -> bool:
    """Whether past use as summed up then has at least what was charged for this amount, in use since `began_at`."""
    if began_at is None:
        return False
    return milli * ((summed_up_at - began_at) // MILLISECOND) >= charge.milli_seconds * MILLISECONDS


def outstanding(entries: Iterable[Entry]) -> dict[tuple[str, str], int]:
    """What is charged and not settled, by queue and SKU: in whatever order entries are told, and however often."""
    sums: dict[tuple[str, str], int] = {}
    for entry in set(entries):
        sums[entry.queue, entry.sku] = sums.get((entry.queue, entry.sku), 0) + entry.milli_seconds
    return {key: sums[key] for key in sorted(sums) if sums[key]}


def charged_beyond(tree: QuotaTree, charged: Charges, held: Mapping[tuple[str, str], Amount], seconds: int) -> dict[str, int]:
    """What of the charges of each node is beyond its nominal, in thousandths of an accelerator times seconds.

    Who started last is beyond nominal first: no more is, but also no less, than `held` is now beyond it in so many seconds.
    """
    beyond = dict.fromkeys((node for queue, _ in charged for node in tree.paths.get(queue, ())), 0)
    for node in beyond:
        below = {queue for queue, path in tree.paths.items() if node in path}
        for sku in {sku for queue, sku in charged if queue in below}:
            owned = tree.standings[node, sku].nominal_below if (node, sku) in tree.standings else 0
            more = max(0, _of(below, sku, held) - owned)
            beyond[node] += min(_of(below, sku, charged), more * seconds)
    return {node: beyond[node] for node in sorted(beyond) if beyond[node]}


def _of(queues: Iterable[str], sku: str, amounts: Mapping[tuple[str, str], int]) -> int:
    return sum(amounts.get((queue, sku), 0) for queue in queues)
