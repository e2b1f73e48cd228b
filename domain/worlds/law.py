"""Law: the policy's hard constraints as articles, and the first of them that a place would break."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from corral.api import CapacityType, Model
from corral.policy import Constraints


@dataclass(frozen=True, slots=True)
class Case:
    """A workload of a tenant and a queue (with the queues above it, root last) on capacity of this kind."""

    tenant: str | None
    queues: tuple[str, ...]
    sku: str
    region: str
    provider: str
    capacity_type: CapacityType

    def value(self, dimension: str) -> str | None:
        """What the case is in one dimension of a scope."""
        match dimension:
            case "skus":
                return self.sku
            case "regions":
                return self.region
            case "providers":
                return self.provider
            case "capacity_types":
                return self.capacity_type
            case _:
                return self.tenant


@dataclass(frozen=True, slots=True)
class Article:
    """One list of the document, found at the path `where`: names in one dimension that are allowed, or that are denied."""

    where: str
    dimension: str
    names: tuple[str, ...]
    denies: bool

    def permits(self, case: Case) -> bool:
        """Whether the case is within what this list leaves."""
        return (case.value(self.dimension) in self.names) != self.denies


@dataclass(frozen=True, slots=True)
class Law:
    """All articles, by the kind and the name of their scope."""

    articles: Mapping[tuple[str, str], tuple[Article, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, constraints: Constraints) -> "Law":
        """The articles of a document."""
        scopes = {("platform", ""): ("constraints.platform", constraints.platform)} | {
            (kind, name): (f"constraints.{kind}.{name}", scope)
            for kind in ("regions", "skus", "tenants", "queues")
            for name, scope in sorted(getattr(constraints, kind).items())
        }
        articles = {key: tuple(_articles(where, scope)) for key, (where, scope) in scopes.items()}
        return cls({key: found for key, found in articles.items() if found})

    def breach(self, case: Case) -> Article | None:
        """The first article, from the widest scope to the narrowest, that the case would break."""
        return next((article for article in self.concerning(case) if not article.permits(case)), None)

    def concerning(self, case: Case) -> Iterator[Article]:
        """The articles of all scopes that the case belongs to, widest first."""
        scopes = (("platform", ""), ("regions", case.region), ("skus", case.sku), ("tenants", case.tenant or ""))
        for key in (*scopes, *(("queues", queue) for queue in reversed(case.queues))):
            yield from self.articles.get(key, ())


def _articles(where: str, scope: Model) -> Iterator[Article]:
    for side in ("allow", "deny"):
        for dimension, names in getattr(scope, side):
            if names is not None:
                yield Article(f"{where}.{side}.{dimension}", dimension, names, side == "deny")
