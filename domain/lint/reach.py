"""Reach: which capacity the law leaves to whom, tried over every name that the documents know and one that they do not."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

from corral.api import CapacityType
from domain.lint.documents import Documents
from domain.worlds.law import Article, Case

ANY_OTHER = "*"
"""Stands for every name that no document knows; no identifier is spelled so."""

MOST_CASES = 50_000
"""Cases that are tried before a question is left open."""


@dataclass(frozen=True, slots=True)
class Reach:
    """All cases that may make a difference."""

    documents: Documents
    skus: tuple[str, ...]
    regions: tuple[str, ...]
    providers: tuple[str, ...]
    tenants: tuple[str, ...]

    @classmethod
    def of(cls, documents: Documents) -> "Reach":
        """Collect the names."""
        policy = documents.policy
        named: dict[str, set[str]] = {"skus": set(), "regions": set(), "providers": set(), "tenants": set()}
        for kind in ("regions", "skus", "tenants"):
            named[kind] |= set(getattr(policy.constraints, kind))
        for articles in documents.law.articles.values():
            for article in articles:
                named.setdefault(article.dimension, set()).update(article.names)
        for preference in policy.goals.preferences:
            for kind in ("skus", "regions", "providers"):
                named[kind] |= set(getattr(preference, kind) or ())
        named["skus"] |= {quota.sku for queue in documents.queues for quota in queue.quotas}
        return cls(documents, *((*sorted(named[kind]), ANY_OTHER) for kind in ("skus", "regions", "providers", "tenants")))

    def cases(
        self,
        *,
        queues: tuple[str, ...] = (),
        tenants: Sequence[str] | None = None,
        skus: Sequence[str] | None = None,
        regions: Sequence[str] | None = None,
    ) -> Iterator[Case]:
        """The cases with one of these tenants, SKUs and regions (all where not given), for a queue with those above it."""
        tried = product(tenants or self.tenants, skus or self.skus, regions or self.regions, self.providers, CapacityType)
        return (Case(tenant, queues, sku, region, provider, kind) for tenant, sku, region, provider, kind in tried)

    def permitted(self, cases: Iterable[Case]) -> Case | None:
        """A case that breaks nothing, or none; the first one tried where there are too many to try."""
        return self._first(cases, lambda case: self.documents.law.breach(case) is None)

    def first_broken_by(self, article: Article, cases: Iterable[Case]) -> Case | None:
        """A case for which the article matters: it breaks this article and none of a wider scope."""
        return self._first(cases, lambda case: self.documents.law.breach(case) is article)

    def breaches(self, cases: Iterable[Case]) -> tuple[str, ...]:
        """Where the articles stand that the cases break first."""
        found = (self.documents.law.breach(case) for case in islice(cases, MOST_CASES))
        return tuple(sorted({article.where for article in found if article is not None}))

    def _first(self, cases: Iterable[Case], is_wanted: Callable[[Case], bool]) -> Case | None:
        for number, case in enumerate(cases):
            if number == MOST_CASES or is_wanted(case):
                return case
        return None
