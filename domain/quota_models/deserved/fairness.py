"""Fairness: whom a queue may take from, and how far (KAI, `reclaimable.go` and `strategies.go`)."""

from collections.abc import Iterable
from fractions import Fraction
from math import inf

from domain.pool.fleet import Amount
from domain.quota.usage import Usage
from domain.quota_models.deserved.books import Amounts, Books


def may_ask(queue: str, needs: Amounts, usage: Usage, books: Books, *, preemptible: bool) -> bool:
    """Whether the queue may take anything back: with what it needs it stays within its fair share, and with work that may
    not be preempted within what it deserves.
    """
    for sku, amount in needs.items():
        use = usage.use(queue, sku)
        if use.total + amount > books.fair_share(queue, sku):
            return False
        if not preemptible and _exceeds(use.fixed + amount, books.deserved(queue, sku)):
            return False
    return True


def is_candidate(queue: str, owner: str, needs: Amounts, usage: Usage, books: Books) -> bool:
    """Whether a queue's work could be taken for the owner's need at all (KAI, `filter_victims.go`)."""
    mine, theirs = levelled(owner, queue, books)
    if not _stays_within_deserved(mine, needs, usage, books):
        return any(usage.use(theirs, sku).total > books.allocatable(theirs, sku) for sku in books.names)
    bounded = [
        (usage.use(theirs, sku).total, deserved) for sku in needs if (deserved := books.deserved(theirs, sku)) is not None
    ]
    return any(used > deserved for used, deserved in bounded) or not any(used < deserved for used, deserved in bounded)


def levelled(queue: str, other: str, books: Books) -> tuple[str, str]:
    """The ancestors of two queues (or they themselves) that are siblings: there they compete."""
    pair = queue, other
    for mine, theirs in zip(reversed(books.tree.paths[queue]), reversed(books.tree.paths[other]), strict=False):
        pair = mine, theirs
        if mine != theirs:
            break
    return pair


def is_fair(
    queue: str, needs: Amounts, losses: Iterable[tuple[str, Amounts]], usage: Usage, books: Books, *, preemptible: bool
) -> bool:
    """Whether the queue may have what it needs at the price of these losses of other queues.

    Each loss must come from above the fair share of who loses it, or, when the owner stays within what it deserves, from above
    what the loser deserves. In the end nobody above their fair share may be better off than a sibling that lost.
    """
    remaining: dict[tuple[str, str], Amount] = {}

    def left(name: str, sku: str) -> Amount:
        return remaining.get((name, sku), usage.use(name, sku).total)

    for loser, amounts in losses:
        mine, theirs = levelled(queue, loser, books)
        above_share = any(left(theirs, sku) > books.allocatable(theirs, sku) for sku in books.names)
        if not above_share and not (
            _stays_within_deserved(mine, needs, usage, books)
            and any(_exceeds(left(theirs, sku), books.deserved(theirs, sku)) for sku in books.names)
        ):
            return False
        for name in books.tree.paths[loser]:
            for sku in books.names:
                remaining[name, sku] = left(name, sku) - amounts.get(sku, 0)
    return _keeps_the_order(queue, needs, remaining, usage, books) and (preemptible or books.owns(queue, needs, usage))


def _keeps_the_order(queue: str, needs: Amounts, remaining: dict[tuple[str, str], Amount], usage: Usage, books: Books) -> bool:
    """Whether at no level a queue gets above its fair share by as much as a sibling that lost, or more."""
    losers = {name for name, _ in remaining}
    for name in books.tree.paths[queue]:
        siblings = [loser for loser in losers if loser != name and _parent(loser, books) == _parent(name, books)]
        for sku, amount in needs.items():
            then = remaining.get((name, sku), usage.use(name, sku).total) + amount
            mine = _saturation(then, books.fair_share(name, sku))
            for sibling in siblings:
                share = books.fair_share(sibling, sku)
                if mine > 1 and share > 0 and mine >= _saturation(remaining[sibling, sku], share):
                    return False
    return True


def _parent(queue: str, books: Books) -> str | None:
    path = books.tree.paths[queue]
    return path[1] if len(path) > 1 else None


def _saturation(amount: Amount, share: Amount) -> Fraction | float:
    if share:
        return Fraction(amount, share)
    return inf if amount > 0 else 0


def _stays_within_deserved(queue: str, needs: Amounts, usage: Usage, books: Books) -> bool:
    return not any(_exceeds(usage.use(queue, sku).total + needs.get(sku, 0), books.deserved(queue, sku)) for sku in books.names)


def _exceeds(amount: Amount, deserved: Amount | None) -> bool:
    return deserved is not None and amount > deserved
