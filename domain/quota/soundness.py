"""Soundness: what a quota tree promises that it cannot keep, though it does not contradict itself."""

from collections.abc import Iterable, Iterator, Mapping

from corral.api import WHOLE
from domain.pool.fleet import Amount, Health, Node
from domain.quota.tree import QuotaTree


def healthy_capacity(nodes: Iterable[Node]) -> dict[str, Amount]:
    """Thousandths of an accelerator on nodes that may be given work, by SKU; SKUs without any count as none."""
    capacity: dict[str, Amount] = {}
    for node in nodes:
        usable = node.total.milli if node.health is Health.READY else 0
        capacity[node.sku] = capacity.get(node.sku, 0) + usable
    return capacity


def warnings(tree: QuotaTree, capacity: Mapping[str, Amount]) -> dict[str, tuple[str, ...]]:
    """What is wrong with each queue, by its name; nothing can be said while no node is known."""
    found: dict[str, list[str]] = {queue: list(_beyond_cap(tree, queue)) for queue in tree.paths}
    if capacity:
        for queue in tree.paths:
            found[queue] += [*_unknown_names(tree, queue, capacity), *_over_committed(tree, queue, capacity)]
    return {queue: tuple(said) for queue, said in found.items() if said}


def _over_committed(tree: QuotaTree, queue: str, capacity: Mapping[str, Amount]) -> Iterator[str]:
    """Told at each root that owns some of what all roots together own too much of."""
    if tree.root(queue) != queue:
        return
    for name in sorted({name for _, name in tree.standings}):
        owned, promised = tree.standings[queue, name].nominal_below, _promised(tree, name)
        healthy = sum(capacity.get(sku, 0) for sku in tree.held_by(name))
        if owned and promised > healthy:
            yield (
                f"{name} is over-committed by {_amount(promised - healthy)}: {_amount(promised)} are owned,"
                f" {_amount(owned)} of them here, and {_amount(healthy)} are healthy"
            )


def _promised(tree: QuotaTree, name: str) -> Amount:
    return sum(tree.standings[root, name].nominal_below for root in {path[-1] for path in tree.paths.values()})


def _beyond_cap(tree: QuotaTree, queue: str) -> Iterator[str]:
    """A cap below what the queues under it own: they can never all have theirs."""
    for name in sorted({name for _, name in tree.standings}):
        standing = tree.standings[queue, name]
        cap = standing.quota.cap
        if cap is not None and standing.nominal_below > cap:
            excess = _amount(standing.nominal_below - cap)
            yield f"the cap of {_amount(cap)} {name} is {excess} below what is owned here and below"


def _unknown_names(tree: QuotaTree, queue: str, capacity: Mapping[str, Amount]) -> Iterator[str]:
    """A row that bounds nothing, for it names nothing that is there."""
    for name in sorted({name for _, name in tree.standings}):
        if tree.standings[queue, name].has_row and not any(sku in capacity for sku in tree.held_by(name)):
            known = ", ".join(sorted(capacity))
            yield f"{name} is no SKU of the fleet ({known}), and no class of the policy (limits.sku_classes) that holds one"


def _amount(milli: Amount) -> str:
    return f"{milli / WHOLE:g}"
