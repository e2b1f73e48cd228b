"""Data: what it takes to bring the datasets of a workload into a region that has no replica of them."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import NamedTuple

from corral.api import Dataset
from corral.policy import Route, Transfers


class Haul(NamedTuple):
    """What it costs to bring data in, in millionths of a dollar, and how many seconds it takes, one dataset after the other."""

    millionths: Fraction
    seconds: Fraction

    def __add__(self, other: object) -> "Haul":
        if not isinstance(other, Haul):
            return NotImplemented
        return Haul(self.millionths + other.millionths, self.seconds + other.seconds)


NOTHING = Haul(Fraction(0), Fraction(0))


def haul(names: Iterable[str], region: str, catalogue: Mapping[str, Dataset], transfers: Transfers) -> Haul:
    """Bring in what the region lacks of these datasets. What the catalogue does not know, or nobody has, counts nothing."""
    known = (catalogue[name] for name in names if name in catalogue)
    return sum((_brought(dataset, region, transfers) for dataset in known), NOTHING)


def _brought(dataset: Dataset, region: str, transfers: Transfers) -> Haul:
    """From the region with a replica from which it comes cheapest, among equals fastest."""
    if region in dataset.regions:
        return NOTHING
    return min((_along(source, region, dataset, transfers) for source in dataset.regions), default=NOTHING)


def _along(source: str, destination: str, dataset: Dataset, transfers: Transfers) -> Haul:
    price, throughput = terms_of(transfers.routes.get(source, {}).get(destination), transfers)
    size = Fraction(dataset.size_gib)
    return Haul(size * Fraction(price) * 1_000_000, size / Fraction(throughput))


def terms_of(route: Route | None, transfers: Transfers) -> tuple[float, float]:
    """Dollars per GiB and GiB per second on a route; what it leaves open is as between any other two regions."""
    route = route or Route()
    price = transfers.dollars_per_gib if route.dollars_per_gib is None else route.dollars_per_gib
    return price, transfers.gib_per_second if route.gib_per_second is None else route.gib_per_second
